"""Names of models as figures and tables show them."""

from __future__ import annotations


def short(name: str) -> str:
    """A model's name as a panel title: without its folder, server and kind."""
    own = name.partition("?")[0].replace("#", "/").rsplit("/", 1)[-1]
    return own.removeprefix("policy-").removeprefix("prm-").replace("implicit:policy-", "implicit ")
