"""Sequences that are sampled together, one token for all at a time; they enter, end and leave while others go on.

Samples of the same tokens are one row until they draw different ones: the model's next distribution is the same for all of them, only
the noise is each one's own. Samples of a small policy agree over most of a step, and a search asks for many from the same place.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from tts.engine.cached_model import CachedModel
from tts.engine.drawing import choose, uniforms
from tts.engine.slot_cache import State
from tts.search.sampling import Sampling

FORKING = 0.25  # of samples that share a row, how many come to need one of their own before they end, about

_ROW = np.dtype(
    [
        ("last", np.int64),  # the last token, not yet in the cache
        ("length", np.int64),  # tokens in the cache
        ("done", np.int64),  # tokens that the solution had before
        ("count", np.int64),  # tokens generated
        ("limit", np.int64),  # tokens to be generated at most
        ("stepwise", np.bool_),  # whether a step's end is an end
        ("in_use", np.bool_),  # whether there are samples in it
    ]
)
"""A row; several fields in one array, so that rows enter and fork in one operation."""
_SAMPLE = np.dtype([("row", np.int64), ("key", np.int64), ("owner", object)])


@dataclass(frozen=True)
class Marks:
    """Which tokens end solutions and steps; each array is ``(vocabulary,)``, of booleans."""

    ends: np.ndarray  # whether a token ends a solution
    holds_break: np.ndarray  # whether it holds a blank line
    starts_newline: np.ndarray
    ends_newline: np.ndarray


class Fork(NamedTuple):
    """Samples that start from the same tokens."""

    state: State | None  # cache of all these tokens but the last; None where there is just one
    length: int  # tokens that the cache holds
    last: int  # the last token
    done: int  # tokens that the solution already has
    limit: int  # tokens to be generated at most
    stepwise: bool  # whether a step's end is an end
    keys: Sequence[int]  # key of each sample's noise
    owners: Sequence[object]  # each sample's owner, given back where it ends
    generated: Sequence[int] = ()  # tokens that were generated before; of samples that waited for a row


class Stop(NamedTuple):
    """A row that came to an end; where it is not removed, it goes on."""

    row: int
    owners: list[object]  # owners of its samples
    tokens: tuple[int, ...]  # tokens that were generated
    length: int  # tokens in the cache
    ended: bool  # whether the solution ended
    boundary: bool  # whether a step ended
    full: bool  # whether the limit was reached


class DecodingBatch:
    """Rows of samples, which :meth:`sample` extends by a token; a sample's noise depends on its key and position alone.

    What is counted and compared lies in numpy, whose small operations cost a fraction of torch's; a step takes one copy to the
    model's device and one back.

    Args:
        head: layer from hidden states to logits.
        slots: number of rows.
    """

    def __init__(self, model: CachedModel, head: torch.nn.Module, marks: Marks, slots: int):
        self.model, self.head, self.marks, self.slots = model, head, marks, slots
        self.cache = model.cache(slots)
        self.clear()

    def clear(self) -> None:
        """Drops all samples."""
        self._width = 0  # rows that are forwarded: those in use, and the gaps between them
        self._rows = np.zeros(self.slots, dtype=_ROW)
        self._generated = np.zeros((self.slots, 64), dtype=np.int64)  # each row's tokens
        self._samples = np.zeros(0, dtype=_SAMPLE)  # in the order of rows
        self._waiting: deque[Fork] = deque()  # samples that drew another token than their row's others when no row was free
        self._empty(range(self.slots))

    def _empty(self, rows: Sequence[int]) -> None:
        """Lets go of what rows hold and share."""
        self._rows[list(rows)] = 0
        self.cache.load(rows, [None] * len(rows), [0] * len(rows))

    @property
    def active(self) -> int:
        """Samples under way."""
        return len(self._samples) + sum(len(fork.owners) for fork in self._waiting)

    @property
    def free(self) -> float:
        """Rows that samples under way will probably leave free."""
        rows = int(self._rows["in_use"].sum()) + len(self._waiting)
        return self.slots - rows - FORKING * (self.active - rows)

    @torch.inference_mode()
    def sample(self, forks: Sequence[Fork], sampling: Sampling) -> list[Stop]:
        """Adds samples, decodes one token for all, and returns the rows that came to an end by it; these go on if they do not leave.

        No more forks than there are rows free.
        """
        if forks:
            self._enter(forks)
        if self._waiting and (gaps := self._gaps()):
            self._enter([self._waiting.popleft() for _ in gaps[: len(self._waiting)]])
        in_use = int(self._rows["in_use"].sum())
        if in_use < 0.9 * self._width:  # a gap is computed like a row
            self._close_gaps(in_use)
        tokens = self._settle(self._draw(sampling))
        rows = self._rows[: self._width]
        in_use, marks = rows["in_use"], self.marks
        breaks = marks.holds_break[tokens] | (marks.ends_newline[rows["last"]] & marks.starts_newline[tokens] & (rows["count"] > 0))
        self._write(tokens, rows["count"])
        rows["last"] = tokens
        rows["length"] += in_use  # gaps stay where they are
        rows["count"] += in_use
        ends, boundary, full = marks.ends[tokens], breaks & rows["stepwise"], rows["count"] >= rows["limit"]
        stopped = np.flatnonzero((ends | boundary | full) & in_use)
        return self._stops(stopped, np.stack([ends, boundary, full], 1)) if len(stopped) else []

    def leave(self, stops: Sequence[Stop], parked: Sequence[bool]) -> list[State | None]:
        """Takes rows out; gives the caches of those that are to be parked, to start forks from."""
        states = [self.cache.park(stop.row, stop.length) if park else None for stop, park in zip(stops, parked)]
        self._empty([stop.row for stop in stops])
        self._samples = self._samples[self._rows["in_use"][self._samples["row"]]]
        return states

    def _enter(self, forks: Sequence[Fork]) -> None:
        """Adds samples, those of a fork in one row."""
        rows = self._gaps()[: len(forks)]
        self._rows[rows] = [(f.last, f.length, f.done, len(f.generated), f.limit, f.stepwise, True) for f in forks]
        for row, fork in zip(rows, forks):
            self._generated[row, : len(fork.generated)] = fork.generated
        self.cache.load(rows, [fork.state for fork in forks], [fork.length for fork in forks])
        self._width = max(self._width, 1 + max(rows))
        samples = [(row, key, owner) for row, fork in zip(rows, forks) for key, owner in zip(fork.keys, fork.owners)]
        self._samples = np.concatenate([self._samples, np.array(samples, dtype=_SAMPLE)])
        self._sort()

    def _gaps(self) -> list[int]:
        """Rows without samples, the first ones first."""
        return np.flatnonzero(~self._rows["in_use"]).tolist()

    def _sort(self) -> None:
        """Puts samples in the order of their rows, a row's in the order in which they came."""
        self._samples = self._samples[np.argsort(self._samples["row"], kind="stable")]

    def _draw(self, sampling: Sampling) -> np.ndarray:
        """Each sample's next token."""
        rows, of = self._rows[: self._width], self._samples["row"]
        numbers = [rows["last"], rows["length"], of, self._samples["key"], (rows["done"] + rows["count"])[of]]
        packed = torch.from_numpy(np.concatenate(numbers)).to(self.model.device)
        last, length, of, keys, positions = packed.split(list(map(len, numbers)))
        hidden = self.model.extend(self.cache, last[:, None], length)
        return choose(self.head(hidden[:, 0]), of, uniforms(keys, positions), sampling.temperature, sampling.top_p).cpu().numpy()

    def _settle(self, drawn: np.ndarray) -> np.ndarray:
        """Each row's token: what its first sample drew; the samples that drew others go to rows of their own, or wait for one."""
        tokens, of = np.zeros(self.slots, dtype=np.int64), self._samples["row"]
        tokens[of[::-1]] = drawn[::-1]  # the last that is written is the first sample's
        apart = np.flatnonzero(drawn != tokens[of])
        if len(apart):
            groups: dict[tuple[int, int], list[int]] = {}  # by row and token
            for sample, row, token in zip(apart.tolist(), of[apart].tolist(), drawn[apart].tolist()):
                groups.setdefault((row, token), []).append(sample)
            placed = dict(zip(self._gaps(), groups.items()))  # by the new row
            if placed:
                self._copy([row for (row, _), _ in placed.values()], list(placed), forwarded=1)
                self._width = max(self._width, 1 + max(placed))
            for new, ((_, token), samples) in placed.items():
                of[samples], tokens[new] = new, token
            if without := [sample for group in list(groups.values())[len(placed) :] for sample in group]:
                self._wait(without)
            self._sort()
        return tokens[: self._width]

    def _copy(self, origin: list[int], to: list[int], forwarded: int = 0) -> None:
        """Copies rows into gaps; ``forwarded``: tokens in the cache beyond the rows' lengths."""
        self.cache.copy_rows(origin, to, (self._rows["length"][origin] + forwarded).tolist())
        self._rows[to], self._generated[to] = self._rows[origin], self._generated[origin]

    def _wait(self, samples: list[int]) -> None:
        """Takes samples out until a row is free; as their noise is a function of the position, they draw the same token then."""
        leaving = self._samples[samples]
        for row in np.unique(leaving["row"]).tolist():
            own, at = leaving[leaving["row"] == row], self._rows[row]
            state = self.cache.park(row, int(at["length"]))
            before = (at[name].item() for name in ("length", "last", "done", "limit", "stepwise"))
            generated = self._generated[row, : at["count"]].tolist()
            self._waiting.append(Fork(state, *before, own["key"].tolist(), own["owner"].tolist(), generated))
        self._samples = np.delete(self._samples, samples)

    def _write(self, tokens: np.ndarray, count: np.ndarray) -> None:
        if count.max() >= self._generated.shape[1]:
            self._generated = np.concatenate([self._generated, np.zeros_like(self._generated)], 1)
        self._generated[np.arange(len(tokens)), count] = tokens

    def _stops(self, stopped: np.ndarray, why: np.ndarray) -> list[Stop]:
        rows, of = self._rows[stopped], self._samples["row"]
        first, after = np.searchsorted(of, stopped), np.searchsorted(of, stopped, side="right")
        columns = (stopped, self._generated[stopped], rows["length"], rows["count"], why[stopped], first, after)
        return [
            Stop(row, self._samples["owner"][start:stop].tolist(), tuple(tokens[:count]), length, *reasons)
            for row, tokens, length, count, reasons, start, stop in zip(*(column.tolist() for column in columns))
        ]

    def _close_gaps(self, in_use: int) -> None:
        """Moves the last rows into the gaps before them."""
        gaps = [row for row in self._gaps() if row < in_use]
        if gaps:
            moved = (in_use + np.flatnonzero(self._rows["in_use"][in_use : self._width])).tolist()
            self._copy(moved, gaps)
            places = np.arange(self.slots)
            places[moved] = gaps
            self._samples["row"] = places[self._samples["row"]]
            self._sort()
        self._empty(range(in_use, self._width))
        self._width = in_use
