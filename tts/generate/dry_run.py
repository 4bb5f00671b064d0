"""What a study will take, before it is started: what is missing, by counting; tokens, time and memory, by measuring on this machine.

Counting loads no model. Measuring makes a few solutions of each problem set with each method, policy and PRM, in growing numbers,
until its share of the time that it is given is used.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tqdm.auto import tqdm

from tts.generate.chunks import Engines, make, pool_of, room
from tts.generate.grid import Grid
from tts.generate.local_pool import side_by_side
from tts.generate.runner import missing
from tts.generate.work import FEWEST, Work
from tts.search.sampling import Sampling
from tts.store.run_spec import RunSpec
from tts.store.step_columns import ChunkSteps, StepCache
from tts.store.store import Store
from tts.tasks import task_in, task_of_key

MARKS = 2  # tokens of a step's end that a PRM reads more than a policy writes
# Problems, samples of each, and tokens of each sample at most. The first warms up; the second takes whole solutions; the third takes
# more, since samples share what they begin with, the more the more there are, and problems differ in length.
ROUNDS = ((2, 16, 32), (4, 16, 1 << 30), (12, 64, 1 << 30))
GROWTH = 12  # how many times as long as the one before a round takes at most, about


@dataclass(frozen=True)
class Item:
    """A missing chunk: the grid that asks for it, its store, and the work."""

    grid: Grid
    store: Store
    work: Work

    @property
    def problem_set(self) -> str:
        return next(name for name in self.grid.problems if self.work.chunk in self.grid.chunks(name))

    @property
    def solutions(self) -> int:
        return self.work.spec.n * len(self.work.chunk)

    @property
    def tokens(self) -> int:
        """What its solutions would take if each were as long as ``max_tokens`` allows; scores take none of the policy."""
        return 0 if self.work.spec.method == "scores" else self.solutions * self.work.spec.sampling["max_tokens"]


def missing_of(pairs: Iterable[tuple[Grid, Store]]) -> list[Item]:
    """What stores lack of grids, each chunk once. Loads nothing; raises ``ModelError`` for a model that cannot be found."""
    items = (Item(grid, store, work) for grid, store in pairs for work in missing(grid, store))
    return list({item.store.run(item.work.spec).path(item.work.chunk): item for item in items}.values())


def table(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """Rows of policy, PRM, method, chunks, solutions and million tokens if each solution took ``max_tokens``; the last row is the sum."""
    groups: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        spec = item.work.spec
        groups.setdefault((spec.policy.name, spec.guide or "", spec.method), []).append(item)
    return [
        (*models, f"{len(of):,}", f"{sum(i.solutions for i in of):,}", f"{sum(i.tokens for i in of) / 1e6:,.2f}")
        for models, of in [*groups.items(), (("all", "", ""), items)]
    ]


@dataclass(frozen=True)
class Estimate:
    """Totals over missing work."""

    tokens: float = 0.0  # that policies will generate
    seconds: float = 0.0  # how long it will take
    cache_bytes: int = 0  # that the models' caches may come to at most, models not counted, in all processes
    cut: tuple[str, ...] = ()  # work that was not measured to the end, in words

    def __str__(self) -> str:
        limit = "\nextrapolated, as if each solution took all of max_tokens, since the limit was too short (say --limit MINUTES): "
        return (
            f"about {self.tokens / 1e6:.2f} million tokens, {self.seconds / 60:.1f} minutes; "
            f"caches of at most {self.cache_bytes / 2**20:,.0f} MiB (less with fewer processes: TTS_PROCESSES=1)"
        ) + (limit + "; ".join(self.cut) if self.cut else "")


def measure(items: Sequence[Item], minutes: float = 2.0) -> Estimate:
    """Tokens, time and memory of missing chunks; nothing is stored.

    Takes about so many minutes, but loads and measures each model, whatever that takes. Raises ``ModelError`` where one cannot be loaded.
    """
    began = time.monotonic()
    import torch

    before = torch.get_num_threads()
    count, threads = side_by_side([item.work.spec for item in items])
    probes = _Probes(Engines(share=1 / count), began)
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(f"{item.work.spec}, {item.problem_set}", []).append(item)
    tokens, seconds, caches, cut = 0.0, 0.0, [], []
    torch.set_num_threads(threads)
    try:
        with tqdm(groups.items(), desc="measuring", unit="run") as bar:
            for place, (name, alike) in enumerate(bar):
                bar.set_postfix_str(name)
                left = began + 60 * minutes - time.monotonic()
                problems = [problem for item in alike for problem in item.work.chunk]
                tokens_each, seconds_each, whole = probes.measured(alike[0], problems, left / (len(groups) - place))
                cut += [] if whole else [name]
                solutions = sum(item.solutions for item in alike)
                tokens, seconds = tokens + solutions * tokens_each, seconds + solutions * seconds_each
                caches.append(_caches(alike, problems, probes.engines))
    finally:
        torch.set_num_threads(before)
    # A process may keep a model between chunks that need one of them.
    return Estimate(tokens, seconds / count + probes.starting, count * sum(map(max, zip(*caches))), tuple(cut))


def _shortened(spec: RunSpec, n: int, tokens: int) -> RunSpec:
    """A run's spec with fewer and shorter samples."""
    sampling, width = spec.sampling, spec.width or 1
    shorter = {key: min(sampling[key], tokens) for key in ("max_tokens", "max_step_tokens")}
    return replace(spec, n=min(spec.n, max(width, n // width * width)), sampling=sampling | shorter)


class _Probes:
    """Short runs of the missing work."""

    def __init__(self, engines: Engines, began: float):
        self.engines, self._began = engines, began
        self.starting = 0.0  # seconds until the first models were ready; each process that makes chunks takes as long, about
        self._steps: dict[tuple, list[ChunkSteps]] = {}
        self._pools: dict[tuple, tuple[list[dict], bool]] = {}  # rows, and whether their solutions are whole

    def measured(self, first: Item, problems: Sequence[dict], seconds: float) -> tuple[float, float, bool]:
        """Tokens and seconds that a solution takes, and whether whole ones were measured; else both are stretched to ``max_tokens``.

        It is measured for so many seconds, about, and on problems of one set, as policies write more of harder ones. A pool's tokens are
        its own run's, not its scores'.
        """
        spec, pool = first.work.spec, pool_of(first.work, first.store)
        key = spec.policy.name, first.problem_set
        self.engines.batch = spec.engine.batch
        if pool is None:
            self.engines.policy(spec.policy.name, Sampling(**spec.sampling), task_of_key(spec.task))
        elif pool.has(first.work.chunk):
            self._pools[key] = pool.read(first.work.chunk), True
        if spec.prm:
            self.engines.prm(spec.prm.name, task_in(problems))
        began = time.monotonic()
        self.starting = self.starting or began - self._began
        for number, (count, samples, tokens) in enumerate(ROUNDS):
            if pool:
                rows, whole = self._pools[key]
                rows = [row | {"trajectories": [dict(t) for t in row["trajectories"][:samples]]} for row in rows[:count]]
                made = make(Work(spec, problems), rows, self.engines)
                lengths = [t["tokens"] or 0 for row in rows for t in row["trajectories"]]  # unknown of some imported ones, which are whole
                solutions, written = len(lengths), sum(lengths)
            else:
                small, few = _shortened(spec, samples, tokens), problems[:: max(1, len(problems) // count)][:count]
                known = self._steps.setdefault((*key, number), [])  # searches find the steps of those before them known, as in the study
                made = make(Work(small, few), StepCache(known), self.engines)
                if made.steps is not None:
                    known.append(ChunkSteps([problem["id"] for problem in few], made.steps))
                solutions, written = small.n * len(few), sum(row["policy_tokens"] for row in made.rows)
                whole = small.sampling == spec.sampling
            if time.monotonic() - began + GROWTH * made.seconds > seconds:
                break
        if spec.method == "pool":
            self._pools[key] = made.rows, whole
        each = (1 if whole else solutions * spec.sampling["max_tokens"] / max(1, written)) / solutions
        return each * made.generated, each * made.seconds, whole


def _caches(alike: Sequence[Item], problems: Sequence[dict], engines: Engines) -> tuple[int, int]:
    """Bytes of the policy's and the PRM's caches at most: the batch's rows at the greatest length, and what is parked beside them."""
    from tts.engine import FORKING
    from tts.policies.transformers import PREFILLED

    grid, spec = alike[0].grid, alike[0].work.spec
    n, batch, sampling = spec.n, engines.batch, grid.sampling()  # imported runs say little of theirs
    solution, step = sampling.max_tokens, sampling.max_step_tokens
    most = n * max(len(item.work.chunk) for item in alike)  # samples of a chunk
    prm, opening = engines.prm(spec.prm.name, task_in(problems)) if spec.prm else None, 0
    if hasattr(prm, "family"):
        opening = max(map(len, prm.family.render([(p["problem"], ()) for p in problems])))
    read = solution + MARKS * grid.max_steps  # a step's marks may take a few tokens more than the policy's blank line
    if spec.method == "scores":  # nothing is sampled
        held = min(most, max(FEWEST * batch, n))
        parked = min(held * read + -(-held // n) * opening, 2 * getattr(prm, "tokens_kept", 0))
        return 0, _bytes(prm, getattr(prm, "batch", 0), opening + read, parked)
    policy = engines.policy(spec.policy.name, sampling, task_of_key(spec.task))
    prompts = [len(policy.root(p["id"], p["problem"]).prompt) for p in problems]
    prompt, longest = max(prompts), max(prompts) + solution
    held = min(most, room(engines, policy, min(prompts) + solution, prm is not None) + n)  # where prompts are short, most are under way
    parents = held // spec.width if spec.width else 0
    # Of a search all candidates' last steps, and what the parents that they go on from had before; else samples that wait for a row.
    waiting = max(0, min(most, max(int(batch / FORKING), n)) - batch)
    parked = held * step + parents * (solution - step) if parents else waiting * solution
    under_way = -(-held // n)
    policy_bytes = _bytes(policy, batch, longest, parked + under_way * prompt)
    policy_bytes += _bytes(policy, batch // PREFILLED + 1, longest if parents else prompt, 0)
    if not hasattr(prm, "engine"):
        return policy_bytes, 0
    parked = held * (step + MARKS) + parents * (read - step) + under_way * opening
    whole = (held + parents) * (opening + read)
    if whole > prm.tokens_kept:  # what it has to drop it reads again from the start, and holds whole, but bounds that
        parked = max(parked, min(whole, 2 * prm.tokens_kept))
    return policy_bytes, _bytes(prm, prm.batch, opening + read, parked)


def _bytes(model: object, slots: int, longest: int, parked: int) -> int:
    """Bytes of so many slots, each of the greatest length, and of parked tokens."""
    from tts.engine import capacity_for

    if (engine := getattr(model, "engine", None)) is None:  # another engine's memory is its own
        return 0
    return engine.token_bytes * (slots * capacity_for(longest) + parked)
