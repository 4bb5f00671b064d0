"""Models of the sizes that users have, for ``make bench-real``: one that is trained, and two of 0.5B with random weights.

The random ones have the shape and the vocabulary of Qwen2.5-0.5B, and the trained one's tokenizer. How long they write is fixed by hand:
their first residual is the same at every position, and what the head takes from it gives blank line and end of sequence the probability
that a sentence of so many tokens would give them.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from tts.models.locate import locate
from tts.reward_models.qwen_prm import Qwen2ForProcessRewardModel

QWEN = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 4096,
}
STEP, SOLUTION = 24, 96  # tokens that are aimed at; at temperature 0.7, 32 samples had a step each 28 and an end each 220
CONSTANT = 50.0  # the first residual; the others are of the order of 1


def build(folder: Path, shape: dict = QWEN) -> None:
    """Writes ``policy-135m``, ``policy-500m`` and ``qwen-prm-500m``, where they are not there already; the latter two of a given shape."""
    if (folder / "qwen-prm-500m").exists():  # the last
        return
    trained = Path(locate("laptop-policy"))
    shutil.copytree(trained, folder / "policy-135m", dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    _policy(folder / "policy-500m", tokenizer, shape)
    _prm(folder / "qwen-prm-500m", tokenizer, shape)


def _policy(folder: Path, tokenizer, shape: dict) -> None:
    torch.manual_seed(0)
    config = Qwen2Config(**shape, tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id)
    model = Qwen2ForCausalLM(config)
    words = len(tokenizer)
    blank = [number for text, number in tokenizer.get_vocab().items() if text == "ĊĊ"]
    with torch.no_grad():
        for layer in model.model.layers:  # which leave the first residual alone
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0
        model.model.embed_tokens.weight[:, 0] = CONSTANT
        # After the last norm the first is at most the root of the width; the others are small beside it.
        unit = math.sqrt(config.hidden_size)
        model.lm_head.weight[:, 0] = 0
        model.lm_head.weight[words:, 0] = -30 / unit
        for tokens, length in ((blank, STEP), ([tokenizer.eos_token_id], SOLUTION)):
            model.lm_head.weight[tokens, 0] = math.log(words / length) / unit
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _prm(folder: Path, tokenizer, shape: dict) -> None:
    torch.manual_seed(1)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    Qwen2ForProcessRewardModel(Qwen2Config(**shape)).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
