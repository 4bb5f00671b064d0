"""Majority votes weighted by the policy's own confidence, which engines keep with a pool's samples where one of these is asked for.

A sample's confidence is four numbers, of its tokens: :data:`KINDS`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tts.search.best_of_n import pooled, unscored
from tts.search.registry import Constant, Method, Settings

KINDS = ("log-probability", "tail log-probability", "self-certainty", "lowest self-certainty")
"""Means over all tokens, and over the last tenth of them, of the log-probability; of the self-certainty, the mean over all tokens and the
lowest mean over a tenth of them. Self-certainty is the divergence of the model's distribution from the uniform one (Kang et al. 2025)."""
TAIL = 10  # a tenth; DeepConf's windows of 2048 tokens are about a tenth of the solutions that it is measured on

BORDA = Constant("borda", 0.5, 0, 10)
KEEP = Constant("keep", 0.1, 0.01, 1)


def summary(logs: Sequence[float] | np.ndarray, certainty: Sequence[float] | np.ndarray | None = None) -> tuple[float, ...]:
    """The confidence of a sample, of the log-probability and the self-certainty of each of its tokens; NaN for what is not known."""
    logs, window = np.asarray(logs, float), max(1, round(len(logs) / TAIL))
    if not len(logs):
        return ()
    if certainty is None:
        return float(logs.mean()), float(logs[-window:].mean()), np.nan, np.nan
    certainty = np.asarray(certainty, float)
    windows = np.convolve(certainty, np.full(window, 1 / window), "valid")
    return float(logs.mean()), float(logs[-window:].mean()), float(certainty.mean()), float(windows.min())


def likelihood(drawn: np.ndarray, settings: Settings, kind: int = 0) -> np.ndarray:
    """The geometric mean of the tokens' probabilities, over all or over the last tenth."""
    return np.exp(drawn[:, kind])


def borda(drawn: np.ndarray, settings: Settings) -> np.ndarray:
    """The most certain of N samples has N^p votes, the next (N - 1)^p, and so on (Kang et al. 2025, section 4.2); equal ones the mean."""
    certainty = drawn[:, 2]
    below, level = (certainty[:, None] > certainty).sum(1), (certainty[:, None] == certainty).sum(1)
    votes = np.arange(1, len(drawn) + 1, dtype=float) ** settings.constants["borda"]
    summed = np.concatenate([[0.0], np.cumsum(votes)])
    return (summed[below + level] - summed[below]) / np.where(level > 0, level, np.nan)  # NaN, which equals nothing, stays so


def filtered(drawn: np.ndarray, settings: Settings) -> np.ndarray:
    """DeepConf (Fu et al. 2025, section 3): the most certain share of the samples votes, each with the weight of its certainty.

    Of a sample that is the lowest certainty over any tenth of it. At least one sample votes, and equal ones vote alike.
    """
    certainty = drawn[:, 3]
    voting = max(1, round(settings.constants["keep"] * len(drawn)))
    return np.where(certainty < np.sort(certainty)[-voting], 0.0, certainty)  # NaN, which is below nothing, stays so


def _vote(name: str, label: str, colour: str, marker: str, weigh: Callable, *constants: Constant) -> Method:
    return pooled(name, label, colour, marker, unscored, guided=False, select="majority", weigh=weigh, constants=constants)


CONFIDENCE_VOTES = (
    _vote("confidence_vote", "Confidence vote", "#e7298a", "1", likelihood),
    _vote("tail_confidence", "Tail confidence", "#ce1256", "2", partial(likelihood, kind=1)),
    _vote("self_certainty", "Self-certainty", "#df65b0", "3", borda, BORDA),
    _vote("deepconf", "DeepConf", "#980043", "4", filtered, KEEP),
)
