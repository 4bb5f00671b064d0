"""What a notebook holds: a validated grid, the store behind it, its results, and where its figures go."""

from __future__ import annotations

import importlib.metadata
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tts.analysis.accuracy import Results
from tts.common.files import replacing, write_text
from tts.common.paths import commit
from tts.generate import runner
from tts.generate.grid import grid_of
from tts.policies import check_policy
from tts.reward_models import family_of
from tts.store.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_VERSIONS = ("torch", "transformers", "matplotlib", "pandas")


class Experiment:
    """A grid with its store and figures.

    Args:
        store: folder of the trajectories.
        figures: folder that figures are written to.
        parameters: fields of :class:`tts.generate.grid.Grid`.

    Raises:
        tts.generate.grid.ParameterError: for an unknown or unfit parameter.
    """

    def __init__(self, store: str | Path = "../data/runs", figures: str | Path = "../figures", **parameters: object):
        self.grid = grid_of(**parameters)
        self.store = Store(store)
        self.figures = Path(figures)

    def variant(self, **changes: object) -> Experiment:
        """An experiment with other parameters, on the same store and figures."""
        return Experiment(self.store.folder, self.figures, **(self.grid.model_dump() | changes))

    def dialled(self, dials: list[str]) -> Experiment:
        """Exact step checkers with given error rates as PRMs, on few samples."""
        return self.variant(prms=dials, methods=["majority", "best_of_n", "dvts"], samples=16, budgets=[16])

    def thinking(self, policies: list[str], samples: int) -> Experiment:
        """Long-CoT policies on the same problems, at those budgets that fit their samples."""
        return self.variant(policies=policies, samples=samples, budgets=[n for n in self.grid.budgets if n <= samples])

    def once(self, policies: list[str]) -> Experiment:
        """Other policies, one sample a problem."""
        return self.variant(policies=policies, methods=["majority"], samples=1, budgets=[1])

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

    def fill(self) -> None:
        """Generates whatever the store lacks, with a progress bar."""
        runner.fill(self.grid, self.store)

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
