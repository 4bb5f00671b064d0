"""``scale.py [SIZES]``: how the store and grading grow: 10 thousand to 10 million trajectories of 256 workers, written, read and graded.

Workers are objects in this process, under the scheduler of a study; what they send has texts and answers as real ones have in number,
length and repetition: 10.8 steps a solution of 147 characters (60 samples of Qwen2.5-1.5B-Instruct), 256 solutions a problem of which most
share their answers. Grading is what a notebook asks for. ``QUICK=1`` stops at a hundred thousand; the folder is deleted afterwards.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from simulate import table
from simulated_cluster import SimulatedCluster
from tqdm.auto import tqdm

from tts.analysis.grades import Judges
from tts.generate.work import Work
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.store import Store
from tts.tasks.maths import MATHS

SIZES = [10**4, 10**5, 10**6, 10**7]
N, CHUNK, WORKERS = 256, 40, 256
STEPS = 11
WORDS = (
    "the of and to we have that is so then equation gives which let both sides value for since first second term sum divide multiply "
    "therefore simplify expression substitute factor root number answer find using from this these have are can be written as follows "
    r"\frac{1}{2} \sqrt{3} x y n = + - 2 3 4 12 x^2 (x+1) \[ \] \( \) \cdot \pi"
).split()


PHRASES = [" ".join(random.Random(i).choices(WORDS, k=6)) for i in range(5000)]  # of some 30 characters, five of which make a step


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


def rows_of(item: Work) -> list[dict]:
    """Rows with texts that are drawn by a seeded generator."""
    drawn = random.Random(f"{item.spec.seed} {item.chunk[0]['id']}")
    rows = []
    for problem in item.chunk:
        right, trajectories = int(problem["answer"]), []
        for number in range(N):
            phrases = drawn.choices(PHRASES, k=5 * (STEPS - 1))
            steps = [" ".join(phrases[i : i + 5]) for i in range(0, len(phrases), 5)]
            answer = right if drawn.random() < 0.5 else right + 1 + int(drawn.paretovariate(1.0)) % 15
            steps.append(f"Therefore, the answer is $\\boxed{{{answer}}}$.")
            trajectories.append({"path": [number], "steps": steps, "scores": [], "status": "finished", "tokens": 591})
        told = {"prompt": problem["problem"], "prompt_tokens": 200, "policy_tokens": 591 * N, "prm_tokens": 0, "confidences": None}
        rows.append(
            {"problem_id": problem["id"], "problem": problem["problem"], "answer": problem["answer"], "trajectories": trajectories} | told
        )
    return rows


class Cluster(SimulatedCluster):
    """Workers whose chunks take as long as another's, in virtual time."""

    def __init__(self) -> None:
        super().__init__(WORKERS, lambda items: 100.0, lambda items: 60.0)


def measured(size: int) -> dict:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        store, work, cluster = Store(folder), work_of(size), Cluster()
        seconds = dict.fromkeys(("making texts", "scheduling", "writing", "reading", "grading"), 0.0)
        bar, last = tqdm(total=3 * len(work), desc=f"{size:,}", unit="chunk"), time.perf_counter()

        def spent(on: str) -> None:
            nonlocal last
            now = time.perf_counter()
            seconds[on], last = seconds[on] + now - last, now

        with cluster:
            for made in cluster.make(work, store, lambda item: None, lambda tokens: None):
                spent("scheduling")
                rows = rows_of(made.work)
                spent("making texts")
                store.open(made.work.spec).write(made.work.chunk, rows, 1.0)
                spent("writing")
                bar.update()
        del rows
        held = sum(run.size[1] for run in store.runs())
        trajectories = N * sum(len(item.chunk) for item in work)
        last = time.perf_counter()
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
    sizes = [int(float(given)) for given in sys.argv[1:]] or (SIZES[:2] if os.environ.get("QUICK") else SIZES)
    rows = []
    for size in sizes:
        rows.append(measured(size))
        table(f"{WORKERS} workers:", [{name: value for name, value in row.items() if name[0] != "_"} for row in rows])
    if len(rows) > 1:
        print("slopes of log(seconds) over log(trajectories):", *(f"{name} {slope:.2f}" for name, slope in slopes(rows).items()), sep="\n")


if __name__ == "__main__":
    main()
