"""The compiled operations against torch's, and what happens where they cannot be compiled."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import SHAPE
from transformers import LlamaConfig, LlamaForCausalLM

from tts.engine import cpu_kernels
from tts.engine.cached_model import CachedModel
from tts.engine.slot_cache import SHARED, SlotCache, State

LENGTHS = st.lists(st.integers(0, 90), min_size=1)
PAIRS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1)
compiled = pytest.mark.skipif(cpu_kernels.kernels() is None, reason="no C compiler here")
seeds = st.integers(0, 1 << 30)


def normal(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Attention:
    """A layer's attention over a cache of random keys and values, and random queries, keys and values to be added."""

    def __init__(self, seed: int, size: int, kv_heads: int, group: int, lengths: list[int], new: int, layers: int = 1):
        self.positions, self.size, self.heads = torch.tensor(lengths)[:, None] + torch.arange(new), size, kv_heads * group
        self.cache = SlotCache(layers, len(lengths) + 1, in_place=True)
        self.cache.prepare(self.positions, max(lengths) + new)
        self.cache.reserve(self.cache.window, kv_heads, size, like=torch.empty(0))
        self.cache.held.copy_(normal(seed, *self.cache.held.shape))
        for row, length in enumerate(lengths):
            self.cache.held[:, :, row, :, length:] *= 1e3  # what lies past a row must not count
        self.qkv = normal(seed + 1, len(lengths) * new, (group + 2) * kv_heads * size)
        turns = torch.arange(self.cache.window)[:, None] * 1e4 ** -(torch.arange(size // 2) / (size / 2))
        self.angles = torch.cat([turns.cos(), turns.cos(), -turns.sin(), turns.sin()], 1)

    def compiled(self, layer: int = 0) -> torch.Tensor:
        held, shared = self.cache.held[layer], self.cache.shared.ctypes.data
        return cpu_kernels.kernels().attend(self.qkv, self.angles, self.positions, held, shared, layer)

    def by_torch(self) -> torch.Tensor:
        (rows, new), size, held = self.positions.shape, self.size, self.cache.held
        qkv = self.qkv.view(rows, new, -1, size)
        cos, sin = self.angles[self.positions][:, :, None].split(size, -1)
        kv_heads = held.shape[3]
        rotated = qkv[:, :, :-kv_heads]
        rotated = rotated * cos + rotated.roll(size // 2, -1) * sin
        keys, values = self.cache.update(rotated[:, :, self.heads :].transpose(1, 2), qkv[:, :, -kv_heads:].transpose(1, 2), 0)
        visible = torch.arange(self.cache.window) <= self.positions[:, None, :, None]
        queries = rotated[:, :, : self.heads].transpose(1, 2)
        return F.scaled_dot_product_attention(queries, keys, values, visible, enable_gqa=True).transpose(1, 2).reshape(rows * new, -1)


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
    work = Attention(seed, size, kv_heads, group, lengths, new)
    before = work.cache.held.clone()
    expected = work.by_torch()
    written, work.cache.held = work.cache.held, before
    torch.testing.assert_close(work.compiled(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(work.cache.held, written, atol=1e-6, rtol=1e-5)


@compiled
@settings(deadline=None, max_examples=20)
@given(seeds, LENGTHS, st.integers(1, 4))
def test_a_rows_attention_does_not_depend_on_the_others(seed, lengths, new):
    work = Attention(seed, 32, 2, 2, lengths, new)
    held, nothing = work.cache.held.clone(), np.zeros(1, dtype=SHARED)
    together = work.compiled().view(len(lengths), new, -1)
    for row in range(len(lengths)):
        alone = held[0][:, row : row + 1].clone()
        qkv = work.qkv.view(len(lengths), -1)[row].view(new, -1)
        hidden = cpu_kernels.kernels().attend(qkv, work.angles, work.positions[row : row + 1], alone, nothing.ctypes.data, 0)
        assert torch.equal(hidden, together[row])
        assert torch.equal(alone, work.cache.held[0][:, row : row + 1])


@compiled
@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from(cpu_kernels.SIZES), PAIRS, st.integers(1, 4), st.integers(1, 5))
@pytest.mark.slow
def test_what_rows_share_is_read_in_place_to_the_last_bit(seed, size, rows, new, parts):
    lengths = [max(row) for row in rows]
    work = Attention(seed, size, 2, 2, lengths, new, layers=2)
    cache, expected = work.cache, work.compiled(1)
    for row, (one, other) in enumerate(rows):
        shared, longest = min(one, other), max(one, other)
        if shared:
            cache.load([row], [in_parts(cache.held[:, :, row, :, :longest].clone(), parts)], [shared])
            cache.held[:, :, row, :, :shared] = 1e3
    assert torch.equal(work.compiled(1), expected)


def in_parts(held: torch.Tensor, count: int) -> State:
    """A state of these positions, forked up to ``count - 1`` times, each time from before the end of what is held."""
    length, state = held.shape[3], None
    for part in range(count):
        start, stop = part * length // count, (part + 1) * length // count
        beyond = held.new_full((*held.shape[:3], 2, held.shape[4]), 1e3)
        state = State(state, start, torch.cat([held[:, :, :, start:stop], *[beyond] * (part < count - 1)], 3))
    assert state.parts[-1].stop == length
    return state


def held_by(state: State) -> torch.Tensor:
    """All positions of a state, end to end."""
    assert [part.first for part in state.parts] == [0, *(part.stop for part in state.parts[:-1])]
    assert all(part.held.is_contiguous() for part in state.parts)
    return torch.cat([part.held[:, :, :, : part.stop - part.first] for part in state.parts], 3)


@pytest.mark.parametrize("in_place", [pytest.param(True, marks=compiled), False])
@torch.inference_mode()
def test_forks_of_a_parked_sequence_go_on_like_it_and_may_be_copied_and_parked(in_place, monkeypatch):
    torch.manual_seed(5)
    if not in_place:
        monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    model = CachedModel(LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50, initializer_range=0.3)).base_model)
    cache, tokens = model.cache(6), torch.randint(50, (1, 60))
    at = lambda position: (torch.full((1,), position), position)  # noqa: E731
    whole = model.cache(1)
    expected = torch.cat([model.extend(whole, tokens[:, i : i + 1], *at(i)) for i in range(60)], 1)
    model.extend(cache, tokens[:, :1], *at(0))
    for i in range(1, 20):
        model.extend(cache, tokens[:, i : i + 1], *at(i))
    cache.load([1, 4, 5], [cache.park(0, 20)] * 3, [20] * 3)
    cache.load([0, 2], [cache.park(4, 20)] * 2, [15] * 2)  # a fork of a fork that has not gone on, and only its beginning
    cache.copy_rows([5], [3], [20])
    cache.copy_rows([2], [1], [15])
    starts = [15, 15, 15, 20, 20]
    for step in range(20):
        start = torch.tensor(starts) + step
        hidden = model.extend(cache, tokens[0, start][:, None], start, int(start.max()))
        for row in (0, 1, 3, 4):
            torch.testing.assert_close(hidden[row], expected[0, start[row]][None], atol=1e-4, rtol=1e-4)
    again = cache.park(3, 38)
    cache.load([2], [None], [0])
    torch.testing.assert_close(held_by(again), held_by(whole.park(0, 38)), atol=1e-4, rtol=1e-4)
    assert [(part.first, part.stop) for part in again.parts] == [(0, 20), (20, 38)]
    cache.load([0], [again], [38])
    torch.testing.assert_close(model.extend(cache, tokens[:, 38:40], *at(38)), expected[:, 38:40], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_rows_let_go_of_what_was_parked():
    model = CachedModel(LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=50)).base_model)
    cache = model.cache(4)
    model.extend(cache, torch.zeros(4, 9, dtype=torch.int64), torch.zeros(4, dtype=torch.int64), 0)
    state = cache.park(1, 9)
    gone = weakref.ref(state)
    cache.load([0, 3], [state] * 2, [9] * 2)
    del state
    cache.copy_rows([3], [2], [9])
    cache.load([0, 3], [None] * 2, [0] * 2)
    assert gone() is not None
    cache.load([2], [None], [0])
    assert gone() is None


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
@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from(cpu_kernels.SIZES), st.integers(1, 3), LENGTHS, st.integers(1, 5))
def test_in_bfloat16_only_what_is_written_is_rounded(seed, size, group, lengths, new):
    work = Attention(seed, size, 2, group, lengths, new)
    work.cache.held, work.qkv = work.cache.held.bfloat16().float(), work.qkv.bfloat16().float()
    brief = work.cache.held.bfloat16()
    expected = work.compiled().bfloat16()
    written, work.cache.held, work.qkv = work.cache.held, brief, work.qkv.bfloat16()
    # The keys of new tokens are rounded before they are attended to, so sums differ by what that may change.
    torch.testing.assert_close(work.compiled().float(), expected.float(), atol=0.02, rtol=0.02)
    assert torch.equal(brief, written.bfloat16())


