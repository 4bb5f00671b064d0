"""How figures look and what they share: fonts and palette, widths of a paper's columns, panels, legends, ticks, intervals."""

import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import TightLayoutEngine
from matplotlib.ticker import Formatter, LogFormatterSciNotation
from matplotlib.transforms import Bbox

from tts.common.names import short
from tts.models.files import POCKET_FOLDER, read_card
from tts.report.figure_settings import COLUMN, SIZE, Look, colours
from tts.reward_models import rules

_BASE = Path(__file__).parent / "style.mplstyle"
GAP = 0.25  # inches between two columns
_NARROWEST = 1.4  # inches of a panel in a figure of a chosen width
_CLOSE = 0.01  # inches by which a figure's width may miss its column's
UNDEFINED = "no interval: too few problems"
CELL = "cell"  # the label of a text in a table's cell, which may touch no other
NO_BREAK = "\N{NO-BREAK SPACE}"
RULES = "over rules: lowest to highest"
_look = Look()


class TooSmall(ValueError):
    """A figure does not fit into a chosen size."""


def use(**look: Any) -> None:
    """Sets the look of every figure that follows, by fields of :class:`Look`, whose errors it raises."""
    global _look
    _look = Look(**look)
    plt.style.use(_BASE)
    small = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), _look.font_size - 1)
    large = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "figure.titlesize"), _look.font_size)
    fonts: dict[str, Any] = {}
    if _look.font:  # signs that it lacks are taken from the second one
        mathematics = {
            f"mathtext.{kind}": _look.font + style for kind, style in (("rm", ""), ("it", ":italic"), ("bf", ":bold"), ("cal", ""))
        }
        fonts = {"font.family": [_look.font, "DejaVu Sans"], "mathtext.fontset": "custom"} | mathematics
    plt.rcParams.update(small | large | fonts | {"axes.prop_cycle": cycler(color=colours(_look.palette))})


def points(size: float) -> float:
    """A size in points of the font, given as where titles have 8, in proportion to the look's font."""
    return size * _look.font_size / SIZE


def sized() -> bool:
    """Whether the look has a size of whole figures, into which they have to fit."""
    return bool(_look.width or _look.height)


def width_of(figure: Figure) -> float:
    """Inches that a saved figure is wide: as the look says, else one column, or two with their gap if it is laid out over 1.5 wide."""
    return _look.width or (_look.column_width if figure.get_figwidth() <= 1.5 * COLUMN else 2 * _look.column_width + GAP)


def fit(figure: Figure) -> Bbox:
    """Makes a figure as wide as :func:`width_of` says, and as high as the look; titles and labels that are too long are wrapped.

    Returns what :func:`drawn` says of it then. Raises :class:`TooSmall` where its panels do not fit into a chosen size, or its titles,
    labels or cells then overlap.
    """
    target = np.array([width_of(figure), _look.height or np.nan])
    size = np.array([target[0], _look.height or figure.get_figheight() * (1 if _look.width else _look.column_width / COLUMN)])
    for ax in figure.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_wrap(text is not ax.title or "\n" not in text.get_text())  # which is wrapped already
    for _ in range(8 if sized() else 3):  # what stands beside the axes is part of the size
        figure.set_size_inches(*size)
        with warnings.catch_warnings(record=True) as said:  # of axes for which there is no room
            # figure.tight_layout() leaves an engine behind, for which saving draws everything twice; a rectangle takes a second round.
            TightLayoutEngine(rect=None).execute(figure)
        shown = drawn(figure)
        missing = np.nan_to_num(target - shown.size)
        if (np.abs(missing) < _CLOSE).all():
            break
        size = np.fmax(size + missing, target / 3)
    if sized() and (said or (missing < -5 * _CLOSE).any() or overlap(figure)):
        raise TooSmall("the figure's panels do not fit into this size: choose a larger one, fewer panels, or a smaller font")
    return shown


def overlap(figure: Figure) -> bool:
    """Whether two titles, axis labels, tick labels or texts of a table's cells overlap by more than a point."""
    texts = [figure._suptitle] if figure._suptitle else []  # type: ignore[attr-defined]
    for ax in filter(lambda ax: ax.axison, figure.axes):
        texts += [ax.title, ax.xaxis.label, ax.yaxis.label, *(text for text in ax.texts if text.get_label() == CELL)]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [label for label, at in zip(axis.get_ticklabels(), axis.get_ticklocs()) if low <= at <= high and label.get_visible()]
    boxes = np.array([text.get_window_extent().extents for text in texts if text.get_text().strip()]).reshape(-1, 4)
    shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    return bool((np.triu((shared > figure.dpi / 72).all(axis=-1), 1)).any())


def drawn(figure: Figure) -> Bbox:
    """What a saved figure shows, in inches: all that is drawn, and a margin; a figure that is given it is not drawn to find it."""
    return figure.get_tightbbox().padded(plt.rcParams["savefig.pad_inches"])


