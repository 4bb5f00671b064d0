"""What a search method is written in: candidates, and the requests it may yield.

A method is a generator. It yields :class:`Sample` ("sample n continuations of each of these"), :class:`Score` ("score these") or
:class:`Revise` ("show these to the policy again"), receives the answer, and returns its finished candidates. It knows no model, no batch
and no other problem; the driver sees to those.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["open", "finished", "truncated"]


@dataclass(eq=False)
class Candidate:
    """A partial or complete solution."""

    problem_id: str
    problem: str  # the problem's text
    prompt: tuple[int, ...] = ()  # token ids of the rendered prompt
    tokens: tuple[int, ...] = ()  # token ids of the solution so far; extended, never decoded and encoded again
    steps: tuple[str, ...] = ()  # texts of the solution's steps
    path: tuple[int, ...] = ()  # sample indices from the root on; with the seed it determines the sample
    status: Status = "open"  # "finished" ended by itself, "truncated" was cut off by a limit, "open" may go on
    generated: int = 0  # tokens that the policy generated to get here from the parent
    scores: tuple[float, ...] | None = None  # the PRM's score of each step, once scored
    text: str = ""  # the solution's text
    rendered: str = field(default="", repr=False)  # the rendered prompt's text
    confidence: tuple[float, ...] = ()  # of tts.search.confidence.KINDS, where it was asked for and the engine tells
    forced: str = ""  # text that is put after it, as if the policy had written it, before it is continued
    attempts: tuple[str, ...] = ()  # texts of the solutions that its prompt shows the policy, the oldest first
    greedy: bool = False  # whether what follows it is sampled at temperature 0, and is no candidate of its own
    state: Any = field(default=None, repr=False)  # the engine's own, a parked KV cache for instance

    @property
    def last_score(self) -> float:
        """The PRM's score of the last step, by which partial solutions are ranked."""
        if not self.scores:
            raise ValueError(f"candidate {self.path} of problem {self.problem_id} has not been scored")
        return self.scores[-1]

    def child(self, index: int, **changes: Any) -> Candidate:
        # dataclasses.replace takes nearly three times as long, and a search makes thousands.
        return Candidate(**{**vars(self), "path": (*self.path, index), "scores": None, "state": None, "forced": "", **changes})

    def twin(self, index: int) -> Candidate:
        """A sibling that is equal but for its path."""
        return Candidate(**{**vars(self), "path": (*self.path[:-1], index)})


@dataclass(frozen=True)
class Sample:
    """Sample ``count`` continuations of each parent, or as many as its place in ``count`` says: one step, or with ``whole`` the rest of it.

    The answer is one list of children per parent, in the order of their indices.
    """

    parents: Sequence[Candidate]
    count: int | Sequence[int]
    whole: bool = False
    keeping: Sequence[Candidate] = ()  # what will be continued later, so that its cache stays

    @property
    def counts(self) -> Sequence[int]:
        """Of each parent."""
        return [self.count] * len(self.parents) if isinstance(self.count, int) else self.count


@dataclass(frozen=True)
class Score:
    """Score these candidates' steps; the answer is None, and ``candidate.scores`` is set."""

    candidates: Sequence[Candidate]


@dataclass(frozen=True)
class Revise:
    """Ask for each of these solutions to be revised.

    The answer is one empty solution per candidate, whose prompt shows the policy its attempts.
    """

    candidates: Sequence[Candidate]


Request = Sample | Score | Revise
Search = Generator[Request, Any, list[Candidate]]


def alive(siblings: Sequence[Candidate]) -> list[Candidate]:
    """Siblings without those that were cut off, and empty ones."""
    return [child for child in siblings if child.status != "truncated" and child.steps]


def survivors(siblings: Sequence[Candidate]) -> list[Candidate]:
    """Siblings that compete: cut-off and empty ones left out, equal ones merged into the one of lowest index."""
    seen: dict[tuple, Candidate] = {}
    for child in alive(siblings):
        seen.setdefault((child.steps, child.status), child)
    return list(seen.values())
