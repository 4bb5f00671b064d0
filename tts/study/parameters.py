"""What the notebooks declare as parameters, and whether given values fit, before anything runs."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping

from pydantic import ValidationError

from tts.common.paths import NOTEBOOKS
from tts.generate.grid import Grid, ParameterError, explain, grid_of
from tts.policies import check_policy
from tts.report.figure_settings import Look
from tts.reward_models import family_of
from tts.search.registry import compared
from tts.tasks.problems import problem_rows
from tts.training.pocket.recipes import POLICIES, PRMS


class NotebookError(ValueError):
    """A notebook that does not exist or cannot be read."""


def notebooks() -> list[str]:
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def declared(notebook: str) -> dict:
    """The parameters that a notebook declares, with their defaults.

    Raises:
        NotebookError: for an unknown or damaged notebook, or a default that is not a literal.
    """
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if notebook not in notebooks():
        raise NotebookError(f"no notebook {notebook!r:.200}; there are {', '.join(notebooks())}")
    values = {}
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = next(("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])), "")
        for statement in ast.parse(source).body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)):
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                values[target.id] = ast.literal_eval(statement.value)
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise NotebookError(f"{path} cannot be read ({reason:.200}); restore it, say with git checkout -- {path.name}") from None
    return values


def check(notebook: str, values: Mapping[str, object]) -> None:
    """Refuses values of another kind than the declared defaults', and names of models, methods and problem sets that do not exist.

    Args:
        notebook: whose parameters they are.
        values: all of them, by name; other names are left alone, so that a notebook may hand over its ``globals()``.

    Raises:
        ParameterError: for a value that does not fit.
        tts.models.hub.ModelError: for a model that does not exist.
        tts.tasks.problems.ProblemError: for a problem set that cannot be read.
    """
    defaults = declared(notebook)
    check_kinds(notebook, values)
    for name in defaults:
        if name in _NAMED:
            _NAMED[name](values[name])
    own = {name: values[name] for name in defaults if name in Grid.model_fields}
    if "n" in defaults:  # one budget, one problem
        own |= {"problems": {"pocket-main": 1}, "samples": values["n"], "budgets": [values["n"]]}
    if own:
        grid_of(**own)
    if "long_policies" in defaults and (long := len(values["long_policies"])) != (plain := len(values["policies"])):
        raise ParameterError(f"long_policies must be as many as policies, in the same order; given {long} and {plain}")


def check_kinds(notebook: str, values: Mapping[str, object]) -> None:
    """Refuses values of another kind than the declared defaults'; looks nothing up. Arguments as of :func:`check`.

    Raises:
        ParameterError: for a value that does not fit.
    """
    for name, default in declared(notebook).items():
        if name == "look":
            check_look(values[name])
        else:
            _check_kind(name, values[name], default)


def check_look(look: object) -> None:
    """Refuses a look of figures before anything is generated for them.

    Raises:
        ParameterError: for a field that is unknown or does not fit.
    """
    if not isinstance(look, dict):
        raise ParameterError(f"look must be a mapping with {', '.join(Look.model_fields)}; given {look!r:.120}")
    try:
        Look.model_validate(look)
    except ValidationError as error:
        raise ParameterError(f"look: {explain(error, Look)}") from None


def _check_kind(name: str, value: object, default: object) -> None:
    """The default's type, down to the elements of lists and mappings."""
    if isinstance(default, (list, dict)):
        if not isinstance(value, type(default)):
            kind = "list" if isinstance(default, list) else "mapping"
            raise ParameterError(f"{name} must be a {kind}, like {default}; given {value!r:.120}")
        inner = next(iter(default.values() if isinstance(default, dict) else default), "")
        for element in value.values() if isinstance(value, dict) else value:
            _check_kind(f"an element of {name}", element, inner)
        if isinstance(value, dict):
            for key in value:
                _check_kind(f"a key of {name}", key, "")
        return
    kinds = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    fits = isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        raise ParameterError(f"{name} must be {kinds[type(default)]}{f', like {default}' if default != '' else ''}; given {value!r:.120}")


def _policies(names: list[str]) -> None:
    for name in names:
        check_policy(name)


def _prms(names: list[str]) -> None:
    for name in names:
        family_of(name)


def _long_cot(pairs: dict[str, str]) -> None:
    _policies([*pairs, *pairs.values()])


def _explored(sets: dict[str, int]) -> None:
    for name, count in sets.items():
        problem_rows(name, count)


def _method(name: str) -> None:
    if name not in compared():
        raise ParameterError(f"unknown method {name!r}; choose from {', '.join(compared())}")


def _models(names: list[str]) -> None:
    if unknown := [name for name in names if name not in (*POLICIES, *PRMS)]:
        raise ParameterError(f"no recipe named {', '.join(unknown)}; there are {', '.join([*POLICIES, *PRMS])}")


def _at_least_one(name: str) -> Callable[[int], None]:
    def checked(value: int) -> None:
        if value < 1:
            raise ParameterError(f"{name} must be at least 1; given {value}")

    return checked


def _not_blank(name: str) -> Callable[[str], None]:
    def checked(value: str) -> None:
        if not value.strip():
            raise ParameterError(f"{name} must not be empty")

    return checked


# What is checked of a parameter beside its kind; those of a grid are checked by the grid.
_NAMED: dict[str, Callable] = {
    "policies": _policies,
    "prms": _prms,
    "long_policies": _policies,
    "more_policies": _policies,
    "searchers": _policies,
    "more_prms": _prms,
    "search_prms": _prms,
    "dials": _prms,
    "weak_prm": lambda name: _prms([name]),
    "long_cot": _long_cot,
    "explored": _explored,
    "method": _method,
    "names": _models,
    **{name: _at_least_one(name) for name in ("n", "peek", "difficulty_samples", "long_samples")},
    **{name: _not_blank(name) for name in ("problem", "answer", "store", "figures", "output", "scratch")},
}
