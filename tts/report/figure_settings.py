"""What of the look of figures is to be chosen, and checked without matplotlib, which takes a second to import."""

from pydantic import BaseModel, Field, field_validator

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
COLUMN = 3.3  # inches of the column that figures are laid out for


class Look(BaseModel, extra="forbid"):
    """The look of figures. A saved one is as wide as one column of a paper, or as two with the gap between them."""

    column_width: float = Field(COLUMN, ge=1, le=20)  # inches
    font_size: float = Field(8, ge=3, le=40)  # points of titles and axis labels; ticks and legends are one point smaller
    palette: str = "okabe-ito"  # safe for the colour-blind; or the name of a seaborn palette, say colorblind or tab10

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


def colours(palette: str) -> list[str]:
    """A palette's colours, as hexadecimal digits."""
    if palette == "okabe-ito":
        return OKABE_ITO
    import seaborn as sns  # takes two seconds

    return list(sns.color_palette(palette).as_hex())
