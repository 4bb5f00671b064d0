"""Monte Carlo tree search in which a PRM's scores are the values."""

import math
from dataclasses import dataclass

from tts.search.base import Candidate, Sample, Score, Search, survivors
from tts.search.beam_search import check_budget, step_search
from tts.search.registry import Constant

EXPLORATION = Constant("exploration", 1.0, 0, 100)


@dataclass(eq=False)
class Node:
    """A partial or complete solution in the tree."""

    candidate: Candidate
    children: list["Node"] | None = None  # None until it is expanded
    visits: int = 0
    value: float = 0.0  # sum over the visits
    over: bool = False  # whether no new solution lies below it

    def uct(self, visits: int, exploration: float) -> float:
        """Its mean value, before the first visit its score, and a bonus for having been visited rarely of its parent's ``visits``."""
        mean = self.value / self.visits if self.visits else self.candidate.last_score
        return mean + exploration * math.sqrt(math.log(1 + visits) / (1 + self.visits))


def mcts(root: Candidate, n: int, width: int, exploration: float = EXPLORATION.default, max_steps: int = 40) -> Search:
    """Monte Carlo tree search with budget ``n``: ``n / width`` simulations, each to the end of a solution (Kocsis and Szepesvari 2006).

    A simulation goes down from the root to the child of highest :meth:`Node.uct`, the earlier one of equals. An open node without children
    gets ``width``, which the PRM scores. At its end the solution's last score counts for every node on the way, 0 where it was cut off.
    A solution is found once: what has none left is not visited again. With ``n = width`` it is DVTS with one subtree.

    Returns the solutions in the order in which they were found. Raises ValueError as beam search.
    """
    check_budget(n, width)
    tree = Node(root)
    finished: list[Candidate] = []
    for _ in range(n // width):
        node, way = tree, [tree]
        while node.candidate.status == "open" and len(way) <= max_steps:
            if node.children is None:
                [children] = yield Sample([node.candidate], width)
                node.children = [Node(c) for c in survivors(children)]
                if node.children:
                    yield Score([child.candidate for child in node.children])
            left = [child for child in node.children if not child.over]
            if not left:
                break
            node = max(left, key=lambda child: child.uct(way[-1].visits, exploration))
            way.append(node)
        ended = node.candidate.status == "finished"
        if ended:
            finished.append(node.candidate)
        for step in way:
            step.visits += 1
            step.value += node.candidate.last_score if ended else 0.0
        node.over = True
        for step in reversed(way[:-1]):
            step.over = all(child.over for child in step.children or ())
        if tree.over:
            break
    return finished


MCTS = step_search(
    "mcts",
    "MCTS",
    "C3",
    "*",
    lambda root, n, settings: mcts(root, n, settings.width, settings.constants["exploration"], settings.max_steps),
    study=False,
    constants=(EXPLORATION,),
)
