"""The command line: run notebooks or the whole study, list what there is, look into the store."""

# Rooms are asked for as names of tts, which imports them then: help and completion must not wait for pandas, pyarrow and torch.
from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Column, Table
from rich.text import Text

import tts
from tts.common import paths
from tts.common.names import printable, shown
from tts.study import solve_cli
from tts.study.terminal import console, guarded, names_in, placed, resumable

if TYPE_CHECKING:
    from tts.store.store import Run, Store
    from tts.study.presets import Job

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Notebooks = Annotated[
    list[str] | None,
    typer.Argument(
        help="which notebooks, by name, number or path; all of the preset by default", autocompletion=names_in("notebooks/*.ipynb")
    ),
]
Preset = Annotated[
    str, typer.Option(help="a preset's name, see 'list', or a preset file", autocompletion=names_in("notebooks/presets/*.yaml"))
]
Overrides = Annotated[list[str], typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="overrides a parameter")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="folder of the store; the preset's by default")]


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
    started = time.monotonic()
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
    console.print(
        f"{count} figure{'s' * (count != 1)} in {figures} (each as .pdf, .png, .csv, .json and .txt, its caption)\nreport: {page}"
    )
    console.print(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    for name in sorted(outcome):  # of this run: others may lie beside them
        if (found := tts.execution.findings_of(name, figures)).exists():
            console.print(found.read_text().rstrip())
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
    peak: Annotated[float, typer.Option(min=1e-3, help="TFLOP/s of one GPU; an H100 has 989 in bf16")] = 989,
    decoding: Annotated[float, typer.Option(min=1e-6, max=1, help="share of the peak that generating reaches")] = 0.1,
    reading: Annotated[float, typer.Option(min=1e-6, max=1, help="share of the peak that a PRM reaches")] = 0.4,
) -> None:
    """Estimates tokens and GPU hours of a preset from the FLOPs model, before anything is spent; needs no model."""
    experiments = tts.presets.experiments(tts.presets.plan(preset, notebooks, tts.presets.parse_overrides(parameter), look_up=False))
    lengths = {name: float(count) for name, count in tts.presets.parse_overrides(tokens).items()}
    asked = {name for experiment in experiments for name in experiment.grid.problems}
    for name, count in lengths.items():
        if name not in asked or not 0 < count < float("inf"):
            raise ValueError(f"--tokens {name}={count:g}: give a positive number for one of {', '.join(sorted(asked))}")
    lengths = tts.gpu_hours.Assumptions().tokens | lengths
    assumed = tts.gpu_hours.Assumptions(lengths, peak=peak * 1e12, decoding=decoding, reading=reading)
    found = tts.gpu_hours.table((grid for experiment in experiments for grid in experiment.grids()), assumed)
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
    from tts.reward_models import FAMILIES
    from tts.search.registry import compared
    from tts.tasks.problems import problem_sets

    other_policies = "path/to/folder, owner/model, path/to/file.gguf, pypi:PACKAGE==VERSION, vllm:MODEL, http://HOST:PORT/v1#MODEL"
    families = (f"{family}:MODEL" for family in FAMILIES if family != "implicit")
    other_prms = ["dial:FALSE_POSITIVE,FALSE_NEGATIVE", *families, "vllm:PRM", "FAMILY:http://HOST:PORT/v1#MODEL"]
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
def store(
    text: Annotated[str, typer.Argument(help="list only runs whose key or description holds it")] = "",
    preset: Preset = "pocket",
    clean: Annotated[bool, typer.Option(help="delete every stored run")] = False,
    delete: Annotated[str, typer.Option(metavar="KEY", help="delete one run, or with imported:NAME one import")] = "",
    yes: Annotated[bool, typer.Option(help="delete without asking")] = False,
    export: Annotated[Path | None, typer.Option(help="write the canonical export to this JSONL file")] = None,
    store: StoreFolder = None,
    rekey: Annotated[bool, typer.Option(help="give runs of an earlier version the task in their key, once")] = False,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="add the share of each run's solutions that are right; it grades them")
    ] = False,
) -> None:
    """Shows what the store holds and how large it is; cleans, exports or re-keys it, or deletes a run."""
    held = tts.presets.store_of(preset, store)
    if sum(map(bool, (clean, delete, export, rekey, text))) > 1:
        raise ValueError("--clean, --delete, --export, --rekey and a TEXT to list runs by are commands of their own; say one of them")
    if rekey:
        for line in list(tts.rekey.rekey(held)) or ["nothing to do: every run has its task in its key"]:
            console.print(line)
    elif clean:
        sharing = [name for name in tts.presets.presets() if tts.presets.store_of(name).folder == held.folder]
        told = f", which is the store of {', '.join(sharing or [preset])}"
        _delete(held, list(held.runs()), [held.folder / tts.imported.FOLDER, held.folder / tts.labelled.KEPT], yes, told)
    elif delete:
        runs, imports = tts.imported.named(held, delete)
        _delete(held, runs, imports, yes)
    elif export:
        _say_what_is_unfinished(held)
        console.print(f"{held.write_export(export)} records written to {export}")
    else:
        _say_what_is_unfinished(held)
        names, numbers = [Column(name, overflow="fold") for name in ("run", "problems")], ["right (%)"] * accuracy
        table, runs = Table(names[0], Column("key", no_wrap=True), names[1], *numbers, "made", "KiB"), list(held.runs())
        runs = [run for run in runs if text in run.key or text in f"{run.spec.brief} {run.spec}"]
        shares = [[f"{100 * share:.1f}"] for share in tts.run_comparison.right(runs)] if accuracy else [[]] * len(runs)
        for run, share in zip(runs, shares):
            made = max((file.stat().st_mtime for file in run.files), default=0)
            cells = [run.spec.brief, run.key, run.problems(), *share, f"{datetime.fromtimestamp(made):%Y-%m-%d}"]
            table.add_row(*cells, f"{run.size[1] / 1024:.0f}")
        console.print(table)
        if accuracy:
            console.print(tts.imported.graded_by(runs))


