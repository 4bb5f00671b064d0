"""What a notebook holds: a validated grid, the store behind it, its results, and where its figures go."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts.analysis import committed, difficulty
from tts.analysis.accuracy import Results
from tts.common.files import write_text
from tts.common.paths import NOTEBOOKS, commit
from tts.generate import labelled, runner
from tts.generate.grid import Grid, ParameterError, grid_of
from tts.reward_models import DIAL, can_score, family_of
from tts.store.imported import is_imported
from tts.store.store import Store
from tts.study import parameters
from tts.tasks import task_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from tts.analysis.evidence import Evidence
    from tts.analysis.stats import Interval
    from tts.claims.finding import Finding


class Experiment:
    """A grid, given by its fields, with a store of trajectories and a folder for figures; raises as :func:`tts.generate.grid.grid_of`."""

    notebook = ""  # the one that this process runs

    def __init__(self, store: str | Path = "../data/runs", figures: str | Path = "../figures/by-hand", **parameters: object):
        self.grid = grid_of(**parameters)
        self.store = Store(store)
        self.figures = Path(figures)
        self.further: dict[str, Experiment] = {}  # those that a notebook reads besides, by name
        self.left_out: list[str] = []  # a line for each further one that goes without some PRMs
        self.separate = 0  # separate samples a problem that tell its difficulty; 0 where they are not needed
        self.labelled: dict[str, str] = {}  # name of the set of labelled solutions by parameter
        # The first of each; the PRM is empty where there is none.
        self.problem_set, self.policy, self.prm = next(iter(self.grid.problems)), self.grid.policies[0], next(iter(self.grid.prms), "")
        self.n = max(self.grid.budgets)  # largest budget

    def variant(self, **changes: object) -> Experiment:
        """An experiment with other parameters, on the same store and figures."""
        return Experiment(self.store.folder, self.figures, **(self.grid.model_dump() | changes))

    def __str__(self) -> str:
        return "\n".join([runner.describe(self.grid, self.store), *self.left_out])

    def grids(self) -> list[Grid]:
        """What is generated: the grid, the further ones, and the separate samples that tell difficulties."""
        separate = difficulty.separate_grids(self.grid, self.separate) if self.separate else []
        return [self.grid, *(other.grid for other in self.further.values()), *separate]

    def fill(self) -> None:
        """Generates whatever the store lacks, of the further experiments too, with a progress bar."""
        first, *more = self.grids()
        runner.fill(first, self.store, *more)

    def pass_at_1(self, evidence: Evidence | None = None) -> dict[str, np.ndarray]:
        """Policy -> Pass@1 of each problem of the first set, ``(problems,)``, from samples that no method is judged on.

        Problems and policies are the experiment's, or those of ``evidence``.
        """
        grid = evidence.grid if evidence else self.grid
        return {p: difficulty.pass_at_1(grid, self.store, p, self.problem_set, self.separate) for p in grid.policies}

    def full_run(self) -> committed.Committed | None:
        """The committed outcomes of the grid, as :func:`tts.analysis.committed.committed` gives them; where there are none, says so."""
        found = committed.committed(self.grid)
        if found is None:
            print("no committed outcomes for these policies, PRMs and settings")
        return found

    @cached_property
    def results(self) -> Results:
        return Results(self.grid, self.store)

    def show(self, figure: Figure, name: str, rows: pd.DataFrame) -> None:
        """Writes a figure of ``rows`` as five files, see :func:`tts.report.figure_files.save`, and displays its PNG."""
        from IPython.display import Image, display

        from tts.report import figure_files  # matplotlib takes a second to import, and is not needed to plan or to fill

        figure_files.save(figure, self.figures, name, rows, self.provenance())
        display(Image(filename=self.figures / f"{name}.png", retina=True))  # what was written: it is not drawn once more

    def plot(
        self, name: str, rows: pd.DataFrame, draw: Callable[..., object], *arguments: object, size: tuple[float, float], **labels: str
    ):
        """Shows a figure of one panel as :meth:`show` does; the arguments are those of :func:`tts.report.figure_files.on_axes`."""
        from tts.report import figure_files

        self.show(figure_files.on_axes(rows, draw, *arguments, size=size, **labels), name, rows)

    def claims(self, *names: str, evidence: Evidence | None = None, **roles: object) -> dict[str, Finding | str]:
        """Claims of the ledger by their identifiers: statement -> contrast of this run, or of evidence, or why it is not tested.

        ``roles``: as in :class:`tts.claims.scope.Roles`; by default every policy searches, and the last PRM is the good one.
        """
        from tts.claims import checks, findings

        grid, evidence, ledger = self.grid, evidence or self.results, findings.read()
        if not grid.prms:
            return {ledger.claims[name].statement: "this run has no PRM" for name in names}
        played = {"policies": grid.policies, "searchers": grid.policies, "prms": grid.prms, "good_prm": grid.prms[-1]}
        scope = findings.scope(ledger, findings.Roles(problem_sets=[self.problem_set], **(played | roles)), [evidence], n=self.n)
        scope = scope.changed(pass_at_1={(self.problem_set, p): v for p, v in self.pass_at_1(evidence).items()}) if self.separate else scope
        found: dict[str, Finding | str] = {}
        for claim in map(ledger.claims.__getitem__, names):
            try:
                found[claim.statement] = checks.CHECKS[claim.measured.check](scope, **claim.measured.parameters)
            except findings.NotTested as reason:
                found[claim.statement] = str(reason)
        return found

    def note(self, name: str, lines: list[str], claims: Mapping[str, np.ndarray | Interval | str] | None = None) -> None:
        """Shows which claims the run shows (:func:`.summaries.checked`); prints and keeps it, with the lines and the share of answers."""
        from tts.report import summaries

        checked = summaries.checked(claims or {})
        if claims:
            _display(checked)
        told = [f"{claim}? {answer}, {by}" for claim, answer, by in checked.itertuples(index=False)]
        limit = None if any(map(is_imported, self.grid.policies)) else self.grid.max_tokens
        lines = [*lines, *told, *summaries.answers(self.results.statuses(), limit)]
        text = "\n".join([f"{name}:", *(f"- {line}" for line in lines)])
        write_text(findings_of(name, self.figures), text + "\n")
        print(text)

    def show_problems(self, count: int = 3, policy: str = "", prm: str = "") -> None:
        """Fills, and shows problems in full (:func:`.samples.examples`) at the largest N, of the first policy and PRM or those given."""
        from tts.report import samples

        self.fill()
        policy, prm = policy or self.policy, prm or self.prm
        print(f"{policy}, scored by {prm or 'no PRM'}, N = {self.n}, rule {self.grid.rule}. {samples.CHOSEN}")
        for title, rows in samples.examples(self.results, self.problem_set, policy, prm, self.n, count):
            print(f"\n{title}")
            _display(rows)

    def provenance(self) -> dict:
        """Where results come from: parameters, labelled sets with their revisions, keys of the runs, notebook, versions, commit."""
        return {
            "parameters": self.grid.model_dump() | {name: labelled.source(value) for name, value in self.labelled.items()},
            "runs": [self.store.run(spec).key for spec in self.grid.specs()],
            "notebook": Experiment.notebook,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "matplotlib", "pandas")},
            "commit": commit(),
        }


def _display(rows: pd.DataFrame) -> None:
    """Shows a table of texts whole, without its index; what a model wrote in it is no formula."""
    import pandas as pd
    from IPython.display import display

    with pd.option_context("display.max_colwidth", None, "display.html.use_mathjax", False):
        display({"text/html": rows.to_html(index=False), "text/plain": "\n".join(map("  ".join, rows.itertuples(index=False)))}, raw=True)


def findings_of(notebook: str, figures: Path) -> Path:
    """The file with what a notebook found, in the folder of its figures."""
    return figures / f"findings-{notebook}.txt"


def experiment_of(notebook: str, values: Mapping[str, Any]) -> Experiment | None:
    """A notebook's experiment, given the value of every parameter, with the further ones that it reads; None where it has no grid.

    Relative folders of the store and of figures are taken from the notebooks' folder, wherever a notebook runs. There is no further
    experiment where a parameter of it is empty; budgets beyond its samples are left out, and so are methods of which imported data
    have nothing, and exact checkers where the problems' steps cannot be checked. Raises :class:`ParameterError` for values that do not fit.
    """
    declaration = parameters.declaration(notebook)
    fields = declaration.fields(values)
    if fields is None:
        return None
    store, figures = ((NOTEBOOKS / values[name]).resolve() for name in ("store", "figures"))
    found = Experiment(store, figures, **fields)
    found.labelled = {name: values[name] for name, kind in declaration.kinds.items() if kind == "labelled"}
    found.separate = parameters.resolved("samples", declaration.separate, values)
    for name, fields in declaration.further.items():
        changes = {field: parameters.resolved(field, value, values) for field, value in fields.items()}
        sets = changes.get("problems", found.grid.problems)
        tasks = {(task := task_of(one)).name: task for one in sets}
        if len(tasks) == 1 and (useless := [prm for prm in changes.get("prms", ()) if not can_score(prm, *tasks.values())]):
            changes["prms"], told = [prm for prm in changes["prms"] if prm not in useless], ", ".join(sets)
            why = f"since the steps of {told} cannot be checked" if family_of(useless[0])[0] == DIAL else f"no rule of {told}"
            found.left_out.append(f"{name}: without {', '.join(useless)}, {why}")
        if any(not changes.get(field, True) for field in ("problems", "policies", "prms", "methods")):
            continue
        if "samples" in changes:
            changes = {"budgets": [n for n in found.grid.budgets if n <= changes["samples"]]} | changes
        if "methods" in changes:
            whole = found.grid.model_copy(update=changes)
            changes["methods"] = whole.offered() or whole.methods
        try:
            found.further[name] = found.variant(**changes)
        except ParameterError as error:
            raise ParameterError(f"{', '.join(sorted(parameters.named(fields)))}: {error}") from None
    return found


def notebook(name: str, values: Mapping[str, Any]) -> Experiment | None:
    """A notebook's set-up, from its ``globals()``: checks its parameters, sets the look of figures, and prints what will run.

    Returns its experiment; None where it has no grid. Raises as :func:`tts.study.parameters.check` and :func:`experiment_of`.
    """
    parameters.check(name, values)
    Experiment.notebook = name
    found = experiment_of(name, values)
    if "look" in (declared := parameters.declaration(name).parameters):
        from tts.report import style

        style.use(**values["look"])
    if found and "problems" in declared:
        print(found, *(f"{title}: {experiment}" for title, experiment in found.further.items()), sep="\n")
    if "figures" in declared:
        print(f"figures go to {(NOTEBOOKS / values['figures']).resolve()}")
    return found
