"""Presets, and what they ask for: notebooks with their parameters, the grids that these read, and the store that is filled for them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm.auto import tqdm

from tts.analysis import committed, difficulty, grades
from tts.common.paths import NOTEBOOKS
from tts.generate import runner
from tts.generate.grid import Grid, explain
from tts.models import hub
from tts.policies import address_in
from tts.store.imported import check_asked, is_imported
from tts.store.store import Store
from tts.study.experiment import Experiment
from tts.study.parameters import check, check_kinds, declared
from tts.tasks import problems

PRESETS = NOTEBOOKS / "presets"
OWN = "own"
"""The folder below a preset's figures for those of changed parameters, which would replace them."""
PLACES = {"store", "figures", "look"}  # parameters that change nothing of what is shown


class StudyError(ValueError):
    """A preset, notebook or parameter that does not exist or does not fit."""


@dataclass(frozen=True)
class Job:
    """One notebook with its parameters, the preset's and the user's merged."""

    notebook: str
    parameters: dict
    folder: Path = NOTEBOOKS

    @property
    def source(self) -> Path:
        return self.folder / f"{self.notebook}.ipynb"

    def experiment(self) -> Experiment | None:
        """The notebook's experiment, validated, from its own defaults and the job's parameters; None where it has none."""
        values = declared(self.notebook) | self.parameters
        if "problems" not in values:
            return None
        own = {k: v for k, v in values.items() if k in Grid.model_fields}
        return Experiment(NOTEBOOKS / values["store"], NOTEBOOKS / values["figures"], **own)

    def grids(self) -> list[Grid]:
        """What the notebook has generated first: its experiment's grid, its variants, and the separate samples that tell difficulties."""
        if not (experiment := self.experiment()):
            return []
        asked = (declared(self.notebook) | self.parameters).get
        further = [
            *([experiment.dialled(asked("dials"))] if asked("dials") else []),
            *([experiment.thinking(asked("long_policies"), asked("long_samples"))] if asked("long_policies") else []),
            *([experiment.once(list(asked("long_cot").values()))] if asked("long_cot") else []),
        ]
        separate = difficulty.separate_grids(experiment.grid, asked("difficulty_samples")) if asked("difficulty_samples") else []
        return [experiment.grid, *(other.grid for other in further), *separate]


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


class _Preset(BaseModel):
    model_config = ConfigDict(extra="forbid")

    notebooks: dict[str, dict[str, Any] | None]
    common: dict[str, Any] | None = None
    seeds: list[int] = [0]


def load_preset(name: str) -> dict:
    """A preset's content: ``notebooks`` (name to parameters), ``common`` parameters, and ``seeds`` of its outcomes.

    Args:
        name: of one of the suite's presets, or a preset file.

    Raises:
        StudyError: for an unknown or malformed preset.
    """
    path = Path(name) if name.endswith(".yaml") else PRESETS / f"{name}.yaml"
    if name not in presets() and not (name.endswith(".yaml") and path.is_file()):
        raise StudyError(f"no preset {name!r:.200}; there are {', '.join(presets())}, or give a .yaml file")
    try:
        preset = _Preset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise StudyError(f"{path} is not a preset: {explain(error, _Preset)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} is not a preset: {' '.join(str(error).split())}") from None
    return {"common": preset.common or {}, "notebooks": preset.notebooks, "seeds": preset.seeds}


def parse_overrides(pairs: list[str]) -> dict:
    """``["seed=1", "policy=x"]`` as parameters; ``policy`` and ``prm`` stand for lists of one.

    Raises:
        StudyError: where a pair has no ``=``.
    """
    overrides: dict = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.isidentifier():
            raise StudyError(f"expected NAME=VALUE, found {pair!r}")
        if key in ("policy", "prm") and not text.strip():
            raise StudyError(f"{key} is empty; give a name that 'python -m tts list' shows, or a folder")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise StudyError(f"{key}: {text!r} is not a value; quote names that hold special characters") from None
        if key in ("policy", "prm"):
            key, value = {"policy": "policies", "prm": "prms"}[key], [text]
        elif key in ("problem", "answer") and not isinstance(value, str):
            value = text  # the answer 279 is text, and so is 042
        overrides[key] = value
    return overrides


