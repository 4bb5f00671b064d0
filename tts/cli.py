"""The command line: run notebooks or the whole study, list what there is, look into the store."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tts import study
from tts.advice import adviser
from tts.analysis import difficulty
from tts.experiment import ParameterError
from tts.models import ModelError, pocket_models
from tts.paths import ROOT
from tts.problems import ProblemError, problem_sets
from tts.report import html
from tts.reward_models import FAMILIES
from tts.runs import comparison
from tts.runs.estimate import Estimate, estimate
from tts.runs.grid import SEARCHES, Grid
from tts.runs.store import Store, StoreError, describe

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
EXPECTED = (study.StudyError, ParameterError, ModelError, ProblemError, StoreError, ValueError, OSError)

FINDINGS = "09_findings"

Preset = Annotated[str, typer.Option(help="a preset's name; see 'list'")]
Overrides = Annotated[list[str], typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="overrides a parameter")]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nstopped; the same command continues where it was", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def run(
    notebooks: Annotated[list[str] | None, typer.Argument(help="which notebooks; all of the preset by default")] = None,
    preset: Preset = "pocket",
    parameter: Overrides = [],  # noqa: B006 (typer needs a plain default)
    dry_run: Annotated[bool, typer.Option(help="say what would run, and stop")] = False,
    workers: Annotated[int, typer.Option(help="notebooks executed side by side")] = 2,
) -> None:
    """Runs notebooks: generates what they need, executes them, renders figures and the report."""
    started = time.monotonic()
    jobs = study.plan(preset, notebooks, study.parse_overrides(parameter))
    for job in jobs:
        console.print(f"[bold]{job.notebook}[/bold]\n{job.experiment() or 'generates as it runs'}", highlight=False, soft_wrap=True)
    if dry_run:
        console.print(_estimate(jobs))
        return
    with resumable():
        study.fill(jobs)
        outcome, page, figures = _render(jobs, preset, workers)
    _closing(outcome, page, figures, time.monotonic() - started)
    if any(outcome.values()):
        raise typer.Exit(1)


def _render(jobs: list[study.Job], preset: str, workers: int) -> tuple[dict[str, str | None], Path, Path]:
    """Executes the notebooks and binds the report."""
    figures = (study.NOTEBOOKS / ({"figures": "../figures"} | study.declared(jobs[0].notebook) | jobs[0].parameters)["figures"]).resolve()
    output = figures / "notebooks"
    outcome = study.execute(jobs, output, workers)
    failures = {name: reason for name, reason in outcome.items() if reason}
    executed = [output / f"{name}.ipynb" for name in outcome if (output / f"{name}.ipynb").exists()]
    experiments = [experiment for job in jobs if (experiment := job.experiment())]
    ledger = figures / "ledger.csv" if FINDINGS in outcome and not outcome[FINDINGS] else None
    page = html.build(executed, failures, figures / "report.html", f"Test-time scaling: preset {preset}", ledger, experiments)
    return outcome, page, figures


def _estimate(jobs: list[study.Job]) -> str:
    """Tokens and time of what is missing, measured on a short sample of each model; shared runs count once."""
    total, counted = Estimate(), set()
    for job in jobs:
        if experiment := job.experiment():
            total += estimate(experiment.grid, experiment.store, counted)
    return f"to generate: {total}"


def _closing(outcome: dict[str, str | None], page: Path, figures: Path, seconds: float) -> None:
    table = Table("notebook", "outcome")
    for name, reason in outcome.items():
        table.add_row(name, "[green]done[/green]" if reason is None else f"[red]{reason}[/red]")
    console.print(table)
    pngs = sorted(figures.glob("*.png"))
    console.print(f"{len(pngs)} figures in {figures} (each as .pdf, .png, .csv and .json)\nreport: {page}\ntook {seconds / 60:.1f} minutes")
    for finding in sorted(figures.glob("findings-*.txt")):
        console.print(finding.read_text().rstrip(), highlight=False, soft_wrap=True)


@app.command("list")
def list_() -> None:
    """Lists presets, notebooks, policies, PRMs, problem sets and methods."""
    rows = {
        "presets": study.presets(),
        "notebooks": study.notebooks(),
        "policies": [*pocket_models("policy"), "path/to/folder", "owner/model"],
        "PRMs": [
            *pocket_models("prm"),
            "implicit:POLICY",
            "dial:FALSE_POSITIVE,FALSE_NEGATIVE",
            *(f"{family}:MODEL" for family in FAMILIES if family != "implicit"),
        ],
        "problem sets": problem_sets(),
        "methods": ["majority", "best_of_n", *SEARCHES],
    }
    for name, values in rows.items():
        console.print(f"[bold]{name}[/bold]: {', '.join(values)}", highlight=False)


@app.command()
def store(
    preset: Preset = "pocket",
    clean: Annotated[bool, typer.Option(help="delete every stored run")] = False,
    export: Annotated[Path | None, typer.Option(help="write the canonical export to this JSONL file")] = None,
) -> None:
    """Shows what the store holds and how large it is; cleans or exports it."""
    held = study.store_of(preset)
    if export:
        temporary = export.with_name(export.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            count = sum(1 for _ in map(lambda line: file.write(line + "\n"), held.export()))
        temporary.replace(export)
        console.print(f"{count} records written to {export}")
        return
    if clean:
        lock = held.lock()
        console.print(f"deleted {held.clean()} runs from {held.folder}")
        lock.release()
        return
    table = Table("run", "seed", "key", "chunks", "KiB")
    for run, chunks, size in held.sizes():
        table.add_row(describe(run.spec), str(run.spec["sampling"]["seed"]), run.key, str(chunks), f"{size / 1024:.0f}")
    console.print(table)


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="a run's key as 'store' lists it, or its beginning")],
    run_b: Annotated[str, typer.Argument(help="another run's key")],
    preset: Preset = "pocket",
    store: Annotated[Path | None, typer.Option(help="folder of the store; the preset's by default")] = None,
    aggregate: Annotated[str, typer.Option(help="step scores to one score")] = "product",
    vote: Annotated[str, typer.Option(help="candidates to one answer")] = "vote",
) -> None:
    """Compares two stored runs: paired difference in accuracy on the problems that both hold, and tokens."""
    held = Store(store) if store else study.store_of(preset)
    rule = Grid(problems={"any": 1}, policies=["any"], methods=["majority"], samples=1, budgets=[1], aggregate=aggregate, vote=vote).rule
    found = comparison.compare(comparison.find(held, run_a), comparison.find(held, run_b), rule)
    table = Table("run", "accuracy (%)", "policy tokens", "PRM tokens", title=f"{found.problems} common problems")
    for side in (found.first, found.second):
        i = side.accuracy
        shown = f"{100 * i.estimate:.1f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"
        table.add_row(side.name, shown, f"{side.policy_tokens:,.0f}", f"{side.prm_tokens:,.0f}")
    console.print(table)
    if found.difference is None:
        console.print(found.verdict)
        return
    d = found.difference
    console.print(
        f"first less second: {100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] points ({d.method}, paired, 95 %); "
        f"that the first is more accurate is {found.verdict}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def outcomes(
    preset: Preset = "pocket-full",
    parameter: Overrides = [],  # noqa: B006 (typer needs a plain default)
    name: Annotated[str, typer.Option(help="of the file; the preset's by default")] = "",
) -> None:
    """Runs a preset for each of its seeds and keeps every problem's outcome under data/outcomes, to show beside later runs."""
    with resumable():
        path = study.collect_outcomes(preset, study.parse_overrides(parameter), name)
    console.print(f"outcomes of {preset} in {path}")


