"""How tokens are drawn, and the randomness of a sample, which depends on the sample alone, never on what shares its batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling's mass; 1 keeps the whole distribution.
        max_tokens: limit of a whole solution.
        max_step_tokens: limit of one step in a search.
        seed: seed of all noise.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 2048
    max_step_tokens: int = 2048
    seed: int = 0


def noise_key(seed: int, problem_id: str, path: tuple[int, ...]) -> int:
    """A signed 64-bit key for one sample: the seed, the problem, and the sample indices from the root on."""
    text = f"{seed}/{problem_id}/{'.'.join(map(str, path))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
