"""Kinds of damage to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], None]


def truncated(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flipped(place: float, bits: int = 0xFF) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= bits
        path.write_bytes(content)

    return damage


def replaced(text: str | bytes) -> Damage:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def edited(change: Callable[[dict], object]) -> Damage:
    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def substituted(old: str, new: str) -> Damage:
    def damage(path: Path) -> None:
        text = path.read_text()
        assert old in text, f"{old!r} is not in {path}"
        path.write_text(text.replace(old, new))

    return damage


def removed(path: Path) -> None:
    path.unlink()


def unrecorded(damage: Damage) -> Damage:
    """Weights that no card knows, as those of a stranger's model."""

    def both(path: Path) -> None:
        damage(path)
        edited(lambda card: card.pop("weights_sha256"))(path.parent / "card.json")

    return both


BINARY = replaced(bytes(range(256)) * 4)
EMPTY = replaced("")
