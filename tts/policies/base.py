"""What engines share: how a problem becomes a root, generated tokens a candidate, and requests a queue."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tts.search.base import Candidate
from tts.search.driver import Ticket
from tts.search.sampling import Sampling, noise_key
from tts.tasks import prompts
from tts.tasks.base import Task
from tts.tasks.maths import MATHS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ending = Literal["end", "step", "limit"]  # by itself, at a blank line, by the limit on its tokens

# Seeds are taken from a hash, as consecutive ones overlap where an engine counts on from a seed for its n samples. 31 bits are
# what every server takes; two of a problem's 256 samples share one in 70,000 problems.
SEEDS = (1 << 31) - 1


def root_of(tokenizer: PreTrainedTokenizerBase, name: str, context: int, problem_id: str, problem: str, task: Task) -> Candidate:
    """The empty solution of a problem, for the policy ``name`` that reads ``context`` tokens at most.

    Raises:
        ValueError: where the prompt does not leave room for an answer, or holds unknown characters.
    """
    text = prompts.render_prompt(tokenizer, problem, task)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if (unknown := prompts.unknown_id(tokenizer)) is not None and unknown in ids:
        raise ValueError(f"problem {problem_id}: {name} cannot read some of its characters: {problem[:80]!r}")
    check_room(ids, name, context, problem_id)
    return Candidate(problem_id, problem, prompt=tuple(ids), rendered=text)


def check_room(ids: Sequence[int], name: str, context: int, problem_id: str) -> None:
    """Raises ``ValueError`` where a prompt fills the context."""
    if len(ids) >= context:
        raise ValueError(f"problem {problem_id}: the prompt has {len(ids)} tokens and {name} reads {context} at most")


def room_after(parent: Candidate, added: int, sampling: Sampling, context: int) -> int:
    """How many tokens may follow ``added`` ones after a candidate; a step that ends where none may is cut off."""
    done = len(parent.tokens) + added
    return min(sampling.max_tokens - done, context - len(parent.prompt) - done)


def child_of(
    parent: Candidate, number: int, tokens: Sequence[int], text: str, ending: Ending, whole: bool, generated: int, task: Task = MATHS
) -> Candidate:
    """The ``number``-th continuation of a candidate.

    Args:
        tokens: token ids that were added, and ``text`` is theirs.
        whole: whether the rest of a solution was asked for, not a step.
        generated: number of tokens that is billed; ``len(tokens)``, but for an engine that does not tell token ids.
    """
    status = {"end": "finished", "step": "open" if text.strip() else "truncated", "limit": "truncated"}[ending]
    new_steps = task.split(text) if whole else tuple(filter(None, [text.strip()]))
    return parent.child(
        number,
        tokens=(*parent.tokens, *tokens),
        steps=(*parent.steps, *new_steps),
        status=status,
        generated=generated,
        text=parent.text + text,
    )


@dataclass(frozen=True)
class Asked:
    """One continuation, as an engine is asked for it.

    Attributes:
        prompt: token ids of everything before it, and ``text`` is the same as text.
        limit: number of tokens at most.
        seed: seed of its noise.
        stop: text that ends a step, at which it ends; None for the rest of the solution.
    """

    prompt: tuple[int, ...]
    text: str
    limit: int
    seed: int
    stop: str | None


@dataclass(frozen=True)
class Told:
    """An engine's answer.

    Attributes:
        tokens: generated ids, the end-of-sequence token included; an estimate where the engine does not tell.
        text: text of these, without special tokens.
        generated: number of tokens generated.
    """

    tokens: tuple[int, ...]
    text: str
    ending: Ending
    generated: int


@dataclass(eq=False)
class Request:
    """Continuations of one parent, as :class:`tts.search.base.Sample` asks for them; ``children`` are those that are there, by number."""

    ticket: Ticket
    parent: Candidate
    count: int
    whole: bool
    children: dict[int, Candidate] = field(default_factory=dict)

    def put(self, number: int, child: Candidate) -> bool:
        """Adds a continuation; True where it was the last that was missing."""
        self.children[number] = child
        return len(self.children) == self.count

    @property
    def answer(self) -> tuple[Ticket, list[Candidate]]:
        """What :meth:`tts.search.driver.Policy.poll` gives."""
        return self.ticket, [self.children[number] for number in range(self.count)]


@dataclass(eq=False)
class _Sample:
    """One of them; usually one question to the engine, more only while nothing but blank lines came."""

    request: Request
    number: int
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    generated: int = 0
    questions: int = 0


class RequestPolicy:
    """A policy whose engine is asked for each sample by itself, with a seed of its own, and batches as it likes.

    An engine's file derives from it, sets ``tokenizer``, and says how to send a question, receive answers and abort.

    Args:
        name: name in messages.
        batch: samples under way at once.
        context: tokens that the model reads at most.
    """

    limits: tuple[str, ...] = ()
    tokenizer: PreTrainedTokenizerBase

    def __init__(self, name: str, sampling: Sampling, batch: int, context: int, task: Task = MATHS):
        self.name, self.sampling, self.batch, self.context, self.task = name, sampling, batch, context, task
        self._numbers = itertools.count()
        self._under_way: dict[int, _Sample] = {}
        self._complete: list[Request] = []

    def _send(self, number: int, asked: Asked) -> None:
        """Takes a question, and returns at once."""
        raise NotImplementedError

    def _receive(self) -> list[tuple[int, Told]]:
        """Works or waits until there are answers."""
        raise NotImplementedError

    def _abort(self, numbers: list[int]) -> None:
        """Drops these questions, which are all that there are, and returns when the engine works on none."""
        raise NotImplementedError

    def root(self, problem_id: str, problem: str) -> Candidate:
        return root_of(self.tokenizer, self.name, self.context, problem_id, problem, self.task)

    @property
    def starved(self) -> bool:
        return len(self._under_way) < self.batch // 2

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        request = Request(ticket, parent, count, whole)
        for number in range(count):
            self._ask(_Sample(request, number))

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        while not self._complete and self._under_way:
            for number, told in self._receive():
                if sample := self._under_way.pop(number, None):
                    self._take(sample, told)
        complete, self._complete = self._complete, []
        return [request.answer for request in complete]

    def reset(self) -> None:
        self._abort(list(self._under_way))
        self._under_way.clear()
        self._complete.clear()

    def _ask(self, sample: _Sample) -> None:
        parent, sampling = sample.request.parent, self.sampling
        limit = room_after(parent, len(sample.tokens), sampling, self.context)
        if not sample.request.whole:
            limit = min(limit, sampling.max_step_tokens - len(sample.tokens))
        if limit < 1:
            self._settle(sample, "limit")
            return
        # A further question of the same sample must not repeat the noise of the first; no index is negative.
        path = (*parent.path, sample.number, *[-1] * sample.questions)
        seed = noise_key(sampling.seed, parent.problem_id, path) & SEEDS
        prompt = (*parent.prompt, *parent.tokens, *sample.tokens)
        stop = None if sample.request.whole else self.task.separator
        number = next(self._numbers)
        self._under_way[number] = sample
        sample.questions += 1
        self._send(number, Asked(prompt, parent.rendered + parent.text + sample.text, limit, seed, stop))

    def _take(self, sample: _Sample, told: Told) -> None:
        sample.tokens += told.tokens
        sample.text += told.text
        sample.generated += told.generated
        if told.ending == "step" and not sample.text.strip():
            self._ask(sample)  # a blank step is no step
            return
        room = room_after(sample.request.parent, len(sample.tokens), self.sampling, self.context)
        self._settle(sample, "limit" if told.ending == "step" and room < 1 else told.ending)

    def _settle(self, sample: _Sample, ending: Ending) -> None:
        request = sample.request
        child = child_of(request.parent, sample.number, sample.tokens, sample.text, ending, request.whole, sample.generated, self.task)
        if request.put(sample.number, child):
            self._complete.append(request)
