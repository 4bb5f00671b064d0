"""Fills the store with what a grid asks for, one chunk after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tqdm.auto import tqdm

from tts.policies import open_policy
from tts.policies.sampling import Sampling
from tts.reward_models import open_prm
from tts.reward_models.base import StepScorer
from tts.runs.grid import SEARCHES, Grid
from tts.runs.store import Store
from tts.search import sample_pool
from tts.search.base import Candidate, Search
from tts.search.driver import Driver, Outcome, Policy


@dataclass(frozen=True)
class Work:
    """A chunk of a run that is not stored yet."""

    spec: dict
    chunk: list[dict]


def missing(grid: Grid, store: Store) -> list[Work]:
    """The grid's chunks that the store does not hold, in the order in which they are to be made."""
    return [
        Work(spec, chunk)
        for spec in grid.specs()
        for name in grid.problems
        for chunk in grid.chunks(name)
        if not store.run(spec).has(chunk)
    ]


def fill(grid: Grid, store: Store) -> int:
    """Makes what is missing, after another process that writes to the store; returns the number of chunks that were missing.

    Stopping it at any moment loses the chunk under way only.
    """
    work = missing(grid, store)
    if not work:
        return 0
    lock = store.lock(wait=True)  # notebooks run side by side, and what one makes another may need
    engines = Engines(grid.batch)
    try:
        with tqdm(total=len(work), desc="study", unit="chunk", smoothing=0) as bar:
            for item in work:
                run = store.open(item.spec)
                if not run.has(item.chunk):
                    bar.set_postfix_str(f"{item.spec['method']} {item.spec['policy']['name']} N={item.spec['n']}")
                    started = time.monotonic()
                    rows = make(item, store, engines)
                    run.write(item.chunk, rows, time.monotonic() - started)
                bar.update()
    finally:
        lock.release()
    return len(work)


class Engines:
    """The models in memory: one policy at a time, and the PRMs used with it."""

    def __init__(self, batch: int):
        self.batch = batch
        self._policies: dict[str, Policy] = {}
        self._prms: dict[str, StepScorer] = {}

    def policy(self, name: str, sampling: Sampling) -> Policy:
        if name not in self._policies:
            self._policies.clear()  # before the next one is loaded
            self._policies[name] = open_policy(name, sampling, self.batch)
        policy = self._policies[name]
        policy.sampling = sampling
        return policy

    def prm(self, name: str) -> StepScorer:
        if name not in self._prms:
            self._prms[name] = open_prm(name, self.batch)
        return self._prms[name]


def make(work: Work, store: Store, engines: Engines) -> list[dict]:
    """Runs one chunk and returns its rows."""
    spec = work.spec
    if spec["method"] == "scores":
        return _score_pool(work, store, engines)
    policy = engines.policy(spec["policy"]["name"], Sampling(**spec["sampling"]))
    prm = engines.prm(spec["prm"]["name"]) if spec["prm"] else None
    roots = [policy.root(p["id"], p["problem"]) for p in work.chunk]
    with tqdm(desc="tokens", unit="token", unit_scale=True, leave=False, delay=2) as bar:
        outcomes = Driver(policy, prm, room=room(engines.batch), on_tokens=bar.update).run(
            [(root, search_of(spec, root)) for root in roots]
        )
    return [row(problem, outcome) for problem, outcome in zip(work.chunk, outcomes)]


def room(batch: int) -> int:
    """Candidates that searches under way may hold: enough that the batch stays full while some of them are scored."""
    return 4 * batch


def search_of(spec: dict, root: Candidate) -> Search:
    """The search that a spec describes, from a problem's root."""
    if spec["method"] in SEARCHES:
        return SEARCHES[spec["method"]](root, spec["n"], spec["width"], spec["max_steps"])
    return sample_pool(root, spec["n"])


def row(problem: dict, outcome: Outcome) -> dict:
    """What the store keeps of a problem's outcome."""
    return {
        "problem_id": problem["id"],
        "problem": problem["problem"],
        "answer": problem["answer"],
        "prompt_tokens": outcome.prompt_tokens,
        "policy_tokens": outcome.policy_tokens,
        "prm_tokens": outcome.prm_tokens,
        "trajectories": [
            {
                "path": list(c.path),
                "steps": list(c.steps),
                "scores": list(c.scores or ()),
                "status": c.status,
                "tokens": len(c.tokens),
            }
            for c in outcome.trajectories
        ],
    }


def _score_pool(work: Work, store: Store, engines: Engines) -> list[dict]:
    """The stored pool's rows with a PRM's scores; the policy's tokens are the pool's, counted there."""
    spec = work.spec
    pool = store.run(spec | {"method": "pool", "prm": None}).read(work.chunk)
    prm = engines.prm(spec["prm"]["name"])
    at_once = max(1, room(engines.batch) // spec["n"])
    for first in range(0, len(pool), at_once):
        score_rows(pool[first : first + at_once], prm)
    return pool


def score_rows(rows: list[dict], prm: StepScorer) -> None:
    """Puts a PRM's scores into a pool's rows."""
    problems = [(r["problem_id"], r["problem"]) for r in rows for _ in r["trajectories"]]
    results = iter(zip(*prm.score(problems, [tuple(t["steps"]) for r in rows for t in r["trajectories"]])))
    for row in rows:
        prm.forget(row["problem_id"])
        for trajectory in row["trajectories"]:
            scores, read = next(results)
            trajectory["scores"] = list(scores)
            row["prm_tokens"] += read


def describe(grid: Grid, store: Store) -> str:
    """What will run, in two lines."""
    work = missing(grid, store)
    total = sum(1 for _ in grid.specs()) * sum(len(grid.chunks(name)) for name in grid.problems)
    sets = ", ".join(f"{count} of {name} ({grid.split})" for name, count in grid.problems.items())
    return (
        f"{len(grid.policies)} policies, {len(grid.prms)} PRMs, methods {', '.join(grid.methods)}, "
        f"N = {', '.join(map(str, grid.budgets))}, problems: {sets}\n"
        f"{total - len(work)} of {total} chunks are stored in {store.folder}; {len(work)} will run"
    )
