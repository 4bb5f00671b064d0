"""Makes the gallery from an executed default study: its pictures that stand here anew, and README.md, the index of all its figures.

python figures/gallery/make.py [FOLDER], by default figures/pocket
"""

import shutil
import sys
from pathlib import Path

from tts.report import figure_files, redraw
from tts.report.figure_settings import COLUMN
from tts.report.style import GAP

GALLERY = Path(__file__).parent
NARROW = 84  # mm of one column of a paper
WIDE = round((2 * COLUMN + GAP) * redraw.UNITS["mm"])  # of two, where one does not hold the figure
HEAD = """# Figures of the default study

`make reproduce` writes each of these into `figures/pocket`, as PDF, PNG, CSV (the plotted rows), JSON (its origin, which says how the rows
were drawn) and TXT (a caption). The last column redraws it from its rows, without a notebook and without a model; `--panels`, `--height`,
`--font`, `--font-size`, `--format` and `--table` are further options (`python -m tts figure --help`). This page is made by `make.py`.

| figure | notebook | what it shows | columns of its CSV | redraw it |
|---|---|---|---|---|
"""


def line(folder: Path, name: str) -> str:
    """A figure's row of the index."""
    table, origin = redraw.load(folder, name)
    picture, notebook = f"{name}.png", origin.get("notebook", "09_findings")
    shown = f"[{name}]({picture})" if (GALLERY / picture).exists() else f"`{name}`"
    columns = ", ".join(f"`{column}`" for column in table)
    fits = name != "ledger" and redraw.fits(table, origin, {"width": NARROW / redraw.UNITS["mm"]})
    how = "--table latex" if name == "ledger" else f"--width {NARROW if fits else WIDE}mm"
    cells = shown, f"[{notebook}](../../notebooks/{notebook}.ipynb)", figure_files.shows(name, origin)["shows"], columns
    return f"| {' | '.join(cells)} | `python -m tts figure {name} {how}` |\n"


def main(folder: Path) -> None:
    names = redraw.names(folder)
    for name in names:
        if (GALLERY / f"{name}.png").exists():
            shutil.copy(folder / f"{name}.png", GALLERY)
    (GALLERY / "README.md").write_text(HEAD + "".join(line(folder, name) for name in names), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GALLERY.parent / "pocket")
