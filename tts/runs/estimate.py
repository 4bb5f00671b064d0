"""What a study will take before it is started: tokens and time of the chunks that are missing.

Lengths and speeds are measured on a short sample of each policy and PRM, on this machine, now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tts.runs.grid import Grid
from tts.runs.runner import Engines, Work, make, missing
from tts.runs.store import Store

PROBE = 24


@dataclass(frozen=True)
class Estimate:
    """Totals over missing work.

    Attributes:
        tokens: that policies will generate.
        seconds: that it will take.
    """

    tokens: float
    seconds: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.tokens + other.tokens, self.seconds + other.seconds)

    def __str__(self) -> str:
        return f"about {self.tokens / 1e6:.2f} million tokens, {self.seconds / 60:.1f} minutes"


@dataclass(frozen=True)
class Rate:
    """A policy's mean solution length, and its and a PRM's seconds for one solution."""

    tokens: float
    sampling: float
    scoring: float


def estimate(grid: Grid, store: Store, counted: set[Path]) -> Estimate:
    """Tokens and time of the grid's missing chunks; nothing is written.

    Args:
        grid: what is to run.
        store: what has run.
        counted: chunks that another grid's estimate holds already; this one's are added.

    Raises:
        tts.models.ModelError: where a model cannot be loaded.
    """
    total = Estimate(0.0, 0.0)
    rates: dict[tuple[str, str | None], Rate] = {}
    engines = Engines(grid.batch)
    for work in missing(grid, store):
        target = store.run(work.spec).path(work.chunk)
        if target in counted:
            continue
        counted.add(target)
        prm = work.spec["prm"]["name"] if work.spec["prm"] else None
        key = (work.spec["policy"]["name"], prm)
        if key not in rates:
            rates[key] = _probe(grid, store, engines, *key)
        total += _of(work, rates[key])
    return total


def _of(work: Work, rate: Rate) -> Estimate:
    solutions = work.spec["n"] * len(work.chunk)
    if work.spec["method"] == "scores":
        return Estimate(0.0, solutions * rate.scoring)
    return Estimate(solutions * rate.tokens, solutions * (rate.sampling + (rate.scoring if work.spec["prm"] else 0.0)))


def _probe(grid: Grid, store: Store, engines: Engines, policy: str, prm: str | None) -> Rate:
    """Samples a few solutions of the first problems, and scores them, to see how long that takes."""
    name = next(iter(grid.problems))
    chunk = grid.chunks(name)[0][:PROBE]
    per_problem = max(1, grid.batch // len(chunk))
    spec = grid.spec("pool", policy, n=per_problem)
    make(Work(spec | {"n": 1}, chunk[:2]), store, engines)  # the first call pays for loading and warming up
    started = time.monotonic()
    rows = make(Work(spec, chunk), store, engines)
    sampling = time.monotonic() - started
    solutions = per_problem * len(chunk)
    scoring = 0.0
    if prm:
        scorer = engines.prm(prm)
        problems = [(r["problem_id"], r["problem"]) for r in rows for _ in r["trajectories"]]
        started = time.monotonic()
        scorer.score(problems, [tuple(t["steps"]) for r in rows for t in r["trajectories"]])
        scoring = time.monotonic() - started
        for problem_id, _ in problems:
            scorer.forget(problem_id)
    return Rate(sum(r["policy_tokens"] for r in rows) / solutions, sampling / solutions, scoring / solutions)
