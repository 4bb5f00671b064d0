"""What one chunk of each kind of run takes, in virtual seconds, and what any chunk of the preset ``paper`` takes by that."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from latencies import shapes
from simulated_models import SimulatedEngines
from tqdm.auto import tqdm

from tts.analysis.gpu_hours import size_of
from tts.generate.chunks import make_together
from tts.generate.work import TOGETHER, Work
from tts.search.registry import POOL, SCORES, is_search
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.step_columns import StepCache

QUICK = bool(os.environ.get("QUICK"))
CHUNK = int(os.environ.get("CHUNK", 40))  # problems, of the preset's chunks
PROBLEMS = 10 if QUICK else CHUNK  # of those that are simulated
POLICIES, PRMS = ("1B", "7B", "72B"), ("1.5B", "7B", "72B")
RUNS = [("cot", 1), (POOL, 256), (SCORES, 256), *(("beam_search", n) for n in (4, 16, 64, 256)), ("dvts", 256)]
BATCH, HELD = 128, 40 if QUICK else 500  # of the preset; problems of MATH-500, of which QUICK takes few
STARTING, LOADING = 60.0, 2e9  # seconds of a process until it loads, and bytes a second: assumed


@dataclass(frozen=True)
class Taken:
    """What a chunk took, in virtual seconds."""

    policy: float
    prm: float
    full: float  # that its tokens would have taken in a full batch
    in_full: float
    in_part: float
    tail: float
    peak: float  # bytes of keys and values

    @property
    def all(self) -> float:
        return self.policy + self.prm


def spec_of(method: str, n: int) -> RunSpec:
    model = Model("simulated", "")
    sampling = {"temperature": 0.7, "max_tokens": 8192, "seed": 0}
    search = {"width": 4, "max_steps": 40} if is_search(method) else {}
    guide = model if method == SCORES or search else None
    return RunSpec(method, model, guide, n, sampling, RunEngine("vllm", 128, 40), TaskKey("maths", 1, ""), **search)


def most_together(method: str, n: int) -> int:
    """How many chunks of a run go together."""
    return 1 if method == SCORES else max(1, min(-(-HELD // PROBLEMS), TOGETHER * BATCH // (n * PROBLEMS)))


def taken(policy: str, prm: str, method: str, n: int, count: int) -> Taken:
    """What so many chunks of MATH-500 take together with models of these classes."""
    known = shapes()
    engines = SimulatedEngines(known[policy], known[prm])
    works = [Work(spec_of(method, n), chunk(i)) for i in range(count)]
    make_together(works, [pool() if method == SCORES else StepCache() for _ in works], engines)
    clock = engines.clock
    read = clock.spent["PRM"]
    in_full, in_part = clock.spent["full batch"], clock.spent["part of the batch"]
    return Taken(clock.now - read, read, clock.full, in_full, in_part, clock.tail, clock.peak)


def chunk(number: int) -> list[dict]:
    places = range(number * PROBLEMS, (number + 1) * PROBLEMS)
    return [{"id": f"math500-{i}", "problem": f"What is {i}?", "answer": str(i)} for i in places]


def pool() -> list[dict]:
    return make_together([Work(spec_of(POOL, 256), chunk(0))], [None], SimulatedEngines(shapes()["1B"], None))[0].rows


@cache
def measured() -> dict[tuple, Taken]:
    """What a chunk of each kind of run takes, and as many as go together, by policy class, PRM class, method, N and number of chunks."""
    kinds = []
    for method, n in RUNS:
        pairs = [(policy, prm) for policy in _needed(method, POLICIES) for prm in _needed(method, PRMS, prm=True)]
        kinds += [(*pair, method, n, count) for pair in pairs for count in sorted({1, most_together(method, n)})]
    return {kind: taken(*kind) for kind in tqdm(kinds, desc="chunks", unit="chunk")}


def _needed(method: str, models: Sequence[str], prm: bool = False) -> Sequence[str]:
    """Classes of the policy, or the PRM, that a method needs; where it needs none, any stands for all."""
    needs = method == SCORES or is_search(method) if prm else method != SCORES
    return models if needs else models[:1]


def class_of(model: str, classes: Sequence[str]) -> tuple[str, float]:
    """The class whose size is nearest to a model's, and how many times as large the model is."""
    size = size_of(model).parameters
    nearest = min(classes, key=lambda name: abs(math.log(size / shapes()[name].parameters)))
    return nearest, size / shapes()[nearest].parameters


def making(items: Sequence[Work]) -> float:
    """Virtual seconds of chunks: in proportion to a class's, by the sizes of their models, their problems, and their steps."""
    spec, run, n = items[0].spec, items[0].spec.method, items[0].spec.n
    problems = sum(len(item.chunk) * (2.0 if item.chunk[0]["id"].startswith("aime") else 1.0) for item in items)
    policy, larger = class_of(spec.policy.name, POLICIES) if run != SCORES else (POLICIES[0], 1.0)
    prm, slower = class_of(spec.guide, PRMS) if spec.guide else (PRMS[0], 1.0)
    if run == POOL:
        n = 256
    few, many = 1, most_together(run, n)
    alone, together = (measured()[policy, prm, run, n, count] for count in (few, many))
    part = min(1.0, (len(items) - few) / max(1, many - few))  # more than were simulated take as long as these, each

    def of(took: Taken, count: int) -> float:
        return (took.policy * larger + took.prm * slower) / count

    each = of(alone, few) * (1 - part) + of(together, many) * part
    return each * problems / PROBLEMS * spec.n / n


def loading(items: Sequence[Work]) -> float:
    """Virtual seconds until a process with the chunks' models has started."""
    spec = items[0].spec
    names = [spec.policy.name] * (spec.method != SCORES) + [spec.guide] * bool(spec.guide)
    return STARTING + sum(2 * size_of(name).parameters for name in names) / LOADING


def chunk_rows() -> list[dict]:
    rows = []
    for (policy, prm, method, n, count), took in measured().items():
        sampling, scoring = method != SCORES, method == SCORES or is_search(method)
        rows.append(
            {
                "policy": policy if sampling else "",
                "PRM": prm if scoring else "",
                "run": f"{method}, N = {n}" + f", {count} chunks together" * (count > 1),
                "seconds a chunk": f"{took.all / count:,.0f}",
                "full batch": f"{took.in_full / took.all:.0%}",
                "part of it": f"{took.in_part / took.all:.0%}",
                "PRM's": f"{took.prm / took.all:.0%}",
                "tokens over a full batch's": f"{took.full / took.all:.2f}" if sampling else "",
                "tail (s)": f"{took.tail / count:,.0f}",
                "caches at most (GB)": f"{took.peak / 1e9:.1f}",
            }
        )
    return rows
