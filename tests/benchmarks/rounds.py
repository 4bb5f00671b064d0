"""How benchmarks measure: sides of a ratio alternate, and each figure is printed with its lowest and highest round."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Sequence

from tqdm.auto import tqdm

QUICK = bool(os.environ.get("QUICK"))
ROUNDS = int(os.environ.get("ROUNDS", 2 if QUICK else 5))


def alternate(sides: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each side's figure in each round; one round before them, uncounted, pays for warming up."""
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for turn in tqdm(range(ROUNDS + 1), desc=", ".join(sides), leave=False):
        for name, side in sides.items():
            value = side()
            if turn:
                figures[name].append(value)
    return figures


class Report:
    """A row for each figure, printed as it comes."""

    def __init__(self, title: str):
        print(f"{title}\n{'median':>10} {'lowest':>10} {'highest':>10}  {'wanted':14} figure", flush=True)

    def row(self, label: str, values: Sequence[float], wanted: str = "", form: str = ".2f") -> None:
        shown = (f"{v:10{form}}" for v in (statistics.median(values), min(values), max(values)))
        print(" ".join(shown), f" {wanted:14} {label}", flush=True)

    def ratio(self, label: str, above: Sequence[float], below: Sequence[float], wanted: str) -> None:
        self.row(label, [a / b for a, b in zip(above, below)], wanted)


def table(title: str, rows: Iterable[dict]) -> None:
    """Prints rows as Markdown."""
    rows = list(rows)
    heads = list(rows[0])
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *([str(row[head]) for head in heads] for row in rows)]
    print(f"\n{title}\n", *("| " + " | ".join(line) + " |" for line in lines), sep="\n", flush=True)
