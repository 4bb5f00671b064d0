"""Best-of-N, and the pool of samples that majority voting and Pass@N use too."""

from __future__ import annotations

from tts.search.base import Candidate, Sample, Score, Search


def sample_pool(root: Candidate, n: int) -> Search:
    """``n`` independent complete solutions, unscored. With ``n = 1`` and temperature 0 this is CoT."""
    [pool] = yield Sample([root], n, whole=True)
    return pool


def best_of_n(root: Candidate, n: int) -> Search:
    """``n`` independent complete solutions, each scored by the PRM (Liu et al. 2025, section 2.2).

    One answer is then selected out of the ``n``, see :mod:`tts.tasks.selection`.
    """
    [pool] = yield Sample([root], n, whole=True)
    yield Score(pool)
    return pool
