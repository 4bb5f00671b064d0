"""A figure's five files, written and read: PDF, PNG, the plotted rows as CSV, the origin as JSON, and a caption as text.

The origin says by which function and with which arguments the rows were drawn, so that :func:`draw_again` needs nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
import pandas as pd
import yaml
from matplotlib.figure import Figure

from tts.analysis import stats
from tts.common.files import replacing, write_text
from tts.report import style
from tts.tasks.selection import Rule

WORDS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("figures.yaml").read_text(encoding="utf-8"))
_DRAWINGS: dict[str, Callable[..., Any]] = {}
_RECIPES: WeakKeyDictionary[Figure, tuple[pd.DataFrame, dict[str, Any]]] = WeakKeyDictionary()  # the rows of a figure, and how


def drawing(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Registers a function that draws rows, its first argument, on axes, its last one, or gives a figure, which remembers how."""
    name = f"{draw.__module__.rpartition('.')[2]}.{draw.__name__}"

    @wraps(draw)
    def drawn(rows: pd.DataFrame, *arguments: Any, **named: Any) -> Any:
        made = draw(rows, *arguments, **named)
        if isinstance(made, Figure):
            _RECIPES[made] = rows, {"draw": name, "arguments": arguments, "named": named}
        return made

    _DRAWINGS[name] = drawn
    return drawn


def on_axes(rows: pd.DataFrame, draw: Callable[..., Any], *arguments: Any, size: tuple[float, float], **labels: str) -> Figure:
    """A figure of one panel, ``size`` in inches: ``draw`` takes rows, further arguments and axes; ``labels`` are the axes' texts."""
    figure, ax = plt.subplots(figsize=size)
    draw(rows, *arguments, ax)
    ax.set(**labels)  # type: ignore[call-arg]
    name = next((name for name, known in _DRAWINGS.items() if known is draw), "")
    _RECIPES[figure] = rows, {"draw": name, "arguments": arguments, "size": size, "named": labels}
    return figure


def save(figure: Figure, folder: Path, name: str, rows: pd.DataFrame, origin: dict[str, Any]) -> None:
    """Writes ``folder/name`` as .pdf, .png, .csv, .json and .txt, and closes the figure; ``ValueError`` if ``rows`` were not drawn."""
    drawn, recipe = _RECIPES.get(figure, (rows, {"draw": ""}))
    if not drawn.equals(rows):
        raise ValueError(f"{name}: the rows to be written are not those that {recipe['draw']} drew; give it these")
    text = [str(column) for column, values in rows.items() if pd.api.types.is_string_dtype(values)]  # where empty is no missing number
    origin = origin | {"figure": recipe | {"text": text}}
    picture(figure, folder / name, ("pdf", "png"))
    write_text(folder / f"{name}.csv", rows.to_csv(index=False))
    write_text(folder / f"{name}.json", json.dumps(origin, indent=2, default=float) + "\n")
    write_text(folder / f"{name}.txt", caption(name, rows, origin) + "\n")


def picture(figure: Figure, path: Path, formats: Sequence[str]) -> list[Path]:
    """Writes a figure in the look's size as ``path`` with each format's ending, and closes it."""
    shown, written = style.fit(figure), [path.with_name(f"{path.name}.{suffix}") for suffix in formats]
    for suffix, file in zip(formats, written):
        dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)  # equal figures are equal files
        with replacing(file) as temporary, plt.rc_context({"svg.hashsalt": path.name}):
            figure.savefig(temporary, format=suffix, bbox_inches=shown, metadata=dated)
    plt.close(figure)
    return written


def read(folder: Path, name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of a figure's CSV, as they were drawn, and its origin."""
    origin, file = json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), folder / f"{name}.csv"
    text = origin["figure"]["text"] if "figure" in origin else []
    missing = {column: [""] for column in pd.read_csv(file, nrows=0) if column not in text}
    types = dict.fromkeys(text, str)
    return pd.read_csv(file, dtype=types, keep_default_na=False, na_values=missing, float_precision="round_trip"), origin


def draw_again(rows: pd.DataFrame, origin: dict[str, Any]) -> Figure:
    """A figure of rows, as its origin says; raises ``ValueError`` where that names no function that is known."""
    recipe = origin.get("figure", {"draw": ""})
    if (draw := _DRAWINGS.get(recipe["draw"])) is None:
        how = f"by {recipe['draw']}, which is not known here" if recipe["draw"] else "by an earlier version, or by code of its own"
        raise ValueError(f"the figure was drawn {how}; run its notebook once more")
    if "size" in recipe:
        return on_axes(rows, draw, *recipe["arguments"], size=recipe["size"], **recipe["named"])
    return draw(rows, *recipe["arguments"], **recipe["named"])