@app.command("difficulty")
def difficulty_(
    policies: Annotated[list[str], typer.Argument(help="policies to count for")],
    problems: Annotated[str, typer.Option(help="problem set")] = "pocket-main",
    count: Annotated[int, typer.Option(help="how many of its problems")] = 200,
    samples: Annotated[int, typer.Option(help="separate samples a problem")] = 256,
    split: Annotated[str, typer.Option(help="development, selection or test problems")] = "test",
) -> None:
    """Counts right samples per problem, from samples no method is judged on, and keeps the counts under data/difficulty."""
    grid = Grid(problems={problems: count}, policies=policies, methods=["majority"], samples=samples, budgets=[1], split=split)
    with resumable():
        _count(grid, policies, problems, samples)


def _count(grid: Grid, policies: list[str], problems: str, samples: int) -> None:
    for policy in policies:
        path = difficulty.commit_counts(difficulty.count(grid, study.store_of("pocket"), policy, problems, samples), problems)
        console.print(f"{policy}: counts of {samples} samples for each problem of {problems} in {path}")


Policy = Annotated[str, typer.Option(help="a policy's name, folder or Hub name")]
PRM = Annotated[str, typer.Option(help="a PRM's name, folder or Hub name")]
Budget = Annotated[float, typer.Option(help="how much may be spent on one problem")]
BudgetUnit = Annotated[adviser.Unit, typer.Option(help="of the budget: samples, policy tokens, or FLOPs of inference")]
StrategyFile = Annotated[Path, typer.Option(help="a strategy.json that 05_compute_optimal wrote")]
OWN_STRATEGY = ROOT / "figures" / "pocket" / "strategy.json"


