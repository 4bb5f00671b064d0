"""What a study will take before it is started: tokens, time and memory of the chunks that are missing.

Lengths and speeds are measured on a short run of each method with each policy and PRM, on this machine, now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tts.kv_cache import CachedModel, capacity_for
from tts.policies.sampling import Sampling
from tts.runs.grid import Grid
from tts.runs.runner import Engines, Work, make, missing, room, score_rows
from tts.runs.store import Store

PROBE_PROBLEMS, PROBE_N = 24, 16


@dataclass(frozen=True)
class Estimate:
    """Totals over missing work.

    Attributes:
        tokens: that policies will generate.
        seconds: that it will take.
        cache_bytes: what the models' caches may come to at most, models not counted; ``batch`` bounds it.
    """

    tokens: float = 0.0
    seconds: float = 0.0
    cache_bytes: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.tokens + other.tokens, self.seconds + other.seconds, max(self.cache_bytes, other.cache_bytes))

    def __str__(self) -> str:
        return (
            f"about {self.tokens / 1e6:.2f} million tokens, {self.seconds / 60:.1f} minutes; "
            f"caches of at most {self.cache_bytes / 2**20:,.0f} MiB (set by batch)"
        )


def estimate(grid: Grid, store: Store, counted: set[Path]) -> Estimate:
    """Tokens, time and memory of the grid's missing chunks; nothing is written.

    Args:
        grid: what is to run.
        store: what has run.
        counted: chunks that another grid's estimate holds already; this one's are added.

    Raises:
        tts.models.ModelError: where a model cannot be loaded.
    """
    total = Estimate()
    probes: dict[tuple, Estimate] = {}  # of one solution
    caches: dict[tuple, int] = {}
    engines = Engines(grid.batch)
    for work in missing(grid, store):
        target = store.run(work.spec).path(work.chunk)
        if target in counted:
            continue
        counted.add(target)
        spec = work.spec
        models = (spec["method"], spec["policy"]["name"], spec["prm"] and spec["prm"]["name"])
        key = (*models, min(spec["n"], PROBE_N))
        if key not in probes:
            probes[key] = _probe(grid, store, engines, spec)
        if (*models, spec["n"]) not in caches:
            caches[*models, spec["n"]] = _cache_bytes(grid, engines, spec)
        solutions, one = spec["n"] * len(work.chunk), probes[key]
        total += Estimate(solutions * one.tokens, solutions * one.seconds, caches[*models, spec["n"]])
    return total


def _probe(grid: Grid, store: Store, engines: Engines, spec: dict) -> Estimate:
    """What one solution takes: the same work on a few problems with a smaller N."""
    chunk = grid.chunks(next(iter(grid.problems)))[0][:PROBE_PROBLEMS]
    small = spec | {"n": min(spec["n"], PROBE_N)}
    pool = small | {"method": "pool", "prm": None}
    make(Work(pool | {"n": 1}, chunk[:1]), store, engines)  # the first call pays for loading and warming up
    if spec["method"] == "scores":
        return _probe_scores(make(Work(pool, chunk), store, engines), engines, spec)
    if spec["prm"]:
        engines.prm(spec["prm"]["name"])
    started = time.perf_counter()
    rows = make(Work(small, chunk), store, engines)
    solutions = small["n"] * len(chunk)
    return Estimate(sum(r["policy_tokens"] for r in rows) / solutions, (time.perf_counter() - started) / solutions)


def _probe_scores(rows: list[dict], engines: Engines, spec: dict) -> Estimate:
    """Scoring of a pool, whose tokens its own run has."""
    prm = engines.prm(spec["prm"]["name"])
    started = time.perf_counter()
    score_rows(rows, prm)
    return Estimate(0.0, (time.perf_counter() - started) / sum(len(row["trajectories"]) for row in rows))


def _cache_bytes(grid: Grid, engines: Engines, spec: dict) -> int:
    """Of the policy's and the PRM's caches: the batch's rows, and what the searches under way park, all at the greatest length."""
    policy = engines.policy(spec["policy"]["name"], Sampling(**spec["sampling"]))
    problems = [p for name in grid.problems for chunk in grid.chunks(name) for p in chunk]
    prompt = max(len(policy.root(p["id"], p["problem"]).prompt) for p in problems)
    candidates = room(grid.batch) + spec["n"]
    parked = int(candidates * (1 + 1 / spec["width"])) if "width" in spec else 0  # children, and the parents of those under way
    total = _bytes(getattr(policy, "cached", None), prompt + grid.max_tokens, parked)
    if spec["prm"]:
        prm = engines.prm(spec["prm"]["name"])
        opening = max(len(prm.family.render(p["problem"], ())) for p in problems) if hasattr(prm, "family") else 0
        # A step's marks may take a few tokens more than the policy's blank line; two levels of a tree are parked at once.
        total += _bytes(getattr(prm, "cached", None), opening + grid.max_tokens + 2 * grid.max_steps, 2 * candidates)
    return total


def _bytes(cached: CachedModel | None, longest: int, parked: int) -> int:
    if cached is None:  # another engine's memory is its own
        return 0
    return cached.token_bytes * (cached.slots * capacity_for(longest) + parked * longest)
