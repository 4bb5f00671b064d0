"""Loading of models: local folders and the Hugging Face Hub, safetensors only, never remote code."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import torch
from huggingface_hub import get_safetensors_metadata
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from tts.paths import DATA

logging.disable_progress_bar()  # transformers' own bar flickers for every small model

POCKET_FOLDER = DATA / "models"


class ModelError(ValueError):
    """A model that cannot be found or loaded; the message says what was given and what to do."""


def pocket_models(kind: str) -> list[str]:
    """Names of the pocket models of a kind, ``policy`` or ``prm``, smallest first."""
    folders = [p for p in POCKET_FOLDER.glob(f"{kind}-*") if (p / "config.json").exists()]
    return [p.name for p in sorted(folders, key=lambda p: (read_card(p).get("parameters", 0), p.name))]


def locate(name: str) -> str:
    """A model's folder, where ``name`` is a folder or a pocket model's name; otherwise ``name``, for the Hub.

    Raises:
        ModelError: where it is a path that does not exist, or a name without ``/`` that is no pocket model.
    """
    for folder in (Path(name), POCKET_FOLDER / name):
        if folder.is_dir():
            if not (folder / "config.json").exists():
                raise ModelError(f"{folder} is a folder without a config.json; expected a save_pretrained folder")
            return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = ", ".join([*pocket_models("policy"), *pocket_models("prm")]) or "none"
        raise ModelError(f"no model {name!r}: not a folder, not a Hub name (owner/model), not a pocket model ({known})")
    return name


def read_card(folder: str | Path) -> dict:
    """The suite's own card of a model that it trained; empty where there is none."""
    return _read_json(Path(folder) / "card.json") or {}


def _read_json(path: Path) -> dict | None:
    """A JSON object from a file of a model's folder; None where there is no such file.

    Raises:
        ModelError: where it is damaged.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
        return content
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); fetch or train the model again; one of this suite: git checkout") from None


def fingerprint(location: str) -> str:
    """What identifies a model's behaviour: a hash over a folder's weights, config and tokenizer; a Hub name as it is."""
    folder = Path(location)
    if not folder.is_dir():
        return location
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".json", ".jinja"} and path.name != "card.json":
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def parameters(location: str) -> int:
    """A model's number of parameters, from the headers of its safetensors files."""
    return sum(_sizes(location).values())


def idle_parameters(location: str, config: PreTrainedConfig) -> int:
    """Parameters of the experts that a token is not sent to; 0 for a model that is no mixture of experts.

    The routed experts are the tensors named ``.experts.``, as in Mixtral, Qwen and DeepSeek; shared ones are not idle.
    """
    counts = (getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    experts, used = next((count for count in counts if count), None), getattr(config, "num_experts_per_tok", None)
    if not experts or not used:
        return 0
    routed = sum(size for name, size in _sizes(location).items() if ".experts." in name)
    return routed * (experts - used) // experts


def _sizes(location: str) -> dict[str, int]:
    """Number of entries of each of a model's tensors, by name."""
    folder = Path(location)
    if not folder.is_dir():
        files = _guarded(location, lambda: get_safetensors_metadata(location).files_metadata)
        return {name: math.prod(tensor.shape) for file in files.values() for name, tensor in file.tensors.items()}
    sizes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with _guarded(location, lambda path=path: safe_open(path, "pt")) as tensors:
            sizes |= {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 (no iterator)
    return sizes


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer; a folder that declares a plain tokenizers file gets just that.

    ``AutoTokenizer`` goes by the model's type instead, and would read a Qwen2 folder's file by Qwen's own rules.
    """
    declaration = _read_json(Path(location) / "tokenizer_config.json") or {}
    plain = declaration.get("tokenizer_class") == "TokenizersBackend"
    cls = PreTrainedTokenizerFast if plain else AutoTokenizer
    tokenizer = _guarded(location, lambda: cls.from_pretrained(location, trust_remote_code=False))
    _guarded(location, lambda: tokenizer("0"))  # a damaged vocabulary shows at the first use only
    return tokenizer


def load_config(location: str):
    return _guarded(location, lambda: AutoConfig.from_pretrained(location, trust_remote_code=False))


def load_causal_lm(location: str, device: str = "cpu", dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A causal language model, ready for inference."""
    return load_model(AutoModelForCausalLM, location, device, dtype)


def load_model(cls, location: str, device: str = "cpu", dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Any transformers class from safetensors.

    Raises:
        ModelError: where the folder, its weights or its config cannot be read, or weights are missing.
    """
    _check_weights(Path(location))
    dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
    model, report = _guarded(
        location,
        lambda: cls.from_pretrained(location, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True),
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {location!r} lack {len(missing)} tensors ({', '.join(missing[:3])}, ...); "
            "they would be random: fetch or train the model again"
        )
    return model.to(device).eval()


def weights_hash(folder: Path) -> str:
    """What a card records of the weights, so that a flipped byte is noticed, which safetensors cannot."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _check_weights(folder: Path) -> None:
    recorded = read_card(folder).get("weights_sha256")
    if recorded and recorded != weights_hash(folder):
        raise ModelError(
            f"the weights in {folder} are not those that its card.json records: they were damaged or exchanged; "
            "restore them, say with git checkout, or delete the card's weights_sha256 if they are meant to differ"
        )


def _guarded(location: str, load):
    try:
        return load()
    except ModelError:
        raise
    except Exception as error:  # transformers, safetensors and the Hub raise many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = (
            f"check the files in {location}; a truncated .safetensors must be copied or trained again"
            if Path(location).is_dir()
            else "with no network, download the model elsewhere and give the path of its folder"
        )
        raise ModelError(f"cannot load {location!r}: {reason} ({hint})") from error
