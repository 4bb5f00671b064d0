"""The cache against models' own forward pass."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, MistralConfig, MistralModel, Qwen2Config, Qwen2Model

from tts.kv_cache import CachedModel

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
    cached, tokens = CachedModel(backbone, 3), torch.randint(50, (3, 20))
    expected = backbone(input_ids=tokens).last_hidden_state
    first = cached.extend(tokens[:, :7], torch.zeros(3, dtype=torch.int64))
    second = cached.extend(tokens[:, 7:], torch.full((3,), 7))
    assert torch.allclose(torch.cat([first, second], dim=1), expected, atol=1e-5)
