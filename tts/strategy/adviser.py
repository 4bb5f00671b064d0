"""The strategy for a policy and a PRM: learnt from stored runs, kept in a file, looked up for a budget, applied to a problem."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from tts.analysis import costs, flops, stats
from tts.analysis.accuracy import Results
from tts.common.files import write_text
from tts.generate import recorded
from tts.generate.chunks import Engines
from tts.generate.grid import explain, grid_of
from tts.reward_models import weights_of
from tts.search.registry import METHODS, compared, method_of
from tts.store.imported import is_imported
from tts.store.run_spec import Model
from tts.strategy import choices
from tts.strategy.compute_optimal import fit
from tts.tasks.selection import AGGREGATES, VOTES, Rule, aggregates

Unit = Literal["samples", "tokens", "flops"]
Difficulty = Literal["easy", "medium", "hard"]


class StrategyError(ValueError):
    """A strategy that cannot be read, or does not belong to these models, or a budget that buys nothing."""


Share = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]  # means and products of floats may miss the ends
Unknown = BeforeValidator(lambda value: None if value != value else value)  # NaN
Amount = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, Unknown]


class Limits(BaseModel, extra="forbid"):
    """Limits of sampling and search, as in :class:`tts.generate.grid.Grid`."""

    temperature: float = Field(ge=0, allow_inf_nan=False)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(ge=1)
    max_step_tokens: int | None = Field(None, ge=1)
    max_steps: int = Field(ge=1)
    constants: dict[str, float] = {}


class Plain(BaseModel, extra="forbid"):
    """What needs no prediction of difficulty: one solution, majority voting, or one method and rule for all problems."""

    name: str  # in words, with N
    right: list[Share]  # expected accuracy on each problem
    cost: dict[Unit, Amount]  # mean per problem, as of :class:`Entry`

    def __str__(self) -> str:
        return f"{self.name}, {np.mean(self.right):.1%}"


class Entry(BaseModel, extra="forbid"):
    """What to do with problems of one predicted difficulty at one budget, and what that gave."""

    difficulty: Difficulty
    method: str
    aggregate: Literal["", *AGGREGATES]  # empty for majority voting
    vote: Literal[*VOTES]
    n: int = Field(ge=1)
    accuracy: Share  # cross-fitted, with its 95 % interval
    low: Share
    high: Share
    problems: int = Field(ge=1)  # of that difficulty, which the accuracy is of
    # Means per problem, None where unknown: imports may lack token counts, and not every model's size is known.
    policy_tokens: Amount
    prm_tokens: Amount  # an upper bound where part of a pool was scored
    flops: Amount  # of inference, by the study's convention with the PRM added

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in compared():
            raise ValueError(f"unknown method {value!r}; choose from {', '.join(compared())}")
        return value

    def cost(self, unit: Unit) -> float:
        """The cost in a unit; NaN where it is unknown."""
        amount = {"samples": float(self.n), "tokens": self.policy_tokens, "flops": self.flops}[unit]
        return np.nan if amount is None else amount


class Strategy(BaseModel, extra="forbid"):
    """What was learnt for one policy and one PRM."""

    policy: Model
    prm: Model
    sampling: Limits
    beam_width: int = Field(ge=1)
    peek: int = Field(ge=1)  # samples from which the difficulty of a problem is predicted
    thresholds: tuple[Share, Share]  # mean PRM scores: from the first on a problem is easy, below the second hard
    aggregate: Literal[*AGGREGATES]  # of the scores that are averaged
    learnt_on: dict[str, int]  # problem sets and their number of problems
    entries: list[Entry] = Field(min_length=1)
    predicted: list[Difficulty]  # of each problem
    right: dict[int, list[Share]]  # cross-fitted accuracy on each problem, by N
    plain: list[Plain]  # by rising N, without a PRM
    fixed: list[Plain] = []  # by rising N: the best method and rule for all problems, cross-fitted

    @model_validator(mode="after")
    def _whole(self) -> "Strategy":
        sizes = {len(self.predicted), *map(len, self.right.values()), *(len(p.right) for p in [*self.plain, *self.fixed])}
        if len(sizes) > 1 or set(self.right) != {e.n for e in self.entries} or set(self.predicted) != {e.difficulty for e in self.entries}:
            raise ValueError("its accuracies are not of the same problems, difficulties and N")
        return self

    def difficulty(self, score: float) -> str:
        """Difficulty of a problem whose first samples have this mean score."""
        easy, hard = self.thresholds
        return "easy" if score >= easy else "hard" if score < hard else "medium"

    def within(self, budget: float, unit: Unit) -> list[Entry]:
        """Of each difficulty the most accurate affordable entry, the cheapest among equals; StrategyError for none, or unknown costs."""
        if any(np.isnan(e.cost(unit)) for e in self.entries):
            raise StrategyError(f"costs in {unit} are unknown for {self.policy.name} with {self.prm.name}; use --unit samples")
        best = []
        for name in choices.BINS:
            entries = [e for e in self.entries if e.difficulty == name]
            affordable = [e for e in entries if e.cost(unit) <= budget]
            if entries and not affordable:
                least = min(e.cost(unit) for e in entries)
                instead = " or ".join(map(str, self.rivals(budget, unit))) or "nothing"
                raise StrategyError(f"{budget:g} {unit} buy {instead}; the least of a strategy for {name} problems is {least:.3g}")
            best += sorted(affordable, key=lambda e: (-e.accuracy, e.cost(unit)))[:1]
        return best

    def bought(self, budget: float, unit: Unit) -> str:
        """Which budgets were run, and the largest of them that a budget pays for, in words."""
        most = max((e.n for e in self.entries if e.cost(unit) <= budget), default=0)
        return f"N = {', '.join(map(str, sorted(self.right)))} were run; {budget:g} {unit} pay for N = {most} at most"

    def rivals(self, budget: float, unit: Unit) -> list[Plain]:
        """One solution, majority voting with the largest N, and the best fixed method at its best N, where a budget pays for them."""
        plain, fixed = ([p for p in of if (c := p.cost.get(unit)) is not None and c <= budget] for of in (self.plain, self.fixed))
        return plain[:1] + plain[1:][-1:] + sorted(fixed, key=lambda p: -np.mean(p.right))[:1]  # the least N among equals

    def overall(self, budget: float, unit: Unit) -> str:
        """Accuracy of :meth:`within` on all problems, each by its predicted difficulty, and paired differences from the rivals, in words.

        Method and rule are cross-fitted; N is not, so that the accuracy is rather too high. Resamples do not repeat the choice, so that
        intervals of differences covered 92, 90 and 88 % of simulated truths with 40, 100 and 200 problems and 12 equal candidates.
        """
        entries = self.within(budget, unit)
        right = np.select([np.array(self.predicted) == e.difficulty for e in entries], [np.array(self.right[e.n]) for e in entries])
        found = stats.of_accuracy(right)
        told = [f"accuracy {found.estimate:.1%} [{found.low:.0%}, {found.high:.0%}] on {len(right)} problems"]
        for rival in self.rivals(budget, unit):
            gap = stats.of_difference(right - np.array(rival.right))
            decided = {"supported": "decidedly better than", "contradicted": "decidedly worse than"}
            verdict, points = (
                decided.get(stats.verdict(gap), "not decidedly other than"),
                (100 * v for v in (gap.estimate, gap.low, gap.high)),
            )
            told.append(f"{verdict} {rival} ({'{:+.1f} [{:+.1f}, {:+.1f}]'.format(*points)} points)")
        return "; ".join(told)


class StrategyFile(BaseModel):
    """The content of a strategy file."""

    version: Literal[2] = 2
    strategies: list[Strategy]


def learn(results: Results, problem_set: str, policy: str, prm: str, peek: int) -> Strategy:
    """The best choice for each difficulty as predicted from ``peek`` samples, and each budget, from stored runs of one problem set."""
    grid = results.grid
    candidates = choices.choices(grid.methods)
    scores = results.mean_score(problem_set, policy, prm, peek)
    bins = choices.quantile_bins(scores)
    entries, right, plain, fixed = [], {}, [], []
    alone = ("one greedy solution (CoT)", "cot") if grid.holds(policy, None, "cot", 1) else ("one sample", "pass")
    for name, method, n in [(*alone, 1), *((f"majority voting, N = {n}", "majority", n) for n in sorted(grid.budgets))]:
        written = float(results.policy_tokens(problem_set, policy, None, method, n).mean())
        cost = {"samples": n, "tokens": written, "flops": flops.inference(costs.shape_of(policy).active, written)}
        plain.append(Plain(name=name, right=results.accuracy(problem_set, policy, None, method, n).tolist(), cost=cost))

    def spent(method: str, n: int, inside: np.ndarray) -> dict[str, float]:
        """Means per problem, of those inside."""
        asked = (problem_set, policy, prm, method, n)
        written, read = (float(tokens(*asked)[inside].mean()) for tokens in (results.policy_tokens, results.prm_tokens))
        if np.isnan(read) and not is_imported(prm):
            read = written  # part of a pool; of an imported PRM it is not known what it read
        verifier = flops.inference(costs.shape_of(prm).active, read) if method_of(method).guided else 0
        return {"policy_tokens": written, "prm_tokens": read, "flops": flops.inference(costs.shape_of(policy).active, written) + verifier}

    for n in sorted(grid.budgets):
        values = choices.values(results, problem_set, policy, prm, n, candidates)
        fitted, same = fit(values, bins), fit(values, ["all"] * len(bins))
        right[n] = fitted.values.tolist()
        method, rule = candidates[same.choice["all"]]
        amounts = spent(method, n, np.ones(len(bins), bool))
        named = f"{METHODS[method].label}{f', {rule}' if method_of(method).guided else ''}, N = {n}"
        told = f"one method for all problems, chosen on others of them; on all: {named}"
        cost = {"samples": n, "tokens": amounts["policy_tokens"], "flops": amounts["flops"]}
        fixed.append(Plain(name=told, right=same.values.tolist(), cost=cost))
        for name in (name for name in choices.BINS if name in fitted.choice):
            method, rule = candidates[fitted.choice[name]]
            inside = bins == name
            row = {"difficulty": name, "method": method, "n": n, "problems": int(inside.sum())} | rule._asdict()
            entries.append(Entry(**row, **fitted.of_bin[name].columns(), **spent(method, n, inside)))
    return Strategy(
        policy=Model(policy, weights_of(policy)),
        prm=Model(prm, weights_of(prm)),
        sampling=Limits(**{name: getattr(grid, name) for name in Limits.model_fields}),
        beam_width=grid.beam_width,
        peek=peek,
        thresholds=(float(scores[bins == "easy"].min()), float(scores[bins == "medium"].min())),
        aggregate=grid.aggregate,
        learnt_on={problem_set: grid.problems[problem_set]},
        entries=entries,
        predicted=bins.tolist(),
        right=right,
        plain=plain,
        fixed=fixed,
    )


def save(strategies: Sequence[Strategy], path: Path) -> Path:
    write_text(path, StrategyFile(strategies=strategies).model_dump_json(indent=1) + "\n")
    return path


def load(path: Path, policy: str, prm: str) -> Strategy:
    """A strategy in a file; raises StrategyError where the file is missing or malformed, or holds none for exactly these weights."""
    command = f"python -m tts run 05_compute_optimal -p policy={policy} -p prm={prm}"
    if not path.exists():
        raise StrategyError(f"no strategy file {path}; run `{command}`")
    try:
        strategies = StrategyFile.model_validate_json(path.read_bytes()).strategies
    except ValidationError as error:
        first = explain(error, Strategy).splitlines()[0]
        raise StrategyError(f"{path} is not a strategy file of this version ({first}); run `{command}` again") from None
    for strategy in strategies:
        if (strategy.policy.name, strategy.prm.name) == (policy, prm):
            if (strategy.policy.weights, strategy.prm.weights) != (weights_of(policy), weights_of(prm)):
                raise StrategyError(f"{path} was made with other weights of {policy} or {prm}; run `{command}` again")
            return strategy
    held = "; ".join(f"{s.policy.name} with {s.prm.name}" for s in strategies) or "none"
    raise StrategyError(f"{path} holds no strategy for {policy} with {prm}; it holds {held}; run `{command}`")


def table(entries: Sequence[Entry]) -> pd.DataFrame:
    rows = pd.DataFrame([e.model_dump() for e in entries])
    return rows.astype({name: object for name in rows if rows[name].isna().any()}).fillna("unknown")


class Solution(NamedTuple):
    """What was done for a problem, and the selected candidate's answer, if there is one, and steps."""

    answer: str | None
    steps: tuple[str, ...]
    score: float  # mean PRM score of the first samples, from which the entry's difficulty was predicted
    entry: Entry
    policy_tokens: int  # of the first samples too
    prm_tokens: int  # likewise
    right_steps: int | None  # steps before the first wrong one; None where no exact checker tells


