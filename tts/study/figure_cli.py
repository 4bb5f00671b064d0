"""The command that redraws a figure."""

# As in the command line: rooms are asked for as names of tts, which imports them then.
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import tts
from tts.common import paths
from tts.study.terminal import console

app = typer.Typer()


@app.command()
def figure(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="which figure; without it they are listed")] = "",
    width: Annotated[str, typer.Option(help="of the whole figure, as 84mm, 3.3in, 8.4cm or 240pt; by default as it is")] = "",
    height: Annotated[str, typer.Option(help="likewise; by default as its panels need")] = "",
    font: Annotated[str, typer.Option(help="an installed font's name, or a font's file")] = "",
    font_size: Annotated[float, typer.Option(help="points of titles and labels")] = 8,
    palette: Annotated[str, typer.Option(help="okabe-ito, or one of seaborn's")] = "okabe-ito",
    formats: Annotated[str, typer.Option("--format", help="some of pdf, pgf, svg, png, eps")] = "pdf,png",
    panels: Annotated[list[str], typer.Option(metavar="NAME,NAME", help="only these policies, PRMs, problem sets or scopes")] = [],  # noqa: B006
    table: Annotated[Literal["latex", "markdown"] | None, typer.Option(help="print the rows as a table, and draw nothing")] = None,
    caption: Annotated[Literal["latex", "text"] | None, typer.Option(help="print the caption, and draw nothing")] = None,
    columns: Annotated[str, typer.Option(metavar="NAME,NAME", help="of the table; all by default")] = "",
    figures: Annotated[Path, typer.Option(help="folder that a study wrote its figures to")] = paths.ROOT / "figures" / "pocket",
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path(),
) -> None:
    """Redraws a figure from its rows, in another size, font or format, or prints them as a table; runs no notebook."""
    redraw = tts.redraw
    if not name:
        return console.print("\n".join(redraw.listed(figures)))
    asked = {"width": redraw.inches("--width", width), "height": redraw.inches("--height", height), "font": font}
    tts.parameters.check_look(look := asked | {"font_size": font_size, "palette": palette})
    endings = redraw.check_formats(redraw.parts(formats))
    rows, origin = redraw.load(figures, name)
    rows = redraw.chosen(rows, panels)
    if table or caption:
        drawing = ("width", "height", "font", "font_size", "palette", "formats", "output")
        if given := [option for option in drawing if "DEFAULT" not in str(context.get_parameter_source(option))]:
            told = ", ".join(f"--{option.replace('formats', 'format').replace('_', '-')}" for option in given)
            raise ValueError(
                f"{told} of a drawing, and --table and --caption draw nothing: leave it out, or write what is printed by > FILE"
            )
    if table:
        return print(redraw.printed(name, rows, origin, table, redraw.parts(columns)), end="")
    if caption:
        return print(redraw.figure_files.caption(name, rows, origin).translate(redraw.LATEX if caption == "latex" else {}))
    for path in redraw.write(output / name, rows, origin, look, endings):
        console.print(str(path))
