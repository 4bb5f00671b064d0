"""Presets, and what they ask for: notebooks with their parameters, the grids that these read, and the store that is filled for them."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError
from tqdm.auto import tqdm

from tts.analysis import committed, grades
from tts.common.files import write_text
from tts.common.names import listed, short
from tts.common.paths import NOTEBOOKS, ROOT
from tts.exchange import summary
from tts.generate import runner
from tts.generate.grid import Grid, explain
from tts.models import hub
from tts.models.files import POCKET_FOLDER
from tts.policies import address_in
from tts.store.imported import Import, all_of, check_asked, is_imported
from tts.store.store import Store, StoreError
from tts.study.experiment import Experiment, experiment_of
from tts.study.parameters import SETTINGS, check, declaration, named_notebook
from tts.tasks.problems import problem_sets
from tts.tasks.published import absent as absent_sets

PRESETS = NOTEBOOKS / "presets"
OWN = "own"  # the folder below a preset's figures for those of changed parameters, which has a folder for each change
PLACES = {"store", "figures", "look"}  # parameters that change nothing of what is shown
FINDINGS_TAG = "findings"  # of cells that tell what was found with the described presets
NOT_OF_THIS_RUN = "*What you should see* is written for the pocket family and its default parameters; this run has others."


class StudyError(ValueError):
    """A preset, notebook or parameter that does not exist or does not fit."""


@dataclass(frozen=True)
class Job:
    """One notebook to run."""

    notebook: str
    parameters: dict  # values that differ from its defaults, the preset's and the user's merged
    folder: Path = NOTEBOOKS
    as_described: bool = True  # whether the findings that the notebook tells were written for exactly these parameters

    @property
    def values(self) -> dict:
        """Every parameter's value."""
        return declaration(self.notebook).parameters | self.parameters

    def experiment(self) -> Experiment | None:
        """The notebook's experiment; None where it has none that can be filled before it runs."""
        return experiment_of(self.notebook, self.values) if "problems" in declaration(self.notebook).parameters else None

    def check(self) -> Experiment | None:
        """Checks every value, finds every model and problem set, and gives the notebook's experiment. Raises as :func:`check`."""
        check(self.notebook, self.values)
        experiment = experiment_of(self.notebook, self.values)
        for name in experiment.grid.problems if experiment else ():
            experiment.grid.chunks(name)
        return experiment

    def leave_out_findings(self, executed: Path) -> None:
        """Puts one line in the place of each cell that tells findings, where these are of other parameters."""
        if self.as_described or not executed.exists():
            return
        notebook = json.loads(executed.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if FINDINGS_TAG in cell["metadata"].get("tags", []):
                cell["source"] = NOT_OF_THIS_RUN
        write_text(executed, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def experiments(jobs: Iterable[Job]) -> list[Experiment]:
    """Those of the jobs that have one."""
    return [experiment for job in jobs if (experiment := job.experiment())]


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


_Parameters = Annotated[dict[str, Any], BeforeValidator(lambda given: {} if given is None else given)]


class Released(BaseModel, extra="forbid"):
    """Released runs that a preset is of: the name of their import, and datasets as ``python -m tts import`` takes them."""

    name: str
    sources: list[str]


class Preset(BaseModel, extra="forbid"):
    """A preset file."""

    notebooks: dict[str, _Parameters]  # each notebook's own, by its name
    common: _Parameters = {}  # of every notebook that takes them
    seeds: list[int] = [0]  # seeds of its outcomes
    described: bool = False  # whether the notebooks' own account of what is to be seen is of this preset
    # Runs that it is of: what their import's preset says is added, and notebooks that they do not serve are left out.
    released: Released | None = None

    @property
    def store(self) -> Store:
        return Store((NOTEBOOKS / self.common.get("store", "../data/runs")).resolve())

    def imported(self) -> Import | None:
        """The import of its released runs; None where it is of none, or its store lacks it."""
        held = all_of(self.store.folder) if self.released else []
        return next((one for one in held if self.released and one.name == self.released.name), None)


def load_preset(name: str) -> Preset:
    """A preset of the suite by its name, or of a file; relative paths in it are taken from its own folder.

    Raises StudyError for an unknown or malformed preset, :class:`tts.study.parameters.NotebookError` for an unknown notebook.
    """
    path = Path(name) if name.endswith(".yaml") else PRESETS / f"{name}.yaml"
    if name not in presets() and not (name.endswith(".yaml") and path.is_file()):
        raise StudyError(f"no preset {name!r:.200}; give a .yaml file, or one of {listed(presets(), name)}")
    try:
        preset = Preset.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = explain(error, Preset) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise StudyError(f"{path} is not a preset: {reason}") from None
    preset.common = _anchored(preset.common, preset.notebooks, path.parent)
    preset.notebooks = {notebook: _anchored(own, [notebook], path.parent) for notebook, own in preset.notebooks.items()}
    if written := preset.imported():
        served = load_preset(str(written.folder / "preset.yaml"))
        preset.common = served.common | preset.common
        preset.notebooks = {name: served.notebooks[name] | own for name, own in preset.notebooks.items() if name in served.notebooks}
    return preset


def import_released(name: str) -> Iterator[str]:
    """Imports the released runs that a preset is of, where its store lacks them, and yields what :func:`summary.import_all` does."""
    preset = load_preset(name)
    if preset.released and not preset.imported():
        yield from summary.import_all(preset.store, preset.released.sources, preset.released.name)


def parse_overrides(pairs: list[str]) -> dict:
    """``["seed=1", "policy=x"]`` as parameters; ``policy`` and ``prm`` stand for lists of one. Raises :class:`StudyError` for others."""
    overrides: dict = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        key = key.removeprefix(f"{SETTINGS}.")
        if not separator or not key.partition(".")[0].isidentifier() or key.endswith("."):
            raise StudyError(f"expected NAME=VALUE, found {pair!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise StudyError(f"{key}: {text!r} is not a value; quote names that hold special characters") from None
        if one_of := {"policy": "policies", "prm": "prms"}.get(key):
            if not text.strip():
                raise StudyError(f"{key} is empty; give a name that 'python -m tts list' shows, or a folder")
            key, value = one_of, [text]
        elif key in ("problem", "answer", "system") and not isinstance(value, str):
            value = text  # the answer 279 is text, and so are 042 and "Think: hard"
        overrides[key] = value
    return overrides


def plan(preset: str, names: list[str] | None = None, overrides: dict | None = None, look_up: bool = True) -> list[Job]:
    """The notebooks to run, each with its parameters; an override goes to every notebook that takes it, and ``look.font_size``
    to the entry of its ``look``, of which the others stay.

    Where they change any value but :data:`PLACES`, the run is no longer the preset's: its figures and report go to :func:`own_folder`,
    unless the overrides name one, and changed notebooks leave out what they tell of the preset's findings. ``look_up`` finds every model
    and problem set, and checks all values.

    Raises ``NotebookError`` for an unknown notebook, StudyError for a parameter that no chosen notebook takes, ``ParameterError`` where
    parameters do not fit, ``ModelError`` where something would have to be downloaded and the Hub cannot be reached.
    """
    content = load_preset(preset)
    if content.released and not content.imported():
        raise StudyError(f"the runs of preset {preset!r} are not imported yet; 'python -m tts run --preset {preset}' fetches them first")
    chosen = list(map(named_notebook, names or content.notebooks))
    if repeated := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise StudyError(f"each notebook runs once; given more than once: {', '.join(repeated)}")
    given, entries = dict(overrides or {}), dict[str, Any]()
    for key in [key for key in given if "." in key]:
        name, _, entry = key.partition(".")
        entries.setdefault(name, {})[entry] = given.pop(key)
    common, (overrides, entries) = content.common, [_anchored(some, chosen, Path()) for some in (given, entries)]
    jobs, own_values = [], False
    for name in chosen:
        found, own = declaration(name), content.notebooks.get(name, {})
        _refuse_strangers(own, [name], f"preset {preset!r}: {name} has no parameter")
        before = found.parameters | common | own | overrides
        inside = before.get(SETTINGS)  # fields of the grid that are no parameters
        taken = {key: Grid.model_fields[key].default for key in entries.keys() & found.takes - before.keys()}
        whole = taken | {key: inside[key] for key in taken if isinstance(inside, dict) and key in inside}
        whole |= {key: before[key] for key in entries if key in before}
        if bare := [key for key, value in whole.items() if not isinstance(value, dict)]:
            raise StudyError(f"{bare[0]} has no entries to change one by one; it is {whole[bare[0]]!r:.120}, give {bare[0]}=VALUE")
        merged = {key: value | entries[key] for key, value in whole.items()}
        described, values = found.placed(common | own), found.placed(common | own | overrides | merged)
        changed = {k for k, v in (found.parameters | values).items() if (found.parameters | described)[k] != v}
        own_values |= not changed <= PLACES
        jobs.append(Job(name, values, as_described=content.described and changed <= PLACES))
    _refuse_strangers(common, content.notebooks, f"preset {preset!r}: no notebook has a parameter")
    overrides |= entries
    _refuse_strangers(overrides, chosen, "no chosen notebook has a parameter")
    for job in jobs:
        check(job.notebook, job.values, look_up=False)
        if own_values and "figures" not in overrides and "figures" in job.values:
            job.parameters["figures"] = f"{job.values['figures']}/{OWN}/{own_folder(overrides)}"
    if look_up:
        hub.require(*absent(experiments(jobs)))
        for job in jobs:
            if experiment := job.check():
                check_asked(overrides, experiment.grid.policies, experiment.grid.problems)
    return jobs


def own_folder(overrides: Mapping[str, Any]) -> str:
    """The name of the figures' folder for a change of a preset: the models and problem sets given, and a hash of all that is given."""
    given = {name: value for name, value in sorted(overrides.items()) if name not in PLACES}
    names = [short(name) for kind in ("policies", "prms", "problems") for name in given.get(kind, [])]
    told = re.sub(r"[^\w.=]+", "-", "-".join(names or given))[:80].strip("-.")
    return f"{told}-{hashlib.sha256(json.dumps(given, default=str).encode()).hexdigest()[:8]}"


def _refuse_strangers(given: dict, notebooks: Iterable[str], reason: str) -> None:
    taken = set().union(*(declaration(name).takes for name in notebooks))
    if strangers := set(given) - taken:
        raise StudyError(f"{reason} {', '.join(sorted(map(str, strangers)))}; known: {listed(sorted(taken), min(strangers))}")


def absent(experiments: list[Experiment]) -> tuple[list[str], list[str], list[str]]:
    """Problem sets, policies and PRMs of experiments, and of what they read besides, that would have to be downloaded."""
    grids = [other.grid for experiment in experiments for other in (experiment, *experiment.further.values())]
    sets, policies, prms = (
        list(dict.fromkeys(name for grid in grids for name in getattr(grid, kind) if not is_imported(name)))
        for kind in ("problems", "policies", "prms")
    )
    return absent_sets(sets), hub.absent(policies), hub.absent(prms)


def _anchored(given: dict, notebooks: Iterable[str], folder: Path) -> dict:
    """Parameters of some notebooks with relative paths taken from a folder, since notebooks run in a folder of their own.

    What :data:`SETTINGS` holds stands beside the others, so that of two that give one field the later wins.
    """
    if not isinstance(settings := given.get(SETTINGS, {}), dict):
        raise StudyError(f"{SETTINGS} must be a mapping of fields of the grid; given {settings!r:.120}")
    kinds = {name: kind for notebook in notebooks for name, kind in declaration(notebook).kinds.items()}
    anchored = {name: value for name, value in given.items() if name != SETTINGS} | settings
    for name, value in anchored.items():
        if kinds.get(name) == "folder":
            if not isinstance(value, str) or not value:
                raise StudyError(f"{name} must be a folder; given {value!r}")
            place = (folder / os.path.expanduser(value)).resolve()
            anchored[name] = os.path.relpath(place, NOTEBOOKS) if place.is_relative_to(ROOT) else str(place)
        elif kinds.get(name) in ("policies", "prms", "problems", "labelled"):
            anchored[name] = anchored_names(value, folder)
    return anchored


def anchored_names(value: object, folder: Path) -> object:
    """A name of a model or problem set, or a list or mapping of such, with relative paths made absolute; known names are no paths."""
    if isinstance(value, list):
        return [anchored_names(item, folder) for item in value]
    if isinstance(value, dict):
        return {anchored_names(key, folder): anchored_names(item, folder) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    if address_in(value):  # of a server, which may be given a folder's tokenizer
        return re.sub(r"(?<=[?&]tokenizer=)[^&]+", lambda found: str(anchored_names(found[0], folder)), value)
    family, separator, path = value.rpartition(":")
    place = folder / os.path.expanduser(path)
    known = path in problem_sets() or (os.sep not in path and (POCKET_FOLDER / path).is_dir())
    if family == "reasoning-gym" or not path or known or not os.path.exists(place):
        return value
    return f"{family}{separator}{place.resolve()}"


def fill(jobs: list[Job]) -> None:
    """Generates and grades everything that the notebooks will read, each run once."""
    grids: dict[Path, list[Grid]] = {}
    for experiment in experiments(jobs):
        grids.setdefault(experiment.store.folder, []).extend(experiment.grids())
    for folder, needed in grids.items():
        runner.fill(needed[0], Store(folder), *needed[1:])
        grades.keep(Store(folder), needed)


def collect_outcomes(preset: str, overrides: dict, name: str) -> Path:
    """Generates what a preset's notebooks read, for each of its seeds, and keeps every problem's outcome in a file of the given name.

    Without a name it is the preset's.
    """
    found = []
    for seed in load_preset(preset).seeds:
        jobs = plan(preset, overrides=overrides | {"seed": seed})
        fill(jobs)
        different = {experiment.grid.model_dump_json(): experiment for experiment in experiments(jobs)}
        found += [(e.grid, committed.collect(e.results)) for e in tqdm(different.values(), desc="outcomes", unit="grid")]
    return committed.commit(found, committed.FOLDER / f"{name or preset}.parquet")


def store_of(preset: str, folder: Path | None = None, new: bool = False) -> Store:
    """A preset's store, or that of a folder, which must be there unless it may be new."""
    if folder and not (new or folder.is_dir()):
        raise StoreError(f"no store {folder}")
    return Store(folder) if folder else load_preset(preset).store
