"""What a part of the campaign counted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """One part's counts.

    Attributes:
        name: of the part.
        counts: what was done and found, by name.
        seconds: it took.
        skipped: what could not be done here, and why.
    """

    name: str
    counts: dict[str, float]
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"## {self.name}", "", *(f"- {name}: {value:,}" for name, value in self.counts.items())]
        return "\n".join([*lines, *(f"- skipped: {reason}" for reason in self.skipped), f"- took {self.seconds:.0f} s", ""])