@app.command()
def advise(policy: Policy, prm: PRM, budget: Budget = 64, unit: BudgetUnit = "samples", strategy: StrategyFile = OWN_STRATEGY) -> None:
    """Prints what to do at a budget, per difficulty: method, rule, N, expected accuracy with its interval, cost."""
    plan = adviser.load(strategy, policy, prm)
    for e in plan.within(budget, unit):
        rule = "" if e.method == "majority" else f", {e.vote} vote" if e.vote == "majority" else f", PRM-{e.aggregate}-{e.vote}"
        console.print(
            f"[bold]{e.difficulty}[/bold]: {e.method}{rule}, N = {e.n}; accuracy {e.accuracy:.1%} [{e.low:.0%}, {e.high:.0%}] on "
            f"{e.problems} problems; {e.policy_tokens:.0f} policy tokens, {e.prm_tokens:.0f} PRM tokens, {e.flops:.2g} FLOPs each",
            highlight=False,
            soft_wrap=True,
        )
    learnt_on = ", ".join(f"{count} of {name}" for name, count in plan.learnt_on.items())
    console.print(
        f"Learnt on {learnt_on}; accuracies are cross-fitted, with 95 % bootstrap intervals. A problem is easy where the mean "
        f"PRM score of {plan.peek} samples is {plan.thresholds[0]:.2f} or more, hard below {plan.thresholds[1]:.2f}.",
        highlight=False,
    )


@app.command()
def solve(
    problem: Annotated[str, typer.Argument(help="its text")],
    policy: Policy,
    prm: PRM,
    budget: Budget = 64,
    unit: BudgetUnit = "samples",
    strategy: StrategyFile = OWN_STRATEGY,
) -> None:
    """Judges a problem's difficulty from a few samples, spends the budget accordingly, and answers."""
    found = adviser.solve(adviser.load(strategy, policy, prm), problem, budget, unit)
    console.print("\n".join(found.steps), markup=False)
    console.print(f"[bold]answer: {found.answer if found.answer is not None else 'none found'}[/bold]")
    console.print(
        f"judged {found.difficulty} (PRM score {found.score:.2f}); ran {found.entry.method} with N = {found.entry.n}; "
        f"{found.policy_tokens} policy tokens, {found.prm_tokens} PRM tokens",
        highlight=False,
    )


def guarded(command: typer.Typer) -> None:
    """Runs a command line: expected errors are one line on stderr and exit code 2."""
    try:
        command()
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def main() -> None:
    """Entry point of ``python -m tts``."""
    guarded(app)
