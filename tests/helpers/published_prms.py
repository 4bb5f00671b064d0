"""Tiny PRMs in the published families' own formats: their architectures, tokenizers of their kind, their chat templates' text.

The weights are random but known; the tokenizers are trained on a few lines, so that tokens merge as in the large ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import shapes
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForTokenClassification,
)

SHAPE = shapes.SHAPE | {"max_position_embeddings": 512, "initializer_range": 0.3, "tie_word_embeddings": False}
CORPUS = [
    "What is forty-seven plus thirty-eight, times three?\nFirst, 47 + 38 = 85. ки\nThen, 85 * 3 = 255. ки\nSo: \\boxed{255}. ки\n",
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nsystem user assistant + - + - a + b - c\n\n",
] * 4

# What Llama 3.1's template renders of plain turns (tools left out), in the template's own words.
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% set date = date_string if date_string is defined else strftime_now('%d %b %Y') %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' + date + '\n\n<|eot_id|>' }}"
    "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# What the templates of Qwen3 and of DeepSeek-R1's distilled models render of one turn.
QWEN3_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
R1_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
# How Llama 3 and Qwen2 cut text before merging; they differ in how many digits stay together.
PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA_MARKS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def build_rlhflow(folder: Path) -> Path:
    """A Llama with Llama 3.1's kind of tokenizer and template, its weights in several files."""
    torch.manual_seed(2)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(LLAMA_MARKS, "{1,3}"),
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=LLAMA_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    # Published tokenizers add the bos token to any text, beside the one that the template writes.
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tokenizer.bos_token_id)]
    )
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id))
    model.save_pretrained(folder, max_shard_size="40KB")
    tokenizer.save_pretrained(folder)
    return folder


def build_skywork(folder: Path) -> Path:
    """A Qwen2 with language model head and value head, as trl saves it."""
    torch.manual_seed(3)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(QWEN_MARKS, ""), bos_token=QWEN_MARKS[0], eos_token=QWEN_MARKS[2], pad_token=QWEN_MARKS[0]
    )
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, vocab_size=len(tokenizer)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    change(folder, **{"v_head.summary.weight": torch.randn(1, 32), "v_head.summary.bias": torch.tensor([-0.5])})
    declare(folder / "config.json", architectures=["Qwen2ForPrmModel"])
    declare(folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")
    return folder


def build_token_classification(folder: Path) -> Path:
    """A Qwen3 with two labels a token, as TRL's trainer saves it."""
    torch.manual_seed(5)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level(QWEN_MARKS, ""), bos_token=QWEN_MARKS[0], eos_token=QWEN_MARKS[2])
    Qwen3ForTokenClassification(Qwen3Config(**SHAPE, vocab_size=len(tokenizer), num_labels=2)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_outcome(folder: Path, labels: int = 1) -> Path:
    """A Llama with a sequence-classification head and Llama 3.1's kind of tokenizer and template."""
    torch.manual_seed(6)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(LLAMA_MARKS, "{1,3}"), bos_token=LLAMA_MARKS[0], eos_token=LLAMA_MARKS[4], chat_template=LLAMA_TEMPLATE
    )
    LlamaForSequenceClassification(LlamaConfig(**SHAPE, vocab_size=len(tokenizer), num_labels=labels)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_judge(folder: Path) -> Path:
    """A Llama that can say Yes and No."""
    torch.manual_seed(7)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(LLAMA_MARKS, "{1,3}"), bos_token=LLAMA_MARKS[0], eos_token=LLAMA_MARKS[4], chat_template=LLAMA_TEMPLATE
    )
    tokenizer.add_tokens(["Yes", "No"])
    LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_shepherd(folder: Path) -> Path:
    """A Mistral with a sliding window and a tokenizer of sentencepiece's kind."""
    torch.manual_seed(4)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_metaspace(), bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    model = MistralForCausalLM(MistralConfig(**SHAPE, vocab_size=len(tokenizer), sliding_window=12))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    declare(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    return folder


def change(folder: Path, **tensors: torch.Tensor) -> None:
    """Adds tensors to a folder's weights, or replaces them."""
    weights = load_file(folder / "model.safetensors")
    save_file(weights | tensors, folder / "model.safetensors", metadata={"format": "pt"})


def declare(path: Path, **fields: object) -> None:
    """Sets fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def byte_level(special: list[str], digits: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(PIECES.replace("DIGITS", digits)), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = [text.replace(" ки", "") for text in CORPUS]
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in special])
    return tokenizer


def _metaspace() -> Tokenizer:
    """BPE over text whose spaces are ▁, with bytes for what it does not know; ids 0 to 2 as in sentencepiece."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", behavior="removed"), pre_tokenizers.Split("▁", behavior="merged_with_next")]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False))
    # In training words end at spaces and lines; in use there is one word, as in sentencepiece.
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = state["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer
