"""What an experiment runs: a grid of policies, PRMs, methods and budgets.

Everything comes from as few samples as possible: one pool of N solutions per policy serves majority voting, Pass@n and,
scored once per PRM, best-of-n for every n up to N; one DVTS run serves every smaller budget by drawing whole subtrees;
only beam search is run per budget. Of the searches those that sample most come first, and leave their steps to the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tts import policies, reward_models
from tts.search import beam_search, dvts
from tts.search.sampling import Sampling
from tts.store import imported
from tts.tasks.problems import problem_rows
from tts.tasks.selection import AGGREGATES, VOTES, Rule

MOST = 1 << 16  # samples or rows, beyond which a number is a slip rather than a wish
SEARCHES = {"beam_search": beam_search, "dvts": dvts}
STEP_TOKENS = 2048  # Liu et al. 2025, section 4.1
Method = Literal["majority", "best_of_n", "beam_search", "dvts"]


class Grid(BaseModel):
    """The validated parameters of an experiment; unknown ones are refused.

    Attributes:
        problems: problem set and how many of its problems, ``{"pocket-main": 200}``.
        split: development, selection or test; all, for the study's sets.
        policies: names, folders or Hub names.
        prms: likewise; ``implicit:NAME`` takes a causal LM's likelihood.
        methods: of those that are compared.
        samples: N of the pool, and of DVTS.
        budgets: values of N that beam search runs at and figures show.
        beam_width: M.
        aggregate, vote: the one selection rule of all methods.
        temperature, top_p, max_tokens, max_steps, seed: of sampling and search.
        max_step_tokens: of one step of a search; by default the study's 2048, or max_tokens where that is less.
        chunk: problems per unit of work.
        batch: sequences decoded at once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: dict[str, int] = Field(min_length=1)
    policies: list[str] = Field(min_length=1)
    prms: list[str] = []
    methods: list[Method] = Field(["majority", "best_of_n", "beam_search", "dvts"], min_length=1)
    split: Literal["development", "selection", "test", "all"] = "test"
    samples: int = Field(64, ge=1, le=MOST)
    budgets: list[int] = Field([4, 16, 64], min_length=1)
    beam_width: int = Field(4, ge=1)
    aggregate: str = "product"
    vote: str = "vote"
    temperature: float = Field(0.7, ge=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(320, ge=1, le=1 << 20)
    max_step_tokens: int | None = Field(None, ge=1, le=1 << 20)
    max_steps: int = Field(40, ge=1, le=1 << 20)
    seed: int = 0
    chunk: int = Field(40, ge=1)
    batch: int = Field(128, ge=1, le=MOST)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, values: object) -> object:
        for name, value in values.items() if isinstance(values, dict) else ():
            held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if any(isinstance(item, bool) for item in held):
                raise ValueError(f"{name}: true and false are no values for it")
        return values

    @field_validator("policies", "prms", "methods", "budgets")
    @classmethod
    def _once_each(cls, value: list) -> list:
        if repeated := sorted({item for item in value if value.count(item) > 1}):
            raise ValueError(f"each may be given once; given more than once: {', '.join(map(str, repeated))}")
        return value

    @field_validator("aggregate")
    @classmethod
    def _known_aggregate(cls, value: str) -> str:
        if value not in AGGREGATES:
            raise ValueError(f"unknown aggregate {value!r}; choose from {', '.join(AGGREGATES)}")
        return value

    @field_validator("vote")
    @classmethod
    def _known_vote(cls, value: str) -> str:
        if value not in VOTES:
            raise ValueError(f"unknown vote {value!r}; choose from {', '.join(VOTES)}")
        return value

    @model_validator(mode="after")
    def _guided_methods_have_a_prm(self) -> Grid:
        guided = [m for m in self.methods if m != "majority"]
        if guided and not self.prms:
            raise ValueError(f"{', '.join(guided)} need a PRM; give prms, or leave only majority in methods")
        return self

    @model_validator(mode="after")
    def _budgets_fit(self) -> Grid:
        ours = [policy for policy in self.policies if not imported.is_imported(policy)]
        if theirs := [prm for prm in self.prms if imported.is_imported(prm)]:
            if ours:
                raise ValueError(f"{theirs[0]} has scores of imported solutions only; {ours[0]} needs a PRM that can be run")
        if len(ours) < len(self.policies):
            self._imported_data_suffice()
        if not ours:
            return self
        for n in self.budgets:
            if n < 1 or n > self.samples:
                raise ValueError(f"budget N = {n} is not in 1..samples = {self.samples}")
        if set(self.methods) & set(SEARCHES):
            for n in {*self.budgets, *([self.samples] if "dvts" in self.methods else [])}:
                if n < self.beam_width or n % self.beam_width:
                    raise ValueError(
                        f"budget N = {n} is not a positive multiple of beam_width M = {self.beam_width}; "
                        "change budgets, samples or beam_width, or leave out beam_search and dvts"
                    )
        return self

    def _imported_data_suffice(self) -> None:
        """Imported data need not fit a grid of budgets, but must say something of each method."""
        for policy in filter(imported.is_imported, self.policies):
            for method in self.methods:
                for prm in self.prms if method != "majority" else [None]:
                    if not any(self.holds(policy, prm, method, n) for n in self.budgets):
                        if method in SEARCHES and not imported.is_imported(prm):
                            raise ValueError(
                                f"{method} of {imported.original(policy)} with {prm} cannot be run: imported solutions can be scored, but "
                                "not continued; leave only majority and best_of_n in methods"
                            )
                        wanted = f"{method} of {imported.original(policy)}" + (f" with {imported.original(prm)}" if prm else "")
                        asked = f"N = {', '.join(map(str, self.budgets))}, seed {self.seed}"
                        raise ValueError(f"{wanted} at {asked} is not in the imported data; {self._import_of(policy).listed()}")

    @property
    def rule(self) -> Rule:
        return Rule(self.aggregate, self.vote)

    # -- specs of runs -----------------------------------------------------------------------------------------

    def sampling(self, temperature: float | None = None) -> Sampling:
        chosen = self.temperature if temperature is None else temperature
        step = min(self.max_tokens, self.max_step_tokens or STEP_TOKENS)
        return Sampling(chosen, self.top_p, self.max_tokens, step, self.seed)

    def spec(self, method: str, policy: str, prm: str | None = None, n: int = 1) -> dict:
        """What determines a run's trajectories, apart from the problems."""
        if source := self._import_of(policy):
            return self._imported_spec(source, method, policy, prm, n)
        spec = {
            "method": method,
            "policy": _policy(policy),
            "prm": _prm(prm) if prm else None,
            "n": n,
            "sampling": asdict(self.sampling(0.0 if method == "cot" else None)),
            "engine": {"name": policies.engine_of(policy)[0], "batch": self.batch, "chunk": self.chunk},
        }
        if method in SEARCHES:
            spec |= {"width": self.beam_width, "max_steps": self.max_steps}
        return spec

    def _imported_spec(self, source: imported.Import, method: str, policy: str, prm: str | None, n: int) -> dict:
        """The spec of a run that was imported, or of scores that a PRM of ours gives to an imported pool."""
        rescored = method == "scores" and not imported.is_imported(prm)
        found = source.spec("pool" if rescored else method, policy, None if rescored else prm, n, self.seed, self._asked_of(source))
        if not rescored:
            return found
        engine = found["engine"] | {"batch": self.batch, "chunk": self.chunk}
        return found | {"method": "scores", "prm": _prm(prm), "engine": engine}

    def specs(self) -> Iterator[dict]:
        """All runs of the grid, those of a policy together, a pool before its scores."""
        return (self.spec(*run) for run in self.runs())

    def runs(self) -> Iterator[tuple[str, str, str | None, int]]:
        """Method, policy, PRM and N of each of :meth:`specs`, whether or not the models can be found."""
        for policy in self.policies:
            if self.holds(policy, None, "cot", 1):
                yield "cot", policy, None, 1
            if self.holds(policy, None, "majority", 1):
                yield "pool", policy, None, self.samples
            for prm in self.prms:
                if "best_of_n" in self.methods:
                    yield "scores", policy, prm, self.samples
                if "dvts" in self.methods:
                    yield "dvts", policy, prm, self.samples
                if "beam_search" in self.methods:
                    budgets = sorted(self.budgets, reverse=True)
                    yield from (("beam_search", policy, prm, n) for n in budgets if self.holds(policy, prm, "beam_search", n))

    # -- what was imported -------------------------------------------------------------------------------------

    def holds(self, policy: str, prm: str | None, method: str, n: int) -> bool:
        """Whether there can be an accuracy of a method at a budget: of an imported policy only where its data have it.

        Its samples can be scored by any PRM that can be run.
        """
        source = self._import_of(policy)
        if source and method == "best_of_n" and not imported.is_imported(prm):
            method, prm = "majority", None
        return source is None or source.holds(method, policy, prm, n, self.seed, self._asked_of(source))

    def offered(self, policies: Sequence[str], prms: Sequence[str], methods: Sequence[str]) -> list[str]:
        """Those of some methods of which each policy with each PRM has, or can have, a run at one of the budgets."""
        pairs = [(policy, prm) for policy in policies for prm in prms]
        return [m for m in methods if all(any(self.holds(*pair, m, n) for n in self.budgets) for pair in pairs)]

    def size(self, method: str, policy: str, prm: str | None = None) -> int:
        """N of a policy's pool, its scores or its DVTS run (``pool``, ``scores``, ``dvts``)."""
        return self.spec(method, policy, prm, self.samples)["n"] if self._import_of(policy) else self.samples

    def width(self, policy: str, prm: str) -> int:
        """M of a policy's DVTS run."""
        return self.spec("dvts", policy, prm, self.samples)["width"] if self._import_of(policy) else self.beam_width

    def _import_of(self, policy: str) -> imported.Import | None:
        return imported.of(self.problems, policy) if imported.is_imported(policy) else None

    def _asked_of(self, source: imported.Import) -> int:
        return self.problems[next(name for name in self.problems if imported.beside(name) == source)]

    def chunks(self, problem_set: str) -> list[list[dict]]:
        """The problems of a set in units of work."""
        rows = _problems(problem_set, self.problems[problem_set], self.split)
        return [list(rows[i : i + self.chunk]) for i in range(0, len(rows), self.chunk)]


@cache
def _policy(name: str) -> dict:
    return {"name": name, "weights": policies.weights_of(name)}


@cache
def _prm(name: str) -> dict:
    return {"name": name, "weights": reward_models.weights_of(name)}


@cache
def _problems(name: str, count: int, split: str) -> tuple[dict, ...]:
    return tuple(problem_rows(name, count, split))


class ParameterError(ValueError):
    """Parameters that do not fit; the message names each of them."""


def grid_of(**parameters: object) -> Grid:
    """A grid of these parameters.

    Raises:
        ParameterError: for an unknown or unfit parameter.
    """
    try:
        return Grid(**parameters)
    except ValidationError as error:
        raise ParameterError(explain(error)) from None


def explain(error: ValidationError, model: type[BaseModel] = Grid) -> str:
    """A pydantic error as lines that say what is wrong, what was given and what is known."""
    lines = []
    for item in error.errors():
        where = ".".join(map(str, item["loc"])) or "parameters"
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown parameter {where!r}; known: {', '.join(model.model_fields)}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')} (given: {item['input']!r:.120})")
    return "\n".join(lines)
