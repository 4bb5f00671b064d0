"""A KV cache with one slot per sequence, written in place: sequences enter, leave and fork while others go on."""

from __future__ import annotations

import torch
from transformers import Cache, PreTrainedModel

_GRAIN = 32  # attention windows are rounded up to this, so that few different shapes occur


def capacity_for(window: int) -> int:
    """Positions that a slot is given so that it holds ``window`` of them."""
    return max(128, 1 << (window - 1).bit_length())


class SlotCache(Cache):
    """Keys and values of all layers in one tensor ``(2 * layers, slots, kv_heads, capacity, head_size)``.

    Rows of a batch are always the first slots, so attention reads views, never copies. Allocated at first use, when
    the model shows its shapes; capacity grows with the longest sequence.
    """

    def __init__(self, layers: int, slots: int):
        super().__init__(layers=[])
        self.layer_count, self.slots = layers, slots
        self.storage: torch.Tensor | None = None
        self._positions = torch.empty(0)
        self._rows = torch.empty(0)
        self._window = 0

    def prepare(self, positions: torch.Tensor, window: int) -> None:
        """Says where the next forward pass writes: ``positions`` is ``(rows, new tokens)``; ``window`` bounds them."""
        self._positions = positions
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self._window = window

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs):
        _, heads, _, size = key_states.shape
        self.reserve(self._window, key_states.new_empty(2 * self.layer_count, heads, 0, size))
        rows = len(key_states)
        views = []
        for number, states in ((layer_idx, key_states), (self.layer_count + layer_idx, value_states)):
            layer = self.storage[number]
            layer[self._rows, :, self._positions] = states.transpose(1, 2)
            views.append(layer[:rows, :, : self._window])
        return tuple(views)

    def reserve(self, window: int, like: torch.Tensor) -> None:
        """Makes room for ``window`` positions; ``like`` is ``(2 * layers, kv_heads, any, head_size)``."""
        if self.storage is not None and self.storage.shape[3] >= window:
            return
        layers, heads, _, size = like.shape
        capacity = capacity_for(window)
        grown = like.new_zeros(layers, self.slots, heads, capacity, size)
        if self.storage is not None:
            grown[..., : self.storage.shape[3], :] = self.storage
        self.storage = grown

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


class CachedModel:
    """A causal transformer over a :class:`SlotCache`.

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
        window = -(-longest // _GRAIN) * _GRAIN
        self.cache.prepare(positions, window)
        keys = torch.arange(window, device=start.device)
        visible = keys <= positions[:, None, :, None]
        masks = {"full_attention": visible}
        if "sliding_attention" in self._layer_kinds:
            masks["sliding_attention"] = visible & (keys > positions[:, None, :, None] - self.sliding_window)
        mask = masks[self._layer_kinds[0]] if len(self._layer_kinds) == 1 else masks
        return self.backbone(
            input_ids=tokens, position_ids=positions, attention_mask=mask, past_key_values=self.cache, use_cache=True
        ).last_hidden_state

    def park(self, row: int, length: int) -> torch.Tensor | None:
        """A copy of the first ``length`` positions of a row, to be loaded again later; None for none."""
        return self.cache.storage[:, row, :, :length].clone() if length else None

    def load(self, rows: list[int], state: torch.Tensor | None) -> None:
        """Puts a parked state into each of ``rows``: this is how a sequence forks."""
        if state is None:
            return
        length = state.shape[2]
        self.cache.reserve(length + 1, state)
        if len(rows) == 1:
            self.cache.storage[:, rows[0], :, :length] = state
        elif rows[-1] - rows[0] + 1 == len(rows):
            self.cache.storage[:, rows[0] : rows[-1] + 1, :, :length] = state[:, None]
        else:
            self.cache.storage[:, torch.tensor(rows), :, :length] = state[:, None]

    def compact(self, keep: torch.Tensor, window: int) -> None:
        """Moves the rows ``keep`` to the front, in their order; only the first ``window`` positions matter."""
        self.cache.storage[:, : len(keep), :, :window] = self.cache.storage[:, keep, :, :window]
