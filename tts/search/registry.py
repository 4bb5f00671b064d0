"""The methods that there are. Parameter checks, grids, accuracies, tables, figures, claims, exchange and adviser ask here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from tts.common.names import listed
from tts.search.base import Candidate, Search

POOL, SCORES, GREEDY = "pool", "scores", "cot"
"""Runs that are not a search's own: the pool of samples, a PRM's scores of it, and one greedy sample a problem."""


class MethodError(ValueError):
    """A method that does not exist, or is registered twice."""


class Constant(NamedTuple):
    """A number that a method takes beside the settings that all share."""

    name: str  # in the parameter ``constants``
    default: float  # an int where it must be whole
    least: float
    most: float


@dataclass(frozen=True)
class Settings:
    """What a method may be told beside its budget."""

    width: int = 4  # M, continuations of each kept step
    max_steps: int = 40  # depth limit of a search
    seed: int = 0  # of what a search draws itself
    constants: Mapping[str, float] = field(default_factory=dict)  # values of those of all methods, by name


@dataclass(frozen=True)
class Method:
    """A way to spend a budget of N samples."""

    name: str  # in parameters, tables and exports
    label: str  # in figures, as the next two, which are matplotlib's
    colour: str
    marker: str
    build: Callable[[Candidate, int, Settings], Search]  # the search of one problem, from its root, the budget N and the settings
    guided: bool = True  # whether it needs a PRM
    # The run that holds its candidates: "own" where the search is run for it, "pool" where independent samples that all methods share
    # serve it too (with a PRM's scores where it is guided), "greedy" where it is one sample at temperature 0.
    source: Literal["own", "pool", "greedy"] = "own"
    # How many of the N samples each independent part of the search takes. One run then serves every smaller budget, by drawing whole
    # parts. None where parts depend on each other: then there is one run for each budget.
    part: Callable[[Settings], int] | None = None
    # How candidates become one answer: by the grid's "rule", by "majority" whatever the rule, or by the "oracle", which counts a problem
    # as solved where any candidate is right.
    select: Literal["rule", "majority", "oracle"] = "rule"
    # How many samples of a pool it draws, by their answers in order (numbers that tell answers apart, below 0 for none); by default all.
    stop: Callable[[Sequence[int], Settings], int] | None = None
    # The weight of the vote of each of the samples that were drawn from a pool, by their confidences ``(samples, 4)``, of
    # tts.search.confidence.KINDS; by default all are alike.
    weigh: Callable[[np.ndarray, Settings], np.ndarray] | None = None
    constants: tuple[Constant, ...] = ()
    check: Callable[[int, Settings], None] = lambda n, settings: None  # raises ValueError where a budget does not fit the settings
    whole: bool = False  # whether it asks for scores of whole solutions only, which any verifier has
    rereads: bool = False  # whether it shows the policy prompts of its own, whose tokens no count tells
    study: bool = False  # whether it is among those that are compared by default
    version: int = 1  # raised whenever the search does something else than before: it is part of the key of its runs

    @property
    def run(self) -> str:
        """Kind of run that holds its candidates: its own name, or one of those that methods share."""
        return {"own": self.name, "pool": SCORES if self.guided else POOL, "greedy": GREEDY}[self.source]

    def values(self, given: Mapping[str, float]) -> dict[str, float]:
        """Its constants with the values given for them, else their defaults."""
        return {constant.name: given.get(constant.name, constant.default) for constant in self.constants}

    @property
    def compared(self) -> bool:
        """Whether it is a method that can be asked for, not a baseline or a bound that is always there."""
        return self.source != "greedy" and self.select != "oracle"


METHODS: dict[str, Method] = {}  # by name, in the order in which tables and figures show them


def register(method: Method) -> None:
    """Adds a method, which every part of the suite knows then; raises MethodError where its name or that of a shared run is taken."""
    if METHODS.get(method.name, method) != method or (method.source == "own" and method.name in (POOL, SCORES, GREEDY)):
        raise MethodError(f"there is a method {method.name!r} already; give the new one another name")
    METHODS[method.name] = method


def method_of(name: str) -> Method:
    """A method by name; raises MethodError for an unknown one."""
    if name not in METHODS:
        raise MethodError(f"unknown method {name!r}; choose from {listed(compared(), name)}")
    return METHODS[name]


def compared(study: bool = False) -> list[str]:
    """Names of the methods that can be asked for; with ``study`` only those of the default comparison."""
    return [method.name for method in METHODS.values() if method.compared and (method.study or not study)]


def check_constants(given: Mapping[str, float]) -> None:
    """Raises ValueError for a constant that no method has, or that is out of its range."""
    known = {constant.name: constant for method in METHODS.values() for constant in method.constants}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"unknown constant {name!r}; choose from {listed(known, name)}")
        constant = known[name]
        whole = isinstance(constant.default, int) and value % 1 != 0
        if whole or not constant.least <= value <= constant.most:
            raise ValueError(f"{name} must {'be a whole number' * whole or f'lie in {constant.least:g} to {constant.most:g}'}")


def is_search(run: str) -> bool:
    """Whether a run of this kind is a search, whose steps are kept and whose settings are part of its key."""
    return run in METHODS and METHODS[run].source == "own"


def searches() -> list[str]:
    """Names of the methods that are searches."""
    return [name for name in METHODS if is_search(name)]


def prm_of(name: str, prm: str | None) -> str | None:
    """The PRM that a method uses, where this one is at hand; None for a method without."""
    return prm if method_of(name).guided else None
