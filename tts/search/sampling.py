"""How tokens are drawn, and the randomness of a sample, which depends on the sample alone, never on what shares its batch."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.7  # 0 is greedy
    top_p: float = 1.0  # nucleus sampling's mass; 1 keeps the whole distribution
    max_tokens: int = 2048  # limit of a whole solution
    max_step_tokens: int = 2048  # limit of one step in a search
    seed: int = 0  # seed of all noise
    confidence: bool = False  # whether the policy's confidence is kept with whole solutions
    stop_at_answer: bool = False  # whether a search's step that holds an answer ends its solution, as in the study's own code


def noise_key(seed: int, problem_id: str, path: tuple[int, ...]) -> int:
    """A signed 64-bit key for one sample: the seed, the problem, and the sample indices from the root on."""
    text = f"{seed}/{problem_id}/{'.'.join(map(str, path))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
