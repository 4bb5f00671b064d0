"""Math-Shepherd PRMs: a causal LM that writes "+" or "-" at a step tag (Wang et al. 2024)."""

from __future__ import annotations

import torch

from tts.models import ModelError, load_causal_lm, load_tokenizer
from tts.reward_models.base import Steps


class MathShepherd:
    """``"{problem} {step} ки\\n{step} ки"``; the score is P("+") against "-" at the tag itself."""

    def __init__(self, location: str, device: str = "cpu"):
        self.tokenizer = load_tokenizer(location)
        self.model = load_causal_lm(location, device)
        self.backbone = self.model.base_model
        self.tag, self.good, self.bad = (self._single(mark, location) for mark in ("ки", "+", "-"))
        self._head = self.model.get_output_embeddings().weight[[self.good, self.bad]]

    def _single(self, mark: str, location: str) -> int:
        ids = self.tokenizer(f"1 {mark}", add_special_tokens=False)["input_ids"]
        if self.tokenizer.decode(ids[-1:]).strip() != mark:
            raise ModelError(f"the tokenizer of {location!r} has no single token for {mark!r}: not a Math-Shepherd PRM")
        return ids[-1]

    def render(self, problem: str, steps: Steps) -> list[int]:
        text = f"{problem} " + "\n".join(f"{step} ки" for step in steps)
        return self.tokenizer(text)["input_ids"]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        ends = torch.tensor([len(t) - 1 for t in tokens], device=hidden.device)
        logits = hidden[torch.arange(len(tokens)), ends] @ self._head.T
        return logits.float().softmax(-1)[:, 0].tolist()
