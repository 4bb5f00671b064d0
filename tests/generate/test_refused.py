"""What a device refuses: memory, itself, a number format. One line each, and what was stored stays."""

from __future__ import annotations

import pytest
import torch

from tts.generate import refused
from tts.generate.chunks import Engines, make
from tts.generate.grid import Grid
from tts.generate.runner import fill, missing
from tts.generate.work import Work
from tts.models.hub import ModelError
from tts.search.sampling import Sampling
from tts.store.store import Store
from tts.tasks import task_of
from tts.tasks.problems import load_problems

POLICY, PRM = "policy-6k", "prm-qwen-28k"
SAMPLING = Sampling(max_tokens=40)
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB\nSee documentation")
GONE = torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported")


@pytest.fixture
def grid():
    return Grid(
        problems={"pocket-main": 4}, policies=[POLICY], prms=[PRM], methods=["best_of_n"], samples=4, budgets=[4], chunk=2, max_tokens=40
    )


class Failing:
    """Lets a model's forward raise from its call number ``after`` on, counted from 0."""

    def __init__(self, monkeypatch, model, error, after=0):
        self.calls, forward = 0, type(model).forward

        def failing(module, *arguments, **named):
            self.calls += 1
            if self.calls > after:
                raise error
            return forward(module, *arguments, **named)

        monkeypatch.setattr(type(model), "forward", failing)


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Models run by their own modules, whose forward can be replaced."""
    monkeypatch.setattr("tts.engine.cpu_kernels.kernels", lambda: None)


@pytest.fixture
def engines():
    """Both models in memory."""
    engines = Engines(batch=128)
    task = task_of("pocket-main")
    engines.policy(POLICY, SAMPLING, task), engines.prm(PRM, task)
    return engines


@pytest.mark.parametrize(
    ("method", "models", "place"), [("pool", POLICY, 0), ("beam_search", f"{POLICY} and {PRM}", 0), ("scores", PRM, 1)]
)
def test_out_of_memory_names_the_batch_that_would_fit(monkeypatch, engines, grid, method, models, place):
    problems = list(load_problems("pocket-main", 2))
    pool = make(Work(grid.spec("pool", POLICY, n=4), problems), None, engines).rows if method == "scores" else None
    backbones = [model.engine.model.backbone for model in engines.loaded]
    Failing(monkeypatch, backbones[place], NO_MEMORY)
    weights = sum(p.nbytes for backbone in backbones for p in backbone.parameters())
    monkeypatch.setattr(refused, "memory_of", lambda: weights + (30 << 20))
    with pytest.raises(ModelError) as raised:
        make(Work(grid.spec(method, POLICY, None if method == "pool" else PRM, 4), problems), pool, engines)
    longest = 40 + max(len(engines.loaded[0].root("p", p["problem"]).prompt) for p in problems)
    each = sum(model.engine.token_bytes for model in engines.loaded)
    # Half of 30 MiB is for rows, each with twice 128 positions, its logits over 38 tokens, and what a PRM computes of all of its tokens.
    read = longest * 4 * (2 * backbones[1].config.intermediate_size + 4 * backbones[1].config.hidden_size)
    fits = 1 << ((15 << 20) // (2 * 128 * each + 40 * 38 + read)).bit_length() - 1
    assert fits == 32
    assert str(raised.value) == (
        f"out of memory with {models}, 128 sequences at once; one of {longest} tokens takes {longest * each / 2**20:.3g} MiB, "
        f"and 30 MiB are free beside the weights: choose -p batch={fits}, whose runs are kept apart from those of 128"
    )


def test_where_not_even_one_fits_no_batch_is_named(monkeypatch, engines, grid):
    Failing(monkeypatch, engines.loaded[0].engine.model.backbone, NO_MEMORY)
    monkeypatch.setattr(refused, "memory_of", lambda: 0)
    with pytest.raises(ModelError, match="0 MiB are free beside the weights: not even one fits; choose smaller models or max_tokens"):
        make(Work(grid.spec("pool", POLICY, n=4), list(load_problems("pocket-main", 2))), None, engines)


def test_memory_of_a_gpu_is_what_others_leave(monkeypatch, engines):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 << 30, 24 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 30)
    models = engines.loaded
    weights = sum(p.nbytes for model in models for p in model.engine.model.backbone.parameters())
    for model in models:
        monkeypatch.setattr(model.engine, "device", torch.device("cuda", 0))
    assert refused.left_by(models, 1.0) == (8 << 30) - weights


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (GONE, f"the GPU stopped under {POLICY}: CUDA error: unspecified launch failure; look whether nvidia-smi still shows it"),
        (RuntimeError("CUDA error: no CUDA-capable device is detected"), f"the GPU stopped under {POLICY}: CUDA error: no CUDA-capable"),
        (NO_MEMORY, f"out of memory with {POLICY}, 128 sequences at once; one of"),
        (NotImplementedError("\"addmm\" not implemented for 'BFloat16'"), f"this device cannot compute {POLICY} in BFloat16: .*to float32"),
    ],
)
def test_chunks_that_are_stored_stay_and_the_same_study_goes_on(monkeypatch, tmp_path, grid, engines, error, line):
    store, backbone = Store(tmp_path), engines.loaded[0].engine.model.backbone
    with monkeypatch.context() as patched:
        # A pool's chunk takes some 30 steps of the policy, of which the third's second is refused.
        failing = Failing(patched, backbone, error, after=50)
        with pytest.raises(ModelError, match=line) as raised:
            fill(grid, store)
        assert failing.calls == 51 and "\n" not in str(raised.value)
    left = len(missing(grid, store))
    assert 0 < left < 6
    assert fill(grid, store) == left and not missing(grid, store)


def test_other_errors_pass(monkeypatch, grid, engines):
    Failing(monkeypatch, engines.loaded[0].engine.model.backbone, RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="a mistake of ours") as raised:
        make(Work(grid.spec("pool", POLICY, n=4), list(load_problems("pocket-main", 2))), None, engines)
    assert not isinstance(raised.value, ModelError)
