"""Particle filtering: partial solutions are drawn anew at each step, as often as their scores say."""

import math
import random
from collections import Counter

from tts.search.base import Candidate, Sample, Score, Search, alive
from tts.search.registry import Method
from tts.search.sampling import noise_key

CERTAIN = 1e-6  # scores nearer to 0 or 1 count as this far from it


def particle_filter(root: Candidate, n: int, seed: int = 0, max_steps: int = 40) -> Search:
    """Particle filtering with ``n`` particles (Puri et al. 2025, algorithm 1).

    Each particle goes on by one step. Then ``n`` are drawn from them with replacement, by the softmax of their scores' logits, so by their
    odds r / (1 - r). A finished particle keeps its score and is drawn as the others. Steps cut off by a token limit have no weight.

    Returns the finished particles, each as often as it was drawn last.
    """
    particles, drawn = [root], [n]
    for depth in range(max_steps):
        going_on = [(c, count) for c, count in zip(particles, drawn) if c.status == "open"]
        done = [(c, count) for c, count in zip(particles, drawn) if c.status == "finished"]
        if not going_on:
            break
        children = yield Sample([c for c, _ in going_on], [count for _, count in going_on])
        fresh = [c for siblings in children for c in alive(siblings)]
        if fresh:
            yield Score(fresh)
        particles = [c for c, count in done for _ in range(count)] + fresh
        if not particles:
            return []
        chance = random.Random(noise_key(seed, root.problem_id, (depth,)))
        chosen = Counter(chance.choices(range(len(particles)), [odds(c.last_score) for c in particles], k=n))
        particles, drawn = [particles[place] for place in sorted(chosen)], [chosen[place] for place in sorted(chosen)]
    return [c for c, count in zip(particles, drawn) if c.status == "finished" for _ in range(count)]


def odds(score: float) -> float:
    score = min(max(score, CERTAIN), 1 - CERTAIN)
    return math.exp(math.log(score) - math.log1p(-score))


PARTICLE_FILTER = Method(
    "particle_filter",
    "Particle filtering",
    "#8c510a",
    "X",
    lambda root, n, settings: particle_filter(root, n, settings.seed, settings.max_steps),
)
