"""``simulate.py``: the schedule of the preset ``paper`` on 1, 8 and 64 H100s, in virtual time.

One chunk of each kind of run goes through the suite's searches, driver and :func:`tts.generate.chunks.make`, over a policy and a PRM that
take the time of :mod:`latencies`. Then all chunks of the preset go through the suite's scheduler and store with workers that take the
seconds found so. ``CHUNK=10`` makes the preset's chunks so small; ``QUICK=1`` simulates small ones, and schedules one of ten policies.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from latencies import LOADED, MEMORY, SOURCES, fitted, predicted, shapes
from simulated_cluster import Failure, SimulatedCluster
from simulated_models import SimulatedEngines
from tqdm.auto import tqdm

from tts.analysis.gpu_hours import size_of
from tts.generate import grid as grids
from tts.generate.chunks import make_together
from tts.generate.runner import missing
from tts.generate.work import MOST, Work
from tts.search.registry import POOL, SCORES, is_search
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.step_columns import StepCache
from tts.store.store import Store
from tts.study import presets

QUICK = bool(os.environ.get("QUICK"))
CHUNK = int(os.environ.get("CHUNK", 40))  # problems, of the preset's chunks
PROBLEMS = 10 if QUICK else CHUNK  # of those that are simulated
CLASSES = ("1B", "7B", "72B")
POLICIES, PRMS = CLASSES, ("1.5B", "7B", "72B")
RUNS = [("cot", 1), (POOL, 256), (SCORES, 256), *(("beam_search", n) for n in (4, 16, 64, 256)), ("dvts", 256)]
BATCH, HELD = 128, 500  # of the preset, and of MATH-500
FAILURES = (0.25, 0.5, 0.75)  # at which shares of the time eight workers are lost
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
    return 1 if method == SCORES else max(1, min(-(-HELD // PROBLEMS), MOST * BATCH // (n * PROBLEMS)))


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
    part = (len(items) - few) / max(1, many - few)

    def of(took: Taken, count: int) -> float:
        return (took.policy * larger + took.prm * slower) / count

    each = of(alone, few) * (1 - part) + of(together, many) * part
    return each * problems / PROBLEMS * spec.n / n


def loading(items: Sequence[Work]) -> float:
    """Virtual seconds until a process with the chunks' models has started."""
    spec = items[0].spec
    names = [spec.policy.name] * (spec.method != SCORES) + [spec.guide] * bool(spec.guide)
    return STARTING + sum(2 * size_of(name).parameters for name in names) / LOADING


def work_of(store: Store) -> list[Work]:
    """All chunks that the preset's notebooks need, as ``tts run --preset paper`` orders them; nothing is looked up on the Hub."""
    grids._weights = grids._weights_of_prm = lambda name: "simulated"
    grids._prompt = lambda name, task: "simulated"
    grids._problems = lambda name, count, split: [{"id": f"{name}-{i}", "problem": f"What is {i}?", "answer": str(i)} for i in range(count)]
    found = [grid for experiment in presets.experiments(presets.plan("paper", look_up=False)) for grid in experiment.grids()]
    found = [grid.model_copy(update={"chunk": CHUNK, "policies": grid.policies[: 1 if QUICK else None]}) for grid in found]
    return list({store.run(item.spec).path(item.chunk): item for g in found for item in missing(g, store)}.values())


def fits(item: Work) -> bool:
    """Whether policy and PRM leave an H100 a third of its memory."""
    return 2 * sum(size_of(name).parameters for name in (item.spec.policy.name, item.spec.guide) if name) < MEMORY * 2 / 3


