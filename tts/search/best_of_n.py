"""Best-of-N, and the pool of samples that majority voting and Pass@N use too."""

from functools import partial

from tts.search.base import Candidate, Sample, Score, Search
from tts.search.registry import Method, Settings


def sample_pool(root: Candidate, n: int) -> Search:
    """``n`` independent complete solutions, unscored. With ``n = 1`` and temperature 0 this is CoT."""
    [pool] = yield Sample([root], n, whole=True)
    return pool


def best_of_n(root: Candidate, n: int) -> Search:
    """``n`` independent complete solutions, each scored by the PRM (Liu et al. 2025, section 2.2).

    One answer is then selected out of the ``n``, see :mod:`tts.tasks.selection`.
    """
    pool = yield from sample_pool(root, n)
    yield Score(pool)
    return pool


def unscored(root: Candidate, n: int, settings: Settings) -> Search:
    return sample_pool(root, n)


pooled = partial(Method, source="pool", part=lambda settings: 1)

COT = Method("cot", "CoT (greedy)", "#7f7f7f", "s", lambda root, n, settings: sample_pool(root, 1), guided=False, source="greedy")
PASS = pooled("pass", "Pass@N (oracle)", "#000000", ".", unscored, guided=False, select="oracle")
MAJORITY = pooled("majority", "Majority", "C0", "o", unscored, guided=False, select="majority", study=True)
BEST_OF_N = pooled("best_of_n", "Best-of-N", "C4", "^", lambda root, n, settings: best_of_n(root, n), study=True)
