"""Qwen2.5-Math-PRM: a two-label head at a separator token after each step (Zhang et al. 2025)."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

import torch
from torch import nn
from transformers import Qwen2Config, Qwen2Model, Qwen2PreTrainedModel

from tts.models.loading import load_model, load_tokenizer, token_id
from tts.reward_models.base import last
from tts.reward_models.prefix_plan import Steps
from tts.tasks.maths import SYSTEM_PROMPT
from tts.tasks.prompts import ids_by_text

SEPARATOR = "<extra_0>"


class Qwen2ForProcessRewardModel(Qwen2PreTrainedModel):
    """The published architecture, natively: its remote code breaks on transformers from 4.54 on."""

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        # From a token's hidden state to two logits, wrong and right.
        self.score = nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), nn.ReLU(), nn.Linear(config.hidden_size, 2))
        self.post_init()


class QwenPRM:
    """ChatML, the steps in the assistant's turn, each followed by ``<extra_0>``; the score is P(label 1) there."""

    architectures = ("Qwen2ForProcessRewardModel",)
    names = ()

    def __init__(self, location: str, weights: bool = True):
        self.tokenizer = load_tokenizer(location)
        self.tag = token_id(self.tokenizer, SEPARATOR, location, "qwen-prm")
        self._opening = lru_cache(1 << 12)(self._open)
        if weights:
            self.model = load_model(Qwen2ForProcessRewardModel, location)
            self.backbone = self.model.model
            self._head = self.model.score.float()

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        # A tokenizer cuts a text at its special tokens first, so that steps can be encoded one by one.
        texts = [[self._opening(problem), *(step.strip() + SEPARATOR for step in steps)] for problem, steps in solutions]
        ids = ids_by_text(self.tokenizer, chain.from_iterable(texts))
        return [[token for piece in pieces for token in ids[piece]] for pieces in texts]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self._head(last(hidden, tokens).float()).softmax(-1)[:, 1].tolist()

    def _open(self, problem: str) -> str:
        """The conversation up to the assistant's first character; what the template puts after the steps cannot change their scores."""
        turns = {"system": SYSTEM_PROMPT, "user": problem, "assistant": SEPARATOR}
        messages = [{"role": role, "content": content} for role, content in turns.items()]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        return text[: text.rindex(SEPARATOR)]
