"""A KV cache with one slot per sequence, written in place: sequences enter, leave and fork while others go on."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import Cache, PreTrainedModel

from tts import llama_forward

_GRAIN = 32  # positions by which neighbours must differ before they are looked at apart
_BLOCK = 64  # rows that are looked at together at least


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
    for first in range(0, len(lengths), _BLOCK):
        stop = min(first + _BLOCK, len(lengths))
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
    for first in range(0, len(order), _BLOCK):
        wanted, places = order[first : first + _BLOCK], range(first, min(first + _BLOCK, len(order)))
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


class CachedModel:
    """A causal transformer over a :class:`SlotCache`: Llama and Qwen2 by :mod:`tts.llama_forward`, others by their own module.

    Args:
        backbone: the model without its head (``model.base_model``).
        slots: how many sequences it can hold at once.
    """

    def __init__(self, backbone: PreTrainedModel, slots: int):
        self.backbone, self.slots = backbone, slots
        self.device = backbone.device
        config = backbone.config.get_text_config()
        self.cache = SlotCache(config.num_hidden_layers, slots)
        self.sliding_window: int | None = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if self.sliding_window else "full_attention"])
        self._layer_kinds = sorted(kinds)
        self._forward = llama_forward.LlamaForward(backbone) if llama_forward.supports(backbone) else self._module_forward

    @property
    def ragged(self) -> bool:
        """Whether each row is read by itself: just as far as it is long, and what it shares where that was parked."""
        return isinstance(self._forward, llama_forward.LlamaForward) and self._forward.kernels is not None

    @property
    def token_bytes(self) -> int:
        """What the cache of one token takes."""
        config = self.backbone.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return 2 * config.num_hidden_layers * heads * size * self.backbone.dtype.itemsize

    def with_slots(self, slots: int) -> CachedModel:
        """The same model over an empty cache."""
        other = copy(self)
        other.slots, other.cache = slots, SlotCache(self.cache.layer_count, slots)
        return other

    @torch.inference_mode()
    def extend(self, tokens: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Appends ``tokens`` ``(rows, new)`` to the first rows' sequences.

        Rows may be padded at the end: what padding writes lies past the sequence and is overwritten later.

        Args:
            tokens: token ids, right-padded.
            start: ``(rows,)``, each row's length before.

        Returns:
            The last hidden states, ``(rows, new, width)``.
        """
        self.cache.shared.cut(start)
        positions = start[:, None]
        if tokens.shape[1] > 1:
            positions = positions + torch.arange(tokens.shape[1], device=start.device)
        self.cache.prepare(positions)
        return self._forward(tokens, positions, self.cache)

    def _module_forward(self, tokens: torch.Tensor, positions: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        keys = torch.arange(cache.window, device=tokens.device)
        visible = keys <= positions[:, None, :, None]
        masks = {"full_attention": visible}
        if "sliding_attention" in self._layer_kinds:
            masks["sliding_attention"] = visible & (keys > positions[:, None, :, None] - self.sliding_window)
        mask = masks[self._layer_kinds[0]] if len(self._layer_kinds) == 1 else masks
        return self.backbone(
            input_ids=tokens, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state

    def park(self, row: int, length: int) -> State | None:
        """The first ``length`` positions of a row, to be loaded again later; None for none."""
        return self.park_each([row], [length])[0]

    def park_each(self, rows: Sequence[int], lengths: Sequence[int]) -> list[State | None]:
        """As :meth:`park`, of each of ``rows``, of which there may be none. What a row shares is shared on, the rest copied."""
        if not any(lengths):
            return [None] * len(lengths)
        starts = list(map(min, self.cache.shared.lengths(rows), lengths))
        if self.ragged:
            held = self._forward.kernels.park(self.cache.held, rows, starts, lengths)
        else:
            held = [self.cache.slot(row, stop, start).clone() for row, start, stop in zip(rows, starts, lengths)]
        before = self.cache.shared.states
        return [State.going_on(before[row], *at) if length else None for row, length, *at in zip(rows, lengths, starts, held)]

    def load(self, rows: Sequence[int], state: State | None, length: int | None = None) -> None:
        """Puts a parked state, or its first ``length`` positions, into each of ``rows``: this is how a sequence forks.

        Where rows are :attr:`ragged`, nothing is copied: they read the state, which must not change, until something else is loaded.
        """
        length = length if length is not None or state is None else state.length
        self.load_each(rows, [state] * len(rows), [length or 0] * len(rows))

    def load_each(self, rows: Sequence[int], states: Sequence[State | None], lengths: Sequence[int]) -> None:
        """As :meth:`load`, each row its own."""
        lengths = [length if state else 0 for state, length in zip(states, lengths)]
        states = [state if length else None for state, length in zip(states, lengths)]
        if some := next(filter(None, states), None):
            self._make_room(max(lengths), some.parts[0].held)
        self.cache.shared.put(rows, states, lengths)
        if not self.ragged:
            for row, state, length in zip(rows, states, lengths):
                for part in state.parts if state else ():
                    if part.first < (stop := min(part.stop, length)):
                        self.cache.slot(row, stop, part.first).copy_(part.held.narrow(3, 0, stop - part.first))

    def _make_room(self, length: int, like: torch.Tensor) -> None:
        """For a parked part's ``length`` positions and one more."""
        layers, _, heads, _, size = like.shape
        self.cache.reserve(length + 1, heads, size, like=like)
        known = self.cache.held.shape
        if (layers, heads, size) != (known[0], known[3], known[5]):
            raise ValueError(f"a state of shape {tuple(like.shape)} was parked by another model")

    def move(self, origin: Sequence[int], to: Sequence[int], lengths: Sequence[int]) -> None:
        """Copies rows over others, of each the first ``lengths``; rows that are both are read before they are written."""
        starts = list(map(min, self.cache.shared.lengths(origin), lengths)) if self.ragged else [0] * len(origin)
        if set(origin).isdisjoint(to):
            sources = [self.cache.slot(row, length, start) for row, length, start in zip(origin, lengths, starts)]
        else:
            blocks = [slice(at, at + _BLOCK) for at in range(0, len(origin), _BLOCK)]
            copies = [row for block in blocks for row in self._copies(origin[block], lengths[block])]
            sources = [row.narrow(3, start, length - start) for row, length, start in zip(copies, lengths, starts)]
        for source, row, length, start in zip(sources, to, lengths, starts):
            self.cache.slot(row, length, start).copy_(source)  # one by one, since a scattered write of many takes three times as long
        self.cache.shared.move(origin, to)

    def _copies(self, rows: Sequence[int], lengths: Sequence[int]) -> Sequence[torch.Tensor]:
        held = self.cache.held.narrow(4, 0, max(lengths))
        return held.index_select(2, torch.tensor(list(rows), device=held.device)).unbind(2)
