"""Reading of other tools' files: their lines and rows, near misses, copies; and of their fields steps, scores and token counts."""

import codecs
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tts.exchange.records import Contents
from tts.tasks.maths import MATHS

# Tags that PRMs want after each step and that some tools leave in the text: Math-Shepherd's and Qwen2.5-Math-PRM's.
STEP_TAGS = ("ки", "<extra_0>")


def lines(path: Path) -> Iterator[tuple[str, Any, str]]:
    """Each line that is not blank, item of a file that is one JSON array, or row of a parquet file.

    Yields its place, the object, or None and what is wrong with it. A damaged byte costs its own line only.
    """
    if path.suffix == ".parquet":
        yield from _rows(path)
        return
    number = 0
    try:
        with path.open("rb") as file:
            begin = file.read(64)
            if begin.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                with suppress(ValueError, RecursionError):
                    items = json.loads(path.read_bytes().decode("utf-8-sig"))
                    yield from ((f"item {i}", *_object(json.dumps(item).encode())) for i, item in enumerate(items, 1))
                    return
            file.seek(len(codecs.BOM_UTF8) if begin.startswith(codecs.BOM_UTF8) else 0)
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"line {number}", *_object(line)
    except OSError as error:
        yield f"line {number}", None, f"cannot be read ({error.strerror or error})"


def _object(line: bytes) -> tuple[dict | None, str]:
    """A line's object, or None and what is wrong with it."""
    try:
        row = json.loads(line.decode("utf-8"))
        if b"\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return None, f"cannot be read ({error})"
    except UnicodeEncodeError:
        return None, "holds half a surrogate pair, which is no text"
    except (ValueError, RecursionError) as error:
        end = "not valid JSON" if line.endswith(b"\n") else "the file ends within it"
        return None, f"{end} ({str(error).splitlines()[0]})"
    return (row, "") if isinstance(row, dict) else (None, f"expected an object, found {type(row).__name__}")


def _rows(path: Path) -> Iterator[tuple[str, Any, str]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(16) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                yield f"row {number}", row | ({"sampling": json.loads(row["sampling"])} if row.get("sampling") else {}), ""
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        yield f"row {number + 1}", None, f"cannot be read from here on ({' '.join(str(error).split()):.200})"


def clean_scores(values: object) -> tuple[float, ...]:
    """Step scores as numbers; none where one of them is missing or is no finite number."""
    if not isinstance(values, (list, tuple)) or not all(type(v) in (int, float) and abs(v) <= sys.float_info.max for v in values):
        return ()
    return tuple(map(float, values))


def steps_and_scores(text: str, scores: tuple[float, ...], tag: str = "") -> tuple[tuple[str, ...], tuple[float, ...]]:
    """A text's steps with step tags removed, and their scores.

    Steps end at a tag (``tag``, or one of ``STEP_TAGS``, at the end of a line after white space) where the text has any, else at
    blank lines. A blank step is left out together with its score. Where the number of scores fits neither way of counting the
    steps, they stay as they were recorded: aggregates need no steps.
    """
    pattern = "|".join(re.escape(end.strip()) for end in (tag, *STEP_TAGS) if end.strip())
    pieces = re.split(rf"(?:^|(?<=\s))(?:{pattern})[ \t]*(?:\n|$)", text)
    if len(pieces) > 1:
        pieces = pieces if pieces[-1].strip() else pieces[:-1]
    else:
        pieces = text.split("\n\n")
    if len(pieces) == len(scores):
        scores = tuple(score for piece, score in zip(pieces, scores) if piece.strip())
    steps = MATHS.split(pieces[0]) if len(pieces) == 1 != len(scores) else tuple(piece.strip() for piece in pieces if piece.strip())
    return steps, scores if steps else ()


def whole_number(value: object) -> int | None:
    """A token count, also as 3.0; None for anything that is not one."""
    whole = type(value) is int or isinstance(value, float) and value.is_integer()
    return int(value) if whole and 0 <= value < 1 << 31 else None  # type: ignore[operator, call-overload]


def summed(seconds: Sequence[float | None]) -> float | None:
    """The sum of times; None where one of them is not known, or there is none."""
    known = [value for value in seconds if value is not None]
    return sum(known) if known and len(known) == len(seconds) else None


def total(counts: Sequence[object]) -> int | None:
    """The sum of token counts; None where one of them is not known."""
    known = [count for count in map(whole_number, counts) if count is not None]
    return sum(known) if len(known) == len(counts) else None


def near(row: dict) -> tuple[dict, list[str]]:
    """A row with the fields that were meant where others stand that can mean nothing else, and what was made of them."""
    made = []
    held = row.get("completions")
    if "problem" not in row and "completions" in row and isinstance(row.get("question"), str):
        row, made = row | {"problem": row["question"]}, ["question is read as problem"]
    if isinstance(held, list):
        each = held and all(isinstance(c, dict) for c in held)
        scored = row | {"completions": [*map(_scored, held)]} if each else _scored(row)
        if scored != row:
            return scored, [*made, "score is read as scores"]
    return row, made


def _scored(row: dict) -> dict:
    """A row, or a completion, with ``scores`` where it has ``score``: a list, or the one score of the whole solution."""
    if "scores" in row or "score" not in row:
        return row
    return row | {"scores": row["score"] if isinstance(row["score"], list) else [row["score"]]}


def objects(path: Path, name: str, contents: Contents) -> Iterator[tuple[str, dict]]:
    """Each object of a file and its place, ``name`` the file's in it; what is no object is listed as skipped."""
    close: Counter[str] = Counter()
    for place, row, problem in lines(path):
        if row is None:
            contents.skip(f"{name}, {place}", problem)
            continue
        row, made = near(row)
        close.update(made)
        yield f"{name}, {place}", row
    contents.notes += [f"{name}: {made} in {count} lines" for made, count in close.items()]


def copies(paths: Sequence[Path]) -> dict[Path, Path]:
    """Files that are byte for byte an earlier one, with that one; only files of one length are read."""
    sizes = {path: path.stat().st_size for path in paths}
    alike = Counter(sizes.values())
    found, first = {}, dict[str, Path]()
    for path in (path for path, size in sizes.items() if size and alike[size] > 1):
        with suppress(OSError), path.open("rb") as file:
            if (earlier := first.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), path)) is not path:
                found[path] = earlier
    return found
