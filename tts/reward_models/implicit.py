"""Any causal language model as an implicit PRM: a step is as good as it is likely."""

from collections.abc import Iterator

import torch

from tts.models.loading import load_causal_lm, load_tokenizer
from tts.reward_models.base import padded
from tts.tasks.prompts import SolutionRenderer

_LOGITS = 1 << 25  # at once; a large vocabulary's for a whole batch do not fit into memory


class ImplicitPRM:
    """The geometric mean of a step's token probabilities under the model, without the token that ends with its separator."""

    architectures = names = ()

    def __init__(self, location: str):
        self.tokenizer = load_tokenizer(location)
        self.model = load_causal_lm(location)
        self.backbone = self.model.base_model
        self.render = SolutionRenderer(self.tokenizer)
        self.output = self.model.get_output_embeddings()

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        scores: list[float] = []
        for logits, ids, own in self.logits(before, hidden, tokens, 1):
            likely = logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(-1)
            scores += (likely.masked_fill(~own, 0).sum(1) / own.sum(1)).exp().tolist()
        return scores

    def logits(
        self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]], separator: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Some rows at a time, what stands before each token of a step ``(rows, tokens, vocabulary)``, and these, as :func:`padded`."""
        counted = [ids[:-separator] or ids for ids in tokens]  # without the separator, which a solution's final step does not have
        previous = torch.cat([before[:, None], hidden[:, :-1]], dim=1)
        rows = max(1, _LOGITS // (previous.shape[1] * self.output.weight.shape[0]))
        for at in range(0, len(counted), rows):
            ids, own = padded(counted[at : at + rows], hidden.device)
            yield self.output(previous[at : at + rows, : ids.shape[1]]).float(), ids, own
