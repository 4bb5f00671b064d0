"""REBASE: places go to partial solutions by the softmax of their scores."""

import math
from collections.abc import Sequence

from tts.search.base import Candidate, Sample, Score, Search, alive
from tts.search.registry import Constant, Method

BALANCE = Constant("balance", 0.2, 0.01, 100)


def rebase(root: Candidate, n: int, balance: float = BALANCE.default, max_steps: int = 40) -> Search:
    """Reward-balanced search with budget ``n`` (Wu et al. 2024, section 3.2).

    The root samples ``n`` first steps. Each depth shares out the places that no finished solution takes: a partial solution with score r
    samples its part of them by the softmax of r / ``balance``. So a small balance goes on with the best alone, a large one with all alike.
    The published rule rounds each part to the nearest number; here the largest remainders are rounded up, so that no place is lost.

    Returns all finished candidates, equal ones too, as they finished.
    """
    finished: list[Candidate] = []
    frontier, counts = [root], [n]
    for _ in range(max_steps):
        children = yield Sample(frontier, counts)
        candidates = [c for siblings in children for c in alive(siblings)]
        if not candidates:
            break
        yield Score(candidates)
        finished += [c for c in candidates if c.status == "finished"]
        going_on = [c for c in candidates if c.status == "open"]
        places = shares([c.last_score / balance for c in going_on], n - len(finished))
        frontier, counts = [c for c, k in zip(going_on, places) if k], [k for k in places if k]
        if not frontier:
            break
    return finished


def shares(logits: Sequence[float], places: int) -> list[int]:
    """Whole numbers that sum to ``places``, in proportion to the softmax of the logits; largest remainders first, ties to the earlier."""
    if not logits or places <= 0:
        return [0] * len(logits)
    weights = [math.exp(logit - max(logits)) for logit in logits]
    exact = [places * weight / sum(weights) for weight in weights]
    whole = [math.floor(part + 1e-9) for part in exact]  # a part that is whole but for rounding
    for place in sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])[: places - sum(whole)]:
        whole[place] += 1
    return whole


REBASE = Method(
    "rebase",
    "REBASE",
    "C5",
    "P",
    lambda root, n, settings: rebase(root, n, settings.constants["balance"], settings.max_steps),
    constants=(BALANCE,),
)
