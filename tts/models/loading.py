"""Loading of models from their locations (:mod:`tts.models.locate`): safetensors only, never remote code."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tts.models.files import check_writes, folder_of, guarded, load_config, parameters, read_card, read_json, weights_hash
from tts.models.hub import ModelError

# torch and transformers take seconds to import, and most of what is done with names, cards and hashes needs neither.
if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GIB = 1 << 30


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer; raises ModelError where it cannot be read."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = folder_of(location)
    # ``AutoTokenizer`` goes by the model's type, and would read the plain tokenizers file of a Qwen2 folder by Qwen's own rules, and
    # a Mistral folder's sentencepiece file without the space before the first word. Both are read as what they are.
    declared = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    if declared in {"LlamaTokenizer", "LlamaTokenizerFast"} and not (folder / "tokenizer.json").exists():
        return guarded(location, lambda: _sentencepiece_tokenizer(folder))
    cls = PreTrainedTokenizerFast if declared == "TokenizersBackend" else AutoTokenizer
    tokenizer = guarded(location, lambda: cls.from_pretrained(folder, trust_remote_code=False))
    guarded(location, lambda: tokenizer("0"))  # a damaged vocabulary shows at the first use only
    return tokenizer


def _sentencepiece_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder's ``tokenizer.model``, which must be byte-pair encoding, as of older Llama and Mistral models."""
    if not (find_spec("sentencepiece") and find_spec("google")):
        raise ModelError(f"the tokenizer of {str(folder)!r} is a sentencepiece file: pip install sentencepiece protobuf")
    from sentencepiece import SentencePieceProcessor  # an extra
    from tokenizers.models import BPE
    from transformers import LlamaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    # transformers orders the merges by the pieces' numbers. Sentencepiece goes by their scores, which differ from that for runs of
    # spaces: these merge last, whatever their number, so that a word after two spaces keeps its own space.
    pieces = SentencePieceProcessor(str(folder / "tokenizer.model"))
    vocabulary = {pieces.id_to_piece(number): number for number in range(pieces.vocab_size())}
    merges = generate_merges(vocabulary, {piece: pieces.get_score(number) for piece, number in vocabulary.items()})
    tokenizer = LlamaTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.backend_tokenizer.model = BPE(vocabulary, merges, fuse_unk=True, byte_fallback=True)
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerBase, text: str, location: str, family: str) -> int:
    """The token of a text, which has a leading space where it begins a word; raises ModelError where there is none."""
    ids = tokenizer(f"1{text}" if text.startswith(" ") else text, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids[-1:]).strip(" ") != text.strip(" "):
        raise ModelError(f"the tokenizer of {location!r} has no token {text!r}: not a PRM of the family {family}")
    return ids[-1]


def placement(location: str) -> tuple[str, torch.dtype]:
    """Device and precision of a model: a GPU where there is one, else the CPU; not Apple's MPS, which has no float64 for noise."""
    import torch

    stored = getattr(load_config(location), "dtype", None)
    if torch.cuda.is_available():
        # A model that was stored in float32 and is small stays as it is: the pocket models were measured so.
        if stored == torch.float32 and parameters(location) < 1e9:
            return "cuda", torch.float32
        # GPUs before Ampere have no bfloat16, only torch's emulation, and models that were trained in it overflow in float16.
        return "cuda", torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # bfloat16 where the processor multiplies it four times as fast.
    return "cpu", torch.bfloat16 if stored == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported() else torch.float32


def memory_of(device: torch.device | None = None) -> int:
    """Bytes of a device's memory, in use or not; without one, of the machine's."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: torch.device) -> int:
    """Bytes of a device's memory for what is to come: on a GPU those that nothing holds yet, this process's or another's."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return memory_of(device)


def load_causal_lm(location: str, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A causal language model, ready for inference, placed as :func:`placement` says but for a given ``dtype``."""
    from transformers import AutoModelForCausalLM

    check_writes(str(folder_of(location)))
    model = load_model(AutoModelForCausalLM, location, dtype)
    _check_head(model, location)
    return model


def _check_head(model: PreTrainedModel, location: str) -> None:
    """Raises ModelError for a model whose logits are not what its output layer alone gives, which is all that the engine computes."""
    import torch

    with torch.inference_mode():
        tokens = torch.arange(4, device=model.device)[None]
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        alone, logits = model.get_output_embeddings()(hidden).float(), model(input_ids=tokens, use_cache=False).logits.float()
        if float((alone - logits).abs().max()) > 0.01 * float(logits.abs().max()):  # not where they are no numbers, which sampling says
            raise ModelError(
                f"{location} scales or caps its logits, as Gemma 2, Granite and Cohere do, which this engine does not; say vllm:{location}"
            )


def load_model(cls, location: str, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Any transformers class from safetensors, placed as :func:`placement` says but for a given ``dtype``.

    Raises ModelError where the folder, its weights or its config cannot be read, weights are missing, or the device is too small.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # transformers' own bar flickers for every small model
    folder = folder_of(location, weights=True)
    recorded = read_card(folder).get("weights_sha256")
    if recorded and recorded != weights_hash(folder):
        raise ModelError(
            f"the weights in {folder} are not those that its card.json records: they were damaged or exchanged; "
            "restore them, say with git checkout, or delete the card's weights_sha256 if they are meant to differ"
        )
    device, chosen = placement(location)
    options = {"dtype": dtype or chosen, "output_loading_info": True}
    model, report = guarded(location, lambda: cls.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, **options))
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"the weights of {location!r} lack {len(missing)} tensors ({', '.join(missing[:3])}, ...); "
            "they would be random: fetch or train the model again"
        )
    try:
        return model.to(device).eval()
    except torch.OutOfMemoryError:
        raise ModelError(_too_large(location, model)) from None


def _too_large(location: str, model: PreTrainedModel) -> str:
    """Why a model does not fit on the GPU, part of which it may hold already, and what would."""
    import torch

    size = sum(p.nbytes for p in model.parameters())
    total = torch.cuda.mem_get_info()[1]
    free = free_memory(torch.device("cuda")) + sum(p.nbytes for p in model.parameters() if p.is_cuda)
    largest, dtype = free / model.dtype.itemsize / 1e9, str(model.dtype).removeprefix("torch.")
    return (
        f"{location} does not fit on {torch.cuda.get_device_name()}: its weights alone take {size / GIB:.1f} GiB in {dtype}, and "
        f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free; choose a model of at most {largest:.1f} billion parameters, end what else is "
        "on the GPU, or serve the model from several (docs/running_at_scale.md)"
    )
