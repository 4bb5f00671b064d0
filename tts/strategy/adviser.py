"""The strategy for a policy and a PRM: learnt from stored runs, kept in a file, looked up for a budget, applied to a problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tts.analysis import costs, flops
from tts.analysis.accuracy import Results
from tts.common.files import write_text
from tts.generate.chunks import Engines
from tts.generate.grid import STEP_TOKENS, explain
from tts.reward_models import weights_of
from tts.search import Settings, best_of_n, method_of
from tts.search.driver import Driver
from tts.search.registry import compared
from tts.search.sampling import Sampling
from tts.strategy import choices
from tts.strategy.compute_optimal import fit
from tts.tasks.grading import Grader, groups
from tts.tasks.prompts import boxed_answer
from tts.tasks.selection import AGGREGATES, VOTES, aggregate, select

Unit = Literal["samples", "tokens", "flops"]
VERSION = 1


class StrategyError(ValueError):
    """A strategy that cannot be read, or does not belong to these models, or a budget that buys nothing."""


Share = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]  # means and products of floats may miss the ends
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Model(BaseModel):
    """A policy or PRM by name and weights."""

    model_config = ConfigDict(extra="forbid")

    name: str
    weights: str


class Limits(BaseModel):
    """Of sampling and search, as in :class:`tts.generate.grid.Grid`."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = Field(ge=0, allow_inf_nan=False)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)
    max_step_tokens: int | None = Field(None, ge=1)
    max_steps: int = Field(ge=1)


class Entry(BaseModel):
    """What to do with problems of one difficulty at one budget, and what that gave.

    Attributes:
        difficulty: as predicted from the PRM's scores of a few samples.
        method, aggregate, vote, n: what to run; majority voting has no aggregate.
        accuracy, low, high: cross-fitted, on the problems of that difficulty, with its 95 % interval.
        problems: how many those were.
        policy_tokens, prm_tokens: mean per problem; the PRM's are an upper bound where part of a pool was scored.
        flops: of inference, mean per problem, by the study's convention with the PRM added.
    """

    model_config = ConfigDict(extra="forbid")

    difficulty: Literal["easy", "medium", "hard"]
    method: str
    aggregate: Literal["", *AGGREGATES]
    vote: Literal[*VOTES]
    n: int = Field(ge=1)
    accuracy: Share
    low: Share
    high: Share
    problems: int = Field(ge=1)
    policy_tokens: Amount
    prm_tokens: Amount
    flops: Amount

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in compared():
            raise ValueError(f"unknown method {value!r}; choose from {', '.join(compared())}")
        return value

    def cost(self, unit: Unit) -> float:
        return {"samples": float(self.n), "tokens": self.policy_tokens, "flops": self.flops}[unit]


class Strategy(BaseModel):
    """What was learnt for one policy and one PRM.

    Attributes:
        policy, prm: what it holds for.
        sampling: limits of sampling and search.
        beam_width: M.
        peek: samples from which the difficulty of a problem is predicted.
        thresholds: mean PRM score of those above which a problem is easy, and below which it is hard.
        aggregate: of the scores that are averaged.
        learnt_on: problem sets and their number of problems.
        entries: the best choice per difficulty and budget.
    """

    model_config = ConfigDict(extra="forbid")

    policy: Model
    prm: Model
    sampling: Limits
    beam_width: int = Field(ge=1)
    peek: int = Field(ge=1)
    thresholds: tuple[Share, Share]
    aggregate: Literal[*AGGREGATES]
    learnt_on: dict[str, int]
    entries: list[Entry] = Field(min_length=1)

    def difficulty(self, score: float) -> str:
        """Difficulty of a problem whose first samples have this mean score."""
        easy, hard = self.thresholds
        return "easy" if score >= easy else "hard" if score < hard else "medium"

    def within(self, budget: float, unit: Unit) -> list[Entry]:
        """The most accurate affordable entry of each difficulty, the cheapest among equals.

        Raises:
            StrategyError: where the budget buys no entry of some difficulty.
        """
        found = []
        for name in choices.BINS:
            entries = [e for e in self.entries if e.difficulty == name]
            affordable = [e for e in entries if e.cost(unit) <= budget]
            if entries and not affordable:
                least = min(e.cost(unit) for e in entries)
                raise StrategyError(f"a budget of {budget:g} {unit} buys nothing for {name} problems; the least is {least:.3g}")
            if affordable:
                found.append(max(affordable, key=lambda e: (e.accuracy, -e.cost(unit))))
        return found


def learn(results: Results, problem_set: str, policy: str, prm: str, peek: int) -> Strategy:
    """The best choice for each predicted difficulty and each budget, from stored runs.

    Args:
        results: of a grid that holds the policy and the PRM.
        problem_set: whose problems are learnt from.
        policy, prm: their names.
        peek: samples from which difficulty is predicted.
    """
    grid = results.grid
    candidates = choices.choices(grid.methods)
    scores = results.mean_score(problem_set, policy, prm, peek)
    bins = choices.quantile_bins(scores)
    entries = []
    for n in sorted(grid.budgets):
        table = choices.values(results, problem_set, policy, prm, n, candidates)
        fitted = fit(table, bins)
        for name in (name for name in choices.BINS if name in fitted.choice):
            choice, inside, interval = candidates[fitted.choice[name]], bins == name, fitted.of_bin[name]
            spent = _spent(results, problem_set, policy, prm, choice.method, n, inside)
            numbers = {"accuracy": interval.estimate, "low": interval.low, "high": interval.high, "problems": int(inside.sum())}
            rule = {"method": choice.method, "aggregate": choice.rule.aggregate, "vote": choice.rule.vote, "n": n}
            entries.append(Entry(difficulty=name, **rule, **numbers, **spent))
    return Strategy(
        policy=_identity(policy),
        prm=_identity(prm),
        sampling=Limits(**{name: getattr(grid, name) for name in Limits.model_fields}),
        beam_width=grid.beam_width,
        peek=peek,
        thresholds=(float(scores[bins == "easy"].min()), float(scores[bins == "medium"].min())),
        aggregate=grid.aggregate,
        learnt_on={problem_set: grid.problems[problem_set]},
        entries=entries,
    )


