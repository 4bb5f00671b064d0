"""Sequences that are decoded together, one token for all at a time; they enter, end and leave while others go on.

Samples of the same tokens are one row until they draw different ones: the model's next distribution is the same for all of them, only
the noise is each one's own. Samples of a small policy agree over most of a step, and a search asks for many from the same place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from tts.engine.cached_model import CachedModel
from tts.engine.drawing import draw
from tts.engine.slot_cache import State, positions_read, sorted_moves
from tts.search.sampling import Sampling

_SORTED_EVERY = 16  # steps
FORKING = 0.25  # of samples that share a row, how many come to need one of their own before they end, about
_LAST, _LENGTH, _DONE, _COUNT, _LIMIT, _STEPWISE, _IN_USE = range(7)


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
    """Samples that start from the same tokens.

    Attributes:
        state: the cache of all these tokens but the last; None where there is just one.
        length: how many tokens the cache holds.
        last: the last token.
        done: how many of them the solution already has.
        limit: of tokens to be generated.
        stepwise: whether a step's end is an end.
        keys: each sample's key of its noise.
        owners: each sample's owner, to be told by.
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
    """A row at an end: its own, a step's, or its limit's; where the owners do not remove it, it goes on."""

    row: int
    owners: list[object]
    tokens: tuple[int, ...]
    length: int
    ended: bool
    boundary: bool
    full: bool


class _Waiting(NamedTuple):
    """Samples that drew another token than their row's others when no row was free; they draw it again when one is.

    Attributes:
        state: their row's cache.
        numbers, generated: of their row.
        keys, owners: of each.
    """

    state: State | None
    numbers: np.ndarray
    generated: np.ndarray
    keys: np.ndarray
    owners: np.ndarray


