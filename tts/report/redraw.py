"""Figures and tables for a report from what a study left: no notebook is run and no model is opened."""

import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd

from tts.claims import wording

# Each registers its drawings.
from tts.common.files import write_text
from tts.common.names import printable, short
from tts.report import comparison_plots, figure_files, plots, real_models, search_steps, search_tree, style  # noqa: F401
from tts.search.registry import METHODS

SMALLEST, LARGEST = 1, 60  # inches of a figure's sides
WIDEST = 400  # mm of a width that is offered
UNITS = {"in": 1.0, "cm": 2.54, "mm": 25.4, "pt": 72.0}  # in an inch
MINUS = "\N{MINUS SIGN}"
LATEX = str.maketrans(  # what LaTeX would read as a command or as mathematics
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$"}
    | {MINUS: "$-$", "\N{DAGGER}": "\\dag{}", "\N{MULTIPLICATION SIGN}": "$\\times$", "\N{HORIZONTAL ELLIPSIS}": "\\ldots{}"}
)
IN_UNITS = {"estimate", "low", "high", "margin", "least", "most"}  # of a claim, whose unit is in its row
BEHIND = ["estimate", "low", "high", "unit", "bound"]  # the contrast of a claim tells them
NO_STUDY = "no figures in {}: run 'make reproduce' first, or give --figures FOLDER"
FORMATS = ("pdf", "pgf", "svg", "png", "eps")
LABELS = "problems policy prm panel series system kind bin strategy method".split()  # columns of a table of results, in their order
RESULTS = 12  # rows of such a table
CHOOSERS = ("panel", "scope", "size", "tree", "problems", "policy", "prm", "pair")  # columns that panels are chosen by, the first that fits


class FigureError(ValueError):
    """A figure, a panel, a column or a size that there is not."""


def inches(option: str, text: str) -> float | None:
    """A length as 84mm, 3.3in, 8.4cm or 240pt; None for an empty text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(in|cm|mm|pt)", text.strip())
    if text and not found:
        raise FigureError(f"{option} {text}: give a number with its unit, in, cm, mm or pt; say 3.3in or 84mm")
    length = float(found[1]) / UNITS[found[2]] if found else None
    if length is not None and not SMALLEST <= length <= LARGEST:
        raise FigureError(f"{option} {text}: give {SMALLEST:g} to {LARGEST:g} inches; 1 in is 25.4 mm or 72 pt")
    return length


def listed(folder: Path) -> list[str]:
    """A line for each figure in a folder: its name and what it shows."""
    if not (known := names(folder)):
        raise FigureError(NO_STUDY.format(folder))
    return [f"{name}: {figure_files.shows(name, load(folder, name)[1])['shows']}" for name in known]


def names(folder: Path) -> list[str]:
    """The figures in a folder, and the ledger where it is there."""
    return sorted(path.stem for path in folder.glob("*.csv") if path.with_suffix(".json").exists())


def load(folder: Path, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A figure's rows and origin, or the ledger's rows. Raises :class:`FigureError` where there is none of that name."""
    if name not in (known := names(folder)):
        near = ", ".join(get_close_matches(name, known, 3) or known)
        raise FigureError(f"no figure {name!r} in {folder}; did you mean {near}?" if near else NO_STUDY.format(folder))
    if name == "ledger":  # which is written without a figure
        return pd.read_csv(folder / "ledger.csv"), {}
    with unreadable(folder / name):
        rows, origin = figure_files.read(folder, name)
        figure_files.shows(name, origin)
    return rows, origin


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """What the files of a figure raise that were changed by hand, or damaged, becomes a :class:`FigureError`."""
    try:
        yield
    except (FigureError, style.TooSmall):
        raise
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError, ValueError, OSError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise FigureError(f"{path}.csv and .json cannot be drawn ({reason:.200}); run the notebook once more") from None


def write(path: Path, rows: pd.DataFrame, origin: dict[str, Any], look: dict[str, Any], formats: Sequence[str]) -> list[Path]:
    """Draws rows as their origin says in a look (fields of ``Look``); writes ``path`` with each format's ending and, as .txt, a caption.

    Raises :class:`FigureError` for a width that is too small, with the next that fits, in steps of 5 mm.
    """
    if path.name == "ledger":
        raise FigureError("ledger is a table: give --table latex or markdown; the figure of its verdicts is findings")
    style.use(**look)
    try:
        with unreadable(path):
            files = figure_files.picture(figure_files.draw_again(rows, origin), path, formats)
    except style.TooSmall as error:
        # One by one: a wider figure may have more ticks, whose labels overlap where those of a narrower one do not.
        for width in range(5 * math.ceil(5.08 * look["width"]), WIDEST, 5) if look.get("width") else ():
            if fits(rows, origin, look | {"width": width / UNITS["mm"]}):
                told = f"its labels do not fit into this width; take {width}mm, or a smaller font"
                raise FigureError(f"{path.name}: {told}") from error
        raise
    write_text(text := path.with_name(f"{path.name}.txt"), figure_files.caption(path.name, rows, origin) + "\n")
    return [*files, text]


