"""Recorded searches for notebooks: their tables, coloured solutions, and a view to pick a problem and a method and to step through."""

from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from io import BytesIO

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from tts.analysis.search_losses import STATES, WON, Followed, at_step, follow, last_right
from tts.generate import recorded
from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.report import search_tree
from tts.report.search_tree import RIGHT, shade
from tts.search.base import Candidate
from tts.search.driver import Outcome
from tts.search.registry import method_of
from tts.tasks import selection
from tts.tasks.grading import Grader

_CELL = "padding:0 6px;text-align:left;color:black;white-space:nowrap"


def summary(grid: Grid, outcomes: dict[str, Outcome], answer: str) -> pd.DataFrame:
    """One row per method: its answer, whether it is right, its score, and what it cost."""
    rows = []
    with Grader(task := grid.task) as grader:
        for method, outcome in outcomes.items():
            chosen = recorded.selected(grid, outcome)
            given = task.answer(chosen.text) if chosen else None
            score = selection.aggregates([chosen.scores], grid.aggregate)[0] if chosen and chosen.scores else np.nan
            finished = sum(c.status == "finished" for c in outcome.trajectories)
            rows.append((method, given, grader.right(answer, given), score, finished, outcome.policy_tokens, outcome.prm_tokens))
    return pd.DataFrame(rows, columns=["method", "answer", "right", "score", "finished", "policy tokens", "PRM tokens"])


def steps_table(candidate: Candidate) -> pd.DataFrame:
    """A solution's steps with their scores."""
    return pd.DataFrame({"step": candidate.steps, "score": candidate.scores})


def coloured(steps: Sequence[str], scores: Sequence[float], threshold: float, first_error: int, title: str) -> HTML:
    """A solution, each step on the colour of its score, in bold below ``threshold``; ``first_error``: its wrong step, -1 for none."""
    lines = [f"<b>{escape(title)}</b>"]
    for number, (step, score) in enumerate(zip(steps, scores)):
        shown = f"<b>{score:.2f}</b>" if score < threshold else f"{score:.2f}"
        mark = " &larr; the first wrong step" if number == first_error else ""
        lines.append(f'<span style="background:{shade(score)};color:black;padding:0 4px">{shown}</span> <code>{escape(step)}</code>{mark}')
    return HTML("<br>".join(lines))


def searches(grid: Grid, engines: Engines, n: int) -> Callable[[str, str, str], Followed]:
    """Runs the search of a problem, its answer and a method when it is asked for, each once, with the grid's first policy and PRM."""
    return cache(lambda problem, answer, method: follow(grid, recorded.search(grid, engines, problem, method, n), problem, answer, method))


def telling(searches: Sequence[Followed]) -> Followed:
    """The search to show as an example: the first that pruned the last right step, else the first that lost it, else the first."""
    return min(searches, key=lambda search: {"pruned": 0, "found": 2}.get(search.loss.kind, 1))


def page(followed: Followed, step: int) -> str:
    """The candidates of a step, from 1, as an HTML table; what won a place is bold, the states are explained below."""
    rows, lost = at_step(followed.steps, step), set() if followed.loss.kind == "found" else last_right(followed.steps)
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in ("sample", "score", "step", "so far", "state"))
    lines = [_line(row, row.path in lost) for row in rows.itertuples()]
    states = "<br>".join(f"{state}: {meaning}" for state, meaning in STATES.items() if (rows["state"] == state).any())
    caption = f'<caption style="caption-side:bottom;text-align:left;padding:6px;color:#555">{states}</caption>'
    style = "border-collapse:collapse;background:white;line-height:1.45"
    return f'<table style="{style}">{caption}\n<tr>{head}</tr>\n' + "\n".join(lines) + "\n</table>"


def _line(row, lost: bool) -> str:
    state = f"merged with {row.into}" if row.into else row.state
    state += ", leads to the answer" * row.selected + ", <b>the last right step</b>" * lost
    so_far = {True: "right", False: "wrong"}.get(row.right, "not known")
    score, colour = ("", "") if pd.isna(row.score) else (f"{row.score:.2f}", f";background:{shade(row.score)};color:black")
    style = "font-weight:bold" if row.state in WON else "color:#555"
    cells = (row.path, score, f"<code>{escape(row.text) or '(end)'}</code>", so_far, state)
    shown = "".join(f'<td style="{_CELL};{style}{colour if at == 1 else ""}">{cell}</td>' for at, cell in enumerate(cells))
    return f'<tr style="outline:{f"2px solid {RIGHT}" if lost else "none"}">{shown}</tr>'


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
    """A widget, ``view``: menus of problems (text, right answer) and methods, a slider over steps, a step's candidates and tree."""

    def __init__(self, search: Callable[[str, str, str], Followed], problems: Sequence[tuple[str, str]], methods: Sequence[str]):
        self.search = search
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
        given = "no answer" if found.given is None else f"answer {escape(found.given)}"
        self.verdict.value = f"{given}, right is {escape(found.answer)}: <b>{escape(str(found.loss))}</b>"
        self.table.value, self.tree.value = page(found, step), tree(found, step)
