"""What this machine has of what the suite uses, and what each lack costs."""

import os
import platform
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from threading import Thread
from typing import NamedTuple

import psutil
from packaging.requirements import Requirement

from tts.common.paths import NOTEBOOKS, ROOT
from tts.models.files import pocket_models

PROJECT, GIB = "tts-notebooks", 1 << 30
PROCESS, SPACE = 0.75, 0.1  # GiB: a process's peak (docs/speed.md); the default study's store and figures (52 MB)
PATIENCE = 2.0  # seconds for all servers together
SERVERS = {
    os.environ.get("HF_ENDPOINT", "https://huggingface.co"): "models and problem sets that are not on this disk cannot be had",
    "https://pypi.org/simple/": "no packages, nor pypi:PACKAGE policies, unless pip has another index",
}
EXTRAS = {
    "gguf": "GGUF files are no policies",
    "openai": "servers (http://HOST:PORT/v1#MODEL) are no policies",
    "peft": "adapters can be neither trained nor used",
    "ray": "--engine ray is refused",
    "sentencepiece": "models with such a tokenizer cannot be opened",
    "test": "make test does not run",
    "browser": "no tests in a browser",
    "vllm": "vllm:MODEL is no policy",
}
APART = {"browser": "make test-browser", "vllm": "in an environment of its own, docs/running_at_scale.md"}


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
    yield from _packages()
    yield from _folders()
    yield from _hardware()
    for thread in asked:
        thread.join(PATIENCE)
    for url, cost in SERVERS.items():
        reason = refused.get(url, "no answer yet") if asked else "HF_HUB_OFFLINE=1"
        yield Check("network", url, f"{reason}: {cost}; the default study needs no network" if reason else "")
    for name, cost in EXTRAS.items():
        lacking, remedy = _lacking(name), APART.get(name, f"pip install -e '.[{name}]'")
        yield Check(f"extra {name}", "" if lacking else "installed", f"{cost}; {remedy}" if lacking else "")
    latex = next(filter(None, map(shutil.which, ("xelatex", "lualatex", "pdflatex"))), "")
    yield Check("LaTeX", latex, "" if latex else "no figures as PGF, all others need none; install TeX Live")


def _packages() -> Iterator[Check]:
    wanted, lacking, remedy = metadata.metadata(PROJECT)["Requires-Python"], _lacking(), "pip install -r requirements.lock"
    fits = Requirement(f"python{wanted}").specifier.contains(platform.python_version(), prereleases=True)
    yield Check(
        "Python", f"{platform.python_version()}, {sys.executable}", "" if fits else f"{wanted} is needed: make PYTHON=python3.12", True
    )
    yield (
        Check("packages", "", f"missing or of another version: {', '.join(lacking)}; {remedy}", True)
        if lacking
        else Check("packages", "all")
    )
    lock = ROOT / "requirements.lock"
    pins = dict(line.split("==") for line in lock.read_text().splitlines()) if lock.exists() else {}
    others = [f"{name} {held} for {pin}" for name, pin in pins.items() if (held := _version(name)).partition("+")[0] not in ("", pin)]
    lack = f"last digits may differ from the documents': {', '.join(others)}; {remedy}" if others else ""
    yield Check("requirements.lock", f"{len(others)} of {len(pins)} packages have another version", lack)


def _folders() -> Iterator[Check]:
    count = len(pocket_models("policy"))
    lack = "" if count and NOTEBOOKS.is_dir() else "notebooks and models are not in the package: git clone, then pip install -e . there"
    yield Check("checkout", f"{ROOT}, {count} policies", lack, True)
    if lack:
        return
    from tts.study.presets import load_preset  # takes a second

    preset = load_preset("pocket")
    figures = (NOTEBOOKS / preset.common.get("figures", "../figures")).resolve()
    for name, folder in {"store": preset.store.folder, "figures": figures}.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free, lack = shutil.disk_usage(there).free / GIB, ""
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            lack = error.strerror or str(error)
        lack = lack or (f"the default study takes {SPACE} GiB" if free < SPACE else "")
        yield Check(name, f"{folder}, {free:.1f} GiB free", f"{lack}; mend that, or choose another: -p {name}=FOLDER" if lack else "", True)


def _hardware() -> Iterator[Check]:
    import torch

    from tts.engine.cpu_kernels import kernels

    compiled, ones = kernels(), torch.ones(2, 16)
    works = compiled is not None and torch.equal(compiled.norm(ones, ones[0], 0.0), ones)
    slow = "small models run slower (docs/engine.md); install a C compiler (cc, gcc or clang), and unset TTS_CPU_KERNELS"
    yield Check("C compiler", "the compiled kernels work" if works else "no compiled kernels", "" if works else slow)
    gpu = torch.cuda.is_available()
    found = f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[0] / GIB:.0f} GiB free" if gpu else "none"
    yield Check("GPU", found, "" if gpu else "too slow for models of billions of parameters; the pocket family needs none")
    free = psutil.virtual_memory().available / GIB
    yield Check("memory", f"{free:.1f} GiB free", f"a process takes {PROCESS} GiB; end others" if free < PROCESS else "", True)


def _lacking(extra: str = "") -> list[str]:
    """Packages that the project, or one of its extras, requires and that are missing or of another version."""
    listed = map(Requirement, metadata.requires(PROJECT) or [])
    wanted = [r for r in listed if (r.marker.evaluate({"extra": extra}) if r.marker else not extra)]
    return [r.name for r in wanted if not r.specifier.contains(_version(r.name) or "0", prereleases=True)]


def _version(package: str) -> str:
    """The installed version; empty for none."""
    return next((held.version for held in metadata.distributions(name=package)), "")


def _ask(url: str, refused: dict[str, str]) -> None:
    """Puts the reason down why a server cannot be reached, empty where it can; any answer will do."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE).close()
        refused[url] = ""
    except (OSError, ValueError) as error:
        refused[url] = "" if isinstance(error, urllib.error.HTTPError) else str(getattr(error, "reason", error))
