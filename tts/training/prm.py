"""A step head for any causal language model, trained on Monte-Carlo rollouts: labels, what the head reads, head; each part resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata
from torch import nn
from tqdm.auto import tqdm

from tts.analysis.costs import shape_of
from tts.derived import reference
from tts.models import fingerprint, locate, read_card
from tts.reward_models.base import StepScorer
from tts.reward_models.step_head import DECLARATION, WEIGHTS, Head, Inputs, StepReader
from tts.training.loop import Progress, Schedule, train
from tts.training.rollouts import RolloutRecipe, labelled

CHUNK = 16  # problems whose solutions are read together; what a crash loses


@dataclass(frozen=True)
class HeadRecipe:
    """How a step head is trained.

    Attributes:
        inputs: what it reads, see :mod:`tts.reward_models.step_head`.
        inner: size of the layer between.
        learning_rate: its peak.
        passes: over the steps.
        batch: steps of solutions per step of training.
        held_out: share of the problems that it is judged on and not trained on.
        seed: of its first weights and of the order.
    """

    inputs: Inputs = "confidence"
    inner: int = 16
    learning_rate: float = 1e-3
    passes: int = 30
    batch: int = 64
    held_out: float = 0.2
    seed: int = 0


class _Collector(StepReader):
    """Reads no score but what a head would score, through the very code that PRMs are scored with."""

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[torch.Tensor]:
        return list(self.inputs_of(before, hidden, tokens))


def train_step_head(
    policy: str,
    problems: Sequence[dict],
    rollouts: RolloutRecipe,
    recipe: HeadRecipe,
    output: Path,
    scratch: Path,
    batch: int = 64,
) -> Path:
    """Labels the policy's own solutions by rollouts, trains a head on what it says of them, and saves it with a card.

    Args:
        policy: a policy's name; the head works with its weights only.
        problems: with ``id``, ``problem`` and ``answer``; better not those that the policy was trained on.
        rollouts: how solutions are labelled.
        recipe: how the head is trained.
        output: the PRM's folder.
        scratch: labels, what the head reads, and the checkpoint.
        batch: sequences decoded or read at once.

    Raises:
        tts.models.ModelError: where the policy cannot be loaded.
        ValueError: where the policy finished no solution, or all of its solutions are right, or all wrong.
    """
    location = locate(policy)
    made_of = hashlib.sha256(f"{fingerprint(location)} {rollouts}".encode()).hexdigest()[:12]
    rows = labelled(policy, problems, rollouts, scratch / f"rollouts-{made_of}.jsonl", batch)
    rows = [row for row in rows if row["solutions"]]
    check(rows, policy)
    states = step_inputs(location, recipe.inputs, rows, scratch / f"{recipe.inputs}-{made_of}-{_hash(rows)}", batch)
    head, progress, learnt_from, judged_on = _fit(rows, states, recipe, scratch, made_of)
    card = _card(policy, location, head, rows, rollouts, recipe, progress) | judged(head, *judged_on)
    return save(head, policy, recipe, card | {"training_steps": len(learnt_from[0])}, output)


def check(rows: Sequence[dict], policy: str) -> None:
    values = [value for row in rows for solution in row["solutions"] for value in solution["values"]]
    if not values:
        raise ValueError(f"{policy} finished no solution within the limit of tokens; there is nothing to label: train the policy first")
    if min(values) == max(values):
        raise ValueError(f"every step of {policy}'s solutions has the value {values[0]:g}, which teaches nothing: choose other problems")


def step_inputs(location: str, inputs: Inputs, rows: Sequence[dict], folder: Path, batch: int) -> list[torch.Tensor]:
    """Per problem what a head reads at each labelled step, ``(steps, width)`` in float32; kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{at:06d}.safetensors" for at in range(0, len(rows), CHUNK)]
    scorer = None
    with tqdm(total=len(rows), desc="steps read", unit="problem") as bar:
        for number, path in enumerate(paths):
            chunk = rows[number * CHUNK : (number + 1) * CHUNK]
            if not path.exists():
                scorer = scorer or StepScorer(location, _Collector(location, inputs), batch)
                temporary = path.with_suffix(".tmp")
                save_file({str(i): states for i, states in enumerate(_states(scorer, chunk))}, temporary)
                temporary.replace(path)
            bar.update(len(chunk))
    found = []
    for path in paths:
        tensors = load_file(path)
        found += [tensors[str(i)] for i in range(len(tensors))]
    return found


def _states(scorer: StepScorer, rows: Sequence[dict]) -> list[torch.Tensor]:
    problems = [(row["id"], row["problem"]) for row in rows for _ in row["solutions"]]
    read, _ = scorer.score(problems, [tuple(solution["steps"]) for row in rows for solution in row["solutions"]])
    for row in rows:
        scorer.forget(row["id"])
    states = iter(read)
    return [torch.stack([state for _ in row["solutions"] for state in next(states)]) for row in rows]


