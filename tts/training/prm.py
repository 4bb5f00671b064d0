"""A PRM made of any causal language model: a step head and an adapter under it, trained together on Monte-Carlo rollouts; resumable."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from tts.analysis import stats
from tts.models.files import STEP_HEAD, digest_of, fingerprint, read_card, write_card
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.reward_models.base import StepScorer, padded
from tts.reward_models.implicit import ImplicitPRM
from tts.reward_models.step_head import Head, StepHead, confidence, likelihoods, separator_length
from tts.tasks import task_in
from tts.tasks.prompts import SolutionRenderer
from tts.tasks.selection import aggregates
from tts.training.adapter import AdapterRecipe, adapter_card, adapter_schedule, new_adapter, save_adapter
from tts.training.loop import Batches, train
from tts.training.packing import Packed, collate, pack
from tts.training.rollouts import RolloutRecipe, labelled


@dataclass(frozen=True)
class PRMRecipe(AdapterRecipe):
    """How a PRM is trained: its adapter, where the examples are problems, and its head."""

    learning_rate: float = 5e-4
    batch: int = 2
    passes: int = 2
    upper: int | None = None  # how many of the layers are adapted, the last ones; all by default
    inner: int = 16  # size of the head's layer between
    language: float = 0.3  # weight of the language model's loss on right solutions
    held_out: float = 0.2  # share of the problems that it is judged on and not trained on


def train_prm(
    policy: str, problems: Sequence[dict], rollouts: RolloutRecipe, recipe: PRMRecipe, output: Path, scratch: Path, batch: int = 64
) -> Path:
    """Labels the policy's own solutions by rollouts, trains an adapter and a head on them, and saves both with a card.

    The card says how well both tell held-out solutions, beside the policy's own likelihood, which needs no training. Better give problems
    that the policy was not trained on. Labels and checkpoint lie in ``scratch``; ``batch`` sequences are decoded or read at once.

    Raises :class:`tts.models.hub.ModelError` where the policy cannot be loaded, ``ValueError`` where it finished no solution, all of its
    solutions are right or all wrong, or problems are too few.
    """
    location = locate(policy)
    made_of = f"{fingerprint(location)} {rollouts}"
    path = scratch / f"rollouts-{digest_of([made_of])[:12]}.jsonl"
    rows = [row for row in labelled(policy, problems, rollouts, path, batch) if row["solutions"]]
    check(rows, policy)
    apart = max(1, round(recipe.held_out * len(rows)))
    tokenizer = load_tokenizer(location)
    examples = [example(tokenizer, row) for row in rows[apart:]]
    lengths = [len(one.tree.ids) for one in examples]
    batches = Batches(examples, lengths, batched, recipe.batch, recipe.seed)
    prm = AdaptedHead(location, recipe)
    schedule = adapter_schedule(prm, recipe, batches.per_pass, head=10.0)
    identity = f"{recipe} {made_of} {digest_of([json.dumps(rows, sort_keys=True)])[:12]}"
    progress = train(prm, loss, batches, schedule, scratch / "prm", output.name, identity, compile=False)
    card = _card(prm, policy, location, rows, recipe, lengths) | {"rollouts": asdict(rollouts)} | progress.card()
    save(prm, policy, card, output)
    head, likelihood = StepHead(locate(str(output))), ImplicitPRM(location)
    head.render.task = likelihood.render.task = task_in(rows)  # whose prompt the solutions were sampled with
    card |= judged(StepScorer(output.name, head, batch), rows[:apart])
    untrained = judged(StepScorer(policy, likelihood, batch), rows[:apart])
    write_card(output, card | {f"{name}_of_implicit_policy": untrained[name] for name in ("held_out_auc", "held_out_auc_within_problems")})
    return output


def check(rows: Sequence[dict], policy: str) -> None:
    values = [value for row in rows for solution in row["solutions"] for value in solution["values"]]
    if not values:
        raise ValueError(f"{policy} finished no solution within the limit of tokens; there is nothing to label: train the policy first")
    if min(values) == max(values):
        raise ValueError(f"every step of {policy}'s solutions has the value {values[0]:g}, which teaches nothing: choose other problems")


@dataclass(frozen=True)
class Example:
    """A labelled problem, its prompt and solutions as one tree."""

    tree: Packed
    own: list[list[int]]  # tokens of each distinct step, without the blank line at its end
    values: list[float]  # of each distinct step
    right: list[int]  # tokens of solutions that came out right


def example(tokenizer: PreTrainedTokenizerBase, row: dict) -> Example:
    """A labelled problem as the PRM will read it."""
    task, values, right = task_in([row]), {}, []
    for solution in row["solutions"]:
        steps = tuple(solution["steps"])
        values |= {steps[: depth + 1]: value for depth, value in enumerate(solution["values"])}
        right += [steps] if solution["values"][-1] == 1 else []
    tree = pack(SolutionRenderer(tokenizer, task)([(row["problem"], steps) for steps in [(), *values]]))
    read, separator = dict(zip([(), *values], map(set, tree.paths))), separator_length(tokenizer, task)
    own = [sorted(read[steps] - read[steps[:-1]]) for steps in values]
    learnt = sorted(set().union(*(read[steps] for steps in right)) - read[()])
    return Example(tree, [tokens[:-separator] or tokens for tokens in own], list(values.values()), learnt)


def batched(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Labelled problems side by side: their trees as :func:`tts.training.packing.collate` gives them, and what is learnt from them."""
    read = [(row, at) for row, one in enumerate(examples) for at in sorted({*one.right, *(token for own in one.own for token in own)})]
    index = {place: number for number, place in enumerate(read)}
    steps = [[index[row, at] for at in tokens] for row, one in enumerate(examples) for tokens in one.own]
    own, counted = padded(steps, torch.device("cpu"))
    right = [index[row, at] for row, one in enumerate(examples) for at in one.right]
    return collate([one.tree for one in examples]) | {
        "read": torch.tensor(read),  # tree and place of each token whose likelihood is wanted, (tokens, 2)
        "before": torch.tensor([examples[row].tree.parents[at] for row, at in read]),  # place of the token before each
        "own": own,  # which of these are each step's, (steps, most tokens of a step)
        "counted": counted,  # which of ``own`` are no padding
        "right": torch.tensor(right, dtype=torch.int64),  # which of them are right solutions'
        "values": torch.tensor([value for one in examples for value in one.values]),
    }


