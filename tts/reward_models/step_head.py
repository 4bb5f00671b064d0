"""A step head: what a policy's hidden states say at each step, through two small layers, as in Qwen2.5-Math-PRM, to one score.

A head reads one of two things. ``hidden``: the hidden state at the step's end, which takes labels of many problems; from eighty it
learnt which problems are hard, and nothing of which solutions are right. ``confidence``: five numbers that the policy's own output
layer makes of the hidden states within the step, how likely and how certain its tokens were.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import load_file
from torch import nn

from tts.models import ModelError, load_causal_lm, load_tokenizer
from tts.prompts import STEP_SEPARATOR, render_prompt
from tts.reward_models.base import Steps, last

DECLARATION = "step_head.json"
WEIGHTS = "step_head.safetensors"
Inputs = Literal["hidden", "confidence"]
ROWS = 8  # whose log-probabilities over the whole vocabulary are in memory at once


class Head(nn.Module):
    """``Linear, ReLU, Linear`` to one logit: whether the solution will come out right.

    Args:
        width: of its inputs.
        inner: of the layer between.
    """

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits ``(...)`` of inputs ``(..., width)``."""
        return self.layers(inputs).squeeze(-1)


class StepReader:
    """What a head is given: the policy's own prompt, then the steps, each followed by a blank line."""

    def __init__(self, location: str, inputs: Inputs, device: str | None = None):
        self.inputs = inputs
        self.tokenizer = load_tokenizer(location)
        model = load_causal_lm(location, device)
        self.backbone, self.output = model.base_model, model.get_output_embeddings()
        self.width = model.config.get_text_config().hidden_size if inputs == "hidden" else 5
        self._separator = len(self.tokenizer(STEP_SEPARATOR, add_special_tokens=False)["input_ids"])

    def render(self, problem: str, steps: Steps) -> list[int]:
        text = render_prompt(self.tokenizer, problem) + "".join(step + STEP_SEPARATOR for step in steps)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def inputs_of(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
        """The head's inputs, ``(rows, width)`` in float32; arguments as of :meth:`tts.reward_models.base.Family.read`."""
        if self.inputs == "hidden":
            return last(hidden, tokens).float()
        previous = torch.cat([before[:, None], hidden[:, :-1]], dim=1)
        parts = [self._confidence(previous[at : at + ROWS], tokens[at : at + ROWS]) for at in range(0, len(tokens), ROWS)]
        return torch.cat(parts)

    def _confidence(self, previous: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
        """Per row the mean, least and summed log-probability of its tokens, and the mean and largest entropy before them.

        The separator does not count: a solution's last step does not have it.
        """
        logs = self.output(previous).float().log_softmax(-1)
        found = []
        for row, ids in enumerate(tokens):
            counted = torch.tensor(ids[: -self._separator] or ids, device=logs.device)
            own = logs[row, : len(counted)]
            likely, entropy = own.gather(-1, counted[:, None])[:, 0], -(own.exp() * own).sum(-1)
            found.append(torch.stack([likely.mean(), likely.min(), likely.sum(), entropy.mean(), entropy.max()]))
        return torch.stack(found)


class StepHead(StepReader):
    """The PRM: a reader and its head; the score is the probability that the solution will come out right."""

    architectures = names = ()

    def __init__(self, location: str, device: str | None = None):
        declared = json.loads((Path(location) / DECLARATION).read_text())
        if declared.get("inputs") not in get_args(Inputs):
            raise ModelError(f"{location}/{DECLARATION}: unknown inputs {declared.get('inputs')!r}; known: {', '.join(get_args(Inputs))}")
        super().__init__(location, declared["inputs"], device)
        self.head = Head(self.width, declared["inner"]).to(self.backbone.device)
        try:
            self.head.load_state_dict(load_file(Path(location) / WEIGHTS, device=str(self.backbone.device)))
        except (RuntimeError, OSError, KeyError) as error:
            raise ModelError(f"the head in {location} does not fit: {str(error).splitlines()[0]}; train it again") from error

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self.head(self.inputs_of(before, hidden, tokens)).sigmoid().tolist()
