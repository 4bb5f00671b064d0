"""The forward pass of Llama and Qwen2 in few operations, compiled ones between the matrix products.

A small model's time goes into the calls of a module tree and into attention made for long queries. Here projections of the same input are
one matrix product, rotary angles come from a table, and what lies between matrix products is :mod:`tts.engine.cpu_kernels`. In bfloat16
what layers add to is float32 nevertheless, which rounds less than the module does.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaModel, PreTrainedModel, Qwen2Model

from tts.engine import cpu_kernels
from tts.engine.cpu_kernels import Kernels
from tts.engine.packed import Packed, packs
from tts.engine.slot_cache import SlotCache

_FIXED_ROPE = {"default", "linear", "llama3", "yarn"}  # kinds whose angles do not depend on how long the text is


def supports(backbone: nn.Module) -> bool:
    """Whether :class:`LlamaForward` computes what ``backbone`` computes; anything unusual about it says no."""
    dtypes = {parameter.dtype for parameter in backbone.parameters()}
    if type(backbone) not in (LlamaModel, Qwen2Model) or len(dtypes) > 1 or not all(map(cpu_kernels.takes, backbone.parameters())):
        return False
    plain = all(type(m) in (nn.Linear, nn.Embedding) for m in backbone.modules() if hasattr(m, "weight") and m.weight.ndim == 2)
    biased = any(layer.self_attn.o_proj.bias is not None or layer.mlp.down_proj.bias is not None for layer in backbone.layers)
    config = backbone.config
    everywhere = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    rope, grouped = config.rope_parameters, config.num_attention_heads % config.num_key_value_heads == 0
    whole = rope["rope_type"] in _FIXED_ROPE and rope.get("partial_rotary_factor", 1.0) == 1.0
    compiled = backbone.layers[0].self_attn.head_dim in cpu_kernels.SIZES and config.hidden_act == "silu"
    if dtypes == {torch.bfloat16}:
        compiled = compiled and config.hidden_size % 8 == config.intermediate_size % 8 == 0
    return plain and not biased and everywhere and whole and grouped and compiled


class LlamaForward:
    """What ``backbone`` computes, where :func:`supports` says so.

    Its weights become views of the joined ones; in bfloat16 they are given up for packed ones, and the module cannot run any more.
    """

    def __init__(self, backbone: PreTrainedModel, kernels: Kernels):
        self.backbone, self.kernels = backbone, kernels
        self.kv_heads, self.size = backbone.config.num_key_value_heads, backbone.layers[0].self_attn.head_dim
        self._epsilon: float = backbone.config.rms_norm_eps
        self._turns = torch.empty(0)
        self._layers = []
        for layer in backbone.layers:
            attention, mlp = layer.self_attn, layer.mlp
            self._layers.append((
                (layer.input_layernorm.weight, _product(attention.q_proj, attention.k_proj, attention.v_proj)),
                _added(attention.o_proj),
                (layer.post_attention_layernorm.weight, _product(mlp.gate_proj, mlp.up_proj)),
                _added(mlp.down_proj),
            ))  # fmt: skip

    def __call__(self, tokens: torch.Tensor, positions: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """Last hidden states ``(rows, new, width)`` of ``tokens`` ``(rows, new)`` at ``positions``, for which ``cache`` is prepared."""
        kernels, angles, positions = self.kernels, self._angles(cache.window), positions.contiguous()
        embedded = F.embedding(tokens.flatten(), self.backbone.embed_tokens.weight)
        cache.reserve(cache.window, self.kv_heads, self.size, like=embedded)
        hidden, shared = embedded.float(), cache.shared.ctypes.data
        for number, ((norm, to_qkv), out, (mlp_norm, to_gate_up), down) in enumerate(self._layers):
            qkv = to_qkv(kernels.norm(hidden, norm, self._epsilon))
            hidden = out(hidden, kernels.attend(qkv, angles, positions, cache.held[number], shared, number))
            hidden = down(hidden, kernels.gate(to_gate_up(kernels.norm(hidden, mlp_norm, self._epsilon))))
        return kernels.norm(hidden, self.backbone.norm.weight, self._epsilon).view(*tokens.shape, -1)

    def _angles(self, window: int) -> torch.Tensor:
        """Cosines, and sines of which the first half is negated as it is rolled, by position, ``(window or more, 2 * size)``."""
        if len(self._turns) < window:
            weight = self.backbone.embed_tokens.weight
            positions = torch.arange(2 * window, device=weight.device)
            cos, sin = self.backbone.rotary_emb(weight.new_empty(0, dtype=torch.float32), positions[None])
            sin[..., : self.size // 2] *= -1
            self._turns = torch.cat([cos[0], sin[0]], 1)
        return self._turns


def _product(*projections: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Projections of one input as one."""
    if packs(projections[0].weight):
        return Packed(*projections)
    return partial(F.linear, **dict(zip(("weight", "bias"), _joined(*projections))))


def _added(projection: nn.Linear) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Adds a projection of the second argument to the first."""
    if packs(projection.weight):
        packed = Packed(projection)
        return lambda hidden, inner: hidden + packed(inner)
    return partial(torch.addmm, mat2=projection.weight.T)


def _joined(*projections: nn.Linear) -> Iterator[torch.Tensor | None]:
    """Weight and bias of projections of one input as one; their own become views, so that nothing is held twice."""
    for name in ("weight", "bias"):
        tensors = [getattr(projection, name) for projection in projections]
        whole = None if tensors[0] is None else torch.cat([tensor.data for tensor in tensors])
        if whole is not None:
            for tensor, part in zip(tensors, whole.split(list(map(len, tensors)))):
                tensor.data = part
        yield whole
