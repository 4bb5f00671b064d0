"""Makes one chunk of a run: the models that it needs, its searches, and the rows that are kept of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tqdm.auto import tqdm

from tts.generate.refused import explained, left_by
from tts.generate.work import FEWEST, MOST, Made, OnTokens, Work
from tts.models.loading import memory_of
from tts.policies import open_policy
from tts.policies.base import EnginePolicy
from tts.policies.step_reuse import Remembering, Step, StepKey
from tts.reward_models import open_prm
from tts.search import sample_pool
from tts.search.base import Candidate, Search
from tts.search.driver import Driver, Outcome
from tts.search.registry import POOL, SCORES, Settings, is_search, method_of
from tts.search.sampling import Sampling
from tts.store.clock import Clock
from tts.store.imported import is_imported
from tts.store.run_spec import ELSEWHERE, RunEngine, RunSpec
from tts.store.step_columns import StepCache
from tts.store.store import Run, Store
from tts.tasks import task_in, task_of_key
from tts.tasks.base import Task
from tts.tasks.maths import MATHS

if TYPE_CHECKING:
    from tts.reward_models.base import StepScorer


class Engines:
    """The models in memory: one policy and one PRM at a time."""

    def __init__(self, batch: int = 1, share: float = 1.0):
        self.batch = batch  # sequences that are decoded, or read, at once; :func:`make` sets that of its chunk's run
        self.share = share  # of the memory that they may take
        self._policies: dict[tuple[str, Task, int], EnginePolicy] = {}
        self._prms: dict[tuple[str, Task | None, int], StepScorer] = {}

    def policy(self, name: str, sampling: Sampling, task: Task = MATHS) -> EnginePolicy:
        key = name, task, self.batch
        if key not in self._policies:
            self._policies.clear()  # before the next one is loaded
            self._policies[key] = open_policy(name, sampling, self.batch, task)
        policy = self._policies[key]
        policy.sampling = sampling
        return policy

    def prm(self, name: str, task: Task | None = None) -> StepScorer:
        key = name, task, self.batch
        if key not in self._prms:
            self._prms.clear()
            self._prms[key] = open_prm(name, self.batch, share=self.share, task=task)
        return self._prms[key]

    @property
    def loaded(self) -> list[Any]:
        """The policy and the PRM that are in memory."""
        return [*self._policies.values(), *self._prms.values()]

    def where(self, model: object) -> str:
        """What computes a model: its device with its name or number of threads, or its engine; the batch; torch's version."""
        engine = getattr(model, "engine", None)
        if engine is None:
            return f"{type(model).__name__}, {self.batch} at once"
        import torch

        on_gpu = engine.device.type == "cuda"
        device = torch.cuda.get_device_name(engine.device) if on_gpu else f"{engine.device.type} with {torch.get_num_threads()} threads"
        return f"{device}, {self.batch} at once, torch {torch.__version__}"

    def unread(self) -> tuple[dict[str, int], str | None]:
        """As :meth:`tts.reward_models.base.Reader.report_unread` of the PRM, if there is one that counts."""
        counting = (prm for prm in self._prms.values() if hasattr(prm, "report_unread"))
        return next((prm.report_unread() for prm in counting), ({}, None))


def warn(lines: Iterable[str]) -> None:
    for line in lines:
        tqdm.write(f"warning: {line}", file=sys.stderr)


Inputs = list[dict] | StepCache | None  # of scores a pool's rows, of a search its chunk's cache of steps


def inputs_of(work: Work, store: Store) -> Inputs:
    """What the store holds that a chunk is made from."""
    if pool := pool_of(work, store):
        return pool.read(work.chunk)
    return store.steps(work.spec, work.chunk) if is_search(work.spec.method) else None


def pool_of(work: Work, store: Store) -> Run | None:
    """The run whose samples a chunk's scores are of; None where it is not about scores."""
    if work.spec.method != "scores":
        return None
    engine = RunEngine(ELSEWHERE) if is_imported(work.spec.policy.name) else work.spec.engine
    return store.run(replace(work.spec, method=POOL, prm=None, engine=engine))


def make(work: Work, inputs: Inputs, engines: Engines, on_tokens: OnTokens = lambda tokens: None) -> Made:
    """Makes a chunk from its inputs, as :func:`inputs_of` finds them; a search that gets no steps samples the same ones itself.

    Raises ``ModelError`` where a model cannot be loaded, or the device has no memory for the batch, or stops.
    """
    return make_together([work], [inputs], engines, on_tokens)[0]


def make_together(
    works: Sequence[Work], inputs: Sequence[Inputs], engines: Engines, on_tokens: OnTokens = lambda tokens: None
) -> list[Made]:
    """Makes chunks that go together (:func:`goes_with`), each from its inputs; seconds are told in proportion to their tokens.

    Raises as :func:`make`.
    """
    started = time.monotonic()
    engines.batch = works[0].spec.engine.batch
    with explained(engines, works[0]):
        if works[0].spec.method == SCORES:
            parts = [_score_pool(work, pool, engines) for work, pool in zip(works, inputs)]
        else:
            parts = _search(works, [steps or StepCache() for steps in inputs], engines, on_tokens)
    seconds, (unread, line) = time.monotonic() - started, engines.unread()
    shares = _shares([clock.generated + clock.read for *_, clock in parts])
    made = [
        Made(work, rows, seconds * share, clock, steps, limits) for work, share, (rows, steps, limits, clock) in zip(works, shares, parts)
    ]
    return [replace(made[0], unread=unread, warnings=(line,) if line else ()), *made[1:]]


