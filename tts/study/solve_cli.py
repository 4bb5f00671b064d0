"""The commands that use a strategy: what to do at a budget, and doing it for a problem."""

# As in the command line: rooms are asked for as names of tts, which imports them then.
from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

import tts
from tts.common import paths
from tts.common.names import printable, shown
from tts.study.terminal import console, names_in, placed

if TYPE_CHECKING:
    from tts.strategy.adviser import Strategy

app = typer.Typer()

POLICIES, PRMS = names_in("data/models/policy-*"), names_in("data/models/prm-*")
Policy = Annotated[str, typer.Option(help="a policy's name, folder or Hub name", callback=placed, autocompletion=POLICIES)]
PRM = Annotated[str, typer.Option(help="a PRM's name, folder or Hub name", callback=placed, autocompletion=PRMS)]
Budget = Annotated[float, typer.Option(help="how much may be spent on one problem")]
Unit = Annotated[Literal["samples", "tokens", "flops"], typer.Option(help="of the budget: samples, policy tokens, or FLOPs of inference")]
StrategyFile = Annotated[Path | None, typer.Option(help="a file of 05_compute_optimal; by default those below figures/pocket")]


@app.command()
def advise(policy: Policy, prm: PRM, budget: Budget = 64, unit: Unit = "samples", strategy: StrategyFile = None) -> None:
    """Prints what to do at a budget, per difficulty: method, rule, N, expected accuracy with its interval, cost."""
    plan = _strategy(strategy, policy, prm)
    for e in plan.within(budget, unit):
        rule = "" if e.method == "majority" else f", {e.vote} vote" if e.vote == "majority" else f", PRM-{e.aggregate}-{e.vote}"
        what = (
            f": {e.method}{rule}, N = {e.n}; accuracy {e.accuracy:.1%} [{e.low:.0%}, {e.high:.0%}] on {e.problems} problems; "
            f"policy tokens {shown(e.policy_tokens, '.0f')}, PRM tokens {shown(e.prm_tokens, '.0f')}, FLOPs {shown(e.flops, '.2g')} each"
        )
        console.print(Text.assemble((e.difficulty, "bold"), what))
    console.print(Text.assemble(("all", "bold"), f": {plan.overall(budget, unit)}\n{plan.bought(budget, unit)}"))
    learnt_on = ", ".join(f"{count} of {name}" for name, count in plan.learnt_on.items())
    console.print(
        f"Learnt on {learnt_on}; accuracies are cross-fitted, with 95 % intervals. A problem is easy where the mean "
        f"PRM score of {plan.peek} samples is {plan.thresholds[0]:.2g} or more, hard below {plan.thresholds[1]:.2g}.",
        soft_wrap=False,
    )


@app.command()
def solve(
    problem: Annotated[str, typer.Argument(help="text of the problem")],
    policy: Policy,
    prm: PRM,
    budget: Budget = 64,
    unit: Unit = "samples",
    strategy: StrategyFile = None,
) -> None:
    """Judges a problem's difficulty from a few samples, spends the budget accordingly, and answers."""
    plan = _strategy(strategy, policy, prm)
    found = tts.adviser.solve(plan, tts.Engines(batch=128), problem, budget, unit)
    console.print(printable("\n".join(found.steps)))
    console.print(f"answer: {printable(found.answer) if found.answer is not None else 'none found'}", style="bold")
    if found.right_steps is not None:
        whole = found.right_steps == len(found.steps)
        console.print("exact checker: " + ("every step is right" if whole else f"step {found.right_steps + 1} is wrong"))
    console.print(
        f"judged {found.entry.difficulty} (PRM score {found.score:.2f}); ran {found.entry.method} with N = {found.entry.n}; "
        f"{found.policy_tokens} policy tokens, {found.prm_tokens} PRM tokens; {plan.bought(budget, unit)}"
    )


def _strategy(given: Path | None, policy: str, prm: str) -> Strategy:
    """The study's strategy of a policy and a PRM, else the latest one of a changed run."""
    study = paths.ROOT / "figures" / "pocket" / "strategy.json"
    own = sorted((study.parent / tts.presets.OWN).glob("*/strategy.json"), key=lambda path: -path.stat().st_mtime)
    for path in (study, *own) if given is None else ():
        with suppress(tts.adviser.StrategyError):
            return tts.adviser.load(path, policy, prm)
    return tts.adviser.load(given or study, policy, prm)