def _delete(held: Store, runs: list[Run], imports: list[Path], yes: bool, shared: str = "") -> None:
    """Deletes runs and folders of imports, after asking."""
    listed = {path.parent for folder in imports for path in folder.rglob("import.json")}
    size = sum(run.size[1] for run in runs) / 1024
    what = f"runs: {len(runs)}, imports: {len(listed)}, {size:,.0f} KiB, in {held.folder}{shared}"
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError(f"nothing deleted, for there is no terminal to ask on; say --yes to delete {what}")
        typer.confirm(f"delete {what}?", abort=True)
    held.delete(runs, imports)
    console.print(f"deleted {what}")


def _say_what_is_unfinished(held: Store) -> None:
    for name in tts.imported.unfinished(held):
        print(f"warning: the import {name} was not finished, and a part of it is here; import its files again", file=sys.stderr)


@app.command("import")
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="output of the study's code or of search-and-learn, plain JSON lines or parquet, or hf:OWNER/DATASET (docs/formats.md)",
        ),
    ],
    preset: Preset = "pocket",
    store: StoreFolder = None,
    name: Annotated[str, typer.Option(help="name of the import; the folder's by default")] = "",
    policy: Annotated[str, typer.Option(help="the policy's name, where the format has none")] = "",
    prm: Annotated[str, typer.Option(help="the PRM's name, where the format has none")] = "",
    scores: Annotated[str, typer.Option(help="sigmoid, where step scores are logits")] = "",
    n: Annotated[str, typer.Option("--n", metavar="N,N", help="of released runs: budgets; all by default")] = "",
    seeds: Annotated[str, typer.Option(metavar="SEED,SEED", help="of released runs: seeds; all by default")] = "",
    methods: Annotated[str, typer.Option(metavar="METHOD,METHOD", help="of released runs: best_of_n, beam_search, dvts")] = "",
    search: Annotated[str, typer.Option(help="of released runs: what a search is that no name says, beam_search or dvts")] = "",
    pool: Annotated[bool, typer.Option(help="of released runs: samples of all seeds make one pool")] = False,
    listed: Annotated[bool, typer.Option("--list", help="of released runs: list them, and stop")] = False,
) -> None:
    """Imports runs that were made with other tools, and says what they hold, what could not be used, and how to render figures."""
    of = tuple(method.strip().lower().replace("-", "_") for method in methods.split(",") if method.strip())
    choice = tts.summary.Choice(_numbers("--n", n), _numbers("--seeds", seeds), of, search, listed, pool)
    held = tts.presets.store_of(preset, store, new=True)
    for line in tts.summary.import_all(held, sources, name, policy, prm, scores, choice):
        console.print(printable(line))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers between commas."""
    try:
        return tuple(map(int, text.split(","))) if text else ()
    except ValueError:
        raise typer.BadParameter(f"{option}: give whole numbers between commas; given {text!r}") from None


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="to write; it ends in .jsonl or .parquet")],
    preset: Preset = "pocket",
    store: StoreFolder = None,
    graded: Annotated[bool, typer.Option("--graded", help="say of each completion whether it is right, and why not")] = False,
) -> None:
    """Writes everything in a store to one file, in the plain format (docs/formats.md), which 'import' reads."""
    held = tts.presets.store_of(preset, store)
    _say_what_is_unfinished(held)
    console.print(f"{tts.plain.write(tts.plain.rows(held, graded), file, graded)} records written to {file}")
    if graded:
        console.print(tts.imported.graded_by(held.runs()))


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="the beginning of a run's key or description (see 'store'), or a model's short name")],
    problem: Annotated[str, typer.Argument(help="a problem's id, its text, or its number from 1; the first by default")] = "",
    samples: Annotated[int, typer.Option(min=1, help="how many samples")] = 3,
    wrong: Annotated[bool, typer.Option("--wrong", help="wrong ones only")] = False,
    preset: Preset = "pocket",
    store: StoreFolder = None,
) -> None:
    """Shows samples of a stored run: their steps and scores, the answers found in them, and which are right."""
    held = tts.presets.store_of(preset, store).find(run)
    console.print(tts.samples.shown(held.spec, held.row(problem), tts.imported.task_of_run(held), held.folder.parent, samples, wrong))
    console.print(tts.imported.graded_by([held]))


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(help="the beginning of a run's key or description (see 'store'), or a model's short name")],
    run_b: Annotated[str, typer.Argument(help="another run's key")],
    preset: Preset = "pocket",
    store: StoreFolder = None,
    aggregate: Annotated[Literal["min", "last", "avg", "product"], typer.Option(help="step scores to one score")] = "product",
    vote: Annotated[Literal["majority", "max", "vote"], typer.Option(help="candidates to one answer")] = "vote",
) -> None:
    """Compares two stored runs: paired difference in accuracy on the problems that both hold, and tokens."""
    held = tts.presets.store_of(preset, store)
    runs = held.find(run_a), held.find(run_b)
    found = tts.run_comparison.compare(*runs, tts.Rule(aggregate, vote))
    table = Table("run", "accuracy (%)", "policy tokens", "PRM tokens", title=f"{found.problems} common problems")
    for row in found.runs.itertuples():
        accuracy = f"{100 * row.accuracy:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        table.add_row(row.run, accuracy, shown(row.policy_tokens, ",.0f"), shown(row.prm_tokens, ",.0f"))
    console.print(table, soft_wrap=False)
    console.print(str(found))
    console.print(tts.imported.graded_by(runs))


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
def figure(
    name: Annotated[str, typer.Argument(help="which figure; without it they are listed")] = "",
    width: Annotated[str, typer.Option(help="of the whole figure, as 84mm, 3.3in, 8.4cm or 240pt; by default as it is")] = "",
    height: Annotated[str, typer.Option(help="likewise; by default as its panels need")] = "",
    font: Annotated[str, typer.Option(help="an installed font's name, or a font's file")] = "",
    font_size: Annotated[float, typer.Option(help="points of titles and labels")] = 8,
    palette: Annotated[str, typer.Option(help="okabe-ito, or one of seaborn's")] = "okabe-ito",
    formats: Annotated[str, typer.Option("--format", help="some of pdf, pgf, svg, png, eps")] = "pdf,png",
    panels: Annotated[list[str], typer.Option(metavar="NAME,NAME", help="only these policies, PRMs, problem sets or scopes")] = [],  # noqa: B006
    table: Annotated[Literal["latex", "markdown"] | None, typer.Option(help="print the rows as a table, and draw nothing")] = None,
    caption: Annotated[Literal["latex", "text"] | None, typer.Option(help="print the caption, and draw nothing")] = None,
    columns: Annotated[str, typer.Option(metavar="NAME,NAME", help="of the table; all by default")] = "",
    figures: Annotated[Path, typer.Option(help="folder that a study wrote its figures to")] = paths.ROOT / "figures" / "pocket",
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path(),
) -> None:
    """Redraws a figure from its rows, in another size, font or format, or prints them as a table; runs no notebook."""
    redraw = tts.redraw
    if not name:
        return console.print("\n".join(redraw.listed(figures)))
    asked = {"width": redraw.inches("--width", width), "height": redraw.inches("--height", height), "font": font}
    tts.parameters.check_look(look := asked | {"font_size": font_size, "palette": palette})
    endings = redraw.check_formats(redraw.parts(formats))
    rows, origin = redraw.load(figures, name)
    rows = redraw.chosen(rows, panels)
    if table:
        return print(redraw.printed(name, rows, origin, table, redraw.parts(columns)), end="")
    if caption:
        return print(redraw.told(name, rows, origin, caption))
    for path in redraw.write(output / name, rows, origin, look, endings):
        console.print(str(path))


@app.command()
def completion(shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="the shell")]) -> None:
    """Prints what makes a shell complete the commands, options, notebooks and presets of 'tts' (docs/commands.md)."""
    from typer.completion import get_completion_script

    print(get_completion_script(prog_name="tts", complete_var="_TTS_COMPLETE", shell=shell))


app.add_typer(solve_cli.app)


def main() -> None:
    """Entry point of ``python -m tts``."""
    guarded(app)
