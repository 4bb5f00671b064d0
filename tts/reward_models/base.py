"""Scoring of steps by a causal model whose cached prefixes are extended, so that each token passes it once.

A PRM family differs in three things only, and its file in this folder says what they are: how a partial solution is
rendered, which class loads the weights, and how a step's score is read from the hidden states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tts.kv_cache import CachedModel
from tts.models import ModelError

Steps = tuple[str, ...]


class Family(Protocol):
    """What a PRM family's file provides."""

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


@dataclass(eq=False)
class _Node:
    """A problem's opening, or one step on top of a parent."""

    ids: list[int]
    scores: tuple[float, ...]
    state: torch.Tensor | None = None
    last_hidden: torch.Tensor | None = None


class StepScorer:
    """A PRM of any family.

    Distinct steps are scored once per problem: all solutions of a problem form a tree, scored level by level across
    problems. Between calls, the cache of the steps scored last is kept, since a search extends those next.

    Args:
        name: for messages and records.
        family: rendering and reading.
        batch: rows per forward pass.
        context: longest input in tokens.
    """

    def __init__(self, name: str, family: Family, batch: int = 64, context: int = 1 << 30):
        self.name, self.family, self.batch, self.context = name, family, batch, context
        self.cached = CachedModel(family.backbone, batch)
        self._trees: dict[str, dict[Steps, _Node]] = {}

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """Scores of each solution's steps.

        Args:
            problems: each solution's (problem id, problem text); a problem's solutions are best given side by side.
            steps: each solution's steps; a solution without steps gets no scores.

        Returns:
            Per solution, one score in [0, 1] per step; and the number of tokens forwarded for it (a step shared by
            several solutions is charged to the first of them).

        Raises:
            ValueError: where a rendered solution is longer than the model's context.
        """
        scores: list[tuple[float, ...]] = []
        charged: list[int] = []
        for first, stop in _parts(problems, 4 * self.batch):
            part_scores, part_charged = self._score_part(problems[first:stop], steps[first:stop])
            scores += part_scores
            charged += part_charged
        return scores, charged

    def _score_part(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """The same for few enough solutions that the cached steps of two levels fit into memory."""
        charged = [0] * len(steps)
        kept: dict[str, set[Steps]] = defaultdict(set)
        levels: dict[int, dict[tuple[str, Steps], int]] = defaultdict(dict)
        texts = dict(problems)
        for number, ((problem_id, _), solution) in enumerate(zip(problems, steps)):
            if solution in kept[problem_id]:
                continue
            tree = self._trees.setdefault(problem_id, {})
            kept[problem_id].add(solution)
            missing: list[Steps] = []
            for depth in range(len(solution), -1, -1):
                node = tree.get(solution[:depth])
                if node is not None and (depth == len(solution) or node.state is not None):
                    break
                missing.append(solution[:depth])
            for level, prefix in enumerate(reversed(missing)):  # problems at different depths share their forward passes
                levels[level].setdefault((problem_id, prefix), number)
        for level in range(len(levels)):
            self._score_level(texts, levels[level], charged)
            for problem_id, prefix in levels.get(level - 1, {}):
                if prefix and prefix not in kept[problem_id]:
                    self._trees[problem_id][prefix].state = None  # its children are scored: no more use
        scores = [self._trees[problem_id][solution].scores for (problem_id, _), solution in zip(problems, steps)]
        for problem_id, solutions in kept.items():
            tree = self._trees[problem_id]
            self._trees[problem_id] = {key: node for key, node in tree.items() if key in solutions or not key}
        return scores, charged

    def forget(self, problem_id: str) -> None:
        self._trees.pop(problem_id, None)

    @torch.inference_mode()
    def _score_level(self, texts: dict[str, str], wanted: dict[tuple[str, Steps], int], charged: list[int]) -> None:
        jobs = []
        for (problem_id, prefix), number in wanted.items():
            ids = self.family.render(texts[problem_id], prefix)
            if len(ids) > self.context:
                raise ValueError(
                    f"problem {problem_id}: a solution of {len(prefix)} steps has {len(ids)} tokens in the format of "
                    f"{self.name}, which reads {self.context} at most; lower max_tokens or choose another PRM"
                )
            parent = self._trees[problem_id].get(prefix[:-1]) if prefix else None
            shared = _shared_prefix(parent.ids, ids) if parent else 0
            jobs.append((problem_id, prefix, ids, parent, shared))
            charged[number] += len(ids) - shared
        order = sorted(range(len(jobs)), key=lambda i: (len(jobs[i][2]) - jobs[i][4], len(jobs[i][2]), i))
        for at in range(0, len(order), self.batch):
            self._forward([jobs[i] for i in order[at : at + self.batch]])

    def _forward(self, jobs: list[tuple[str, Steps, list[int], _Node | None, int]]) -> None:
        device = self.cached.device
        new = [ids[shared:] for _, _, ids, _, shared in jobs]
        width = max(map(len, new))
        tokens = torch.tensor([ids + [0] * (width - len(ids)) for ids in new], device=device)
        for row, (*_, parent, shared) in enumerate(jobs):
            if shared:
                self.cached.load([row], parent.state, shared)
        hidden = self.cached.extend(tokens, torch.tensor([shared for *_, shared in jobs], device=device))
        blank = hidden.new_zeros(hidden.shape[-1])
        before = torch.stack([job[3].last_hidden if job[3] else blank for job in jobs])
        scored = [row for row, job in enumerate(jobs) if job[1]]
        values = iter(self.family.read(before[scored], hidden[scored], [new[r] for r in scored]) if scored else [])
        last = hidden[torch.arange(len(jobs)), torch.tensor([len(ids) - 1 for ids in new])].unbind()
        for row, (problem_id, prefix, ids, parent, _) in enumerate(jobs):
            node = _Node(ids, (*parent.scores, next(values)) if prefix else (), self.cached.park(row, len(ids)), last[row])
            self._trees[problem_id][prefix] = node


def _parts(problems: Sequence[tuple[str, str]], size: int) -> Iterator[tuple[int, int]]:
    """Cuts solutions into parts of at least ``size`` between problems."""
    first = 0
    for at in range(1, len(problems) + 1):
        if at == len(problems) or (at - first >= size and problems[at] != problems[at - 1]):
            yield first, at
            first = at


def _shared_prefix(known: list[int], ids: list[int]) -> int:
    """Length of the common beginning, at most one less than ``ids``, for a step needs a token to be read at."""
    if ids[: len(known)] == known:
        return min(len(known), len(ids) - 1)
    return next((i for i, (a, b) in enumerate(zip(known, ids)) if a != b), len(ids) - 1)


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