def _spent(results: Results, problem_set: str, policy: str, prm: str, method: str, n: int, inside: np.ndarray) -> dict[str, float]:
    generated = float(results.policy_tokens(problem_set, policy, prm, method, n)[inside].mean())
    read = float(results.prm_tokens(problem_set, policy, prm, method, n)[inside].mean())
    read = generated if np.isnan(read) else read
    total = flops.inference(costs.shape_of(policy).active, generated)
    if method_of(method).guided:
        total += flops.inference(costs.shape_of(prm).active, read)
    return {"policy_tokens": generated, "prm_tokens": read, "flops": total}


def _identity(name: str) -> Model:
    return Model(name=name, weights=weights_of(name))


def save(strategies: Sequence[Strategy], path: Path) -> Path:
    content = {"version": VERSION, "strategies": [s.model_dump() for s in strategies]}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def load(path: Path, policy: str, prm: str) -> Strategy:
    """The strategy of a policy and a PRM in a file.

    Raises:
        StrategyError: where the file is missing or malformed, or holds none for exactly these weights.
    """
    if not path.exists():
        raise StrategyError(f"no strategy file {path}; run `python -m tts run 05_compute_optimal -p policy={policy} -p prm={prm}`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise StrategyError(
                f"{path} has version {content['version']}; this suite reads {VERSION}: write it again with 05_compute_optimal"
            )
        strategies = [Strategy(**s) for s in content["strategies"]]
    except StrategyError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = explain(error, Strategy) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise StrategyError(f"{path} is not a strategy file ({reason}); write it again with 05_compute_optimal") from None
    wanted = (_identity(policy), _identity(prm))
    for found in strategies:
        if (found.policy.name, found.prm.name) == (policy, prm):
            if (found.policy, found.prm) != wanted:
                raise StrategyError(f"{path} was made with other weights of {policy} or {prm}; run 05_compute_optimal again")
            return found
    held = "; ".join(f"{s.policy.name} with {s.prm.name}" for s in strategies) or "none"
    raise StrategyError(f"{path} holds no strategy for {policy} with {prm}; it holds {held}")


def table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Entries as a table to print."""
    return pd.DataFrame([e.model_dump() for e in entries])


class Solution(NamedTuple):
    """What was done for a problem, and what came out.

    Attributes:
        answer: None where no candidate has one.
        steps: of the selected candidate.
        difficulty: as predicted.
        score: mean PRM score of the first samples, by which it was.
        entry: what was run.
        policy_tokens, prm_tokens: of all of it, the first samples included.
    """

    answer: str | None
    steps: tuple[str, ...]
    difficulty: str
    score: float
    entry: Entry
    policy_tokens: int
    prm_tokens: int


def solve(plan: Strategy, problem: str, budget: float, unit: Unit = "samples", seed: int = 0) -> Solution:
    """Judges a problem's difficulty from a few samples, spends the budget accordingly, and answers.

    Raises:
        StrategyError: where the budget buys nothing.
    """
    entries = {e.difficulty: e for e in plan.within(budget, unit)}
    limits = plan.sampling.max_tokens, plan.sampling.max_step_tokens or min(plan.sampling.max_tokens, STEP_TOKENS)
    sampling = Sampling(plan.sampling.temperature, plan.sampling.top_p, *limits, seed)
    engines = Engines(batch=128)
    policy, prm = engines.policy(plan.policy.name, sampling), engines.prm(plan.prm.name)
    root = policy.root("asked", problem)
    peeked = Driver(policy, prm).run([(root, best_of_n(root, plan.peek))])[0]
    score = float(np.mean([aggregate(c.scores, plan.aggregate) if c.scores else 0.0 for c in peeked.trajectories]))
    entry = entries[plan.difficulty(score)]
    running = method_of(entry.method).build(root, entry.n, Settings(plan.beam_width, plan.sampling.max_steps))
    outcome = Driver(policy, prm).run([(root, running)])[0]
    finished = [c for c in outcome.trajectories if c.status == "finished"]
    with Grader() as grader:
        numbers = groups([boxed_answer(c.text) for c in finished], grader)
    scores = [aggregate(c.scores, entry.aggregate) for c in finished] if entry.aggregate else None
    index = select(numbers, scores, entry.vote)
    chosen = finished[index] if index >= 0 else None
    return Solution(
        boxed_answer(chosen.text) if chosen else None,
        chosen.steps if chosen else (),
        entry.difficulty,
        score,
        entry,
        peeked.policy_tokens + outcome.policy_tokens,
        peeked.prm_tokens + outcome.prm_tokens,
    )
