"""What of the look of figures is to be chosen, and checked without matplotlib, which takes a second to import."""

import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, Field, field_validator

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
COLUMN = 3.3  # inches of the column that figures are laid out for
SIZE = 8.0  # points of the font that they are laid out for
_SERIFS = ("Times New Roman", "Times", "Nimbus Roman", "Liberation Serif", "TeX Gyre Termes", "Tinos", "STIXGeneral", "DejaVu Serif")
_SERIF = "Times|Roman|Serif|Garamond|Palatino|Georgia|Cambria|Minion|Baskerville|Caslon|Bookman|Century|Charter|Libertine|Modern"


class Look(BaseModel, extra="forbid"):
    """The look of figures. A saved one is as wide as one column of a paper, or as two with the gap between them, or as ``width`` says."""

    column_width: float = Field(COLUMN, ge=1, le=20)  # inches
    font_size: float = Field(SIZE, ge=3, le=40)  # points of titles and axis labels; ticks and legends are one point smaller
    palette: str = "okabe-ito"  # safe for the colour-blind; or the name of a seaborn palette, say colorblind or tab10
    font: str = ""  # name of an installed family, or a font's file; by default matplotlib's own
    width: float | None = Field(None, ge=1, le=60)  # inches of a whole figure, of however many panels
    height: float | None = Field(None, ge=1, le=60)  # likewise; by default as the panels need

    @field_validator("palette")
    @classmethod
    def _known_palette(cls, value: str) -> str:
        try:
            count = len(colours(value))
        except ValueError:
            raise ValueError("no such palette; choose okabe-ito or one of seaborn's, say colorblind, deep or tab10") from None
        if count < 6:
            raise ValueError(f"it has {count} colours, and the methods need six")
        return value

    @field_validator("font")
    @classmethod
    def _installed_font(cls, value: str) -> str:
        return font_family(value) if value else value


def colours(palette: str) -> list[str]:
    """A palette's colours, as hexadecimal digits."""
    if palette == "okabe-ito":
        return OKABE_ITO
    import seaborn as sns  # takes two seconds

    return list(sns.color_palette(palette).as_hex())


def font_family(font: str) -> str:
    """The family of a font, given by its name or by its file; raises ``ValueError`` where it is not installed."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import findSystemFonts, fontManager, get_font

    if Path(font).is_file():
        try:
            fontManager.addfont(font)
            return get_font(font).family_name
        except RuntimeError:
            raise ValueError(f"{font} is no font's file; give a .ttf or .otf, or the name of an installed font") from None
    if font not in fontManager.get_font_names():  # of a list that may be older than the fonts
        for path in {*findSystemFonts(), *findSystemFonts(str(Path(get_data_path(), "fonts", "ttf")))}:
            with suppress(RuntimeError):
                fontManager.addfont(path)
    if font in (names := fontManager.get_font_names()):
        return font
    near = (
        [name for name in _SERIFS if name in names and re.search(_SERIF, font, re.I)]
        or get_close_matches(font, names, 5, 0.4)
        or sorted(names)
    )
    raise ValueError(f"no font {font!r} is installed; near it: {', '.join(near[:5])}; or give a font's file")
