"""A KV cache with one slot per sequence, written in place: sequences enter, leave and fork while others go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import Cache

_GRAIN = 32  # positions by which neighbours must differ before they are looked at apart


BLOCK = 64  # rows that are looked at together at least


class Part(NamedTuple):
    """Neighbouring positions of a parked sequence.

    Attributes:
        held: keys and values, contiguous, ``(layers, 2, kv_heads, positions, size)``; others may go on from between them.
        address: of these.
        positions: how many.
        first: where in the sequence they begin.
        stop: the sequence's first position that is not read here.
    """

    held: torch.Tensor
    address: int
    positions: int
    first: int
    stop: int


class State:
    """A parked sequence.

    Attributes:
        parts: its positions, one part after the other; those before a fork are its siblings' too.
    """

    __slots__ = ("__weakref__", "_table", "parts")

    def __init__(self, parts: tuple[Part, ...]):
        self.parts, self._table = parts, None

    @classmethod
    def going_on(cls, before: State | None, start: int, held: torch.Tensor) -> State:
        """The first ``start`` positions of ``before``, then ``held``."""
        parts = before.parts if start else ()
        if start and start < before.length:
            parts = tuple(part._replace(stop=min(part.stop, start)) for part in parts if part.first < start)
        added = held.shape[3]
        return cls((*parts, Part(held, held.data_ptr(), added, start, start + added)) if added else parts)

    @property
    def length(self) -> int:
        return self.parts[-1].stop

    @property
    def address(self) -> int:
        """For compiled attention: of int64 ``(parts, 4)``, each part's numbers."""
        if self._table is None:
            self._table = np.array([part[1:] for part in self.parts], dtype=np.int64)
        return self._table.ctypes.data


class Shared:
    """Per slot what was parked and the slot goes on from; compiled attention reads it in place.

    Attributes:
        states: each slot's; None where there is nothing.
        address: of int64 ``(slots, 3)``: address of a state's table, its number of parts, how many positions are read there.
    """

    def __init__(self, slots: int):
        self.states: list[State | None] = [None] * slots
        self._table = np.zeros((slots, 3), dtype=np.int64)
        self.address: int = self._table.ctypes.data

    def put(self, rows: Sequence[int], states: Sequence[State | None], lengths: Sequence[int]) -> None:
        for row, state in zip(rows, states):
            self.states[row] = state
        self._table[rows] = [(s.address, len(s.parts), length) if s else (0, 0, 0) for s, length in zip(states, lengths)]

    def cut(self, lengths: torch.Tensor) -> None:
        """Rows go on from ``lengths`` positions, ``(rows,)``: what is shared beyond is theirs to write."""
        shared = self._table[: len(lengths), 2]
        np.minimum(shared, lengths.cpu().numpy(), out=shared)

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """How many positions of each row are shared."""
        return self._table[list(rows), 2].tolist()

    def move(self, origin: Sequence[int], to: Sequence[int]) -> None:
        self._table[list(to)] = self._table[list(origin)]
        for row, state in zip(to, [self.states[row] for row in origin]):
            self.states[row] = state


@dataclass(frozen=True)
class Span:
    """Neighbouring rows, and how many positions of the longest of them are looked at."""

    first: int
    stop: int
    window: int


def spans_of(lengths: Sequence[int]) -> list[Span]:
    """The rows in spans that are short where their neighbours are; ``lengths`` is each row's."""
    spans: list[Span] = []
    for first in range(0, len(lengths), BLOCK):
        stop = min(first + BLOCK, len(lengths))
        window = max(lengths[first:stop])
        if spans and abs(spans[-1].window - window) < _GRAIN:
            spans[-1] = Span(spans[-1].first, stop, max(spans[-1].window, window))
        else:
            spans.append(Span(first, stop, window))
    return spans


def capacity_for(length: int) -> int:
    """Positions that are allocated where sequences of this length occur."""
    return max(128, -(-length // 64) * 64)


def sorted_moves(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Which rows move where, as (from, to), for the rows that are looked at together to be of like length; no more than need to."""
    moves = []
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for first in range(0, len(order), BLOCK):
        wanted, places = order[first : first + BLOCK], range(first, min(first + BLOCK, len(order)))
        moves += zip([row for row in wanted if row not in places], sorted(set(places).difference(wanted)))
    return moves


def positions_read(lengths: Sequence[int]) -> int:
    """How many positions attention looks at for rows of these lengths in this order."""
    return sum((span.stop - span.first) * span.window for span in spans_of(lengths))


class SlotCache(Cache):
    """Keys and values of all layers in one tensor ``held``, ``(layers, 2, slots, kv_heads, capacity, size)``.

    Rows of a batch are always the first slots, so attention reads views, never copies. Allocated at first use, when
    the model shows its shapes; capacity grows with the longest sequence.
    """

    def __init__(self, layers: int, slots: int):
        super().__init__(layers=[])
        self.layer_count, self.slots = layers, slots
        self.held: torch.Tensor | None = None
        self.shared = Shared(slots)
        self.window = 0
        self._spans: list[Span] | None = None
        self._positions = torch.empty(0)
        self._places: torch.Tensor | None = None

    @property
    def spans(self) -> list[Span]:
        """Of the rows of the next forward pass."""
        if self._spans is None:
            self._spans = spans_of((self._positions[:, -1] + 1).tolist())
        return self._spans

    def prepare(self, positions: torch.Tensor) -> None:
        """Says where the next forward pass writes: ``positions`` is ``(rows, new tokens)``."""
        self._positions, self._places, self._spans = positions, None, None
        self.window = int(positions[:, -1].max()) + 1

    def write(self, layer: int, new: torch.Tensor) -> None:
        """Stores new keys and values ``(rows, new tokens, 2, kv_heads, size)``."""
        if self._places is None:
            self.reserve(self.window, *new.shape[3:], like=new)
            self._places = self._places_of(self._positions)
        size = new.shape[-1]
        self.held[layer].view(-1, size).index_copy_(0, self._places, new.reshape(-1, size))

    def _places_of(self, positions: torch.Tensor) -> torch.Tensor:
        """Where a layer's new keys and values lie among its vectors, in the order of :meth:`write`."""
        _, _, slots, heads, capacity, _ = self.held.shape
        first = torch.arange(2 * slots * heads, device=positions.device).view(2, slots, heads)[:, : len(positions)] * capacity
        return (first.transpose(0, 1)[:, None] + positions[..., None, None]).flatten()

    def read(self, layer: int, span: Span) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of keys and values, each ``(rows * kv_heads, window, size)``."""
        keys, values = self.held[layer, :, span.first : span.stop, :, : span.window].flatten(1, 2).unbind()
        return keys, values

    def slot(self, row: int, stop: int, start: int = 0) -> torch.Tensor:
        """View of a row's positions, ``(layers, 2, kv_heads, stop - start, size)``."""
        return self.held.select(2, row).narrow(3, start, stop - start)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs):
        self.write(layer_idx, torch.stack([key_states.transpose(1, 2), value_states.transpose(1, 2)], 2))
        return self.held[layer_idx, :, : len(key_states), :, : self.window].unbind()

    def reserve(self, window: int, heads: int, size: int, like: torch.Tensor) -> None:
        """Makes room for ``window`` positions, in ``like``'s type."""
        capacity = 0 if self.held is None else self.held.shape[4]
        if capacity >= window:
            return
        grown = like.new_zeros(self.layer_count, 2, self.slots, heads, capacity_for(window), size)
        if capacity:
            grown[..., :capacity, :] = self.held
        self.held = grown

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
