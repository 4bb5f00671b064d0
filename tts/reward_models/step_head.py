"""A step head: a policy's hidden state at each step's end, through two small layers, as in Qwen2.5-Math-PRM, to one score.

The policy below it is adapted together with the head; what lies in the folder is the adapter, merged into its base, and the head.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from tts.derived import STEP_HEAD
from tts.models import ModelError, load_causal_lm, load_tokenizer
from tts.prompts import STEP_SEPARATOR, render_prompt
from tts.reward_models.base import Steps, last


class Head(nn.Module):
    """``Linear, ReLU, Linear`` to one logit: whether the solution will come out right.

    Args:
        width: of the hidden states.
        inner: of the layer between.
    """

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, 1))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits ``(...)`` of hidden states ``(..., width)``."""
        return self.layers(hidden).squeeze(-1)


def render(tokenizer: PreTrainedTokenizerBase, problem: str, steps: Steps) -> list[int]:
    """The policy's own prompt, then the steps, each followed by a blank line."""
    text = render_prompt(tokenizer, problem) + "".join(step + STEP_SEPARATOR for step in steps)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


class StepHead:
    """The PRM; the score is the probability that the solution will come out right."""

    architectures = names = ()

    def __init__(self, location: str, device: str | None = None):
        self.tokenizer = load_tokenizer(location)
        self.backbone = load_causal_lm(location, device).base_model
        self.head = _head(Path(location) / STEP_HEAD, self.backbone.config.get_text_config().hidden_size).to(self.backbone.device)

    def render(self, problem: str, steps: Steps) -> list[int]:
        return render(self.tokenizer, problem, steps)

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self.head(last(hidden, tokens).float()).sigmoid().tolist()


def _head(path: Path, width: int) -> Head:
    try:
        tensors = load_file(path)
        head = Head(width, len(tensors["layers.0.bias"]))
        head.load_state_dict(tensors)
    except (RuntimeError, OSError, KeyError, SafetensorError) as error:
        raise ModelError(f"the head in {path} does not fit: {str(error).splitlines()[0]}; train it again") from error
    return head
