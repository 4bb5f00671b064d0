"""``simulate.py``: the schedule of the preset ``paper`` on 1, 8 and 64 H100s, in virtual time.

One chunk of each kind of run goes through the suite's searches, driver and :func:`tts.generate.chunks.make`, over a policy and a PRM that
take the time of :mod:`latencies`. Then all chunks of the preset go through the suite's scheduler and store with workers that take the
seconds found so. ``CHUNK=10`` makes the preset's chunks so small; ``QUICK=1`` simulates small ones, and schedules one of ten policies.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence

from latencies import LOADED, MEMORY, SOURCES, fitted, predicted
from rounds import QUICK, table
from simulated_chunks import CHUNK, PROBLEMS, chunk_rows, loading, making
from simulated_cluster import Failure, SimulatedCluster
from simulated_rows import stored_bytes

from tts.analysis.gpu_hours import size_of
from tts.generate import grid as grids
from tts.generate.runner import missing
from tts.generate.work import Work
from tts.search.registry import SCORES, is_search
from tts.store.store import Store
from tts.study import presets

FAILURES = (0.25, 0.5, 0.75)  # at which shares of the time eight workers are lost


def work_of(store: Store) -> list[Work]:
    """All chunks that the preset's notebooks need with vLLM's policies, in their order; nothing is looked up on the Hub."""
    grids._weights = grids._weights_of_prm = lambda name: "simulated"
    grids._prompt = lambda name, task: "simulated"
    grids._problems = lambda name, count, split: [{"id": f"{name}-{i}", "problem": f"What is {i}?", "answer": str(i)} for i in range(count)]
    found = [grid for experiment in presets.experiments(presets.plan("paper", look_up=False)) for grid in experiment.grids()]
    changes = [{"chunk": CHUNK, "policies": [f"vllm:{name}" for name in grid.policies[: 1 if QUICK else None]]} for grid in found]
    found = [grid.model_copy(update=change) for grid, change in zip(found, changes)]
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


def store_rows(work: Sequence[Work]) -> list[dict]:
    """What the store of all chunks takes, from the bytes of one of 40 problems with 64 solutions each."""
    solution, steps, held = *stored_bytes(), {"samples": 0.0, "samples with scores": 0.0, "searches": 0.0}
    for item in work:
        method, solutions = item.spec.method, item.spec.n * len(item.chunk)
        kept = solutions / 4 if is_search(method) else solutions  # one of each four that a beam's width samples
        kind = "searches" if is_search(method) else "samples with scores" if method == SCORES else "samples"
        held[kind] += kept * solution + (solutions * steps if is_search(method) else 0)
    return [{"of": kind, "GB": f"{size / 1e9:,.1f}"} for kind, size in [*held.items(), ("all", sum(held.values()))]]


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
        table("Its store, if no search found a step in another's:", store_rows(work))


if __name__ == "__main__":
    main()
