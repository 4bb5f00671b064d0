"""Steps that are known already are not sampled again.

A sample's noise depends on its path alone, so two searches of a problem by the same policy, with other budgets, methods or PRMs, get the
very same continuations wherever they extend the same candidate. An engine that cannot repeat its samples (a server that ignores seeds,
say) gives others when it is asked again; then those that are known stay, for what was sampled after them belongs to them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Protocol, TypedDict

from tts.policies.base import Told, child_of
from tts.search.base import Candidate, Status
from tts.search.driver import Policy, Ticket


class Step(TypedDict):
    """A sampled step, as it is stored and sent."""

    problem_id: str
    path: list[int]  # sample indices from the root on
    ids: array[int]  # token ids of the step; of what a store holds, millions
    text: str
    status: Status  # of the candidate that ends with it
    generated: int  # tokens that it is billed as


StepKey = tuple  # a problem's id and the sample indices from the root on


class Steps(Protocol):
    """What :class:`Remembering` asks of :class:`tts.store.step_columns.StepCache`."""

    def get(self, key: StepKey) -> Step | None: ...

    def add(self, step: Step) -> None: ...


class Remembering:
    """A policy over another one, of the same samples: it asks that one for what is not known.

    A search is charged every step that it asks for, known or not, as if it ran alone. ``steps`` are those of earlier searches with the
    same policy and sampling, and are told those that they lacked; ``on_tokens``, numbers of tokens that were sampled, not known.
    """

    def __init__(self, policy: Policy, steps: Steps, on_tokens: Callable[[int], object] = lambda tokens: None):
        self.policy, self.steps, self.on_tokens = policy, steps, on_tokens
        self._asked: dict[Ticket, Candidate] = {}
        self._ready: list[tuple[Ticket, list[Candidate]]] = []

    @property
    def starved(self) -> bool:
        return self.policy.starved

    def submit(self, request: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        if not whole:
            steps = [self.steps.get((parent.problem_id, *parent.path, number)) for number in range(count)]
            if all(steps):
                self._ready.append((request, [_child(parent, step) for step in steps]))
                return
            self._asked[request] = parent
        self.policy.submit(request, parent, count, whole)

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        complete, self._ready = self._ready, []
        if complete:
            return complete
        for request, children in self.policy.poll():
            self.on_tokens(sum(child.generated for child in children))
            if parent := self._asked.pop(request, None):
                children = [self._settled(parent, child) for child in children]
            complete.append((request, children))
        return complete

    def _settled(self, parent: Candidate, child: Candidate) -> Candidate:
        """A sample, or the known one of its path where this is another."""
        step = Step(
            problem_id=child.problem_id,
            path=list(child.path),
            ids=array("i", child.tokens[len(parent.tokens) :]),
            text=child.text[len(parent.text) :],
            status=child.status,
            generated=child.generated,
        )
        known = self.steps.get((child.problem_id, *child.path))
        if known is None:
            self.steps.add(step)
        return child if known in (None, step) else _child(parent, known)

    def revised(self, candidate: Candidate) -> Candidate:
        return self.policy.revised(candidate)

    def reset(self) -> None:
        self._asked.clear()
        self._ready.clear()
        self.policy.reset()


def _child(parent: Candidate, step: Step) -> Candidate:
    return child_of(parent, step["path"][-1], Told(step["ids"], step["text"], step["status"], step["generated"]), whole=False)
