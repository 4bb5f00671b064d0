"""The transformers engine: its own sampling loop over a forkable KV cache, batched continuously, so that no step waits for another's."""

from collections import deque
from dataclasses import replace

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tts.engine import FORKING, Engine, Fork, Marks, Stop, Text
from tts.models.loading import load_causal_lm, load_tokenizer
from tts.models.locate import locate
from tts.policies.base import EnginePolicy, Request, Told, child_of
from tts.search.base import Candidate, Status
from tts.search.confidence import summary
from tts.search.driver import Ticket
from tts.search.sampling import Sampling, noise_key
from tts.tasks.base import Task
from tts.tasks.maths import MATHS

PREFILLED = 4  # the batch's rows over the prompts that are read at once, in memory beside the batch's


class TransformersPolicy(EnginePolicy):
    """Any causal language model as a policy; raises ``ValueError`` for one that declares no end-of-sequence token."""

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, task: Task = MATHS):
        self.location = locate(name)
        self.tokenizer = load_tokenizer(self.location)
        self.model: PreTrainedModel = load_causal_lm(self.location)
        super().__init__(name, sampling, batch, int(getattr(self.model.config, "max_position_embeddings", 1 << 30)), task)
        self.engine = Engine(
            self.model.base_model,
            reading=max(1, batch // PREFILLED),
            sampling=batch,
            head=self.model.get_output_embeddings(),
            marks=_marks(self.model, self.tokenizer, task.separator),
        )
        self._queue: deque[Request] = deque()
        self._full: list[Request] = []  # whose solutions leave no room for a token

    @property
    def starved(self) -> bool:
        return not self._queue and self.engine.free > self.batch // 4

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        request = Request(ticket, parent, count, whole, forced=self.forced_ids(parent))
        if request.forced and self.room_after(parent, len(request.forced)) < 1:  # the text alone fills what is left
            told = Told(request.forced, parent.forced, "truncated", 0)
            request.children = {number: child_of(parent, number, told, whole, self.task) for number in range(count)}
            self._full.append(request)
        else:
            self._queue.append(request)

    def reset(self) -> None:
        self._queue.clear()
        self._full.clear()
        self.engine.clear()

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        complete, self._full = self._full, []
        while not complete and (self._queue or self.engine.active):
            if stops := self.engine.sample(self._admitted(), self.sampling):
                self._leave(stops, complete)
        return [request.answer for request in complete]

    def _admitted(self) -> list[Fork]:
        """Takes from the queue what fills the free rows; only when a fair number is free, because entering costs a little."""
        free = self.engine.free
        if not self._queue or (self.engine.active and free < max(1, self.batch // 16)):
            return []
        entering: dict[tuple, list[Request]] = {}  # those that go on from the same tokens together
        while self._queue:
            request = self._queue[0]
            parent = request.parent
            start = parent.problem_id, parent.prompt, parent.tokens, parent.forced, request.whole, parent.greedy
            needed = FORKING * request.count + (0 if start in entering else 1 - FORKING)
            if needed > free and (entering or self.engine.active):
                break
            free -= needed
            entering.setdefault(start, []).append(self._queue.popleft())
        forks = [(_start(requests), requests) for requests in entering.values()]
        self._prefill([parent for parent, _ in forks])
        return [self._fork(parent, requests) for parent, requests in forks]

    def _prefill(self, parents: list[Candidate]) -> None:
        """Computes the cache of parents that have none: roots, or candidates that another search sampled."""
        cold = list({id(p): p for p in parents if p.state is None and len(p.prompt) + len(p.tokens) > 1}.values())
        ids = [(*p.prompt, *p.tokens)[:-1] for p in cold]
        for reading in self.engine.read([Text(None, 0, tokens, parked=[len(tokens)]) for tokens in ids]):
            for number, [state] in zip(reading.texts, reading.states):
                cold[number].state = state

    def _fork(self, parent: Candidate, requests: list[Request]) -> Fork:
        sampling, whole = self.sampling, requests[0].whole
        limit = self.room_after(parent, 0)
        samples = [(request, number) for request in requests for number in range(request.count)]
        return Fork(
            state=parent.state,
            length=len(parent.prompt) + len(parent.tokens) - 1,
            last=(parent.tokens or parent.prompt)[-1],
            done=len(parent.tokens),
            limit=max(1, limit if whole else min(limit, sampling.max_step_tokens)),
            stepwise=not whole,
            greedy=parent.greedy,
            keys=[noise_key(sampling.seed, r.parent.problem_id, (*r.parent.path, number)) for r, number in samples],
            owners=samples,
        )

    def _leave(self, stops: list[Stop], complete: list[Request]) -> None:
        children = [(stop, self._child(*stop.owners[0], stop)) for stop in stops]
        # A blank step is no step: the row goes on.
        leaving = [(stop, child) for stop, child in children if child.status != "truncated" or stop.full]
        for (_, child), state in zip(leaving, self.engine.leave([s for s, _ in leaving], [c.status == "open" for _, c in leaving])):
            child.state = state
        for stop, child in leaving:
            firsts = {stop.owners[0][0]: child}
            for request, number in stop.owners:
                if (first := firsts.get(request)) is None:
                    first = firsts[request] = self._child(request, number, stop)
                    first.state = child.state
                if request.put(number, first.twin(number)):
                    complete.append(request)

    def _child(self, request: Request, number: int, stop: Stop) -> Candidate:
        room = self.room_after(request.parent, len(request.forced) + len(stop.tokens))
        status: Status = "finished" if stop.ended else "open" if stop.boundary and room > 0 else "truncated"
        text = self.tokenizer.decode(stop.tokens, skip_special_tokens=True)
        told = Told((*request.forced, *stop.tokens), request.parent.forced + text, status, len(stop.tokens))
        child = child_of(request.parent, number, told, request.whole, self.task, self.last)
        if stop.said is not None and request.whole:
            child.confidence = summary(*stop.said.T)
        return child


def _start(requests: list[Request]) -> Candidate:
    """What requests for the same tokens go on from: one of their parents, which may have a cache, with what is forced after it."""
    parent = max((request.parent for request in requests), key=lambda p: p.state is not None)
    return replace(parent, tokens=(*parent.tokens, *requests[0].forced), state=None) if requests[0].forced else parent


def _marks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, separator: str) -> Marks:
    """Which token ids end solutions and steps."""
    declared = model.generation_config.eos_token_id if model.generation_config else None
    ends = {*(declared if isinstance(declared, list) else [declared]), tokenizer.eos_token_id} - {None}
    if not ends:
        raise ValueError(f"{tokenizer.name_or_path!r} declares no end-of-sequence token; set eos_token_id in its config")
    size = model.get_output_embeddings().weight.shape[0]
    texts = tokenizer.batch_decode([[i] for i in range(min(size, len(tokenizer)))], skip_special_tokens=False)
    texts += [""] * (size - len(texts))
    return Marks(
        ends=np.array([i in ends for i in range(size)]),
        holds_break=np.array([separator in text for text in texts]),
        starts_newline=np.array([text.startswith(separator[1:]) and len(separator) > 1 for text in texts]),
        ends_newline=np.array([text.endswith(separator[0]) for text in texts]),
    )
