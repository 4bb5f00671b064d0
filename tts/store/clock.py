"""How long policy and PRM took to make a chunk, on which machine: kept with it, and never part of what it is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass
class Clock:
    """Seconds, and the tokens that they went to: those sampled anew, not steps that were known already."""

    where: str  # device, batch, versions; "imported" where another tool recorded the times; empty where none were kept
    problems: int = 0  # that it is of
    policy: float = 0.0  # seconds waited for the policy
    prm: float = 0.0  # and for the PRM
    generated: int = 0  # tokens sampled meanwhile
    read: int = 0  # tokens that the PRM read meanwhile

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str | bytes) -> Clock:
        """The clock that a text describes; raises ``ValueError`` or ``TypeError`` where it describes none."""
        return cls(**json.loads(text))


def together(clocks: Iterable[Clock]) -> Clock:
    """The sums of several clocks; ``where`` names all machines."""
    total = Clock("")
    places: dict[str, None] = {}
    for clock in clocks:
        places[clock.where] = None
        total.problems += clock.problems
        total.policy, total.prm = total.policy + clock.policy, total.prm + clock.prm
        total.generated, total.read = total.generated + clock.generated, total.read + clock.read
    total.where = "; ".join(places)
    return total
