"""Scoring of steps by a causal model whose cached prefixes are extended, so that each token passes it once."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tts.engine import Engine, Text
from tts.models.hub import ModelError
from tts.models.loading import free_memory
from tts.reward_models import FEWEST, check_share
from tts.reward_models.prefix_plan import Key, Node, Segment, Steps, plan
from tts.tasks.prompts import unknown_id


class Family(Protocol):
    """All in which PRMs differ, a file for each: how partial solutions are rendered (many in a call, since that is how tokenizers are
    fast), which class loads the weights, and how a step's score is read from the hidden states. With ``weights=False`` it renders only.
    """

    architectures: ClassVar[tuple[str, ...]]  # those of a config that tell the family
    names: ClassVar[tuple[str, ...]]  # parts of a model's name that tell it, in lower case
    tokenizer: PreTrainedTokenizerBase
    backbone: torch.nn.Module  # the model without its head

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        """Token ids of each (problem, steps) up to and including where the last step's score is read; without steps, the opening."""

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        """One score per row, each row being one step's new ``tokens``, unpadded ids.

        Their hidden states are ``(rows, new, width)``; what is right of a row's own tokens means nothing. ``before`` ``(rows, width)`` is
        the state at the token before the first new one.
        """


def last(hidden: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
    """The hidden state at each row's last new token, ``(rows, width)``; arguments as :meth:`Family.read` gets them."""
    return torch.stack([states[len(ids) - 1] for states, ids in zip(hidden, tokens)])


def label_logits(model: PreTrainedModel, labels: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    """From hidden states, in float32, to the logits of some tokens alone."""
    head = model.get_output_embeddings()
    bias = None if head.bias is None else head.bias[labels].float()
    return partial(F.linear, weight=head.weight[labels].float(), bias=bias)


def padded(tokens: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids side by side ``(rows, longest)``, and which of them are no padding."""
    width = max(map(len, tokens))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens], device=device)
    return ids, torch.arange(width, device=device) < torch.tensor([[len(row)] for row in tokens], device=device)


class Reader:
    """What a PRM, ``name`` in messages, is given to read, at most ``context`` tokens at once, and the account of what it cannot read.

    A step that ends beyond the model's context scores 0, and so do all after it: a PRM does not vouch for what it cannot read,
    and one overlong solution must not stop a study of days. The steps before it keep their exact scores.
    """

    unread = 0  # steps beyond the context since report_unread was called last
    unknown = tokens = 0  # tokens of its input since then that stand for unknown text, and all of them
    unknown_id: int | None = None  # id of such a token; None where there is none, and while the input is a probe

    def __init__(self, name: str, family: Family, context: int):
        self.name, self.family, self.context = name, family, context
        self._known: defaultdict[str, dict[Steps, Any]] = defaultdict(dict)  # what was read of each problem's partial solutions

    def forget(self, problem_id: str) -> None:
        self._known.pop(problem_id, None)

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        """As :meth:`Family.render`; raises ``ModelError`` where too much of what was rendered since the last report is unknown."""
        rendered = self.family.render(solutions) if solutions else []
        if rendered and self.unknown_id is not None:
            counts = [ids.count(self.unknown_id) for ids in rendered]
            self.unknown, self.tokens = self.unknown + sum(counts), self.tokens + sum(map(len, rendered))
            problem, steps = solutions[counts.index(max(counts))]
            if self.tokens >= FEWEST:
                check_share(self.name, self.unknown, self.tokens, steps[-1] if steps else problem)
        return rendered

    def report_unread(self) -> tuple[dict[str, int], str | None]:
        """What it did not read since the last report: counts to keep, and a line for the reader where there is anything to say."""
        counts, lines = {"steps": self.unread, "unknown": self.unknown, "tokens": self.tokens}, []
        if self.unread:
            lines.append(f"{self.name} reads {self.context} tokens at most; {self.unread} steps that end beyond that scored 0")
        if self.unknown:
            lines.append(f"{self.name} does not know {self.unknown / self.tokens:.1%} of the {self.tokens:,} tokens that it was given")
        self.unread = self.unknown = self.tokens = 0
        return counts, "; ".join(lines) or None


class StepScorer(Reader):
    """A PRM of any family, ``batch`` rows in a forward pass; ``share`` of the device is ours, where others work beside us.

    Distinct steps are scored once per problem (:mod:`tts.reward_models.prefix_plan`). Between calls, the cache of the steps scored last
    is kept, since a search extends those next.
    """

    _known: defaultdict[str, dict[Steps, Node]]

    def __init__(self, name: str, family: Family, batch: int = 64, context: int = 1 << 30, share: float = 1.0):
        super().__init__(name, family, context)
        self.batch = batch
        self.engine = Engine(family.backbone, reading=batch)
        # Caches take a quarter of the device's memory at most, of a GPU's what weights and others left of it, the batch's and those kept
        # between calls each: a large model forwards fewer rows at once, scores fewer solutions side by side, and reads a step from the
        # start whose beginning had to be dropped. No score changes.
        self.tokens_kept = self.engine.room = int(share * free_memory(self.engine.device)) // 4 // self.engine.token_bytes

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`tts.search.driver.RewardModel.score`; scores lie in [0, 1]. Raises ``ModelError`` where the PRM cannot read the steps.

        A problem's solutions are best given side by side. A step that several share is charged to the first of them.
        """
        kept: dict[str, set[Steps]] = defaultdict(set)
        for (problem_id, _), solution in zip(problems, steps):
            kept[problem_id].add(solution)
        for problem_id, solutions in kept.items():
            self._drop(problem_id, {solution[:depth] for solution in solutions for depth in range(len(solution) + 1)})
        scores: list[tuple[float, ...]] = []
        charged: list[int] = []
        for part in self._parts(problems, steps):
            charged += self._read_part(problems[part], steps[part], kept)
            scores += [self._known[problem_id][solution].scores for (problem_id, _), solution in zip(problems[part], steps[part])]
            self._drop_oldest()
        for problem_id, solutions in kept.items():
            self._drop(problem_id, solutions)
        return scores, charged

    def _drop(self, problem_id: str, kept: set[Steps]) -> None:
        """Forgets a problem's other partial solutions, but for its opening."""
        self._known[problem_id] = {key: node for key, node in self._known[problem_id].items() if key in kept or not key}

    def _drop_oldest(self) -> None:
        """Drops caches of steps beyond what memory is set aside for them, the first problems' first."""
        nodes = [node for tree in self._known.values() for node in tree.values() if node.state is not None]
        excess = sum(len(node.ids) for node in nodes) - self.tokens_kept
        for node in nodes:
            if excess > 0:
                excess -= len(node.ids)
                node.state = None

    def _parts(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> Iterator[slice]:
        """Cuts solutions into parts whose caches fit into memory; a text has at most as many tokens as characters and marks."""
        first, tokens = 0, 0
        for at, ((_, text), solution) in enumerate(zip(problems, steps)):
            longest = min(self.context, len(text) + sum(map(len, solution)) + 16 * (len(solution) + 4))
            if at > first and tokens + longest > self.tokens_kept:
                yield slice(first, at)
                first, tokens = at, 0
            tokens += longest
        yield slice(first, len(steps))

    def _read_part(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps], kept: dict[str, set[Steps]]) -> list[int]:
        """Reads what is missing of solutions, and gives the tokens forwarded for each; ``kept`` are those whose caches stay."""
        payers, texts = self._missing(problems, steps), dict(problems)
        rendered = self.render([(texts[problem_id], prefix) for problem_id, prefix in payers])
        waves, nodes = plan(list(payers), rendered, lambda key: self._known[key[0]].get(key[1]), kept, self.context)
        self._read_all(waves)
        charged = [0] * len(steps)
        for node in nodes:
            problem_id, prefix = node.key
            tree = self._known[problem_id]
            tree[prefix] = node
            if node.fits:
                charged[payers[node.key]] += len(node.ids) - node.start
            elif prefix:
                self.unread += 1
                node.scores = (*tree[prefix[:-1]].scores, 0.0)
        return charged

    def _missing(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> dict[Key, int]:
        """Keys of what has to be read, parents before their children; and the number of the solution that pays for each."""
        payers: dict[Key, int] = {}
        for number, ((problem_id, _), solution) in enumerate(zip(problems, steps)):
            # Of a solution that is not scored yet, all that comes after its longest beginning whose cache is there.
            tree = self._known[problem_id]
            depths = range(len(solution), -1, -1)
            known = (d for d in depths if (node := tree.get(solution[:d])) and (d == len(solution) or node.state or not node.fits))
            for depth in range(next(known, -1) + 1, len(solution) + 1):
                payers.setdefault((problem_id, solution[:depth]), number)
        return payers

    @torch.inference_mode()
    def _read_all(self, waves: list[list[Segment]]) -> None:
        """Reads segments, scores their steps, and keeps the caches that others go on from."""
        before: list[Segment] = []
        for wave in waves:
            parked = [[node for node in segment.nodes if node.kept or node.forks] for segment in wave]
            texts = [
                Text(segment.parent and segment.parent.state, segment.start, segment.new, [len(node.ids) for node in nodes])
                for segment, nodes in zip(wave, parked)
            ]
            for numbers, hidden, states in self.engine.read(texts):
                self._score_segments([wave[number] for number in numbers], hidden)
                for row, number in enumerate(numbers):
                    for node, state in zip(parked[number], states[row]):
                        node.state, node.last_hidden = state, hidden[row, len(node.ids) - 1 - wave[number].start].clone()
            for node in chain.from_iterable(segment.nodes for segment in before):
                node.state = node.state if node.kept else None  # those that went on from it were read
            before = wave

    def _score_segments(self, segments: list[Segment], hidden: torch.Tensor) -> None:
        """Scores the steps of segments whose hidden states are ``(segments, new, width)``; a family reads one step per row."""
        steps = []
        for row, segment in enumerate(segments):
            for parent, node in zip([segment.parent, *segment.nodes], segment.nodes):
                if parent is None:  # an opening has no score
                    continue
                # A step's own tokens begin after the one that shared_length has forwarded again, where there is one.
                again = node.start < len(parent.ids) and node.start + 1 < len(node.ids)
                start, end = node.start + again - segment.start, len(node.ids) - segment.start
                if start:
                    before = hidden[row, start - 1]
                elif node.start == len(parent.ids):
                    before = parent.last_hidden
                else:  # what is before was forwarded in no row
                    before = torch.zeros_like(hidden[row, 0])
                steps.append((parent, node, before, hidden[row, start:end], segment.new[start:end]))
        for at in range(0, len(steps), len(segments)):  # no more at once than were forwarded
            parents, nodes, before, own, tokens = zip(*steps[at : at + len(segments)])
            scores = self.family.read(torch.stack(before), pad_sequence(own, batch_first=True), list(tokens))
            for parent, node, score in zip(parents, nodes, scores):
                node.scores = (*parent.scores, score)


def check_responds(scorer: StepScorer) -> StepScorer:
    """Raises ``ModelError`` for a PRM that gives two unrelated solutions the same scores, as one does whose weights did not load."""
    problems = [("probe-a", "7,+8=?"), ("probe-b", "(12+7)*(9-4)=?")]
    solutions: list[Steps] = [("7+8=15", "\\boxed{15}"), ("19*5=0", "5-4=12", "\\boxed{3}")]
    scores, _ = scorer.score(problems, solutions)
    for problem_id, _ in problems:
        scorer.forget(problem_id)
    flat = list(chain.from_iterable(scores))
    if max(flat) - min(flat) < 1e-6 or any(s != s for s in flat):
        raise ModelError(f"{scorer.name}: all scores of two unrelated solutions are {flat[0]:.6g}; its weights or its head did not load")
    scorer.unknown_id = unknown_id(scorer.family.tokenizer)  # from here on: a PRM need not know the probe's signs
    return scorer
