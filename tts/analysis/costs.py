"""What a policy with a strategy costs on a problem set, in FLOPs, from stored token counts and the models' cards."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd

from tts.analysis import flops, stats
from tts.analysis.evidence import Evidence
from tts.analysis.flops import Cost, Shape
from tts.common.paths import DATA
from tts.models import files
from tts.models.hub import ModelError
from tts.models.locate import locate
from tts.policies import address_in, model_of
from tts.reward_models import is_model
from tts.search.registry import method_of
from tts.store.imported import is_imported, original

SIZES = DATA / "published" / "sizes.csv"
_ASKED = {"head_dim", "num_attention_heads", "num_hidden_layers"}
# A number of billions that stands by itself, as in Qwen2.5-1.5B-Instruct or math-shepherd-mistral-7b-prm.
_BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![\w.])")


def shape_of(name: str) -> Shape:
    """A model's size, from its card, or else its weights and config; a dialled checker or a rule is no model and has none.

    Of a model without a card only the name is known; a size that it does not tell is NaN.
    """
    if not is_model(name):
        return Shape(0)
    card = _card(name)
    if card is None:
        return named_shape(_plain(name))
    if "attention_width" in card:  # an adapter's, whose base need not be here
        return Shape(card["parameters"], card["layers"], card["attention_width"])
    location = locate(model_of(name))
    written = files.read_json(files.folder_of(location) / "config.json")
    # Transformers, which knows what a config leaves out, takes seconds to import.
    config = SimpleNamespace(**written) if written.keys() >= _ASKED else files.load_config(location)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        files.parameters(location),
        config.num_hidden_layers,
        config.num_attention_heads * size,
        files.idle_parameters(location, config),
        (getattr(config, "num_key_value_heads", None) or config.num_attention_heads) * size,
    )


def named_shape(name: str) -> Shape:
    """A model's size from ``sizes.csv``, else its parameters as its name gives them; what is not known is NaN."""
    if published := _published().get(name.rpartition("/")[2]):
        return shape_in(published)
    said = _BILLIONS.search(name.rpartition("/")[2])
    return Shape(float(said[1]) * 1e9 if said else np.nan, np.nan, np.nan)


def shape_in(row: dict | pd.Series) -> Shape:
    """The size that a row of ``sizes.csv`` gives."""
    idle = row["parameters"] - row["active_parameters"]
    return Shape(row["parameters"], row["layers"], row["attention_width"], idle, row.get("kv_width", 0))


@cache
def _published() -> dict[str, dict]:
    """The rows of ``sizes.csv`` by model."""
    return pd.read_csv(SIZES).set_index("model").to_dict("index")


def _plain(name: str) -> str:
    return original(name) if is_imported(name) else model_of(name)


def _card(name: str) -> dict | None:
    """A model's card; None for an imported model, and for a served one whose files are not on this machine."""
    if is_imported(name):
        return None
    try:
        return files.read_card(files.named_folder(model_of(name)) or locate(model_of(name)))
    except ModelError:
        if not address_in(name):
            raise
        return None


def training_flops(name: str) -> float:
    """Training FLOPs that a model's card records, those of the policy that a PRM was started from among them; of a published model 6ND.

    NaN for any other: what its training cost is unknown, not nothing.
    """
    if not is_model(name):
        return 0.0
    card = _card(name)
    if card is None:
        row = _published().get(_plain(name).rpartition("/")[2])
        return flops.pretraining(row["active_parameters"], row["pretraining_tokens"]) if row else np.nan
    return float(card.get("training_flops", np.nan) + card.get("started_from_flops", 0.0))


def by_size(policies: Sequence[str]) -> list[str]:
    """The policies, smallest first; those of unknown size last, in their order."""
    return sorted(policies, key=lambda name: np.nan_to_num(shape_of(name).parameters, nan=np.inf))


def study_share(policy: str) -> float:
    """A policy's size over the study's largest, 72B, or over its family's largest for a pocket policy; NaN where it is not known."""
    family = files.pocket_models("policy", files.domain_of(policy)) if policy in files.pocket_models("policy") else []
    largest = max((shape_of(name).parameters for name in family), default=72e9)
    return shape_of(policy).parameters / largest


def solver_of(prm: str) -> str | None:
    """The policy that could answer by itself: NAME of ``implicit:NAME``, or which a PRM's card says it was started from; else None."""
    if prm.startswith("implicit:"):
        return model_of(prm)
    return None if not is_model(prm) or address_in(prm) else (_card(prm) or {}).get("started_from")


def cost(evidence: Evidence, problem_set: str, policy: str, prm: str | None, method: str, n: int, full: bool) -> Cost:
    """FLOPs of training, and of answering the whole problem set once.

    ``full`` counts PRM, prefill and attention, and a mixture of experts by its active parameters; else it is the study's convention, the
    policy's 2ND with all parameters.
    """
    shape, generated = shape_of(policy), evidence.policy_tokens(problem_set, policy, prm, method, n).sum()
    trained = training_flops(policy)
    if not full:
        return Cost(trained, decode=flops.inference(shape.parameters, generated), deployed=shape.parameters)
    prompts = evidence.prompt_tokens(problem_set, policy).tolist()
    prompts = [np.nan] * len(prompts) if method_of(method).rereads else prompts
    read = evidence.prm_tokens(problem_set, policy, prm, method, n).sum()
    whole = "majority" if method_of(method).stop else method  # of a pool whose samples are not all drawn
    solution = evidence.policy_tokens(problem_set, policy, prm, whole, n).sum() / (n * len(prompts))
    if not (prm and read):  # a method without a PRM reads nothing
        return replace(flops.answering(shape, prompts, generated, solution), policy_training=trained)
    answering = replace(flops.answering(shape, prompts, generated, solution, shape_of(prm), read), policy_training=trained)
    solver = solver_of(prm)
    same = solver is not None and files.POCKET_FOLDER / solver == files.POCKET_FOLDER / policy  # then it is trained once
    if same and prm.startswith("implicit:"):  # and in memory once
        return replace(answering, deployed=shape.parameters)
    return replace(answering, prm_training=training_flops(prm) - (trained if same else 0.0))


def table(evidence: Evidence, problem_set: str, prm: str, method: str, n: int) -> pd.DataFrame:
    """Each policy with CoT and with a TTS method: accuracy and FLOPs in both conventions."""
    rows = []
    for policy in evidence.grid.policies:
        for strategy, how, budget in (("CoT", "cot", 1), (f"{method}, N = {n}", method, n)):
            asked = (problem_set, policy, prm, how, budget)
            accuracy = stats.of_accuracy(evidence.accuracy(*asked))
            study, full = (cost(evidence, *asked, full) for full in (False, True))
            parts = {
                "policy training": full.policy_training,
                "PRM training": full.prm_training,
                "policy prefill": full.prefill,
                "policy decode": full.decode,
                "PRM inference": full.prm_inference,
                "attention": full.attention,
                "total (study)": study.total,
                "total (full)": full.total,
                "inference (study)": study.inference,
                "inference (full)": full.inference,
                "deployed parameters": full.deployed,
            }
            rows.append({"policy": policy, "strategy": strategy, **accuracy.columns(), **parts})
    return pd.DataFrame(rows)
