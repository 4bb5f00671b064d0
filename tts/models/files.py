"""What the files of a model say without its weights being loaded: its folder, card, config, hashes and number of parameters."""

from __future__ import annotations

import hashlib
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open
from tqdm.auto import tqdm

from tts.common.files import write_text
from tts.common.paths import DATA
from tts.models import hub
from tts.models.hub import ModelError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

POCKET_FOLDER = DATA / "models"
ADAPTER = "adapter_config.json"
STEP_HEAD = "step_head.safetensors"  # beside an adapter: the two make a PRM
IDENTITY = "identity.json"  # of a folder that was made: what it was made from


def domain_of(name: str) -> str:
    """The domain that a pocket model was trained on, by its card; those without one are of the first, arithmetic."""
    return read_card(POCKET_FOLDER / name).get("domain", "arithmetic")


def pocket_models(kind: str, domain: str | None = None) -> list[str]:
    """Names of the pocket models of a kind, ``policy`` or ``prm``, of one domain or of all, smallest first."""
    folders = [p for p in POCKET_FOLDER.glob(f"{kind}-*") if (p / "config.json").exists() and domain in (None, domain_of(p.name))]
    return [p.name for p in sorted(folders, key=lambda p: (read_card(p).get("parameters", 0), p.name))]


def named_folder(name: str) -> Path | None:
    """The folder that a name means, as it is on disk: a path, or a model that comes with the suite; None for other names."""
    return next((folder for folder in (Path(name), POCKET_FOLDER / name) if folder.is_dir()), None)


def folder_of(location: str, weights: bool = False) -> Path:
    """The folder of a location, from the Hub downloaded first, with the weights only where they are wanted.

    Raises ModelError where it cannot be downloaded, or has no complete safetensors weights where those are wanted.
    """
    folder = Path(location) if Path(location).is_dir() else hub.fetch(location, weights)
    missing = hub.missing_weights(folder) if weights else []
    if missing == ["model.safetensors"]:
        pickle = next((f", only {path.name}" for path in sorted(folder.iterdir()) if path.suffix in {".bin", ".pt", ".pth"}), "")
        raise ModelError(
            f"{location} has no safetensors weights{pickle}; other formats may run code when read and are refused: on the Hub look for a "
            "conversion among the pull requests (owner/model@refs/pr/NUMBER), or convert it yourself"
        )
    if missing:
        shards = len(hub.weight_files(folder))
        raise ModelError(f"{location} lacks {len(missing)} of its {shards} weight files ({missing[0]}, ...); copy or download them again")
    return folder


def read_card(folder: str | Path) -> dict:
    """The suite's own card of a model that it trained; empty where there is none."""
    return read_json(Path(folder) / "card.json")


def check_writes(location: str) -> None:
    """Raises ModelError for a model whose config names no causal language model: what it would write by another head means nothing."""
    named = read_json(Path(location) / "config.json").get("architectures") or []
    if named and not any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in named):
        raise ModelError(f"{location} is a {named[0]}, which is no causal language model; as a PRM give it as FAMILY:NAME among prms")


def write_card(folder: Path, card: dict) -> None:
    write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")


def read_json(path: Path) -> dict:
    """A JSON object from a file of a model's folder; empty where there is no such file. Raises ModelError where it is damaged."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
        return content
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); fetch or train the model again; one of this suite: git checkout") from None


def chat_template(location: str) -> str | None:
    """The text of a model's chat template; None where it has none, or several."""
    folder = folder_of(location)
    if (path := folder / "chat_template.jinja").exists():
        return path.read_text(encoding="utf-8")
    held = read_json(folder / "tokenizer_config.json").get("chat_template")
    return held if isinstance(held, str) else None


def files_hash(folder: Path) -> str:
    """A hash over a folder's weights, config and tokenizer; read again where a file's size or time of change is another."""
    kept = {".safetensors", ".json", ".jinja", ".model", ".txt"}
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kept and path.name != "card.json"]
    return _hash_of(folder.resolve(), tuple((path.name, (held := path.stat()).st_size, held.st_mtime_ns) for path in files))


@lru_cache(maxsize=256)  # a ledger asks for some fifty models' a thousand times
def _hash_of(folder: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, *_ in tqdm(files, desc=f"hashing {folder.name}", unit="file", leave=False, delay=2):
        digest.update(name.encode())
        with (folder / name).open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()[:16]


def parameters(location: str) -> int:
    """A model's number of parameters, from the headers of its safetensors files."""
    return sum(_sizes(location).values())


def idle_parameters(location: str, config: PreTrainedConfig) -> int:
    """Parameters of the experts that a token is not sent to; 0 for a model that is no mixture of experts."""
    counts = (getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    experts, used = next((count for count in counts if count), None), getattr(config, "num_experts_per_tok", None)
    if not experts or not used:
        return 0
    # The routed experts are named so in Mixtral, Qwen and DeepSeek; shared ones are not idle.
    routed = sum(size for name, size in _sizes(location).items() if ".experts." in name)
    return routed * (experts - used) // experts


def _sizes(location: str) -> dict[str, int]:
    """Number of entries of each of a model's tensors, by name."""
    folder = folder_of(location)
    if not Path(location).is_dir() and hub.missing_weights(folder):
        return hub.sizes(location)
    sizes = {}
    for path in sorted(folder.glob("*.safetensors")):
        with guarded(location, lambda path=path: safe_open(path, "np")) as tensors:
            sizes |= {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 (no iterator)
    return sizes


def load_config(location: str) -> PreTrainedConfig:
    """A model's config, without its weights."""
    from transformers import AutoConfig

    folder = folder_of(location)
    return guarded(location, lambda: AutoConfig.from_pretrained(folder, trust_remote_code=False))


def weights_hash(folder: Path) -> str:
    """What a card records of the weights, so that a flipped byte is noticed, which safetensors cannot."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))).hexdigest()


def guarded(location: str, load):
    try:
        return load()
    except ModelError:
        raise
    except Exception as error:  # transformers, safetensors and the Hub raise many kinds
        damaged = f"check the files in {location}, and fetch or train again what is damaged"
        hint = damaged if Path(location).is_dir() else "delete it from the Hub's cache, and it is fetched again"
        raise ModelError(f"cannot load {location!r}: {first_line(error)} ({hint}; a truncated .safetensors must be replaced)") from error


def fingerprint(location: str) -> str:
    """What identifies a model's behaviour: of a Hub model its commit, of a folder what it was made from, or a hash over its files."""
    folder = Path(location)
    return (read_json(folder / IDENTITY).get("identity") or files_hash(folder)) if folder.is_dir() else location.partition("@")[2]


def trained_here(prm: bool) -> list[str]:
    """Names of the suite's own models that need a base: the adapters of policies, or those with a step head."""
    return sorted(path.parent.name for path in POCKET_FOLDER.glob(f"*/{ADAPTER}") if (path.parent / STEP_HEAD).exists() == prm)


def digest_of(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
