"""Training of small policies and PRMs on a CPU: one loop, without pickles; a stopped run goes on from its last checkpoint."""

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from tts.common.files import replacing


class TrainingError(ValueError):
    """Training that cannot go on; the message says what to do."""


class Batches:
    """Batches by step number: the same number gives the same batch, which is what makes a run resumable.

    A pass has all examples once, in a seeded order of its own; what does not fill its last batch is left out. ``collate`` makes the
    tensors of ``batch`` examples, which are about equally long where ``lengths`` are given.
    """

    WINDOW = 16  # batches that are sorted by length together, so that little is padding

    def __init__(self, examples: Sequence, lengths: Sequence[int] | None, collate: Callable[[list], dict], batch: int, seed: int):
        if len(examples) < batch:
            raise ValueError(f"{len(examples)} examples do not fill a batch of {batch}; give more examples or a smaller batch")
        self.examples, self.lengths, self.collate, self.batch, self.seed = examples, lengths, collate, batch, seed
        self.per_pass = len(examples) // batch

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        number, at = divmod(step, self.per_pass)
        return self.collate([self.examples[i] for i in self._order(number)[at]])

    def _order(self, number: int) -> np.ndarray:
        """Indices of the examples of a pass, ``(batches, examples)``."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.examples))[: self.per_pass * self.batch]
        if self.lengths is None:
            return order.reshape(-1, self.batch)
        windows = np.arange(len(order)) // (self.batch * self.WINDOW)
        alike = order[np.lexsort([np.array(self.lengths)[order], windows])]  # by length within each window
        return rng.permutation(alike.reshape(-1, self.batch))


@dataclass(frozen=True)
class Schedule:
    """How a model is trained."""

    steps: int
    peak_learning_rate: float  # after ``warmup`` steps of linear rise; from there a cosine falls to a twentieth of it
    warmup: int = 100
    weight_decay: float = 0.05  # of matrices
    bf16: bool = False  # whether the forward pass runs under bfloat16 autocast (faster from about a million parameters on)
    muon: bool = True  # whether Muon trains the matrices of the layers; else AdamW trains everything, as is usual for adapters and heads
    head: float = 1.0  # factor of the learning rate for a module ``head``, which starts from nothing on top of one that does not

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
    losses: list[tuple[int, float]] = field(default_factory=list)

    def card(self) -> dict:
        """What a model's card says of its training."""
        return {"wall_seconds": round(self.seconds), "final_loss": self.losses[-1][1] if self.losses else None}


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
    """Trains ``model`` in place by a scalar ``loss`` of a batch, from the checkpoint in ``folder`` where there is one.

    The checkpoint holds the parameters that are trained, and is written atomically every ``checkpoint_every`` seconds. ``recipe`` says
    all that the weights follow from; ``description`` stands beside the progress bar. To ``compile`` takes a C++ compiler, and makes
    training 15 times faster on a CPU.

    Raises :class:`TrainingError` where the checkpoint was made by another recipe or schedule, or is damaged.
    """
    recipe = f"{recipe} {schedule}"
    optimizers = _optimizers(model, schedule)
    progress = _resume(model, optimizers, folder, recipe)
    step_loss = torch.compile(loss) if compile else loss
    device = next(model.parameters()).device
    model.train()
    saved = time.monotonic()
    started = saved - progress.seconds
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
                progress.losses.append((progress.step, float(np.mean(recent))))
                bar.set_postfix(loss=f"{np.mean(recent):.4f}")
                recent = []
            progress.seconds = time.monotonic() - started
            if time.monotonic() - saved > checkpoint_every or progress.step == schedule.steps:
                _save(model, optimizers, progress, folder, recipe)
                saved = time.monotonic()
    model.eval()
    return progress


def _optimizers(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, heads and norms.

    Both move a weight by about the same amount a step (Muon's ``match_rms_adamw``), so one learning rate serves both.
    """
    hidden, heads, rest = [], [], []
    for name, parameter in _trained(model).items():
        of_layers = schedule.muon and parameter.ndim == 2 and ".layers." in name
        (hidden if of_layers else heads if name.startswith("head.") else rest).append(parameter)
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


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _save(model: nn.Module, optimizers: list[torch.optim.Optimizer], progress: Progress, folder: Path, recipe: str) -> None:
    tensors, states = {}, dict(itertools.chain.from_iterable(o.state.items() for o in optimizers))
    for name, parameter in _trained(model).items():
        tensors[f"model.{name}"] = parameter.detach().contiguous()
        tensors |= {f"optimizer.{key}.{name}": tensor.detach().contiguous() for key, tensor in states[parameter].items()}
    with replacing(folder / "state.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"progress": json.dumps(vars(progress)), "recipe": recipe})


def _resume(model: nn.Module, optimizers: list[torch.optim.Optimizer], folder: Path, recipe: str) -> Progress:
    path = folder / "state.safetensors"
    if not path.exists():
        return Progress()
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {label: file.get_tensor(label) for label in file.keys()}
    except SafetensorError as error:
        raise TrainingError(f"{path} is damaged ({error}); delete {folder} to train afresh") from None
    if metadata.get("recipe") != recipe:
        raise TrainingError(f"{path} was made by another recipe; delete {folder} to train afresh, or choose another scratch folder")
    parameters = _trained(model)
    owners = {parameter: o for o in optimizers for group in o.param_groups for parameter in group["params"]}
    with torch.no_grad():
        for label, tensor in tensors.items():
            kind, name = label.split(".", 1)
            if kind == "model":
                parameters[name].copy_(tensor)
            else:
                key, name = name.split(".", 1)
                owners[parameters[name]].state[parameters[name]][key] = tensor.clone()
    return Progress(**json.loads(metadata["progress"]))