class _Shuffled:
    """States with values, shuffled anew in every pass, by step number."""

    def __init__(self, states: torch.Tensor, values: torch.Tensor, batch: int, seed: int):
        self.states, self.values, self.batch, self.seed = states, values, min(batch, len(states)), seed
        self.per_pass = len(states) // self.batch

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        number, at = divmod(step, self.per_pass)
        order = np.random.default_rng([self.seed, number]).permutation(len(self.states))
        rows = torch.from_numpy(order[at * self.batch : (at + 1) * self.batch])
        return {"states": self.states[rows], "values": self.values[rows]}


Labelled = tuple[torch.Tensor, torch.Tensor]


def _fit(
    rows: Sequence[dict], states: list[torch.Tensor], recipe: HeadRecipe, scratch: Path, made_of: str
) -> tuple[Head, Progress, Labelled, Labelled]:
    """The trained head, and what it was trained and judged on; whole problems are held out."""
    values = [torch.tensor([v for solution in row["solutions"] for v in solution["values"]]) for row in rows]
    apart = max(1, round(recipe.held_out * len(rows)))
    learnt, judged_on = ((torch.cat(states[part]), torch.cat(values[part])) for part in (slice(apart, None), slice(apart)))
    torch.manual_seed(recipe.seed)
    head = Head(learnt[0].shape[1], recipe.inner)
    mean, spread = learnt[0].mean(0), learnt[0].std(0) + 1e-6
    batches = _Shuffled((learnt[0] - mean) / spread, learnt[1], recipe.batch, recipe.seed)
    steps = batches.per_pass * recipe.passes
    schedule = Schedule(steps, recipe.learning_rate, warmup=max(1, steps // 20), weight_decay=0.1, muon=False)
    progress = train(head, value_loss, batches, schedule, scratch / "head", "head", f"{recipe} {made_of} {_hash(rows)}", compile=False)
    fold(head.layers[0], mean, spread)
    return head, progress, learnt, judged_on


def value_loss(head: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy between the head's probability and the share of rollouts that came out right."""
    return F.binary_cross_entropy_with_logits(head(batch["states"]), batch["values"])


@torch.no_grad()
def fold(layer: nn.Linear, mean: torch.Tensor, spread: torch.Tensor) -> None:
    """Makes a layer that learnt on ``(x - mean) / spread`` do the same on ``x``."""
    layer.weight /= spread
    layer.bias -= layer.weight @ mean


@torch.inference_mode()
def judged(head: Head, states: torch.Tensor, values: torch.Tensor) -> dict:
    """How well held-out values are told: cross-entropy beside that of their mean, and the area under the ROC curve."""
    scores = head(states).sigmoid()
    mean = values.mean().clamp(1e-6, 1 - 1e-6)
    return {
        "held_out_steps": len(values),
        "held_out_loss": round(F.binary_cross_entropy(scores, values).item(), 4),
        "held_out_loss_of_the_mean": round(F.binary_cross_entropy(mean.expand_as(values), values).item(), 4),
        "held_out_auc": auc(scores.numpy(), values.numpy() >= 0.5),
    }


def auc(scores: np.ndarray, right: np.ndarray) -> float | None:
    """Chance that a right one scores above a wrong one, ties half; None where all are alike."""
    count = int(right.sum())
    if count in (0, len(right)):
        return None
    return round(float((rankdata(scores)[right].sum() - count * (count + 1) / 2) / (count * (len(right) - count))), 4)


def save(head: Head, policy: str, recipe: HeadRecipe, card: dict, output: Path) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, output / WEIGHTS)
    declaration = {"base": reference(policy), "inputs": recipe.inputs, "inner": recipe.inner}
    (output / DECLARATION).write_text(json.dumps(declaration, indent=2) + "\n")
    (output / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return output


def _card(
    policy: str, location: str, head: Head, rows: Sequence[dict], rollouts: RolloutRecipe, recipe: HeadRecipe, progress: Progress
) -> dict:
    """What the PRM is and cost.

    FLOPs are those of sampling labels (2N a token, prompts left out) and of the head's training. Wall time is the head's alone;
    sampling takes far longer.
    """
    shape, own = shape_of(location), sum(p.numel() for p in head.parameters())
    size = shape.parameters
    sampled = sum(row["tokens"] for row in rows)
    steps = sum(len(solution["values"]) for row in rows for solution in row["solutions"])
    below = read_card(location)
    return {
        "family": "step-head",
        "base": policy,
        "base_weights": fingerprint(location),
        "parameters": size + own,
        "layers": shape.layers,
        "attention_width": shape.attention_width,
        "head_parameters": own,
        "problems": len(rows),
        "labelled_steps": steps,
        "training_tokens": sampled,
        "training_flops": 2 * size * sampled + 6 * own * steps * recipe.passes,
        "started_from": policy,
        "started_from_flops": below.get("training_flops", 0) + below.get("started_from_flops", 0),
        "rollouts": asdict(rollouts),
        "head": asdict(recipe),
        "seed": recipe.seed,
        "wall_seconds": round(progress.seconds),
        "final_loss": progress.losses[-1][1] if progress.losses else None,
    }


def _hash(rows: Sequence[dict]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]
