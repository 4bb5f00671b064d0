"""The search explorer: a view to pick a problem and a method and to step through the search, for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from tts.analysis.search_losses import STATES, WON, Followed, at_step, follow, last_right
from tts.generate import recorded
from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.report import explore, search_tree
from tts.report.search_tree import RIGHT
from tts.search.registry import method_of

_CELL = "padding:0 6px;text-align:left;color:black;white-space:nowrap"


class Searches:
    """Runs searches when they are asked for, each once, with the grid's first policy and PRM.

    Args:
        grid: parameters; its sampling, width, depth and selection rule apply.
        engines: the models.
        n: budget.
    """

    def __init__(self, grid: Grid, engines: Engines, n: int):
        self.grid, self.engines, self.n = grid, engines, n
        self._found: dict[tuple[str, str], Followed] = {}

    def __call__(self, problem: str, answer: str, method: str) -> Followed:
        """The search of a problem with a method, followed to where it lost the right answer."""
        if (problem, method) not in self._found:
            outcome = recorded.search(self.grid, self.engines, problem, method, self.n)
            self._found[problem, method] = follow(self.grid, outcome, problem, answer, method)
        return self._found[problem, method]


def telling(searches: Sequence[Followed]) -> Followed:
    """The search to show as an example: the first that pruned the last right step, else the first that lost it, else the first."""
    ranked = {"pruned": 0, "found": 2}
    return min(searches, key=lambda s: ranked.get(s.loss.kind, 1))


def page(followed: Followed, step: int) -> str:
    """The candidates of a step as an HTML table: score, text, right or wrong, state; what won a place in bold; the states explained.

    Args:
        followed: the search.
        step: from 1.
    """
    rows, lost = at_step(followed, step), set() if followed.loss.kind == "found" else last_right(followed.steps)
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in ("sample", "score", "step", "so far", "state"))
    lines = [_line(row, row.path in lost) for row in rows.itertuples()]
    states = "<br>".join(f"{state}: {meaning}" for state, meaning in STATES.items() if (rows["state"] == state).any())
    caption = f'<caption style="caption-side:bottom;text-align:left;padding:6px;color:#555">{states}</caption>'
    style = "border-collapse:collapse;background:white;line-height:1.45"
    return f'<table style="{style}">{caption}\n<tr>{head}</tr>\n' + "\n".join(lines) + "\n</table>"


def _line(row, lost: bool) -> str:
    state = f"merged with {row.into}" if row.into else row.state
    if row.selected:
        state += ", leads to the answer"
    if lost:
        state += ", <b>the last right step</b>"
    so_far = {True: "right", False: "wrong"}.get(row.right, "not known")
    score = "" if pd.isna(row.score) else f"{row.score:.2f}"
    text = f"<code>{escape(row.text) or '(end)'}</code>"
    style = "font-weight:bold" if row.state in WON else "color:#555"
    cells = [row.path, score, text, so_far, state]
    colours = ["", f";background:{explore.shade(row.score)};color:black" if score else "", "", "", ""]
    shown = "".join(f'<td style="{_CELL};{style}{colour}">{cell}</td>' for cell, colour in zip(cells, colours))
    return f'<tr style="outline:{f"2px solid {RIGHT}" if lost else "none"}">{shown}</tr>'


def tree(followed: Followed, step: int) -> bytes:
    """The search's tree up to a step as a PNG, what is right so far ringed in purple."""
    figure = Figure(figsize=(4.2, 3.8), layout="constrained")
    right = followed.steps[followed.steps["right"].eq(True)]["path"]
    ringed = {tuple(map(int, path.split("."))) for path in right}
    search_tree.draw(followed.nodes, followed.selected, figure.subplots(), method_of(followed.method).label, until=step, ringed=ringed)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=200, bbox_inches=figure.bbox_inches)
    return png.getvalue()


class Explorer:
    """The view: two menus, a step that goes back and forth, the step's candidates and the tree so far.

    Args:
        search: gives a problem's search, from its text, its answer and a method; see :class:`Searches`.
        problems: text and right answer of each.
        methods: to choose from.

    Attributes:
        view: the widget to display.
    """

    def __init__(self, search: Callable[[str, str, str], Followed], problems: Sequence[tuple[str, str]], methods: Sequence[str]):
        self.search = search
        wide = ipywidgets.Layout(width="460px")
        self.problem = ipywidgets.Dropdown(
            description="problem", options=[(text[:80], (text, gold)) for text, gold in problems], layout=wide
        )
        self.method = ipywidgets.Dropdown(description="method", options=[(method_of(name).label, name) for name in methods])
        self.step = ipywidgets.IntSlider(description="step", min=1, max=1, value=1)
        self.back = ipywidgets.Button(description="back", icon="arrow-left", layout=ipywidgets.Layout(width="90px"))
        self.on = ipywidgets.Button(description="on", icon="arrow-right", layout=ipywidgets.Layout(width="90px"))
        self.lost = ipywidgets.Button(description="where it was lost", icon="search")
        self.verdict, self.table, self.tree = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.Image(format="png", width=420)
        choice = ipywidgets.HBox([self.problem, self.method])
        moves = ipywidgets.HBox([self.step, self.back, self.on, self.lost])
        below = ipywidgets.HBox([self.table, self.tree], layout=ipywidgets.Layout(flex_flow="row wrap", align_items="flex-start"))
        self.view = ipywidgets.VBox([choice, moves, self.verdict, below])
        self.problem.observe(lambda _: self._load(), "value")
        self.method.observe(lambda _: self._load(), "value")
        self.step.observe(lambda _: self._show(), "value")
        self.back.on_click(lambda _: self._move(self.step.value - 1))
        self.on.on_click(lambda _: self._move(self.step.value + 1))
        self.lost.on_click(lambda _: self._move(self.followed.loss.step or 1))
        self._load()

    def _load(self) -> None:
        """Runs the chosen search and goes to its first step."""
        self.verdict.value = "searching ..."
        text, answer = self.problem.value
        self.followed = self.search(text, answer, self.method.value)
        self.lost.disabled = self.followed.loss.step is None
        with self.step.hold_trait_notifications():
            self.step.max, self.step.value = self.followed.depth, 1
        self._show()

    def _move(self, step: int) -> None:
        self.step.value = min(max(step, 1), self.step.max)

    def _show(self) -> None:
        found, step = self.followed, self.step.value
        given = "no answer" if found.given is None else f"answer {escape(found.given)}"
        self.verdict.value = f"{given}, right is {escape(found.answer)}: <b>{escape(str(found.loss))}</b>"
        self.back.disabled, self.on.disabled = step == 1, step == self.step.max
        self.table.value, self.tree.value = page(found, step), tree(found, step)
