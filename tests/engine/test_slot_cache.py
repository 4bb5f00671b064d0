"""The cache against models' own forward pass."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel, Qwen2Config, Qwen2Model

from tts.engine.cached_model import CachedModel
from tts.engine.slot_cache import SlotCache

SHAPE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
SHAPE |= {"num_key_value_heads": 1}


@pytest.mark.parametrize(
    ("model", "config"),
    [
        pytest.param(LlamaModel, LlamaConfig(**SHAPE), id="every layer sees all"),
        pytest.param(MistralModel, MistralConfig(**SHAPE, sliding_window=5), id="every layer has a window"),
        pytest.param(Qwen2Model, Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=5, max_window_layers=1), id="the second has"),
    ],
)
def test_extending_equals_the_models_own_forward_pass(model, config):
    torch.manual_seed(0)
    backbone = model(config).eval()
    cached, tokens = CachedModel(backbone), torch.randint(50, (3, 20))
    cache = cached.cache(3)
    expected = backbone(input_ids=tokens).last_hidden_state
    first = cached.extend(cache, tokens[:, :7], torch.zeros(3, dtype=torch.int64), 0)
    second = cached.extend(cache, tokens[:, 7:], torch.full((3,), 7), 7)
    assert torch.allclose(torch.cat([first, second], dim=1), expected, atol=1e-5)


class SameDevice(TorchDispatchMode):
    """Refuses operations whose tensors lie on several devices, as a GPU does; "meta" stands for one."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        assert len(devices) < 2, f"{function} of tensors on {devices}"
        return function(*args, **(kwargs or {}))


def test_rows_are_copied_on_the_device_of_the_cache():
    cache = SlotCache(layers=1, slots=8, in_place=False)
    cache.held = torch.empty(1, 2, 8, 1, 128, 16, device="meta")
    with SameDevice():
        cache.copy_rows([4, 5], [0, 1], [30, 40])


@pytest.mark.parametrize("in_place", [True, False])
def test_copied_rows_hold_what_their_origins_held(in_place):
    cache, lengths = SlotCache(layers=2, slots=7, in_place=in_place), [1, 5, 2, 4]
    cache.held = torch.randn(2, 2, 7, 1, 128, 16)
    before = cache.held.clone()
    cache.copy_rows([3, 4, 5, 6], [1, 0, 2, 2], lengths)
    for origin, to, length in zip([3, 4, 6], [1, 0, 2], [1, 5, 4]):
        assert torch.equal(cache.held[:, :, to, :, :length], before[:, :, origin, :, :length])
    assert torch.equal(cache.held[:, :, 3:], before[:, :, 3:])
