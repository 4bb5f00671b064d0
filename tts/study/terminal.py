"""What the command lines share: their console, errors in one line, and Ctrl-C that says how to go on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import tts
from tts.common.names import printable
from tts.common.paths import ROOT

# No name is markup, and the terminal wraps lines itself, so that a path or a command can be copied whole.
console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C says how to go on; around a command, or what of it can be continued."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nstopped; the same command continues where it was", file=sys.stderr)
        raise typer.Exit(130) from None


def guarded(command: Callable[[], Any]) -> None:
    """Runs a command line: expected errors, which are values', the system's and this package's own, are one line and exit code 2."""
    try:
        command()
    except Exception as error:
        if not (isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("tts.")):
            raise
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None


def placed(names: Any) -> Any:
    """Names of models or problem sets as a study keeps them, with relative paths made absolute."""
    return tts.presets.anchored_names(names, Path())


def names_in(pattern: str) -> Callable[[str], list[str]]:
    """What completes a name from files of the checkout, without their suffixes; a shell waits for it, so that no library is asked."""
    return lambda incomplete: sorted(path.stem for path in ROOT.glob(pattern) if path.stem.startswith(incomplete))


Preset = Annotated[
    str, typer.Option(help="a preset's name, see 'list', or a preset file", autocompletion=names_in("notebooks/presets/*.yaml"))
]