def schedule(work: list[Work], folder: str, workers: int, gpus: int, failures: tuple[Failure, ...] = ()) -> tuple[dict, float]:
    """A row of the table, and the virtual seconds until all is stored."""
    store, waited = Store(folder), 0.0
    before = sum(run.size[0] for run in store.runs())
    cluster = SimulatedCluster(workers, making, loading, failures)
    began = time.perf_counter()
    with cluster:
        for made in cluster.make(list(work), store, lambda item: None, lambda tokens: None):
            writing = time.perf_counter()
            run = store.open(made.work.spec)
            if run.has(made.work.chunk):
                raise AssertionError(f"{made.work.spec} is stored twice")
            run.write(made.work.chunk, [], made.seconds)
            waited += time.perf_counter() - writing
    python = time.perf_counter() - began - waited
    stored = sum(run.size[0] for run in store.runs()) - before
    assert stored == len(work), f"{stored} chunks are stored of {len(work)}"
    account, total = cluster.account, workers * cluster.now
    quiet = _first_idle(account.takes, workers, cluster.now)
    row = {
        "GPUs": f"{workers} x {gpus}",
        "chunks": f"{len(work):,}",
        "hours": f"{cluster.now / 3600:,.1f}",
        "GPU hours": f"{total * gpus / 3600:,.0f}",
        "making": f"{account.working / total:.1%}",
        "loading": f"{account.loading / total:.1%}",
        "loads": f"{account.loads:,}",
        "lost": f"{account.lost / total:.1%}",
        "idle": f"{1 - (account.working + account.loading + account.lost) / total:.1%}",
        "of it at the end": f"{quiet / total:.1%}",
        "ms of Python a chunk": f"{python / len(work) * 1e3:.1f}",
    }
    return row, cluster.now


def _first_idle(takes: list[tuple[float, float]], workers: int, end: float) -> float:
    """Worker seconds without a chunk after the last moment at which all had one."""
    events = sorted([(begin, 1) for begin, _ in takes] + [(until, -1) for _, until in takes])
    busy, last_full = 0, 0.0
    for at, change in events:
        if busy == workers and change < 0:
            last_full = at
        busy += change
    inside = sum(max(0.0, until - max(begin, last_full)) for begin, until in takes)
    return workers * (end - last_full) - inside


def table(title: str, rows: Iterable[dict]) -> None:
    """Prints rows as Markdown."""
    rows = list(rows)
    heads = list(rows[0])
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *([str(row[head]) for head in heads] for row in rows)]
    print(f"\n{title}\n", *("| " + " | ".join(line) + " |" for line in lines), sep="\n", flush=True)


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


def main() -> None:
    known = fitted()
    print(*(f"{name}: {source}" for name, source in SOURCES.items()), sep="\n")
    rows = [
        {
            "model": row.model,
            "GPUs": known[row.model].gpus,
            "read": row.read,
            "written": row.written,
            "published (tokens/s)": f"{row.rate:,.0f}",
        }
        | {"model over published": f"{predicted(row, known[row.model]) / row.rate:.2f}"}
        for row in LOADED
    ]
    table("Rows that nothing was fitted to:", rows)
    table(f"One chunk of {PROBLEMS} problems of MATH-500, batch 128:", chunk_rows())
    with tempfile.TemporaryDirectory() as folder:
        work = work_of(Store(folder))
        small, large = [item for item in work if fits(item)], [item for item in work if not fits(item)]
        rows = []
        for gpus in (1, 8, 64):
            place = f"{folder}/{gpus}"
            row, until = schedule(small, place, gpus, 1)
            rows.append({"part": "fits on one GPU"} | row)
            if gpus == 64:
                nodes = tuple(Failure(share * until, 8, 600.0) for share in FAILURES)
                row, _ = schedule(small, f"{place}-failing", gpus, 1, nodes)
                rows.append({"part": "the same, nodes of 8 fail thrice"} | row)
            if gpus > 1:  # what one GPU does not hold runs on four that a worker has together
                row, _ = schedule(large, place, gpus // 4, 4)
                rows.append({"part": "needs four"} | row)
        table("The preset paper:", rows)


if __name__ == "__main__":
    main()
