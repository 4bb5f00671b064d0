"""Diverse verifier tree search: independent narrow beam searches with one common selection at the end."""

from __future__ import annotations

from tts.search.base import Candidate, Sample, Score, Search, survivors
from tts.search.beam_search import best, check_budget
from tts.search.registry import Method


def dvts(root: Candidate, n: int, width: int, max_steps: int = 40) -> Search:
    """DVTS with budget ``n`` (Beeching et al. 2024; Liu et al. 2025, section 2.2).

    ``n / width`` subtrees, each a beam search of width ``width`` with one place, whose candidates never meet. All
    subtrees ask together, so that they share batches; a subtree's number is the first index of its candidates' path.

    Returns:
        The finished candidate of each subtree that has one, in the order of the subtrees.

    Raises:
        ValueError: where ``n`` is not a positive multiple of ``width``.
    """
    check_budget(n, width)
    [first] = yield Sample([root], n)
    families = [first[i : i + width] for i in range(0, n, width)]
    leaders: list[Candidate | None] = [None] * len(families)
    trees = list(range(len(families)))
    for step in range(max_steps):
        groups = {tree: survivors(family) for tree, family in zip(trees, families)}
        candidates = [c for group in groups.values() for c in group]
        if candidates:
            yield Score(candidates)
        for tree, group in groups.items():
            leaders[tree] = best(group, 1)[0] if group else None
        going_on = {t: leader for t in trees if (leader := leaders[t]) is not None and leader.status == "open"}
        trees = list(going_on)
        if not trees or step == max_steps - 1:
            break
        families = yield Sample(list(going_on.values()), width)
    return [leader for leader in leaders if leader is not None and leader.status == "finished"]


def subtree(candidate: Candidate, width: int) -> int:
    """The number of the subtree that a candidate belongs to."""
    return candidate.path[0] // width


DVTS = Method(
    "dvts",
    "DVTS",
    "C1",
    "v",
    lambda root, n, settings: dvts(root, n, settings.width, settings.max_steps),
    part=lambda settings: settings.width,
    check=lambda n, settings: check_budget(n, settings.width),
    study=True,
)