def plan(preset: str, names: list[str] | None = None, overrides: dict | None = None, look_up: bool = True) -> list[Job]:
    """The notebooks to run, each with its parameters; an override goes to every notebook that declares it.

    What overrides change is no longer the preset's: its figures go to a folder of their own, unless they name one.

    Args:
        look_up: find every model and problem set, and check all values.

    Raises:
        tts.study.parameters.NotebookError: for an unknown notebook.
        StudyError: for a parameter that no chosen notebook declares.
        tts.generate.grid.ParameterError: where parameters do not fit.
        tts.models.hub.ModelError: where something would have to be downloaded and the Hub cannot be reached.
    """
    content, overrides = load_preset(preset), _anchored(overrides or {})
    chosen = names or list(content["notebooks"])
    if repeated := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise StudyError(f"each notebook runs once; given more than once: {', '.join(repeated)}")
    jobs = []
    for name in chosen:
        known = declared(name)
        own = content["common"] | (content["notebooks"].get(name) or {})
        unknown = set(content["notebooks"].get(name) or {}) - set(known)
        if unknown:
            raise StudyError(f"preset {preset!r} gives {name} parameters that it does not declare: {', '.join(sorted(unknown))}")
        values = {k: v for k, v in (own | overrides).items() if k in known}
        if set(overrides) - PLACES and "figures" not in overrides and "figures" in known:
            values["figures"] = f"{(known | values)['figures']}/{OWN}"
        jobs.append(Job(name, values))
    everywhere = set().union(*(declared(name) for name in chosen))
    if strangers := set(content["common"]) - set().union(*(declared(name) for name in content["notebooks"])):
        raise StudyError(f"preset {preset!r}: no notebook has a parameter {', '.join(sorted(strangers))}")
    if strangers := set(overrides) - everywhere:
        raise StudyError(f"no chosen notebook has a parameter {', '.join(sorted(strangers))}; known: {', '.join(sorted(everywhere))}")
    for job in jobs:
        check_kinds(job.notebook, declared(job.notebook) | job.parameters)
    if look_up:
        hub.require(*absent([experiment for job in jobs if (experiment := job.experiment())]))
        for job in jobs:
            check(job.notebook, declared(job.notebook) | job.parameters)
            if experiment := job.experiment():
                check_asked(overrides, experiment.grid.policies, experiment.grid.problems)
                experiment.check()
    return jobs


def absent(experiments: list[Experiment]) -> tuple[list[str], list[str], list[str]]:
    """Problem sets, policies and PRMs of experiments that would have to be downloaded."""
    named = [dict.fromkeys(name for e in experiments for name in getattr(e.grid, kind)) for kind in ("problems", "policies", "prms")]
    models = [[name for name in names if not is_imported(name)] for names in named[1:]]
    return problems.absent(named[0]), hub.absent(models[0]), hub.absent(models[1])


def _anchored(overrides: dict) -> dict:
    """Overrides with relative folders and files made absolute: notebooks run in a folder of their own."""
    anchored = dict(overrides)
    for key in ("store", "figures"):
        if key in anchored:
            if not isinstance(anchored[key], str) or not anchored[key]:
                raise StudyError(f"{key} must be a folder; given {anchored[key]!r}")
            anchored[key] = str(_expanded(anchored[key]).resolve())
    for key in ("policies", "prms"):
        if isinstance(anchored.get(key), list):
            anchored[key] = [_anchored_name(name) for name in anchored[key]]
    for key in ("problems", "explored"):
        if isinstance(anchored.get(key), dict):
            anchored[key] = {_anchored_name(name): count for name, count in anchored[key].items()}
    return anchored


def _anchored_name(name: object) -> object:
    if address_in(str(name)):  # of a server, which may be given a folder's tokenizer
        return re.sub(r"(?<=[?&]tokenizer=)[^&]+", lambda found: str(_anchored_name(found[0])), str(name))
    family, separator, path = str(name).rpartition(":")
    try:
        if family == "reasoning-gym" or not path or not _expanded(path).exists():
            return name
    except OSError:  # too long to be a path: its own check will say what it is not
        return name
    return f"{family}{separator}{_expanded(path).resolve()}"


def _expanded(path: str) -> Path:
    """A path with ``~`` resolved; as it is where there is no such user."""
    return Path(os.path.expanduser(path))


def fill(jobs: list[Job]) -> None:
    """Generates and grades everything that the notebooks will read, each run once."""
    grids: dict[Path, list[Grid]] = {}
    for job in jobs:
        if experiment := job.experiment():
            grids.setdefault(experiment.store.folder, []).extend(job.grids())
    for folder, needed in grids.items():
        with grades.keeping() as grade:
            runner.fill(needed[0], Store(folder), *needed[1:], on_stored=grade)
        grades.keep(Store(folder), needed)


def collect_outcomes(preset: str, overrides: dict | None = None, name: str = "") -> Path:
    """Generates what a preset's notebooks read, for each of its seeds, and keeps the outcomes problem by problem.

    Args:
        overrides: of the preset's parameters, say another rule.
        name: of the file, without its suffix; the preset's by default.
    """
    found = []
    for seed in load_preset(preset)["seeds"]:
        jobs = plan(preset, overrides=(overrides or {}) | {"seed": seed})
        fill(jobs)
        experiments = {e.grid.model_dump_json(): e for job in jobs if (e := job.experiment())}
        for experiment in tqdm(experiments.values(), desc="outcomes", unit="grid"):
            found.append((experiment.grid, committed.collect(experiment.results)))
    return committed.commit(found, committed.FOLDER / f"{name or preset}.parquet")


def store_of(preset: str) -> Store:
    return Store((NOTEBOOKS / load_preset(preset)["common"].get("store", "../data/runs")).resolve())
