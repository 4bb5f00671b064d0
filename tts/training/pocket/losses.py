"""Losses of policies and PRMs; a batch is one of :func:`tts.training.pocket.build.corpus_batches`."""

import torch
import torch.nn.functional as F
from torch import nn

from tts.reward_models.qwen_prm import Qwen2ForProcessRewardModel
from tts.training.pocket.corpora import UNLABELLED, VOCABULARY

LABELS = [VOCABULARY[" -"], VOCABULARY[" +"]]  # wrong and right, as PRMs of Math-Shepherd's family say it


def hidden_states(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last layer's, ``(rows, tokens, width)``."""
    inputs = {"input_ids": batch["ids"], "position_ids": batch["position"], "attention_mask": batch["mask"]}
    return model.model(**inputs, use_cache=False).last_hidden_state


def verdicts(model: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """A PRM's logits of wrong and right at each token, ``(rows, tokens, 2)``."""
    return model.score(hidden) if isinstance(model, Qwen2ForProcessRewardModel) else hidden @ model.model.embed_tokens.weight[LABELS].T


def next_token_loss(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of the next token, ``(rows, tokens, vocabulary)`` logits, over the positions marked ``learn``."""
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["ids"][:, 1:].flatten(), reduction="none")
    learn = batch["learn"][:, :-1].flatten()
    return (losses * learn).sum() / learn.sum()


def language_model_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return next_token_loss(model.lm_head(hidden_states(model, batch)), batch)


def prm_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of "right up to here" at every token, wrong ones counted twice, plus 0.3 times the LM loss."""
    hidden, weights = hidden_states(model, batch), torch.tensor([2.0, 1.0])
    logits = verdicts(model, hidden).flatten(0, 1).float()
    judged = F.cross_entropy(logits, batch["label"].flatten(), weights, ignore_index=UNLABELLED)
    return judged + 0.3 * next_token_loss(hidden @ model.model.embed_tokens.weight.T, batch)