def fits(rows: pd.DataFrame, origin: dict[str, Any], look: dict[str, Any]) -> bool:
    """Whether a figure in a look fits into its width."""
    style.use(**look)
    plt.close("all")
    with suppress(style.TooSmall):
        style.fit(figure_files.draw_again(rows, origin))
        return True
    return False


def chosen(rows: pd.DataFrame, panels: Sequence[str]) -> pd.DataFrame:
    """The rows of some panels, by problem set, policy, PRM or whatever tells panels apart; names may be as the figure shows them.

    Rows without a PRM belong to every PRM. Raises :class:`FigureError` for a panel that there is not.
    """
    shown: dict[
        str, dict[str, dict[str, None]]
    ] = {}  # column -> a name of a panel -> the values that have it, of which there may be several
    for column in (column for column in CHOOSERS if column in rows and pd.api.types.is_string_dtype(rows[column])):
        for value in filter(None, rows[column].dropna().unique()):
            for name in (style.in_words(value), short(value), value):
                shown.setdefault(column, {}).setdefault(name, {})[value] = None
    panels = [name for panel in panels for name in ([panel] if panel in chain(*shown.values()) else parts(panel))]  # it may hold commas
    for column, values in shown.items():
        if several := next((panel for panel in panels if len(values.get(panel, ())) > 1), ""):
            raise FigureError(f"panel {several!r} is the name of several: {', '.join(sorted(values[several]))}; give one of these")
        if wanted := {value for panel in panels for value in values.get(panel, ())}:
            rows, panels = rows[rows[column].isin([*wanted, ""])], [panel for panel in panels if panel not in values]
    if panels or rows.empty:
        known = ", ".join(dict.fromkeys(chain(*(chain(*values.values()) for values in shown.values())))) or "none to choose from"
        raise FigureError(f"no panel {', '.join(map(repr, panels)) or 'of all of these'}; there are {known}")
    return rows


def parts(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def check_formats(formats: list[str]) -> list[str]:
    """Refuses a format that is unknown, and pgf without TeX, which measures its texts, as :class:`FigureError`."""
    if unknown := [name for name in formats if name not in FORMATS] or not formats:
        raise FigureError(f"--format: {', '.join(unknown) if formats else 'nothing'} is unknown; give some of {', '.join(FORMATS)}")
    tex = next(filter(shutil.which, ("xelatex", "lualatex", "pdflatex")), None)
    if "pgf" in formats and tex is None:
        raise FigureError("--format pgf: texts are measured with TeX, and there is no xelatex, lualatex or pdflatex; take pdf or svg")
    matplotlib.rcParams["pgf.texsystem"] = tex or "xelatex"
    return formats


def table(rows: pd.DataFrame, kind: str, columns: Sequence[str], units: Mapping[str, str] = {}, **floating: str) -> str:  # noqa: B006
    """Rows as a table, ``kind`` latex (booktabs) or markdown: models and methods in words, numbers of a column with equal decimals.

    Shares in the columns ``units`` (column -> "%" or "points") are multiplied by 100. Rows of claims have the column contrast, as the
    ledger writes it, by default in the place of estimate, low and high. ``floating``: caption and label of LaTeX's environment table,
    without which it is a tabular. Raises :class:`FigureError` for a column that there is not.
    """
    if {"estimate", "unit", "bound"} <= {*rows}:
        rows = _claims(rows)
    if unknown := [column for column in columns if column not in rows]:
        raise FigureError(f"no column {', '.join(map(repr, unknown))}; there are {', '.join(map(str, rows.columns))}")
    rows = rows[list(columns)] if columns else rows.drop(columns=BEHIND if "contrast" in rows else []).dropna(axis=1, how="all")
    names = [column.replace("_", " ") + (f" ({units[column]})" if column in units else "") for column in rows]
    cells = pd.DataFrame({name: _cells(column, values, units.get(column)) for name, (column, values) in zip(names, rows.items())})
    numeric = [pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) for _, values in rows.items()]
    if kind == "latex":
        sides = "".join("r" if number else "l" for number in numeric)
        rows = cells.set_axis(cells.columns.str.translate(LATEX), axis=1).map(lambda cell: cell.translate(LATEX))
        return rows.to_latex(index=False, column_format=sides, **floating)
    body = [[text.replace("|", "\\|") for text in row] for row in ([*cells], *cells.to_numpy().tolist())]
    return "\n".join(f"| {' | '.join(row)} |" for row in (body[0], ["---:" if number else ":---" for number in numeric], *body[1:])) + "\n"


