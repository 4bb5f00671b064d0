"""A chunk of a run that is to be made, what is told of it meanwhile, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from tts.policies import DEFAULT
from tts.search.registry import SCORES
from tts.store.clock import Clock
from tts.store.run_spec import RunSpec

FEWEST, MOST = 4, 16  # candidates under way for each row of the batch
TOGETHER = 64  # solutions of chunks that are made together, likewise; fewer than one chunk of 40 problems has at N = 256


@dataclass(frozen=True)
class Work:
    """A chunk of a run that is not stored yet."""

    spec: RunSpec
    chunk: list[dict]


Announce = Callable[[Work], None]  # called with each chunk as its making begins
OnTokens = Callable[[int], object]  # called with numbers of newly generated tokens


@dataclass(frozen=True)
class Made:
    """A chunk that was made."""

    work: Work
    rows: list[dict]  # of the store
    seconds: float  # wall time that it took
    clock: Clock
    steps: pa.ListArray | None = None  # that a search sampled anew, as of :meth:`tts.store.step_columns.StepCache.column`
    limits: tuple[str, ...] = ()  # shortcomings of the engine for it, in words
    unread: dict[str, int] = field(default_factory=dict)  # counts of what the PRM could not read
    warnings: tuple[str, ...] = ()  # about what happened meanwhile

    @property
    def generated(self) -> int:
        """Tokens that the policy generated for it, steps that were known and sampled once more not counted."""
        return self.clock.generated


def goes_with(others: Sequence[Work], work: Work) -> bool:
    """Whether a chunk may be made together with others, so that the last of one leave no batch empty.

    They are of one run, and are few solutions together. Of the suite's own engine each chunk is made by itself: it is a function of
    nothing else then, to the last digit of a score. What shares a batch shows in other engines' samples in any case.
    """
    spec, chunks = work.spec, [other.chunk for other in others]
    if spec.engine.name == DEFAULT or spec.method == SCORES or any(other.spec != spec for other in others):
        return False
    ids = {problem["id"] for chunk in chunks for problem in chunk}
    few = spec.n * (sum(map(len, chunks)) + len(work.chunk)) <= TOGETHER * (spec.engine.batch or 1)
    return few and ids.isdisjoint(problem["id"] for problem in work.chunk)
