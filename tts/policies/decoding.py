"""Sequences that are decoded together, one token for all at a time; they enter, end and leave while others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from tts.kv_cache import CachedModel, State, positions_read, sorted_moves
from tts.policies.drawing import draw
from tts.policies.sampling import Sampling

_SORTED_EVERY = 16  # steps


@dataclass(frozen=True)
class Marks:
    """Where solutions and steps end.

    Attributes:
        flags: ``(vocabulary, 4)``: whether a token ends a solution, holds a blank line, starts with a newline, ends with one.
    """

    flags: np.ndarray

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """Each flag of ``tokens`` ``(rows,)``, ``(4, rows)``."""
        return self.flags[tokens].T


class Fork(NamedTuple):
    """Sequences that start from the same tokens.

    Attributes:
        state: the cache of all these tokens but the last; None where there is just one.
        length: how many tokens the cache holds.
        last: the last token.
        done: how many of them the solution already has.
        limit: of tokens to be generated.
        stepwise: whether a step's end is an end.
        keys: each sequence's key of its noise.
        owners: each sequence's owner, to be told by.
    """

    state: State | None
    length: int
    last: int
    done: int
    limit: int
    stepwise: bool
    keys: Sequence[int]
    owners: Sequence[object]


class Stop(NamedTuple):
    """A sequence at an end: its own, a step's, or its limit's; where the owner does not remove it, it goes on."""

    row: int
    owner: object
    tokens: tuple[int, ...]
    length: int
    ended: bool
    boundary: bool
    full: bool


class DecodingBatch:
    """Rows over a :class:`tts.kv_cache.CachedModel`; a row's noise depends on its key and position alone.

    What is counted and compared lies in numpy, whose small operations cost a fraction of torch's; a step takes one copy to the
    model's device and one back.

    Args:
        model: gives the head.
        cached: the model's cache; its slots bound the rows.
        marks: of the vocabulary.
    """

    def __init__(self, model: PreTrainedModel, cached: CachedModel, marks: Marks):
        self.cached, self.marks = cached, marks
        self.head = model.get_output_embeddings()
        self.clear()

    def clear(self) -> None:
        size = self.cached.slots
        self.active = self._steps = 0
        self._owners: list[object | None] = []  # None is a gap
        # last token (not yet in the cache), tokens in the cache, solution tokens before, tokens generated, their limit,
        # noise key, stepwise, active: in one array, so that entering and moving are one operation each.
        self._numbers = np.zeros((8, size), dtype=np.int64)
        self._generated = np.zeros((size, 64), dtype=np.int64)
        self.cached.load(list(range(size)), None)

    @property
    def free(self) -> int:
        return self.cached.slots - self.active

    def enter(self, forks: Sequence[Fork]) -> None:
        """Adds sequences; no more than are ``free``."""
        if not self.active:
            self._steps = 0  # what is decoded must not depend on what was decoded before
        entering = sum(len(fork.keys) for fork in forks)
        self._owners += [None] * (self.active + entering - len(self._owners))
        gaps = iter([row for row, owner in enumerate(self._owners) if owner is None])
        taken, numbers = [], []
        for fork in forks:
            rows = [next(gaps) for _ in fork.keys]
            self.cached.load(rows, fork.state)
            for row, key, owner in zip(rows, fork.keys, fork.owners):
                self._owners[row] = owner
                numbers.append((fork.last, fork.length, fork.done, 0, fork.limit, key, fork.stepwise, 1))
            taken += rows
        self._numbers[:, taken] = np.array(numbers, dtype=np.int64).T
        self.active += entering

    def step(self, sampling: Sampling) -> list[Stop]:
        """Decodes one token for every row; returns the rows that came to an end by it."""
        self._steps += 1
        if self._steps % _SORTED_EVERY == 0 and not self.cached.ragged:
            self._sort()
        rows = len(self._owners)
        last, length, done, count, limit, keys, stepwise, active = self._numbers[:, :rows]
        tokens = self._draw(torch.from_numpy(self._numbers[:, :rows]).to(self.cached.device), sampling)
        ends, holds_break, starts_newline, _ = self.marks.of(tokens)
        breaks = holds_break | (self.marks.of(last)[3] & starts_newline & (count > 0))
        self._write(tokens, count)
        last[:] = tokens
        length += active  # gaps stay where they are
        count += active
        boundary, full = breaks & (stepwise > 0), count >= limit
        stopped = np.flatnonzero((ends | boundary | full) & (active > 0))
        return self._stops(stopped, length, count, np.stack([ends, boundary, full], 1)) if len(stopped) else []

    def _draw(self, numbers: torch.Tensor, sampling: Sampling) -> np.ndarray:
        """Each row's next token."""
        last, length, done, count, _, keys, _, _ = numbers
        hidden = self.cached.extend(last[:, None], length)
        return draw(self.head(hidden[:, 0]), keys, done + count, sampling.temperature, sampling.top_p).cpu().numpy()

    def _write(self, tokens: np.ndarray, count: np.ndarray) -> None:
        if count.max() >= self._generated.shape[1]:
            self._generated = np.concatenate([self._generated, np.zeros_like(self._generated)], 1)
        self._generated[np.arange(len(tokens)), count] = tokens

    def _stops(self, stopped: np.ndarray, length: np.ndarray, count: np.ndarray, why: np.ndarray) -> list[Stop]:
        columns = (stopped, self._generated[stopped], length[stopped], count[stopped], why[stopped])
        return [
            Stop(row, self._owners[row], tuple(tokens[:generated]), at, *reasons)
            for row, tokens, at, generated, reasons in zip(*(column.tolist() for column in columns))
        ]

    def park(self, stop: Stop) -> State | None:
        """The cache of a row at its end, to start forks from."""
        return self.cached.park(stop.row, stop.length)

    def remove(self, stops: Sequence[Stop], refill: bool) -> None:
        """Takes rows out.

        Args:
            stops: whose rows.
            refill: whether others wait to take their places; if not, the last rows move into the gaps.
        """
        rows = [stop.row for stop in stops]
        for row in rows:
            self._owners[row] = None
        self.cached.load(rows, None)  # what was parked for them alone is let go of
        self._numbers[:, rows] = 0
        self.active -= len(stops)
        if not refill and self.active < 0.9 * len(self._owners):
            self._close_gaps()

    def _close_gaps(self) -> None:
        gaps = [row for row in range(self.active) if self._owners[row] is None]
        self._move([row for row in range(self.active, len(self._owners)) if self._owners[row] is not None], gaps)
        self._numbers[:, self.active :] = 0
        self.cached.load(list(range(self.active, len(self._owners))), None)
        del self._owners[self.active :]

    def _sort(self) -> None:
        """Puts rows of like length together where that saves attention a fair part of what it reads."""
        lengths = self._numbers[1, : len(self._owners)].tolist()
        if positions_read(lengths) > 1.3 * positions_read(sorted(lengths)):
            self._move(*zip(*sorted_moves(lengths)))

    def _move(self, origin: Sequence[int], to: Sequence[int]) -> None:
        if not origin:
            return
        rows, places = list(origin), list(to)
        self.cached.move(rows, places, self._numbers[1, rows].tolist())
        self._numbers[:, places] = self._numbers[:, rows]
        self._generated[places] = self._generated[rows]
        for place, owner in [(place, self._owners[row]) for row, place in zip(rows, places)]:
            self._owners[place] = owner
