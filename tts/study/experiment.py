"""What a notebook holds: a validated grid, the store behind it, its results, and where its figures go."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts.analysis import committed, difficulty
from tts.analysis.accuracy import Results
from tts.common.files import replacing, write_text
from tts.common.paths import NOTEBOOKS, commit
from tts.generate import runner
from tts.generate.grid import Grid, ParameterError, grid_of
from tts.policies import check_policy
from tts.reward_models import family_of
from tts.store.store import Store
from tts.study import parameters

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from tts.analysis.committed import Committed
    from tts.analysis.evidence import Evidence

_VERSIONS = ("torch", "transformers", "matplotlib", "pandas")


class Experiment:
    """A grid with its store and figures.

    Args:
        store: folder of the trajectories.
        figures: folder that figures are written to.
        parameters: fields of :class:`tts.generate.grid.Grid`.

    Attributes:
        further: by name, the experiments that a notebook reads besides.
        separate: separate samples a problem that tell its difficulty; 0 where they are not needed.

    Raises:
        tts.generate.grid.ParameterError: for an unknown or unfit parameter.
    """

    def __init__(self, store: str | Path = "../data/runs", figures: str | Path = "../figures", **parameters: object):
        self.grid = grid_of(**parameters)
        self.store = Store(store)
        self.figures = Path(figures)
        self.further: dict[str, Experiment] = {}
        self.separate = 0

    def variant(self, **changes: object) -> Experiment:
        """An experiment with other parameters, on the same store and figures."""
        return Experiment(self.store.folder, self.figures, **(self.grid.model_dump() | changes))

    @property
    def problem_set(self) -> str:
        """The first problem set."""
        return next(iter(self.grid.problems))

    @property
    def policy(self) -> str:
        """The first policy."""
        return self.grid.policies[0]

    @property
    def prm(self) -> str:
        """The first PRM; empty where there is none."""
        return next(iter(self.grid.prms), "")

    @property
    def n(self) -> int:
        """The largest budget."""
        return max(self.grid.budgets)

    def __str__(self) -> str:
        return runner.describe(self.grid, self.store)

    def check(self) -> None:
        """Finds every model and problem set, before anything is generated.

        Raises:
            tts.models.hub.ModelError: for a policy or PRM that does not exist, or a PRM of no known family.
            tts.tasks.problems.ProblemError: for a problem set that cannot be read.
        """
        for name in self.grid.policies:
            check_policy(name)
        for name in self.grid.prms:
            family_of(name)
        for name in self.grid.problems:
            self.grid.chunks(name)

    def grids(self) -> list[Grid]:
        """What is generated: the grid, the further ones, and the separate samples that tell difficulties."""
        separate = difficulty.separate_grids(self.grid, self.separate) if self.separate else []
        return [self.grid, *(other.grid for other in self.further.values()), *separate]

    def fill(self) -> None:
        """Generates whatever the store lacks, of the further experiments too, with a progress bar."""
        first, *more = self.grids()
        runner.fill(first, self.store, *more)

    def pass_at_1(self, evidence: Evidence | None = None) -> dict[str, np.ndarray]:
        """Per policy, Pass@1 of each problem of the first set, ``(problems,)``, from samples that no method is judged on.

        Args:
            evidence: outcomes whose problems and policies are meant; by default the experiment's own.
        """
        grid = evidence.grid if evidence else self.grid
        return {p: difficulty.pass_at_1(grid, self.store, p, self.problem_set, self.separate) for p in grid.policies}

    def full_run(self) -> Committed | None:
        """The committed outcomes of the grid, as :func:`tts.analysis.committed.committed` gives them; where there are none, says so."""
        found = committed.committed(self.grid)
        if found is None:
            print("no committed outcomes for these policies, PRMs and settings")
        return found

    @cached_property
    def results(self) -> Results:
        return Results(self.grid, self.store)

    def save(self, figure: Figure, name: str, rows: pd.DataFrame) -> list[Path]:
        """Writes a figure as four files: ``name.pdf``, ``.png``, ``.csv`` (the plotted rows), ``.json`` (its origin)."""
        from tts.report import style  # matplotlib, which takes a second to import, and is not needed to plan or to fill

        style.fit(figure)
        shown = style.drawn(figure)
        paths = [self.figures / f"{name}.{suffix}" for suffix in ("pdf", "png", "csv", "json")]
        for path in paths[:2]:
            with replacing(path) as temporary:
                dated = {"CreationDate": None} if path.suffix == ".pdf" else None
                figure.savefig(temporary, format=path.suffix[1:], bbox_inches=shown, metadata=dated)
        write_text(paths[2], rows.to_csv(index=False))
        write_text(paths[3], json.dumps(self.provenance(), indent=2) + "\n")
        return paths

    def show(self, figure: Figure, name: str, rows: pd.DataFrame) -> None:
        """Writes a figure as :meth:`save` does, and displays the very PNG that was written, so that it is not drawn once more."""
        import matplotlib.pyplot as plt
        from IPython.display import Image, display

        png = self.save(figure, name, rows)[1]
        plt.close(figure)
        display(Image(filename=png, retina=True))

    def plot(
        self, name: str, rows: pd.DataFrame, draw: Callable[..., object], *arguments: object, size: tuple[float, float], **labels: str
    ):
        """Draws rows on axes of their own, and shows the figure as :meth:`show` does.

        Args:
            name: name of its files.
            rows: what is plotted.
            draw: called with the rows, the further arguments and the axes.
            size: width and height in inches.
            labels: title and labels of the axes.
        """
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots(figsize=size)
        draw(rows, *arguments, ax)
        ax.set(**labels)
        self.show(figure, name, rows)

    def note(self, name: str, lines: list[str]) -> None:
        """Prints what was found, and keeps it for the study's closing summary."""
        text = "\n".join([f"{name}:", *(f"- {line}" for line in lines)])
        write_text(self.figures / f"findings-{name}.txt", text + "\n")
        print(text)

    def provenance(self) -> dict:
        """Where results come from: parameters, keys of the runs, versions, commit."""
        return {
            "parameters": self.grid.model_dump(),
            "runs": [self.store.run(spec).key for spec in self.grid.specs()],
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
            "commit": commit(),
        }


