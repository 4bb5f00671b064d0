"""The drawing of one problem's search as a tree (Fig 2)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tts.report.figure_files import drawing
from tts.search.base import Candidate

RIGHT = "#AA3377"  # what is right; neither on the scale of the scores nor a method's colour


def shade(score: float) -> str:
    """The colour of a score on which black text can be read, red to blue; grey for NaN."""
    return "#dddddd" if np.isnan(score) else to_hex(colormaps["RdYlBu"](0.15 + 0.7 * score))


def rows(trees: Mapping[str, tuple[Sequence[Candidate], Candidate | None]]) -> pd.DataFrame:
    """Searches by title, each every candidate and the selected one, as a row per candidate: tree, path, the steps that it adds, score, …

    Its score is the lowest of those steps', of which there is one in a search and all in a whole solution. Columns status and selected.
    """
    rows = []
    for title, (nodes, selected) in trees.items():
        written, chosen = {node.path: len(node.steps) for node in nodes}, selected.path if selected else ()
        for node in nodes:
            added = written.get(node.path[:-1], 0)
            score = min(node.scores[min(added, len(node.scores) - 1) :]) if node.scores else np.nan
            place, steps = ".".join(map(str, node.path)), "\n\n".join(node.steps[added:])
            rows.append((title, place, steps, score, node.status, chosen[: len(node.path)] == node.path))
    return pd.DataFrame(rows, columns=["tree", "path", "step", "score", "status", "selected"])


@drawing
def side_by_side(rows: pd.DataFrame) -> Figure:
    """Searches of one problem as trees beside each other. ``rows``: of :func:`rows`."""
    trees = list(rows.groupby("tree", sort=False))
    figure, axes = plt.subplots(1, len(trees), figsize=(11, 4.2), squeeze=False)
    for ax, (title, nodes) in zip(axes[0], trees):
        draw(nodes, ax, str(title), colourbar=ax is axes[0, -1])
    return figure


def draw(
    rows: pd.DataFrame,
    ax: Axes,
    title: str,
    colourbar: bool = True,
    until: int | None = None,  # the last step to draw, everything in its final place
    ringed: Collection[tuple[int, ...]] = (),  # paths of the candidates that get a purple ring
) -> None:
    """A search as a tree, of :func:`rows`: one dot per sampled step, coloured by its score, the selected solution's path in black."""
    nodes = [row._replace(path=tuple(map(int, str(row.path).split(".")))) for row in rows.itertuples()]
    below: dict[tuple[int, ...], list[float]] = defaultdict(list)  # heights of a path's continuations
    height: dict[tuple[int, ...], float] = {}
    leaves = count()
    for path in sorted({(), *(node.path for node in nodes)}, reverse=True):  # continuations come before what they continue
        height[path] = float(np.mean(below[path])) if below[path] else float(next(leaves))
        below[path[:-1]].append(height[path])
    deepest = max((len(node.path) for node in nodes), default=1)
    nodes = [node for node in nodes if until is None or len(node.path) <= until]
    for node in nodes:
        depth = len(node.path)
        colour, width, order = ("black", 1.8, 2) if node.selected else ("0.75", 0.7, 1)
        ax.plot([depth - 1, depth], [height[node.path[:-1]], height[node.path]], color=colour, linewidth=width, zorder=order)

    def dots(some: Sequence[Any], **look: Any) -> PathCollection:
        return ax.scatter([len(n.path) for n in some], [height[n.path] for n in some], **look)

    dots([node for node in nodes if np.isnan(node.score)], s=14, color="0.6", zorder=3)
    scored = [node for node in nodes if not np.isnan(node.score)]
    scores, edges = [node.score for node in scored], ["black" if node.status == "finished" else "none" for node in scored]
    coloured = dots(scored, s=26, zorder=3, cmap="RdYlBu", vmin=0, vmax=1, c=scores, edgecolors=edges, linewidths=0.7)
    dots([node for node in nodes if node.path in ringed], s=70, facecolors="none", edgecolors=RIGHT, linewidths=1.2, zorder=4)
    if scored and colourbar:
        ax.figure.colorbar(coloured, ax=ax, label="PRM score of the step", fraction=0.04, pad=0.02)
    ax.scatter([0], [height[()]], s=20, color="black", zorder=3)
    ax.set(title=title, yticks=[], xlabel="step" if deepest > 1 else "whole solution")
    if until is not None:
        top = max(height.values())
        ax.set(xlim=(-0.3, deepest + 0.3), ylim=(-0.5 - 0.04 * top, 0.5 + 1.04 * top))
    ax.grid(visible=False)
    ax.xaxis.get_major_locator().set_params(integer=True)