class AdaptedHead(nn.Module):
    """A causal language model under a fresh adapter, and a head on how sure it is of each step; both learn."""

    def __init__(self, location: str, recipe: PRMRecipe):
        super().__init__()
        self.adapted = new_adapter(location, recipe.rank, recipe.seed, recipe.upper)
        self.head = Head(recipe.inner).to(self.adapted.device)
        self.language = recipe.language

    def hidden(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The last layer's states of packed trees, ``(trees, tokens, width)``."""
        backbone = self.adapted.get_base_model().base_model
        unseen = (~batch["mask"]).to(backbone.dtype) * torch.finfo(backbone.dtype).min
        inputs = {"input_ids": batch["ids"], "position_ids": batch["positions"], "attention_mask": unseen}
        return backbone(**inputs, use_cache=False).last_hidden_state

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``(steps,)``, and the log-probability of each token that was read."""
        trees, tokens = batch["read"].unbind(1)
        logits = self.adapted.get_base_model().get_output_embeddings()(self.hidden(batch)[trees, batch["before"]])
        likely, entropy = likelihoods(logits, batch["ids"][trees, tokens])
        with torch.autocast(likely.device.type, enabled=False):
            return self.head(confidence(likely[batch["own"]], entropy[batch["own"]], batch["counted"])), likely


def loss(prm: AdaptedHead, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy between the PRM's probability of each distinct step and the share of rollouts that came out right, and that of
    the language model on right solutions: one that solves more of the problems is surer of the right steps.
    """
    logits, likely = prm(batch)
    value = F.binary_cross_entropy_with_logits(logits, batch["values"])
    return value - prm.language * likely[batch["right"]].mean() if len(batch["right"]) else value


def judged(scorer: StepScorer, rows: Sequence[dict]) -> dict:
    """How well a PRM tells held-out values, as it scores them in use.

    Cross-entropy over the steps of all solutions, beside that of their mean; the area under the ROC curve over those steps, and, which is
    what selection needs, over the solutions of one problem, by the product of their steps: the mean over problems with both kinds.
    """
    solutions = [(row, solution) for row in rows for solution in row["solutions"]]
    scores, _ = scorer.score([(row["id"], row["problem"]) for row, _ in solutions], [tuple(one["steps"]) for _, one in solutions])
    values = torch.tensor([value for _, solution in solutions for value in solution["values"]])
    flat, right = torch.tensor([score for one in scores for score in one]), [one["values"][-1] >= 0.5 for _, one in solutions]
    ends = np.cumsum([len(row["solutions"]) for row in rows])[:-1]  # of the solutions of each problem but the last
    of_problems = map(stats.auc, np.split(aggregates(scores, "product"), ends), np.split(right, ends))
    within = [value for value in of_problems if value is not None]
    return {
        "held_out_problems": len(rows),
        "held_out_steps": len(values),
        "held_out_loss": round(F.binary_cross_entropy(flat, values).item(), 4),
        "held_out_loss_of_the_mean": round(F.binary_cross_entropy(values.mean().expand_as(values), values).item(), 4),
        "held_out_auc": stats.auc(flat.numpy(), values.numpy() >= 0.5),
        "held_out_auc_within_problems": round(float(np.mean(within)), 4) if within else None,
        "problems_with_right_and_wrong": len(within),
    }


def save(prm: AdaptedHead, policy: str, card: dict, output: Path) -> None:
    save_adapter(prm.adapted, policy, card, output)
    save_file({name: tensor.detach().contiguous() for name, tensor in prm.head.state_dict().items()}, output / STEP_HEAD)


def _card(prm: AdaptedHead, policy: str, location: str, rows: Sequence[dict], recipe: PRMRecipe, lengths: list[int]) -> dict:
    """What the PRM is and cost, trained on trees of these numbers of tokens.

    FLOPs are those of sampling labels (2N a token, prompts left out) and of training on the packed tokens: forward 2N, backward 2N
    through the adapted layers, and 6 for each parameter that learns. Wall time is that of training; sampling comes on top.
    """
    card, below = adapter_card(prm.adapted, policy, location, recipe, lengths), read_card(location)
    size, layers, head = card["parameters"], card["layers"], sum(p.numel() for p in prm.head.parameters())
    sampled, through = sum(row["tokens"] for row in rows), 2 + 2 * (recipe.upper or layers) / layers
    per_token = through * size + 6 * (head + card["adapter_parameters"])
    return card | {
        "family": "step-head",
        "parameters": size + head,
        "head_parameters": head,
        "problems": len(rows),
        "labelled_solutions": sum(len(row["solutions"]) for row in rows),
        "sampled_tokens": sampled,
        "training_flops": round(2 * size * sampled + per_token * card["training_tokens"]),
        "started_from_flops": below.get("training_flops", 0) + below.get("started_from_flops", 0),
        "recipe": asdict(recipe),
    }
