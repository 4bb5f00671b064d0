"""The command line: run notebooks or the whole study, list what there is, look into the store."""

# Rooms are asked for as names of tts, which imports them then: help and completion must not wait for pandas, pyarrow and torch.
from __future__ import annotations

import json
import time
from contextlib import nullcontext, suppress
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Column, Table
from rich.text import Text

import tts
from tts.common.names import printable
from tts.study import figure_cli, solve_cli, store_cli
from tts.study.terminal import Preset, console, guarded, names_in, placed, resumable

if TYPE_CHECKING:
    from tts.study.presets import Job

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Notebooks = Annotated[
    list[str] | None,
    typer.Argument(
        help="which notebooks, by name, number or path; all of the preset by default", autocompletion=names_in("notebooks/*.ipynb")
    ),
]
Overrides = Annotated[list[str], typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="overrides a parameter")]


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="print it")] = False) -> None:
    if version:
        print(f"tts-notebooks {metadata.version('tts-notebooks')}")
        raise typer.Exit


@app.command()
def run(
    notebooks: Notebooks = None,
    preset: Preset = "pocket",
    parameter: Overrides = [],  # noqa: B006 (typer needs a plain default)
    first_n: Annotated[bool, typer.Option("--first-n", help="accuracy of the first N samples, not the expectation over subsets")] = False,
    dry_run: Annotated[bool, typer.Option(help="say what would run, and stop; no model is loaded")] = False,
    measure: Annotated[bool, typer.Option(help="of a dry run: load the models, and measure how long it would take")] = False,
    limit: Annotated[float | None, typer.Option(min=0, help="minutes that measuring may take; 2 by default")] = None,
    workers: Annotated[int, typer.Option(min=1, help="notebooks executed side by side")] = 2,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="generate in this process, or spread over a Ray cluster")] = "local",
    address: Annotated[str | None, typer.Option(help="address of the cluster's head, host:port; by default this machine's cluster")] = None,
    gpus: Annotated[float | None, typer.Option(help="GPUs of each of the cluster's actors; by default 1 where there are any")] = None,
) -> None:
    """Runs notebooks: generates what they need, executes them, renders figures and the report."""
    started, began = time.monotonic(), time.time()
    if engine == "local" and (address or gpus is not None):
        raise tts.ray_pool.ClusterError("--address and --gpus are of a cluster; say --engine ray too")
    if (measure or limit is not None) and not dry_run:
        raise ValueError("--measure and --limit are of a dry run; say --dry-run too")
    for line in [] if dry_run else tts.presets.import_released(preset):
        console.print(printable(line))
    jobs = tts.presets.plan(preset, notebooks, tts.presets.parse_overrides([*parameter, "subsets=first"] if first_n else parameter))
    for text, job in zip(notebooks or [], jobs):
        if text != job.notebook:
            console.print(f"{text}: {'would run' if dry_run else 'running'} {job.notebook}")
    for job in jobs:
        console.print(Text.assemble((job.notebook, "bold"), f"\n{job.experiment() or 'generates as it runs'}"))
    if dry_run:
        _say_what_is_missing(jobs, 2.0 if measure and limit is None else limit)
        return
    tts.execution.check_writable(map(tts.execution.output_of, jobs))
    with resumable(), tts.ray_pool.using(address, gpus) if engine == "ray" else nullcontext():
        tts.presets.fill(jobs)
        outcome, page, figures = tts.execution.render(jobs, workers)
    table = Table("notebook", Column("outcome", overflow="fold"))
    for name, reason in outcome.items():
        table.add_row(name, Text("done", "green") if reason is None else Text(reason, "red"))
    console.print(table)
    count = len(list(figures.glob("*.png")))
    console.print(f"{count} figure{'s' * (count != 1)} in {figures} (each as .pdf, .png, .csv, .json and .txt)\nreport: {page}")
    console.print(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    for name in sorted(outcome):  # of this run: others may lie beside them
        if (found := tts.execution.findings_of(name, figures)).exists():
            console.print(found.read_text().rstrip())
    console.print(*(f"\n{held}" for name in sorted(outcome) if (held := tts.redraw.results(figures, name, began))), sep="\n")
    if any(outcome.values()):
        raise typer.Exit(1)


def _say_what_is_missing(jobs: list[Job], minutes: float | None) -> None:
    """Prints what a run would generate and download; measures how long that takes, for some minutes, where they are given."""
    experiments = tts.presets.experiments(jobs)
    models = [name for names in tts.presets.absent(experiments) for name in names]
    if models:
        console.print(f"to download: {', '.join(models)}")
    items = tts.dry_run.missing_of((grid, experiment.store) for experiment in experiments for grid in experiment.grids())
    if not items:
        console.print("nothing to generate")
        return
    names = [Column(name, overflow="fold") for name in ("policy", "PRM", "method")]
    numbers = [Column(name, justify="right") for name in ("chunks", "solutions", "million tokens at most")]
    table = Table(*names, *numbers, title="to generate")
    for row in tts.dry_run.table(items):
        table.add_row(*row)
    console.print(table, soft_wrap=False)
    if minutes is None:
        console.print("--measure says how long that takes here")
    elif models:
        console.print("not measured: what has to be downloaded first; 'estimate' says without models what they would take")
    else:
        console.print(f"to generate: {tts.dry_run.measure(items, minutes)}")


@app.command("estimate")
def estimate_(
    notebooks: Notebooks = None,
    preset: Preset = "paper",
    parameter: Overrides = [],  # noqa: B006 (typer needs a plain default)
    tokens: Annotated[list[str], typer.Option(metavar="SET=TOKENS", help="tokens of a solution of a problem set")] = [],  # noqa: B006
    peak: Annotated[float | None, typer.Option(min=1e-3, help="TFLOP/s of one GPU; by default an H100's 989 in bf16")] = None,
    decoding: Annotated[float, typer.Option(min=1e-6, max=1, help="share of the peak that generating reaches")] = 0.1,
    reading: Annotated[float, typer.Option(min=1e-6, max=1, help="share of the peak that a PRM reaches")] = 0.4,
    gpu: Annotated[
        float | None, typer.Option(min=1, max=1e4, metavar="GB", help="memory of one GPU, with its --peak: what fits, how long it takes")
    ] = None,
) -> None:
    """Estimates tokens and GPU hours of a preset from the FLOPs model, before anything is spent; needs no model."""
    experiments = tts.presets.experiments(tts.presets.plan(preset, notebooks, tts.presets.parse_overrides(parameter), look_up=False))
    asked, lengths = {name for experiment in experiments for name in experiment.grid.problems}, {}
    for name, _, count in (given.partition("=") for given in tokens):
        with suppress(ValueError):
            lengths[name] = float(count)
        if name not in asked or not 0 < lengths.get(name, 0) < float("inf"):
            raise ValueError(f"--tokens {name}={count}: say SET=TOKENS, a positive number for one of {', '.join(sorted(asked))}")
    if gpu and peak is None:
        raise ValueError(f"--gpu {gpu:g} needs that GPU's rate too: --peak TFLOP/s in bf16, such as 165.2 of an RTX 4090, 989 of an H100")
    lengths = tts.gpu_hours.Assumptions().tokens | lengths
    assumed = tts.gpu_hours.Assumptions(lengths, peak=(peak or 989) * 1e12, decoding=decoding, reading=reading)
    grids = [grid for experiment in experiments for grid in experiment.grids()]
    found = tts.gpu_hours.table(grids, assumed)
    if gpu:
        print(assumed, end="\n\n")
        print(tts.gpu_hours.fitting(found, gpu, assumed.prompt + max(grid.sampling().max_tokens for grid in grids)))
    else:
        print(assumed, tts.gpu_hours.markdown(found), sep="\n\n")


@app.command("list")
def list_(
    notebook: Annotated[str, typer.Argument(help="list its parameters instead", autocompletion=names_in("notebooks/*.ipynb"))] = "",
) -> None:
    """Lists presets, notebooks, policies, PRMs, problem sets and methods; or a notebook's parameters with what they mean."""
    if notebook:
        name = tts.parameters.named_notebook(notebook)
        for parameter, default, meaning in tts.parameters.described(name):
            console.print(Text.assemble((parameter, "bold"), f": {meaning}\n    {default}"))
        console.print(f"change them with -p: python -m tts run {name} -p NAME=VALUE, or an entry of a mapping with -p NAME.ENTRY=VALUE")
        return
    from tts.models.files import trained_here
    from tts.reward_models import FAMILIES, rules
    from tts.search.registry import compared
    from tts.tasks.problems import problem_sets

    other_policies = "path/to/folder, owner/model, path/to/file.gguf, pypi:PACKAGE==VERSION, vllm:MODEL, http://HOST:PORT/v1#MODEL"
    families = (f"{family}:MODEL" for family in FAMILIES if family != "implicit")
    other_prms = ["dial:FALSE_POSITIVE,FALSE_NEGATIVE", *rules.names(), *families, "vllm:PRM", "FAMILY:http://HOST:PORT/v1#MODEL"]
    rows = {
        "presets": tts.presets.presets(),
        "notebooks": tts.parameters.notebooks(),
        "policies": [*tts.pocket_models("policy"), *trained_here(prm=False), other_policies],
        "PRMs": [*tts.pocket_models("prm"), *trained_here(prm=True), "implicit:POLICY", *other_prms],
        "problem sets": problem_sets(),
        "methods": compared(),
    }
    for name, values in rows.items():
        console.print(Text.assemble((name, "bold"), f": {', '.join(values)}"), soft_wrap=False)


@app.command()
@resumable()
def outcomes(
    preset: Preset = "pocket-full",
    parameter: Overrides = [],  # noqa: B006 (typer needs a plain default)
    name: Annotated[str, typer.Option(help="name of the file; the preset's by default")] = "",
) -> None:
    """Runs a preset for each of its seeds and keeps every problem's outcome under data/outcomes, to show beside later runs."""
    path = tts.presets.collect_outcomes(preset, tts.presets.parse_overrides(parameter), name)
    console.print(f"outcomes of {preset} in {path}")


@app.command("difficulty")
@resumable()
def difficulty_(
    policies: Annotated[list[str], typer.Argument(help="policies to count for", callback=placed)],
    problems: Annotated[str, typer.Option(help="problem set", callback=placed)] = "pocket-main",
    count: Annotated[int, typer.Option(help="how many of its problems")] = 200,
    samples: Annotated[int, typer.Option(help="separate samples a problem")] = 256,
    split: Annotated[str, typer.Option(help="development, selection, confirmation, confirmation-2 or test problems")] = "test",
) -> None:
    """Counts right samples per problem, from samples no method is judged on, and keeps the counts under data/difficulty."""
    grid = tts.grid_of(problems={problems: count}, policies=policies, methods=["majority"], samples=samples, budgets=[1], split=split)
    for policy in policies:
        counts = tts.difficulty.count(grid, tts.presets.store_of("pocket"), policy, problems, samples)
        path = tts.difficulty.commit_counts(counts, problems)
        console.print(f"{policy}: counts of {samples} samples for each problem of {problems} in {path}")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="as a JSON list")] = False) -> None:
    """Says what is here of what the suite uses, and what each lack costs; exit code 1 where the default study cannot run."""
    found = list(tts.doctor.checks())
    for check in [] if as_json else found:
        state = ("lacks", "red" if check.needed else "yellow") if check.lack else ("fine ", "green")
        console.print(Text.assemble(state, f"  {check.name}: {'; '.join(filter(None, (check.found, check.lack)))}"))
    if as_json:
        print(json.dumps([check._asdict() for check in found], indent=1))
    if any(check.lack and check.needed for check in found):
        raise typer.Exit(1)


@app.command()
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="the shell")]) -> None:
    """Prints what makes a shell complete the commands, options, notebooks and presets of 'tts' (docs/commands.md)."""
    from typer.completion import get_completion_script

    print(get_completion_script(prog_name="tts", complete_var="_TTS_COMPLETE", shell=shell))


for part in (store_cli, figure_cli, solve_cli):
    app.add_typer(part.app)


def main() -> None:
    """Entry point of ``python -m tts``."""
    guarded(app)
