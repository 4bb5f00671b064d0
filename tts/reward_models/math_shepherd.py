"""Math-Shepherd PRMs: a causal LM that writes "+" or "-" at a step tag (Wang et al. 2024)."""

from __future__ import annotations

import torch

from tts.models import load_causal_lm, load_tokenizer, token_id
from tts.reward_models.base import Steps, last


class MathShepherd:
    """``"{problem} {step} ки\\n{step} ки"``; the score is P("+") against "-" at the tag itself."""

    architectures = ()
    names = ("shepherd",)

    def __init__(self, location: str, device: str | None = None, weights: bool = True):
        self.tokenizer = load_tokenizer(location)
        self.tag, *self.labels = (token_id(self.tokenizer, text, location, "math-shepherd") for text in (" ки", " +", " -"))
        if not weights:
            return
        self.model = load_causal_lm(location, device)
        self.backbone = self.model.base_model
        self._head = self.model.get_output_embeddings().weight[self.labels].float()

    def render(self, problem: str, steps: Steps) -> list[int]:
        tagged = "\n".join(f"{step.strip()} ки" for step in steps)
        return self.tokenizer(f"{problem} {tagged}" if steps else problem)["input_ids"]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return (last(hidden, tokens).float() @ self._head.T).softmax(-1)[:, 0].tolist()
