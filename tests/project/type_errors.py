"""Counts mypy's errors per room and compares them with the recorded ones: ``type_errors.py [--record]``.

No room may have more than recorded; search, tasks, store and analysis have none.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_suffix(".txt")
WITHOUT_ERRORS = {"search", "tasks", "store", "analysis"}


def by_room(lines: list[str]) -> Counter[str]:
    """How many of mypy's lines are errors, by the room that they are in; ``tts`` for the files beside the rooms.

    Raises:
        ValueError: for an error that is in no file of the package, such as one of mypy's settings.
    """
    rooms: Counter[str] = Counter()
    for line in lines:
        if ": error:" in line:
            place = re.match(r"tts/(?:(\w+)/)?[\w/]+\.py:", line)
            if not place:
                raise ValueError(f"mypy: {line}")
            rooms[place[1] or "tts"] += 1
    return rooms


def judge(found: Counter[str], recorded: dict[str, int]) -> tuple[list[str], list[str]]:
    """What is wrong, and what can be recorded anew.

    Args:
        found: errors by room.
        recorded: the most that each room may have; 0 for one that is not listed.
    """
    rooms = sorted({*found, *recorded})
    said = {room: f"{room}: {found[room]} type errors, recorded are {recorded.get(room, 0)}" for room in rooms}
    more = [said[room] for room in rooms if found[room] > recorded.get(room, 0)]
    return more, [said[room] for room in rooms if found[room] < recorded.get(room, 0)]


def read() -> dict[str, int]:
    """The recorded errors by room."""
    return {room: int(count) for room, count in map(str.split, RECORD.read_text().splitlines())}


def main() -> int:
    output, stopped, status = api.run(["--config-file", str(ROOT / "pyproject.toml")])
    lines = output.splitlines()
    found = by_room(lines)
    if status not in (0, 1) or bool(status) != bool(found):
        print(output, stopped, file=sys.stderr)
        return 2
    if "--record" in sys.argv:
        found = Counter({room: count for room, count in found.items() if room not in WITHOUT_ERRORS})
        RECORD.write_text("".join(f"{room} {count}\n" for room, count in sorted(found.items())))
        return 0
    more, fewer = judge(found, read())
    rooms = tuple(f"tts/{text.split(':')[0]}/" for text in more)
    print("\n".join([line for line in lines if line.startswith(rooms)] + more))
    if fewer:
        print("fewer than recorded, so record them: make types", *fewer, sep="\n")
    return bool(more)


if __name__ == "__main__":
    sys.exit(main())
