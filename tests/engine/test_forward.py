"""The forward pass in few operations against transformers' own, and the cases that it leaves to that."""

from __future__ import annotations

import pytest
import torch
from shapes import SHAPE
from torch import nn
from transformers import (
    AutoModel,
    Gemma2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tts.engine import cpu_kernels
from tts.engine.cached_model import CachedModel
from tts.engine.llama_forward import supports
from tts.engine.packed import packs

WIDE = SHAPE | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50, "initializer_range": 0.3}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def made(name: str) -> nn.Module:
    torch.manual_seed(3)
    if name == "llama":
        model = LlamaForCausalLM(LlamaConfig(**WIDE))
    elif name == "llama 3":
        model = LlamaForCausalLM(LlamaConfig(**WIDE, rope_parameters=LLAMA3_ROPE))
    elif name == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**WIDE))
    else:
        model = MistralForCausalLM(MistralConfig(**WIDE, sliding_window=None))
    for parameter in model.parameters():  # norms of one and biases of zero would hide a mistake
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(params=["compiled", "torch"])
def operations(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    elif cpu_kernels.kernels() is None:
        pytest.skip("no C compiler here")
    return request.param


@pytest.mark.parametrize(("name", "fast"), [("llama", True), ("llama 3", True), ("qwen2", True), ("mistral", False)])
def test_sequences_extended_piece_by_piece_equal_the_whole_forward_pass(name, fast, operations):
    model = made(name)
    assert supports(model.base_model) == fast
    cached = CachedModel(model.base_model)
    assert cached.compiled == (fast and operations == "compiled")
    lengths = [5, 9, 40, 41, 100, 150, 7]
    whole = torch.randint(0, 50, (len(lengths), 170))
    with torch.inference_mode():
        expected = model.base_model(whole).last_hidden_state
    cache = cached.cache(len(lengths) + 1)
    start = torch.zeros(len(lengths), dtype=torch.int64)
    cached.extend(cache, whole[:, :150], start, 0)  # right-padded: what lies past a row's length is overwritten
    start += torch.tensor(lengths)
    for new in (1, 4, 1, 1):
        at = start[:, None] + torch.arange(new)
        hidden = cached.extend(cache, whole.gather(1, at), start, int(start.max()))
        reference = expected.gather(1, at[..., None].expand(-1, -1, expected.shape[-1]))
        torch.testing.assert_close(hidden, reference, atol=2e-4, rtol=2e-4)
        start += new


def test_the_modules_weights_are_views_of_the_joined_ones_and_compute_the_same():
    model = made("qwen2")
    tokens = torch.randint(0, 50, (2, 20))
    with torch.inference_mode():
        before = model(tokens).logits
        if not CachedModel(model.base_model).compiled:
            pytest.skip("no C compiler here")
        again = CachedModel(model.base_model)  # joined once more, as two engines on one model do
        torch.testing.assert_close(model(tokens).logits, before)
        torch.testing.assert_close(
            model.lm_head(again.extend(again.cache(2), tokens, torch.zeros(2, dtype=torch.int64), 0)), before, atol=2e-4, rtol=2e-4
        )
    attention = model.base_model.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()


@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral"])
@torch.inference_mode()
def test_in_bfloat16_weights_are_packed_and_rounding_is_all_that_differs(name):
    model, tokens = made(name).bfloat16(), torch.randint(0, 50, (3, 20))
    exact = made(name).bfloat16().float()  # the same weights
    expected, rounded = exact.base_model(tokens).last_hidden_state, model.base_model(tokens).last_hidden_state.float()
    cached = CachedModel(model.base_model)
    if not packs(exact.lm_head.weight.bfloat16()):
        pytest.skip("torch packs nothing here")
    hidden = cached.extend(cached.cache(3), tokens, torch.zeros(3, dtype=torch.int64), 0)
    assert hidden.dtype is torch.bfloat16
    error = (hidden.float() - expected).square().mean()
    assert error <= 1.2 * (rounded - expected).square().mean()  # no worse than the module's own
    linear = model.base_model.layers[0].mlp.down_proj
    assert not linear.weight.numel()  # held once
    if cached.compiled:
        with pytest.raises(RuntimeError):
            model.base_model(tokens)


@pytest.mark.parametrize("config", [Gemma2Config(**WIDE, sliding_window=16), MistralConfig(**WIDE, attn_implementation="eager")])
@torch.inference_mode()
def test_attention_that_adds_its_mask_sees_no_future(config):
    torch.manual_seed(3)
    model, tokens = AutoModel.from_config(config).eval(), torch.randint(0, 50, (2, 40))
    assert model.config._attn_implementation == "eager"
    cached, start = CachedModel(model), torch.zeros(2, dtype=torch.int64)
    cache = cached.cache(3)
    hidden = [cached.extend(cache, tokens[:, :30], start, 0)]
    hidden += [cached.extend(cache, tokens[:, at : at + 1], start + at, at) for at in range(30, 40)]
    torch.testing.assert_close(torch.cat(hidden, 1), model(tokens).last_hidden_state, atol=2e-4, rtol=2e-4)


def test_attention_that_takes_no_mask_is_refused():
    model = made("llama").base_model
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash_attention_2 does not take; load the model with sdpa"):
        CachedModel(model)


class Adapter(nn.Linear):
    """A linear layer that does something else too, as LoRA's do."""


def test_what_it_does_not_know_is_left_to_the_module():
    sliding = Qwen2Config(**WIDE, use_sliding_window=True, sliding_window=16, max_window_layers=0)
    assert not supports(Qwen2ForCausalLM(sliding).base_model)
    dynamic = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    assert not supports(LlamaForCausalLM(LlamaConfig(**WIDE, rope_parameters=dynamic)).base_model)
    assert not supports(LlamaForCausalLM(LlamaConfig(**WIDE, attention_bias=True)).base_model)
    adapted = made("llama")
    assert supports(adapted.base_model)
    adapted.base_model.layers[1].mlp.up_proj = Adapter(SHAPE["hidden_size"], SHAPE["intermediate_size"], bias=False)
    assert not supports(adapted.base_model)
