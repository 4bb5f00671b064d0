"""Loading of models: local folders and the Hugging Face Hub, safetensors only, never remote code.

A *location* is what :func:`locate` makes of a name: a folder, or a Hub name with its commit.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open
from tqdm.auto import tqdm

from tts import hub
from tts.hub import ModelError
from tts.paths import DATA

# torch and transformers take seconds to import, and most of what is done with names, cards and hashes needs neither.
if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

POCKET_FOLDER = DATA / "models"


def pocket_models(kind: str) -> list[str]:
    """Names of the pocket models of a kind, ``policy`` or ``prm``, smallest first."""
    folders = [p for p in POCKET_FOLDER.glob(f"{kind}-*") if (p / "config.json").exists()]
    return [p.name for p in sorted(folders, key=lambda p: (read_card(p).get("parameters", 0), p.name))]


def named_folder(name: str) -> Path | None:
    """The folder that a name means, as it is on disk: a path, or a model that comes with the suite; None for other names."""
    return next((folder for folder in (Path(name), POCKET_FOLDER / name) if folder.is_dir()), None)


def locate(name: str) -> str:
    """A model's location: its folder, where ``name`` is a folder or a pocket model's name, else the Hub name with its commit.

    What is no model folder itself (a GGUF file, a package that holds one, an adapter) is made into one, once.

    Raises:
        ModelError: where it is neither a folder nor a pocket model and has not the form of a Hub name, or the Hub does not tell
            its commit.
    """
    from tts.derived import derived  # which loads models itself

    folder = named_folder(name)
    if made := derived(str(folder or name)):
        return made
    if folder:
        if not (folder / "config.json").exists():
            raise ModelError(f"{folder} is a folder without a config.json; expected a save_pretrained folder, or an adapter's")
        return str(folder)
    if name.startswith((".", "/", "~")) or not hub.is_name(name):
        known = ", ".join([*pocket_models("policy"), *pocket_models("prm")]) or "none"
        raise ModelError(f"no model {name!r}: not a folder, not a Hub name (owner/model), not a pocket model ({known})")
    return hub.resolve(name)


def folder_of(location: str, weights: bool = False) -> Path:
    """The folder of a location; from the Hub it is downloaded first, with the weights only where they are wanted.

    Raises:
        ModelError: where it cannot be downloaded, or has no complete safetensors weights where those are wanted.
    """
    folder = Path(location) if Path(location).is_dir() else hub.fetch(location, weights)
    missing = hub.missing_weights(folder) if weights else []
    if missing == ["model.safetensors"]:
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pth"})
        raise ModelError(
            f"{location} has no safetensors weights{f', only {pickles[0]}' if pickles else ''}; other formats may run code when read and "
            "are refused: on the Hub look for a conversion among the pull requests (owner/model@refs/pr/NUMBER), or convert it yourself"
        )
    if missing:
        shards = len(hub.weight_files(folder))
        raise ModelError(f"{location} lacks {len(missing)} of its {shards} weight files ({missing[0]}, ...); copy or download them again")
    return folder


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
    """What identifies a model's behaviour: a hash over a folder's weights, config and tokenizer; of a Hub model its commit."""
    from tts.derived import identity

    folder = Path(location)
    if not folder.is_dir():
        return location.partition("@")[2]
    return identity(folder) or files_hash(folder)


def weights_of(name: str) -> str:
    """:func:`fingerprint` of what a name means; an adapter's without its base, whose hash its card holds.

    Raises:
        ModelError: where it does not exist.
    """
    from tts.derived import expected_identity

    folder = named_folder(name)
    return (expected_identity(folder) if folder else None) or fingerprint(locate(name))


def files_hash(folder: Path) -> str:
    """A hash over a folder's weights, config and tokenizer."""
    digest = hashlib.sha256()
    kept = {".safetensors", ".json", ".jinja", ".model", ".txt"}
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kept and path.name != "card.json"]
    total = sum(path.stat().st_size for path in files)
    with tqdm(total=total, desc=f"hashing {folder.name}", unit="B", unit_scale=True, leave=False, delay=2) as bar:
        for path in files:
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
                    bar.update(len(block))
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
    folder = folder_of(location)
    files = sorted(folder.glob("*.safetensors"))
    if not Path(location).is_dir() and hub.missing_weights(folder):
        return hub.sizes(location)
    sizes = {}
    for path in files:
        with _guarded(location, lambda path=path: safe_open(path, "np")) as tensors:
            sizes |= {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 (no iterator)
    return sizes


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    ``AutoTokenizer`` goes by the model's type, and would read the plain tokenizers file of a Qwen2 folder by Qwen's own rules, and
    a Mistral folder's sentencepiece file without the space before the first word. Both are read as what they are.

    Raises:
        ModelError: where it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from tts import sentencepiece_file

    folder = folder_of(location)
    declared = (_read_json(folder / "tokenizer_config.json") or {}).get("tokenizer_class")
    if declared in {"LlamaTokenizer", "LlamaTokenizerFast"} and not (folder / "tokenizer.json").exists():
        return _guarded(location, lambda: sentencepiece_file.read(folder))
    cls = PreTrainedTokenizerFast if declared == "TokenizersBackend" else AutoTokenizer
    tokenizer = _guarded(location, lambda: cls.from_pretrained(folder, trust_remote_code=False))
    _guarded(location, lambda: tokenizer("0"))  # a damaged vocabulary shows at the first use only
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerBase, text: str, location: str, family: str) -> int:
    """The one token that a PRM's format needs, by its text.

    Args:
        text: of the token; with a leading space where it is one that begins a word.
        location: of the model, for the message.
        family: of the PRM, likewise.

    Raises:
        ModelError: where the tokenizer has no such token.
    """
    ids = tokenizer(f"1{text}" if text.startswith(" ") else text, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids[-1:]).strip(" ") != text.strip(" "):
        raise ModelError(f"the tokenizer of {location!r} has no token {text!r}: not a PRM of the family {family}")
    return ids[-1]