@compiled
@settings(deadline=None)
@given(seeds, st.integers(1, 5), st.integers(1, 9), st.sampled_from([1e-4, 1.0, 30.0]))
def test_norm_and_gate_in_bfloat16_are_those_in_float32_rounded_as_torch_rounds(seed, rows, eighths, scale):
    kernels, width = cpu_kernels.kernels(), 8 * eighths
    hidden, weight = normal(seed, rows, width, scale=scale), normal(seed + 1, width).bfloat16()
    assert torch.equal(kernels.norm(hidden, weight, 1e-5), kernels.norm(hidden, weight.float(), 1e-5).bfloat16())
    gate_up = normal(seed, rows, 2 * width, scale=scale).bfloat16()
    assert torch.equal(kernels.gate(gate_up), kernels.gate(gate_up.float()).bfloat16())


@compiled
def test_numbers_of_another_format_never_reach_c():
    kernels, hidden = cpu_kernels.kernels(), torch.ones(2, 8)
    for wrong, weight in ((hidden.bfloat16(), hidden[0]), (hidden, hidden[0].double()), (torch.ones(8, 2).T, hidden[0])):
        with pytest.raises(TypeError, match="compiled operations take contiguous torch.float32 .*on the CPU"):
            kernels.norm(wrong, weight, 1e-5)
    with pytest.raises(TypeError, match="multiple of eight numbers; given 7"):
        kernels.norm(torch.ones(2, 7), torch.ones(7, dtype=torch.bfloat16), 1e-5)
    with pytest.raises(TypeError, match="multiple of eight numbers; given 7"):
        kernels.draw(torch.ones(2, 7), torch.tensor([0]), torch.zeros(1, dtype=torch.float64), 1.0)
    with pytest.raises(TypeError, match="contiguous torch.float64 on the CPU; given torch.float32"):
        kernels.draw(torch.ones(2, 8), torch.tensor([0]), torch.zeros(1), 1.0)
    with pytest.raises(TypeError, match="a number for each sample; given 1 for 2"):
        kernels.draw(torch.ones(2, 8), torch.tensor([0, 1]), torch.zeros(1, dtype=torch.float64), 1.0)
    work = Attention(0, 16, 1, 1, [3], 1)
    work.qkv = work.qkv.bfloat16()
    with pytest.raises(TypeError, match="contiguous torch.bfloat16 on the CPU; given torch.float32"):  # the cache
        work.compiled()


