"""Diverse verifier tree search: independent narrow beam searches with one common selection at the end."""

from tts.search.base import Candidate, Sample, Score, Search, survivors
from tts.search.beam_search import best, check_budget, step_search


def dvts(root: Candidate, n: int, width: int, max_steps: int = 40) -> Search:
    """DVTS with budget ``n`` (Beeching et al. 2024; Liu et al. 2025, section 2.2).

    ``n / width`` subtrees, each a beam search of width ``width`` with one place, whose candidates never meet. All
    subtrees ask together, so that they share batches. The first index of a candidate's path, divided by ``width``, is its subtree.

    Returns the finished candidate of each subtree that has one, in the order of the subtrees. Raises ValueError as beam search.
    """
    check_budget(n, width)
    [first] = yield Sample([root], n)
    families = {tree: first[tree * width : (tree + 1) * width] for tree in range(n // width)}
    finished: dict[int, Candidate] = {}
    for step in range(max_steps):
        groups = {tree: group for tree, family in families.items() if (group := survivors(family))}
        if not groups:
            break
        yield Score([c for group in groups.values() for c in group])
        leaders = {tree: best(group, 1)[0] for tree, group in groups.items()}
        finished |= {tree: leader for tree, leader in leaders.items() if leader.status == "finished"}
        frontier = {tree: leader for tree, leader in leaders.items() if leader.status == "open"}
        if not frontier or step == max_steps - 1:
            break
        children = yield Sample(list(frontier.values()), width)
        families = dict(zip(frontier, children))
    return [finished[tree] for tree in sorted(finished)]


DVTS = step_search(
    "dvts",
    "DVTS",
    "C1",
    "v",
    lambda root, n, settings: dvts(root, n, settings.width, settings.max_steps),
    part=lambda settings: settings.width,
)
