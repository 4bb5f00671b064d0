"""Beam search over steps, guided by a PRM."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from tts.search.base import Candidate, Request, Sample, Score, Search, survivors
from tts.search.registry import Method

Scoring = Callable[[Sequence[Candidate]], Generator[Request, Any, None]]
"""A part of a search that gives candidates their scores."""


def by_steps(candidates: Sequence[Candidate]) -> Generator[Request, Any, None]:
    """Candidates are scored as they are."""
    yield Score(candidates)


def beam_search(root: Candidate, n: int, width: int, max_steps: int = 40, scoring: Scoring = by_steps) -> Search:
    """Beam search with budget ``n`` and beam width ``width`` (Liu et al. 2025, section 2.2).

    The root samples ``n`` first steps and the ``n / width`` best stay; each is expanded into ``width``, and so on.
    A candidate that finishes competes for the places once; the one it wins is its own from then on, so the frontier
    shrinks and never refills, and it is never scored or expanded again. Steps cut off by a token limit drop out, and so do candidates
    that are still open after ``max_steps``.

    Returns the finished candidates that kept their places, as they finished. Raises ValueError unless ``width`` divides ``n``.
    """
    check_budget(n, width)
    finished: list[Candidate] = []
    frontier: list[Candidate] = [root]
    count = n
    for _ in range(max_steps):
        children = yield Sample(frontier, count)
        candidates = [c for siblings in children for c in survivors(siblings)]
        if not candidates:
            break
        yield from scoring(candidates)
        kept = best(candidates, n // width - len(finished))
        finished += [c for c in kept if c.status == "finished"]
        frontier = [c for c in kept if c.status == "open"]
        count = width
        if not frontier:
            break
    return finished


def best(candidates: Sequence[Candidate], places: int) -> list[Candidate]:
    """The ``places`` candidates of highest last score, in their given order; ties go to the earlier one."""
    ranked = sorted(range(len(candidates)), key=lambda i: -candidates[i].last_score)
    return [candidates[i] for i in sorted(ranked[:places])]


def check_budget(n: int, width: int) -> None:
    if width < 1 or n < width or n % width:
        raise ValueError(f"the budget N must be a positive multiple of the beam width M; given N = {n}, M = {width}")


step_search = partial(Method, check=lambda n, settings: check_budget(n, settings.width), study=True)

BEAM_SEARCH = step_search(
    "beam_search", "Beam search", "C2", "D", lambda root, n, settings: beam_search(root, n, settings.width, settings.max_steps)
)