def _shares(amounts: Sequence[float]) -> list[float]:
    total = sum(amounts)
    return [amount / total if total else 1 / len(amounts) for amount in amounts]


Parts = tuple[list[dict], pa.ListArray | None, tuple[str, ...], Clock]


class _Caches:
    """The caches of steps of several chunks, as one for :class:`tts.policies.step_reuse.Remembering`."""

    def __init__(self, works: Sequence[Work], caches: Sequence[StepCache]):
        self._of = {problem["id"]: cache for work, cache in zip(works, caches) for problem in work.chunk}

    def get(self, key: StepKey) -> Step | None:
        return self._of[key[0]].get(key)

    def add(self, step: Step) -> None:
        self._of[step["problem_id"]].add(step)


def _search(works: Sequence[Work], caches: Sequence[StepCache], engines: Engines, on_tokens: OnTokens) -> list[Parts]:
    spec, problems = works[0].spec, [problem for work in works for problem in work.chunk]
    sampler = engines.policy(spec.policy.name, Sampling(**spec.sampling), task_of_key(spec.task))
    clock = Clock(engines.where(sampler), len(problems))

    def count(tokens: int) -> None:
        clock.generated += tokens
        on_tokens(tokens)

    policy = Remembering(sampler, _Caches(works, caches), count)
    prm = engines.prm(spec.prm.name, task_in(problems)) if spec.prm else None  # it never reads a system prompt of the policy's own
    roots = [sampler.root(p["id"], p["problem"]) for p in problems]
    longest = max(len(root.prompt) for root in roots) + sampler.sampling.max_tokens
    held = room(engines, sampler, longest, prm is not None)
    most = held if hasattr(sampler, "engine") else MOST * engines.batch
    # Of another engine's whole samples none is parked, so that as many as there are may wait.
    driver = Driver(policy, prm, room=held if is_search(spec.method) else most, most=most)
    outcomes = driver.run([(root, search_of(spec, root)) for root in roots])
    of_chunks, left = [], iter(outcomes)
    for work in works:
        of_chunks.append([(problem, outcome) for problem, outcome in zip(work.chunk, left)])
    generated = _shares([sum(outcome.policy_tokens for _, outcome in chunk) for chunk in of_chunks])
    read = [sum(outcome.prm_tokens for _, outcome in chunk) for chunk in of_chunks]
    parts: list[Parts] = []
    for work, cache, chunk, share, tokens, part in zip(works, caches, of_chunks, generated, read, _shares(read)):
        rows = [row(problem, outcome) for problem, outcome in chunk]
        waited = driver.waited["policy"] * share, driver.waited["prm"] * part
        own = Clock(clock.where, len(work.chunk), *waited, round(clock.generated * share), tokens)
        parts.append((rows, cache.column(rows), sampler.limits, own))
    return parts


def room(engines: Engines, policy: EnginePolicy, longest: int, scored: bool) -> int:
    """Candidates that searches under way may hold.

    Where a PRM scores them, many, for the batch to stay full meanwhile: sixteen times the batch, as far as caches of the ``longest`` one's
    tokens fit into an eighth of the memory, of a GPU's what the weights leave. Four times where fewer would, where the caches are another
    engine's, or where none is scored.
    """
    if (engine := getattr(policy, "engine", None)) is None or not scored:
        return FEWEST * engines.batch
    memory = left_by(engines.loaded, engines.share) if engine.device.type == "cuda" else engines.share * memory_of(engine.device)
    fitting = int(memory) // 8 // (engine.token_bytes * longest)
    return max(FEWEST * engines.batch, min(MOST * engines.batch, fitting))


def search_of(spec: RunSpec, root: Candidate) -> Search:
    """The search that a spec describes, from a problem's root."""
    if is_search(spec.method):
        return method_of(spec.method).build(root, spec.n, Settings(spec.width, spec.max_steps, spec.seed, spec.constants or {}))
    return sample_pool(root, spec.n)


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
            {"path": list(c.path), "steps": list(c.steps), "scores": list(c.scores or ()), "status": c.status, "tokens": len(c.tokens)}
            for c in outcome.trajectories
        ],
        "confidences": [list(c.confidence) for c in outcome.trajectories] if any(c.confidence for c in outcome.trajectories) else None,
    }


def _score_pool(work: Work, pool: list[dict], engines: Engines) -> Parts:
    """The stored pool's rows with a PRM's scores; the policy's tokens are the pool's, counted there."""
    prm = engines.prm(work.spec.prm.name, task_in(work.chunk))
    began = time.perf_counter()
    at_once = max(1, FEWEST * engines.batch // work.spec.n)
    for first in range(0, len(pool), at_once):
        rows = pool[first : first + at_once]
        problems = [(r["problem_id"], r["problem"]) for r in rows for _ in r["trajectories"]]
        results = iter(zip(*prm.score(problems, [tuple(t["steps"]) for r in rows for t in r["trajectories"]])))
        for r in rows:
            prm.forget(r["problem_id"])
            r["prm_tokens"] = 0
            for trajectory in r["trajectories"]:
                scores, read = next(results)
                trajectory["scores"] = list(scores)
                r["prm_tokens"] += read
    read_all = sum(r["prm_tokens"] for r in pool)
    return pool, None, (), Clock(engines.where(prm), len(pool), prm=time.perf_counter() - began, read=read_all)