class DecodingBatch:
    """Rows over a :class:`tts.engine.cached_model.CachedModel`; a sample's noise depends on its key and position alone.

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
        self._rows = self._steps = 0  # rows are those in use and the gaps between them
        # last token (not yet in the cache), tokens in the cache, solution tokens before, tokens generated, their limit,
        # stepwise, in use: in one array, so that entering and moving are one operation each.
        self._numbers = np.zeros((7, size), dtype=np.int64)
        self._generated = np.zeros((size, 64), dtype=np.int64)
        self._of, self._keys, self._owners = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, object)  # of samples, by row
        self._waiting: deque[_Waiting] = deque()
        self.cached.load(list(range(size)), None)

    @property
    def active(self) -> int:
        """Samples under way."""
        return len(self._of) + sum(len(waiting.owners) for waiting in self._waiting)

    @property
    def free(self) -> float:
        """Rows that samples under way will probably leave free."""
        rows = int(self._numbers[_IN_USE].sum()) + len(self._waiting)
        return self.cached.slots - rows - FORKING * (self.active - rows)

    def enter(self, forks: Sequence[Fork]) -> None:
        """Adds samples, those of a fork in one row; no more forks than there are rows free."""
        if not self.active:
            self._steps = 0  # what is decoded must not depend on what was decoded before
        rows = self._gaps()[: len(forks)]
        numbers = [(fork.last, fork.length, fork.done, 0, fork.limit, fork.stepwise, 1) for fork in forks]
        self._numbers[:, rows] = np.array(numbers, dtype=np.int64).T
        self.cached.load_each(rows, [fork.state for fork in forks], [fork.length for fork in forks])
        owners = np.empty(sum(len(fork.owners) for fork in forks), dtype=object)
        owners[:] = [owner for fork in forks for owner in fork.owners]
        keys = np.array([key for fork in forks for key in fork.keys], dtype=np.int64)
        self._add(np.repeat(rows, [len(fork.keys) for fork in forks]), keys, owners)

    def _gaps(self) -> list[int]:
        """Rows without samples, the first ones first."""
        return np.flatnonzero(self._numbers[_IN_USE] == 0).tolist()

    def _add(self, of: np.ndarray, keys: np.ndarray, owners: np.ndarray) -> None:
        self._rows = max(self._rows, 1 + int(of.max()))
        self._place(np.concatenate([self._of, of]), np.concatenate([self._keys, keys]), np.concatenate([self._owners, owners]))

    def _place(self, of: np.ndarray, keys: np.ndarray, owners: np.ndarray) -> None:
        """Samples in the order of their rows, a row's in the order in which they are given."""
        order = np.argsort(of, kind="stable")
        self._of, self._keys, self._owners = of[order], keys[order], owners[order]

    def step(self, sampling: Sampling) -> list[Stop]:
        """Decodes one token for every row; returns the rows that came to an end by it."""
        self._steps += 1
        if self._waiting:
            self._enter_waiting()
        in_use = int(self._numbers[_IN_USE].sum())
        if in_use < 0.9 * self._rows:  # a gap is computed like a row
            self._close_gaps(in_use)
        if self._steps % _SORTED_EVERY == 0 and not self.cached.ragged:
            self._sort()
        tokens = self._settle(self._draw(sampling))
        last, length, _, count, limit, stepwise, in_use = self._numbers[:, : self._rows]
        ends, holds_break, starts_newline, _ = self.marks.of(tokens)
        breaks = holds_break | (self.marks.of(last)[3] & starts_newline & (count > 0))
        self._write(tokens, count)
        last[:] = tokens
        length += in_use  # gaps stay where they are
        count += in_use
        boundary, full = breaks & (stepwise > 0), count >= limit
        stopped = np.flatnonzero((ends | boundary | full) & (in_use > 0))
        return self._stops(stopped, length, count, np.stack([ends, boundary, full], 1)) if len(stopped) else []

    def _draw(self, sampling: Sampling) -> np.ndarray:
        """Each sample's next token."""
        rows, samples, of = self._rows, len(self._of), self._of
        last, length, done, count = self._numbers[:_LIMIT, :rows]
        numbers = torch.from_numpy(np.concatenate([last, length, of, self._keys, (done + count)[of]])).to(self.cached.device)
        last, length, of, keys, positions = numbers.split([rows, rows, samples, samples, samples])
        hidden = self.cached.extend(last[:, None], length)
        return draw(self.head(hidden[:, 0]), of, keys, positions, sampling.temperature, sampling.top_p).cpu().numpy()

    def _settle(self, drawn: np.ndarray) -> np.ndarray:
        """Each row's token: what its first sample drew; the samples that drew others go to rows of their own, or wait for one."""
        tokens = np.zeros(self.cached.slots, dtype=np.int64)
        tokens[self._of[::-1]] = drawn[::-1]  # the last that is written is the first sample's
        apart = np.flatnonzero(drawn != tokens[self._of])
        if len(apart):
            groups: dict[tuple[int, int], list[int]] = {}
            for sample, row, token in zip(apart.tolist(), self._of[apart].tolist(), drawn[apart].tolist()):
                groups.setdefault((row, token), []).append(sample)
            gaps = self._gaps()
            self._split(dict(zip(gaps, groups.items())), tokens)
            if without := [sample for group in list(groups.values())[len(gaps) :] for sample in group]:
                self._wait(without)
            self._place(self._of, self._keys, self._owners)
        return tokens[: self._rows]

    def _split(self, groups: dict[int, tuple[tuple[int, int], list[int]]], tokens: np.ndarray) -> None:
        """Per new row the row that it comes from, the token, and the samples that drew it."""
        if not groups:
            return
        new, origin = list(groups), [row for (row, _), _ in groups.values()]
        self.cached.move(origin, new, (self._numbers[_LENGTH, origin] + 1).tolist())
        self._numbers[:, new], self._generated[new] = self._numbers[:, origin], self._generated[origin]
        self._rows = max(self._rows, 1 + max(new))
        for row, ((_, token), samples) in groups.items():
            self._of[samples], tokens[row] = row, token

    def _wait(self, samples: list[int]) -> None:
        """Takes samples out until a row is free; as their noise is a function of the position, they draw the same token then."""
        of = self._of[samples]
        for row in dict.fromkeys(of.tolist()):
            own = np.array(samples)[of == row]
            state = self.cached.park(row, int(self._numbers[_LENGTH, row]))
            self._waiting.append(
                _Waiting(state, self._numbers[:, row].copy(), self._generated[row].copy(), self._keys[own], self._owners[own])
            )
        self._keep(np.delete(np.arange(len(self._of)), samples))

    def _keep(self, samples: np.ndarray) -> None:
        self._of, self._keys, self._owners = self._of[samples], self._keys[samples], self._owners[samples]

    def _enter_waiting(self) -> None:
        for row in self._gaps():
            if not self._waiting:
                return
            waiting = self._waiting.popleft()
            self.cached.load([row], waiting.state)
            self._numbers[:, row] = waiting.numbers
            self._generated[row, : len(waiting.generated)] = waiting.generated
            self._add(np.full(len(waiting.keys), row), waiting.keys, waiting.owners)

    def _write(self, tokens: np.ndarray, count: np.ndarray) -> None:
        if count.max() >= self._generated.shape[1]:
            self._generated = np.concatenate([self._generated, np.zeros_like(self._generated)], 1)
        self._generated[np.arange(len(tokens)), count] = tokens

    def _stops(self, stopped: np.ndarray, length: np.ndarray, count: np.ndarray, why: np.ndarray) -> list[Stop]:
        columns = (stopped, self._generated[stopped], length[stopped], count[stopped], why[stopped])
        first, after = np.searchsorted(self._of, stopped), np.searchsorted(self._of, stopped, side="right")
        return [
            Stop(row, self._owners[start:stop].tolist(), tuple(tokens[:generated]), at, *reasons)
            for row, tokens, at, generated, reasons, start, stop in zip(*(column.tolist() for column in (*columns, first, after)))
        ]

    def park(self, stops: Sequence[Stop]) -> list[State | None]:
        """The caches of rows at their ends, to start forks from."""
        return self.cached.park_each([stop.row for stop in stops], [stop.length for stop in stops])

    def remove(self, stops: Sequence[Stop]) -> None:
        """Takes rows out."""
        rows = [stop.row for stop in stops]
        self.cached.load(rows, None)  # what was parked for them alone is let go of
        self._numbers[:, rows] = 0
        self._keep(np.flatnonzero(self._numbers[_IN_USE, self._of]))

    def _close_gaps(self, in_use: int) -> None:
        gaps = [row for row in self._gaps() if row < in_use]
        self._move((in_use + np.flatnonzero(self._numbers[_IN_USE, in_use : self._rows])).tolist(), gaps)
        self._numbers[:, in_use:] = 0
        self.cached.load(list(range(in_use, self._rows)), None)
        self._rows = in_use

    def _sort(self) -> None:
        """Puts rows of like length together where that saves attention a fair part of what it reads."""
        lengths = self._numbers[_LENGTH, : self._rows].tolist()
        if positions_read(lengths) > 1.3 * positions_read(sorted(lengths)):
            self._move(*zip(*sorted_moves(lengths)))

    def _move(self, origin: Sequence[int], to: Sequence[int]) -> None:
        if not origin:
            return
        rows, places = list(origin), list(to)
        self.cached.move(rows, places, self._numbers[_LENGTH, rows].tolist())
        self._numbers[:, places] = self._numbers[:, rows]
        self._generated[places] = self._generated[rows]
        new = np.arange(self.cached.slots)
        new[rows] = places
        self._place(new[self._of], self._keys, self._owners)
