"""A causal transformer over a cache of slots: what is appended to sequences, parked, loaded and moved."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from transformers import PreTrainedModel

from tts.engine import llama_forward
from tts.engine.slot_cache import BLOCK, SlotCache, State


class CachedModel:
    """A causal transformer over a :class:`SlotCache`: Llama and Qwen2 by :mod:`tts.engine.llama_forward`, others by their own module.

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
            blocks = [slice(at, at + BLOCK) for at in range(0, len(origin), BLOCK)]
            copies = [row for block in blocks for row in self._copies(origin[block], lengths[block])]
            sources = [row.narrow(3, start, length - start) for row, length, start in zip(copies, lengths, starts)]
        for source, row, length, start in zip(sources, to, lengths, starts):
            self.cache.slot(row, length, start).copy_(source)  # one by one, since a scattered write of many takes three times as long
        self.cache.shared.move(origin, to)

    def _copies(self, rows: Sequence[int], lengths: Sequence[int]) -> Sequence[torch.Tensor]:
        held = self.cache.held.narrow(4, 0, max(lengths))
        return held.index_select(2, torch.tensor(list(rows), device=held.device)).unbind(2)
