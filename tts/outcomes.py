"""Outcomes problem by problem: those of the full grid are committed, and shown beside a fresh run.

A row is one problem with one policy, PRM, method, budget N and sampling seed, and the method's expected accuracy on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tts import difficulty, stats, strategy, tables
from tts.accuracy import Results
from tts.grid import SEARCHES, Grid
from tts.models import ModelError, fingerprint, locate
from tts.problems import fingerprint as problem_fingerprint

FOLDER = Path(__file__).resolve().parent.parent / "data" / "outcomes"
COMMITTED = FOLDER / "pocket-full.parquet"
CELL = ["problems", "policy", "prm", "method", "n"]
SETTINGS = ("split", "beam_width", "aggregate", "vote", "temperature", "top_p", "max_tokens", "max_steps", "samples")


def collect(results: Results) -> pd.DataFrame:
    """Every method at every budget of a grid, one row per problem; ``prm`` is empty where none is used."""
    grid, parts = results.grid, []
    for problem_set in grid.problems:
        ids = [problem["id"] for chunk in grid.chunks(problem_set) for problem in chunk]
        for policy in grid.policies:
            cells = [("", "cot", 1), *(("", method, n) for n in grid.budgets for method in ("pass", "majority"))]
            cells += [(prm, method, n) for prm in grid.prms for method in grid.methods if method != "majority" for n in grid.budgets]
            for prm, method, n in cells:
                values = results.accuracy(problem_set, policy, prm or None, method, n).astype(np.float32)
                cell = dict(zip(CELL, (problem_set, policy, prm, method, n)))
                parts.append(pd.DataFrame({**cell, "seed": grid.seed, "problem_id": ids, "accuracy": values}))
    return pd.concat(parts, ignore_index=True)


def commit(grids: Iterable[tuple[Grid, pd.DataFrame]], path: Path = COMMITTED) -> Path:
    """Keeps the outcomes of several grids (other seeds, other policies) in one file, with settings and weights.

    Raises:
        ValueError: where the grids differ in more than policies, PRMs, problems, methods, budgets and seed.
    """
    pairs = list(grids)
    settings = [_settings(grid) for grid, _ in pairs]
    if any(other != settings[0] for other in settings):
        raise ValueError(f"outcomes of different settings cannot be kept in one file: {settings}")
    names = sorted({name for grid, _ in pairs for name in (*grid.policies, *grid.prms)})
    rows = pd.concat([frame for _, frame in pairs], ignore_index=True).drop_duplicates([*CELL, "seed", "problem_id"])
    for column in ("problems", "policy", "prm", "method", "problem_id"):
        rows[column] = rows[column].astype("category")
    counts = rows.groupby("problems", observed=True)["problem_id"].nunique()
    rows.attrs = {
        "settings": settings[0],
        "weights": {name: _weights(name) for name in names},
        "problems": {name: [int(count), _texts(pairs[0][0], name, int(count))] for name, count in counts.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(path, index=False, compression="zstd")
    return path


def committed(grid: Grid, path: Path = COMMITTED) -> pd.DataFrame:
    """The committed rows of a grid's policies, PRMs, problem sets and methods; those of other settings or weights are left out."""
    empty = pd.DataFrame(columns=[*CELL, "seed", "problem_id", "accuracy"])
    if not path.exists():
        return empty
    rows = pd.read_parquet(path)
    if rows.attrs["settings"] != _settings(grid):
        return empty
    sets = {name for name, (count, texts) in rows.attrs["problems"].items() if name in grid.problems and _texts(grid, name, count) == texts}
    known = {name for name, weights in rows.attrs["weights"].items() if _weights(name) == weights}
    methods = {"cot", "pass", "majority", *grid.methods}
    wanted = rows["policy"].isin(known & set(grid.policies)) & rows["prm"].isin((known & set(grid.prms)) | {""})
    rows = rows[wanted & rows["problems"].isin(sets) & rows["method"].isin(methods)]
    return rows.astype({column: str for column in ("problems", "policy", "prm", "method", "problem_id")}).reset_index(drop=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy per cell with its interval, seeds averaged within a problem; the shape of :attr:`Results.table`."""
    found = []
    for cell, values in _per_problem(rows):
        interval = stats.of_accuracy(values.to_numpy())
        found.append(
            dict(zip(CELL, cell)) | {"accuracy": interval.estimate, "low": interval.low, "high": interval.high, "count": len(values)}
        )
    return pd.DataFrame(found)


def beside(fresh: pd.DataFrame, full: pd.DataFrame, n: int) -> pd.DataFrame:
    """A fresh run's accuracies at budget ``n`` beside those of the committed full run, in per cent with intervals."""
    columns = {}
    for name, table in (("this run", fresh), ("full run (committed)", full)):
        rows = table[(table["n"] == n) | (table["method"] == "cot")]
        text = [f"{100 * r.accuracy:.1f} [{100 * r.low:.0f}, {100 * r.high:.0f}]" for r in rows.itertuples()]
        columns[name] = pd.Series(text, index=pd.MultiIndex.from_frame(rows[["problems", "policy", "prm", "method"]]))
    return pd.DataFrame(columns).dropna().sort_index()


def by_bin(grid: Grid, rows: pd.DataFrame, problem_set: str, prm: str, n: int) -> pd.DataFrame:
    """Accuracy of each method per difficulty bin (absolute thresholds, committed counts), as :func:`tts.tables.by_bin` gives it."""
    found = []
    rows = rows[(rows["problems"] == problem_set) & (rows["n"] == n) & rows["prm"].isin([prm, ""]) & rows["method"].isin(grid.methods)]
    for (_, policy, of_prm, method, _), values in _per_problem(rows):
        bins = bins_of(grid, policy, problem_set, len(values)).reindex(values.index)
        cell = {"policy": policy, "prm": of_prm or prm, "method": method, "n": n}
        found += strategy.rows_of_bins(cell, values.to_numpy(), bins.to_numpy(), tables.FEWEST_PROBLEMS)
    return strategy.in_order(found)


def bins_of(grid: Grid, policy: str, problem_set: str, problems: int) -> pd.Series:
    """Difficulty bin of the first ``problems`` problems by id, from the committed counts; empty where there are none."""
    whole = grid.model_copy(update={"problems": {problem_set: problems}})
    counts = difficulty.committed(whole, policy, problem_set).set_index("problem_id")
    return pd.Series(strategy.absolute_bins(counts["correct"] / counts["samples"]), index=counts.index)


def bin_contrasts(grid: Grid, rows: pd.DataFrame, problem_set: str, prm: str, n: int) -> pd.DataFrame:
    """Search against best-of-N within each difficulty bin, paired by problem, as :func:`tts.tables.bin_contrasts` gives it."""
    rows = rows[(rows["problems"] == problem_set) & (rows["n"] == n) & (rows["prm"] == prm)]
    cells = {(cell[1], cell[3]): values for cell, values in _per_problem(rows)}
    found = []
    for policy in dict.fromkeys(rows["policy"]):
        bins = bins_of(grid, policy, problem_set, rows["problem_id"].nunique())
        for name in strategy.BINS:
            for method in (m for m in grid.methods if m in SEARCHES):
                if (policy, method) not in cells or (policy, "best_of_n") not in cells:
                    continue
                pair = pd.DataFrame({"first": cells[policy, method], "second": cells[policy, "best_of_n"]})
                inside = pair[bins.reindex(pair.index) == name]
                if len(inside) >= tables.FEWEST_PROBLEMS:
                    claim = tables.contrast(method, "best_of_n", inside["first"].to_numpy(), inside["second"].to_numpy())
                    found.append({"policy": policy, "bin": name, "problems": len(inside)} | claim)
    return pd.DataFrame(found)


def _per_problem(rows: pd.DataFrame) -> Iterable[tuple[tuple, pd.Series]]:
    """Each cell with its accuracies by problem id, averaged over seeds."""
    for cell, part in rows.groupby(CELL, sort=False):
        yield cell, part.groupby("problem_id")["accuracy"].mean()


def _settings(grid: Grid) -> dict:
    return {name: getattr(grid, name) for name in SETTINGS}


def _texts(grid: Grid, problem_set: str, count: int) -> str:
    """A hash of the first problems of a set, to tell whether an id still means the same problem."""
    return problem_fingerprint(
        [p for chunk in grid.model_copy(update={"problems": {problem_set: count}}).chunks(problem_set) for p in chunk]
    )


def _weights(name: str) -> str | None:
    try:
        return fingerprint(locate(name.split(":", 1)[-1]))
    except ModelError:
        return None
