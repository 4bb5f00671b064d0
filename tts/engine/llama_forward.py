"""The forward pass of Llama and Qwen2 in few, large operations over a :class:`tts.engine.slot_cache.SlotCache`.

A small model's time goes into the calls of a module tree and into attention kernels made for long queries. Here
projections of the same input are one matrix product, rotary angles come from a table, and what lies between matrix products is
:mod:`tts.engine.cpu_kernels` where these are compiled, else a token attends by two plain matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaModel, PreTrainedModel, Qwen2Model

from tts.engine import cpu_kernels

if TYPE_CHECKING:
    from tts.engine.slot_cache import SlotCache

_FIXED_ROPE = {"default", "linear", "llama3", "yarn"}  # kinds whose angles do not depend on how long the text is


def supports(backbone: nn.Module) -> bool:
    """Whether :class:`LlamaForward` computes what ``backbone`` computes; anything unusual about it says no."""
    if type(backbone) not in (LlamaModel, Qwen2Model):
        return False
    plain = all(type(m) in (nn.Linear, nn.Embedding) for m in backbone.modules() if hasattr(m, "weight") and m.weight.ndim == 2)
    biased = any(layer.self_attn.o_proj.bias is not None or layer.mlp.down_proj.bias is not None for layer in backbone.layers)
    config = backbone.config
    everywhere = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    rope, grouped = config.rope_parameters, config.num_attention_heads % config.num_key_value_heads == 0
    whole = rope["rope_type"] in _FIXED_ROPE and rope.get("partial_rotary_factor", 1.0) == 1.0
    return plain and not biased and everywhere and whole and grouped


Attention = Callable[[int, torch.Tensor], torch.Tensor]
"""From a layer's number and ``(rows * new, (heads + 2 * kv_heads) * size)`` to what was attended to, ``(rows * new, heads * size)``."""


@dataclass(frozen=True)
class _Layer:
    """A layer's weights; ``out`` and ``down`` transposed."""

    before_attention: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    before_mlp: torch.Tensor
    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor
    activation: Callable[[torch.Tensor], torch.Tensor]


