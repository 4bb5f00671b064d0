"""Pass@1 of each problem for a policy, from samples that no method's accuracy uses.

Bins made from the samples that a method is judged on would be circular. The counts of the pocket policies are committed
under ``data/difficulty``; for any other policy a second pool is sampled, with its own seed.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from tts.analysis.accuracy import Results
from tts.analysis.committed import reading
from tts.common.files import write_text
from tts.common.paths import DATA
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.policies import weights_of
from tts.store.imported import is_imported, original
from tts.store.store import Store

COLUMNS = ["problem_id", "problem", "policy", "weights", "sampling", "samples", "correct"]
COUNTS = DATA / "difficulty"
OTHER_SEED = 1_000_000


def counting_grid(grid: Grid, policy: str, samples: int, problem_set: str) -> Grid:
    """The grid of the separate pool: one policy, no PRM, another seed, one of the problem sets."""
    pool = {"policies": [policy], "prms": [], "methods": ["majority"], "samples": samples, "budgets": [1], "seed": grid.seed + OTHER_SEED}
    return Grid(**(grid.model_dump() | pool | {"problems": {problem_set: grid.problems[problem_set]}}))


def separate_grids(grid: Grid, samples: int) -> list[Grid]:
    """What :func:`pass_at_1` has to sample for a grid's first problem set: a grid for each policy whose counts are not committed."""
    name = next(iter(grid.problems))
    sampled = [policy for policy in grid.policies if not is_imported(policy) and known_pass_at_1(grid, policy, name) is None]
    return [counting_grid(grid, policy, samples, name) for policy in sampled]


def count(grid: Grid, store: Store, policy: str, problem_set: str, samples: int) -> pd.DataFrame:
    """Samples a separate pool and counts the right ones: :data:`COLUMNS`, in the order of the problems."""
    own = counting_grid(grid, policy, samples, problem_set)
    fill(own, store)
    graded = Results(own, store).graded(problem_set, own.spec("pool", policy, n=samples))
    named = {"policy": policy, "weights": weights_of(policy), "sampling": _sampling(own), "samples": samples}
    return _problems(own, problem_set).assign(**named, correct=[int(g.correct.sum()) for g in graded])


def pass_at_1(grid: Grid, store: Store, policy: str, problem_set: str, samples: int = 64) -> np.ndarray:
    """Pass@1 of each problem of a set, ``(problems,)``: committed counts where there are, else counted now.

    An imported policy cannot be sampled anew: its own pool counts, and that is said.
    """
    if is_imported(policy):
        print(f"{original(policy)}: its difficulty is circular, from the very samples that methods are judged on: there are no others")
        return Results(grid, store).accuracy(problem_set, policy, None, "pass", 1)
    known = known_pass_at_1(grid, policy, problem_set)
    if known is None:
        known = count(grid, store, policy, problem_set, samples)["correct"].to_numpy(float) / samples
    return known


def known_pass_at_1(grid: Grid, policy: str, problem_set: str) -> np.ndarray | None:
    """As :func:`pass_at_1` from committed counts of exactly these weights, sampling and problems; None where they lack a problem."""
    path = _path(problem_set)
    if is_imported(policy) or not path.exists():
        return None  # without asking for the problems, which need not be on this machine
    counts = _read(path)
    counts = counts[(counts["weights"] == weights_of(policy)) & (counts["sampling"] == _sampling(grid))]
    counts = _problems(grid, problem_set).merge(counts.drop_duplicates(["problem_id", "problem"]), "left")
    return None if counts["samples"].isna().any() else (counts["correct"] / counts["samples"]).to_numpy(float)


def _problems(grid: Grid, problem_set: str) -> pd.DataFrame:
    """Each problem's id and, as problem, a hash of its text: an id alone does not say which problem it is."""
    rows = [(p["id"], hashlib.sha256(p["problem"].encode()).hexdigest()[:8]) for chunk in grid.chunks(problem_set) for p in chunk]
    return pd.DataFrame(rows, columns=["problem_id", "problem"], dtype=object)


def _sampling(grid: Grid) -> str:
    told = "" if grid.system is None else f" system={grid.system}"
    return f"temperature={grid.temperature:g} top_p={grid.top_p:g} max_tokens={grid.max_tokens}{told}"


def _path(problem_set: str) -> Path:
    return COUNTS / f"{Path(problem_set).stem.replace(':', '_')}.csv"


def commit_counts(counts: pd.DataFrame, problem_set: str) -> Path:
    """Adds counts to the committed file, in place of older ones of the same policy and problems; ValueError for fewer samples."""
    path = _path(problem_set)
    if path.exists():
        both = counts.merge(older := _read(path), on=["policy", "weights", "problem_id", "problem"])
        if (fewer := both[both["samples_x"] < both["samples_y"]]).size:
            raise ValueError(
                f"{path} has counts of {fewer['samples_y'].max()} samples, which fewer would not replace; give as many or more"
            )
        counts = pd.concat([older, counts]).drop_duplicates(["policy", "problem_id"], keep="last")
    write_text(path, counts.sort_values(["policy", "problem_id"]).to_csv(index=False))
    return path


def _read(path: Path) -> pd.DataFrame:
    with reading(path):
        counts = pd.read_csv(path, dtype={"problem_id": str, "problem": str})[COLUMNS]
        if not (counts["correct"].between(0, counts["samples"]) & (counts["samples"] > 0)).all():
            raise ValueError("a count is not between 0 and its number of samples")
        return counts
