"""The drawing of one problem's search as a tree (Fig 2)."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tts.search.base import Candidate

RIGHT = "#AA3377"  # what is right; neither on the scale of the scores nor a method's colour


def shade(score: float) -> str:
    """The colour of a score on which black text can be read, red to blue; grey for NaN."""
    return "#dddddd" if np.isnan(score) else to_hex(colormaps["RdYlBu"](0.15 + 0.7 * score))


def side_by_side(trees: dict[str, tuple[Sequence[Candidate], Candidate | None]]) -> Figure:
    """Searches of one problem as trees beside each other: title -> every candidate, and the selected one."""
    figure, axes = plt.subplots(1, len(trees), figsize=(11, 4.2))
    for ax, (title, (nodes, selected)) in zip(axes, trees.items()):
        draw(nodes, selected, ax, title, colourbar=ax is axes[-1])
    return figure


def draw(
    nodes: Sequence[Candidate],
    selected: Candidate | None,
    ax: Axes,
    title: str,
    colourbar: bool = True,
    until: int | None = None,  # the last step to draw, everything in its final place
    ringed: Collection[tuple[int, ...]] = (),  # paths of the candidates that get a purple ring
) -> None:
    """A search as a tree: one dot per sampled step, coloured by its score, the selected solution's path in black."""
    written = {node.path: len(node.steps) for node in nodes}
    below: dict[tuple[int, ...], list[float]] = defaultdict(list)  # heights of a path's continuations
    height: dict[tuple[int, ...], float] = {}
    leaves = count()
    for path in sorted({(), *written}, reverse=True):  # continuations come before what they continue
        height[path] = float(np.mean(below[path])) if below[path] else float(next(leaves))
        below[path[:-1]].append(height[path])
    path = selected.path if selected else ()
    deepest = max((len(node.path) for node in nodes), default=1)
    nodes = [node for node in nodes if until is None or len(node.path) <= until]
    for node in nodes:
        depth = len(node.path)
        colour, width, order = ("black", 1.8, 2) if path[:depth] == node.path else ("0.75", 0.7, 1)
        ax.plot([depth - 1, depth], [height[node.path[:-1]], height[node.path]], color=colour, linewidth=width, zorder=order)

    def dots(some: Sequence[Candidate], **look: Any) -> PathCollection:
        return ax.scatter([len(n.path) for n in some], [height[n.path] for n in some], **look)

    dots([node for node in nodes if not node.scores], s=14, color="0.6", zorder=3)
    scored = [node for node in nodes if node.scores]
    # The lowest score among the steps that a node adds: one step in a search, all of them in a whole solution.
    scores = [min(n.scores[min(written.get(n.path[:-1], 0), len(n.scores) - 1) :]) for n in scored]
    edges = ["black" if n.status == "finished" else "none" for n in scored]
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