class LlamaForward:
    """What ``backbone`` computes, where :func:`supports` says so; its weights become views of the joined ones."""

    def __init__(self, backbone: PreTrainedModel):
        self.backbone, config = backbone, backbone.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = backbone.layers[0].self_attn.head_dim
        self.epsilon = config.rms_norm_eps
        self._epsilon = torch.tensor(self.epsilon, device=backbone.device)
        self._turns = torch.empty(0)
        known = self.size in cpu_kernels.SIZES and config.hidden_act == "silu" and all(map(cpu_kernels.takes, backbone.parameters()))
        self.kernels = cpu_kernels.kernels() if known else None
        self._embeddings, self._last_norm = backbone.embed_tokens.weight, backbone.norm.weight
        self._layers = []
        for layer in backbone.layers:
            attention, mlp = layer.self_attn, layer.mlp
            qkv, qkv_bias = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
            gate_up, gate_up_bias = _joined(mlp.gate_proj, mlp.up_proj)
            self._layers.append(
                _Layer(
                    layer.input_layernorm.weight,
                    qkv,
                    qkv_bias,
                    attention.o_proj.weight.T,
                    layer.post_attention_layernorm.weight,
                    gate_up,
                    gate_up_bias,
                    mlp.down_proj.weight.T,
                    mlp.act_fn,
                )
            )

    def __call__(self, tokens: torch.Tensor, positions: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """Last hidden states ``(rows, new, width)`` of ``tokens`` ``(rows, new)`` at ``positions``, for which ``cache`` is prepared."""
        rows, new = tokens.shape
        angles = self._angles(cache.window)
        hidden = F.embedding(tokens.flatten(), self._embeddings)
        cache.reserve(cache.window, self.kv_heads, self.size, like=hidden)
        attend = self._compiled_attention(positions, angles, cache) if self.kernels else self._attention(positions, angles, cache)
        for number, layer in enumerate(self._layers):
            qkv = F.linear(self._norm(hidden, layer.before_attention), layer.qkv, layer.qkv_bias)
            hidden = torch.addmm(hidden, attend(number, qkv), layer.out)
            gate_up = F.linear(self._norm(hidden, layer.before_mlp), layer.gate_up, layer.gate_up_bias)
            hidden = torch.addmm(hidden, self._gate(gate_up, layer.activation), layer.down)
        return self._norm(hidden, self._last_norm).view(rows, new, -1)

    def _compiled_attention(self, positions: torch.Tensor, angles: torch.Tensor, cache: SlotCache) -> Attention:
        positions, shared = positions.contiguous(), cache.shared.address
        return lambda number, qkv: self.kernels.attend(qkv, angles, positions, cache.held[number], shared, number)

    def _attention(self, positions: torch.Tensor, angles: torch.Tensor, cache: SlotCache) -> Attention:
        rows, new = positions.shape
        cos, sin = F.embedding(positions, angles)[:, :, None].split(self.size, -1)
        masks = [self._mask(positions[span.first : span.stop], span.window, angles.dtype) for span in cache.spans]
        rotated = self.heads + self.kv_heads

        def attend(number: int, qkv: torch.Tensor) -> torch.Tensor:
            qkv = qkv.view(rows, new, -1, self.size)
            qk = qkv[:, :, :rotated]
            qk = torch.addcmul(qk * cos, qk.roll(self.size // 2, -1), sin)
            cache.write(number, torch.cat([qk[:, :, self.heads :], qkv[:, :, rotated:]], 2).view(rows, new, 2, self.kv_heads, self.size))
            attended = [
                self._attend(qk[span.first : span.stop, :, : self.heads], *cache.read(number, span), mask)
                for span, mask in zip(cache.spans, masks)
            ]
            return torch.cat(attended) if len(attended) > 1 else attended[0]

        return attend

    def _gate(self, gate_up: torch.Tensor, activation: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        if self.kernels:
            return self.kernels.gate(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return activation(gate) * up

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """``F.rms_norm``, which has a kernel of its own on a GPU only; elsewhere it is seven operations, and this is one or four."""
        if self.kernels:
            return self.kernels.norm(hidden, weight, self.epsilon)
        if hidden.is_cuda or hidden.dtype != torch.float32:
            return F.rms_norm(hidden, hidden.shape[-1:], weight, self.epsilon)
        norm = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True)
        scale = torch.addcmul(self._epsilon, norm, norm, value=1 / hidden.shape[-1]).rsqrt_()
        return (hidden * scale).mul_(weight)

    def _mask(self, positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
        """0 where a query sees and the least number where not, ``(rows * kv_heads, new * group, window)``."""
        rows, new = positions.shape
        later = torch.arange(window, device=positions.device) > positions[..., None]
        mask = later.to(dtype).mul_(torch.finfo(dtype).min)
        group = self.heads // self.kv_heads
        return mask[:, None, :, None].expand(-1, self.kv_heads, -1, group, -1).reshape(rows * self.kv_heads, new * group, window)

    def _attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Grouped-query attention.

        Args:
            queries: ``(rows, new, heads, size)``.
            keys, values: ``(rows * kv_heads, window, size)``.
            mask: ``(rows * kv_heads, new * group, window)``, added.

        Returns:
            ``(rows * new, heads * size)``.
        """
        rows, new, _, size = queries.shape
        grouped = queries.reshape(rows, new, self.kv_heads, -1, size).transpose(1, 2)  # queries of the same keys form one matrix
        scores = torch.baddbmm(mask, grouped.reshape(rows * self.kv_heads, -1, size), keys.transpose(1, 2), alpha=size**-0.5)
        attended = scores.softmax(-1, dtype=torch.float32).to(values.dtype) @ values
        return attended.view(rows, self.kv_heads, new, -1, size).transpose(1, 2).reshape(rows * new, -1)

    def _angles(self, window: int) -> torch.Tensor:
        """Cosines, and sines of which the first half is negated as it is rolled, by position, ``(window or more, 2 * size)``."""
        if len(self._turns) < window:
            weight = self.backbone.embed_tokens.weight
            cos, sin = self.backbone.rotary_emb(weight, torch.arange(2 * window, device=weight.device)[None])
            sin[..., : self.size // 2] *= -1
            self._turns = torch.cat([cos[0], sin[0]], 1)
        return self._turns


def _joined(*projections: nn.Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Projections of one input as one; their own weights become views, so that nothing is held twice."""
    parts = []
    for name in ("weight", "bias"):
        tensors = [getattr(p, name) for p in projections]
        if tensors[0] is None:
            parts.append(None)
            continue
        whole = torch.cat([t.data for t in tensors])
        for tensor, part in zip(tensors, whole.split([len(t) for t in tensors])):
            tensor.data = part
        parts.append(whole)
    return tuple(parts)
