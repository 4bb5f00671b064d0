"""The engine, a policy and PRMs on a device that is not the host's: no mix of the two, and what crosses between them, counted.

Each test makes on a ``cuda:0`` that is not there (:mod:`other_device`) what it makes on the CPU by the same operations of torch.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from other_device import CUDA, TO_DEVICE, TO_HOST, WAIT, DeviceTensor, OtherDevice

from tts.engine import cpu_kernels
from tts.generate.chunks import Engines, make
from tts.generate.grid import Grid
from tts.generate.work import Work
from tts.policies.transformers import TransformersPolicy
from tts.reward_models import open_prm
from tts.search import beam_search, sample_pool
from tts.search.base import Sample
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.store.step_columns import StepCache
from tts.tasks.problems import load_problems

POLICY, PRM = "policy-6k", "prm-qwen-28k"
PROBLEMS = list(load_problems("pocket-main", 4))
DRAWN = Sampling(temperature=0.8, max_tokens=40, max_step_tokens=20)
SAMPLINGS = {"drawn": DRAWN, "top-p": replace(DRAWN, top_p=0.9), "greedy": replace(DRAWN, temperature=0)}
SAMPLINGS["confidence"] = replace(DRAWN, confidence=True)


@pytest.fixture
def torch_alone(monkeypatch):
    """Without compiled kernels, as on a GPU, so that both sides round alike."""
    monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)


@pytest.fixture
def gpu(monkeypatch, torch_alone):
    """Gives what makes the suite place its models on the other device."""

    def place() -> OtherDevice:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "no GPU")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 << 30, 8 << 30))
        for name in ("memory_reserved", "memory_allocated"):
            monkeypatch.setattr(torch.cuda, name, lambda device: 0)
        return OtherDevice()

    return place


def counted(policy, name):
    """How often a method of its engine was called, in a list of one."""
    calls, method = [0], getattr(policy.engine, name)

    def call(*arguments):
        calls[0] += 1
        return method(*arguments)

    setattr(policy.engine, name, call)
    return calls


def solutions(policy, search, prm=None):
    roots = [policy.root(p["id"], p["problem"]) for p in PROBLEMS]
    outcomes = Driver(policy, prm).run([(root, search(root)) for root in roots])
    return [[(c.tokens, c.status, c.scores, c.confidence) for c in outcome.trajectories] for outcome in outcomes]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_decode_step_is_one_copy_to_the_device_and_one_back(gpu, sampling):
    chosen = SAMPLINGS[sampling]
    expected = solutions(TransformersPolicy(POLICY, chosen, batch=8), lambda root: sample_pool(root, 4))
    with gpu() as other:
        policy = TransformersPolicy(POLICY, chosen, batch=8)
        assert policy.engine.device == CUDA and all(isinstance(p, DeviceTensor) for p in policy.model.parameters())
        steps, readings = counted(policy, "sample"), counted(policy, "_read")
        other.counts.clear()
        assert solutions(policy, lambda root: sample_pool(root, 4)) == expected
    assert steps[0] > 30 and readings[0] > 0 and bool(expected[0][0][3]) == chosen.confidence
    assert other.total(TO_HOST) == steps[0] and other.total(TO_DEVICE) == steps[0] + readings[0], other
    assert not other.total(WAIT), other


def test_a_step_of_drawn_and_greedy_samples_is_one_copy_each_too(gpu):
    def both(root):
        children = yield Sample([root, replace(root, path=(9,), greedy=True)], [3, 1])
        return [*children[0], *children[1]]

    expected = solutions(TransformersPolicy(POLICY, DRAWN, batch=8), both)
    with gpu() as other:
        policy = TransformersPolicy(POLICY, DRAWN, batch=8)
        steps, readings = counted(policy, "sample"), counted(policy, "_read")
        other.counts.clear()
        assert solutions(policy, both) == expected
    assert (other.total(TO_HOST), other.total(TO_DEVICE), other.total(WAIT)) == (steps[0], steps[0] + readings[0], 0), other


@pytest.mark.parametrize("name", [PRM, "prm-shepherd-terse", "implicit:policy-6k"])
def test_a_search_and_its_prm(gpu, name):
    def found():
        return solutions(TransformersPolicy(POLICY, DRAWN, batch=8), lambda root: beam_search(root, 4, 4, 2), open_prm(name, 8))

    expected = found()
    with gpu():
        assert found() == expected


def test_a_chunk_is_made_there_as_here(gpu):
    grid = Grid(problems={"pocket-main": 2}, policies=[POLICY], prms=[PRM], samples=8, budgets=[8], batch=8, max_tokens=60)
    work = Work(grid.spec("beam_search", POLICY, PRM, 8), PROBLEMS[:2])
    here = make(work, StepCache(), Engines())
    with gpu():
        there = make(work, StepCache(), Engines())
    assert there.rows == here.rows and there.clock.where.startswith("no GPU, 8 at once")


def test_the_other_device_refuses_what_cuda_would():
    """Else the tests above could not fail."""
    with OtherDevice() as other:
        there, here = torch.arange(4, device="cuda"), torch.arange(4)
        for mix in (lambda: there + here, lambda: torch.cat([there, here]), lambda: torch.where(here > 1, there, there)):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            there.numpy()
        assert (there.device, (there + 1).device, there[None].T.device, there.cpu().device.type) == (CUDA, CUDA, CUDA, "cpu")
        assert other.total(TO_HOST) == 1 and other.total(TO_DEVICE) == other.total(WAIT) == 0
    with pytest.raises(RuntimeError, match="used where that device is not"):
        there + 1


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (WAIT, lambda x: int(x.max())),
        (WAIT, lambda x: bool((x > 1).all())),
        (WAIT, lambda x: x[0].item()),
        (WAIT, lambda x: x[x > 1]),
        (WAIT, lambda x: x.nonzero()),
        (WAIT, lambda x: torch.where(x > 1)),
        (WAIT, lambda x: x.masked_select(x > 1)),
        (WAIT, lambda x: x.unique()),
        (WAIT, lambda x: x.__setitem__(x > 1, 0)),
        (TO_HOST, lambda x: x.tolist()),
        (TO_HOST, lambda x: x.to("cpu")),
        (TO_HOST, lambda x: torch.zeros(4, dtype=x.dtype).copy_(x)),
        (TO_DEVICE, lambda x: torch.tensor([1, 2], device=x.device)),
        (TO_DEVICE, lambda x: torch.arange(4).to(x.device)),
        (TO_DEVICE, lambda x: x.copy_(torch.arange(4))),
        (TO_DEVICE, lambda x: x[[0, 2]]),
    ],
)
@pytest.mark.parametrize("inference", [True, False])
def test_what_waits_and_what_copies_is_counted(kind, use, inference):
    with OtherDevice() as other, torch.inference_mode(inference):
        there = torch.arange(4, device="cuda")
        use(there)
        assert sum(other.counts.values()) == other.total(kind) == 1, other


def test_what_stays_on_the_device_is_not_counted():
    with OtherDevice() as other:
        there = torch.arange(12, device="cuda").view(3, 4)
        held = there.new_zeros(2, 3, 4)
        held[0] = there
        held[1, torch.arange(3, device=there.device)] = 2 * there
        held.select(0, 1).narrow(1, 0, 2).copy_(there[:, :2])
        assert not other.counts
        assert held.tolist() == torch.stack([there.cpu(), torch.cat([there.cpu()[:, :2], 2 * there.cpu()[:, 2:]], 1)]).tolist()
