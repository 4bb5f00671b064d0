"""A causal transformer that appends tokens to the sequences of a :class:`tts.engine.slot_cache.SlotCache`."""

import torch
from torch import nn
from transformers import PreTrainedModel

from tts.engine import cpu_kernels, llama_forward
from tts.engine.packed import Packed, packs
from tts.engine.slot_cache import SlotCache


class CachedModel:
    """Llama and Qwen2 on a CPU by :mod:`tts.engine.llama_forward`, others by their own module, with packed weights where there can be."""

    def __init__(self, backbone: PreTrainedModel):
        self.backbone, self.device = backbone, backbone.device
        config = backbone.config.get_text_config()
        self.layers: int = config.num_hidden_layers
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.token_bytes = 2 * self.layers * heads * size * backbone.dtype.itemsize  # of the cache of one token
        self._last_position = getattr(config, "max_position_embeddings", 1 << 30) - 1
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"]
        reach = {"full_attention": None, "sliding_attention": window}
        self._reach = {kind: reach[kind] for kind in set(kinds)}  # positions that a layer of each kind sees, itself included
        attention = getattr(config, "_attn_implementation", None)
        if attention not in ("sdpa", "eager"):
            raise ValueError(f"the engine gives attention a mask, which {attention} does not take; load the model with sdpa")
        self._added = attention == "eager"
        kernels = cpu_kernels.kernels() if llama_forward.supports(backbone) else None
        self._llama = llama_forward.LlamaForward(backbone, kernels) if kernels else None
        for layer in () if self._llama else list(backbone.modules()):
            if type(layer) is nn.Linear and packs(layer.weight):
                layer.forward = Packed(layer)
        self.compiled = self._llama is not None  # then attention reads what sequences share where it was parked

    def cache(self, slots: int) -> SlotCache:
        """An empty cache."""
        return SlotCache(self.layers, slots, in_place=self.compiled)

    @torch.inference_mode()
    def extend(self, cache: SlotCache, tokens: torch.Tensor, start: torch.Tensor, longest: int) -> torch.Tensor:
        """Appends token ids ``(rows, new)`` to the sequences in the first slots; gives the last hidden states ``(rows, new, width)``.

        ``start`` is each sequence's length before, ``(rows,)``, no less than what its slot shares, and ``longest`` the largest of these,
        which the host knows without waiting for the device. Rows may be padded at the end: what padding writes lies past the sequence and
        is overwritten later.
        """
        positions = start[:, None] + torch.arange(tokens.shape[1], device=start.device)
        cache.prepare(positions, longest + tokens.shape[1])
        if self._llama:
            return self._llama(tokens, positions, cache)
        keys, at = torch.arange(cache.window, device=tokens.device), positions[:, None, :, None]
        visible = keys <= at
        masks = {kind: visible if reach is None else visible & (keys > at - reach) for kind, reach in self._reach.items()}
        if self._added:  # attention that adds its mask would let through what a boolean one forbids
            dtype = self.backbone.dtype
            masks = {kind: torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype) for kind, seen in masks.items()}
        mask = masks if len(masks) > 1 else next(iter(masks.values()))
        within = positions.clamp(max=self._last_position)  # padding may lie beyond the positions that a model has learnt
        return self.backbone(
            input_ids=tokens, position_ids=within, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state
