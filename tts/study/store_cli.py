"""The commands on stored runs: listing, deleting, import, export, and a look at one or two of them."""

# As in the command line: rooms are asked for as names of tts, which imports them then.
from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Column, Table

import tts
from tts.common.names import printable, shown
from tts.study.terminal import Preset, console

if TYPE_CHECKING:
    from tts.store.store import Run, Store

app = typer.Typer()

StoreFolder = Annotated[Path | None, typer.Option("--store", help="folder of the store; the preset's by default")]


@app.command()
def store(
    text: Annotated[str, typer.Argument(help="list only runs whose key or description holds it")] = "",
    preset: Preset = "pocket",
    clean: Annotated[bool, typer.Option(help="delete every stored run")] = False,
    delete: Annotated[str, typer.Option(metavar="KEY", help="delete one run, or with imported:NAME one import")] = "",
    yes: Annotated[bool, typer.Option(help="delete without asking")] = False,
    store: StoreFolder = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="add the share of each run's solutions that are right; it grades them")
    ] = False,
) -> None:
    """Shows what the store holds and how large it is; cleans it, or deletes a run."""
    held = tts.presets.store_of(preset, store)
    if sum(map(bool, (clean, delete, text))) > 1:
        raise ValueError("--clean, --delete and a TEXT to list runs by are commands of their own; say one of them")
    if clean:
        sharing = [name for name in tts.presets.presets() if tts.presets.store_of(name).folder == held.folder]
        told = f", which is the store of {', '.join(sharing or [preset])}"
        _delete(held, list(held.runs()), [held.folder / tts.imported.FOLDER, held.folder / tts.labelled.KEPT], yes, told)
    elif delete:
        runs, imports = tts.imported.named(held, delete)
        _delete(held, runs, imports, yes)
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
