"""What a study will take before it is started: tokens, time and memory of the chunks that are missing.

Lengths and speeds are measured on a short run of each method with each policy and PRM, on this machine, now.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tts.generate.chunks import FEWEST, Engines, Made, Work, longest_of, make, pool_of, room, score_rows
from tts.generate.grid import Grid
from tts.generate.local_pool import make_all, side_by_side
from tts.generate.runner import missing
from tts.policies.step_reuse import Step, StepKey
from tts.search.registry import is_search
from tts.search.sampling import Sampling
from tts.store.imported import is_imported
from tts.store.store import Store

if TYPE_CHECKING:
    from tts.engine.cached_model import CachedModel
    from tts.search.base import Candidate
    from tts.search.driver import Policy, RewardModel

MARKS = 2  # tokens of a step's end that a PRM reads more than a policy writes
PROBE_PROBLEMS, PROBE_N = 12, 64  # samples share what they begin with, the more the more there are


@dataclass(frozen=True)
class Estimate:
    """Totals over missing work.

    Attributes:
        tokens: that policies will generate.
        seconds: that it will take.
        policy_bytes, prm_bytes: what the models' caches may come to at most, models not counted, in all processes.
    """

    tokens: float = 0.0
    seconds: float = 0.0
    policy_bytes: int = 0
    prm_bytes: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        caches = max(self.policy_bytes, other.policy_bytes), max(self.prm_bytes, other.prm_bytes)
        return Estimate(self.tokens + other.tokens, self.seconds + other.seconds, *caches)

    @property
    def cache_bytes(self) -> int:
        """Of both: a process may keep a model between chunks that need one of them."""
        return self.policy_bytes + self.prm_bytes

    def __str__(self) -> str:
        return (
            f"about {self.tokens / 1e6:.2f} million tokens, {self.seconds / 60:.1f} minutes; "
            f"caches of at most {self.cache_bytes / 2**20:,.0f} MiB (less with fewer processes: TTS_PROCESSES=1)"
        )


def estimate(grid: Grid, store: Store, counted: set[Path]) -> Estimate:
    """Tokens, time and memory of the grid's missing chunks; nothing is written.

    Args:
        grid: what is to run.
        store: what has run.
        counted: chunks that another grid's estimate holds already; this one's are added.

    Raises:
        tts.models.hub.ModelError: where a model cannot be loaded.
    """
    import torch

    total, before = Estimate(), torch.get_num_threads()
    count, threads = side_by_side(grid.specs())
    probes = _Probes(grid, store, Engines(grid.batch, 1 / count))
    first, starting = not counted, 0.0
    torch.set_num_threads(threads)
    try:
        for work in missing(grid, store):
            target = store.run(work.spec).path(work.chunk)
            if target in counted:
                continue
            counted.add(target)
            solutions, one = work.spec["n"] * len(work.chunk), probes.solution(work)
            total += Estimate(solutions * one.tokens, solutions * one.seconds, *probes.caches(work.spec))
            if first and count > 1 and not is_imported(work.spec["policy"]["name"]):
                first, starting = False, _starting(work, store, count, threads)
    finally:
        torch.set_num_threads(before)
    seconds = total.seconds / count + (starting or probes.starting)
    return Estimate(total.tokens, seconds, total.policy_bytes * count, total.prm_bytes * count)


def _starting(work: Work, store: Store, count: int, threads: int) -> float:
    """Seconds until processes side by side have a model: what each imports takes longer beside others, and more than a small study."""
    one = work.spec | {"method": "pool", "prm": None, "n": 1}
    started = time.perf_counter()
    for _ in make_all([Work(one, work.chunk[:1]) for _ in range(count)], store, lambda item: None, lambda tokens: None, count, threads):
        continue
    return time.perf_counter() - started


class _Probes:
    """What one solution takes: the same work on a few problems with a smaller N, once for each problem set, method, policy and PRM."""

    def __init__(self, grid: Grid, store: Store, engines: Engines):
        self.grid, self.store, self.engines = grid, store, engines
        self._sets = {name: [problem for chunk in grid.chunks(name) for problem in chunk] for name in grid.problems}
        self._solutions: dict[tuple, Estimate] = {}
        self._pools: dict[tuple, list[dict]] = {}
        self._steps: dict[tuple, dict[StepKey, Step]] = {}
        self._caches: dict[tuple, tuple[int, int]] = {}
        self.starting = 0.0  # seconds that it took until the first model was ready

    def solution(self, work: Work) -> Estimate:
        """Of a chunk of work; policies write longer solutions of harder problems."""
        name = next(name for name, problems in self._sets.items() if work.chunk[0] in problems)
        key = (name, *_models(work.spec), min(work.spec["n"], PROBE_N))
        if key not in self._solutions:
            problems = self._sets[name]
            few = problems[:: max(1, len(problems) // PROBE_PROBLEMS)][:PROBE_PROBLEMS]
            self._solutions[key] = self._scoring(work.spec, few) if work.spec["method"] == "scores" else self._making(work.spec, few)
        return self._solutions[key]

    def _making(self, spec: dict, few: list[dict]) -> Estimate:
        small = spec | {"n": min(spec["n"], PROBE_N)}
        started = time.perf_counter()
        self._make(spec | {"method": "pool", "prm": None, "n": 1}, few[:1])  # the first call pays for loading and warming up
        self.starting = self.starting or time.perf_counter() - started
        if spec["prm"]:
            self.engines.prm(spec["prm"]["name"])
        started = time.perf_counter()
        made = self._make(small, few)
        seconds, solutions = time.perf_counter() - started, small["n"] * len(few)
        if spec["method"] == "pool":
            self._pools[spec["policy"]["name"], few[0]["id"]] = made.rows
        return Estimate(made.generated / solutions, seconds / solutions)

    def _scoring(self, spec: dict, few: list[dict]) -> Estimate:
        """Of a pool, whose tokens its own run has."""
        pool = spec["policy"]["name"], few[0]["id"]
        if pool not in self._pools and is_imported(pool[0]):
            stored = pool_of(Work(spec, few), self.store).read(few)
            self._pools[pool] = [row | {"trajectories": row["trajectories"][:PROBE_N]} for row in stored]
        elif pool not in self._pools:
            self._making(spec | {"method": "pool", "prm": None}, few)
        rows, prm = self._pools[pool], self.engines.prm(spec["prm"]["name"])
        started = time.perf_counter()
        score_rows(rows, prm)
        return Estimate(0.0, (time.perf_counter() - started) / sum(len(row["trajectories"]) for row in rows))

    def _make(self, spec: dict, few: list[dict]) -> Made:
        """Searches find the steps of those before them known, as in the study."""
        if not is_search(spec["method"]):
            return make(Work(spec, few), None, self.engines)
        key = spec["policy"]["name"], few[0]["id"]
        if key not in self._steps:
            ids = {problem["id"] for problem in few}
            chunks = [chunk for name in self._sets for chunk in self.grid.chunks(name)]
            stored = [self.store.steps(spec, chunk) for chunk in chunks]
            self._steps[key] = {path: steps[path] for steps in stored for path in steps if path[0] in ids}
        made = make(Work(spec, few), self._steps[key], self.engines)
        self._steps[key] |= made.sampled
        return made

    def caches(self, spec: dict) -> tuple[int, int]:
        """Bytes of the policy's and the PRM's."""
        key = (*_models(spec), spec["n"])
        if key not in self._caches:
            self._caches[key] = _caches(self.grid, self.engines, spec)
        return self._caches[key]


def _models(spec: dict) -> tuple:
    return spec["method"], spec["policy"]["name"], spec["prm"] and spec["prm"]["name"]


def _caches(grid: Grid, engines: Engines, spec: dict) -> tuple[int, int]:
    """Bytes of the policy's and the PRM's caches: the batch's rows, and what the searches under way park, all at the greatest length."""
    problems = [p for name in grid.problems for chunk in grid.chunks(name) for p in chunk]
    prm, opening = engines.prm(spec["prm"]["name"]) if spec["prm"] else None, 0
    if hasattr(prm, "family"):
        opening = max(map(len, prm.family.render([(p["problem"], ()) for p in problems])))
    # A step's marks may take a few tokens more than the policy's blank line.
    read = opening + grid.max_tokens + MARKS * grid.max_steps
    if spec["method"] == "scores":  # nothing is sampled
        return 0, _bytes(getattr(prm, "cached", None), read, max(FEWEST * grid.batch, spec["n"]) * read)
    policy = engines.policy(spec["policy"]["name"], Sampling(**spec["sampling"]))
    roots = {len(root.prompt): root for root in (policy.root(p["id"], p["problem"]) for p in problems)}
    # A chunk's longest may be any of these.
    return tuple(map(max, zip(*(_sampled(grid, engines, spec, policy, prm, root, read) for root in roots.values()))))


