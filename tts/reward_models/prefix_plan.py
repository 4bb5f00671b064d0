"""Which tokens a PRM forwards, in which rows, for the steps of a problem's solutions to be read once each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tts.engine.slot_cache import State

Steps = tuple[str, ...]
Key = tuple[str, Steps]
"""A problem's id and the steps of a partial solution; without steps, the problem's opening."""


@dataclass(eq=False)
class Node:
    """A problem's opening, or one step on top of a parent.

    Attributes:
        ids: the rendering.
        start: from which of them on they are forwarded; those before are in the parent's state.
        fits: whether the model's context holds it.
        kept: whether its state stays when those that go on from it have been read.
        forks: whether reads go on from its state.
        scores: of the steps until here, once it was read.
        state: its cache, where something may go on from it.
        last_hidden: the hidden state at its last token, likewise.
    """

    ids: list[int]
    start: int
    fits: bool
    kept: bool
    forks: bool = False
    scores: tuple[float, ...] = ()
    state: State | None = None
    last_hidden: torch.Tensor | None = None

    def first_new(self, parent: Node | None) -> int:
        """Where its own tokens begin: after the token that :func:`new_from` forwards again, where there is one."""
        again = parent is not None and self.start < len(parent.ids) and self.start + 1 < len(self.ids)
        return self.start + again


@dataclass(eq=False)
class Read:
    """What is forwarded in one row: a step, and those after it as long as nothing else goes on from between them.

    Attributes:
        parent: whose state the row goes on from; None for an opening.
        keys, nodes: the steps.
        wave: how many reads come before it, one after the other.
    """

    parent: Node | None
    keys: list[Key]
    nodes: list[Node]
    wave: int

    @property
    def start(self) -> int:
        return self.nodes[0].start

    @property
    def new(self) -> list[int]:
        """The tokens that are forwarded."""
        return self.nodes[-1].ids[self.start :]

    @property
    def count(self) -> int:
        """How many these are."""
        return len(self.nodes[-1].ids) - self.start

    def __iter__(self) -> Iterator[tuple[Key, Node | None, Node]]:
        """Its (key, parent, node), in order."""
        return zip(self.keys, [self.parent, *self.nodes], self.nodes)


def plan(
    missing: Sequence[Key], rendered: Sequence[list[int]], known: Callable[[Key], Node | None], kept: Mapping[str, set[Steps]], context: int
) -> tuple[list[list[Read]], dict[Key, Node]]:
    """Reads for what is missing.

    Args:
        missing: parents before their children.
        rendered: each one's token ids.
        known: what was read before, and has its state.
        kept: per problem, those whose states stay; an opening's always does.
        context: longest input in tokens.

    Returns:
        The reads, those that need no other first, then those that need these, and so on; and all nodes, by key. Nodes that do not
        fit are in no read.
    """
    nodes: dict[Key, Node] = {}
    parents: dict[Key, Node | None] = {}
    heirs: Counter[Key] = Counter()
    for key, ids in zip(missing, rendered):
        above = _above(key)
        parent = parents[key] = above and (nodes.get(above) or known(above))
        fits = len(ids) <= context and (parent is None or parent.fits)
        nodes[key] = Node(ids, new_from(parent.ids, ids) if parent else 0, fits, kept=not key[1] or key[1] in kept[key[0]])
        heirs[above] += fits
    waves: list[list[Read]] = []
    within: dict[Key, Read] = {}
    for key, node in nodes.items():
        if not node.fits:
            continue
        parent, before = parents[key], within.get(_above(key))
        if before and heirs[_above(key)] == 1 and node.start == len(parent.ids):
            before.keys.append(key)
            before.nodes.append(node)
            within[key] = before
            continue
        if before:
            parent.forks = True
        within[key] = read = Read(parent, [key], [node], before.wave + 1 if before else 0)
        if read.wave == len(waves):
            waves.append([])
        waves[read.wave].append(read)
    return waves, nodes


def _above(key: Key) -> Key | None:
    problem_id, steps = key
    return (problem_id, steps[:-1]) if steps else None


def new_from(known: list[int], ids: list[int]) -> int:
    """Where to go on from a cached beginning: after it, or, where the ids differ from it, one before the first that does.

    A tokenizer may merge the end of a text with what comes next. Then the token before the first new one is forwarded again, for
    its hidden state, which a family may read, is kept for the last cached token only.
    """
    if len(known) < len(ids) and ids[: len(known)] == known:  # nearly always
        return len(known)
    common = next((i for i, (a, b) in enumerate(zip(known, ids)) if a != b), min(len(known), len(ids)))
    return max(0, min(common, len(ids) - 1) - 1)
