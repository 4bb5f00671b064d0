"""What a notebook holds: a validated grid, the store behind it, its results, and where its figures go."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from pydantic import BaseModel, ValidationError

from tts.analysis.accuracy import Results
from tts.paths import ROOT
from tts.policies import check_policy
from tts.report import style
from tts.reward_models import family_of
from tts.runs import runner
from tts.runs.grid import Grid
from tts.runs.store import Store

_VERSIONS = ("torch", "transformers", "matplotlib", "pandas")


class ParameterError(ValueError):
    """Parameters that do not fit; the message names each of them."""


class Experiment:
    """A grid with its store and figures.

    Args:
        store: folder of the trajectories.
        figures: folder that figures are written to.
        parameters: fields of :class:`tts.runs.grid.Grid`.

    Raises:
        ParameterError: for an unknown or unfit parameter.
    """

    def __init__(self, store: str | Path = "../data/runs", figures: str | Path = "../figures", **parameters: object):
        try:
            self.grid = Grid(**parameters)
        except ValidationError as error:
            raise ParameterError(explain(error)) from None
        self.store = Store(store)
        self.figures = Path(figures)

    def variant(self, **changes: object) -> Experiment:
        """An experiment with other parameters, on the same store and figures."""
        return Experiment(self.store.folder, self.figures, **(self.grid.model_dump() | changes))

    def __str__(self) -> str:
        return runner.describe(self.grid, self.store)

    def check(self) -> None:
        """Finds every model and problem set, before anything is generated.

        Raises:
            tts.models.ModelError: for a policy or PRM that does not exist, or a PRM of no known family.
            tts.problems.ProblemError: for a problem set that cannot be read.
        """
        for name in self.grid.policies:
            check_policy(name)
        for name in self.grid.prms:
            family_of(name)
        for name in self.grid.problems:
            self.grid.chunks(name)

    def fill(self) -> None:
        """Generates whatever the store lacks, with a progress bar."""
        runner.fill(self.grid, self.store)

    @cached_property
    def results(self) -> Results:
        return Results(self.grid, self.store)

    def save(self, figure: Figure, name: str, rows: pd.DataFrame) -> list[Path]:
        """Writes a figure as four files: ``name.pdf``, ``.png``, ``.csv`` (the plotted rows), ``.json`` (its origin)."""
        style.fit(figure)
        self.figures.mkdir(parents=True, exist_ok=True)
        paths = [self.figures / f"{name}.{suffix}" for suffix in ("pdf", "png", "csv", "json")]
        figure.savefig(paths[0], metadata={"CreationDate": None})
        figure.savefig(paths[1])
        rows.to_csv(paths[2], index=False)
        paths[3].write_text(json.dumps(self.provenance(), indent=2) + "\n")
        return paths

    def note(self, name: str, lines: list[str]) -> None:
        """Prints what was found, and keeps it for the study's closing summary."""
        self.figures.mkdir(parents=True, exist_ok=True)
        text = "\n".join([f"{name}:", *(f"- {line}" for line in lines)])
        (self.figures / f"findings-{name}.txt").write_text(text + "\n")
        print(text)

    def provenance(self) -> dict:
        """Where results come from: parameters, keys of the runs, versions, commit."""
        return {
            "parameters": self.grid.model_dump(),
            "runs": [self.store.run(spec).key for spec in self.grid.specs()],
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
            "commit": commit(),
        }


def check_look(look: dict) -> None:
    """Refuses a look of figures before anything is generated for them.

    Raises:
        ParameterError: for a field that is unknown or does not fit.
    """
    if not isinstance(look, dict):
        raise ParameterError(f"look must be a mapping with {', '.join(style.Look.model_fields)}; given {look!r}")
    try:
        style.Look(**look)
    except ValidationError as error:
        raise ParameterError(explain(error, style.Look)) from None


def explain(error: ValidationError, model: type[BaseModel] = Grid) -> str:
    """A pydantic error as lines that say what is wrong, what was given and what is known."""
    lines = []
    for item in error.errors():
        where = ".".join(map(str, item["loc"])) or "parameters"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown parameter {where!r}; known: {', '.join(model.model_fields)}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')} (given: {item['input']!r:.120})")
    return "\n".join(lines)


def commit() -> str:
    """The checkout's commit, or ``unknown`` outside of one."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False)
    return found.stdout.strip() or "unknown"