def load_config(location: str) -> PreTrainedConfig:
    """A model's config, without its weights."""
    from transformers import AutoConfig

    folder = folder_of(location)
    return _guarded(location, lambda: AutoConfig.from_pretrained(folder, trust_remote_code=False))


def placement(location: str, device: str | None = None) -> tuple[str, torch.dtype]:
    """Device and precision of a model.

    A GPU where there is one, else the CPU; not Apple's MPS, which has no float64 for the noise of sampling. On the CPU float32, or
    bfloat16 for weights stored so where the processor multiplies them four times as fast. On a GPU bfloat16, but float32 for what was
    stored so and has less than a billion parameters: it is small enough, and the pocket models were measured in it.

    Args:
        location: of the model.
        device: as torch names it; chosen by default.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    stored = getattr(load_config(location), "dtype", None)
    if device == "cpu":
        fast = stored == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported()
        return device, torch.bfloat16 if fast else torch.float32
    return device, torch.float32 if stored == torch.float32 and parameters(location) < 1e9 else torch.bfloat16


def memory_of(device: torch.device) -> int:
    """Bytes of a device's memory, in use or not."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load_causal_lm(location: str, device: str | None = None, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A causal language model, ready for inference, placed as :func:`placement` says but for what is given."""
    from transformers import AutoModelForCausalLM

    return load_model(AutoModelForCausalLM, location, device, dtype)


def load_model(cls, location: str, device: str | None = None, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Any transformers class from safetensors, placed as :func:`placement` says but for what is given.

    Raises:
        ModelError: where the folder, its weights or its config cannot be read, weights are missing, or the device is too small.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # transformers' own bar flickers for every small model
    folder = folder_of(location, weights=True)
    _check_weights(folder)
    device, chosen = placement(location, device)
    options = {"dtype": dtype or chosen, "output_loading_info": True}
    model, report = _guarded(location, lambda: cls.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, **options))
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {location!r} lack {len(missing)} tensors ({', '.join(missing[:3])}, ...); "
            "they would be random: fetch or train the model again"
        )
    try:
        return model.to(device).eval()
    except torch.OutOfMemoryError:
        size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30
        raise ModelError(f"{location} does not fit on {device}: its weights alone take {size:.0f} GiB") from None


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
        hint = "delete it from the Hub's cache, and it is fetched again"
        if Path(location).is_dir():
            hint = f"check the files in {location}, and fetch or train again what is damaged"
        raise ModelError(f"cannot load {location!r}: {reason} ({hint}; a truncated .safetensors must be replaced)") from error
