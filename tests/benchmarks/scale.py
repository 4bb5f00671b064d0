"""``scale.py [SIZES]``: how the store and grading grow: 10 thousand to 10 million trajectories of 256 workers, written, read and graded.

Workers are objects in this process, under the scheduler of a study; what they send is of :mod:`simulated_rows`, 256 solutions a problem.
Grading is what a notebook asks for; it reads the rows once more. Seconds are of this process's processor time, since others may share the
machine; no judge is asked about whole numbers, so there is no other process. ``QUICK=1`` stops at a hundred thousand; the folder is
deleted afterwards.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from rounds import QUICK, table
from simulated_cluster import SimulatedCluster
from simulated_rows import rows_of
from tqdm.auto import tqdm

from tts.analysis.grades import Judges
from tts.generate.work import Work
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.store import Store
from tts.tasks.maths import MATHS

SIZES = [10**4, 10**5, 10**6, 10**7]
N, CHUNK, WORKERS = 256, 40, 256


def spec_of(number: int) -> RunSpec:
    """A run of its own for each fifty chunks, as a preset has many."""
    sampling = {"temperature": 0.7, "max_tokens": 8192, "seed": number // 50}
    return RunSpec("pool", Model("simulated", ""), None, N, sampling, RunEngine("vllm", 128, CHUNK), TaskKey("maths", 1, ""))


def work_of(trajectories: int) -> list[Work]:
    chunks = max(1, round(trajectories / N / CHUNK))
    problems = [
        [{"id": f"p-{i}", "problem": f"What is {i}?", "answer": str(i)} for i in range(c * CHUNK, (c + 1) * CHUNK)] for c in range(50)
    ]
    return [Work(spec_of(number), problems[number % 50]) for number in range(chunks)]


class Cluster(SimulatedCluster):
    """Workers whose chunks take as long as another's, in virtual time."""

    def __init__(self) -> None:
        super().__init__(WORKERS, lambda items: 100.0, lambda items: 60.0)


def measured(size: int) -> dict:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        store, work, cluster = Store(folder), work_of(size), Cluster()
        seconds = dict.fromkeys(("making texts", "scheduling", "writing", "reading", "grading"), 0.0)
        bar, last = tqdm(total=3 * len(work), desc=f"{size:,}", unit="chunk"), time.process_time()

        def spent(on: str) -> None:
            nonlocal last
            now = time.process_time()
            seconds[on], last = seconds[on] + now - last, now

        with cluster:
            for made in cluster.make(work, store, lambda item: None, lambda tokens: None):
                spent("scheduling")
                rows = rows_of(made.work.chunk, N, made.work.spec.seed)
                spent("making texts")
                store.open(made.work.spec).write(made.work.chunk, rows, 1.0)
                spent("writing")
                bar.update()
        tqdm.write(f"{size:,} are written, in {seconds['writing']:,.1f} s of the processor", file=sys.stderr)
        del rows
        held = sum(run.size[1] for run in store.runs())
        trajectories = N * sum(len(item.chunk) for item in work)
        last = time.process_time()
        for item in work:
            store.run(item.spec).read(item.chunk)
            spent("reading")
            bar.update()
        with Judges() as judges:
            for item in work:
                judges.of_chunk(store.run(item.spec), item.chunk, MATHS)
                spent("grading")
                bar.update()
        bar.close()
    each = {f"{name} (s)": f"{value:,.1f}" for name, value in seconds.items()}
    rate = {f"{name} a second": f"{trajectories / seconds[name]:,.0f}" for name in ("writing", "reading", "grading")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"trajectories": f"{trajectories:,}", "bytes each": f"{held / trajectories:.0f}", "memory at most (MB)": f"{peak:,.0f}"}
    return told | each | rate | {"_seconds": seconds, "_count": trajectories}


def slopes(rows: Sequence[dict]) -> dict[str, float]:
    """Slopes of the logarithms of seconds over those of sizes; 1 where time grows as the size does."""
    counts = np.log([row["_count"] for row in rows])
    return {name: float(np.polyfit(counts, np.log([row["_seconds"][name] for row in rows]), 1)[0]) for name in rows[0]["_seconds"]}


def main() -> None:
    sizes = [int(float(given)) for given in sys.argv[1:]] or (SIZES[:2] if QUICK else SIZES)
    rows = []
    for size in sizes:
        rows.append(measured(size))
        table(f"{WORKERS} workers:", [{name: value for name, value in row.items() if name[0] != "_"} for row in rows])
    if len(rows) > 1:
        print("slopes of log(seconds) over log(trajectories):", *(f"{name} {slope:.2f}" for name, slope in slopes(rows).items()), sep="\n")


if __name__ == "__main__":
    main()
