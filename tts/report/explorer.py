"""Recorded searches for notebooks: their tables, coloured solutions, and a view to pick a problem and a method and to step through."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets
import jinja2
from IPython.display import HTML
from matplotlib.figure import Figure

from tts.analysis.search_losses import STATES, WON, Followed, at_step, follow, last_right
from tts.generate import recorded
from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.report import search_tree
from tts.report.search_tree import RIGHT, shade
from tts.search.registry import method_of

Search = Callable[[str, str, str], Followed]  # of a problem, its answer and a method
_HTML: Any = (
    jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("search.html.j2").module
)


def coloured(steps: Sequence[str], scores: Sequence[float], threshold: float, first_error: int, title: str) -> HTML:
    """A solution, each step on the colour of its score, in bold below ``threshold``; ``first_error``: its wrong step, -1 for none."""
    return HTML(_HTML.solution(zip(steps, scores), threshold, first_error, title, shade))


def searches(grid: Grid, engines: Engines, n: int) -> Search:
    """Runs the search of a problem, its answer and a method when it is asked for, each once, with the grid's first policy and PRM."""
    return cache(lambda problem, answer, method: follow(grid, recorded.search(grid, engines, problem, method, n), problem, answer, method))


def telling(searches: Sequence[Followed]) -> Followed:
    """The search to show as an example: the first that pruned the last right step, else the first that lost it, else the first."""
    return min(searches, key=lambda search: {"pruned": 0, "found": 2}.get(search.loss.kind, 1))


def page(followed: Followed, step: int) -> str:
    """The candidates of a step, from 1, as an HTML table; what won a place is bold, the states are explained below."""
    rows, lost = at_step(followed.steps, step), set() if followed.loss.kind == "found" else last_right(followed.steps)
    states = {state: meaning for state, meaning in STATES.items() if (rows["state"] == state).any()}
    return _HTML.page(list(rows.itertuples()), lost, states, WON, shade, RIGHT)


def whole(followed: Followed) -> str:
    """A search as HTML that needs no kernel: its verdict, its tree, and the :func:`page` of each step, which opens by a click."""
    pages = [page(followed, step) for step in range(1, followed.depth + 1)]
    return _HTML.whole(followed, method_of(followed.method).label, b64encode(tree(followed, followed.depth)).decode(), pages)


def tree(followed: Followed, step: int) -> bytes:
    """The search's tree up to a step as a PNG, what is right so far ringed in purple."""
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    right = followed.steps[followed.steps["right"].eq(True)]["path"]
    ringed = {tuple(map(int, path.split("."))) for path in right}
    label = method_of(followed.method).label
    search_tree.draw(search_tree.rows({label: (followed.nodes, followed.selected)}), figure.subplots(), label, until=step, ringed=ringed)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=200, bbox_inches=figure.bbox_inches)
    return png.getvalue()


class Explorer:
    """A widget, ``view``: menus of problems (text, right answer) and methods, a slider over steps, a step's candidates and tree.

    Where there is no kernel, :func:`whole` of an ``example`` stands in its place.
    """

    def __init__(self, search: Search, problems: Sequence[tuple[str, str]], methods: Sequence[str], example: Followed):
        self.search, self.example = search, example
        texts = [(text[:80], (text, gold)) for text, gold in problems]
        self.problem = ipywidgets.Dropdown(description="problem", options=texts, layout={"width": "460px"})
        self.method = ipywidgets.Dropdown(description="method", options=[(method_of(name).label, name) for name in methods])
        self.step = ipywidgets.IntSlider(description="step", min=1, max=1, value=1)
        self.lost = ipywidgets.Button(description="where it was lost", icon="search")
        self.verdict, self.table, self.tree = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.Image(format="png", width=420)
        choice, moves = ipywidgets.HBox([self.problem, self.method]), ipywidgets.HBox([self.step, self.lost])
        below = ipywidgets.HBox([self.table, self.tree], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        self.view = ipywidgets.VBox([choice, moves, self.verdict, below])
        self.problem.observe(lambda _: self._load(), "value")
        self.method.observe(lambda _: self._load(), "value")
        self.step.observe(lambda _: self._show(), "value")
        self.lost.on_click(lambda _: self.step.set_trait("value", self.followed.loss.step))
        self._load()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return self.view._repr_mimebundle_() | {"text/html": whole(self.example)}

    def _load(self) -> None:
        """Runs the chosen search and goes to its first step."""
        self.verdict.value = "searching ..."
        text, answer = self.problem.value
        self.followed = self.search(text, answer, self.method.value)
        self.lost.disabled = self.followed.loss.step is None
        with self.step.hold_trait_notifications():
            self.step.max, self.step.value = self.followed.depth, 1
        self._show()

    def _show(self) -> None:
        found, step = self.followed, self.step.value
        self.verdict.value, self.table.value, self.tree.value = _HTML.verdict(found), page(found, step), tree(found, step)
