"""What an experiment runs: a grid of policies, PRMs, methods and budgets.

Everything comes from as few samples as possible: one pool of N solutions per policy serves majority voting, Pass@n and,
scored once per PRM, best-of-n for every n up to N; one DVTS run serves every smaller budget by drawing whole subtrees;
only beam search is run per budget. Of the searches those that sample most come first, and leave their steps to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from tts import policies, reward_models
from tts.common.names import listed
from tts.search import registry
from tts.search.sampling import Sampling
from tts.store import imported
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.tasks import task_of
from tts.tasks.base import Task, changed
from tts.tasks.problems import Split, problem_rows
from tts.tasks.selection import AGGREGATES, VOTES, Rule

MOST = 1 << 16  # samples or rows, beyond which a number is a slip rather than a wish
STEP_TOKENS = 2048  # Liu et al. 2025, section 4.1


class Grid(BaseModel):
    """The validated parameters of an experiment; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    problems: dict[str, int] = Field(min_length=1)  # problem set and how many of its problems, {"pocket-main": 200}
    policies: list[str] = Field(min_length=1)  # names, folders or Hub names
    prms: list[str] = []  # likewise; implicit:NAME takes a causal LM's likelihood
    methods: list[str] = Field(default_factory=lambda: registry.compared(study=True), min_length=1)  # of tts.search.registry
    split: Split = "test"  # all, for the study's sets
    samples: int = Field(64, ge=1, le=MOST)  # N of the pool, and of each search whose smaller budgets are drawn from one run
    budgets: list[int] = Field([4, 16, 64], min_length=1)  # values of N that figures show, and at which the other searches run
    beam_width: int = Field(4, ge=1)  # M
    aggregate: str = "product"  # with vote the one selection rule of all methods
    vote: str = "vote"
    system: str | None = None  # what policies are told in the place of the task's instruction; "" for nothing
    # all: the expected accuracy over the subsets of n samples; first: that of the first n alone, as most published tables count.
    subsets: Literal["all", "first"] = "all"
    extract: list[str] = []  # ways in which answers are found in solutions, in this order; by default the task's own
    temperature: float = Field(0.7, ge=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(320, ge=1, le=1 << 20)
    max_step_tokens: int | None = Field(None, ge=1, le=1 << 20)  # of a search; by default STEP_TOKENS, or max_tokens where that is less
    max_steps: int = Field(40, ge=1, le=1 << 20)
    seed: int = 0
    constants: dict[str, float] = {}  # of single methods, by name: {"balance": 0.1}; tts.search says which each has
    stop_at_answer: bool = False  # whether a search's step that holds an answer ends its solution, as in the study's own code
    chunk: int = Field(40, ge=1)  # problems per unit of work
    batch: int = Field(128, ge=1, le=MOST)  # sequences decoded at once

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if info.field_name != "stop_at_answer" and any(isinstance(item, bool) for item in held):
            raise ValueError("true and false are no values for it")
        return value

    @field_validator("policies", "prms", "methods", "budgets")
    @classmethod
    def _once_each(cls, value: list) -> list:
        if repeated := sorted({item for item in value if value.count(item) > 1}):
            raise ValueError(f"each may be given once; given more than once: {', '.join(map(str, repeated))}")
        return value

    @field_validator("methods", "aggregate", "vote")
    @classmethod
    def _known(cls, value: list[str] | str, info: ValidationInfo) -> list[str] | str:
        kind = info.field_name or ""
        known = {"aggregate": AGGREGATES, "vote": VOTES}.get(kind) or registry.compared()
        if unknown := [name for name in ([value] if isinstance(value, str) else value) if name not in known]:
            raise ValueError(f"unknown {kind.removesuffix('s')} {unknown[0]!r}; choose from {listed(known, unknown[0])}")
        return value

    @field_validator("constants")
    @classmethod
    def _in_range(cls, value: dict[str, float]) -> dict[str, float]:
        registry.check_constants(value)
        return value

    @field_validator("problems")
    @classmethod
    def _one_task(cls, value: dict[str, int]) -> dict[str, int]:
        if len(tasks := dict.fromkeys(task_of(name).name for name in value)) > 1:
            raise ValueError(f"problem sets of one kind go together; these are of the tasks {', '.join(tasks)}: run them one by one")
        if len({Path(name).name for name in value}) < len(value):
            raise ValueError("two problem sets have the same file name, by which their results are told apart; rename one of the files")
        return value

    @model_validator(mode="after")
    def _all_goes_together(self) -> Grid:
        _ = self.task  # raises where it lacks a way of finding answers
        if (guided := [m for m in self.methods if registry.method_of(m).guided]) and not self.prms:
            without = [m for m in registry.compared() if not registry.method_of(m).guided]
            raise ValueError(f"{', '.join(guided)} need a PRM; give prms, or leave only {' and '.join(without)} in methods")
        ours = [policy for policy in self.policies if not imported.is_imported(policy)]
        if ours and (theirs := [prm for prm in self.prms if imported.is_imported(prm)]):
            raise ValueError(f"{theirs[0]} has scores of imported solutions only; {ours[0]} needs a PRM that can be run")
        searches = [m for m in guided if registry.is_search(m) and not registry.method_of(m).whole]  # by scores of steps
        for prm in self.prms:
            if reward_models.rules.owners(prm):
                reward_models.rules.check(prm, self.task, searches)
            elif searches and reward_models.scores_whole(prm):
                raise ValueError(reward_models.only_whole(prm, searches))
        if self.stop_at_answer and not self.task.answer_mark:
            raise ValueError(f"stop_at_answer: no text tells that a step of the task {self.task.name} holds an answer; leave it out")
        if not ours and self.system is not None:
            raise ValueError("system: imported samples were made with a prompt of their own; leave it out")
        if len(ours) < len(self.policies):
            of_searches = {constant.name for name in registry.searches() for constant in registry.method_of(name).constants}
            if given := sorted(of_searches & self.constants.keys()):
                raise ValueError(f"constants: imported searches were run with constants of their own; leave out {', '.join(given)}")
            self._imported_data_suffice()
        if not ours:
            return self
        if wrong := [n for n in self.budgets if not 1 <= n <= self.samples]:
            raise ValueError(f"budget N = {wrong[0]} is not in 1..samples = {self.samples}")
        for method in map(registry.method_of, self.methods):
            for n in self.budgets if method.part is None else sorted({*self.budgets, self.samples}):
                try:
                    method.check(n, self.settings)
                except ValueError as error:
                    raise ValueError(f"{method.name}: {error}; change budgets, samples or beam_width, or leave it out of methods") from None
        return self

    def _imported_data_suffice(self) -> None:
        """Imported data need not fit a grid of budgets, but must say something of each method."""
        for policy, method in product(filter(imported.is_imported, self.policies), self.methods):
            for prm in self.prms if registry.method_of(method).guided else [None]:
                if prm and not self.fits(policy, prm, self.rule):
                    raise ValueError(
                        f"imported scores of {imported.original(prm)} are not in [0, 1], so that sums (PRM-Vote) and products say "
                        "nothing: give vote=max with aggregate min, last or avg, or import again with --scores sigmoid if they are logits"
                    )
                if any(self.holds(policy, prm, method, n) for n in self.budgets):
                    continue
                wanted = f"{method} of {imported.original(policy)}" + (f" with {imported.original(prm)}" if prm else "")
                if registry.is_search(method) and not imported.is_imported(prm):
                    raise ValueError(
                        f"{wanted} cannot be run: imported solutions can be scored, but not continued; "
                        "leave only majority and best_of_n in methods"
                    )
                asked = f"N = {', '.join(map(str, self.budgets))}, seed {self.seed}"
                raise ValueError(f"{wanted} at {asked} is not in the imported data; {self._import_of(policy).listed()}")

    def fits(self, policy: str, prm: str | None, rule: Rule) -> bool:
        """Whether a rule says something of a PRM's scores: PRM-Vote sums and product multiplies what must lie in [0, 1]."""
        source = self._import_of(policy)
        summed = rule.vote == "vote" or (rule.vote, rule.aggregate) == ("max", "product")
        return not (summed and source and source.outside(policy, prm))

    @property
    def rule(self) -> Rule:
        return Rule(self.aggregate, self.vote)

    @property
    def task(self) -> Task:
        """The kind of problem that all of its problem sets are of, with the grid's system prompt and ways of finding answers."""
        return changed(task_of(next(iter(self.problems))), self.system, tuple(self.extract))

    @property
    def settings(self) -> registry.Settings:
        """What searches are told beside their budget."""
        constants = {name: value for method in registry.METHODS.values() for name, value in method.values(self.constants).items()}
        return registry.Settings(self.beam_width, self.max_steps, self.seed, constants)

    def sampling(self, temperature: float | None = None) -> Sampling:
        chosen = self.temperature if temperature is None else temperature
        step = min(self.max_tokens, self.max_step_tokens or STEP_TOKENS)
        return Sampling(chosen, self.top_p, self.max_tokens, step, self.seed, stop_at_answer=self.stop_at_answer)

    def spec(self, method: str, policy: str, prm: str | None = None, n: int = 1) -> RunSpec:
        """What determines a run's trajectories, apart from the problems."""
        if source := self._import_of(policy):
            rescored = method == registry.SCORES and not imported.is_imported(prm)  # by a PRM of ours, from an imported pool
            asked = (registry.POOL, policy, None) if rescored else (method, policy, prm)
            count = self._asked_of(source)
            found = source.find(*asked, n, self.seed, count)
            if found is None:
                run = f"{method} of {policy}{f' with {prm}' if prm else ''}, N = {n}, seed {self.seed}, for {count} problems"
                raise imported.NotImported(f"{run} is not in the import {source.name}; {source.listed()}")
            if not rescored:
                return found
            engine = replace(found.engine, batch=self.batch, chunk=self.chunk)
            return replace(found, method=method, prm=Model(prm, _weights_of_prm(prm)), engine=engine)
        search = registry.method_of(method) if registry.is_search(method) else None
        sampling = asdict(self.sampling(0.0 if method == registry.GREEDY else None))
        if not search or not self.stop_at_answer:  # what is sampled whole does not depend on it
            del sampling["stop_at_answer"]
        if method in (registry.POOL, registry.SCORES) and any(registry.method_of(name).weigh for name in self.methods):
            sampling["confidence"] = True  # the samples are the same, and more is kept of them
        else:
            del sampling["confidence"]
        return RunSpec(
            method,
            Model(policy, _weights(policy)),
            Model(prm, _weights_of_prm(prm)) if prm else None,
            n,
            sampling,
            RunEngine(policies.engine_of(policy)[0], self.batch, self.chunk),
            TaskKey(self.task.name, self.task.version, _prompt(policy, self.task), self.system),
            width=self.beam_width if search else None,
            max_steps=self.max_steps if search else None,
            constants=(search.values(self.constants) or None) if search else None,
            version=search.version if search and search.version > 1 else None,
        )

    def specs(self) -> Iterator[RunSpec]:
        """All runs of the grid, those of a policy together, a pool before its scores."""
        return (self.spec(*run) for run in self.runs())

    def runs(self) -> Iterator[tuple[str, str, str | None, int]]:
        """Run, policy, PRM and N of each of :meth:`specs`, whether or not the models can be found."""
        chosen = [registry.method_of(name) for name in self.methods]
        own = sorted((m for m in chosen if m.source == "own"), key=lambda m: m.part is None)  # those that sample most come first
        for policy in self.policies:
            if self.holds(policy, None, "cot", 1):
                yield registry.GREEDY, policy, None, 1
            if self.holds(policy, None, "majority", 1):
                yield registry.POOL, policy, None, self.samples
            for prm in [None, *self.prms]:
                if prm and any(m.run == registry.SCORES for m in chosen):
                    yield registry.SCORES, policy, prm, self.samples
                for method in (m for m in own if m.guided == (prm is not None)):
                    held = [n for n in sorted(self.budgets, reverse=True) if self.holds(policy, prm, method.name, n)]
                    for n in [self.samples] if method.part else held:  # one run, from which smaller budgets are drawn, or one for each
                        yield method.name, policy, prm, n

    def holds(self, policy: str, prm: str | None, method: str, n: int) -> bool:
        """Whether a method can have an accuracy at a budget: of an imported policy by its data, whose samples any PRM of ours can score."""
        source = self._import_of(policy)
        if source and registry.method_of(method).run == registry.SCORES and not imported.is_imported(prm):
            method, prm = "majority", None
        return source is None or source.holds(method, policy, prm, n, self.seed, self._asked_of(source))

    def offered(self) -> list[str]:
        """Those of its methods of which each policy with each PRM has, or can have, a run at one of the budgets."""
        pairs = list(product(self.policies, self.prms))
        return [m for m in self.methods if all(any(self.holds(*pair, m, n) for n in self.budgets) for pair in pairs)]

    def run_of(self, method: str, policy: str, prm: str | None, n: int) -> RunSpec:
        """Spec of the run that holds a method's candidates at a budget."""
        asked = registry.method_of(method)
        return self.spec(asked.run, policy, registry.prm_of(method, prm), n if asked.part is None else self.samples)

    def parts(self, method: str, policy: str, prm: str | None, n: int) -> tuple[int, int] | None:
        """Number of independent parts of a method's run, and of samples of each; None for a method with one run for each budget."""
        asked = registry.method_of(method)
        if asked.part is None:
            return None
        spec = self.run_of(method, policy, prm, n)
        each = asked.part(registry.Settings(spec.width or self.beam_width, spec.max_steps or self.max_steps))
        return spec.n // each, each

    def _import_of(self, policy: str) -> imported.Import | None:
        return imported.of(self.problems, policy) if imported.is_imported(policy) else None

    def _asked_of(self, source: imported.Import) -> int:
        return self.problems[next(name for name in self.problems if imported.beside(name) == source)]

    def chunks(self, problem_set: str) -> list[list[dict]]:
        """The problems of a set in units of work."""
        rows = _problems(problem_set, self.problems[problem_set], self.split)
        return [rows[i : i + self.chunk] for i in range(0, len(rows), self.chunk)]


_weights, _weights_of_prm, _prompt = cache(policies.weights_of), cache(reward_models.weights_of), cache(policies.prompt_of)
_problems = cache(problem_rows)


class ParameterError(ValueError):
    """Parameters that do not fit; the message names each of them."""


def grid_of(**parameters: object) -> Grid:
    """A grid of these parameters; raises :class:`ParameterError` for an unknown or unfit one."""
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
            lines.append(f"unknown parameter {where!r}; known: {listed(model.model_fields, where)}")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')} (given: {item['input']!r:.120})")
    return "\n".join(lines)
