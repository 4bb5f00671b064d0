"""Training of small policies and PRMs on a CPU: one loop, resumable, without pickles.

A run keeps its state in a folder (``state.safetensors``, ``progress.json``), so that stopping it at any moment
loses at most the steps since the last checkpoint.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")


class TrainingError(ValueError):
    """Training that cannot go on; the message says what to do."""


class Batches(Protocol):
    """Training data by step number: the same number gives the same batch, which is what makes a run resumable."""

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True)
class Schedule:
    """How a model is trained.

    Attributes:
        steps: optimiser steps.
        peak_learning_rate: reached after ``warmup`` steps, then a cosine down to a twentieth of it.
        warmup: steps of linear warm-up.
        weight_decay: on matrices only.
        bf16: run the forward pass under bfloat16 autocast (faster from about a million parameters on).
        muon: Muon for the matrices of the layers; else AdamW for everything, as is usual for adapters and heads.
        head: times the learning rate, for a module named ``head`` that starts from nothing on top of one that does not.
    """

    steps: int
    peak_learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.05
    bf16: bool = False
    muon: bool = True
    head: float = 1.0

    def learning_rate(self, step: int) -> float:
        if step < self.warmup:
            return self.peak_learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak_learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


@dataclass
class Progress:
    """What a run has done so far."""

    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] | None = None


def train(
    model: nn.Module,
    loss: Callable[[nn.Module, dict[str, torch.Tensor]], torch.Tensor],
    batches: Batches,
    schedule: Schedule,
    folder: Path,
    description: str,
    recipe: str,
    checkpoint_every: float = 60.0,
    compile: bool = True,
) -> Progress:
    """Trains ``model`` in place, from the checkpoint in ``folder`` where there is one.

    Args:
        model: any module; those of its parameters that are trained are what the checkpoint holds.
        loss: a scalar from the model and one batch.
        batches: data by step number.
        schedule: steps and learning rate.
        folder: where the checkpoint lives; written atomically.
        description: for the progress bar.
        recipe: what the weights follow from; a checkpoint of another recipe is not continued.
        checkpoint_every: seconds between checkpoints.
        compile: use ``torch.compile`` (needs a C++ compiler; 15 times faster on a CPU).

    Raises:
        TrainingError: where the checkpoint was made by another recipe or schedule.
    """
    recipe = f"{recipe} {schedule}"
    folder.mkdir(parents=True, exist_ok=True)
    optimizers = _optimizers(model, schedule)
    progress = _resume(model, optimizers, folder, recipe)
    step_loss = torch.compile(loss) if compile else loss
    device = next(model.parameters()).device
    model.train()
    saved = started = time.monotonic()
    before = progress.seconds
    recent: list[float] = []
    with tqdm(total=schedule.steps, initial=progress.step, desc=description, unit="step", mininterval=5) as bar:
        while progress.step < schedule.steps:
            for group in itertools.chain.from_iterable(o.param_groups for o in optimizers):
                group["lr"] = schedule.learning_rate(progress.step) * group.get("factor", 1.0)
            batch = {name: tensor.to(device) for name, tensor in batches[progress.step].items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
                value = step_loss(model, batch)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
            recent.append(value.item())
            progress.step += 1
            bar.update()
            if progress.step % 50 == 0 or progress.step == schedule.steps:
                progress.losses = [*(progress.losses or []), (progress.step, float(np.mean(recent)))]
                bar.set_postfix(loss=f"{np.mean(recent):.4f}")
                recent = []
            progress.seconds = before + time.monotonic() - started
            if time.monotonic() - saved > checkpoint_every or progress.step == schedule.steps:
                _save(model, optimizers, progress, folder, recipe)
                saved = time.monotonic()
    model.eval()
    return progress


def _optimizers(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, heads and norms.

    Both move a weight by about the same amount a step (Muon's ``match_rms_adamw``), so one learning rate serves both.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if schedule.muon and p.ndim == 2 and ".layers." in name]
    others = [(name, p) for name, p in named if not (schedule.muon and p.ndim == 2 and ".layers." in name)]
    heads, rest = ([p for name, p in others if name.startswith("head.") == of_head] for of_head in (True, False))
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": schedule.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        {"params": heads, "weight_decay": 0.0, "factor": schedule.head},
    ]
    adamw = torch.optim.AdamW(groups, lr=schedule.peak_learning_rate, betas=(0.9, 0.98), fused=True)
    if not hidden:
        return [adamw]
    muon = torch.optim.Muon(hidden, lr=schedule.peak_learning_rate, weight_decay=schedule.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [adamw, muon]


def _save(model: nn.Module, optimizers: list[torch.optim.Optimizer], progress: Progress, folder: Path, recipe: str) -> None:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in trained.items()}
    names = {p: name for name, p in trained.items()}
    for parameter, state in itertools.chain.from_iterable(o.state.items() for o in optimizers):
        for key, tensor in state.items():
            tensors[f"optimizer.{key}.{names[parameter]}"] = tensor.detach().contiguous()
    temporary = folder / "state.tmp"
    save_file(tensors, temporary, metadata={"progress": json.dumps(vars(progress)), "recipe": recipe})
    temporary.replace(folder / "state.safetensors")


def _resume(model: nn.Module, optimizers: list[torch.optim.Optimizer], folder: Path, recipe: str) -> Progress:
    path = folder / "state.safetensors"
    if not path.exists():
        return Progress()
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except SafetensorError as error:
        raise TrainingError(f"{path} is damaged ({error}); delete {folder} to train afresh") from None
    if metadata.get("recipe") != recipe:
        raise TrainingError(f"{path} was made by another recipe; delete {folder} to train afresh, or choose another scratch folder")
    progress = Progress(**json.loads(metadata["progress"]))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model.{name}"])
    for optimizer in optimizers:
        for parameter in itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups):
            name = next(n for n, p in parameters.items() if p is parameter)
            state = {key: tensors[f"optimizer.{key}.{name}"].clone() for key in OPTIMIZER_STATE if f"optimizer.{key}.{name}" in tensors}
            if state:
                optimizer.state[parameter] = state
    return progress