def _sampled(
    grid: Grid, engines: Engines, spec: dict, policy: Policy, prm: RewardModel | None, root: Candidate, read: int
) -> tuple[int, int]:
    """Of searches whose longest prompt is this one's, and whose solutions take ``read`` tokens of a PRM at most."""
    from tts.policies.transformers import PREFILLED

    longest, cached = longest_of([root], policy.sampling), getattr(policy, "cached", None)
    held = room(engines, policy, longest, prm is not None)
    candidates = held + spec["n"] if spec["n"] > 1 else 0
    step = min(grid.max_tokens, policy.sampling.max_step_tokens)

    def parked(solution: int, of_step: int) -> int:
        """Tokens: in a search steps, and the solutions that they go on from; else samples that wait for a row."""
        return candidates * of_step + candidates // spec["width"] * solution if "width" in spec else candidates * solution

    under_way = held // spec["n"] + 1  # whose prompts are parked too
    prefilled = grid.batch // PREFILLED + 1  # in rows beside the batch's
    prompts = longest if candidates else len(root.prompt)
    sampling = _bytes(cached, longest, parked(longest, step)) + _bytes(cached, prompts, under_way * prompts, slots=prefilled)
    if not hasattr(prm, "cached"):  # another engine's memory is its own
        return sampling, 0
    tokens = parked(read, step + MARKS)
    if parked(read, read) > prm.tokens_kept:  # what has to be dropped is read again from the start, and held whole
        tokens = max(tokens, 2 * prm.tokens_kept)
    return sampling, _bytes(prm.cached, read, tokens)


def _bytes(cached: CachedModel | None, longest: int, parked: int, slots: int | None = None) -> int:
    """Of a model's slots (its own number, or this), each of the greatest length, and of so many parked tokens."""
    from tts.engine.slot_cache import capacity_for

    if cached is None:  # another engine's memory is its own
        return 0
    return cached.token_bytes * ((slots or cached.slots) * capacity_for(longest) + parked)
