"""Tokens drawn by noise that is a function of the sample's key and the position (:func:`tts.search.sampling.noise_key`)."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from tts.engine import cpu_kernels

BLOCK = 256  # neighbouring tokens whose probabilities are summed as one, in a larger vocabulary


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
    uniform: torch.Tensor,  # each sample's number in [0, 1), (samples,), float64; unused at temperature 0
    temperature: float,  # 0 takes the largest logit
    top_p: float,  # keeps the smallest set of likeliest tokens whose mass reaches this
) -> torch.Tensor:
    """The tokens ``(samples,)`` at ``uniform`` in rows' cumulative distributions; -1 where logits are NaN or infinite.

    On a GPU nothing of it is looked at by the host, which would have to wait.
    """
    if temperature == 0:
        largest, tokens = logits.max(-1)
        return torch.where(largest.isfinite(), tokens, -1)[rows]
    vocabulary = logits.shape[1]
    if top_p >= 1 and vocabulary > BLOCK and vocabulary % 8 == 0 and cpu_kernels.takes(logits) and (compiled := cpu_kernels.kernels()):
        return compiled.draw(logits, rows, uniform, temperature)
    probabilities = (logits.float() / temperature).softmax(-1)
    if top_p >= 1:
        return _at(probabilities, rows, uniform)
    ordered, tokens = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    place = _at(ordered.masked_fill(outside, 0), rows, uniform)
    return torch.where(place < 0, place, tokens[rows, place])


def confidence(logits: torch.Tensor, rows: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Of each drawn token its log-probability at temperature 1, and the self-certainty of the distribution, ``(samples, 2)``.

    Self-certainty is the divergence of the uniform distribution from the model's, KL(U || p) (Kang et al. 2025, equation 4); 0 where all
    tokens are as likely.
    """
    logs = logits.float().log_softmax(-1)
    certainty = -logs.mean(-1) - math.log(logits.shape[-1])
    return torch.stack([logs[rows, drawn], certainty[rows]], dim=1).double()


def _at(weights: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The place of each sample's ``uniform`` in its row of ``weights``; -1 where a row's sum is not finite. Sums are float64."""
    if weights.shape[1] <= BLOCK:
        sums = weights.cumsum(-1, dtype=torch.float64)[rows]
        # Below 1, even the largest double times the sum rounds to less than the sum, so the place found has weight.
        place = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
    else:  # only the block that a sample falls into is summed token by token
        blocks = F.pad(weights, (0, -weights.shape[1] % BLOCK)).unflatten(-1, (-1, BLOCK))
        sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)[rows]
        wanted = uniform[:, None] * sums[:, -1:]
        block = torch.searchsorted(sums, wanted, right=True).clamp_(max=sums.shape[1] - 1)  # a sum that is not a number is nowhere
        inside = blocks[rows, block[:, 0]].cumsum(-1, dtype=torch.float64)
        rest = wanted - F.pad(sums, (1, 0)).gather(1, block)
        # Added up in another order, a block's sum may be a little less than the one above.
        rest = torch.minimum(rest, inside[:, -1:].nextafter(torch.zeros_like(rest)))
        place = block * BLOCK + torch.searchsorted(inside, rest, right=True)
    return torch.where(sums[:, -1].isfinite(), place[:, 0], -1)