class Percent(Formatter):
    """Shares as per cent, with as many decimals as the ticks need to be told where they stand, the same for all of an axis."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        shares = 100 * np.asarray([*self.locs, value])
        decimals = next((d for d in range(6) if np.allclose(shares, shares.round(d), rtol=0, atol=1e-6)), 6)
        return f"{100 * value:.{decimals}f}%".replace("-", "\N{MINUS SIGN}")


def in_words(name: str) -> str:
    """A model as titles and legends name it: a policy by its size, a PRM with its F1 where its card has that, a rule with its oracle."""
    own = short(name)
    if name.startswith("policy-"):
        return re.sub(r"^(?:[a-z]+-)?(\d+[kMB])(-long)?$", lambda size: f"{size[1]} parameters" + " (long CoT)" * bool(size[2]), own)
    if not name.startswith(("prm-", "implicit:")):
        return own + rules.in_searches(name)
    results = read_card(POCKET_FOLDER / name.removeprefix("implicit:")).get("results", {})
    f1 = results.get("as implicit PRM", results).get("localisation F1")
    return (own if own.startswith("implicit ") else "PRM " + own).replace("implicit ", "implicit PRM ") + (
        f" (F1 {f1:.2f})" if f1 is not None else ""
    )


def percent(*axes: Axis) -> None:
    """Labels axes of shares in per cent."""
    for axis in axes:
        axis.set_major_formatter(Percent())


def say(text: str, ax: Axes) -> None:
    """Puts a text in the middle of axes on which nothing can be drawn."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)


def log_x(ax: Axes) -> None:
    """A logarithmic x whose minor ticks have labels only where it spans less than a decade."""
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(LogFormatterSciNotation(labelOnlyBase=False))


