"""Trains the pocket family from its recipes, one model at a time, each resumable."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config

from tts.common.files import write_text
from tts.models.files import digest_of, fingerprint, read_card, weights_hash, write_card
from tts.policies.transformers import TransformersPolicy
from tts.reward_models.qwen_prm import Qwen2ForProcessRewardModel
from tts.search import sample_pool
from tts.search.driver import Driver, Outcome
from tts.search.sampling import Sampling
from tts.tasks import pocket_tokenizer
from tts.tasks.pocket_traces import self_checking_traces
from tts.training.loop import Batches, Schedule, train
from tts.training.pocket.comparing import WIDER, comparing_loss, labelled_up_to_the_error, mark_id, start_comparing
from tts.training.pocket.corpora import LAYOUTS, VOCABULARY, Corpus, Sequence, kept, policy_sequences, prm_sequences
from tts.training.pocket.domains import DOMAINS, Labelled
from tts.training.pocket.losses import language_model_loss, prm_loss
from tts.training.pocket.recipes import POLICIES, POLICY_TOKENS, PRMS, ROWS_PER_BATCH, ComparingPRMRecipe, PolicyRecipe, PRMRecipe


def corpus_batches(corpus: Corpus, seed: int) -> Batches:
    """Rows of a corpus, ``ROWS_PER_BATCH`` at a time."""

    def collate(rows: list[int]) -> dict[str, torch.Tensor]:
        batch = {name: torch.from_numpy(array[rows].astype(np.int64)) for name, array in corpus.items()}
        document = batch.pop("document")
        causal = torch.ones(document.shape[1], document.shape[1], dtype=torch.bool).tril()
        mask = (document[:, None, :, None] == document[:, None, None, :]) & causal
        return batch | {"learn": batch["learn"].float(), "mask": mask}

    return Batches(range(len(corpus["ids"])), None, collate, ROWS_PER_BATCH, seed)


def new_policy(recipe: PolicyRecipe) -> LlamaForCausalLM:
    torch.manual_seed(recipe.seed)
    tokenizer = pocket_tokenizer.build(letters=DOMAINS[recipe.domain].letters)
    shape = {"hidden_size": recipe.width, "num_hidden_layers": recipe.layers, "intermediate_size": recipe.inner, "head_dim": 32}
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    fixed = {"bos_token_id": None, "max_position_embeddings": 512, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(**shape, **tokens, **fixed, num_attention_heads=recipe.heads))


def sampled(policy: str, temperature: float, problems: list[str], count: int) -> list[Outcome]:
    """So many solutions of each problem, which is its own id."""
    engine = TransformersPolicy(policy, Sampling(temperature=temperature, max_tokens=240))
    roots = [engine.root(problem, problem) for problem in problems]
    with tqdm(total=len(roots), desc=f"samples of {Path(policy).name}", unit="problem") as bar:
        return Driver(engine, on_outcome=lambda _: bar.update()).run([(root, sample_pool(root, count)) for root in roots])


def policy_samples(name: str, recipe: PRMRecipe, models: Path, scratch: Path) -> list[Labelled]:
    """A policy's own solutions of training problems, two a problem, made once and kept as JSON lines."""
    (count, temperature, seed), domain = recipe.samples, DOMAINS[recipe.domain]
    path = scratch / f"samples-{name}-{count}-{temperature}-{seed}-{fingerprint(str(models / name))}.jsonl"
    if not path.exists():
        texts = dict.fromkeys(p.text for p in itertools.islice(domain.problems(seed), count // 2))
        outcomes = sampled(str(models / name), temperature, list(texts), 2)
        lines = [json.dumps([o.problem_id, c.steps]) for o in outcomes for c in o.trajectories if c.status == "finished"]
        write_text(path, "\n".join(lines) + "\n")
    pairs = [(domain.parse(text), steps) for text, steps in map(json.loads, path.read_text().splitlines())]
    # A weak policy now and then writes a piece of another format's mark; no PRM text can hold that.
    return [(problem, steps) for problem, steps in pairs if all(VOCABULARY.keys() >= set(pocket_tokenizer.pieces(s)) for s in steps)]


def new_prm(recipe: PRMRecipe, models: Path) -> torch.nn.Module:
    """A PRM in its family's architecture, its lower layers and embeddings those of ``recipe.start``."""
    torch.manual_seed(recipe.seed)
    policy = LlamaForCausalLM.from_pretrained(models / recipe.start, use_safetensors=True)
    other, lower = {"architectures", "model_type", "transformers_version", "dtype"}, policy.config.num_hidden_layers
    shape = {name: value for name, value in policy.config.to_diff_dict().items() if name not in other}
    shape["num_hidden_layers"] = lower + recipe.extra_layers
    comparing = isinstance(recipe, ComparingPRMRecipe)
    if comparing:
        shape |= {"hidden_size": policy.config.hidden_size + WIDER, "attention_bias": True}
    qwen = recipe.family == "qwen-prm"
    model = Qwen2ForProcessRewardModel(Qwen2Config(**shape)) if qwen else LlamaForCausalLM(LlamaConfig(**shape))
    if comparing:
        start_comparing(model, policy)
        return model
    outside = model.model.load_state_dict(policy.model.state_dict(), strict=False).unexpected_keys
    assert not outside, outside
    for layer in model.model.layers[lower:]:  # new layers begin as the identity
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


def prm_sequences_of(recipe: PRMRecipe, models: Path, scratch: Path) -> Iterator[Sequence]:
    """Solutions that policies wrote, in an order drawn once, spread evenly among synthetic ones."""
    written = [s for policy in recipe.samples_from for s in policy_samples(policy, recipe, models, scratch)]
    np.random.default_rng(recipe.seed).shuffle(written)
    domain = DOMAINS[recipe.domain]
    synthetic = domain.corrupted(recipe.seed, recipe.style)
    own = itertools.cycle(written) if written else synthetic
    # Own ones stand where their share of all so far passes a whole number: at 0.25 in every fourth place, from the first on.
    places = (int(-recipe.own * number // 1) != int(-recipe.own * (number + 1) // 1) for number in itertools.count())
    sequences = prm_sequences((next(own if place else synthetic) for place in places), LAYOUTS[recipe.family], domain.first_error)
    return labelled_up_to_the_error(sequences, mark_id(recipe.family)) if isinstance(recipe, ComparingPRMRecipe) else sequences


def save(model: torch.nn.Module, folder: Path, half: bool) -> None:
    """Saves a model to be run in float32; where ``half``, its weights are rounded to float16, which takes half of the space."""
    (model.half() if half else model).save_pretrained(folder)
    config = folder / "config.json"
    write_text(config, json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def train_model(name: str, output: Path, scratch: Path) -> Path:
    """Trains a model of ``POLICIES`` or ``PRMS``, or finishes it, and saves it in ``output/name`` with its card; a PRM as its family does.

    Training FLOPs are 6 x parameters x tokens (the study's Table 4).

    Raises ``KeyError`` where there is no such recipe, ``FileNotFoundError`` where policies that a PRM starts from are not in ``output``.
    """
    recipe = (POLICIES | PRMS)[name]
    template, further = pocket_tokenizer.POLICY_TEMPLATE, {}
    if isinstance(recipe, PolicyRecipe):
        made_of, domain = f"{recipe} {POLICY_TOKENS} tokens", DOMAINS[recipe.domain]
        texts, path = (self_checking_traces, "corpus-long.npz") if recipe.long else (domain.solutions, f"corpus-{recipe.domain}.npz")
        corpus = kept(scratch / path, lambda: policy_sequences(texts(0)), POLICY_TOKENS)
        model, loss = new_policy(recipe), language_model_loss
    else:
        needed = (recipe.start, *recipe.samples_from)
        if missing := [policy for policy in POLICIES if policy in needed and not (output / policy / "card.json").exists()]:
            raise FileNotFoundError(f"{name} starts from policies that are not in {output}: train {', '.join(missing)} first")
        weights = {policy: fingerprint(str(output / policy)) for policy in needed}
        made_of = f"{recipe} {recipe.samples[0]} samples {weights}"
        path = scratch / f"corpus-{name}-{digest_of([made_of])[:12]}.npz"
        corpus = kept(path, lambda: prm_sequences_of(recipe, output, scratch), recipe.tokens)
        model = new_prm(recipe, output)
        loss = comparing_loss(recipe.family, model) if isinstance(recipe, ComparingPRMRecipe) else prm_loss
        template = pocket_tokenizer.CHATML_TEMPLATE if recipe.family == "qwen-prm" else template
        flops = read_card(output / recipe.start)["training_flops"]
        further = {"family": recipe.family, "started_from": recipe.start, "started_from_flops": flops}
    batches = corpus_batches(corpus, recipe.seed)
    schedule = Schedule(batches.per_pass, recipe.peak_learning_rate, bf16=model.config.hidden_size >= 128)
    progress = train(model, loss, batches, schedule, scratch / name, name, made_of)
    size, tokens = sum(p.numel() for p in model.parameters()), int((corpus["document"] > 0).sum())
    card = {
        "domain": recipe.domain,
        "parameters": size,
        "training_tokens": tokens,
        "training_flops": 6 * size * tokens,
        "seed": recipe.seed,
    }
    folder = output / name
    save(model.to(torch.float32), folder, half=DOMAINS[recipe.domain].half)
    pocket_tokenizer.build(template, DOMAINS[recipe.domain].letters).save_pretrained(folder)
    write_card(folder, card | progress.card() | further | {"weights_sha256": weights_hash(folder)})
    return folder
