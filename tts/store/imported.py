"""Runs that were made elsewhere: which there are, and how a grid asks for them.

An import has a folder ``STORE/imported/NAME`` with its problems (``NAME.jsonl``) and ``import.json``, which lists its runs; those lie
in the store like all others. Its models are named ``imported:NAME/MODEL``. They have what was imported and can do nothing anew, so a
grid takes their runs' specs from the list instead of working them out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tts.search.registry import Settings, is_search, method_of, prm_of
from tts.store.chunk_file import MANIFEST, damage_told
from tts.store.run_spec import RunSpec
from tts.store.store import Run, Store, StoreError
from tts.tasks import task_of_key
from tts.tasks.base import Task, changed

PREFIX = "imported:"
FOLDER = "imported"
# Settings of sampling and search: whatever was imported has its own.
FIXED = ("temperature", "top_p", "max_tokens", "max_step_tokens", "max_steps", "beam_width")


class NotImported(StoreError):
    """Something that was asked of imported data and is not in it; the message lists what is."""


def is_imported(name: str | None) -> bool:
    return name is not None and name.startswith(PREFIX)


def original(name: str) -> str:
    """An imported model's name where it comes from; any other name as it is."""
    return name.removeprefix(PREFIX).split("/", 1)[-1] if is_imported(name) else name


@dataclass(frozen=True)
class Held:
    """A run that was imported."""

    spec: RunSpec
    problems: int  # how many of the problems, from the first on, it holds
    outside: tuple[float, float] | None = None  # its lowest and highest score, where any is not in [0, 1]

    @property
    def stored(self) -> dict:
        """As the import's list has it."""
        return {"spec": self.spec.stored, "problems": self.problems} | ({"outside": list(self.outside)} if self.outside else {})

    def __str__(self) -> str:
        spec = self.spec
        named = {"pool": "samples", "scores": "scored samples"}.get(spec.method, spec.method)
        prm = f" with {original(spec.prm.name)}" if spec.prm else ""
        return f"{named} of {original(spec.policy.name)}{prm}, N = {spec.n}, seed {spec.seed}, {self.problems} problems"


@dataclass(frozen=True)
class Import:
    """One import."""

    folder: Path  # ``STORE/imported/NAME``
    name: str
    digest: str  # hash of its content
    count: int  # number of its problems
    runs: tuple[Held, ...]
    extract: tuple[str, ...] = ()  # ways in which answers are found in its solutions; empty for the task's own

    @property
    def problem_set(self) -> str:
        """The name that a grid gives its problems."""
        return str(self.folder / f"{self.name}.jsonl")

    def find(self, method: str, policy: str, prm: str | None, n: int, seed: int, problems: int) -> RunSpec | None:
        """The spec of a run that holds at least so many problems; None where there is none.

        Where smaller budgets are drawn from one run, any ``n`` takes the largest. Runs that were not repeated answer for any ``seed``
        that some run of the import has. 0, the default, stands for the first seed where no run has it.
        """
        one_budget = is_search(method) and method_of(method).part is None
        specs = [held.spec for held in self.runs if held.problems >= problems and (not one_budget or held.spec.n == n)]
        found = [spec for spec in specs if (spec.method, spec.policy.name, spec.guide) == (method, policy, prm)]
        seeds = {spec.seed for spec in found}
        if seeds and seed not in seeds:
            known = any(held.spec.seed == seed for held in self.runs)
            if len(seeds) == 1 if known else seed == 0:
                seed = min(seeds)
        return max((spec for spec in found if spec.seed == seed), key=lambda spec: spec.n, default=None)

    def holds(self, method: str, policy: str, prm: str | None, n: int, seed: int, problems: int) -> bool:
        """Whether the data says how accurate a method is at a budget."""
        asked = method_of(method)
        found = self.find(asked.run, policy, prm_of(method, prm), n, seed, problems)
        if found is None or asked.weigh:  # no format tells confidences
            return False
        each = asked.part(Settings(found.width or 1)) if asked.part else found.n
        return n == 1 if asked.source == "greedy" else n <= found.n and n % each == 0

    def repeated(self, policy: str, seed: int) -> list[str]:
        """For each method of which a policy's runs were repeated, in words: the seeds that there are, and the one that is used."""
        lines = []
        for method in dict.fromkeys(held.spec.method for held in self.runs):
            alike = [h.spec.seed for h in self.runs if (h.spec.method, h.spec.policy.name) == (method, policy)]
            if len(seeds := sorted(set(alike))) > 1:
                used = seed if seed in seeds else seeds[0]
                others = ", ".join(f"seed={other}" for other in seeds if other != used)
                lines.append(f"{method} of {original(policy)}: seed {used} of the imported runs is used; choose others with -p {others}")
        return lines

    def outside(self, policy: str, prm: str | None) -> bool:
        """Whether a PRM gave any of a policy's solutions a score that is not in [0, 1]."""
        return any(held.outside for held in self.runs if (held.spec.policy.name, held.spec.guide) == (policy, prm))

    def listed(self) -> str:
        """What there is, in words."""
        return "it holds:" + "".join(f"\n  {held}" for held in self.runs) + "\nImported models cannot be sampled anew."


