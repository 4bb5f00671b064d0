"""Any causal language model as an implicit PRM: a step is as good as it is likely."""

from __future__ import annotations

from functools import lru_cache, partial

import torch

from tts.models import load_causal_lm, load_tokenizer
from tts.prompts import STEP_SEPARATOR, render_prompt
from tts.reward_models.base import Steps


class ImplicitPRM:
    """The geometric mean of a step's token probabilities under the model, its separator included."""

    def __init__(self, location: str, device: str = "cpu"):
        self.tokenizer = load_tokenizer(location)
        self.model = load_causal_lm(location, device)
        self.backbone = self.model.base_model
        self._prompt = lru_cache(1 << 12)(partial(render_prompt, self.tokenizer))
        self.head = self.model.get_output_embeddings()

    def render(self, problem: str, steps: Steps) -> list[int]:
        text = self._prompt(problem) + "".join(step + STEP_SEPARATOR for step in steps)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        previous = torch.cat([before[:, None], hidden[:, :-1]], dim=1)
        log_probabilities = self.head(previous).float().log_softmax(-1)
        scores = []
        for row, ids in enumerate(tokens):
            # The last token is the separator, which the final step of a solution does not have.
            counted = ids[:-1] or ids
            picked = log_probabilities[row, torch.arange(len(counted)), torch.tensor(counted, device=hidden.device)]
            scores.append(picked.mean().exp().item())
        return scores
