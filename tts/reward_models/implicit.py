"""Any causal language model as an implicit PRM: a step is as good as it is likely."""

from __future__ import annotations

import torch

from tts.models.loading import load_causal_lm, load_tokenizer
from tts.reward_models.base import padded
from tts.tasks.prompts import SolutionRenderer

_LOGITS = 1 << 27  # at once; a large vocabulary's for a whole batch do not fit into memory


class ImplicitPRM:
    """The geometric mean of a step's token probabilities under the model, without the token that ends with its separator."""

    architectures = names = ()

    def __init__(self, location: str, device: str | None = None):
        self.tokenizer = load_tokenizer(location)
        self.model = load_causal_lm(location, device)
        self.backbone = self.model.base_model
        self.render = SolutionRenderer(self.tokenizer)
        self.output = self.model.get_output_embeddings()

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        # The last token is the separator, which the final step of a solution does not have.
        counted = [ids[:-1] or ids for ids in tokens]
        ids, own = padded(counted, hidden.device)
        width = ids.shape[1]
        previous = torch.cat([before[:, None], hidden[:, : width - 1]], dim=1)
        scores: list[float] = []
        rows = max(1, _LOGITS // (width * self.output.weight.shape[0]))
        for at in range(0, len(tokens), rows):
            part = slice(at, at + rows)
            logits = self.output(previous[part]).float()
            likely = logits.gather(-1, ids[part, :, None])[..., 0] - logits.logsumexp(-1)
            scores += (likely.masked_fill(~own[part], 0).sum(1) / own[part].sum(1)).exp().tolist()
        return scores
