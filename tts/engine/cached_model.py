"""A causal transformer that appends tokens to the sequences of a :class:`tts.engine.slot_cache.SlotCache`."""

import torch
from transformers import PreTrainedModel

from tts.engine import cpu_kernels, llama_forward
from tts.engine.slot_cache import SlotCache


class CachedModel:
    """Llama and Qwen2 in float32 on a CPU by :mod:`tts.engine.llama_forward`, others by their own module."""

    def __init__(self, backbone: PreTrainedModel):
        self.backbone, self.device = backbone, backbone.device
        config = backbone.config.get_text_config()
        self.layers: int = config.num_hidden_layers
        self._last_position = getattr(config, "max_position_embeddings", 1 << 30) - 1
        self._sliding_window: int | None = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ["sliding_attention" if self._sliding_window else "full_attention"])
        self._layer_kinds = sorted(kinds)
        kernels = cpu_kernels.kernels() if llama_forward.supports(backbone) else None
        self._llama = llama_forward.LlamaForward(backbone, kernels) if kernels else None

    @property
    def compiled(self) -> bool:
        """Whether attention is compiled; then what sequences share is read where it was parked."""
        return self._llama is not None

    @property
    def token_bytes(self) -> int:
        """What the cache of one token takes."""
        config = self.backbone.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return 2 * self.layers * heads * size * self.backbone.dtype.itemsize

    def cache(self, slots: int) -> SlotCache:
        """An empty cache."""
        return SlotCache(self.layers, slots, in_place=self.compiled)

    @torch.inference_mode()
    def extend(self, cache: SlotCache, tokens: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Appends tokens to the sequences in the first slots.

        Rows may be padded at the end: what padding writes lies past the sequence and is overwritten later.

        Args:
            tokens: token ids ``(rows, new)``, right-padded.
            start: each sequence's length before, ``(rows,)``; no less than what its slot shares.

        Returns:
            The last hidden states, ``(rows, new, width)``.
        """
        positions = start[:, None]
        if tokens.shape[1] > 1:
            positions = positions + torch.arange(tokens.shape[1], device=start.device)
        cache.prepare(positions)
        return self._llama(tokens, positions, cache) if self._llama else self._module_forward(tokens, positions, cache)

    def _module_forward(self, tokens: torch.Tensor, positions: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        keys = torch.arange(cache.window, device=tokens.device)
        visible = keys <= positions[:, None, :, None]
        masks = {"full_attention": visible}
        if "sliding_attention" in self._layer_kinds:
            masks["sliding_attention"] = visible & (keys > positions[:, None, :, None] - self._sliding_window)
        mask = masks[self._layer_kinds[0]] if len(self._layer_kinds) == 1 else masks
        within = positions.clamp(max=self._last_position)  # padding may lie beyond the positions that a model has learnt
        return self.backbone(
            input_ids=tokens, position_ids=within, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state
