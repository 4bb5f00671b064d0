"""The drawing of one search step by step: every distinct candidate with its text, its score and its state."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

from tts.analysis.search_losses import WON, Followed, at_step, last_right
from tts.report.search_tree import RIGHT, shade
from tts.tasks.extraction import boxed_answer

COLUMNS, ROWS = 8, 20
_INCHES, _FONT, _SMALL = 6.85, 5.0, 4.2  # two columns of a paper; points
_WIDTH, _HEIGHT = 0.8, 0.76  # of a box, in units of a column and a row
_LETTER = 0.602 * _FONT / 72  # inches, of DejaVu Sans Mono


def draw(followed: Followed, title: str) -> Figure:
    """One column per step, the candidates that won a place on top, each column in the order of the scores.

    Equal siblings are drawn once, with their number. The title says where the right answer was lost, and the last right candidates then
    have a purple frame. Of long searches the first steps and candidates are drawn, and of a step what fits into its box.
    """
    lost = set() if followed.loss.kind == "found" else last_right(followed.steps)
    every = []
    for step in range(1, min(followed.depth, COLUMNS) + 1):
        found = at_step(followed, step)
        merged = found["path"].map(found["into"].value_counts()).fillna(0).astype(int)
        every.append(found.assign(copies=1 + merged)[found["state"] != "merged"])
    columns = [column[(np.arange(len(column)) < ROWS) | column["path"].isin(lost)] for column in every]
    rows = max(len(column) for column in columns) + any(len(a) < len(b) for a, b in zip(columns, every))
    figure, ax = plt.subplots(figsize=(_INCHES, 0.165 * rows + 0.8), dpi=170)
    longest = int(_WIDTH * _INCHES / max(len(columns), 4) / _LETTER) - 7  # beside mark and score
    places = {row.path: (step, -place, row.copies) for step, column in enumerate(columns) for place, row in enumerate(column.itertuples())}
    for step, (column, complete) in enumerate(zip(columns, every)):
        for row in column.itertuples():
            x, y, _ = places[row.path]
            if parent := places.get(row.path.rpartition(".")[0]):
                colour, width = ("black", 1.2) if row.selected else ("0.55" if row.state in WON else "0.85", 0.6)
                start = parent[0] + _WIDTH / 2 + (0.1 if parent[2] > 1 else 0)  # past the number of copies
                ax.plot([start, x - _WIDTH / 2], [parent[1], y], color=colour, linewidth=width, zorder=2.8 if row.selected else 1)
            _box(row, x, y, row.path in lost, longest, ax)
        ax.text(step, 1.0, f"step {step + 1}" + (" ..." if step + 1 == COLUMNS < followed.depth else ""), ha="center", va="center")
        if len(column) < len(complete):
            ax.text(step, -len(column), f"and {len(complete) - len(column)} more", ha="center", va="center", fontsize=_FONT, color="0.4")
    ax.set(xlim=(-0.5, max(len(columns), 4) - 0.5), ylim=(-rows + 0.4, 1.5))
    ax.axis("off")
    ax.set_title(f"{title}: {followed.loss}", parse_math=False)  # a problem's LaTeX need not be what matplotlib can set
    figure.legend(handles=_legend(bool(lost)), loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=7, columnspacing=1.4)
    return figure


def _box(row, x: int, y: int, lost: bool, longest: int, ax: Axes) -> None:
    edge, width = (RIGHT, 1.8) if lost else ("black", 0.9) if row.state in WON else ("0.7", 0.4)
    style = "round,pad=0,rounding_size=0.12" if row.state == "finished" else "square,pad=0"
    colour, line = ("black", "-") if row.state in WON or lost else ("0.25", ":")
    frame = {"edgecolor": edge, "linewidth": width, "linestyle": line, "facecolor": shade(row.score), "mutation_aspect": 3, "zorder": 3}
    ax.add_patch(FancyBboxPatch((x - _WIDTH / 2, y - _HEIGHT / 2), _WIDTH, _HEIGHT, boxstyle=style, **frame))
    mark = {True: "✓", False: "✗"}.get(row.right, " ")
    score = "" if pd.isna(row.score) else f"{row.score:.2f}"
    shown, look = f"{mark} {_short(row.text, longest)}", {"va": "center_baseline", "zorder": 4}
    ax.text(x - _WIDTH / 2 + 0.02, y, shown, fontsize=_FONT, family="monospace", color=colour, parse_math=False, **look)
    ax.text(x + _WIDTH / 2 - 0.02, y, score, ha="right", fontsize=_FONT, color=colour, **look)
    if row.copies > 1:
        ax.text(x + _WIDTH / 2 + 0.01, y, f"×{row.copies}", fontsize=_SMALL, color="0.4", **look)


def _short(text: str, longest: int) -> str:
    """A step cut to a length; of a terse one the operation without the rest of the expression, of a last one the answer."""
    answer = boxed_answer(text)
    if answer is not None and text.startswith("\\boxed"):
        text = f"answer {answer}"
    operation, rest, _ = text.partition(";")
    return (operation or "(end)") + "…" * bool(rest) if len(operation) + len(rest) <= longest else operation[: longest - 1] + "…"


def _legend(lost: bool) -> list:
    return [
        Patch(facecolor="white", edgecolor="black", linewidth=0.9, label="kept or finished"),
        Patch(facecolor="white", edgecolor="0.7", linewidth=0.6, linestyle=":", label="pruned or cut off"),
        *([Patch(facecolor="white", edgecolor=RIGHT, linewidth=1.8, label="the last right step")] if lost else []),
        Line2D([], [], color="black", linewidth=1.2, label="way to the answer"),
        Line2D([], [], linestyle="none", marker="$✓$", color="black", label="right so far"),
        Line2D([], [], linestyle="none", marker="$✗$", color="black", label="wrong"),
    ]
