"""Floating-point operations of training and inference, by the study's convention and in full.

Sources: Kaplan et al. 2020, section 2.1 (forward 2N per token, attention apart); Liu et al. 2025, Table 4
(pre-training 6ND, inference 2ND).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What a forward pass costs depends on."""

    parameters: float  # all of them, which must be in memory
    layers: float = 0
    attention_width: float = 0  # heads times head size; the mean of keys and values where they differ
    idle: float = 0  # parameters that a token does not meet, of the experts of a mixture that it is not sent to
    kv_width: float = 0  # heads of keys times head size, which a cache holds; 0 where it is not known

    @property
    def active(self) -> float:
        """Parameters that each token meets."""
        return self.parameters - self.idle


def pretraining(parameters: float, tokens: float) -> float:
    """6 N D (Liu et al. 2025, Table 4)."""
    return 6.0 * parameters * tokens


def inference(parameters: float, tokens: float) -> float:
    """2 N D, the study's convention: no attention, no prefill (Liu et al. 2025, Table 4)."""
    return 2.0 * parameters * tokens


def attention(shape: Shape, contexts: float) -> float:
    """4 L d a token and position that it looks at; ``contexts`` is the sum of what all tokens look at (Kaplan et al. 2020, Table 1)."""
    return 4.0 * shape.layers * shape.attention_width * contexts


@dataclass(frozen=True)
class Cost:
    """FLOPs of training and of answering a set of problems, in parts that do not overlap, and what must be in memory."""

    policy_training: float = 0.0  # each model once
    prm_training: float = 0.0
    prefill: float = 0.0  # reading of the prompts, the policy's 2N a token
    decode: float = 0.0  # generation of the solutions, likewise
    prm_inference: float = 0.0  # reading by the PRM, its 2N a token
    attention: float = 0.0  # of policy and PRM, over prompts and solutions
    deployed: float = 0.0  # parameters of policy and PRM

    @property
    def inference(self) -> float:
        return self.prefill + self.decode + self.prm_inference + self.attention

    @property
    def training(self) -> float:
        return self.policy_training + self.prm_training

    @property
    def total(self) -> float:
        return self.training + self.inference


def answering(policy: Shape, prompts: Sequence[float], generated: float, solution: float, prm: Shape = Shape(0), read: float = 0.0) -> Cost:
    """Everything that answering takes, training apart.

    ``prompts`` and ``solution`` are tokens of each prompt and of a solution on average, ``generated`` and ``read`` those that the policy
    generates for all of them and that the PRM reads. A prompt is prefilled once and forked; a token that is generated or scored looks at
    its prompt and, on average, at half a solution before it.
    """
    context = sum(prompts) / len(prompts) + (solution + 1) / 2
    attended = attention(policy, sum(length**2 for length in prompts) / 2 + generated * context)
    return Cost(
        prefill=inference(policy.active, sum(prompts)),
        decode=inference(policy.active, generated),
        prm_inference=inference(prm.active, read),
        attention=attended + attention(prm, read * context),
        deployed=policy.parameters + prm.parameters,
    )


def cheaper(first: Cost, second: Cost, queries: int) -> str:
    """In words, at which numbers of queries the first of two costs, measured over ``queries``, is less in total."""
    if math.isnan(first.total) or math.isnan(second.total):
        return "unknown"
    per_query = (second.inference - first.inference) / queries
    even = (first.training - second.training) / per_query if per_query else 0.0
    if even <= 0:
        # Neither is dearer at first and cheaper later on, so that one of them is at least level in both.
        lower = (first.training, first.inference) < (second.training, second.inference)
        return "at any number" if lower else "at no number"
    even = float(f"{even:.2g}")
    count = f"{even:,g}" if even < 1e6 else f"{even:.1e}"
    return f"up to {count} queries" if first.training < second.training else f"from {count} queries on"


def against(small: Cost, large: Cost, queries: int) -> dict[str, float | str]:
    """Three claims apart, each as a ratio above 1 where it holds, and :func:`cheaper`."""
    return {
        "times fewer total FLOPs": large.total / small.total,
        "times fewer inference FLOPs": large.inference / small.inference,
        "times fewer deployed parameters": large.deployed / small.deployed,
        "small is cheaper in total": cheaper(small, large, queries),
    }
