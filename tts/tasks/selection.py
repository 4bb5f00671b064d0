"""From candidates to one answer: step scores to one score (aggregate), then scores to one answer (vote)."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tts.common.names import listed

AGGREGATES = ("min", "last", "avg", "product")
VOTES = ("majority", "max", "vote")


class Rule(NamedTuple):
    """How candidates become one answer: an aggregate and a vote."""

    aggregate: str
    vote: str

    def __str__(self) -> str:
        return self.vote if self.vote == "majority" else f"{self.aggregate}+{self.vote}"


SCORED = tuple(Rule(aggregate, vote) for aggregate in AGGREGATES for vote in ("max", "vote"))  # the rules that use scores
MAJORITY = Rule("", "majority")
RULES = (*SCORED, MAJORITY)
"""The study's rules (Liu et al. 2025, Table 2), and product."""


def aggregates(solutions: Sequence[Sequence[float]], how: str) -> np.ndarray:
    """Each solution's one score from its step scores, ``(solutions,)``; 0 for one without any.

    PRM-Min, PRM-Last, PRM-Avg (Liu et al. 2025, section 2.3), product; raises ``ValueError`` for an unknown aggregate.
    """
    lengths = np.array([len(scores) for scores in solutions], int)
    found = np.zeros(len(solutions))
    if not lengths.any():
        return found
    if how not in AGGREGATES:
        raise ValueError(f"unknown aggregate {how!r}; choose from {listed(AGGREGATES, how)}")
    flat, some = np.concatenate([scores for scores in solutions if len(scores)]), lengths > 0
    starts = np.cumsum(lengths[some]) - lengths[some]
    if how == "last":
        found[some] = flat[starts + lengths[some] - 1]
    else:
        over = {"min": np.minimum, "avg": np.add, "product": np.multiply}[how]
        found[some] = over.reduceat(flat, starts) / (lengths[some] if how == "avg" else 1)
    return found


def select(groups: Sequence[int], scores: Sequence[float] | None, vote: str) -> int:
    """The index of the selected candidate, whose answer is the answer; -1 where no candidate has an answer.

    ``groups`` are numbers of the candidates' answers, -1 for none, which does not vote; ``scores`` are aggregate scores. A vote is
    ``majority`` (most frequent answer, which needs no scores), ``max`` (PRM-Max, the best score), or ``vote`` (PRM-Vote, scores summed over
    equal answers). Ties go to the candidate of lower index, as one candidate has to be named; expected accuracies break them at random
    (:mod:`tts.analysis.stats`). Raises ``ValueError`` for an unknown vote, or scores that are needed and missing.
    """
    if vote not in VOTES:
        raise ValueError(f"unknown vote {vote!r}; choose from {listed(VOTES, vote)}")
    if vote == "majority":
        scores = [1.0] * len(groups)
    elif scores is None:
        raise ValueError(f"the vote {vote!r} needs scores")
    answered = [i for i, group in enumerate(groups) if group >= 0]
    total: dict[int, float] = defaultdict(float)
    for i in answered:
        total[groups[i]] += scores[i]
    return max(answered, key=lambda i: scores[i] if vote == "max" else total[groups[i]], default=-1)