def printed(name: str, rows: pd.DataFrame, origin: dict[str, Any], kind: str, columns: Sequence[str]) -> str:
    """The :func:`table` of a figure's rows in the figure's units, as LaTeX with a caption of its own and the label ``tab:name``."""
    told = figure_files.caption(name, rows, origin, columns or [*rows]).translate(LATEX)
    floating = {"caption": told, "label": f"tab:{name}"} if kind == "latex" else {}
    return table(rows, kind, columns, figure_files.shows(name, origin).get("units", {}), **floating)


def results(folder: Path, notebook: str, since: float) -> str:
    """The accuracies that a notebook wrote, each at its largest N, as the first rows of a plain table; where there are more, by file.

    Models and problems that a figure's rows do not say are those of its caption. Left out are committed outcomes, and files from before
    ``since``, in seconds as :func:`time.time` has them, which are another run's. Empty where nothing is left.
    """
    held = {}
    written = {path: path.stat().st_mtime for name in names(folder) if (path := folder / f"{name}.csv").stat().st_mtime >= since}
    for path in sorted(written, key=written.__getitem__):
        rows, origin = load(folder, path.stem)
        if origin.get("notebook") == notebook and {"accuracy", "low"} <= {*rows} and "full run" not in str(origin.get("figure")):
            held[path.name] = rows.dropna(subset=["accuracy", "low"]), origin["parameters"], figure_files.shows(path.stem, origin)
    if not held:
        return ""
    (name, (rows, parameters, words)), *others = held.items()
    for column, field in (("problems", "problems"), ("policy", "policies"), ("prm", "prms")):
        if column not in rows and field in words.get("grid", ()):
            rows = rows.assign(**{column: ", ".join(map(short, parameters[field]))})
    labels = [column for column in LABELS if column in rows]
    if "n" in rows:
        rows = rows[rows["n"] == rows.groupby(labels, dropna=False)["n"].transform("max")]
    accuracies = [f"{100 * row.accuracy:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]" for row in rows.itertuples()]
    columns = [[c, *_cells(c, rows[c])][: RESULTS + 1] for c in [*labels, "n"] if c in rows] + [["accuracy (%)", *accuracies]]
    padded = (map(str.ljust, column, [max(map(len, column))] * len(column)) for column in columns)
    more = [f"{len(rows) - RESULTS} more rows in {name}"] * (len(rows) > RESULTS) + [f"more in {other}" for other, _ in others]
    return "\n".join(
        [
            f"{notebook}, {name}: {words['shows'].partition('. ')[0].rstrip('.')}",
            *("  ".join(line).rstrip() for line in zip(*padded)),
            *more,
        ]
    )


def _claims(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of claims with the column contrast, and with their numbers as texts in each row's unit."""
    known, texts = rows.assign(verdict=rows.get("verdict", "")).to_dict("records"), rows.copy()
    contrasts = [wording.formatted(row) if pd.notna(row["estimate"]) else "" for row in known]
    texts.insert(texts.columns.get_loc("estimate"), "contrast", contrasts)
    for column in IN_UNITS & {*rows}:
        texts[column] = [wording.in_unit(row, column) if pd.notna(row[column]) else "" for row in known]
    return texts.replace({column: {"-": MINUS, " %,": ","} for column in IN_UNITS & {*rows} | {"contrast"}}, regex=True)


def _cells(column: str, values: pd.Series, unit: str | None = None) -> list[str]:
    """A column as texts; empty where nothing is known."""
    how: Any = str
    if unit:
        form = "+.1f" if unit == "points" else ".1f"
        how = lambda value: format(100 * value, form).replace("-", MINUS)  # noqa: E731
    elif column in ("policy", "prm", "small", "large", "solver", "size"):
        how = style.in_words
    elif column in ("method", "best"):
        how = lambda name: METHODS[name].label if name in METHODS else name  # noqa: E731
    elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        largest, whole = values.abs().max(), (values.dropna() % 1 == 0).all()
        form = ".0f" if whole and largest < 1e7 else ".3f" if largest < 10 else ".1f" if largest < 1e5 else ".3g"
        how = lambda value: format(value, form).replace("-", MINUS)  # noqa: E731
    return ["" if pd.isna(value) or value == "" else " ".join(printable(how(value)).split()) for value in values]
