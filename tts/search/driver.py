"""Runs many problems' searches at once and merges what they ask for into large batches, without a barrier."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from tts.search.base import Candidate, Revise, Sample, Score, Search


class Policy(Protocol):
    """An engine that samples. It may finish requests in any order; the driver does not wait for all of them."""

    def submit(self, request: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        """Queues ``count`` continuations of ``parent``."""

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        """Works until at least one queued request is complete; returns the complete ones."""

    @property
    def starved(self) -> bool:
        """Whether the engine could take more work than it has."""

    def revised(self, candidate: Candidate) -> Candidate:
        """An empty solution whose prompt shows a solution, and those that its own prompt showed, and asks for another one."""

    def reset(self) -> None:
        """Drops everything that is queued or under way."""


class RewardModel(Protocol):
    """A PRM: scores steps."""

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[tuple[str, ...]]) -> tuple[list[tuple[float, ...]], list[int]]:
        """The step scores of each solution, given its (problem id, problem text) and steps, and the number of tokens read for it."""

    def forget(self, problem_id: str) -> None:
        """Drops what is cached for a problem."""


@dataclass
class Outcome:
    """What a search found and what it cost."""

    problem_id: str
    prompt: str  # the rendered prompt
    prompt_tokens: int
    trajectories: list[Candidate] = field(default_factory=list)  # finished candidates (of a sampled pool also the truncated ones)
    policy_tokens: int = 0  # every token that the policy generated, those of pruned branches too
    prm_tokens: int = 0  # every token that the PRM read
    nodes: list[Candidate] = field(default_factory=list)  # all candidates ever sampled, where the driver was asked to record them
    rollouts: list[Candidate] = field(default_factory=list)  # likewise, what was sampled to look ahead


@dataclass(eq=False)
class Running:
    """One problem's search under way."""

    root: Candidate
    search: Search
    outcome: Outcome
    answers: list[list[Candidate]] = field(default_factory=list)
    missing: int = 0
    asked: int = 0
    held: int = 0
    to_score: Sequence[Candidate] = ()


Ticket = tuple[Running, int]  # a search, and the place of one parent in its request


@dataclass
class Driver:
    """Advances searches until all are done.

    While those under way hold ``room`` candidates, no further one begins, so that parked caches stay within ``room`` and one search's own;
    but where ``most`` is more, a further one begins up to that many when the policy would else have little to do.
    """

    policy: Policy
    prm: RewardModel | None = None  # None where no search asks for scores
    record: bool = False  # whether to keep every candidate in Outcome.nodes
    room: int | None = None  # None for no bound
    most: int | None = None  # by default the room
    on_outcome: Callable[[Outcome], object] = lambda outcome: None  # called with each outcome as it comes
    # Seconds that were waited for the policy and for the PRM; what an engine elsewhere does while the other works is not among them.
    waited: dict[str, float] = field(default_factory=lambda: {"policy": 0.0, "prm": 0.0})

    def run(self, searches: Sequence[tuple[Candidate, Search]]) -> list[Outcome]:
        """Runs each search from its root, in the order of which outcomes come; raises ValueError where two roots share a problem id."""
        if len({root.problem_id for root, _ in searches}) < len(searches):
            raise ValueError("two problems share an id; ids must be distinct within a run")
        outcomes = [Outcome(root.problem_id, root.rendered, len(root.prompt)) for root, _ in searches]
        self._scoring: list[Running] = []
        self._sampling = self._held = 0
        room = math.inf if self.room is None else self.room
        most = room if self.most is None else self.most
        waiting = deque(Running(root, search, outcome) for (root, search), outcome in zip(searches, outcomes))
        try:
            while waiting or self._sampling or self._scoring:
                to_score = sum(len(running.to_score) for running in self._scoring)
                if waiting and self._held < room:
                    self._advance(waiting.popleft(), None)
                elif self._scoring and (not self._sampling or self.policy.starved or 4 * to_score >= room):
                    self._score_all()
                elif waiting and self._held < most and self.policy.starved:
                    self._advance(waiting.popleft(), None)
                else:
                    with self._waiting("policy"):
                        complete = self.policy.poll()
                    for ticket, children in complete:
                        self._receive(ticket, children)
        except BaseException:  # an interrupted cell is run again with the same engines: nothing of this run may stay in them
            self.policy.reset()
            if self.prm is not None:
                for root, _ in searches:
                    self.prm.forget(root.problem_id)
            raise
        return outcomes

    @contextmanager
    def _waiting(self, model: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.waited[model] += time.perf_counter() - began

    def _advance(self, running: Running, answer: list[list[Candidate]] | None) -> None:
        try:
            request = running.search.send(answer)
            while isinstance(request, Revise):
                request = running.search.send([self.policy.revised(candidate) for candidate in request.candidates])
        except StopIteration as stop:
            self._finish(running, stop.value)
            return
        if isinstance(request, Score):
            running.to_score = request.candidates
            self._scoring.append(running)
        else:
            self._submit(running, request)

    def _submit(self, running: Running, request: Sample) -> None:
        asked = sum(request.counts) + len(request.keeping)
        held = max(asked, running.asked)  # the PRM holds those of the request before until these are scored
        self._held += held - running.held
        running.held, running.asked = held, asked
        going_on = set(map(id, (*request.parents, *request.keeping)))
        # The others' parked caches would stay as long as the search, or the record, remembers them; the engine can compute them again.
        for node in chain([running.root], running.outcome.nodes if self.record else chain.from_iterable(running.answers)):
            node.state = node.state if id(node) in going_on else None
        running.answers = [[]] * len(request.parents)
        running.missing = len(request.parents)
        self._sampling += running.missing
        for place, (parent, count) in enumerate(zip(request.parents, request.counts, strict=True)):
            self.policy.submit((running, place), parent, count, request.whole)

    def _receive(self, ticket: Ticket, children: list[Candidate]) -> None:
        running, place = ticket
        running.outcome.policy_tokens += sum(child.generated for child in children)
        if self.record:
            (running.outcome.rollouts if children and children[0].greedy else running.outcome.nodes).extend(children)
        running.answers[place] = children
        running.missing -= 1
        self._sampling -= 1
        if not running.missing:
            self._advance(running, running.answers)

    def _score_all(self) -> None:
        if self.prm is None:
            raise ValueError("this search asks for scores, and no PRM was given")
        waiting, self._scoring = self._scoring, []
        asked = [(running.outcome, c) for running in waiting for c in running.to_score]
        parts = [(self.prm.score, asked)]
        if hasattr(self.prm, "score_open"):  # a rule, which judges finished candidates otherwise than open ones
            finished, going_on = ([pair for pair in asked if (pair[1].status == "open") == is_open] for is_open in (False, True))
            parts = [(self.prm.score, finished), (self.prm.score_open, going_on)]
        for score, part in parts:
            with self._waiting("prm"):
                scores, tokens = score([(c.problem_id, c.problem) for _, c in part], [c.steps for _, c in part])
            for (outcome, candidate), step_scores, read in zip(part, scores, tokens):
                candidate.scores = step_scores
                outcome.prm_tokens += read
        for running in waiting:
            self._advance(running, None)

    def _finish(self, running: Running, trajectories: list[Candidate]) -> None:
        for candidate in [running.root, *trajectories, *running.outcome.nodes]:
            candidate.state = None
        if self.prm is not None:
            self.prm.forget(running.root.problem_id)
        self._held -= running.held
        running.outcome.trajectories = trajectories
        self.on_outcome(running.outcome)
