"""What notebooks declare: their parameters, what they read besides their own grid, and whether given values fit, before anything runs."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, model_validator

from tts.common.names import listed
from tts.common.paths import NOTEBOOKS
from tts.generate import labelled
from tts.generate.grid import Grid, ParameterError, explain
from tts.policies import check_policy
from tts.report.figure_settings import Look
from tts.reward_models import family_of
from tts.tasks.problems import ProblemError, problem_rows
from tts.training.pocket.recipes import POLICIES, PRMS

SETTINGS = "settings"  # the parameter that takes the fields of the grid that a notebook does not declare one by one
_MODELS_AND_PROBLEMS = ("policies", "prms", "problems")
_NAME = re.compile(r"\$(\w+)")
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list", dict: "a mapping"}


class NotebookError(ValueError):
    """A notebook that does not exist or cannot be read."""


class Declaration(BaseModel, extra="forbid"):
    """What a notebook declares: its parameters, and the literal ``needs`` of its cell with that tag, whose fields are the others.

    In the fields of a grid ``$name`` stands for a parameter's value, ``$a & $b`` for what two lists have in common; a list that holds
    such texts is flattened, and a mapping of models gives its values.
    """

    parameters: dict[str, Any]  # name -> default, of the cell with that tag
    grid: dict[str, Any] = {}  # fields of the notebook's own grid that are not parameters of the same name
    further: dict[str, dict[str, Any]] = {}  # further grids that the notebook reads, by name: the fields that differ from its own grid's
    separate: int | str = 0  # separate samples a problem, from which its difficulty is counted where no counts are committed; 0 for none
    # Whether a parameter holds names of models, problem sets or labelled sets, recipes of pocket models, or a folder; told are only those
    # that no grid takes.
    kinds: dict[str, Literal["policies", "prms", "problems", "labelled", "recipes", "folder"]] = {}
    choices: dict[str, list[str]] = {}  # texts that a parameter may be
    least: int = 1  # problems of each set; more where a choice is judged on other problems than it was made on
    pairs: dict[str, str] = {}  # parameters that hold one counterpart for each element of another parameter, in the same order

    @model_validator(mode="after")
    def _complete(self) -> Declaration:
        if unknown := sorted(named(self.model_dump(exclude={"parameters"})) - set(self.parameters)):
            raise ValueError(f"needs names parameters that are not declared: {', '.join(unknown)}")
        kinds: dict = {field: field for field in _MODELS_AND_PROBLEMS} | {"store": "folder", "figures": "folder"}
        for fields in (self.grid, *self.further.values()):
            kinds |= {name: field for field in _MODELS_AND_PROBLEMS for name in named(fields.get(field))}
        self.kinds = {name: kind for name, kind in (kinds | self.kinds).items() if name in self.parameters}
        return self

    @cached_property
    def takes(self) -> set[str]:
        """Names that values may be given by: the parameters', and those of the grid's fields that :data:`SETTINGS` takes."""
        return set(self.parameters) | (set(Grid.model_fields) - set(self.grid) if SETTINGS in self.parameters else set())

    def placed(self, given: Mapping[str, object]) -> dict:
        """Given values by parameter: those of other fields of the grid in :data:`SETTINGS`, without what the notebook does not take."""
        further = {name: value for name, value in given.items() if name in self.takes - set(self.parameters)}
        return {k: v for k, v in given.items() if k in self.parameters} | (
            {SETTINGS: self.parameters[SETTINGS] | further} if further else {}
        )

    def fields(self, values: Mapping[str, Any]) -> dict | None:
        """Fields of the notebook's own grid, of the value of every parameter; None where it has none."""
        own = {name: values[name] for name in self.parameters if name in Grid.model_fields} | values.get(SETTINGS, {})
        own |= {field: resolved(field, value, values) for field, value in self.grid.items()}
        return own if "problems" in own else None


def named(literal: object) -> set[str]:
    """The parameters that a literal's texts name as ``$name``."""
    return set(_NAME.findall(str(literal)))


def resolved(field: str, value: object, values: Mapping[str, Any]) -> Any:
    """A field's value in a :class:`Declaration` with its parameters filled in."""
    if isinstance(value, list):
        parts = [resolved(field, item, values) for item in value]
        return list(dict.fromkeys(item for part in parts for item in (part if isinstance(part, list) else [part])))
    if not isinstance(value, str) or not (names := _NAME.findall(value)):
        return value
    given = (values[name] for name in names)
    first, *others = [list(v.values()) if isinstance(v, dict) and field != "problems" else v for v in given]
    return [item for item in first if all(item in other for other in others)] if others else first


