"""The compiled operations against torch's, and what happens where they cannot be compiled."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPE
from transformers import LlamaConfig, LlamaForCausalLM

from tts.engine import cpu_kernels
from tts.engine.cached_model import CachedModel
from tts.engine.drawing import choose, draw, uniforms
from tts.engine.llama_forward import LlamaForward
from tts.engine.slot_cache import Shared, SlotCache, State

LENGTHS = st.lists(st.integers(0, 90), min_size=1)
PAIRS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1)
compiled = pytest.mark.skipif(cpu_kernels.kernels() is None, reason="no C compiler here")
seeds = st.integers(0, 1 << 30)
rows_of_samples = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def normal(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention(seed: int, size: int, kv_heads: int, group: int, lengths: list[int], new: int, layers: int = 1):
    """A forward pass over a cache of random keys and values, and random queries, keys and values to be added."""
    config = LlamaConfig(
        **SHAPE
        | {"hidden_size": 72, "head_dim": size, "num_attention_heads": kv_heads * group, "num_key_value_heads": kv_heads, "vocab_size": 8}
    )
    forward = LlamaForward(LlamaForCausalLM(config).base_model)
    positions = torch.tensor(lengths)[:, None] + torch.arange(new)
    cache = SlotCache(layers, len(lengths) + 1)
    cache.prepare(positions)
    cache.reserve(cache.window, kv_heads, size, like=torch.empty(0))
    cache.held.copy_(normal(seed, *cache.held.shape))
    for row, length in enumerate(lengths):
        cache.held[:, :, row, :, length:] *= 1e3  # what lies past a row must not count
    qkv = normal(seed + 1, len(lengths) * new, (group + 2) * kv_heads * size)
    return forward, positions, cache, qkv


@compiled
@settings(deadline=None, max_examples=40)
@given(
    seeds,
    st.sampled_from(cpu_kernels.SIZES),
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.integers(0, 90), min_size=1),
    st.integers(1, 9),
)
@pytest.mark.slow
def test_attention_and_what_it_writes_equal_torchs(seed, size, kv_heads, group, lengths, new):
    forward, positions, cache, qkv = attention(seed, size, kv_heads, group, lengths, new)
    angles, before = forward._angles(cache.window), cache.held.clone()
    expected = forward._attention(positions, angles, cache)(0, qkv)
    written, cache.held = cache.held, before
    torch.testing.assert_close(forward._compiled_attention(positions, angles, cache)(0, qkv), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cache.held, written, atol=1e-6, rtol=1e-5)


@compiled
@settings(deadline=None, max_examples=20)
@given(seeds, LENGTHS, st.integers(1, 4))
def test_a_rows_attention_does_not_depend_on_the_others(seed, lengths, new):
    forward, positions, cache, qkv = attention(seed, 32, 2, 2, lengths, new)
    angles, held = forward._angles(cache.window), cache.held.clone()
    together = forward._compiled_attention(positions, angles, cache)(0, qkv).view(len(lengths), new, -1)
    for row in range(len(lengths)):
        alone = held[0][:, row : row + 1].clone()
        nothing = Shared(1)
        hidden = forward.kernels.attend(
            qkv.view(len(lengths), -1)[row].view(new, -1), angles, positions[row : row + 1], alone, nothing.address, 0
        )
        assert torch.equal(hidden, together[row])
        assert torch.equal(alone, cache.held[0][:, row : row + 1])


@compiled
@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from(cpu_kernels.SIZES), PAIRS, st.integers(1, 4), st.integers(1, 5))
@pytest.mark.slow
def test_what_rows_share_is_read_in_place_to_the_last_bit(seed, size, rows, new, parts):
    lengths = [max(row) for row in rows]
    forward, positions, cache, qkv = attention(seed, size, 2, 2, lengths, new, layers=2)
    angles = forward._angles(cache.window)
    expected = forward._compiled_attention(positions, angles, cache)(1, qkv)
    for row, (one, other) in enumerate(rows):
        shared, longest = min(one, other), max(one, other)
        if shared:
            cache.shared.put([row], [in_parts(cache.slot(row, longest).clone(), parts)], [shared])
            cache.slot(row, shared).fill_(1e3)
    assert torch.equal(forward._compiled_attention(positions, angles, cache)(1, qkv), expected)


def in_parts(held: torch.Tensor, count: int) -> State:
    """A state of these positions, forked up to ``count - 1`` times, each time from before the end of what is held."""
    length, state = held.shape[3], None
    for part in range(count):
        start, stop = part * length // count, (part + 1) * length // count
        beyond = held.new_full((*held.shape[:3], 2, held.shape[4]), 1e3)
        state = State.going_on(state, start, torch.cat([held[:, :, :, start:stop], *[beyond] * (part < count - 1)], 3))
    assert state.length == length
    return state


def held_by(state: State) -> torch.Tensor:
    """All positions of a state, end to end."""
    assert [part.first for part in state.parts] == [0, *(part.stop for part in state.parts[:-1])]
    assert all(part.held.is_contiguous() for part in state.parts)
    return torch.cat([part.held[:, :, :, : part.stop - part.first] for part in state.parts], 3)


@compiled
@torch.inference_mode()
def test_forks_of_a_parked_sequence_go_on_like_it_and_may_be_moved_and_parked():
    torch.manual_seed(5)
    backbone = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50, initializer_range=0.3)).base_model
    cached, tokens = CachedModel(backbone, 6), torch.randint(50, (1, 60))
    at = lambda position: torch.full((1,), position)  # noqa: E731
    whole = CachedModel(backbone, 1)
    expected = torch.cat([whole.extend(tokens[:, i : i + 1], at(i)) for i in range(60)], 1)
    cached.extend(tokens[:, :1], at(0))
    for i in range(1, 20):
        cached.extend(tokens[:, i : i + 1], at(i))
    cached.load([1, 4, 5], cached.park(0, 20))
    cached.load([0, 2], cached.park(4, 20), 15)  # a fork of a fork that has not gone on, and only its beginning
    cached.move([5, 2], [3, 1], [20, 15])
    starts = [15, 15, 15, 20, 20]
    for step in range(20):
        start = torch.tensor(starts) + step
        new = tokens[0, start][:, None]
        hidden = cached.extend(new, start)
        for row in (0, 1, 3, 4):
            torch.testing.assert_close(hidden[row], expected[0, start[row]][None], atol=1e-4, rtol=1e-4)
    again = cached.park(3, 38)
    cached.load([2], None)
    torch.testing.assert_close(held_by(again), held_by(whole.park(0, 38)), atol=1e-4, rtol=1e-4)
    assert [(part.first, part.stop) for part in again.parts] == [(0, 20), (20, 38)]
    cached.load([0], again)
    hidden = cached.extend(tokens[:, 38:40], at(38))
    torch.testing.assert_close(hidden, expected[:, 38:40], atol=1e-4, rtol=1e-4)


POSITIONS = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))


@compiled
@settings(deadline=None)
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.lists(POSITIONS, min_size=1, max_size=4))
def test_what_is_parked_is_what_the_rows_hold(seed, layers, heads, wanted):
    held = normal(seed, layers, 2, 4, heads, 9, 16)
    rows, ones, others = zip(*wanted)
    starts, stops = list(map(min, ones, others)), list(map(max, ones, others))
    copies = cpu_kernels.kernels().park(held, rows, starts, stops)
    expected = [held[:, :, row, :, start:stop] for row, start, stop in zip(rows, starts, stops)]
    assert len(copies) == len(expected) and all(map(torch.equal, copies, expected))


@compiled
@pytest.mark.parametrize(("row", "start", "stop"), [(4, 0, 5), (-1, 0, 5), (1, 0, 10), (1, 6, 5), (1, -1, 5)])
def test_what_a_cache_does_not_hold_is_not_parked(row, start, stop):
    with pytest.raises(ValueError, match="a cache of 4 rows and 9 positions has not"):
        cpu_kernels.kernels().park(torch.zeros(1, 2, 4, 1, 9, 16), [0, row], [0, start], [9, stop])


@compiled
@torch.inference_mode()
def test_rows_let_go_of_what_was_parked():
    backbone = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50)).base_model
    cached = CachedModel(backbone, 4)
    cached.extend(torch.zeros(4, 9, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    state = cached.park(1, 9)
    gone = weakref.ref(state)
    cached.load([0, 3], state)
    del state
    cached.move([3], [2], [9])
    cached.load([0, 3], None)
    assert gone() is not None
    cached.load([2], None)
    assert gone() is None


@compiled
def test_threads_share_the_rows_and_change_nothing(monkeypatch):
    forward, positions, cache, qkv = attention(3, 64, 2, 4, list(range(40, 77)), 4)
    angles, before = forward._angles(cache.window), cache.held.clone()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = forward._compiled_attention(positions, angles, cache)(0, qkv)
    cache.held = before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    used, attend = set(), forward.kernels._attend
    monkeypatch.setattr(forward.kernels, "_attend", lambda *given: (used.add(given[2:]), attend(*given))[1])
    monkeypatch.setattr(forward.kernels, "_threads", None)
    assert torch.equal(forward._compiled_attention(positions, angles, cache)(0, qkv), alone)
    assert sorted(used) == [(0, 12), (12, 24), (24, 37)]
    forward.kernels._threads.shutdown()


@compiled
@settings(deadline=None)
@given(seeds, st.integers(1, 5), st.integers(1, 70), st.sampled_from([1e-4, 1.0, 30.0, 1e4]))
def test_norm_and_gate_equal_torchs(seed, rows, width, scale):
    kernels = cpu_kernels.kernels()
    hidden, weight = normal(seed, rows, width, scale=scale), normal(seed + 1, width)
    torch.testing.assert_close(kernels.norm(hidden, weight, 1e-5), F.rms_norm(hidden, (width,), weight, 1e-5), atol=1e-5, rtol=1e-5)
    gate_up = normal(seed, rows, 2 * width, scale=scale)
    gate, up = gate_up.chunk(2, -1)
    torch.testing.assert_close(kernels.gate(gate_up), F.silu(gate) * up, atol=1e-6, rtol=1e-5)


@compiled
@settings(deadline=None)
@given(seeds, rows_of_samples, st.integers(1, 100), st.sampled_from([0.1, 0.7, 1.0, 2.0]), st.sampled_from([0.1, 3.0, 100.0]))
def test_drawn_tokens_are_torchs_but_where_rounding_decides(seed, rows, vocabulary, temperature, scale):
    rows, positions = torch.tensor(sorted(rows)), torch.arange(len(rows))
    logits, keys = normal(seed, 41, vocabulary, scale=scale), torch.full((len(rows),), seed * 7919 - (1 << 40))
    tokens = draw(logits, rows, keys, positions, temperature, 1.0)
    noise = uniforms(keys, positions)
    above = (logits.double() / temperature).softmax(-1).cumsum(-1)[rows]
    below = F.pad(above, (1, 0))[:, :-1]
    assert (below.gather(1, tokens[:, None])[:, 0] <= noise + 1e-5).all() and (above.gather(1, tokens[:, None])[:, 0] >= noise - 1e-5).all()
    near = ((above - noise[:, None]).abs() < 1e-5).any(-1)
    assert torch.equal(tokens[~near], choose(logits, rows, noise, temperature, 1.0)[~near])


@compiled
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 20)), min_size=1, max_size=20))
def test_noise_is_the_same_to_the_last_bit_that_a_flat_distribution_shows(drawn):
    keys, positions = (torch.tensor(column) for column in zip(*drawn))
    tokens = draw(torch.zeros(1, 1 << 16), torch.zeros_like(keys), keys, positions, 1.0, 1.0)
    assert torch.equal(tokens, (uniforms(keys, positions) * (1 << 16)).long())


@compiled
@pytest.mark.parametrize("never", [-1000.0, -float("inf")])
def test_a_token_without_weight_is_never_drawn(never):
    key = torch.tensor([7046029254386353131])  # whose noise at 0 is 0
    assert uniforms(key, torch.tensor([0])).item() == 0
    assert draw(torch.tensor([[never, 0.0, 1.0]]), torch.tensor([0]), key, torch.tensor([0]), 1.0, 1.0).tolist() == [1]


@compiled
@pytest.mark.parametrize("broken", [[float("nan"), 0.0], [0.0, float("nan")], [0.0, float("inf")], [-float("inf")] * 2])
def test_logits_that_are_no_numbers_are_refused(broken):
    one = torch.tensor([1])
    with pytest.raises(ValueError, match="logits are NaN or infinite"):
        draw(torch.tensor([broken]), torch.tensor([0]), one, one, 1.0, 1.0)


@compiled
def test_numbers_of_another_format_never_reach_c():
    kernels, hidden = cpu_kernels.kernels(), torch.ones(2, 8)
    for wrong, weight in ((hidden.bfloat16(), hidden[0]), (hidden, hidden[0].double()), (torch.ones(8, 2).T, hidden[0])):
        with pytest.raises(TypeError, match="compiled operations take contiguous torch.float32 on the CPU"):
            kernels.norm(wrong, weight, 1e-5)


@compiled
def test_a_state_of_another_model_is_refused():
    configs = (LlamaConfig(**SHAPE | {"vocab_size": 8, "head_dim": size}) for size in (32, 64))
    mine, other = (CachedModel(LlamaForCausalLM(config).base_model, 2) for config in configs)
    for cached in (mine, other):
        cached.extend(torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="parked by another model"):
        mine.load([0], other.park(0, 5))


@compiled
def test_a_row_that_starts_again_within_what_it_shares_reads_its_own():
    torch.manual_seed(2)
    backbone = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50, initializer_range=0.3)).base_model
    cached, tokens = CachedModel(backbone, 2), torch.randint(50, (2, 12))
    expected = CachedModel(backbone, 2).extend(tokens, torch.zeros(2, dtype=torch.int64))
    cached.extend(torch.cat([tokens[:, :6], tokens[:, :6]], 1), torch.zeros(2, dtype=torch.int64))
    cached.load([0], cached.park(0, 12))
    torch.testing.assert_close(cached.extend(tokens[:, 6:], torch.full((2,), 6)), expected[:, 6:], atol=1e-4, rtol=1e-4)


def test_what_is_not_compiled_is_left_to_torch(monkeypatch):
    def used(**changed) -> bool:
        model = LlamaForCausalLM(LlamaConfig(**SHAPE | {"vocab_size": 8} | changed))
        return CachedModel(model.base_model, 2).ragged

    assert used() == (cpu_kernels.kernels() is not None)
    assert not used(head_dim=24)
    assert not used(hidden_act="gelu")
    assert not used(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 0.5})
    assert not used(hidden_size=36, num_attention_heads=3, num_key_value_heads=2)
    mixed = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=8))
    mixed.base_model.norm.to(torch.bfloat16)
    assert not CachedModel(mixed.base_model, 2).ragged
    half = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=8)).to(torch.bfloat16)
    assert not CachedModel(half.base_model, 2).ragged
    monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    assert not used()


@pytest.fixture
def anew(monkeypatch, tmp_path):
    """Compiling as on a machine where it was never done."""
    source = tmp_path / "package" / "cpu_kernels.c"
    source.parent.mkdir()
    shutil.copy(cpu_kernels._SOURCE, source)
    monkeypatch.setattr(cpu_kernels, "_SOURCE", source)
    monkeypatch.setattr(cpu_kernels, "_BESIDE", source.parent / "__pycache__")
    return cpu_kernels.kernels.__wrapped__


def test_without_a_compiler_or_switched_off_there_are_none_and_nothing_is_said(anew, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        patched.setenv("TTS_CPU_KERNELS", "0")
        assert anew() is None
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert anew() is None
    assert not caplog.records


def test_a_compiler_that_fails_is_named(anew, monkeypatch, caplog):
    monkeypatch.setenv("CC", f"{sys.executable} -c raise(SystemExit('no-such-flag'))")
    with caplog.at_level(logging.WARNING):
        assert anew() is None
    assert sys.executable in caplog.text and "no-such-flag" in caplog.text and "slower" in caplog.text
    monkeypatch.setenv("CC", "no-such-compiler")
    assert anew() is None
    assert "no-such-compiler" in caplog.text


@compiled
@pytest.mark.slow
def test_several_may_compile_at_a_time_and_one_result_is_kept(anew, monkeypatch):
    runs, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: (runs.append(given), run(*given, **named))[1])
    made = []
    threads = [threading.Thread(target=lambda: made.append(anew())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3 and None not in made
    [library] = (cpu_kernels._SOURCE.parent / "__pycache__").iterdir()
    assert library.suffix == ".so"
    compiled_before = len(runs)
    assert anew() is not None
    assert len(runs) == compiled_before


@compiled
@pytest.mark.slow
def test_a_damaged_library_is_compiled_anew(anew):
    folder = cpu_kernels._SOURCE.parent / "__pycache__"
    folder.mkdir()
    assert anew() is not None
    [library] = folder.iterdir()
    whole = library.read_bytes()
    library.unlink()  # what is loaded stays as it is
    library.write_bytes(whole[: len(whole) // 2])
    assert anew() is not None
    assert library.read_bytes() == whole


@compiled
@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_left_alone(anew, monkeypatch):
    monkeypatch.setattr(cpu_kernels.os, "access", lambda path, mode: Path(path).name != "__pycache__")
    assert anew() is not None
    assert not list((cpu_kernels._SOURCE.parent / "__pycache__").iterdir())
