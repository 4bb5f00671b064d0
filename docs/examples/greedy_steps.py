"""Template of a search method: copy it to ``tts/search/``, and add its name to the list in ``tts/search/__init__.py``."""

from __future__ import annotations

from tts.search.base import Candidate, Sample, Score, Search, survivors
from tts.search.registry import Method


def greedy_steps(root: Candidate, n: int, max_steps: int = 40) -> Search:
    """Of ``n`` next steps the best one is taken, until a solution ends.

    A method is a generator. It yields what it wants sampled or scored, receives the answer, and returns finished candidates.

    Args:
        root: empty solution.
        n: budget; here the number of next steps that are sampled each time.
        max_steps: depth limit.
    """
    best = root
    for _ in range(max_steps):
        [children] = yield Sample([best], n)
        candidates = survivors(children)
        if not candidates:
            return []
        yield Score(candidates)
        best = max(candidates, key=lambda c: c.last_score)
        if best.status == "finished":
            return [best]
    return []


# `part` is left out: the search does not fall into independent parts, so each budget has a run of its own.
GREEDY_STEPS = Method(
    name="greedy_steps",
    label="Greedy steps",
    colour="C3",
    marker="P",
    build=lambda root, n, settings: greedy_steps(root, n, settings.max_steps),
)
