"""What engines share: how a problem becomes a root, generated tokens a candidate, and requests a queue."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tts.search.base import Candidate, Status
from tts.search.confidence import summary
from tts.search.driver import Policy, Ticket
from tts.search.sampling import Sampling, noise_key
from tts.tasks import prompts
from tts.tasks.base import Task
from tts.tasks.maths import MATHS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REVISED = 1 << 28  # sample index that tells a revision of a solution from its continuations
# Seeds are taken from a hash, as consecutive ones overlap where an engine counts on from a seed for its n samples. 31 bits are
# what every server takes; two of a problem's 256 samples share one in 70,000 problems.
SEEDS = (1 << 31) - 1


def child_of(parent: Candidate, number: int, told: Told, whole: bool, task: Task = MATHS, last: str = "") -> Candidate:
    """The ``number``-th continuation, a step or the ``whole`` rest of a solution; one that holds ``last`` ends the solution."""
    text, status = told.text, told.status
    if status == "open" and not text.strip():
        status = "truncated"
    elif status == "open" and last and last in text:
        status = "finished"
    return parent.child(
        number,
        tokens=(*parent.tokens, *told.tokens),
        steps=(*parent.steps, *(task.split(text) if whole else filter(None, [task.step(text)]))),
        status=status,
        generated=told.generated,
        text=parent.text + text,
    )


@dataclass(eq=False)
class Request:
    """Continuations of one parent, as :class:`tts.search.base.Sample` asks for them."""

    ticket: Ticket
    parent: Candidate
    count: int
    whole: bool
    children: dict[int, Candidate] = field(default_factory=dict)  # those that are there, by number
    forced: Sequence[int] = ()  # token ids of the text that is forced after the parent

    def put(self, number: int, child: Candidate) -> bool:
        """Adds a continuation; True where it was the last that was missing."""
        self.children[number] = child
        return len(self.children) == self.count

    @property
    def answer(self) -> tuple[Ticket, list[Candidate]]:
        """What :meth:`tts.search.driver.Policy.poll` gives."""
        return self.ticket, [self.children[number] for number in range(self.count)]


class EnginePolicy(Policy):
    """A policy, ``name`` in messages, of a model that reads ``context`` tokens at most; ``batch`` samples are under way at once."""

    tokenizer: PreTrainedTokenizerBase  # which an engine sets
    limits: tuple[str, ...] = ()  # what the engine cannot do, in words
    template: Mapping[str, object]  # options of the chat template

    def __init__(self, name: str, sampling: Sampling, batch: int, context: int, task: Task = MATHS):
        self.name, self.batch, self.context, self.task = name, batch, context, task
        self.template = prompts.template_options(name)
        self.sampling = sampling  # may be exchanged between runs

    def root(self, problem_id: str, problem: str, exchanges: prompts.Exchanges = ()) -> Candidate:
        """The empty solution of a problem, or the empty answer to the last of some exchanges about it.

        Raises ``ValueError`` where the prompt leaves no room for one, or holds unknown characters.
        """
        return self._root(problem_id, problem, *self._render(problem, exchanges))

    def _root(self, problem_id: str, problem: str, ids: list[int], text: str) -> Candidate:
        if self.tokenizer is not None and (unknown := prompts.unknown_id(self.tokenizer)) is not None and unknown in ids:
            raise ValueError(f"problem {problem_id}: {self.name} cannot read some of its characters: {problem[:80]!r}")
        if len(ids) >= self.context:
            raise ValueError(f"problem {problem_id}: the prompt has {len(ids)} tokens and {self.name} reads {self.context} at most")
        return Candidate(problem_id, problem, prompt=tuple(ids), rendered=text)

    def revised(self, candidate: Candidate) -> Candidate:
        """As :meth:`tts.search.driver.Policy.revised`, with the last attempts that leave half of the context for the next; with none where
        not even the last one does. Raises ``ValueError`` where the policy cannot read what it is told.
        """
        attempts = (*candidate.attempts, candidate.text.strip())
        while True:
            rendered = self._render(candidate.problem, [(attempt, prompts.REVISION) for attempt in attempts])
            if not attempts or len(rendered[0]) <= self.context // 2:
                break
            attempts = attempts[1:]
        try:
            root = self._root(candidate.problem_id, candidate.problem, *rendered)
        except ValueError as error:
            told = f"{self.name} cannot be shown its solutions again with what it is told then: {error}"
            raise ValueError(f"{told}; leave revision and ab_mcts out of methods") from None
        return replace(root, path=(*candidate.path, REVISED), attempts=attempts)

    def forced_ids(self, candidate: Candidate) -> list[int]:
        """Token ids of the text that is forced after a candidate; raises ``ValueError`` where the server alone knows them."""
        if candidate.forced and self.tokenizer is None:
            raise ValueError(f"{self.name}: to force a text the policy's tokenizer has to be here; add ?tokenizer= to its name")
        return self.tokenizer(candidate.forced, add_special_tokens=False)["input_ids"] if candidate.forced else []

    def _render(self, problem: str, exchanges: prompts.Exchanges = ()) -> tuple[list[int], str]:
        """Token ids and text of a prompt."""
        text = prompts.render_prompt(self.tokenizer, problem, self.task, self.template, exchanges)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"], text

    @property
    def last(self) -> str:
        """Text that ends a solution with the step that holds it; "" for none."""
        return self.task.answer_mark if self.sampling.stop_at_answer else ""

    def room_after(self, parent: Candidate, added: int) -> int:
        """How many tokens may follow ``added`` ones after a candidate; a step that ends where none may is cut off."""
        done = len(parent.tokens) + added
        return min(self.sampling.max_tokens - done, self.context - len(parent.prompt) - done)


@dataclass(frozen=True)
class Asked:
    """One continuation, as an engine is asked for it."""

    prompt: tuple[int, ...]  # token ids of everything before it
    text: str  # the same as text
    limit: int  # number of tokens at most
    seed: int  # seed of its noise
    stop: str | None  # text that ends a step, at which it ends; None for the rest of the solution
    greedy: bool = False  # whether its temperature is 0, whatever the others' is


@dataclass(frozen=True)
class Told:
    """An engine's answer."""

    tokens: Sequence[int]  # generated ids, the end-of-sequence token included; an estimate where the engine does not tell
    text: str  # text of these, without special tokens
    status: Status  # "finished" by itself, "open" at the text that ends a step, "truncated" by the limit
    generated: int  # number of tokens generated, which are billed: of these ids, but for an engine that does not tell ids
    logs: Sequence[float] = ()  # log-probability of each token, where they were asked for and the engine tells


