"""Tokens drawn by noise that is a function of the sample's key and the position (:func:`tts.search.sampling.noise_key`)."""

import math

import numpy as np
import torch


def uniforms(keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """One number in [0, 1) per key and position, both int64, by SplitMix64 (Steele et al. 2014); float64, same shape as ``keys``."""
    x: np.ndarray = keys.view(np.uint64) + (positions + 1).view(np.uint64) * 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    x = x ^ (x >> 31)
    return (x >> 11) * 2.0**-53


def choose(
    logits: torch.Tensor,  # (rows, vocabulary)
    rows: torch.Tensor,  # each sample's row of the logits, ascending, (samples,)
    uniform: torch.Tensor,  # each sample's number in [0, 1), (samples,); unused at temperature 0
    temperature: float,  # 0 takes the largest logit
    top_p: float,  # keeps the smallest set of likeliest tokens whose mass reaches this
) -> torch.Tensor:
    """The tokens ``(samples,)`` at ``uniform`` in rows' cumulative distributions; raises ``ValueError`` for NaN or infinite logits."""
    if temperature == 0:
        return logits.argmax(-1)[rows]
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p >= 1:
        return _at(probabilities, rows, uniform)
    ordered, tokens = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return tokens[rows, _at(ordered.masked_fill(outside, 0), rows, uniform)]


def confidence(logits: torch.Tensor, rows: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Of each drawn token its log-probability at temperature 1, and the self-certainty of the distribution, ``(samples, 2)``.

    Self-certainty is the divergence of the uniform distribution from the model's, KL(U || p) (Kang et al. 2025, equation 4); 0 where all
    tokens are as likely.
    """
    logs = logits.float().log_softmax(-1)
    certainty = -logs.mean(-1) - math.log(logits.shape[-1])
    return torch.stack([logs[rows, drawn], certainty[rows]], dim=1).double()


def _at(weights: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    if not cumulative[:, -1].isfinite().all():
        raise ValueError("the model's logits are NaN or infinite; its weights are damaged, or do not fit the number format")
    # Below 1, even the largest double times the sum rounds to less than the sum, so the place found has weight.
    wanted = uniform * cumulative[rows, -1]
    # A row's samples side by side: the distributions, large ones, are not repeated for each.
    column = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
    table = wanted.new_zeros(len(weights), int(column.max()) + 1)
    table[rows, column] = wanted
    return torch.searchsorted(cumulative, table, right=True)[rows, column]
