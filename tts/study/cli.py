"""The command line: run notebooks or the whole study, list what there is, look into the store."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tts.analysis import difficulty, gpu_hours, run_comparison
from tts.common.files import replacing
from tts.common.paths import ROOT
from tts.exchange import plain, summary
from tts.generate import ray_pool
from tts.generate.chunks import Engines
from tts.generate.dry_run import Estimate, estimate
from tts.generate.grid import Grid, grid_of
from tts.generate.local_pool import WorkerError
from tts.models.files import pocket_models, trained_here
from tts.reward_models import FAMILIES
from tts.search.registry import compared
from tts.store import imported
from tts.store.store import Store, StoreError, describe
from tts.strategy import adviser
from tts.study import execution, parameters, presets
from tts.study.parameters import declared
from tts.tasks.problems import problem_sets

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
EXPECTED = (ValueError, OSError, StoreError, ray_pool.ClusterError, WorkerError)

FINDINGS = "09_findings"
POLICY_FORMS = ["path/to/folder", "owner/model", "path/to/file.gguf", "pypi:PACKAGE==VERSION", "vllm:MODEL", "http://HOST:PORT/v1#MODEL"]

Preset = Annotated[str, typer.Option(help="a preset's name, see 'list', or a preset file")]
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
    workers: Annotated[int, typer.Option(min=1, help="notebooks executed side by side")] = 2,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="generate in this process, or spread over a Ray cluster")] = "local",
    address: Annotated[str | None, typer.Option(help="of the cluster's head, host:port; by default this machine's cluster")] = None,
    gpus: Annotated[float | None, typer.Option(help="of each of the cluster's actors; by default 1 where there are any")] = None,
) -> None:
    """Runs notebooks: generates what they need, executes them, renders figures and the report."""
    started = time.monotonic()
    if engine == "local" and (address or gpus is not None):
        raise ray_pool.ClusterError("--address and --gpus are of a cluster; say --engine ray too")
    jobs = presets.plan(preset, notebooks, presets.parse_overrides(parameter))
    for job in jobs:
        shown = escape(str(job.experiment() or "generates as it runs"))
        console.print(f"[bold]{job.notebook}[/bold]\n{shown}", highlight=False, soft_wrap=True)
    if dry_run:
        console.print(_estimate(jobs))
        return
    with resumable(), ray_pool.using(address, gpus) if engine == "ray" else nullcontext():
        presets.fill(jobs)
        outcome, page, figures = _render(jobs, preset, workers)
    _closing(outcome, page, figures, time.monotonic() - started)
    if any(outcome.values()):
        raise typer.Exit(1)


def _render(jobs: list[presets.Job], preset: str, workers: int) -> tuple[dict[str, str | None], Path, Path]:
    """Executes the notebooks and binds the report."""
    threading.Thread(target=import_module, args=("tts.report.html",), daemon=True).start()  # meanwhile: nbconvert takes a second
    figures = (presets.NOTEBOOKS / ({"figures": "../figures"} | declared(jobs[0].notebook) | jobs[0].parameters)["figures"]).resolve()
    output = figures / "notebooks"
    outcome = execution.execute(jobs, output, workers)
    failures = {name: reason for name, reason in outcome.items() if reason}
    earlier = [(job, path, ended) for job, path, ended in execution.executed(output) if job.notebook not in outcome]
    bound = sorted([path for _, path, _ in earlier] + [path for name in outcome if (path := output / f"{name}.ipynb").exists()])
    results = [experiment.results for job in jobs if (experiment := job.experiment())]
    for job, *_ in earlier:
        with suppress(*EXPECTED):  # its models or problems may be gone since
            if experiment := job.experiment():
                experiment.check()
                results.append(experiment.results)
    ledger = figures / "ledger.csv" if FINDINGS in {path.stem for path in bound} - set(failures) else None
    title = f"Test-time scaling: preset {preset}"
    ended = {path.stem: when for _, path, when in earlier}
    from tts.report import html

    page = html.build(bound, failures, figures / "report.html", title, ledger, results, ended)
    return outcome, page, figures


def _estimate(jobs: list[presets.Job]) -> str:
    """Tokens and time of what is missing, measured on a short sample of each model; shared runs count once."""
    total, counted = Estimate(), set()
    experiments = [experiment for job in jobs if (experiment := job.experiment())]
    if models := [name for names in presets.absent(experiments)[1:] for name in names]:
        return f"not on this machine, and not measured: {', '.join(models)}; 'estimate' says without them what they would take"
    for job in jobs:
        for grid in job.grids():
            total += estimate(grid, job.experiment().store, counted)
    return f"to generate: {total}"


def _closing(outcome: dict[str, str | None], page: Path, figures: Path, seconds: float) -> None:
    table = Table("notebook", "outcome")
    for name, reason in outcome.items():
        table.add_row(name, "[green]done[/green]" if reason is None else f"[red]{escape(reason)}[/red]")
    console.print(table)
    pngs = sorted(figures.glob("*.png"))
    places = escape(f"{len(pngs)} figures in {figures} (each as .pdf, .png, .csv and .json)\nreport: {page}")
    console.print(f"{places}\ntook {seconds / 60:.1f} minutes")
    for finding in sorted(figures.glob("findings-*.txt")):
        console.print(escape(finding.read_text().rstrip()), highlight=False, soft_wrap=True)


@app.command("estimate")
def estimate_(
    notebooks: Annotated[list[str] | None, typer.Argument(help="which notebooks; all of the preset by default")] = None,
    preset: Preset = "paper",
    parameter: Overrides = [],  # noqa: B006 (typer needs a plain default)
    tokens: Annotated[list[str], typer.Option(metavar="SET=TOKENS", help="of a solution of a problem set")] = [],  # noqa: B006
    peak: Annotated[float, typer.Option(help="TFLOP/s of one GPU; an H100 has 989 in bf16")] = 989,
    decoding: Annotated[float, typer.Option(help="share of them that generating reaches")] = 0.1,
    reading: Annotated[float, typer.Option(help="share of them that a PRM reaches")] = 0.4,
) -> None:
    """Estimates tokens and GPU hours of a preset from the FLOPs model, before anything is spent; needs no model."""
    jobs = presets.plan(preset, notebooks, presets.parse_overrides(parameter), look_up=False)
    lengths = {name: float(count) for name, count in presets.parse_overrides(tokens).items()}
    assumed = gpu_hours.Assumptions(gpu_hours.Assumptions().tokens | lengths, peak=peak * 1e12, decoding=decoding, reading=reading)
    found = gpu_hours.table([grid for job in jobs for grid in job.grids()], assumed)
    print(assumed, gpu_hours.markdown(found), sep="\n\n")


@app.command("list")
def list_() -> None:
    """Lists presets, notebooks, policies, PRMs, problem sets and methods."""
    rows = {
        "presets": presets.presets(),
        "notebooks": parameters.notebooks(),
        "policies": [*pocket_models("policy"), *trained_here(prm=False), *POLICY_FORMS],
        "PRMs": [
            *pocket_models("prm"),
            *trained_here(prm=True),
            "implicit:POLICY",
            "dial:FALSE_POSITIVE,FALSE_NEGATIVE",
            *(f"{family}:MODEL" for family in FAMILIES if family != "implicit"),
            "vllm:PRM",
            "FAMILY:http://HOST:PORT/v1#MODEL",
        ],
        "problem sets": problem_sets(),
        "methods": compared(),
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
    held = presets.store_of(preset)
    if not clean:
        _say_what_is_unfinished(held)
    if export:
        if not export.parent.is_dir():
            raise StoreError(f"no folder {export.parent} to write {export.name} to; make it, or choose another")
        with replacing(export) as temporary, temporary.open("w", encoding="utf-8") as file:
            count = sum(1 for _ in map(lambda line: file.write(line + "\n"), held.export()))
        console.print(escape(f"{count} records written to {export}"))
        return
    if clean:
        lock = held.lock()
        console.print(escape(f"deleted {held.clean()} runs from {held.folder}"))
        lock.release()
        return
    table = Table("run", "seed", "key", "chunks", "KiB")
    for run, chunks, size in held.sizes():
        table.add_row(escape(describe(run.spec)), str(run.spec["sampling"]["seed"]), run.key, str(chunks), f"{size / 1024:.0f}")
    console.print(table)


def _say_what_is_unfinished(held: Store) -> None:
    for name in imported.unfinished(held):
        print(f"warning: the import {name} was not finished, and a part of it is here; import its files again", file=sys.stderr)


StoreFolder = Annotated[Path | None, typer.Option("--store", help="folder of the store; the preset's by default")]


@app.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(help="output of the study's code or of search-and-learn, or plain JSON lines or parquet (docs/formats.md)")
    ],
    preset: Preset = "pocket",
    store: StoreFolder = None,
    name: Annotated[str, typer.Option(help="of the import; the folder's by default")] = "",
    policy: Annotated[str, typer.Option(help="the policy's name, where the format has none")] = "",
    prm: Annotated[str, typer.Option(help="the PRM's name, where the format has none")] = "",
) -> None:
    """Imports runs that were made with other tools, and says what they hold, what could not be used, and how to render figures."""
    held = Store(store) if store else presets.store_of(preset)
    for line in summary.import_all(held, folder, name, policy, prm):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="to write; it ends in .jsonl or .parquet")],
    preset: Preset = "pocket",
    store: StoreFolder = None,
) -> None:
    """Writes everything in a store to one file, in the plain format (docs/formats.md), which 'import' reads."""
    held = Store(store) if store else presets.store_of(preset)
    _say_what_is_unfinished(held)
    console.print(f"{plain.write(plain.rows(held), file)} records written to {file}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="a run's key as 'store' lists it, or its beginning")],
    run_b: Annotated[str, typer.Argument(help="another run's key")],
    preset: Preset = "pocket",
    store: StoreFolder = None,
    aggregate: Annotated[str, typer.Option(help="step scores to one score")] = "product",
    vote: Annotated[str, typer.Option(help="candidates to one answer")] = "vote",
) -> None:
    """Compares two stored runs: paired difference in accuracy on the problems that both hold, and tokens."""
    held = Store(store) if store else presets.store_of(preset)
    rule = grid_of(problems={"any": 1}, policies=["any"], methods=["majority"], samples=1, budgets=[1], aggregate=aggregate, vote=vote).rule
    found = run_comparison.compare(run_comparison.find(held, run_a), run_comparison.find(held, run_b), rule)
    table = Table("run", "accuracy (%)", "policy tokens", "PRM tokens", title=f"{found.problems} common problems")
    for side in (found.first, found.second):
        i = side.accuracy
        shown = f"{100 * i.estimate:.1f} [{100 * i.low:.1f}, {100 * i.high:.1f}]"
        table.add_row(escape(side.name), shown, f"{side.policy_tokens:,.0f}", f"{side.prm_tokens:,.0f}")
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
        path = presets.collect_outcomes(preset, presets.parse_overrides(parameter), name)
    console.print(escape(f"outcomes of {preset} in {path}"))


@app.command("difficulty")
def difficulty_(
    policies: Annotated[list[str], typer.Argument(help="policies to count for")],
    problems: Annotated[str, typer.Option(help="problem set")] = "pocket-main",
    count: Annotated[int, typer.Option(help="how many of its problems")] = 200,
    samples: Annotated[int, typer.Option(help="separate samples a problem")] = 256,
    split: Annotated[str, typer.Option(help="development, selection or test problems")] = "test",
) -> None:
    """Counts right samples per problem, from samples no method is judged on, and keeps the counts under data/difficulty."""
    grid = grid_of(problems={problems: count}, policies=policies, methods=["majority"], samples=samples, budgets=[1], split=split)
    with resumable():
        _count(grid, policies, problems, samples)


def _count(grid: Grid, policies: list[str], problems: str, samples: int) -> None:
    for policy in policies:
        path = difficulty.commit_counts(difficulty.count(grid, presets.store_of("pocket"), policy, problems, samples), problems)
        console.print(escape(f"{policy}: counts of {samples} samples for each problem of {problems} in {path}"))


Policy = Annotated[str, typer.Option(help="a policy's name, folder or Hub name")]
PRM = Annotated[str, typer.Option(help="a PRM's name, folder or Hub name")]
Budget = Annotated[float, typer.Option(help="how much may be spent on one problem")]
BudgetUnit = Annotated[adviser.Unit, typer.Option(help="of the budget: samples, policy tokens, or FLOPs of inference")]
StrategyFile = Annotated[Path | None, typer.Option(help="a file of 05_compute_optimal; by default those below figures/pocket")]
STRATEGIES = [ROOT / "figures" / "pocket" / folder / "strategy.json" for folder in (".", presets.OWN)]


@app.command()
def advise(policy: Policy, prm: PRM, budget: Budget = 64, unit: BudgetUnit = "samples", strategy: StrategyFile = None) -> None:
    """Prints what to do at a budget, per difficulty: method, rule, N, expected accuracy with its interval, cost."""
    plan = _strategy(strategy, policy, prm)
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
    strategy: StrategyFile = None,
) -> None:
    """Judges a problem's difficulty from a few samples, spends the budget accordingly, and answers."""
    found = adviser.solve(_strategy(strategy, policy, prm), Engines(batch=128), problem, budget, unit)
    console.print(_printable("\n".join(found.steps)), markup=False)
    console.print(f"[bold]answer: {escape(_printable(found.answer)) if found.answer is not None else 'none found'}[/bold]")
    console.print(
        f"judged {found.difficulty} (PRM score {found.score:.2f}); ran {found.entry.method} with N = {found.entry.n}; "
        f"{found.policy_tokens} policy tokens, {found.prm_tokens} PRM tokens",
        highlight=False,
    )


def _strategy(given: Path | None, policy: str, prm: str) -> adviser.Strategy:
    """The study's strategy of a policy and a PRM, else the one of models of one's own."""
    if given is None and STRATEGIES[1].exists():
        with suppress(adviser.StrategyError):
            return adviser.load(STRATEGIES[0], policy, prm)
        with suppress(adviser.StrategyError):
            return adviser.load(STRATEGIES[1], policy, prm)
    return adviser.load(given or STRATEGIES[0], policy, prm)


def guarded(command: typer.Typer) -> None:
    """Runs a command line: expected errors are one line on stderr and exit code 2."""
    try:
        command()
    except EXPECTED as error:
        print(f"error: {_printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None


def _printable(text: str) -> str:
    """A message without the control characters that an input may hold: they would move a terminal's cursor or colour it."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def main() -> None:
    """Entry point of ``python -m tts``."""
    guarded(app)
