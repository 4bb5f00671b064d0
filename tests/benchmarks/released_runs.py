"""``released_runs.py [PROBLEMS [N [WORDS [surds]]]]``: seconds and peak memory of importing and grading released runs.

Writes best-of-N of one seed and DVTS in the form of search-and-learn's releases, 500 problems x 256 completions with 15 distinct answers
each by default, of some words a step; with ``surds`` each pair of answers needs math-verify. Then imports them, and grades them as a
notebook does, each in a process of its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from released_files import dataset  # noqa: E402 (the helpers are no package)

GRADE = """
import sys
from pathlib import Path
from tts.generate.grid import Grid
from tts.analysis.accuracy import Results
from tts.store import imported
from tts.store.store import Store
[source] = imported.all_of(Path(sys.argv[1]))
policy, prm = source.runs[0].spec.policy.name, next(h.spec.guide for h in source.runs if h.spec.guide)
n = max(h.spec.n for h in source.runs)
methods = ["majority", "best_of_n", "dvts"]
grid = Grid(problems={source.problem_set: source.count}, policies=[policy], prms=[prm], methods=methods, samples=n, budgets=[n])
print(Results(grid, Store(sys.argv[1])).at_budget(n)[["method", "n", "accuracy"]].to_string(index=False))
"""


def measured(title: str, *command: str) -> None:
    """Runs a command; prints its seconds and the most memory that one of its processes had."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    lines = said.strip().splitlines()
    print("\n".join(line for line in lines if "problems" in line or "256" in line or len(lines) < 8))
    print(f"{title}: {time.perf_counter() - started:.0f} s, {usage.ru_maxrss / 1024:.0f} MB at most, status {status}", flush=True)


def main() -> None:
    problems, n, words = (int(given) for given in (*sys.argv[1:4], *("500", "256", "4")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        place, form = (
            Path(folder),
            {"budgets": (n,), "problems": problems, "distinct": 15, "steps": 8, "words": words, "surds": sys.argv[4:] == ["surds"]},
        )
        sources = [str(dataset(place, approach, **form)) for approach in ("best_of_n", "dvts")]
        for source in sources:
            size = sum(path.stat().st_size for path in Path(source).rglob("*.parquet"))
            print(f"{Path(source).name}: {size / 1e6:.0f} MB")
        measured("import of samples", "-m", "tts", "import", sources[0], "--store", f"{folder}/samples", "--name", "x")
        measured("import of both", "-m", "tts", "import", *sources, "--store", f"{folder}/runs", "--name", "x")
        measured("grading and accuracies of both", "-c", GRADE, f"{folder}/runs")
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
