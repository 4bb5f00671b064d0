"""Outcome reward models: a sequence-classification head, read once, at a conversation's last token."""

import torch
from transformers import AutoModelForSequenceClassification

from tts.models.hub import ModelError
from tts.models.loading import load_model, load_tokenizer
from tts.reward_models.base import last
from tts.reward_models.token_classification import DECODERS
from tts.reward_models.whole import Conversation


class OutcomeReward:
    """The problem is the user's turn, the solution the assistant's (Cobbe et al. 2021; in chat form as TRL's ``RewardTrainer`` writes it).

    A head of one label gives a reward, whose sigmoid is the score: it orders solutions alike, and of rewards learnt from pairs (Bradley and
    Terry 1952) it is the probability to be better than a solution of reward 0. Of two labels the score is P(label 1).
    """

    architectures = tuple(f"{name}ForSequenceClassification" for name in DECODERS)
    names = ()

    def __init__(self, location: str):
        self.tokenizer = load_tokenizer(location)
        self.model = load_model(AutoModelForSequenceClassification, location)
        self.backbone = self.model.base_model
        self.labels = self.model.config.num_labels
        if self.labels > 2:
            raise ModelError(f"{location} tells {self.labels} labels apart; an outcome reward model has one, or two: wrong and right")
        self._head = self.model.score.float()
        self.render = Conversation(self.tokenizer, _turns)

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        logits = self._head(last(hidden, tokens).float())
        return (logits.sigmoid() if self.labels == 1 else logits.softmax(-1))[:, -1].tolist()


def _turns(problem: str, solution: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": problem}, {"role": "assistant", "content": solution}]
