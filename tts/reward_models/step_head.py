"""A step head: a policy's hidden state at the end of each step, through two small layers, as Qwen2.5-Math-PRM reads its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from tts.models import ModelError, load_causal_lm, load_tokenizer
from tts.prompts import STEP_SEPARATOR, render_prompt
from tts.reward_models.base import Steps, last

DECLARATION = "step_head.json"
WEIGHTS = "step_head.safetensors"


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


class StepHead:
    """The policy's own prompt, the steps each followed by a blank line; the score is read at the end of that."""

    architectures = names = ()

    def __init__(self, location: str, device: str | None = None):
        declared = json.loads((Path(location) / DECLARATION).read_text())
        self.tokenizer = load_tokenizer(location)
        self.backbone = bottom(load_causal_lm(location, device).base_model, declared["layers"])
        self.head = Head(self.backbone.config.get_text_config().hidden_size, declared["inner"]).to(self.backbone.device)
        try:
            self.head.load_state_dict(load_file(Path(location) / WEIGHTS, device=str(self.backbone.device)))
        except (RuntimeError, OSError, KeyError) as error:
            raise ModelError(f"the head in {location} does not fit: {str(error).splitlines()[0]}; train it again") from error

    def render(self, problem: str, steps: Steps) -> list[int]:
        return render(self.tokenizer, problem, steps)

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self.head(last(hidden, tokens).float()).sigmoid().tolist()


def render(tokenizer, problem: str, steps: Steps) -> list[int]:
    text = render_prompt(tokenizer, problem) + "".join(step + STEP_SEPARATOR for step in steps)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def bottom(backbone: nn.Module, layers: int) -> nn.Module:
    """The backbone's first layers, its last norm on top of them; 0 takes all."""
    if layers:
        backbone.layers = backbone.layers[:layers]
        backbone.config.get_text_config().num_hidden_layers = layers
    return backbone