class RequestPolicy(EnginePolicy):
    """A policy whose engine is asked for each sample by itself, with a seed of its own, and batches as it likes."""

    def __init__(self, name: str, sampling: Sampling, batch: int, context: int, task: Task = MATHS):
        super().__init__(name, sampling, batch, context, task)
        self._numbers = itertools.count()
        self._under_way: dict[int, Generator[Asked, Told, None]] = {}
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

    @property
    def starved(self) -> bool:
        return len(self._under_way) < self.batch  # the engine goes on while a PRM scores, and would run empty meanwhile

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        request = Request(ticket, parent, count, whole, forced=self.forced_ids(parent))
        for number in range(count):
            self._go_on(self._sample(request, number))

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        while not self._complete and self._under_way:
            for number, told in self._receive():
                if sample := self._under_way.pop(number, None):
                    self._go_on(sample, told)
        complete, self._complete = self._complete, []
        return [request.answer for request in complete]

    def reset(self) -> None:
        self._abort(list(self._under_way))
        self._under_way.clear()
        self._complete.clear()

    def _go_on(self, sample: Generator[Asked, Told, None], told: Told | None = None) -> None:
        """Hands an answer to a sample, and sends its next question if it has one."""
        try:
            asked = sample.send(told) if told else next(sample)
        except StopIteration:
            return
        number = next(self._numbers)
        self._under_way[number] = sample
        self._send(number, asked)

    def _sample(self, request: Request, number: int) -> Generator[Asked, Told, None]:
        """One sample: usually one question, more only while nothing but blank lines came, for a blank step is no step."""
        parent, sampling, separator = request.parent, self.sampling, None if request.whole else self.task.separator
        sample = Told((), "", "open", 0)
        before = (*parent.prompt, *parent.tokens, *request.forced)
        for again in itertools.count():
            limit = self.room_after(parent, len(request.forced) + len(sample.tokens))
            if not request.whole:
                limit = min(limit, sampling.max_step_tokens - len(sample.tokens))
            if limit < 1:
                break
            # A further question of the same sample must not repeat the noise of the first; no index is negative.
            seed = noise_key(sampling.seed, parent.problem_id, (*parent.path, number, *[-1] * again)) & SEEDS
            prompt = (*before, *sample.tokens)
            more = yield Asked(prompt, parent.rendered + parent.text + parent.forced + sample.text, limit, seed, separator, parent.greedy)
            logs = (*sample.logs, *more.logs)
            sample = Told((*sample.tokens, *more.tokens), sample.text + more.text, more.status, sample.generated + more.generated, logs)
            if sample.status != "open" or sample.text.strip():
                break
        if sample.status == "open" and self.room_after(parent, len(request.forced) + len(sample.tokens)) < 1:
            sample = replace(sample, status="truncated")
        sample = replace(sample, tokens=(*request.forced, *sample.tokens), text=parent.forced + sample.text)
        child = child_of(parent, number, sample, request.whole, self.task, self.last)
        child.confidence = summary(sample.logs) if request.whole else ()
        if request.put(number, child):
            self._complete.append(request)
