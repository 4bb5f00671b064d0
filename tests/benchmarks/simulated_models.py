"""A policy and a PRM that take virtual time: they write no text, and how long they take follows from :mod:`latencies`.

How long solutions are was measured in 60 samples of Qwen2.5-1.5B-Instruct on 30 problems of MATH-500, made with the study's own code: 10.8
steps (log-normal, of median 9.1; the logarithm's deviation is 0.51 between problems and 0.43 within one) of 54.7 tokens (log-normal, of
median 36.5 and deviation 0.89). AIME24's solutions are taken to have twice the steps, as ``python -m tts estimate`` does.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from latencies import Shape

from tts.generate.chunks import Engines
from tts.search.base import Candidate
from tts.search.driver import Ticket
from tts.search.sampling import Sampling, noise_key

STEPS, BETWEEN, WITHIN = 9.1, 0.51, 0.43
TOKENS, SPREAD = 36.5, 0.89
LONGEST, PROMPT = 2048, 200  # tokens of a step at most, and of a prompt
NORMAL = NormalDist()


def drawn(problem_id: str, path: tuple[int, ...]) -> tuple[float, float]:
    """Two numbers in (0, 1) that belong to a sample."""
    key = noise_key(0, problem_id, path) + (1 << 63)
    return (key >> 32) / 2**32 + 2**-33, (key & 0xFFFFFFFF) / 2**32 + 2**-33


@dataclass
class Clock:
    """Virtual seconds, by what they went to."""

    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    full: float = 0.0  # seconds that the tokens would have taken in a batch that is always full
    tail: float = 0.0  # seconds of the policy's with less than a quarter of the batch in use
    cached: float = 0.0  # bytes of keys and values that are held now
    peak: float = 0.0  # and at most

    @property
    def now(self) -> float:
        return sum(self.spent.values())

    def hold(self, bytes_more: float) -> None:
        self.cached += bytes_more
        self.peak = max(self.peak, self.cached)


class Parked:
    """Keys and values that a sequence added to its parent's, which are freed when nothing goes on from them."""

    def __init__(self, clock: Clock, size: float, parent: Parked | None):
        self.clock, self.size, self.parent = clock, size, parent
        clock.hold(size)

    def __del__(self) -> None:
        self.clock.cached -= self.size


@dataclass(eq=False)
class Asked:
    """What is sampled for one request."""

    ticket: Ticket
    parent: Candidate
    count: int
    whole: bool
    children: dict[int, Candidate] = field(default_factory=dict)


