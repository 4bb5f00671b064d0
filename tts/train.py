"""``python -m tts.train``: trains the pocket family again, or the named models of it, and measures it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tts.cli import guarded
from tts.models import POCKET_FOLDER
from tts.pocket.build import train_model
from tts.pocket.cards import minutes
from tts.pocket.evaluate import all_models
from tts.pocket.recipes import FAMILY, POLICIES, PRMS
from tts.pocket.solutions import build
from tts.runs.store import Store

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)
console = Console()
SCRATCH = POCKET_FOLDER.parent / "training"


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Without a command: all policies, then all PRMs, each from scratch or from its last checkpoint."""
    if context.invoked_subcommand is None:
        models()


@app.command()
def models(
    names: Annotated[list[str] | None, typer.Argument(help="models of the family; all by default")] = None,
    output: Annotated[Path, typer.Option(help="folder that gets one folder a model")] = SCRATCH / "models",
    scratch: Annotated[Path, typer.Option(help="corpora and checkpoints")] = SCRATCH,
) -> None:
    """Trains models of the pocket family; stopping loses at most a minute, the same command continues."""
    chosen = names or [*POLICIES, *PRMS]
    if unknown := [name for name in chosen if name not in POLICIES and name not in PRMS]:
        raise ValueError(f"no recipe named {', '.join(unknown)}; there are {', '.join([*POLICIES, *PRMS])}")
    for name in chosen:
        console.print(f"{name}: {minutes(name)}", highlight=False)
        console.print(f"saved in {train_model(name, output, scratch)}", highlight=False)


@app.command()
def measure(store: Annotated[Path, typer.Option(help="where samples are kept")] = SCRATCH / "runs") -> None:
    """Samples the solutions that PRMs are judged on, measures every committed model, and writes results into the cards."""
    build(list(FAMILY))
    all_models(Store(store))


def main() -> None:
    guarded(app)


if __name__ == "__main__":
    main()