def experiment_of(notebook: str, values: Mapping[str, Any]) -> Experiment | None:
    """A notebook's experiment with the further ones that it reads; None where it has no grid.

    Relative folders of the store and of figures are taken from the notebooks' folder, wherever a notebook runs.

    Args:
        notebook: name of the notebook.
        values: value of every parameter, by name.

    Raises:
        tts.generate.grid.ParameterError: for values that do not fit.
    """
    declaration = parameters.declaration(notebook)
    fields = declaration.grid(values)
    if fields is None:
        return None
    store, figures = ((NOTEBOOKS / values[name]).resolve() for name in ("store", "figures"))
    found = Experiment(store, figures, **fields)
    for name, changes in declaration.further(found.grid, values).items():
        try:
            found.further[name] = found.variant(**changes)
        except ParameterError as error:
            raise ParameterError(f"{', '.join(declaration.given_to(name))}: {error}") from None
    found.separate = declaration.separate(values)
    return found


def notebook(name: str, values: Mapping[str, Any]) -> Experiment | None:
    """A notebook's set-up: checks its parameters, sets the look of figures, and prints what will run.

    Args:
        name: name of the notebook.
        values: its ``globals()``.

    Returns:
        Its experiment; None where it has no grid.

    Raises:
        tts.generate.grid.ParameterError: for a value that does not fit.
        tts.models.hub.ModelError: for a model that does not exist.
        tts.tasks.problems.ProblemError: for a problem set that cannot be read.
    """
    parameters.check(name, values)
    found = experiment_of(name, values)
    if "look" in parameters.declared(name):
        from tts.report import style

        style.use(**values["look"])
    if found and "problems" in parameters.declared(name):
        for title, experiment in {"": found, **found.further}.items():
            print(f"{title}: {experiment}" if title else experiment)
    return found
