"""PRMs of a token-classification head, as TRL's ``PRMTrainer`` and PURE write them: two labels at the separator after each step."""

from collections.abc import Sequence
from itertools import chain

import torch
from transformers import AutoModelForTokenClassification

from tts.models.hub import ModelError
from tts.models.loading import load_model, load_tokenizer
from tts.reward_models.base import last
from tts.reward_models.prefix_plan import Steps
from tts.tasks.prompts import ids_by_text

SEPARATOR = "\n"  # the trainer's default
DECODERS = ("Qwen2", "Qwen3", "Llama", "Mistral", "Gemma", "Gemma2", "Phi3", "SmolLM3")  # whose tokens see only what is before them


class TokenClassification:
    """The bos token where there is one, the problem, then each step and a newline; P(label 1) at the last of that newline's tokens.

    Problem, steps and newlines are encoded one by one, with nothing between, as the trainer does. PURE's own score, P(1) - P(0), orders
    steps alike.
    """

    architectures = tuple(f"{name}ForTokenClassification" for name in DECODERS)
    names = ()

    def __init__(self, location: str):
        self.tokenizer = load_tokenizer(location)
        self._first = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        self._end = self.tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
        self.model = load_model(AutoModelForTokenClassification, location)
        self.backbone = self.model.base_model
        if (labels := self.model.config.num_labels) != 2:
            raise ModelError(f"{location} tells {labels} labels apart; a PRM of the family token-classification has two, wrong and right")
        self._head = self.model.score.float()

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        ids = ids_by_text(self.tokenizer, chain.from_iterable((problem, *map(str.strip, steps)) for problem, steps in solutions))
        return [
            [*self._first, *ids[problem], *chain.from_iterable((*ids[step.strip()], *self._end) for step in steps)]
            for problem, steps in solutions
        ]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self._head(last(hidden, tokens).float()).softmax(-1)[:, 1].tolist()