def of(problem_sets: Iterable[str], model: str) -> Import:
    """The import that a model belongs to; raises :class:`NotImported` where it is that of none of the problem sets."""
    name = _import_named_in(model)
    for problem_set in problem_sets:
        held, folder = beside(problem_set), Path(problem_set).parent
        if held and held.name == name:
            return held
        if (folder.parent.name, folder.name) == (FOLDER, name) and not (folder / MANIFEST).exists():
            raise NotImported(f"the import {name} was not finished: {folder} has no {MANIFEST}; import its files again")
    raise NotImported(
        f"{model} goes with the problems that it was imported with: give problems={{STORE/imported/{name}/{name}.jsonl: COUNT}}; "
        f"given {', '.join(problem_sets)}"
    )


def check_asked(asked: Mapping[str, object], policies: Sequence[str], problem_sets: Iterable[str]) -> None:
    """Raises :class:`NotImported` where all policies were imported and sampling, search or another number of samples is asked for.

    ``asked`` has settings by name, without those that are defaults; the others are a grid's.
    """
    if not all(map(is_imported, policies)):
        return
    if useless := [name for name in FIXED if name in asked]:
        raise NotImported(f"{', '.join(useless)}: imported solutions are as they are, and no other policy is given; leave it out")
    runs = [(policy, held.spec) for policy in policies for held in of(problem_sets, policy).runs]
    sizes = {spec.n for policy, spec in runs if (spec.method, spec.policy.name) == ("pool", policy)}
    if "samples" in asked and sizes and asked["samples"] not in sizes:
        raise NotImported(
            f"samples={asked['samples']}: {', '.join(map(str, sorted(sizes)))} samples of a problem were imported, and all of them are "
            "used; leave it out, and choose the N that are shown with -p 'budgets=[...]'"
        )


def beside(problem_set: str) -> Import | None:
    """The import whose problems these are; None for any other problem set."""
    path = Path(problem_set).parent / MANIFEST
    return _read(path, path.stat().st_mtime_ns) if problem_set.endswith(".jsonl") and path.exists() else None


def all_of(store: Path) -> list[Import]:
    """Every import of a store."""
    return [_read(path, path.stat().st_mtime_ns) for path in sorted((store / FOLDER).glob(f"*/{MANIFEST}"))]


def unfinished(store: Store) -> list[str]:
    """The imports of which a store holds runs that no list names: they were cut off, or what they replace was not yet deleted."""
    whole = {(source.name, source.digest) for source in all_of(store.folder)}
    policies = {run.spec.policy for run in store.runs() if is_imported(run.spec.policy.name)}
    found = {(_import_named_in(policy.name), policy.weights) for policy in policies}
    return sorted({name for name, _ in found - whole})


def named(store: Store, text: str) -> tuple[list[Run], list[Path]]:
    """What is to be deleted by a name: a run, by the beginning of its key; or ``imported:NAME``, all runs and the folder of an import.

    Raises :class:`StoreError` where there is no such run or import, or more than one run; or where an import lists the run.
    """
    if not is_imported(text):
        run = store.find(text)
        if run.spec.elsewhere:
            whole = PREFIX + _import_named_in(run.spec.policy.name)
            raise StoreError(f"{run.key} is listed by the import that it came with; delete the whole of it: --delete {whole}")
        return [run], []
    name = text.removeprefix(PREFIX)
    runs = [run for run in store.runs() if run.spec.policy.name.startswith(f"{text}/")]
    folders = [folder for folder in (store.folder / FOLDER).glob("*") if folder.name == name]
    if not runs and not folders:
        raise StoreError(f"no import {name!r} in {store.folder}; there are: {', '.join(i.name for i in all_of(store.folder)) or 'none'}")
    return runs, folders


def task_of_run(run: Run) -> Task:
    """The task that grades a stored run: its key's, and of imported solutions with the ways in which their import finds answers."""
    policy, name = run.spec.policy.name, _import_named_in(run.spec.policy.name)
    source = beside(str(run.folder.parent / FOLDER / name / f"{name}.jsonl")) if is_imported(policy) else None
    return changed(task_of_key(run.spec.task), None, source.extract if source else ())


def graded_by(runs: Iterable[Run]) -> str:
    """In which ways the answers of stored runs are found, in a sentence."""
    ways = ((run.spec.policy.name, ", ".join(task_of_run(run).ways) or "the only way of their task") for run in runs)
    found = dict.fromkeys(f"{name.split('/')[0] if is_imported(name) else 'runs made here'} by {how}" for name, how in ways)
    return f"graded: {'; '.join(found)}; ways that a study's 'extract' adds are not stored with its runs, and not used here"


def _import_named_in(model: str) -> str:
    return model.removeprefix(PREFIX).split("/", 1)[0]


@lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> Import:
    content = manifest(path)
    with damage_told(path):
        runs = (Held(RunSpec.of(run["spec"]), run["problems"], tuple(run.get("outside") or ()) or None) for run in content["runs"])
        return Import(path.parent, content["name"], content["hash"], content["problems"], tuple(runs), tuple(content.get("extract") or ()))


def manifest(path: Path) -> dict:
    """What an import's list says; raises :class:`StoreError` where it is damaged."""
    with damage_told(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        return content
