"""A LoRA adapter (Hu et al. 2022) for any causal language model, trained on worked solutions; resumable."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from tts.analysis.costs import shape_of
from tts.models.files import digest_of, fingerprint, read_card, write_card
from tts.models.loading import load_causal_lm, load_tokenizer
from tts.models.locate import locate
from tts.tasks import task_in
from tts.tasks.prompts import render_prompt, token_ids
from tts.training.loop import Batches, Schedule, train

try:
    from peft import LoraConfig, PeftModel, get_peft_model
except ImportError as error:
    raise ValueError(f"training an adapter needs the package peft: pip install 'tts-notebooks[peft]' ({error})") from error

MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class AdapterRecipe:
    """How an adapter is trained."""

    rank: int = 8
    learning_rate: float = 1e-3  # at its peak
    batch: int = 16  # examples per step
    passes: int = 1
    seed: int = 0  # of the adapter's first weights and of the order of the examples


def padded(examples: Sequence[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    """Examples of :func:`tokenise` side by side: ``ids`` and ``learn``, which of them are a solution's, both ``(examples, tokens)``."""
    ids = pad_sequence([torch.tensor(tokens) for tokens, _ in examples], batch_first=True)
    learn = pad_sequence([torch.arange(len(tokens)) >= prompt for tokens, prompt in examples], batch_first=True)
    return {"ids": ids, "learn": learn}


def tokenise(tokenizer: PreTrainedTokenizerBase, problems: Sequence[dict]) -> list[tuple[list[int], int]]:
    """Each worked problem's prompt, solution and end of sequence as the policy will see them, and the prompt's length."""
    prompts = token_ids(tokenizer, [render_prompt(tokenizer, problem["problem"], task_in([problem])) for problem in problems])
    solutions = token_ids(tokenizer, [problem["solution"] for problem in problems])
    return [(prompt + solution + [tokenizer.eos_token_id], len(prompt)) for prompt, solution in zip(prompts, solutions)]


def solution_loss(model: PeftModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of the solutions' tokens; logits are computed for those only, the vocabulary is large."""
    causal = model.get_base_model()
    hidden = causal.base_model(input_ids=batch["ids"], use_cache=False).last_hidden_state
    learn = batch["learn"][:, 1:]
    logits = causal.get_output_embeddings()(hidden[:, :-1][learn])
    return F.cross_entropy(logits.float(), batch["ids"][:, 1:][learn])


def train_adapter(
    base: str, problems: Sequence[dict], recipe: AdapterRecipe, output: Path, scratch: Path, pretrained_tokens: float = 0.0
) -> Path:
    """Trains an adapter and saves it as a peft folder with the base's name, hash, and a card.

    FLOPs per token: forward and backward through the base 4N, the adapter's own gradients 6N. Those of the base are its card's, or
    follow from ``pretrained_tokens``, the number of tokens that it was trained on. The checkpoint lies in ``scratch``.

    Raises :class:`tts.models.hub.ModelError` where the base cannot be loaded, ``ValueError`` where it has no chat template, or its
    layers none of the matrices that are adapted.
    """
    location = locate(base)
    examples = tokenise(load_tokenizer(location), problems)
    lengths = [len(ids) for ids, _ in examples]
    batches = Batches(examples, lengths, padded, recipe.batch, recipe.seed)
    model = new_adapter(location, recipe.rank, recipe.seed)
    made_of = f"{recipe} on {fingerprint(location)} with {digest_of([json.dumps(examples)])}"
    schedule = adapter_schedule(model, recipe, batches.per_pass)
    progress = train(model, solution_loss, batches, schedule, scratch, output.name, made_of, compile=False)
    card = adapter_card(model, base, location, recipe, lengths)
    size = card["parameters"]
    card |= {
        "examples": len(examples),
        "training_flops": (4 * size + 6 * card["adapter_parameters"]) * card["training_tokens"],
        "started_from_flops": read_card(location).get("training_flops", 6 * size * pretrained_tokens),
    }
    return save_adapter(model, base, card | progress.card(), output)


def new_adapter(location: str, rank: int, seed: int, upper: int | None = None) -> PeftModel:
    """A base with a fresh adapter on every matrix of its last ``upper`` layers, by default of all; only that learns, in float32."""
    base = load_causal_lm(location)
    present = {name.rsplit(".", 1)[-1] for name, module in base.named_modules() if isinstance(module, nn.Linear)}
    targets = [name for name in MATRICES if name in present]
    if not targets:
        raise ValueError(f"{location}: none of its layers has a matrix named {', '.join(MATRICES)}; such a model cannot be adapted")
    layers = base.config.get_text_config().num_hidden_layers
    chosen = list(range(layers))[-upper:] if upper else None
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, layers_to_transform=chosen, task_type="CAUSAL_LM")
    return get_peft_model(base, config)


def adapter_schedule(model: nn.Module, recipe: AdapterRecipe, per_pass: int, head: float = 1.0) -> Schedule:
    """The schedule of a recipe's passes, of ``per_pass`` steps each; bfloat16 where the base is."""
    steps, half = recipe.passes * per_pass, next(model.parameters()).dtype == torch.bfloat16
    return Schedule(steps, recipe.learning_rate, max(1, steps // 20), weight_decay=0.0, bf16=half, muon=False, head=head)


def adapter_card(model: PeftModel, base: str, location: str, recipe: AdapterRecipe, lengths: Sequence[int]) -> dict:
    """What the card of an adapter says of its base, and of itself, trained on examples of these numbers of tokens."""
    shape = {name: getattr(shape_of(location), name) for name in ("parameters", "layers", "attention_width")}
    own, tokens = sum(p.numel() for p in model.parameters() if p.requires_grad), recipe.passes * sum(lengths)
    trained = {"adapter_parameters": own, "training_tokens": tokens, "seed": recipe.seed}
    return {"base": base, "base_weights": fingerprint(location), "started_from": base} | shape | trained


def save_adapter(model: PeftModel, base: str, card: dict, output: Path) -> Path:
    """Writes the adapter in bfloat16; its config and card name the base as the suite finds it again: a path in full, or a name."""
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.data = parameter.data.bfloat16()
    model.peft_config["default"].base_model_name_or_path = str(Path(base).resolve()) if Path(base).exists() else base
    model.save_pretrained(output)
    (output / "README.md").unlink(missing_ok=True)  # peft's empty form; the card says what there is to say
    write_card(output, card)
    return output
