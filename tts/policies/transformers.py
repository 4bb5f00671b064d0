"""The transformers engine: its own sampling loop over a forkable KV cache, with continuous batching.

Sequences enter the batch when there is room and leave it when they end, so no step waits for a stranger's longest
solution. A sample's noise depends on its own path only (:mod:`tts.search.sampling`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tts.engine.cached_model import CachedModel
from tts.engine.decoding import FORKING, DecodingBatch, Fork, Marks, Stop
from tts.models.loading import load_causal_lm, load_tokenizer
from tts.models.locate import locate
from tts.policies.base import child_of, room_after, root_of
from tts.search.base import Candidate
from tts.search.driver import Ticket
from tts.search.sampling import Sampling, noise_key
from tts.tasks import prompts

PREFILLED = 4  # the batch's rows over those that are prefilled at once, in memory beside the batch's
REPEATED = 64  # tokens of a text that is worth remembering


@dataclass(eq=False)
class _Request:
    """Continuations of one parent that are queued or under way."""

    ticket: Ticket
    parent: Candidate
    count: int
    whole: bool
    children: list[Candidate | None] = field(default_factory=list)
    missing: int = 0


class TransformersPolicy:
    """Any causal language model as a policy.

    Args:
        name: a pocket policy, a folder or a Hub name.
        sampling: temperature, limits and seed.
        batch: sequences decoded at once.
        device: as torch names it; by default as :func:`tts.models.loading.placement` chooses.

    Raises:
        tts.models.hub.ModelError: where the model cannot be loaded.
        ValueError: where its tokenizer has no chat template.
    """

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, device: str | None = None):
        self.name, self.sampling, self.batch = name, sampling, batch
        self.location = locate(name)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.location)
        self.model: PreTrainedModel = load_causal_lm(self.location, device)
        self.device = self.model.device
        self.cached = CachedModel(self.model.base_model, batch)
        self.context = int(getattr(self.model.config, "max_position_embeddings", 1 << 30))
        self._decoding = DecodingBatch(self.model, self.cached, _marks(self.model, self.tokenizer))
        self._decode = partial(self.tokenizer.decode, skip_special_tokens=True)
        self._decode_again = lru_cache(1 << 14)(self._decode)
        self._queue: deque[_Request] = deque()

    def root(self, problem_id: str, problem: str) -> Candidate:
        """The empty solution of a problem.

        Raises:
            ValueError: where the prompt does not leave room for an answer, or holds unknown characters.
        """
        return root_of(self.tokenizer, self.name, self.context, problem_id, problem)

    # -- the driver's side -------------------------------------------------------------------------------------

    @property
    def starved(self) -> bool:
        return not self._queue and self._decoding.free > self.batch // 4

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        self._queue.append(_Request(ticket, parent, count, whole, [None] * count, count))

    def reset(self) -> None:
        self._queue.clear()
        self._decoding.clear()

    @torch.inference_mode()
    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        complete: list[_Request] = []
        while not complete and (self._queue or self._decoding.active):
            self._admit()
            if stops := self._decoding.step(self.sampling):
                self._leave(stops, complete)
        return [(request.ticket, request.children) for request in complete]

    # -- entering and leaving the batch ------------------------------------------------------------------------

    def _admit(self) -> None:
        """Fills free rows from the queue; only when a fair number is free, because entering costs a little."""
        free = self._decoding.free
        if not self._queue or (self._decoding.active and free < max(1, self.batch // 16)):
            return
        entering: dict[tuple, list[_Request]] = {}  # those that go on from the same tokens together
        while self._queue:
            request = self._queue[0]
            start = request.parent.problem_id, request.parent.tokens, request.whole
            needed = FORKING * request.count + (0 if start in entering else 1 - FORKING)
            if needed > free and (entering or self._decoding.active):
                break
            free -= needed
            entering.setdefault(start, []).append(self._queue.popleft())
        if entering:
            forks = [(max((r.parent for r in requests), key=lambda p: p.state is not None), requests) for requests in entering.values()]
            self._prefill([parent for parent, _ in forks])
            self._decoding.enter([self._fork(parent, requests) for parent, requests in forks])

    def _prefill(self, parents: list[Candidate]) -> None:
        """Computes the cache of parents that have none (roots, or candidates that another search sampled), in padded batches."""
        cold = list({id(p): p for p in parents if p.state is None and len(p.prompt) + len(p.tokens) > 1}.values())
        cold.sort(key=lambda p: len(p.prompt) + len(p.tokens))
        rows = max(1, self.batch // PREFILLED)
        for at in range(0, len(cold), rows):
            self._prefill_batch(cold[at : at + rows])

    def _prefill_batch(self, cold: list[Candidate]) -> None:
        # The rows in use stay as they are: a second cache, dropped again at once, takes the prompts.
        scratch = self.cached.with_slots(len(cold))
        texts = [[*p.prompt, *p.tokens][:-1] for p in cold]
        longest = max(map(len, texts))
        padded = torch.zeros(len(texts), longest, dtype=torch.int64, device=self.device)
        for row, ids in enumerate(texts):
            padded[row, : len(ids)] = torch.tensor(ids)
        scratch.extend(padded, torch.zeros(len(texts), dtype=torch.int64, device=self.device))
        for parent, state in zip(cold, scratch.park_each(range(len(cold)), [len(ids) for ids in texts])):
            parent.state = state

    def _fork(self, parent: Candidate, requests: list[_Request]) -> Fork:
        sampling, whole = self.sampling, requests[0].whole
        held = len(parent.prompt) + len(parent.tokens)
        limit = min(sampling.max_tokens - len(parent.tokens), self.context - held)
        if not whole:
            limit = min(limit, sampling.max_step_tokens)
        samples = [(request, number) for request in requests for number in range(request.count)]
        return Fork(
            state=parent.state,
            length=held - 1,
            last=(parent.tokens or parent.prompt)[-1],
            done=len(parent.tokens),
            limit=max(1, limit),
            stepwise=not whole,
            keys=[noise_key(sampling.seed, r.parent.problem_id, (*r.parent.path, number)) for r, number in samples],
            owners=samples,
        )

    def _leave(self, stops: list[Stop], complete: list[_Request]) -> None:
        children = [(stop, self._child(*stop.owners[0], stop)) for stop in stops]
        # A blank step is no step: the row goes on.
        leaving = [(stop, child) for stop, child in children if child.status != "truncated" or stop.full]
        going_on = [(stop, child) for stop, child in leaving if child.status == "open"]
        for (_, child), state in zip(going_on, self._decoding.park([stop for stop, _ in going_on])):
            child.state = state
        for stop, child in leaving:
            firsts = {stop.owners[0][0]: child}
            for request, number in stop.owners:
                if (first := firsts.get(request)) is None:
                    first = firsts[request] = self._child(request, number, stop)
                    first.state = child.state
                request.children[number] = first.twin(number)
                request.missing -= 1
                if not request.missing:
                    complete.append(request)
        if leaving:
            self._decoding.remove([stop for stop, _ in leaving])

    def _child(self, request: _Request, number: int, stop: Stop) -> Candidate:
        room = room_after(request.parent, len(stop.tokens), self.sampling, self.context)
        ending = "end" if stop.ended else "step" if stop.boundary and room > 0 else "limit"
        return child_of(request.parent, number, stop.tokens, self._text_of(stop.tokens), ending, request.whole, len(stop.tokens))

    def _text_of(self, tokens: tuple[int, ...]) -> str:
        """Samples of one prompt repeat each other's steps a lot; longer texts would only fill memory."""
        return (self._decode_again if len(tokens) <= REPEATED else self._decode)(tokens)


def _marks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Marks:
    """Per token id: whether it ends a solution, holds a blank line, starts with a newline, ends with one."""
    declared = model.generation_config.eos_token_id if model.generation_config else None
    ends = {*(declared if isinstance(declared, list) else [declared]), tokenizer.eos_token_id} - {None}
    if not ends:
        raise ValueError(f"{tokenizer.name_or_path!r} declares no end-of-sequence token; set eos_token_id in its config")
    size = model.get_output_embeddings().weight.shape[0]
    texts = tokenizer.batch_decode([[i] for i in range(min(size, len(tokenizer)))], skip_special_tokens=False)
    texts += [""] * (size - len(texts))
    flags = (
        [i in ends for i in range(size)],
        [prompts.STEP_SEPARATOR in t for t in texts],
        [t.startswith("\n") for t in texts],
        [t.endswith("\n") for t in texts],
    )
    return Marks(np.array(flags).T.copy())
