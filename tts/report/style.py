"""How figures look: widths of a paper's columns, font size and palette, set once at the head of a notebook."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.layout_engine import TightLayoutEngine
from matplotlib.transforms import Bbox
from pydantic import BaseModel, ConfigDict, Field, field_validator

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_BASE = Path(__file__).parent / "style.mplstyle"
_COLUMN = 3.3  # inches, the column that figures are laid out for
_GAP = 0.25  # inches between two columns
_CLOSE = 0.01  # inches by which a figure's width may miss its column's


class Look(BaseModel):
    """The look of figures.

    Attributes:
        column_width: of a paper's column, in inches. A saved figure is as wide as one column, or as two with the gap between them.
        font_size: of titles and axis labels, in points; ticks and legends are one point smaller.
        palette: ``okabe-ito`` (safe for the colour-blind), or the name of a seaborn palette, say ``colorblind`` or ``tab10``.
    """

    model_config = ConfigDict(extra="forbid")

    column_width: float = Field(_COLUMN, ge=1, le=20)
    font_size: float = Field(8, ge=3, le=40)
    palette: str = "okabe-ito"

    @field_validator("palette")
    @classmethod
    def _known_palette(cls, value: str) -> str:
        try:
            count = len(_colours(value))
        except ValueError:
            raise ValueError("no such palette; choose okabe-ito or one of seaborn's, say colorblind, deep or tab10") from None
        if count < 6:
            raise ValueError(f"it has {count} colours, and the methods need six")
        return value


def _colours(palette: str) -> list[str]:
    if palette == "okabe-ito":
        return OKABE_ITO
    import seaborn as sns  # takes two seconds

    return list(sns.color_palette(palette).as_hex())


_look = Look()


def use(**look: object) -> None:
    """Sets the look of every figure that follows.

    Args:
        look: fields of :class:`Look`.

    Raises:
        pydantic.ValidationError: for a field that is unknown or does not fit.
    """
    global _look
    _look = Look(**look)
    plt.style.use(_BASE)
    small = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), _look.font_size - 1)
    large = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "figure.titlesize"), _look.font_size)
    plt.rcParams.update(small | large | {"axes.prop_cycle": cycler(color=_colours(_look.palette))})


def fit(figure: Figure) -> None:
    """Makes a figure as wide as a column, or as two where it was laid out wider than one and a half.

    Its height changes only with the column's width, so that panels stay tall enough to read.
    """
    width, height = figure.get_size_inches()
    target = _look.column_width if width <= 1.5 * _COLUMN else 2 * _look.column_width + _GAP
    width = target
    for _ in range(3):  # a legend is part of the width, and keeps its own
        figure.set_size_inches(width, height * _look.column_width / _COLUMN)
        TightLayoutEngine().execute(figure)  # figure.tight_layout() leaves an engine behind, for which saving draws everything twice
        short = target - drawn(figure).width
        if abs(short) < _CLOSE:
            return
        width = max(width + short, target / 3)


def drawn(figure: Figure) -> Bbox:
    """What a saved figure shows, in inches: all that is drawn, and a margin; a figure that is given it is not drawn to find it."""
    return figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])
