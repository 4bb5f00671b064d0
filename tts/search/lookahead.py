"""Lookahead search: beam search whose candidates are scored where a greedy rollout from them ends."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tts.search.base import Candidate, Request, Sample, Score, Search
from tts.search.beam_search import beam_search, step_search
from tts.search.registry import Constant

LOOKAHEAD = Constant("lookahead", 1, 0, 64)
_ROLLOUT = 1 << 30  # sample index that tells a rollout from the samples of the same candidate


def lookahead_search(root: Candidate, n: int, width: int, lookahead: float = LOOKAHEAD.default, max_steps: int = 40) -> Search:
    """Beam search with budget ``n`` that looks ``lookahead`` steps ahead (Snell et al. 2024, section 5.2 and appendix on lookahead search).

    Returns and raises as :func:`.beam_search`, which it is with ``lookahead = 0``.
    """
    return beam_search(root, n, width, max_steps, partial(by_rollouts, steps=int(lookahead)))


def by_rollouts(candidates: Sequence[Candidate], steps: int) -> Generator[Request, Any, None]:
    """Each open candidate is followed by so many steps at temperature 0, and has the last score of what this comes to.

    One whose rollout is cut off or empty has the score of the last step before. The rollout is billed, and dropped: a candidate that is
    kept is sampled from anew.
    """
    ends = list(candidates)
    going_on = {place: _rollout(c) for place, c in enumerate(candidates) if c.status == "open"} if steps else {}
    for _ in range(steps):
        if not going_on:
            break
        followed = yield Sample(list(going_on.values()), 1, keeping=candidates)
        reached = {place: child for place, [child] in zip(going_on, followed) if child.steps and child.status != "truncated"}
        ends = [reached.get(place, end) for place, end in enumerate(ends)]
        going_on = {place: child for place, child in reached.items() if child.status == "open"}
    yield Score(ends)
    for candidate, end in zip(candidates, ends):
        if end is not candidate:
            candidate.scores = (end.last_score,)


def _rollout(candidate: Candidate) -> Candidate:
    """Where a rollout starts; it is no sample of the candidate, and shares no index with one."""
    return replace(candidate, path=(*candidate.path, _ROLLOUT), greedy=True)


LOOKAHEAD_SEARCH = step_search(
    "lookahead",
    "Lookahead",
    "#01665e",
    "h",
    lambda root, n, settings: lookahead_search(root, n, settings.width, settings.constants["lookahead"], settings.max_steps),
    study=False,
    constants=(LOOKAHEAD,),
)
