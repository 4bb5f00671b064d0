"""A step head: how sure an adapted policy is of each step, five numbers, through two small layers to one score.

The policy is adapted together with the head (:mod:`tts.training.prm`); what lies in the folder is the adapter, merged into its base, and
the head. A head on the hidden state at the step's end learnt, from labels of two hundred problems, which problems are hard, and not
which of one problem's solutions are right.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from tts.models.files import STEP_HEAD
from tts.models.hub import ModelError
from tts.reward_models.implicit import ImplicitPRM
from tts.tasks.base import Task


class Head(nn.Module):
    """``Linear, ReLU, Linear`` from what :func:`confidence` gives to one logit: whether the solution will come out right."""

    def __init__(self, inner: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, inner), nn.ReLU(), nn.Linear(inner, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits ``(...)`` of inputs ``(..., 5)``."""
        return self.layers(inputs).squeeze(-1)


def separator_length(tokenizer: PreTrainedTokenizerBase, task: Task) -> int:
    """Tokens of the text that ends a step; they say nothing of it."""
    return len(tokenizer(task.separator, add_special_tokens=False)["input_ids"])


def likelihoods(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of each token ``(...)`` and the entropy before it, from the logits before it ``(..., vocabulary)``."""
    logs = logits.float().log_softmax(-1)
    return logs.gather(-1, tokens[..., None])[..., 0], -(logs.exp() * logs).sum(-1)


def confidence(likely: torch.Tensor, entropy: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Per step the mean, least and summed log-probability of its tokens, and the mean and largest entropy before them, ``(steps, 5)``.

    All three are ``(steps, tokens)``: results of :func:`likelihoods`, and whether a token is the step's own.
    """
    count = own.sum(1)
    likely, entropy = likely.masked_fill(~own, 0.0), entropy.masked_fill(~own, 0.0)  # log-probabilities are never above 0
    summed = likely.sum(1)
    return torch.stack([summed / count, likely.amin(1), summed, entropy.sum(1) / count, entropy.amax(1)], dim=1)


class StepHead(ImplicitPRM):
    """The PRM, loaded and rendered for as an implicit one; the score is the probability that the solution will come out right."""

    def __init__(self, location: str):
        super().__init__(location)
        path = Path(location) / STEP_HEAD
        try:
            tensors = load_file(path)
            self.head = Head(len(tensors["layers.0.bias"]))
            self.head.load_state_dict(tensors)
        except (RuntimeError, OSError, KeyError, SafetensorError) as error:
            raise ModelError(f"the head in {path} does not fit: {str(error).splitlines()[0]}; train it again") from error
        self.head.to(self.backbone.device)

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        parts = self.logits(before, hidden, tokens, separator_length(self.tokenizer, self.render.task))
        inputs = [confidence(*likelihoods(logits, ids), own) for logits, ids, own in parts]
        return self.head(torch.cat(inputs)).sigmoid().tolist()