def solve(plan: Strategy, engines: Engines, problem: str, budget: float, unit: Unit = "samples", seed: int = 0) -> Solution:
    """Spends the budget by a problem's difficulty as a few samples tell it; raises as :meth:`Strategy.within`, and for an empty problem."""
    if not problem.strip():
        raise StrategyError("the problem is empty; give its text")
    entries = {e.difficulty: e for e in plan.within(budget, unit)}
    if pooled := next((e.method for e in entries.values() if method_of(e.method).stop or method_of(e.method).weigh), ""):
        told = f"{pooled} votes by what is stored of samples, their answers or the policy's confidence, which is not done here"
        raise StrategyError(f"{told}; leave it out of the methods of 05_compute_optimal and run that again")
    models = {"policies": [plan.policy.name], "prms": [plan.prm.name], "methods": ["majority"], "problems": plan.learnt_on}
    grid = grid_of(**models, **plan.sampling.model_dump(), beam_width=plan.beam_width, seed=seed)
    peeked = recorded.search(grid, engines, problem, "best_of_n", plan.peek, "asked")
    score = float(aggregates([c.scores or () for c in peeked.trajectories], plan.aggregate).mean())
    entry = entries[plan.difficulty(score)]
    outcome = recorded.search(grid, engines, problem, entry.method, entry.n, "asked")
    chosen = recorded.selected(grid, outcome, Rule(entry.aggregate, entry.vote))
    return Solution(
        grid.task.found_in(chosen.steps, outcome.prompt)[0] if chosen else None,
        chosen.steps if chosen else (),
        score,
        entry,
        peeked.policy_tokens + outcome.policy_tokens,
        peeked.prm_tokens + outcome.prm_tokens,
        grid.task.check_steps(problem, chosen.steps) if chosen else None,
    )
