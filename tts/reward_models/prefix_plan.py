"""Which tokens a PRM forwards, in which rows, for each step of a problem's solutions to be read once.

A small case: the problem p, and its solutions (a, b, c), (a, b, d, e) and (a, b). The opening and the steps are nodes of a tree::

    p - a - b -+- c
               +- d - e

The tree is cut where more than one node goes on from another. A segment is what lies between two cuts; it is forwarded in one row::

    segment   tokens of    goes on from the cache at   wave
    1         p, a, b      -                           0
    2         c            b                           1
    3         d, e         b                           1

So each token is forwarded once. No segment of a wave needs another of the same wave, so a wave's segments are forwarded together, with
those of other problems. The cache at b is parked when segment 1 was read. It is dropped after wave 1, unless b ends a solution, as it does
here: a search may go on from there later. Then the nodes p, a and b are known, and only what is new is planned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tts.engine import State

Steps = tuple[str, ...]
Key = tuple[str, Steps]  # a problem's id and the steps of a partial solution; without steps, the problem's opening


@dataclass(eq=False)
class Node:
    """A problem's opening, or one step on top of a parent."""

    key: Key
    ids: list[int]  # token ids of the rendering, from the opening's first to the step's last
    start: int  # number of ids that are in the parent's cache; those after it are forwarded
    fits: bool  # whether the model's context holds the ids
    kept: bool  # whether the cache stays when the segments that go on from it have been read
    forks: bool = False  # whether segments go on from the cache
    scores: tuple[float, ...] = ()  # scores of the steps until here, once this one was read
    state: State | None = None  # cache of the ids, where something may go on from it
    last_hidden: torch.Tensor | None = None  # hidden state at the last id, likewise


@dataclass(eq=False)
class Segment:
    """What is forwarded in one row: a node, and those after it as long as nothing else goes on from between them."""

    parent: Node | None  # from whose cache the row goes on; None for an opening
    nodes: list[Node]
    wave: int  # number of segments that have to be read before it, one after the other

    @property
    def start(self) -> int:
        return self.nodes[0].start

    @property
    def new(self) -> list[int]:
        """Ids that are forwarded."""
        return self.nodes[-1].ids[self.start :]


def plan(
    missing: Sequence[Key], rendered: Sequence[list[int]], known: Callable[[Key], Node | None], kept: Mapping[str, set[Steps]], context: int
) -> tuple[list[list[Segment]], list[Node]]:
    """The segments that read what is missing, by wave, and all nodes that were missing; those beyond the context are in no segment.

    Of the ``missing`` keys, parents stand before their children; ``rendered`` are their token ids. ``known`` gives the node of a key that
    was read before and has its cache; ``kept`` are the solutions whose caches stay, per problem, and an opening's always does.
    """
    nodes: dict[Key, Node] = {}
    fitting: list[tuple[Node | None, Node]] = []
    for key, ids in zip(missing, rendered):
        problem_id, steps = key
        above = (problem_id, steps[:-1])
        parent = (nodes.get(above) or known(above)) if steps else None
        start = shared_length(parent.ids, ids) if parent else 0
        fits = len(ids) <= context and (parent is None or parent.fits)
        nodes[key] = node = Node(key, ids, start, fits, kept=not steps or steps in kept[problem_id])
        if fits:
            fitting.append((parent, node))
    children = Counter(parent for parent, _ in fitting)
    waves: defaultdict[int, list[Segment]] = defaultdict(list)
    segment_of: dict[Node | None, Segment] = {}
    for parent, node in fitting:
        before = segment_of.get(parent)
        if before and children[parent] == 1 and node.start == len(parent.ids):
            before.nodes.append(node)
            segment_of[node] = before
            continue
        if before:
            parent.forks = True
        segment = segment_of[node] = Segment(parent, [node], before.wave + 1 if before else 0)
        waves[segment.wave].append(segment)
    return list(waves.values()), list(nodes.values())


def shared_length(known: list[int], ids: list[int]) -> int:
    """How many of ``ids`` need not be forwarded where those of ``known`` were."""
    if len(known) < len(ids) and ids[: len(known)] == known:  # nearly always
        return len(known)
    # A tokenizer may merge the end of a text with what comes next. Then the token before the first new one is forwarded again: a family
    # may read its hidden state, and that is kept for the last id only.
    common = next((i for i, (a, b) in enumerate(zip(known, ids)) if a != b), min(len(known), len(ids)))
    return max(0, min(common, len(ids) - 1) - 1)
