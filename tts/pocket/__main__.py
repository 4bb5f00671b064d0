"""``python -m tts.pocket [NAME ...]``: trains the pocket family again, or the named models of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from tts.models import POCKET_FOLDER
from tts.pocket.build import train_policy, train_prm
from tts.pocket.recipes import POLICIES, PRMS


def train(name: str, output: Path, scratch: Path) -> Path:
    """Trains one model of the family, or finishes it; see :mod:`tts.pocket.recipes`.

    Raises:
        KeyError: where there is no such recipe.
    """
    return train_policy(name, output, scratch) if name in POLICIES else train_prm(name, output, scratch)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tts.pocket", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*POLICIES, *PRMS])}; all by default")
    parser.add_argument("--output", type=Path, default=POCKET_FOLDER, help="folder that gets one folder a model")
    parser.add_argument("--scratch", type=Path, default=POCKET_FOLDER.parent / "training", help="corpora and checkpoints")
    arguments = parser.parse_args()
    for name in arguments.names or [*POLICIES, *PRMS]:
        if name not in POLICIES and name not in PRMS:
            parser.error(f"no recipe named {name!r}; there are {', '.join([*POLICIES, *PRMS])}")
        print(train(name, arguments.output, arguments.scratch))


if __name__ == "__main__":
    main()
