"""The drawing of one search step by step: every distinct candidate with its text, its score and its state."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

from tts.analysis.search_losses import WON, at_step, last_right, lost
from tts.report.figure_files import drawing
from tts.report.figure_settings import COLUMN
from tts.report.search_tree import RIGHT, shade
from tts.report.style import GAP, TooSmall, place_legend, points, sized, width_of
from tts.tasks.extraction import boxed_answer

COLUMNS, ROWS, LINES = 8, 20, 2  # of the drawing, and of what a box shows below a step's operation
_STEP, _REST = 5.8, 5  # font sizes
_WIDTH, _HEIGHT = 0.86, 0.84  # of a box, in units of a column and a row
_LETTER = 0.602 / 72  # inches of a letter of DejaVu Sans Mono of one point


@drawing
def draw(rows: pd.DataFrame, title: str) -> Figure:
    """One column per step, the candidates that won a place on top, each column in the order of the scores.

    Equal siblings are drawn once, with their number. The title says where the right answer was lost, and the last right candidates then
    have a purple frame. Of long searches the first steps and candidates are drawn, and of a step what fits into its box.
    ``rows``: of :func:`tts.analysis.search_losses.candidate_steps`.
    """
    depth, loss = int(rows["step"].max()), lost(rows)
    missed = set() if loss.kind == "found" else last_right(rows)
    every = []
    for step in range(1, min(depth, COLUMNS) + 1):
        found = at_step(rows, step)
        merged = found["path"].map(found["into"].value_counts()).fillna(0).astype(int)
        every.append(found.assign(copies=1 + merged)[found["state"] != "merged"])
    columns = [column[(np.arange(len(column)) < ROWS) | column["path"].isin(missed)] for column in every]
    places = {row.path: (step, -place, row.copies) for step, column in enumerate(columns) for place, row in enumerate(column.itertuples())}
    figure, ax = plt.subplots(figsize=(2 * COLUMN + GAP, 1))
    wide, room = (_WIDTH * w / max(len(columns), 4) / points(_LETTER) for w in (figure.get_figwidth(), width_of(figure)))  # letters of 1 pt
    texts = {row.path: _lines(row.text, room) for column in columns for row in column.itertuples()}
    if sized() and any(texts[row.path][0] != _lines(row.text, max(wide, room))[0] for column in columns for row in column.itertuples()):
        plt.close(figure)
        raise TooSmall("steps of the search do not fit into this size: choose a larger one, or a smaller font")
    lines = max(2, *map(len, texts.values()))
    height = max(len(column) for column in columns) + any(len(a) < len(b) for a, b in zip(columns, every))
    figure.set_figheight(points(0.085 * lines + 0.09) * height + points(0.8))
    for step, (column, complete) in enumerate(zip(columns, every)):
        for row in column.itertuples():
            x, y, _ = places[row.path]
            if parent := places.get(row.path.rpartition(".")[0]):
                colour, width = ("black", 1.2) if row.selected else ("0.55" if row.state in WON else "0.85", 0.6)
                start = parent[0] + _WIDTH / 2 + (0.1 if parent[2] > 1 else 0)  # past the number of copies
                ax.plot([start, x - _WIDTH / 2], [parent[1], y], color=colour, linewidth=width, zorder=2.8 if row.selected else 1)
            _box(row, x, y, row.path in missed, texts[row.path], lines, ax)
        ax.text(step, 0.75, f"step {step + 1}" + (" ..." if step + 1 == COLUMNS < depth else ""), ha="center", va="bottom")
        if len(column) < len(complete):
            text = f"and {len(complete) - len(column)} more"
            ax.text(step, -len(column), text, ha="center", va="center", fontsize=points(_REST), color="0.4")
    ax.set(xlim=(-0.5, max(len(columns), 4) - 0.5), ylim=(-height + 0.4, 1.2))
    ax.axis("off")
    ax.set_title(f"{title}\n{loss}", parse_math=False)  # a problem's LaTeX need not be what matplotlib can set
    place_legend(figure, _legend(bool(missed)), 5)
    return figure


def _box(row, x: int, y: int, lost: bool, texts: list[str], lines: int, ax: Axes) -> None:
    edge, width = (RIGHT, 1.8) if lost else ("black", 0.9) if row.state in WON else ("0.7", 0.4)
    style = "round,pad=0,rounding_size=0.12" if row.state == "finished" else "square,pad=0"
    colour, line = ("black", "-") if row.state in WON or lost else ("0.25", ":")
    frame = {"edgecolor": edge, "linewidth": width, "linestyle": line, "facecolor": shade(row.score), "mutation_aspect": 3, "zorder": 3}
    ax.add_patch(FancyBboxPatch((x - _WIDTH / 2, y - _HEIGHT / 2), _WIDTH, _HEIGHT, boxstyle=style, **frame))
    mark = {True: "✓", False: "✗"}.get(row.right, " ")
    score = "" if pd.isna(row.score) else f"{row.score:.2f}"
    look = {"va": "center_baseline", "zorder": 4}
    heights = y + _HEIGHT * ((lines - 1) / 2 - np.arange(lines)) / (lines + 0.4)
    for number, (text, at) in enumerate(zip([f"{mark} {texts[0]}", *texts[1:]], heights)):
        size = points(_REST if number else _STEP)
        ax.text(x - _WIDTH / 2 + 0.02, at, text, fontsize=size, family="monospace", color=colour, parse_math=False, **look)
    ax.text(x + _WIDTH / 2 - 0.05, heights[-1], score, ha="right", fontsize=points(_REST), color=colour, **look)
    if row.copies > 1:
        ax.text(x + _WIDTH / 2 + 0.01, y, f"×{row.copies}", fontsize=points(_REST), color="0.4", **look)


def _lines(text: str, room: float) -> list[str]:
    """A step in lines that a box has room for: of a terse one the operation, then the rest of the expression; of a last one the answer."""
    answer = boxed_answer(text)
    if answer is not None and text.startswith("\\boxed"):
        text = f"answer {answer}"
    operation, _, rest = text.replace("\n", " ").partition(";")
    longest, letters = int(room / _STEP) - 3, int(room / _REST) - 1  # beside the mark
    lines, rest = [operation[:longest] or "(end)"], operation[longest:] + rest
    if len(rest) > (most := LINES * letters - 5):  # the last line has the score beside it
        rest = rest[: most - 1] + "…"
    size = -(-(len(rest) + 5) // -(-(len(rest) + 5) // letters))  # even lines, none of a bracket alone
    return lines + [rest[at : at + size] for at in range(0, len(rest), size)]


def _legend(lost: bool) -> dict:
    return {
        "kept or finished": Patch(facecolor="white", edgecolor="black", linewidth=0.9),
        "pruned or cut off": Patch(facecolor="white", edgecolor="0.7", linewidth=0.6, linestyle=":"),
        **({"the last right step": Patch(facecolor="white", edgecolor=RIGHT, linewidth=1.8)} if lost else {}),
        "way to the answer": Line2D([], [], color="black", linewidth=1.2),
        "right so far": Line2D([], [], linestyle="none", marker="$✓$", color="black"),
        "wrong": Line2D([], [], linestyle="none", marker="$✗$", color="black"),
        "n equal siblings": Line2D([], [], linestyle="none", marker="$×n$", markersize=10, color="0.4"),
        **{f"PRM score {score:g}": Patch(facecolor=shade(score)) for score in (0, 0.5, 1)},
    }
