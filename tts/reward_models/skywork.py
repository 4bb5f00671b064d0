"""Skywork-o1-Open-PRM: a value head at the newline after each step (Skywork o1 team 2024)."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import nn
from transformers import Qwen2Config, Qwen2Model, Qwen2PreTrainedModel

from tts.models.hub import ModelError
from tts.models.loading import load_model, load_tokenizer, token_id
from tts.reward_models.base import last
from tts.reward_models.prefix_plan import Steps
from tts.tasks.prompts import ids_by_text


class Qwen2ForPrmModel(Qwen2PreTrainedModel):
    """The published architecture, natively; its language model head is left out, for no score needs it."""

    _keys_to_ignore_on_load_unexpected = ["lm_head"]

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.v_head = nn.ModuleDict({"summary": nn.Linear(config.hidden_size, 1)})
        self.post_init()


class Skywork:
    """The bos token, the problem and a newline; then each step in one line, and a newline, at which the score is read."""

    architectures = ("Qwen2ForPrmModel",)
    names = ("skywork-o1-open-prm", "skywork-prm")

    def __init__(self, location: str):
        self.tokenizer = load_tokenizer(location)
        if not self.tokenizer.bos_token:
            raise ModelError(f"the tokenizer of {location!r} has no bos token: not a PRM of the family skywork")
        self.newline = token_id(self.tokenizer, "\n", location, "skywork")
        self.model = load_model(Qwen2ForPrmModel, location)
        self.backbone = self.model.model
        self._head = self.model.v_head["summary"].float()

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        openings = [f"{self.tokenizer.bos_token}{problem}\n" for problem, _ in solutions]
        lines = [[step.replace("\n", " ").strip() for step in steps] for _, steps in solutions]
        # One by one: whatever a step ends with, its newline is a token of its own.
        ids = ids_by_text(self.tokenizer, chain(openings, *lines))
        return [
            [*ids[opening], *(token for line in steps for token in (*ids[line], self.newline))] for opening, steps in zip(openings, lines)
        ]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self._head(last(hidden, tokens).float()).sigmoid()[:, 0].tolist()
