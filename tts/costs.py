"""What a policy with a strategy costs on a problem set, in FLOPs, from stored token counts and the models' cards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tts import flops, stats
from tts.evidence import Evidence
from tts.flops import Cost, Shape
from tts.models import load_config, locate, parameters, pocket_models, read_card


def shape_of(name: str) -> Shape:
    """A model's size, from its weights and config; the dialled checker is no model and has none."""
    if name.startswith("dial:"):
        return Shape(0)
    location = locate(name.split(":", 1)[-1])
    config = load_config(location)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(parameters(location), config.num_hidden_layers, config.num_attention_heads * size)


def training_flops(name: str) -> float:
    """Training FLOPs that a model's card records: its own, and those of the policy that a PRM was started from.

    NaN for a model without such a card: what its training cost is unknown, not nothing.
    """
    if name.startswith("dial:"):
        return 0.0
    card = read_card(locate(name.split(":", 1)[-1]))
    return float(card.get("training_flops", np.nan) + card.get("started_from_flops", 0.0))


def by_size(policies: Sequence[str]) -> list[str]:
    """The policies, smallest first."""
    return sorted(policies, key=lambda name: shape_of(name).parameters)


def study_share(policy: str) -> float:
    """A policy's size as a share of the study's largest, 72B; the largest pocket policy plays that part in its family."""
    family = pocket_models("policy")
    largest = max(shape_of(name).parameters for name in family) if policy in family else 72e9
    return shape_of(policy).parameters / largest


def cost(evidence: Evidence, problem_set: str, policy: str, prm: str | None, method: str, n: int, full: bool) -> Cost:
    """FLOPs of training, and of answering the whole problem set once.

    Args:
        full: with the PRM, the policy's prefill and attention; else the study's convention, the policy's 2ND alone.
    """
    generated = evidence.policy_tokens(problem_set, policy, prm, method, n).sum()
    if not full:
        return Cost(training_flops(policy), 0.0, flops.inference(shape_of(policy).parameters, generated), 0.0)
    read = evidence.prm_tokens(problem_set, policy, prm, method, n).sum()
    prompts = evidence.prompt_tokens(problem_set, policy)
    solutions = n * len(prompts)
    shape = shape_of(policy)
    # A prompt is prefilled once and forked; a decoded token attends to it and, on average, to half a solution.
    decode = solutions * flops.decode(shape, prompts.mean(), generated / solutions)
    decode += sum(flops.prefill(shape, length) for length in prompts)
    if not prm or not read:
        return Cost(training_flops(policy), 0.0, decode, 0.0)
    scoring = flops.inference(shape_of(prm).parameters, read)
    return Cost(training_flops(policy), training_flops(prm), decode, scoring)


def table(evidence: Evidence, problem_set: str, prm: str, method: str, n: int) -> pd.DataFrame:
    """Each policy with CoT and with a TTS method: accuracy and FLOPs in both conventions."""
    rows = []
    for policy in evidence.grid.policies:
        for strategy, how, budget in (("CoT", "cot", 1), (f"{method}, N = {n}", method, n)):
            values = evidence.accuracy(problem_set, policy, prm, how, budget)
            interval = stats.of_accuracy(values)
            used = None if how in ("cot", "majority") else prm
            study = cost(evidence, problem_set, policy, used, how, budget, full=False)
            full = cost(evidence, problem_set, policy, used, how, budget, full=True)
            rows.append(
                {
                    "policy": policy,
                    "strategy": strategy,
                    "accuracy": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "policy training": full.policy_training,
                    "PRM training": full.prm_training,
                    "policy inference": full.policy_inference,
                    "PRM inference": full.prm_inference,
                    "total (study)": study.total,
                    "total (full)": full.total,
                    "inference (full)": full.inference,
                }
            )
    return pd.DataFrame(rows)


def recomputed_pretraining(published: pd.DataFrame) -> pd.DataFrame:
    """The study's Table 4 with its pre-training column worked out again as 6ND (parameters and tokens inferred)."""
    sizes = {
        "Llama-3.2-3B-Instruct": (3e9, 9e12),
        "Llama-3.1-405B-Instruct": (405e9, 15e12),
        "DeepSeek-R1-Distill-Qwen-7B": (7e9, 18e12),
        "DeepSeek-R1": (671e9, 14.8e12),
    }
    again = [flops.pretraining(*sizes[model]) for model in published["model"]]
    return published.assign(recomputed=again, agrees=[f"{a:.2e}" == f"{p:.2e}" for a, p in zip(again, published["pretraining_flops"])])
