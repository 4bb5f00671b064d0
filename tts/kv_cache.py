"""A KV cache with one slot per sequence, written in place: sequences enter, leave and fork while others go on."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import torch
from transformers import Cache, PreTrainedModel

from tts import llama_forward

_GRAIN = 32  # attention windows are rounded up to this, so that few different shapes occur


@dataclass(frozen=True)
class State:
    """A parked sequence: ``keys`` ``(layers, kv_heads, size, length)``, ``values`` ``(layers, kv_heads, length, size)``."""

    keys: torch.Tensor
    values: torch.Tensor


class SlotCache(Cache):
    """Keys ``(layers, slots, kv_heads, size, capacity)`` and values ``(layers, slots, kv_heads, capacity, size)``.

    Rows of a batch are always the first slots, so attention reads views, never copies. Keys are stored transposed, as
    the product with a single query wants them. Allocated at first use, when the model shows its shapes; capacity grows
    with the longest sequence.
    """

    def __init__(self, layers: int, slots: int):
        super().__init__(layers=[])
        self.layer_count, self.slots = layers, slots
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self.window = 0
        self._positions = self._rows = torch.empty(0)

    def prepare(self, positions: torch.Tensor, window: int) -> None:
        """Says where the next forward pass writes: ``positions`` is ``(rows, new tokens)``; ``window`` bounds them."""
        self._positions = positions
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.window = window

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores new keys and values ``(rows, new, kv_heads, size)`` and returns views of all that the rows have."""
        self.reserve(self.window, values.transpose(1, 2))
        self.keys[layer][self._rows, :, :, self._positions] = keys
        self.values[layer][self._rows, :, self._positions] = values
        rows = len(keys)
        return self.keys[layer][:rows, ..., : self.window], self.values[layer][:rows, :, : self.window]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs):
        keys, values = self.write(layer_idx, key_states.transpose(1, 2), value_states.transpose(1, 2))
        return keys.transpose(2, 3), values

    def reserve(self, window: int, like: torch.Tensor) -> None:
        """Makes room for ``window`` positions; ``like`` is ``(any, kv_heads, any, size)``."""
        capacity = 0 if self.keys is None else self.keys.shape[-1]
        if capacity >= window:
            return
        _, heads, _, size = like.shape
        room = max(128, 1 << (window - 1).bit_length())
        keys = like.new_zeros(self.layer_count, self.slots, heads, size, room)
        values = like.new_zeros(self.layer_count, self.slots, heads, room, size)
        if capacity:
            keys[..., :capacity] = self.keys
            values[..., :capacity, :] = self.values
        self.keys, self.values = keys, values

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
        self.cache = SlotCache(backbone.config.get_text_config().num_hidden_layers, slots)
        self._forward = llama_forward.LlamaForward(backbone) if llama_forward.supports(backbone) else self._module_forward

    def with_slots(self, slots: int) -> CachedModel:
        """The same model over an empty cache."""
        other = copy(self)
        other.slots, other.cache = slots, SlotCache(self.cache.layer_count, slots)
        return other

    @torch.inference_mode()
    def extend(self, tokens: torch.Tensor, start: torch.Tensor, longest: int) -> torch.Tensor:
        """Appends ``tokens`` ``(rows, new)`` to the first rows' sequences.

        Rows may be padded at the end: what padding writes lies past the sequence and is overwritten later.

        Args:
            tokens: token ids, right-padded.
            start: ``(rows,)``, each row's length before.
            longest: at least ``max(start) + new``.

        Returns:
            The last hidden states, ``(rows, new, width)``.
        """
        positions = start[:, None] + torch.arange(tokens.shape[1], device=start.device)
        self.cache.prepare(positions, -(-longest // _GRAIN) * _GRAIN)
        return self._forward(tokens, positions, self.cache)

    def _module_forward(self, tokens: torch.Tensor, positions: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        visible = torch.arange(cache.window, device=tokens.device) <= positions[:, None, :, None]
        return self.backbone(
            input_ids=tokens, position_ids=positions, attention_mask=visible, past_key_values=cache, use_cache=True
        ).last_hidden_state

    def park(self, row: int, length: int) -> State | None:
        """A copy of the first ``length`` positions of a row, to be loaded again later; None for none."""
        if not length:
            return None
        return State(self.cache.keys[:, row, ..., :length].clone(), self.cache.values[:, row, :, :length].clone())

    def load(self, rows: list[int], state: State | None, length: int | None = None) -> None:
        """Puts a parked state, or its first ``length`` positions, into each of ``rows``: this is how a sequence forks."""
        if state is None:
            return
        length = state.values.shape[2] if length is None else length
        self.cache.reserve(length + 1, state.values)
        where = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] + 1 == len(rows) else torch.tensor(rows)
        self.cache.keys[:, where, ..., :length] = state.keys[:, None, ..., :length]
        self.cache.values[:, where, :, :length] = state.values[:, None, :, :length]

    def move(self, origin: torch.Tensor, to: torch.Tensor, window: int) -> None:
        """Copies the first ``window`` positions of some rows over others."""
        for tensor in (self.cache.keys[..., :window], self.cache.values[:, :, :, :window]):
            tensor[:, to] = tensor[:, origin]