def notebooks() -> list[str]:
    """The names of the notebooks that run; a glossary among them is only read."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb") if path.stem != "glossary")


def named_notebook(text: str) -> str:
    """The notebook of a name, of its first words, such as ``01`` or ``01_tts``, or of a path; raises NotebookError where several begin so.

    A text that means none is given back.
    """
    path, known = Path(text), notebooks()
    name = path.stem if path.suffix == ".ipynb" and path.resolve().parent == NOTEBOOKS else text
    found = [name] if name in known else [one for one in known if one.startswith(f"{name}_")]
    if len(found) > 1:
        raise NotebookError(f"{text!r} is the beginning of {len(found)} notebooks: {', '.join(found)}")
    return found[0] if found else text


def described(notebook: str) -> list[tuple[str, str, str]]:
    """Each parameter of a notebook, its default, and what it means, as its cell has them; raises as :func:`declaration`."""
    declaration(notebook)
    source = _cell(json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"], "parameters")
    return re.findall(r"^(\w+) = (.*?)  # (.*)$", source, re.MULTILINE)


def declaration(notebook: str) -> Declaration:
    """What a notebook declares; raises NotebookError for an unknown or damaged one, or a cell with a tag whose values are no literals."""
    if notebook not in notebooks():
        raise NotebookError(f"no notebook {notebook!r:.200}; there are {listed(notebooks(), notebook)}")
    path = NOTEBOOKS / f"{notebook}.ipynb"
    return _declared(path, path.stat().st_mtime_ns).model_copy(deep=True)


@lru_cache  # asked for again and again, each time some milliseconds
def _declared(path: Path, changed: int) -> Declaration:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return Declaration(parameters=_literals(cells, "parameters"), **_literals(cells, "needs").get("needs", {}))
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotebookError(f"{path} cannot be read ({reason:.200}); restore it, say with git checkout -- {path.name}") from None


def _literals(cells: list[dict], tag: str) -> dict:
    """What the first cell with a tag assigns, by name."""
    values = {}
    for statement in ast.parse(_cell(cells, tag)).body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            values[target.id] = ast.literal_eval(statement.value)
    return values


def _cell(cells: list[dict], tag: str) -> str:
    return next(("".join(cell["source"]) for cell in cells if tag in cell["metadata"].get("tags", [])), "")


def check_recipe(name: str) -> None:
    if name not in (*POLICIES, *PRMS):
        raise ParameterError(f"no recipe named {name}; there are {listed([*POLICIES, *PRMS], name)}")


_LOOKED_UP = {"policies": check_policy, "prms": family_of, "labelled": labelled.check, "recipes": check_recipe}


def check(notebook: str, values: Mapping[str, Any], look_up: bool = True) -> None:
    """Refuses values of another kind than the declared defaults', empty texts, numbers below 1, names that do not exist, unequal pairs.

    The grids check the rest as they are made, and the problem sets of the notebook's own grid as they are read. ``values`` may hold other
    names, as a notebook's ``globals()`` do. Models and problem sets are found, and pairs compared, with ``look_up`` only.

    Raises ParameterError for a value that does not fit, :class:`tts.models.hub.ModelError` for a model that does not exist, and
    :class:`tts.tasks.problems.ProblemError` for a problem set that cannot be read.
    """
    found = declaration(notebook)
    for name, default in found.parameters.items():
        if name == "look":
            check_look(values[name])
        elif name == SETTINGS:
            _check_settings(found, values[name])
        else:
            _check_kind(name, values[name], default)
        if type(default) is int and name not in Grid.model_fields and values[name] < 1:
            raise ParameterError(f"{name} must be at least 1; given {values[name]}")
        if isinstance(default, str) and not values[name].strip():
            raise ParameterError(f"{name} must not be empty")
        if name in found.choices and values[name] not in found.choices[name]:
            raise ParameterError(f"{name} must be one of {listed(found.choices[name], values[name])}; given {values[name]!r}")
    for name in (name for name, kind in found.kinds.items() if kind == "problems"):
        for problem_set, count in values[name].items():
            if type(count) is int and 0 < count < found.least:  # a grid refuses the rest
                why = f"since {notebook} judges a choice on other problems than it is made on"
                raise ParameterError(f"{name}: ask for at least {found.least} problems of each set, {why}; given {problem_set}: {count}")
    if not look_up:
        return
    for name, kind in found.kinds.items():
        if kind == "problems" and name != "problems":
            for problem_set, count in values[name].items():
                try:
                    problem_rows(problem_set, count)
                except ProblemError as error:
                    raise ProblemError(f"{name}: {error}") from None
        elif kind in _LOOKED_UP:
            given = values[name]
            for item in [given] if isinstance(given, str) else [*given, *(given.values() if isinstance(given, dict) else [])]:
                _LOOKED_UP[kind](item)
    for name, other in found.pairs.items():
        if (count := len(values[name])) != (wanted := len(values[other])):
            raise ParameterError(f"{name} must be as many as {other}, in the same order; given {count} and {wanted}")


def check_look(look: object) -> None:
    """Refuses a look of figures with a field that is unknown or does not fit, as :class:`ParameterError`, before anything is generated."""
    _check_mapping("look", look, f"with {', '.join(Look.model_fields)}")
    try:
        Look.model_validate(look)
    except ValidationError as error:
        raise ParameterError(f"look: {explain(error, Look)}") from None


def _check_settings(found: Declaration, settings: Any) -> None:
    fields = sorted(found.takes - set(found.parameters))
    _check_mapping(SETTINGS, settings, f"with any of {', '.join(fields)}")
    for name, value in settings.items():
        if name not in fields:
            reason = "a parameter of its own" if name in found.parameters else "unknown"
            raise ParameterError(f"{SETTINGS}: {name!r:.120} is {reason}; known: {listed(fields, name)}")
        if type(default := Grid.model_fields[name].default) in (int, float, str):
            _check_kind(name, value, default)


def _check_mapping(name: str, value: object, wanted: str) -> None:
    if not isinstance(value, dict):
        raise ParameterError(f"{name} must be a mapping {wanted}; given {value!r:.120}")


def _check_kind(name: str, value: Any, default: Any) -> None:
    """The default's type, down to the elements of lists and mappings."""
    fits = isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        raise ParameterError(f"{name} must be {_KINDS[type(default)]}{f', like {default}' if default != '' else ''}; given {value!r:.120}")
    if isinstance(default, dict):
        for key in value:
            _check_kind(f"a key of {name}", key, "")
        value, default = value.values(), default.values()
    if not isinstance(default, (int, float, str)):
        inner = next(iter(default), "")
        for element in value:
            _check_kind(f"an element of {name}", element, inner)
