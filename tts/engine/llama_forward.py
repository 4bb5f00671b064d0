"""The forward pass of Llama and Qwen2 in few operations, compiled ones between the matrix products.

A small model's time goes into the calls of a module tree and into attention made for long queries. Here projections of the same input are
one matrix product, rotary angles come from a table, and what lies between matrix products is :mod:`tts.engine.cpu_kernels`.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaModel, PreTrainedModel, Qwen2Model

from tts.engine import cpu_kernels
from tts.engine.cpu_kernels import Kernels
from tts.engine.slot_cache import SlotCache

_FIXED_ROPE = {"default", "linear", "llama3", "yarn"}  # kinds whose angles do not depend on how long the text is


def supports(backbone: nn.Module) -> bool:
    """Whether :class:`LlamaForward` computes what ``backbone`` computes; anything unusual about it says no."""
    if type(backbone) not in (LlamaModel, Qwen2Model) or not all(map(cpu_kernels.takes, backbone.parameters())):
        return False
    plain = all(type(m) in (nn.Linear, nn.Embedding) for m in backbone.modules() if hasattr(m, "weight") and m.weight.ndim == 2)
    biased = any(layer.self_attn.o_proj.bias is not None or layer.mlp.down_proj.bias is not None for layer in backbone.layers)
    config = backbone.config
    everywhere = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    rope, grouped = config.rope_parameters, config.num_attention_heads % config.num_key_value_heads == 0
    whole = rope["rope_type"] in _FIXED_ROPE and rope.get("partial_rotary_factor", 1.0) == 1.0
    compiled = backbone.layers[0].self_attn.head_dim in cpu_kernels.SIZES and config.hidden_act == "silu"
    return plain and not biased and everywhere and whole and grouped and compiled


class LlamaForward:
    """What ``backbone`` computes, where :func:`supports` says so; its weights become views of the joined ones."""

    def __init__(self, backbone: PreTrainedModel, kernels: Kernels):
        self.backbone, self.kernels = backbone, kernels
        self.kv_heads, self.size = backbone.config.num_key_value_heads, backbone.layers[0].self_attn.head_dim
        self._epsilon: float = backbone.config.rms_norm_eps
        self._turns = torch.empty(0)
        self._layers = []
        for layer in backbone.layers:
            attention, mlp = layer.self_attn, layer.mlp
            to_qkv = layer.input_layernorm.weight, *_joined(attention.q_proj, attention.k_proj, attention.v_proj)
            to_gate_up = layer.post_attention_layernorm.weight, *_joined(mlp.gate_proj, mlp.up_proj)
            self._layers.append((to_qkv, attention.o_proj.weight.T, to_gate_up, mlp.down_proj.weight.T))

    def __call__(self, tokens: torch.Tensor, positions: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """Last hidden states ``(rows, new, width)`` of ``tokens`` ``(rows, new)`` at ``positions``, for which ``cache`` is prepared."""
        kernels, angles, positions = self.kernels, self._angles(cache.window), positions.contiguous()
        hidden = F.embedding(tokens.flatten(), self.backbone.embed_tokens.weight)
        cache.reserve(cache.window, self.kv_heads, self.size, like=hidden)
        shared = cache.shared.ctypes.data
        for number, (to_qkv, out, to_gate_up, down) in enumerate(self._layers):
            attended = kernels.attend(self._projected(hidden, *to_qkv), angles, positions, cache.held[number], shared, number)
            hidden = torch.addmm(hidden, attended, out)
            hidden = torch.addmm(hidden, kernels.gate(self._projected(hidden, *to_gate_up)), down)
        return kernels.norm(hidden, self.backbone.norm.weight, self._epsilon).view(*tokens.shape, -1)

    def _projected(self, hidden: torch.Tensor, norm: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.linear(self.kernels.norm(hidden, norm, self._epsilon), weight, bias)

    def _angles(self, window: int) -> torch.Tensor:
        """Cosines, and sines of which the first half is negated as it is rolled, by position, ``(window or more, 2 * size)``."""
        if len(self._turns) < window:
            weight = self.backbone.embed_tokens.weight
            cos, sin = self.backbone.rotary_emb(weight, torch.arange(2 * window, device=weight.device)[None])
            sin[..., : self.size // 2] *= -1
            self._turns = torch.cat([cos[0], sin[0]], 1)
        return self._turns


def _joined(*projections: nn.Linear) -> Iterator[torch.Tensor | None]:
    """Weight and bias of projections of one input as one; their own become views, so that nothing is held twice."""
    for name in ("weight", "bias"):
        tensors = [getattr(projection, name) for projection in projections]
        whole = None if tensors[0] is None else torch.cat([tensor.data for tensor in tensors])
        if whole is not None:
            for tensor, part in zip(tensors, whole.split(list(map(len, tensors)))):
                tensor.data = part
        yield whole