def panels(
    parts: Iterable[tuple[str, Any]],  # name of each panel, and what is drawn on its axes
    draw: Callable[[Any, Axes], object],
    labels: tuple[str, str],  # of x, at the lowest panels, and of y, at the left ones
    height: float,  # inches of a row, whose panels share their y axis
    columns: int | None = None,  # panels in a row at most, by default all; more than four are wrapped into rows of three
    title: str = "",
    share_x: bool = False,
    legend: int | None = 0,  # entries in a row of it, 0 for as many as fit; None for no legend
) -> Figure:
    """A figure of panels in rows, as wide as a paper's column where it has one column of panels, else as wide as two."""
    parts = list(parts)
    columns = min(columns or len(parts), len(parts))
    columns = columns if columns <= 4 else 3
    columns = min(columns, max(1, int(_look.width / _NARROWEST))) if _look.width else columns
    rows = -(-len(parts) // columns)
    width = COLUMN if columns == 1 else 2 * COLUMN + GAP
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, sharex=share_x, sharey="row")
    letters = int((width_of(figure) / columns - GAP) * 72 / (0.56 * _look.font_size))  # of a title in a line
    for place, (ax, (name, part)) in enumerate(zip(axes.flat, parts)):
        draw(part, ax)
        ax.set_title(in_lines(in_words(name), letters))
        if place + columns >= len(parts):
            ax.set_xlabel(labels[0])
            ax.tick_params(labelbottom=True)
    for ax in axes.flat[len(parts) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel(labels[1])
    if title:
        figure.suptitle(title, wrap=True)
    if legend is not None:
        legend_below(figure, axes, legend)
    return figure


def in_lines(title: str, letters: int) -> str:
    """A title in lines of so many letters at most, brackets whole; a line ends with each comma where that takes no line more."""
    if len(title) <= letters:
        return title
    whole = re.sub(r"\(.*?\)", lambda bracket: bracket[0].replace(" ", NO_BREAK), title)  # no place for textwrap to break a line
    wrap = partial(textwrap.wrap, width=letters, break_on_hyphens=False)
    plain, apart = wrap(whole), [line for part in re.split("(?<=,) ", whole) for line in wrap(part)]
    return "\n".join(apart if len(apart) <= len(plain) else plain).replace(NO_BREAK, " ")


def legend_below(figure: Figure, axes: Axes | np.ndarray, columns: int = 0) -> None:
    """Axes' legend under the figure, each label once, ``columns`` in a row at most: by default up to five if it is wide, else three."""
    handles: dict[str, Any] = {}
    for ax in np.ravel(np.asarray(axes)):
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    handles |= {label: handles.pop(label) for label in (RULES, UNDEFINED) if label in handles}  # last
    place_legend(figure, handles, columns or (len(handles) if len(handles) <= 5 and figure.get_figwidth() > 5 else 3))


def place_legend(figure: Figure, handles: dict[str, Any], columns: int) -> None:
    """A legend under the figure, in up to ``columns`` columns as its width allows; wider labels are wrapped. ``handles``: by label."""
    room, labels = width_of(figure), list(handles)
    for count in range(min(columns, len(handles)), -1, -1):
        legend = figure.legend(handles.values(), labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=max(count, 1))
        width = legend.get_window_extent(figure.canvas.get_renderer()).width / figure.dpi  # type: ignore[attr-defined]
        if width <= room or count == 0:
            return
        legend.remove()
        if count == 1:
            letters = int(0.8 * max(map(len, labels)) * room / width)
            labels = [textwrap.fill(label, max(letters, 1)) for label in labels]


def errors(rows: pd.DataFrame, ax: Axes, y: str = "accuracy") -> np.ndarray:
    """How far the 95 % intervals reach below and above, ``(2, rows)``; NaN where there is none, and the legend then says so."""
    low, high = rows["low"], rows["high"]
    unknown = ~(high > low) | ((low == 0) & (high == 1))  # as it is of too few problems
    if unknown.any():
        ax.plot([], [], " ", label=UNDEFINED)
    return np.where(unknown, np.nan, np.clip([rows[y] - low, high - rows[y]], 0, None))


def line(rows: pd.DataFrame, x: str, ax: Axes, y: str = "accuracy", band: float = 0.12, **style: Any) -> None:
    """A line of ``y`` over ``x`` with its 95 % band of opacity ``band``; a single point, where a band has no width, with a bar."""
    alone = len(rows) == 1
    [drawn] = ax.plot(rows[x], rows[y], **(style | {"marker": style.get("marker") or "_"} if alone else style))
    if alone:
        ax.errorbar(rows[x], rows[y], errors(rows, ax, y), color=drawn.get_color(), linestyle="none", elinewidth=0.8)
    elif band:
        known = ~np.isnan(errors(rows, ax, y)[0])
        ax.fill_between(rows[x], rows["low"], rows["high"], where=known, color=drawn.get_color(), alpha=band, linewidth=0)


def dashed_band(rows: pd.DataFrame, x: str, ax: Axes, colour: str) -> None:
    """A band from the column lowest to highest, told from an interval's by its edge; around a single point a narrow box."""
    sides = [0.97, 1.03] if len(rows) == 1 else [1.0]
    at, low, high = np.outer(rows[x], sides).ravel(), *(rows[name].repeat(len(sides)) for name in ("lowest", "highest"))
    edge: dict[str, Any] = {"linewidth": 0.6, "linestyle": (0, (2, 1.5))}
    ax.fill_between(at, low, high, facecolor=(colour, 0.06), edgecolor=colour, **edge)
    ax.fill_between([], [], facecolor=("0.4", 0.06), edgecolor="0.4", label=RULES, **edge)  # of no method's colour in the legend


def lines_over_budget(rows: pd.DataFrame, key: str, styles: dict[str, dict[str, Any]], ax: Axes, bars: bool = False) -> None:
    """One :func:`line` per value of ``key`` over the budget N; where all have but one and the same N, the points stand side by side.

    Rows with columns lowest and highest have a :func:`dashed_band` too. ``bars``: error bars beside each other in the place of bands,
    of which more than two mix their colours.
    ``styles``: value of ``key``, which is the default label, -> arguments of :func:`line`, in the legend's order.
    """
    held = [({"label": name} | style, part.sort_values("n")) for name, style in styles.items() if len(part := rows[rows[key] == name])]
    alone = len({n for _, part in held for n in part["n"]}) == 1
    over_budget(ax)
    for place, (style, part) in enumerate(held):
        beside = 2 ** ((0.12 if alone else 0.06) * (place - (len(held) - 1) / 2) * (alone or bars))
        if "lowest" in part and part["lowest"].notna().all():
            dashed_band(part.assign(n=part["n"] * beside) if alone else part, "n", ax, style["color"])
        part = part.assign(n=part["n"] * beside)
        line(part, "n", ax, **style | {"band": 0 if bars else style.get("band", 0.12)})
        if bars and len(part) > 1 and style.get("band", True):
            ax.errorbar(part["n"], part["accuracy"], errors(part, ax), color=style["color"], linestyle="none", elinewidth=0.7)
    if alone:
        n = held[0][1]["n"].iloc[0]
        ax.set_xticks([n])
        ax.set_xlim(n / 2, n * 2)


def over_budget(ax: Axes) -> None:
    """Scales axes of accuracy over the budget N."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    percent(ax.yaxis)


def bars(
    table: pd.DataFrame, x: str, key: str, styles: Mapping[str, tuple], ax: Axes, y: str = "accuracy", named: Callable[[str], str] = short
) -> None:
    """Bars of ``y`` with 95 % intervals in groups by ``x``, labelled by ``named``; ``styles``: value of ``key`` -> label and colour."""
    groups, width = list(table[x].unique()), 0.8 / max(len(styles), 1)
    for number, (name, (label, colour)) in enumerate(styles.items()):
        part = table[table[key] == name].set_index(x)
        place = np.array([groups.index(group) for group in part.index]) + (number - (len(styles) - 1) / 2) * width
        ax.bar(place, part[y], width, yerr=errors(part, ax, y), color=colour, label=label, error_kw={"elinewidth": 0.7})
    ax.set_xticks(range(len(groups)), map(named, groups))
    percent(ax.yaxis)
    ax.grid(axis="x", visible=False)
