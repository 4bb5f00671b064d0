"""Presets, and the study as a whole: fill the store, execute the notebooks with papermill, bind the report."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import papermill
import yaml
from tqdm.auto import tqdm

from tts.analysis import outcomes
from tts.experiment import Experiment, check_look
from tts.paths import NOTEBOOKS
from tts.policies import address_in
from tts.runs import runner
from tts.runs.grid import Grid
from tts.runs.store import Store

PRESETS = NOTEBOOKS / "presets"
TIMEOUT = 3600


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


def notebooks() -> list[str]:
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def declared(notebook: str) -> dict:
    """The parameters that a notebook declares, with their defaults.

    Raises:
        StudyError: for an unknown notebook, or a default that is not a literal.
    """
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        raise StudyError(f"no notebook {notebook!r}; there are {', '.join(notebooks())}")
    cells = json.loads(path.read_text())["cells"]
    source = next(("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])), "")
    values = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            values[target.id] = ast.literal_eval(statement.value)
    return values


def load_preset(name: str) -> dict:
    """A preset's content: ``notebooks`` (name to parameters), ``common`` parameters, and ``seeds`` of its outcomes.

    Raises:
        StudyError: for an unknown or malformed preset.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.exists():
        raise StudyError(f"no preset {name!r}; there are {', '.join(presets())}")
    try:
        content = yaml.safe_load(path.read_text())
        return {"common": content.get("common") or {}, "notebooks": content["notebooks"], "seeds": content.get("seeds", [0])}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is not a preset: {error}") from None


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
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise StudyError(f"{key}: {text!r} is not a value; quote names that hold special characters") from None
        if key in ("policy", "prm"):
            key, value = {"policy": "policies", "prm": "prms"}[key], [text]
        overrides[key] = value
    return overrides


def plan(preset: str, names: list[str] | None = None, overrides: dict | None = None) -> list[Job]:
    """The notebooks to run, each with its parameters; an override goes to every notebook that declares it.

    Raises:
        StudyError: for an unknown notebook, or a parameter that no chosen notebook declares.
        tts.experiment.ParameterError: where parameters do not fit.
    """
    content, overrides = load_preset(preset), _anchored(overrides or {})
    chosen = names or list(content["notebooks"])
    jobs = []
    for name in chosen:
        known = declared(name)
        own = content["common"] | (content["notebooks"].get(name) or {})
        unknown = set(content["notebooks"].get(name) or {}) - set(known)
        if unknown:
            raise StudyError(f"preset {preset!r} gives {name} parameters that it does not declare: {', '.join(sorted(unknown))}")
        jobs.append(Job(name, {k: v for k, v in (own | overrides).items() if k in known}))
    everywhere = set().union(*(declared(name) for name in chosen))
    if strangers := set(content["common"]) - set().union(*(declared(name) for name in content["notebooks"])):
        raise StudyError(f"preset {preset!r}: no notebook has a parameter {', '.join(sorted(strangers))}")
    if strangers := set(overrides) - everywhere:
        raise StudyError(f"no chosen notebook has a parameter {', '.join(sorted(strangers))}; known: {', '.join(sorted(everywhere))}")
    for job in jobs:
        if experiment := job.experiment():
            experiment.check()
        check_look(job.parameters.get("look", {}))
    return jobs


def _anchored(overrides: dict) -> dict:
    """Overrides with relative folders and files made absolute: notebooks run in a folder of their own."""
    anchored = dict(overrides)
    for key in ("store", "figures"):
        if key in anchored:
            if not isinstance(anchored[key], str) or not anchored[key]:
                raise StudyError(f"{key} must be a folder; given {anchored[key]!r}")
            anchored[key] = str(Path(anchored[key]).expanduser().resolve())
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
    if family == "reasoning-gym" or not Path(path).expanduser().exists():
        return name
    return f"{family}{separator}{Path(path).expanduser().resolve()}"


def fill(jobs: list[Job]) -> None:
    """Generates everything that the notebooks will read, each run once."""
    for job in jobs:
        experiment = job.experiment()
        if experiment and (work := runner.missing(experiment.grid, experiment.store)):
            print(f"{job.notebook}: {len(work)} chunks to generate")
            runner.fill(experiment.grid, experiment.store)


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
            found.append((experiment.grid, outcomes.collect(experiment.results)))
    return outcomes.commit(found, outcomes.FOLDER / f"{name or preset}.parquet")


def execute(jobs: list[Job], output: Path, workers: int = 2) -> dict[str, str | None]:
    """Executes notebooks side by side, each in a process of its own.

    Returns:
        Per notebook None where it ran through, else what went wrong in one line; the others finish regardless.
    """
    output.mkdir(parents=True, exist_ok=True)
    outcome: dict[str, str | None] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_execute_one, job, output): job.notebook for job in jobs}
        for future in tqdm(as_completed(futures), total=len(futures), desc="notebooks", unit="notebook"):
            try:
                outcome[futures[future]] = future.result()
            except Exception as error:  # a worker that died takes only its notebook along
                outcome[futures[future]] = f"{type(error).__name__}: {error}"
    return {job.notebook: outcome[job.notebook] for job in jobs}


def _execute_one(job: Job, output: Path) -> str | None:
    with (output / f"{job.notebook}.log").open("w") as log:
        os.dup2(log.fileno(), 2)  # a kernel inherits this; its chatter belongs in a file
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            job.source,
            output / f"{job.notebook}.ipynb",
            parameters=job.parameters,
            kernel_name="python3",
            cwd=job.folder,
            progress_bar=False,
            execution_timeout=TIMEOUT,
        )
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}".splitlines()[0]
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def store_of(preset: str) -> Store:
    return Store((NOTEBOOKS / load_preset(preset)["common"].get("store", "../data/runs")).resolve())
