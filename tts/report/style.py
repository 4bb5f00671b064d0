"""How figures look: widths of a paper's columns, font size and palette, set once at the head of a notebook."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.layout_engine import TightLayoutEngine
from matplotlib.transforms import Bbox

from tts.report.figure_settings import COLUMN, Look, colours

_BASE = Path(__file__).parent / "style.mplstyle"
GAP = 0.25  # inches between two columns
_CLOSE = 0.01  # inches by which a figure's width may miss its column's
_look = Look()


def use(**look: Any) -> None:
    """Sets the look of every figure that follows, by fields of :class:`Look`, whose errors it raises."""
    global _look
    _look = Look(**look)
    plt.style.use(_BASE)
    small = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), _look.font_size - 1)
    large = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "figure.titlesize"), _look.font_size)
    plt.rcParams.update(small | large | {"axes.prop_cycle": cycler(color=colours(_look.palette))})


def width_of(figure: Figure) -> float:
    """Inches that a saved figure is wide: one column, or two with the gap between them where it was laid out wider than one and a half."""
    return _look.column_width if figure.get_figwidth() <= 1.5 * COLUMN else 2 * _look.column_width + GAP


def fit(figure: Figure) -> None:
    """Makes a figure as wide as :func:`width_of` says; titles and labels that are too long for it are wrapped."""
    height = figure.get_figheight()
    width = target = width_of(figure)
    for ax in figure.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_wrap(True)
    for _ in range(3):  # what stands beside the axes is part of the width
        figure.set_size_inches(width, height * _look.column_width / COLUMN)  # tall enough for its panels to be read
        TightLayoutEngine().execute(figure)  # figure.tight_layout() leaves an engine behind, for which saving draws everything twice
        short = target - drawn(figure).width
        if abs(short) < _CLOSE:
            return
        width = max(width + short, target / 3)


def drawn(figure: Figure) -> Bbox:
    """What a saved figure shows, in inches: all that is drawn, and a margin; a figure that is given it is not drawn to find it."""
    return figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
