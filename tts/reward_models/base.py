"""Scoring of steps by a causal model whose cached prefixes are extended, so that each token passes it once.

A PRM family differs in three things only, and its file in this folder says what they are: how a partial solution is
rendered, which class loads the weights, and how a step's score is read from the hidden states.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from tts.kv_cache import CachedModel, State, capacity_for
from tts.models import ModelError

Steps = tuple[str, ...]


class Family(Protocol):
    """What a PRM family's file provides; opened with ``weights=False`` it renders only.

    Attributes:
        architectures: those of a config that tell the family.
        names: parts of a model's name that tell it, in lower case.
        backbone: the model without its head.
    """

    architectures: ClassVar[tuple[str, ...]]
    names: ClassVar[tuple[str, ...]]
    backbone: torch.nn.Module

    def render(self, problem: str, steps: Steps) -> list[int]:
        """Token ids up to and including the position at which the last step's score is read; without steps, the opening."""

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        """One score per row, each row being one step's new tokens.

        Args:
            before: ``(rows, width)``, the hidden state at the token before the first new one.
            hidden: ``(rows, new, width)``, right-padded.
            tokens: each row's new token ids, unpadded.
        """


def last(hidden: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
    """The hidden state at each row's last new token, ``(rows, width)``; arguments as :meth:`Family.read` gets them."""
    ends = torch.tensor([len(ids) - 1 for ids in tokens], device=hidden.device)
    return hidden[torch.arange(len(tokens), device=hidden.device), ends]


@dataclass(eq=False)
class _Node:
    """A problem's opening, or one step on top of a parent; ``fits`` is whether the model's context holds it."""

    ids: list[int]
    scores: tuple[float, ...]
    fits: bool = True
    state: State | None = None
    last_hidden: torch.Tensor | None = None


class StepScorer:
    """A PRM of any family.

    Distinct steps are scored once per problem: all solutions of a problem form a tree, scored level by level across
    problems. Between calls, the cache of the steps scored last is kept, since a search extends those next.

    A step that ends beyond the model's context scores 0, and so do all after it: a PRM does not vouch for what it cannot read,
    and one overlong solution must not stop a study of days. The steps before it keep their exact scores.

    Caches are kept within a share of the device's memory, the batch's and the kept ones each: a large model forwards fewer rows at
    once, scores fewer solutions side by side, and reads a step from the start whose beginning had to be dropped. No score changes.

    Args:
        name: for messages and records.
        family: rendering and reading.
        batch: rows per forward pass.
        context: longest input in tokens.
        memory: bytes that each of the two may take; a quarter of the device's by default.
        share: of the device that is ours, where others work beside us.

    Attributes:
        unread: steps that scored 0 because they lie beyond the context, since :meth:`report_unread` was called last.
    """

    def __init__(self, name: str, family: Family, batch: int = 64, context: int = 1 << 30, memory: int | None = None, share: float = 1.0):
        self.name, self.family, self.batch, self.context = name, family, batch, context
        self.unread = 0
        self.cached = CachedModel(family.backbone, batch)
        self._tokens_kept = (memory or int(share * _memory_of(self.cached.device)) // 4) // self.cached.token_bytes
        self._trees: dict[str, dict[Steps, _Node]] = {}

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """Scores of each solution's steps.

        Args:
            problems: each solution's (problem id, problem text); a problem's solutions are best given side by side.
            steps: each solution's steps; a solution without steps gets no scores.

        Returns:
            Per solution, one score in [0, 1] per step; and the number of tokens forwarded for it (a step shared by
            several solutions is charged to the first of them).
        """
        kept: dict[str, set[Steps]] = defaultdict(set)
        for (problem_id, _), solution in zip(problems, steps):
            kept[problem_id].add(solution)
        scores: list[tuple[float, ...]] = []
        charged: list[int] = []
        for first, stop in self._parts(problems, steps):
            part_scores, part_charged = self._score_part(problems[first:stop], steps[first:stop], kept)
            scores += part_scores
            charged += part_charged
            self._drop_oldest()
        for problem_id, solutions in kept.items():
            tree = self._trees[problem_id]
            self._trees[problem_id] = {key: node for key, node in tree.items() if key in solutions or not key}
        return scores, charged

    def _parts(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> Iterator[tuple[int, int]]:
        """Cuts solutions into parts whose caches fit into memory; a text has at most as many tokens as characters and marks."""
        first, tokens = 0, 0
        for at, ((_, text), solution) in enumerate(zip(problems, steps)):
            longest = min(self.context, len(text) + sum(map(len, solution)) + 16 * (len(solution) + 4))
            if at > first and tokens + longest > self._tokens_kept:
                yield first, at
                first, tokens = at, 0
            tokens += longest
        if len(steps):
            yield first, len(steps)

    def _score_part(
        self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps], kept: dict[str, set[Steps]]
    ) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`score`; ``kept`` are the solutions whose caches stay."""
        charged = [0] * len(steps)
        levels: dict[int, dict[tuple[str, Steps], int]] = defaultdict(dict)
        texts = dict(problems)
        for number, ((problem_id, _), solution) in enumerate(zip(problems, steps)):
            tree = self._trees.setdefault(problem_id, {})
            missing: list[Steps] = []
            for depth in range(len(solution), -1, -1):
                node = tree.get(solution[:depth])
                if node is not None and (depth == len(solution) or node.state is not None or not node.fits):
                    break
                missing.append(solution[:depth])
            for level, prefix in enumerate(reversed(missing)):  # problems at different depths share their forward passes
                levels[level].setdefault((problem_id, prefix), number)
        for level in range(len(levels)):
            self._score_level(texts, levels[level], charged)
            for problem_id, prefix in levels.get(level - 1, {}):
                if prefix and prefix not in kept[problem_id]:
                    self._trees[problem_id][prefix].state = None  # its children are scored: no more use
        return [self._trees[problem_id][solution].scores for (problem_id, _), solution in zip(problems, steps)], charged

    def _drop_oldest(self) -> None:
        """Drops caches of steps beyond what memory is set aside for them, the first problems' first."""
        nodes = [node for tree in self._trees.values() for node in tree.values() if node.state is not None]
        excess = sum(len(node.ids) for node in nodes) - self._tokens_kept
        for node in nodes:
            if excess <= 0:
                return
            excess -= len(node.ids)
            node.state = None

    def forget(self, problem_id: str) -> None:
        self._trees.pop(problem_id, None)

    def report_unread(self) -> str | None:
        """What is to be said of steps beyond the context since the last report; None where there were none."""
        steps, self.unread = self.unread, 0
        if not steps:
            return None
        return f"{self.name} reads {self.context} tokens at most; {steps} steps that end beyond that scored 0"

    @torch.inference_mode()
    def _score_level(self, texts: dict[str, str], wanted: dict[tuple[str, Steps], int], charged: list[int]) -> None:
        jobs = []
        for (problem_id, prefix), number in wanted.items():
            tree = self._trees[problem_id]
            parent = tree.get(prefix[:-1]) if prefix else None
            ids = self.family.render(texts[problem_id], prefix) if not parent or parent.fits else []
            if (parent and not parent.fits) or len(ids) > self.context:
                self.unread += len(prefix) > 0
                tree[prefix] = _Node([], (*parent.scores, 0.0) if parent else (), fits=False)
                continue
            start = _new_from(parent.ids, ids) if parent else 0
            jobs.append((problem_id, prefix, ids, parent, start))
            charged[number] += len(ids) - start
        order = sorted(range(len(jobs)), key=lambda i: (len(jobs[i][2]) - jobs[i][4], len(jobs[i][2]), i))
        rows = self._rows(max((len(ids) for _, _, ids, *_ in jobs), default=0))
        for at in range(0, len(order), rows):
            self._forward([jobs[i] for i in order[at : at + rows]])

    def _rows(self, longest: int) -> int:
        """How many rows of so many tokens are forwarded at once; the batch's cache is made anew where that changes."""
        fitting = max(1, self._tokens_kept // capacity_for(longest))
        rows = min(self.batch, 1 << (fitting.bit_length() - 1))
        if rows != self.cached.slots:
            self.cached = self.cached.with_slots(rows)
        return rows

    def _forward(self, jobs: list[tuple[str, Steps, list[int], _Node | None, int]]) -> None:
        device = self.cached.device
        new = [ids[start:] for _, _, ids, _, start in jobs]
        width = max(map(len, new))
        tokens = torch.tensor([ids + [0] * (width - len(ids)) for ids in new], device=device)
        for row, (*_, parent, start) in enumerate(jobs):
            if start:
                self.cached.load([row], parent.state, start)
        hidden = self.cached.extend(tokens, torch.tensor([start for *_, start in jobs], device=device))
        for row, (problem_id, prefix, ids, parent, _) in enumerate(jobs):
            self._trees[problem_id][prefix] = _Node(
                ids,
                parent.scores if parent else (),
                state=self.cached.park(row, len(ids)),
                last_hidden=hidden[row, len(new[row]) - 1].clone(),
            )
        before = torch.zeros(len(jobs), hidden.shape[-1], dtype=hidden.dtype, device=device)
        for row, (*_, parent, start) in enumerate(jobs):
            if parent and start == len(parent.ids):
                before[row] = parent.last_hidden
            elif parent and len(new[row]) > 1:  # the first token forwarded is the one before the new ones
                before[row] = hidden[row, 0]
                hidden[row, :-1] = hidden[row, 1:].clone()
                new[row] = new[row][1:]
        scored = [row for row, job in enumerate(jobs) if job[1]]
        values = self.family.read(before[scored], hidden[scored], [new[r] for r in scored]) if scored else []
        for row, value in zip(scored, values):
            problem_id, prefix, *_ = jobs[row]
            node = self._trees[problem_id][prefix]
            node.scores = (*node.scores, value)


def _memory_of(device: torch.device) -> int:
    """Bytes of a device's memory, in use or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _new_from(known: list[int], ids: list[int]) -> int:
    """Where to go on from a cached beginning: after it, or, where the ids differ from it, one before the first that does.

    A tokenizer may merge the end of a text with what comes next. Then the token before the first new one is forwarded again, for
    its hidden state, which a family may read, is kept for the last cached token only.
    """
    common = next((i for i, (a, b) in enumerate(zip(known, ids)) if a != b), min(len(known), len(ids)))
    if common == len(known) < len(ids):
        return common
    return max(0, min(common, len(ids) - 1) - 1)


def check_responds(scorer: StepScorer) -> StepScorer:
    """Refuses a PRM that gives unrelated inputs the same score, as one does whose weights did not load.

    Raises:
        tts.models.ModelError: where all scores of two unrelated solutions are equal.
    """
    problems = [("probe-a", "7,+8=?"), ("probe-b", "(12+7)*(9-4)=?")]
    solutions: list[Steps] = [("7+8=15", "\\boxed{15}"), ("19*5=0", "5-4=12", "\\boxed{3}")]
    scores, _ = scorer.score(problems, solutions)
    for problem_id, _ in problems:
        scorer.forget(problem_id)
    flat = [s for row in scores for s in row]
    if max(flat) - min(flat) < 1e-6 or any(s != s for s in flat):
        raise ModelError(f"{scorer.name}: all scores of two unrelated solutions are {flat[0]:.6g}; its weights or its head did not load")
    return scorer
