"""Fills the store with what a grid asks for, one chunk after the other, or spread over a cluster (:mod:`tts.runs.cluster`)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tqdm.auto import tqdm

from tts.policies import DEFAULT, check_ready, open_policy
from tts.policies.sampling import Sampling
from tts.reward_models import open_prm
from tts.reward_models.base import StepScorer
from tts.reward_models.vllm import PassScorer
from tts.runs.grid import SEARCHES, Grid
from tts.runs.imported import is_imported
from tts.runs.store import ELSEWHERE, Run, Store
from tts.search import sample_pool
from tts.search.base import Candidate, Search
from tts.search.driver import Driver, Outcome, Policy

# Set where :mod:`tts.runs.cluster` spreads the work; notebooks inherit it.
CLUSTER = "TTS_CLUSTER"


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


@dataclass(frozen=True)
class Made:
    """A chunk that was made.

    Attributes:
        work: what it is.
        rows: of the store.
        seconds: that it took.
        limits: what the engine could not do for it, in words.
        warnings: about what happened meanwhile.
    """

    work: Work
    rows: list[dict]
    seconds: float
    limits: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def fill(grid: Grid, store: Store) -> int:
    """Makes what is missing, after another process that writes to the store; returns the number of chunks that were missing.

    Only this process writes to the store. Stopping it at any moment loses the chunks under way only.
    """
    work = missing(grid, store)
    if not work:
        return 0
    for name in dict.fromkeys(item.spec["policy"]["name"] for item in work if item.spec["method"] != "scores"):
        check_ready(name)
    lock = store.lock(wait=True)  # notebooks run side by side, and what one makes another may need
    try:
        with tqdm(total=len(work), desc="study", unit="chunk", smoothing=0) as bar:

            def announce(item: Work) -> None:
                bar.set_postfix_str(f"{item.spec['method']} {item.spec['policy']['name']} N={item.spec['n']}")

            for item in work:
                if store.run(item.spec).path(item.chunk).exists():
                    store.open(item.spec)  # the run's note was lost, and is all that is missing
            left = [item for item in work if not store.run(item.spec).has(item.chunk)]
            bar.update(len(work) - len(left))
            for made in (_spread if os.environ.get(CLUSTER) else make_all)(left, store, grid.batch, announce):
                store.open(made.work.spec).write(made.work.chunk, made.rows, made.seconds, made.limits)
                bar.update()
    finally:
        lock.release()
    return len(work)


def make_all(work: list[Work], store: Store, batch: int, announce: Callable[[Work], None]) -> Iterator[Made]:
    """Makes chunks one after the other, in this process."""
    engines = Engines(batch)
    try:
        for item in work:
            announce(item)
            started = time.monotonic()
            rows = make(item, store, engines)
            yield Made(item, rows, time.monotonic() - started, engines.limits(item.spec))
    finally:
        warn(engines.unread())


def _spread(*arguments: object) -> Iterator[Made]:
    from tts.runs import cluster  # which imports this module

    return cluster.make_all(*arguments)


class Engines:
    """The models in memory: one policy and one PRM at a time."""

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

    def limits(self, spec: dict) -> tuple[str, ...]:
        """What the engine that samples for a spec cannot do; scores of a pool sample nothing."""
        return getattr(self._policies.get(spec["policy"]["name"]), "limits", ()) if spec["method"] != "scores" else ()

    def prm(self, name: str) -> StepScorer:
        if name not in self._prms:
            warn(self.unread())
            self._prms.clear()
            self._prms[name] = open_prm(name, self.batch)
        return self._prms[name]

    def unread(self) -> list[str]:
        """A line for each PRM with steps that did not fit its context since this was asked last."""
        scorers = (prm for prm in self._prms.values() if isinstance(prm, StepScorer | PassScorer))
        return [line for prm in scorers if (line := prm.report_unread())]


def warn(lines: Iterable[str]) -> None:
    for line in lines:
        tqdm.write(f"warning: {line}", file=sys.stderr)


def make(work: Work, store: Store, engines: Engines) -> list[dict]:
    """Runs one chunk and returns its rows."""
    pool = pool_of(work, store)
    return make_from(work, pool.read(work.chunk) if pool else None, engines)


def pool_of(work: Work, store: Store) -> Run | None:
    """The run whose samples a chunk's scores are of; None where it is not about scores."""
    if work.spec["method"] != "scores":
        return None
    pool = work.spec | {"method": "pool", "prm": None}
    return store.run(pool | {"engine": ELSEWHERE} if is_imported(pool["policy"]["name"]) else pool)


def make_from(work: Work, pool: list[dict] | None, engines: Engines) -> list[dict]:
    """:func:`make` without a store: of scores, with the pool's rows given."""
    spec = work.spec
    if pool is not None:
        return _score_pool(spec, pool, engines)
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
        "prompt": outcome.prompt,
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


def _score_pool(spec: dict, pool: list[dict], engines: Engines) -> list[dict]:
    """The stored pool's rows with a PRM's scores; the policy's tokens are the pool's, counted there."""
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
        row["prm_tokens"] = 0
        for trajectory in row["trajectories"]:
            scores, read = next(results)
            trajectory["scores"] = list(scores)
            row["prm_tokens"] += read


def describe(grid: Grid, store: Store) -> str:
    """What will run, in two lines, and a line for each thing that an engine could not do for what is stored."""
    work = missing(grid, store)
    total = sum(1 for _ in grid.specs()) * sum(len(grid.chunks(name)) for name in grid.problems)
    sets = ", ".join(f"{count} of {name} ({grid.split})" for name, count in grid.problems.items())
    others = [spec for spec in grid.specs() if spec["engine"]["name"] != DEFAULT]
    limits = dict.fromkeys(f"\n{spec['policy']['name']}: {limit}" for spec in others for limit in store.run(spec).limits())
    return (
        f"{len(grid.policies)} policies, {len(grid.prms)} PRMs, methods {', '.join(grid.methods)}, "
        f"N = {', '.join(map(str, grid.budgets))}, problems: {sets}\n"
        f"{total - len(work)} of {total} chunks are stored in {store.folder}; {len(work)} will run"
    ) + "".join(limits)
