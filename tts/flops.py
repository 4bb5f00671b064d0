"""Floating-point operations of training and inference, by the study's convention and in full.

Sources: Kaplan et al. 2020, section 2.1 (forward 2N per token, attention apart); Liu et al. 2025, Table 4
(pre-training 6ND, inference 2ND).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What a forward pass costs depends on.

    Attributes:
        parameters: active per token; for a mixture of experts fewer than it has.
        layers: transformer layers.
        attention_width: heads times head size.
    """

    parameters: int
    layers: int = 0
    attention_width: int = 0


def pretraining(parameters: float, tokens: float) -> float:
    """6 N D (Liu et al. 2025, Table 4)."""
    return 6.0 * parameters * tokens


def inference(parameters: float, tokens: float) -> float:
    """2 N D, the study's convention: no attention, no prefill (Liu et al. 2025, Table 4)."""
    return 2.0 * parameters * tokens


def prefill(shape: Shape, length: float) -> float:
    """A causal forward pass over ``length`` tokens: 2 N T + 2 L d T^2."""
    return 2.0 * shape.parameters * length + 2.0 * shape.layers * shape.attention_width * length**2


def decode(shape: Shape, start: float, tokens: float) -> float:
    """``tokens`` decoded one by one from a context of ``start``: 2 N + 4 L d t each, t the context then."""
    contexts = tokens * start + tokens * (tokens + 1) / 2
    return 2.0 * shape.parameters * tokens + 4.0 * shape.layers * shape.attention_width * contexts


@dataclass(frozen=True)
class Cost:
    """FLOPs of answering a set of problems, by part."""

    policy_training: float
    prm_training: float
    policy_inference: float
    prm_inference: float

    @property
    def inference(self) -> float:
        return self.policy_inference + self.prm_inference

    @property
    def training(self) -> float:
        return self.policy_training + self.prm_training

    @property
    def total(self) -> float:
        return self.training + self.inference


def break_even_queries(first: Cost, second: Cost, queries: int) -> float | None:
    """After how many queries the two have cost the same in total, given costs measured over ``queries``.

    Returns:
        None where one of them is dearer at any number of queries.
    """
    training = first.training - second.training
    per_query = (second.inference - first.inference) / queries
    if per_query == 0 or training / per_query <= 0:
        return None
    return training / per_query
