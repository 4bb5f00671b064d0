"""A KV cache with one slot per sequence: sequences enter, leave and fork while others go on; ``docs/engine.md`` shows a small case.

What is parked is a state, a list of parts that never change; a part lives as long as a state or a slot refers to it. A slot reads what it
shares in place, and writes what is its own behind that. Attention that is not compiled cannot read parts; then a load copies them into the
slot, and what is parked shares parts all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import Cache

from tts.engine import huge_pages

# The structs ``Part`` and ``Shared`` of ``cpu_kernels.c``.
PART = np.dtype([("address", np.int64), ("held", np.int64), ("first", np.int64), ("stop", np.int64)])
SHARED = np.dtype([("parts", np.int64), ("length", np.int64)])


class Part(NamedTuple):
    """Neighbouring positions of a parked sequence."""

    held: torch.Tensor  # keys and values, contiguous, (layers, 2, kv_heads, positions, size); others may go on from between them
    first: int  # position in the sequence at which they begin
    stop: int  # position in the sequence before which the reading of this part ends


class State:
    """A parked sequence: the first ``at`` positions of ``parent``, then the positions ``own``."""

    def __init__(self, parent: State | None, at: int, own: torch.Tensor):
        # Its positions, one part after the other; those before a fork are its siblings' too.
        self.parts = [part._replace(stop=min(part.stop, at)) for part in (parent.parts if parent else ()) if part.first < at]
        if own.shape[3]:
            self.parts.append(Part(own, at, at + own.shape[3]))
        # The same for C, (parts,).
        self.table = np.array([(part.held.data_ptr(), part.held.shape[3], part.first, part.stop) for part in self.parts], dtype=PART)


def capacity_for(length: int) -> int:
    """Positions that are allocated where sequences of this length occur."""
    return max(128, -(-length // 64) * 64)


class SlotCache(Cache):
    """Keys and values of all layers in one tensor ``held``, ``(layers, 2, slots, kv_heads, capacity, size)``.

    Rows of a batch are always the first slots, so attention reads views, never copies. Allocated at first use, when the model shows its
    shapes; capacity grows with the longest sequence. ``in_place``: whether attention reads what slots share where it was parked.
    """

    def __init__(self, layers: int, slots: int, in_place: bool):
        super().__init__(layers=[])
        self.layer_count, self.slots, self.in_place = layers, slots, in_place
        self.held: torch.Tensor | None = None
        self.shared = np.zeros(slots, dtype=SHARED)  # what each slot reads of its state
        self.window = 0  # positions that the next forward pass looks at, at most
        self._states: list[State | None] = [None] * slots  # whose parts must live as long as slots read them
        self._positions = torch.empty(0)

    def park(self, row: int, length: int) -> State | None:
        """The first positions of a row, to be loaded later; None for none. What the row shares is shared on, the rest copied."""
        if not length:
            return None
        start = min(int(self.shared["length"][row]), length)
        return State(self._states[row], start, self._slot(row, start, length).clone(memory_format=torch.contiguous_format))

    def load(self, rows: Sequence[int], states: Sequence[State | None], lengths: Sequence[int]) -> None:
        """Lets each row go on from the first positions of a state: this is how a sequence forks. Without a state, it starts anew.

        Raises ``ValueError`` where another model parked a state.
        """
        for row, state, length in zip(rows, states, lengths):
            state = self._states[row] = state if length else None
            self.shared[row] = (state.table.ctypes.data, length) if state else 0
            if state is None:
                continue
            parked = state.parts[0].held
            self.reserve(length + 1, parked.shape[2], parked.shape[4], like=parked)
            if parked[..., :0, :].shape != self._slot(row, 0, 0).shape:
                raise ValueError(f"a state of shape {tuple(parked.shape)} was parked by another model")
            for part in () if self.in_place else state.parts:
                if part.first < (stop := min(part.stop, length)):
                    self._slot(row, part.first, stop).copy_(part.held.narrow(3, 0, stop - part.first))

    def copy_rows(self, origin: Sequence[int], to: Sequence[int], lengths: Sequence[int]) -> None:
        """Copies the first positions of each row of ``origin`` over those of ``to``, none of which is an origin."""
        starts = np.minimum(self.shared["length"][list(origin)], lengths).tolist() if self.in_place else [0] * len(origin)
        for row, new, start, stop in zip(origin, to, starts, lengths):
            # One by one, since a scattered write of many takes three times as long.
            self._slot(new, start, stop).copy_(self._slot(row, start, stop))
            self._states[new] = self._states[row]
        self.shared[list(to)] = self.shared[list(origin)]

    def _slot(self, row: int, start: int, stop: int) -> torch.Tensor:
        """View of a row's positions, ``(layers, 2, kv_heads, stop - start, size)``."""
        return self.held.select(2, row).narrow(3, start, stop - start)

    def prepare(self, positions: torch.Tensor, window: int) -> None:
        """Says where the next forward pass writes, ``positions`` ``(rows, new tokens)``, all before ``window``, up to which it looks."""
        self._positions, self.window = positions, window

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs):
        """As transformers calls it: stores new keys and values, each ``(rows, kv_heads, new tokens, size)``; gives all that rows hold."""
        new = torch.stack([key_states.transpose(1, 2), value_states.transpose(1, 2)], 2)  # (rows, new tokens, 2, kv_heads, size)
        self.reserve(self.window, *new.shape[3:], like=new)
        held = self.held[layer_idx]
        held[:, torch.arange(len(new), device=new.device)[:, None], :, self._positions] = new
        return held[:, : len(new), :, : self.window].unbind()

    def reserve(self, window: int, heads: int, size: int, like: torch.Tensor) -> None:
        """Makes room for ``window`` positions, in ``like``'s type."""
        capacity = 0 if self.held is None else self.held.shape[4]
        if capacity >= window:
            return
        grown = huge_pages.wanted(like.new_empty(self.layer_count, 2, self.slots, heads, capacity_for(window), size)).zero_()
        if capacity:
            grown[..., :capacity, :] = self.held
        self.held = grown
