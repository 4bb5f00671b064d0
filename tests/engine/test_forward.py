"""The forward pass in few operations against transformers' own, and the cases that it leaves to that."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPE
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tts.engine import cpu_kernels, slot_cache
from tts.engine.cached_model import CachedModel
from tts.engine.llama_forward import supports
from tts.engine.slot_cache import positions_read, sorted_moves, spans_of
from tts.policies.transformers import TransformersPolicy
from tts.search import sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling

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
def test_sequences_extended_piece_by_piece_equal_the_whole_forward_pass(name, fast, operations, monkeypatch):
    monkeypatch.setattr(slot_cache, "BLOCK", 3)  # several spans of rows
    model = made(name)
    assert supports(model.base_model) == fast
    assert CachedModel(model.base_model, 1).ragged == (fast and operations == "compiled")
    lengths = [5, 9, 40, 41, 100, 150, 7]
    whole = torch.randint(0, 50, (len(lengths), 170))
    with torch.inference_mode():
        expected = model.base_model(whole).last_hidden_state
    cached = CachedModel(model.base_model, len(lengths) + 1)
    start = torch.zeros(len(lengths), dtype=torch.int64)
    cached.extend(whole[:, :150], start)  # right-padded: what lies past a row's length is overwritten
    start += torch.tensor(lengths)
    for new in (1, 4, 1, 1):
        at = start[:, None] + torch.arange(new)
        hidden = cached.extend(whole.gather(1, at), start)
        reference = expected.gather(1, at[..., None].expand(-1, -1, expected.shape[-1]))
        torch.testing.assert_close(hidden, reference, atol=2e-4, rtol=2e-4)
        start += new


def test_the_modules_weights_are_views_of_the_joined_ones_and_compute_the_same():
    model = made("qwen2")
    tokens = torch.randint(0, 50, (2, 20))
    with torch.inference_mode():
        before = model(tokens).logits
        CachedModel(model.base_model, 2)
        again = CachedModel(model.base_model, 2)  # joined once more, as two engines on one model do
        torch.testing.assert_close(model(tokens).logits, before)
        torch.testing.assert_close(model.lm_head(again.extend(tokens, torch.zeros(2, dtype=torch.int64))), before, atol=2e-4, rtol=2e-4)
    attention = model.base_model.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()


class Adapter(nn.Linear):
    """A linear layer that does something else too, as LoRA's do."""


def test_what_it_does_not_know_is_left_to_the_module():
    sliding = Qwen2Config(**WIDE, use_sliding_window=True, sliding_window=16, max_window_layers=0)
    assert not supports(Qwen2ForCausalLM(sliding).base_model)
    dynamic = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
    assert not supports(LlamaForCausalLM(LlamaConfig(**WIDE, rope_parameters=dynamic)).base_model)
    assert not supports(LlamaForCausalLM(LlamaConfig(**WIDE, attention_bias=True)).base_model)
    adapted = made("llama")
    adapted.base_model.layers[1].mlp.up_proj = Adapter(SHAPE["hidden_size"], SHAPE["intermediate_size"], bias=False)
    assert not supports(adapted.base_model)


def test_neighbours_of_like_length_are_one_span(monkeypatch):
    monkeypatch.setattr(slot_cache, "BLOCK", 2)
    lengths = [1, 32, 3, 20, 70, 2, 5]
    assert [(s.first, s.stop, s.window) for s in spans_of(lengths)] == [(0, 4, 32), (4, 6, 70), (6, 7, 5)]
    assert positions_read(lengths) == 4 * 32 + 2 * 70 + 5


@given(st.lists(st.integers(0, 9), max_size=20))
def test_sorted_moves_put_rows_of_like_length_together_and_move_no_others(lengths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot_cache, "BLOCK", 3)
        moves = sorted_moves(lengths)
    origin, to = zip(*moves) if moves else ((), ())
    assert sorted(origin) == sorted(to) and len(set(origin)) == len(origin)
    moved = list(lengths)
    for source, target in moves:
        assert source // 3 != target // 3
        moved[target] = lengths[source]
    assert [length for at in range(0, len(moved), 3) for length in sorted(moved[at : at + 3])] == sorted(lengths)


@settings(deadline=None)
@given(st.permutations(range(7)), st.permutations(range(7)), st.integers(0, 7))
@pytest.mark.slow
def test_moved_rows_hold_what_their_origins_held(origin, to, count):
    cached = CachedModel(LlamaModel(LlamaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)), slots=7)
    cached.extend(torch.arange(7 * 5).view(7, 5) % 9, torch.zeros(7, dtype=torch.int64))
    lengths = [1, 5, 2, 4, 3, 5, 1]
    before = cached.cache.held.clone()
    origin, to = origin[:count], to[:count]
    with torch.inference_mode():
        cached.move(origin, to, [lengths[row] for row in origin])
    for row in range(7):
        source = dict(zip(to, origin)).get(row, row)
        assert torch.equal(cached.cache.held[:, :, row, :, : lengths[source]], before[:, :, source, :, : lengths[source]])


def test_sorting_rows_by_length_changes_no_sample(tiny_lm, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)  # torch's operations are what rows are sorted for
    sampling = Sampling(temperature=1.0, max_tokens=60, seed=5)

    def pools(policy):
        roots = [policy.root(f"p{i}", text) for i, text in enumerate(["7,+8=?", "1" * 90, "47,+38,*3=?", "2" * 60])]
        return [[c.tokens for c in o.trajectories] for o in Driver(policy).run([(root, sample_pool(root, 9)) for root in roots])]

    expected = pools(TransformersPolicy(str(tiny_lm), sampling, batch=40))
    monkeypatch.setattr(slot_cache, "BLOCK", 2)
    policy, sorted_rows = TransformersPolicy(str(tiny_lm), sampling, batch=12), []
    move = policy.cached.move
    monkeypatch.setattr(policy.cached, "move", lambda origin, *rest: (sorted_rows.append(len(origin)), move(origin, *rest)))
    assert pools(policy) == expected
    assert any(count > 6 for count in sorted_rows), "no run of rows was ever sorted"
