"""Matrix products in bfloat16 on a CPU, of weights that lie in the order in which oneDNN multiplies; torch's own do not keep that order."""

import torch
from torch import nn


def packs(weight: torch.Tensor) -> bool:
    """Whether a weight can be packed: bfloat16, on a CPU whose torch has oneDNN with that format."""
    on_cpu = weight.device.type == "cpu" and weight.dtype is torch.bfloat16
    return on_cpu and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Packed:
    """Linear layers of one input as one product; they give up their weights, unless ``kept``, so that nothing is held twice."""

    def __init__(self, *layers: nn.Linear, kept: bool = False):
        weight = torch.cat([layer.weight.data for layer in layers]) if len(layers) > 1 else layers[0].weight.data
        self.width = len(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        biases = [layer.bias.data for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        for layer in () if kept else layers:
            layer.weight.data = layer.weight.new_empty(0)  # whoever would still run the module gets an error, never a number

    def __call__(self, inner: torch.Tensor) -> torch.Tensor:
        """``(..., inputs)`` to ``(..., outputs)``."""
        return torch.ops.mkldnn._linear_pointwise(inner, self.weight, self.bias, "none", [], "")
