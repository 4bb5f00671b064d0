"""Math-Shepherd PRMs: a causal LM that writes "+" or "-" at a step tag (Wang et al. 2024)."""

from collections.abc import Sequence

import torch

from tts.models.loading import load_causal_lm, load_tokenizer, token_id
from tts.reward_models.base import label_logits, last
from tts.reward_models.prefix_plan import Steps


class MathShepherd:
    """``"{problem} {step} ки\\n{step} ки"``; the score is P("+") against "-" at the tag itself."""

    architectures = ()
    names: tuple[str, ...] = ("shepherd",)

    def __init__(self, location: str, weights: bool = True):
        self.tokenizer = load_tokenizer(location)
        self.tag, *self.labels = (token_id(self.tokenizer, text, location, "math-shepherd") for text in (" ки", " +", " -"))
        if weights:
            self._load(location)

    def _load(self, location: str) -> None:
        self.model = load_causal_lm(location)
        self.backbone = self.model.base_model
        self._logits = label_logits(self.model, self.labels)

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        tagged = ["\n".join(f"{step.strip()} ки" for step in steps) for _, steps in solutions]
        texts = [f"{problem} {text}" if text else problem for (problem, _), text in zip(solutions, tagged)]
        return self.tokenizer(texts)["input_ids"]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self._logits(last(hidden, tokens).float()).softmax(-1)[:, 0].tolist()
