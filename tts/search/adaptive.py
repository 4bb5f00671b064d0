"""Majority votes that stop drawing samples once their answers agree: rules on a pool's answers, in the order of its samples."""

from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from math import comb

from tts.search.best_of_n import pooled, unscored
from tts.search.registry import Constant

CONFIDENCE = Constant("confidence", 0.95, 0.5, 1)
WINDOW = Constant("window", 5, 2, 1 << 16)


def adaptive_consistency(answers: Sequence[int], confidence: float = CONFIDENCE.default) -> int:
    """How many samples adaptive self-consistency draws (Aggarwal et al. 2023, section 3): at least one, all where it never stops.

    It stops where the leading answer stays ahead of the second with a probability above ``confidence``, by their Beta criterion: with v and
    w votes, the probability that a Beta(v + 1, w + 1) is above 1/2. A sample without an answer (below 0) has no vote.
    """
    votes: Counter[int] = Counter()
    for drawn, answer in enumerate(answers, 1):
        votes[answer] += answer >= 0
        (_, first), *rest = votes.most_common(2)
        if stays_ahead(first, rest[0][1] if rest else 0) > confidence:
            return drawn
    return len(answers)


@cache
def stays_ahead(first: int, second: int) -> float:
    """The probability that a Beta(first + 1, second + 1) is above 1/2: of first + second + 1 fair coins at most ``first`` show heads."""
    coins = first + second + 1
    return sum(comb(coins, heads) for heads in range(first + 1)) / 2**coins


def early_stopping(answers: Sequence[int], window: float = WINDOW.default) -> int:
    """How many samples early-stopping self-consistency draws (Li et al. 2024, section 3): whole windows until one holds one answer alone.

    A window with a sample without an answer (below 0) does not stop it; the last window may be shorter, and then does not either.
    """
    for end in range(int(window), len(answers) + 1, int(window)):
        held = set(answers[end - int(window) : end])
        if len(held) == 1 and min(held) >= 0:
            return end
    return len(answers)


_stopping = partial(pooled, build=unscored, guided=False, select="majority")

ADAPTIVE = _stopping(
    "adaptive_consistency",
    "Adaptive consistency",
    "#6a51a3",
    "<",
    stop=lambda answers, settings: adaptive_consistency(answers, settings.constants["confidence"]),
    constants=(CONFIDENCE,),
)
EARLY_STOPPING = _stopping(
    "early_stopping",
    "Early stopping",
    "#9e9ac8",
    ">",
    stop=lambda answers, settings: early_stopping(answers, settings.constants["window"]),
    constants=(WINDOW,),
)
