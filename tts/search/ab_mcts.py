"""AB-MCTS: whether to sample anew, revise an attempt, or revise a revision is drawn by how good each has been."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tts.search.base import Candidate, Revise, Sample, Score, Search
from tts.search.registry import Method

PRIOR = 0.5  # of both parts of a Beta distribution (Jeffreys)


@dataclass(eq=False)
class Node:
    """A whole solution in the tree; the root is none."""

    candidate: Candidate
    value: float = 0.0  # its last score; 0 where it was cut off
    children: list[Node] = field(default_factory=list)

    @property
    def values(self) -> Iterator[float]:
        """Of this solution and of all that were made from it."""
        yield self.value
        for child in self.children:
            yield from child.values


def ab_mcts(root: Candidate, n: int, seed: int = 0) -> Search:
    """``n`` solutions, one after the other, by adaptive branching Monte Carlo tree search (Inoue et al. 2025, AB-MCTS-A, Beta).

    Each is made from a node of the tree: from the root it is a sample, from a solution a revision, for which the policy is shown that
    solution and those that it was made from. From the root down, a node's own next child and its children's subtrees are drawn between by
    Thompson sampling: the one with the larger draw from the Beta distribution of its scores so far, of the children for the one, of all
    below them for the other; then one of the children likewise. A score is that of the solution's last step.

    Returns the solutions that ended, in the order in which they were made.
    """
    rng, tree, made = random.Random(f"{seed}/{root.problem_id}"), Node(root), []
    for number in range(n):
        node = tree
        while node.children and _draw(rng, [c.value for c in node.children]) < _draw(rng, [v for c in node.children for v in c.values]):
            node = max(node.children, key=lambda child: _draw(rng, list(child.values)))
        if node is tree:
            start = replace(root, path=(number,))  # each sample of the root has noise of its own
        else:
            [start] = yield Revise([node.candidate])
            start = replace(start, path=(*start.path, number))
        [[child]] = yield Sample([start], 1, whole=True)
        new = Node(child)
        if child.status == "finished" and child.steps:
            yield Score([child])
            new.value = child.last_score
            made.append(child)
        node.children.append(new)
    return made


def _draw(rng: random.Random, values: list[float]) -> float:
    """From the Beta distribution of scores in [0, 1], each of which counts as so much of a success."""
    good = sum(values)
    return rng.betavariate(PRIOR + good, PRIOR + len(values) - good)


AB_MCTS = Method("ab_mcts", "AB-MCTS", "#762a83", "X", lambda root, n, settings: ab_mcts(root, n, settings.seed), whole=True, rereads=True)
