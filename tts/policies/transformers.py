"""The transformers engine: its own sampling loop over a forkable KV cache, with continuous batching.

Sequences enter the batch when there is room and leave it when they end, so no step waits for a stranger's longest
solution. A sample's noise depends on its own path only (:mod:`tts.policies.sampling`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tts import prompts
from tts.kv_cache import CachedModel
from tts.models import load_causal_lm, load_tokenizer, locate
from tts.policies.base import child_of, room_after, root_of
from tts.policies.sampling import Sampling, choose, noise_key, uniforms
from tts.search.base import Candidate
from tts.search.driver import Ticket


@dataclass(eq=False)
class _Request:
    """Continuations of one parent that are queued or under way."""

    ticket: Ticket
    parent: Candidate
    count: int
    whole: bool
    children: list[Candidate | None] = field(default_factory=list)
    started: int = 0
    missing: int = 0


class TransformersPolicy:
    """Any causal language model as a policy.

    Args:
        name: a pocket policy, a folder or a Hub name.
        sampling: temperature, limits and seed.
        batch: sequences decoded at once.
        device: as torch names it; by default as :func:`tts.models.placement` chooses.

    Raises:
        tts.models.ModelError: where the model cannot be loaded.
        ValueError: where its tokenizer has no chat template.
    """

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, device: str | None = None):
        self.name, self.sampling, self.batch = name, sampling, batch
        self.location = locate(name)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.location)
        self.model: PreTrainedModel = load_causal_lm(self.location, device)
        self.device = self.model.device
        self.head = self.model.get_output_embeddings()
        self.cached = CachedModel(self.model.base_model, batch)
        self.context = int(getattr(self.model.config, "max_position_embeddings", 1 << 30))
        self._ends = _end_tokens(self.model, self.tokenizer).to(self.device)
        self._breaks, self._starts_newline, self._ends_newline = (
            flags.to(self.device) for flags in _boundary_flags(self.tokenizer, self.head.weight.shape[0])
        )
        self._queue: deque[_Request] = deque()
        self._reset_rows()

    def root(self, problem_id: str, problem: str) -> Candidate:
        """The empty solution of a problem.

        Raises:
            ValueError: where the prompt does not leave room for an answer, or holds unknown characters.
        """
        return root_of(self.tokenizer, self.name, self.context, problem_id, problem)

    # -- the driver's side -------------------------------------------------------------------------------------

    @property
    def starved(self) -> bool:
        return not self._queue and self._active_count < self.batch // 2

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        self._queue.append(_Request(ticket, parent, count, whole, [None] * count, 0, count))

    def reset(self) -> None:
        self._queue.clear()
        self._reset_rows()

    @torch.inference_mode()
    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        complete: list[_Request] = []
        while not complete and (self._queue or self._active_count):
            self._admit()
            self._decode(complete)
        return [(request.ticket, request.children) for request in complete]

    # -- rows --------------------------------------------------------------------------------------------------

    def _reset_rows(self) -> None:
        size, integers = self.batch, {"dtype": torch.int64, "device": self.device}
        self._rows: list[tuple[_Request, int] | None] = []
        self._active_count = 0
        self._last = torch.zeros(size, **integers)  # newest token, not yet in the cache
        self._length = torch.zeros(size, **integers)  # tokens in the cache
        self._done_before = torch.zeros(size, **integers)  # solution tokens of the parent
        self._count = torch.zeros(size, **integers)  # tokens generated in this request
        self._limit = torch.ones(size, **integers)
        self._keys = torch.zeros(size, **integers)
        self._stepwise = torch.zeros(size, dtype=torch.bool, device=self.device)
        self._active = torch.zeros(size, dtype=torch.bool, device=self.device)
        self._generated = torch.zeros(size, 64, **integers)

    def _admit(self) -> None:
        """Fills free rows from the queue; only when a fair number is free, because entering costs a little."""
        free = self.batch - self._active_count
        if not self._queue or (self._active_count and free < self.batch // 16):
            return
        self._prefill(self._next_parents(free))
        holes = [i for i, row in enumerate(self._rows) if row is None]
        while free and self._queue:
            request = self._queue[0]
            take = min(free, request.count - request.started)
            rows = [holes.pop(0) if holes else self._append_row() for _ in range(take)]
            self._enter(request, rows)
            free -= take
            if request.started == request.count:
                self._queue.popleft()

    def _append_row(self) -> int:
        self._rows.append(None)
        return len(self._rows) - 1

    def _next_parents(self, free: int) -> list[Candidate]:
        parents = []
        for request in self._queue:
            if free <= 0:
                break
            parents.append(request.parent)
            free -= request.count - request.started
        return parents

    def _prefill(self, parents: list[Candidate]) -> None:
        """Computes the cache of parents that have none (roots, or candidates from elsewhere), in one padded batch."""
        cold = list({id(p): p for p in parents if p.state is None and len(p.prompt) + len(p.tokens) > 1}.values())
        if not cold:
            return
        # The rows in use stay as they are: a second cache, dropped again at once, takes the prompts.
        scratch = CachedModel(self.model.base_model, len(cold))
        texts = [[*p.prompt, *p.tokens][:-1] for p in cold]
        longest = max(map(len, texts))
        padded = torch.zeros(len(texts), longest, dtype=torch.int64, device=self.device)
        for row, ids in enumerate(texts):
            padded[row, : len(ids)] = torch.tensor(ids)
        scratch.extend(padded, torch.zeros(len(texts), dtype=torch.int64, device=self.device), longest)
        for row, (parent, ids) in enumerate(zip(cold, texts)):
            parent.state = scratch.park(row, len(ids))

    def _enter(self, request: _Request, rows: list[int]) -> None:
        parent = request.parent
        ids = [*parent.prompt, *parent.tokens]
        self.cached.load(rows, parent.state)
        where = torch.tensor(rows, device=self.device)
        sampling = self.sampling
        limit = min(sampling.max_tokens - len(parent.tokens), self.context - len(ids))
        if not request.whole:
            limit = min(limit, sampling.max_step_tokens)
        self._last[where] = ids[-1]
        self._length[where] = len(ids) - 1
        self._done_before[where] = len(parent.tokens)
        self._count[where] = 0
        self._limit[where] = max(1, limit)
        self._stepwise[where] = not request.whole
        self._active[where] = True
        numbers = range(request.started, request.started + len(rows))
        keys = [noise_key(sampling.seed, parent.problem_id, (*parent.path, i)) for i in numbers]
        self._keys[where] = torch.tensor(keys, device=self.device)
        for row, number in zip(rows, numbers):
            self._rows[row] = (request, number)
        request.started += len(rows)
        self._active_count += len(rows)

    # -- one token for every row -------------------------------------------------------------------------------

    def _decode(self, complete: list[_Request]) -> None:
        rows = len(self._rows)
        length, count = self._length[:rows], self._count[:rows]
        longest = int(length.max()) + 1
        hidden = self.cached.extend(self._last[:rows, None], length, longest)
        noise = uniforms(self._keys[:rows], self._done_before[:rows] + count)
        tokens = choose(self.head(hidden[:, 0]), noise, self.sampling.temperature, self.sampling.top_p)
        after_newline = self._ends_newline[self._last[:rows]] & (count > 0)
        self._last[:rows] = tokens
        length += 1
        self._write(tokens, count)
        count += 1
        ended = torch.isin(tokens, self._ends)
        boundary = self._stepwise[:rows] & (self._breaks[tokens] | (after_newline & self._starts_newline[tokens]))
        full = count >= self._limit[:rows]
        leaving = ((ended | boundary | full) & self._active[:rows]).nonzero()[:, 0].tolist()
        if leaving:
            self._leave(leaving, ended, boundary, complete)

    def _write(self, tokens: torch.Tensor, count: torch.Tensor) -> None:
        if int(count.max()) >= self._generated.shape[1]:
            self._generated = torch.cat([self._generated, torch.zeros_like(self._generated)], dim=1)
        self._generated[torch.arange(len(tokens), device=self.device), count] = tokens

    def _leave(self, rows: list[int], ended: torch.Tensor, boundary: torch.Tensor, complete: list[_Request]) -> None:
        for row in rows:
            request, number = self._rows[row]
            generated = self._generated[row, : int(self._count[row])].tolist()
            child = self._child(request, number, generated, bool(ended[row]), bool(boundary[row]))
            if child.status == "truncated" and len(generated) < int(self._limit[row]):
                continue  # a blank step is no step: the row goes on
            if child.status == "open":
                child.state = self.cached.park(row, int(self._length[row]))
            request.children[number] = child
            request.missing -= 1
            if not request.missing:
                complete.append(request)
            self._rows[row] = None
            self._active[row] = False
            self._active_count -= 1
        self._close_gaps()

    def _child(self, request: _Request, number: int, generated: list[int], ended: bool, boundary: bool) -> Candidate:
        text = self.tokenizer.decode(generated, skip_special_tokens=True)
        room = room_after(request.parent, len(generated), self.sampling, self.context)
        ending = "end" if ended else "step" if boundary and room > 0 else "limit"
        return child_of(request.parent, number, generated, text, ending, request.whole, len(generated))

    def _close_gaps(self) -> None:
        """Moves the rows together where nothing waits to fill the gaps and at least a quarter of them is empty."""
        if self._active_count == 0:
            self._rows.clear()
            return
        if self._queue or self._active_count > 0.75 * len(self._rows):
            return
        keep = self._active[: len(self._rows)].nonzero()[:, 0]
        self.cached.compact(keep, int(self._length[keep].max()))
        for tensor in (
            self._last, self._length, self._done_before, self._count, self._limit, self._keys, self._stepwise, self._generated
        ):  # fmt: skip
            tensor[: len(keep)] = tensor[keep]
        self._active[:] = False
        self._active[: len(keep)] = True
        self._rows = [self._rows[i] for i in keep.tolist()]


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    declared = model.generation_config.eos_token_id if model.generation_config else None
    ends = declared if isinstance(declared, list) else [declared]
    found = {t for t in [*ends, tokenizer.eos_token_id] if t is not None}
    if not found:
        raise ValueError(f"{tokenizer.name_or_path!r} declares no end-of-sequence token; set eos_token_id in its config")
    return torch.tensor(sorted(found))


def _boundary_flags(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per token id: whether it holds a blank line, starts with a newline, ends with one."""
    texts = tokenizer.batch_decode([[i] for i in range(min(size, len(tokenizer)))], skip_special_tokens=False)
    texts += [""] * (size - len(texts))
    return (
        torch.tensor([prompts.STEP_SEPARATOR in t for t in texts]),
        torch.tensor([t.startswith("\n") for t in texts]),
        torch.tensor([t.endswith("\n") for t in texts]),
    )