def shows(name: str, origin: dict[str, Any]) -> dict[str, Any]:
    """The entry of :data:`WORDS` for a figure's name; else what it shows is what its drawing's function says."""
    known = next((words for pattern, words in WORDS.items() if re.fullmatch(pattern, name)), None)
    draw = _DRAWINGS.get(origin.get("figure", {}).get("draw"))
    return known or {"shows": (draw.__doc__ or name).split("\n")[0] if draw else name}


def caption(name: str, rows: pd.DataFrame, origin: dict[str, Any], table: Sequence[str] = ()) -> str:
    """A caption: what is shown, models, N, problems, intervals and seed, from the rows, and from the origin's grid where it holds.

    ``table``: of a table with these columns, which tells of intervals only where it shows them.
    """
    words, recipe = shows(name, origin), origin.get("figure", {})
    titles = [str(text) for text in [*recipe.get("arguments", ()), *recipe.get("named", {}).values()] if "full run" in str(text)]
    of_grid = {*words.get("grid", ())} - ({"problems", "seed"} if titles or name.endswith("_full") else set())  # committed outcomes' differ
    parameters = origin.get("parameters", {})
    grid = {field: value for field, value in parameters.items() if field in of_grid}
    known = "vote" in parameters and ("rule" in of_grid or name.endswith("_full"))  # a full run is under the grid's rule
    rule = Rule(parameters["aggregate"], parameters["vote"]) if known else None

    def held(field: str, *columns: str) -> list:
        """Values of columns, or else of a field of the grid, which are names."""
        found = [value for column in columns if column in rows for value in rows[column].dropna() if value != ""]
        return list(dict.fromkeys(found)) or list(grid.get(field) or [])

    def joined(names: list[str]) -> str:
        return ("; " if any("," in name for name in names) else ", ").join(names).replace(" parameters, ", ", ")

    rows = rows[rows["method"] != "cot"] if {"method", "n"} <= {*rows} else rows  # which has no N
    budgets = sorted(map(int, held("budgets", "n")))
    models = {("policy", "policies"): held("policies", "policy", "small", "large"), ("PRM", "PRMs"): held("prms", "prm")}
    how = words.get("intervals", "").format(few=stats.FEW) or ("; ".join(rows["interval"].dropna().unique()) if "interval" in rows else "")
    parts = [
        *(f"{title[0].upper()}{title[1:]}" for title in titles),
        *(
            f"{kind[len(names) > 1]}: {joined([*dict.fromkeys(style.in_words(name).removeprefix('PRM ') for name in names)])}"
            for kind, names in models.items()
            if names
        ),
        f"N = {', '.join(map(str, budgets if 'n' in rows else budgets[-1:]))}" if budgets else "",
        "problems: " + joined(sets) if (sets := _problems(rows, grid.get("problems") or {})) else "",
        f"selection rule (aggregate and vote): {rule}" if rule else "",
        f"intervals of {100 * stats.LEVEL:g} %: {how}" if how and (not table or {"low", "high", "estimate", "contrast"} & {*table}) else "",
        f"seed {grid['seed']}" if "seed" in grid else "",
    ]
    return " ".join([words.get("table" if table else "", words["shows"]), *(f"{part[0].upper()}{part[1:]}." for part in parts if part)])


def _problems(rows: pd.DataFrame, counts: Mapping[str, int]) -> list[str]:
    """Each problem set of a figure's rows, else of ``counts``, with its number of problems, after its scope; else the number by policy."""
    if not ("problems" in rows and pd.api.types.is_string_dtype(rows["problems"])):
        if counts or "count" not in rows:
            return [f"{count} of {name}" for name, count in counts.items()]
        rows = rows.rename(columns={"policy": "problems"})
    told, rows = [], rows if "scope" in rows else rows.rename(columns={"domain": "scope"})
    for row in rows[rows["problems"].fillna("") != ""].reindex(columns=["scope", "problems", "count"]).drop_duplicates().to_dict("records"):
        name = row["problems"]
        count = f"{row['count']:.0f} of " if pd.notna(row["count"]) else f"{counts[name]} of " if name in counts else ""
        told.append(f"{row['scope']}: " * pd.notna(row["scope"]) + count + name)
    return told
