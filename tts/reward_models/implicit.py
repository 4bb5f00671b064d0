"""Any causal language model as an implicit PRM: a step is as good as it is likely."""

from __future__ import annotations

import torch

from tts.models import load_causal_lm, load_tokenizer
from tts.prompts import STEP_SEPARATOR, render_prompt
from tts.reward_models.base import Steps

_LOGITS = 1 << 27  # at once; a large vocabulary's for a whole batch do not fit into memory


class ImplicitPRM:
    """The geometric mean of a step's token probabilities under the model, without the token that ends with its separator."""

    architectures = names = ()

    def __init__(self, location: str, device: str | None = None):
        self.tokenizer = load_tokenizer(location)
        self.model = load_causal_lm(location, device)
        self.backbone = self.model.base_model
        self.head = self.model.get_output_embeddings()

    def render(self, problem: str, steps: Steps) -> list[int]:
        text = render_prompt(self.tokenizer, problem) + "".join(step + STEP_SEPARATOR for step in steps)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        previous = torch.cat([before[:, None], hidden[:, :-1]], dim=1)
        scores = []
        rows = max(1, _LOGITS // (previous.shape[1] * self.head.weight.shape[0]))
        for first in range(0, len(tokens), rows):
            log_probabilities = self.head(previous[first : first + rows]).float().log_softmax(-1)
            for own, ids in zip(log_probabilities, tokens[first : first + rows]):
                # The last token is the separator, which the final step of a solution does not have.
                counted = torch.tensor(ids[:-1] or ids, device=own.device)
                scores.append(own[: len(counted)].gather(-1, counted[:, None]).mean().exp().item())
        return scores
