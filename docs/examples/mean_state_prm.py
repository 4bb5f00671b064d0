"""Template of a PRM family: copy it to ``tts/reward_models/``, and add a line to ``FAMILIES`` in its ``__init__.py``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tts.models.loading import load_causal_lm, load_tokenizer
from tts.reward_models.base import last
from tts.reward_models.prefix_plan import Steps


class MeanStatePRM:
    """The score of a step is the logistic function of the mean hidden state at its end: no PRM anybody trained, but a whole family.

    Args:
        location: folder of the model, or its Hub name with a commit.
        weights: whether to load them; without, the family renders only.
    """

    architectures = ()  # names of config.json's `architectures` by which a model is known to be of this family
    names = ("mean-state",)  # what the names of its models hold, in lower case

    def __init__(self, location: str, weights: bool = True):
        self.tokenizer = load_tokenizer(location)
        if weights:
            self.backbone = load_causal_lm(location).base_model

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        """Token ids of each (problem, steps), up to where the last step's score is read."""
        texts = [problem + "\n\n" + "".join(step.strip() + "\n\n" for step in steps) for problem, steps in solutions]
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        """One score per row, from the hidden states ``(rows, new, width)`` of one step's new tokens each."""
        return last(hidden, tokens).float().mean(-1).sigmoid().tolist()