class SimulatedPolicy:
    """Decodes ``batch`` sequences at once, and is starved below so many, as vLLM's policy; samples that begin alike share nothing."""

    limits = ()
    sampling = Sampling(max_tokens=8192)

    def __init__(self, shape: Shape, batch: int, clock: Clock):
        self.shape, self.batch, self.clock = shape, batch, clock
        self._waiting: deque[tuple[Asked, int]] = deque()
        self._rows: list[tuple[int, int, Asked, Candidate, float]] = []  # by the step at which each ends
        self._step = self._number = 0
        self._context = 0.0  # tokens that the rows look at together
        self._median: dict[str, float] = {}

    @property
    def starved(self) -> bool:
        return len(self._waiting) + len(self._rows) < self.batch

    def root(self, problem_id: str, problem: str) -> Candidate:
        return Candidate(problem_id, problem, prompt=(0,) * PROMPT)

    def submit(self, request: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        asked = Asked(request, parent, count, whole)
        self._waiting.extend((asked, number) for number in range(count))

    def reset(self) -> None:
        self._waiting.clear()
        self._rows.clear()

    def revised(self, candidate: Candidate) -> Candidate:
        raise NotImplementedError

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        complete: list[Asked] = []
        while not complete and (self._waiting or self._rows):
            self._admit()
            self._decode(self._rows[0][0] - self._step)
            while self._rows and self._rows[0][0] == self._step:
                _, _, asked, child, before = heapq.heappop(self._rows)
                self._context -= before + child.generated
                added = child.generated * self.shape.cached
                self.clock.hold(-added)
                child.state = Parked(self.clock, added, asked.parent.state) if child.status == "open" else None
                asked.children[child.path[-1]] = child
                if len(asked.children) == asked.count:
                    complete.append(asked)
        return [(asked.ticket, [asked.children[n] for n in range(asked.count)]) for asked in complete]

    def _admit(self) -> None:
        new = 0
        while self._waiting and len(self._rows) < self.batch:
            asked, number = self._waiting.popleft()
            if asked.parent.state is None:
                new += not asked.children and number == 0
            child = self._child(asked, number)
            before = PROMPT + sum(asked.parent.tokens)
            self._number += 1
            heapq.heappush(self._rows, (self._step + child.generated, self._number, asked, child, before))
            self._context += before
        if new:  # prompts are read by themselves, and pools and first steps go on from them
            self.clock.spent["prompts"] += self.shape.read(PROMPT * new)

    def _decode(self, steps: int) -> None:
        rows, clock = len(self._rows), self.clock
        seconds = self.shape.steps(rows, self._context, steps)
        clock.spent["full batch" if rows >= 0.9 * self.batch else "part of the batch"] += seconds
        clock.full += self.shape.steps(self.batch, self._context / rows * self.batch, steps) * rows / self.batch
        clock.tail += seconds * (4 * rows < self.batch)
        clock.hold(rows * steps * self.shape.cached)
        self._context += rows * steps
        self._step += steps

    def _child(self, asked: Asked, number: int) -> Candidate:
        parent, texts = asked.parent, []
        path, status = (*parent.path, number), "open"
        while status == "open":
            length, end = drawn(parent.problem_id, (*path, len(texts)))
            tokens = min(LONGEST, max(1, round(TOKENS * math.exp(SPREAD * NORMAL.inv_cdf(length)))))
            texts.append(f"{tokens} {noise_key(1, parent.problem_id, (*path, len(texts))) & 0xFFFFFFFF:08x}")
            status = "finished" if end < self._hazard(parent.problem_id, len(parent.steps) + len(texts)) else "open"
            if not asked.whole:
                break
        lengths = tuple(map(_tokens_of, texts))  # in the place of ids
        changes = {"steps": (*parent.steps, *texts), "tokens": (*parent.tokens, *lengths)}
        return parent.child(number, status=status, generated=sum(lengths), **changes)

    def _hazard(self, problem_id: str, depth: int) -> float:
        """The share of the solutions of so many steps that end there."""
        if problem_id not in self._median:
            longer = 2.0 if problem_id.startswith("aime") else 1.0
            self._median[problem_id] = longer * STEPS * math.exp(BETWEEN * NORMAL.inv_cdf(drawn(problem_id, ())[0]))
        left = [1 - NORMAL.cdf(math.log((depth + edge) / self._median[problem_id]) / WITHIN) for edge in (-0.5, 0.5)]
        return 1 - left[1] / left[0] if left[0] > 1e-9 else 1.0


class SimulatedPRM:
    """Reads each token once; scores are drawn, and depend on the steps alone."""

    def __init__(self, shape: Shape, batch: int, clock: Clock):
        self.shape, self.batch, self.clock = shape, batch, clock
        self._known: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._held: dict[str, float] = {}

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[tuple[str, ...]]) -> tuple[list[tuple[float, ...]], list[int]]:
        scores, charged, kept = [], [], defaultdict(set)
        for (problem_id, _), solution in zip(problems, steps):
            known, read = self._known[problem_id], 0
            for depth in range(len(solution), 0, -1):
                if solution[:depth] in known:
                    break
                known.add(solution[:depth])
                read += _tokens_of(solution[depth - 1])
            charged.append(read)
            kept[problem_id] |= {solution[:depth] for depth in range(1, len(solution) + 1)}
            scores.append(tuple(int(step[-4:], 16) / 0x10000 for step in solution))
        tokens, passes = sum(charged), math.ceil(len(steps) / self.batch)
        self.clock.spent["PRM"] += self.shape.read(tokens, passes)
        for problem_id, prefixes in kept.items():
            self._known[problem_id] = prefixes
            self._hold(problem_id, self.shape.cached * sum(_tokens_of(prefix[-1]) for prefix in prefixes))
        return scores, charged

    def forget(self, problem_id: str) -> None:
        self._known.pop(problem_id, None)
        self._hold(problem_id, 0.0)

    def _hold(self, problem_id: str, size: float) -> None:
        self.clock.hold(size - self._held.get(problem_id, 0.0))
        self._held[problem_id] = size


def _tokens_of(step: str) -> int:
    return int(step[: step.index(" ")])


class SimulatedEngines(Engines):
    """The models of one worker, for :func:`tts.generate.chunks.make`; all that they do moves one clock."""

    def __init__(self, policy: Shape | None, prm: Shape | None, batch: int = 128):
        super().__init__(batch)
        self.clock, self.shapes = Clock(), (policy, prm)

    def policy(self, name: str, sampling: Sampling, task: object = None) -> SimulatedPolicy:
        return SimulatedPolicy(self.shapes[0], self.batch, self.clock)

    def prm(self, name: str, task: object = None) -> SimulatedPRM:
        return SimulatedPRM(self.shapes[1], self.batch, self.clock)

    def where(self, model: object) -> str:
        return "simulated"

    def unread(self) -> tuple[dict[str, int], str | None]:
        return {}, None
