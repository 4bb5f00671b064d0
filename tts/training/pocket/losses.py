"""Losses that policies and PRMs share."""

import torch
import torch.nn.functional as F


def next_token_loss(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of the next token, ``(rows, tokens, vocabulary)`` logits, over the positions marked ``learn``."""
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["ids"][:, 1:].flatten(), reduction="none")
    learn = batch["learn"][:, :-1].flatten()
    return (losses * learn).sum() / learn.sum()
