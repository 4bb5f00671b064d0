"""Pass@1 of each problem for a policy, from samples that no method's accuracy uses.

Bins made from the samples that a method is judged on would be circular. The counts of the pocket policies are committed
under ``data/difficulty``; for any other policy a second pool is sampled, with its own seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tts.accuracy import Results
from tts.grid import Grid
from tts.models import fingerprint, locate
from tts.runner import fill
from tts.store import Store

COUNTS = Path(__file__).resolve().parent.parent / "data" / "difficulty"
OTHER_SEED = 1_000_000


def counting_grid(grid: Grid, policy: str, samples: int) -> Grid:
    """The grid of the separate pool: one policy, no PRM, another seed."""
    changed = {
        "policies": [policy],
        "prms": [],
        "methods": ["majority"],
        "samples": samples,
        "budgets": [1],
        "seed": grid.seed + OTHER_SEED,
    }
    return Grid(**(grid.model_dump() | changed))


def count(grid: Grid, store: Store, policy: str, problem_set: str, samples: int) -> pd.DataFrame:
    """Samples a separate pool and counts the right ones.

    Returns:
        Columns problem_id, policy, weights, samples, correct.
    """
    own = counting_grid(grid, policy, samples)
    own = own.model_copy(update={"problems": {problem_set: grid.problems[problem_set]}})
    fill(own, store)
    graded = Results(own, store).graded(problem_set, own.spec("pool", policy, n=samples))
    weights = fingerprint(locate(policy))
    return pd.DataFrame(
        {"problem_id": g.problem_id, "policy": policy, "weights": weights, "samples": samples, "correct": int(g.correct.sum())}
        for g in graded
    )


def pass_at_1(grid: Grid, store: Store, policy: str, problem_set: str, samples: int = 64) -> np.ndarray:
    """Pass@1 of each problem of a set, ``(problems,)``: committed counts where there are, else counted now."""
    wanted = [problem["id"] for chunk in grid.chunks(problem_set) for problem in chunk]
    counts = committed(policy, problem_set)
    if not set(wanted) <= set(counts["problem_id"]):
        counts = count(grid, store, policy, problem_set, samples)
    indexed = counts.set_index("problem_id").loc[wanted]
    return (indexed["correct"] / indexed["samples"]).to_numpy(float)


def committed(policy: str, problem_set: str) -> pd.DataFrame:
    """The committed counts of exactly these weights; empty where there are none."""
    path = COUNTS / f"{problem_set}.csv"
    empty = pd.DataFrame(columns=["problem_id", "policy", "weights", "samples", "correct"])
    if not path.exists():
        return empty
    counts = pd.read_csv(path)
    return counts[counts["weights"] == fingerprint(locate(policy))]


def commit_counts(counts: pd.DataFrame, problem_set: str) -> Path:
    """Adds counts to the committed file, in place of older ones of the same policy."""
    path = COUNTS / f"{problem_set}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        old = pd.read_csv(path)
        counts = pd.concat([old[~old["policy"].isin(counts["policy"])], counts])
    counts.sort_values(["policy", "problem_id"]).to_csv(path, index=False)
    return path