def test_a_state_of_another_model_is_refused():
    mine, other = (SlotCache(layers=2, slots=2, in_place=True) for _ in range(2))
    mine.held, other.held = torch.zeros(2, 2, 2, 1, 128, 32), torch.zeros(2, 2, 2, 1, 128, 64)
    with pytest.raises(ValueError, match="parked by another model"):
        mine.load([0], [other.park(0, 5)], [5])


def test_what_is_not_compiled_is_left_to_the_module(monkeypatch):
    def used(**changed) -> bool:
        model = LlamaForCausalLM(LlamaConfig(**SHAPE | {"vocab_size": 8} | changed))
        return CachedModel(model.base_model).compiled

    assert used() == (cpu_kernels.kernels() is not None)
    assert not used(head_dim=24)
    assert not used(hidden_act="gelu")
    assert not used(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 0.5})
    assert not used(hidden_size=36, num_attention_heads=3, num_key_value_heads=2)
    mixed = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=8))
    mixed.base_model.norm.to(torch.bfloat16)
    assert not CachedModel(mixed.base_model).compiled
    double = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=8)).double()
    assert not CachedModel(double.base_model).compiled
    uneven = LlamaForCausalLM(LlamaConfig(**SHAPE | {"intermediate_size": 36}, vocab_size=8)).to(torch.bfloat16)
    assert not CachedModel(uneven.base_model).compiled
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
def test_a_compiler_without_openmp_gives_the_same_on_one_thread(anew, monkeypatch, tmp_path):
    work = Attention(5, 32, 2, 2, [3, 70, 41, 0, 12], 2)
    hidden, weight, gate_up, logits = normal(6, 5, 24), normal(7, 24), normal(8, 5, 48), normal(9, 5, 600)
    of, uniform = torch.tensor([0, 1, 1, 3, 4, 4]), torch.rand(6, dtype=torch.float64)

    def everything():
        kernels = cpu_kernels.kernels()
        drawn = kernels.draw(logits, of, uniform, 0.7)
        return [work.compiled(), kernels.norm(hidden, weight, 1e-5), kernels.gate(gate_up), drawn]

    monkeypatch.setattr(cpu_kernels, "_ATTENDED", 0)
    monkeypatch.setattr(cpu_kernels, "_READ", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = everything()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(map(torch.equal, everything(), alone))
    plain = tmp_path / "cc"
    plain.write_text(f'#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec {os.environ.get("CC", "cc")} "$@"\n')
    plain.chmod(0o755)
    monkeypatch.setenv("CC", str(plain))
    without = anew()
    monkeypatch.setattr(cpu_kernels, "kernels", lambda: without)
    assert all(map(torch.equal, everything(), alone))


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
    monkeypatch.setattr(cpu_kernels, "_BESIDE", cpu_kernels._SOURCE / "__pycache__")  # below a file
    assert anew() is not None
    assert list(cpu_kernels._SOURCE.parent.iterdir()) == [cpu_kernels._SOURCE]
