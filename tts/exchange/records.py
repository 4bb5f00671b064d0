"""What a reader of another tool's files hands over: records in one schema, and what it could not use."""

import codecs
import hashlib
import json
import math
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tts.tasks.maths import MATHS
from tts.tasks.selection import Rule

COUNTS = ("prompt_tokens", "policy_tokens", "prm_tokens")

# Tags that PRMs want after each step and that some tools leave in the text: Math-Shepherd's and Qwen2.5-Math-PRM's.
STEP_TAGS = ("ки", "<extra_0>")


class ExchangeError(ValueError):
    """A folder or file that cannot be imported or exported; the message names it and the remedy."""


@dataclass(frozen=True)
class Solution:
    """One complete solution; None, or nothing, for what is not recorded.

    Attributes:
        scores: the PRM's score of each step.
        tokens: number of tokens that the policy wrote.
        status: ``finished``, or ``truncated`` where a limit cut it off.
        path: sample indices from the root on.
        correct: recorded grade.
    """

    steps: tuple[str, ...]
    scores: tuple[float, ...] = ()
    tokens: int | None = None
    status: str = "finished"
    path: tuple[int, ...] = ()
    correct: bool | None = None


class Place(NamedTuple):
    """Where solutions lie in a temporary file.

    Attributes:
        at, size: offset and length in bytes.
        count: number of solutions.
        scored: whether each of them that has steps has scores.
        graded: whether any of them has a recorded grade.
        low, high: the lowest and the highest of their scores; NaN without any.
        digest: hash of them.
    """

    at: int
    size: int
    count: int
    scored: bool
    graded: bool
    low: float
    high: float
    digest: str


@dataclass(frozen=True)
class Stored(Sequence[Solution]):
    """Solutions in a temporary file: 500 problems x 256 solutions take gigabytes as objects, and one record's are needed at a time.

    Attributes:
        sigmoid: whether the scores are logits, which become probabilities.
    """

    file: Any
    places: tuple[Place, ...]
    sigmoid: bool = False

    def __len__(self) -> int:
        return sum(place.count for place in self.places)

    def __iter__(self) -> Iterator[Solution]:
        for place in self.places:
            self.file.seek(place.at)
            for steps, scores, tokens, status, path, correct in json.loads(zlib.decompress(self.file.read(place.size))):
                yield Solution(tuple(steps), tuple(map(self._score, scores)), tokens, status, tuple(path), correct)

    def __getitem__(self, at: Any) -> Any:
        return tuple(self)[at]

    def _score(self, score: float) -> float:
        return 0.5 + 0.5 * math.tanh(score / 2) if self.sigmoid else score

    @property
    def scored(self) -> bool:
        return all(place.scored for place in self.places)

    @property
    def graded(self) -> bool:
        return any(place.graded for place in self.places)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest score; NaN without any."""
        lows, highs = ([end for place in self.places if (end := getattr(place, name)) == end] for name in ("low", "high"))
        return (self._score(min(lows)), self._score(max(highs))) if lows else (math.nan, math.nan)


@dataclass(frozen=True)
class Record:
    """What one file, or one line of it, holds of one problem; None, or nothing, where it does not say.

    Attributes:
        method: ``cot``, a search's name, or ``samples``, which are independent; with scores they serve best-of-N too.
        solutions: a search of independent parts (DVTS) has one for each part.
        leaders: numbers of the solutions that are the search's, where others are recorded beside them; empty for all.
        source: file, and line where it has several.
        n: budget; None leaves it to the number of solutions, and adds those of several records of a problem together.
        seed: number that tells repeated runs apart.
        width: M of a search.
        sampling: temperature and so on.
        place: number of the problem, where problems are counted.
        prompt_tokens, policy_tokens, prm_tokens: numbers of tokens of the whole search.
        recorded: by rule and number of the first solutions that it chose from, the answer that it selected, or whether that was right;
            to compare with this suite's.
        totals: each solution's score as the tool that recorded those aggregated it; empty where this suite's aggregate serves.
    """

    problem: str
    answer: str
    method: str
    policy: str
    solutions: Sequence[Solution]
    source: str
    prm: str | None = None
    n: int | None = None
    seed: int = 0
    width: int | None = None
    sampling: dict = field(default_factory=dict)
    problem_id: str | None = None
    place: int | None = None
    prompt_tokens: int | None = None
    policy_tokens: int | None = None
    prm_tokens: int | None = None
    recorded: dict[tuple[Rule, int], str | bool] = field(default_factory=dict)
    leaders: tuple[int, ...] = ()
    totals: tuple[float, ...] = ()

    @property
    def stored(self) -> Stored:
        """Its solutions, once they are in the temporary file."""
        assert isinstance(self.solutions, Stored)
        return self.solutions


@dataclass(frozen=True)
class Skip:
    """Something that was not used, and why."""

    source: str
    reason: str


@dataclass
class Contents:
    """What files of one format hold of one problem set, in their order.

    Attributes:
        name: name of the problem set, as far as the files tell it.
        notes: quirks of the files, and what was made of them.
        unnamed: whether the format has no names of models.
        sources: where the files are from, with the revision, for the import's list.
    """

    format: str
    name: str = ""
    records: list[Record] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unnamed: bool = False
    sources: list[dict] = field(default_factory=list)
    _file: Any = field(default_factory=lambda: SpooledTemporaryFile(max_size=1 << 26), repr=False)  # noqa: SIM115 (closed with it)

    def skip(self, source: object, reason: str) -> None:
        self.skipped.append(Skip(str(source), reason))

    def add(self, record: Record) -> None:
        """Adds a record, whose solutions go to a temporary file."""
        self.records.append(replace(record, solutions=self.keep(record.solutions)))

    def keep(self, solutions: Sequence[Solution]) -> Stored:
        """Puts solutions into the temporary file."""
        text = json.dumps([(s.steps, s.scores, s.tokens, s.status, s.path, s.correct) for s in solutions]).encode()
        packed = zlib.compress(text, 1)
        scored = bool(solutions) and all(s.scores for s in solutions if s.steps)
        graded, all_scores = any(s.correct is not None for s in solutions), [score for s in solutions for score in s.scores] or [math.nan]
        about = len(solutions), scored, graded, min(all_scores), max(all_scores), hashlib.sha256(text).hexdigest()
        place = Place(self._file.seek(0, 2), len(packed), *about)
        self._file.write(packed)
        return Stored(self._file, (place,))


def problem_key(text: str) -> str:
    """What tells problems apart: the text but for its spacing."""
    return " ".join(text.split())


def clean_name(name: str) -> str:
    """A model's name without what a file name, a figure's title or a terminal might take for something else, 100 characters at most."""
    return re.sub(r"[^\w.:/+@,#~-]+", "-", name)[:100] or "unnamed"


def printable(text: str) -> str:
    """A line for a terminal, without control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def json_lines(path: Path) -> Iterator[tuple[str, dict | None, str]]:
    """Each line that is not blank, or each item of a file that is one JSON array: its place, the object, or None and what is wrong with it.

    A damaged byte costs its own line only.
    """
    number = 0
    try:
        with path.open("rb") as file:
            if file.read(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                with suppress(ValueError, RecursionError):
                    items = json.loads(path.read_bytes().decode("utf-8-sig"))
                    yield from ((f"item {i}", *_object(json.dumps(item).encode())) for i, item in enumerate(items, 1))
                    return
            file.seek(0)
            for number, line in enumerate(file, 1):
                if (line := line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip():
                    yield f"line {number}", *_object(line)
    except OSError as error:
        yield f"line {number}", None, f"cannot be read ({error.strerror or error})"


def _object(line: bytes) -> tuple[dict | None, str]:
    """A line's object, or None and what is wrong with it."""
    row = None
    try:
        row = json.loads(line.decode("utf-8"))
        if b"\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
        problem = "" if isinstance(row, dict) else f"expected an object, found {type(row).__name__}"
    except UnicodeDecodeError as error:
        problem = f"cannot be read ({error})"
    except UnicodeEncodeError:
        problem = "holds half a surrogate pair, which is no text"
    except (ValueError, RecursionError) as error:
        end = "not valid JSON" if line.endswith(b"\n") else "the file ends within it"
        problem = f"{end} ({str(error).splitlines()[0]})"
    return None if problem else row, problem


def lines(path: Path) -> Iterator[tuple[str, dict | None, str]]:
    """Each line of a JSON lines file, or row of a parquet file: its place, the object, or None and what is wrong with it."""
    if path.suffix != ".parquet":
        yield from json_lines(path)
        return
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(16) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                yield f"row {number}", row | ({"sampling": json.loads(row["sampling"])} if row.get("sampling") else {}), ""
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        yield f"row {number + 1}", None, f"cannot be read from here on ({' '.join(str(error).split()):.200})"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what stops the writing of a file or folder into an error that names it."""
    try:
        yield
    except OSError as error:
        raise ExchangeError(f"cannot write {path}: {error.strerror or error}") from error


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
    whole = isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
    return int(value) if whole and 0 <= value < 1 << 31 else None  # type: ignore[operator, call-overload]


def near(row: dict) -> tuple[dict, list[str]]:
    """A row with the fields that were meant where others stand that can mean nothing else, and what was made of them."""
    made = []
    if "problem" not in row and "completions" in row and isinstance(row.get("question"), str):
        row, made = row | {"problem": row["question"]}, ["question is read as problem"]
    held = row.get("completions")
    several = isinstance(held, list) and bool(held) and all(isinstance(c, dict) for c in held)
    if isinstance(held, list) and any("scores" not in c and "score" in c for c in (held if several else [row])):
        made.append("score is read as scores")
        row = row | {"completions": [_scored(c) for c in held]} if several else _scored(row)
    return row, made


def _scored(row: dict) -> dict:
    """A row, or a completion, with ``scores`` where it has ``score``: a list, or the one score of the whole solution."""
    if "scores" in row or "score" not in row:
        return row
    return row | {"scores": row["score"] if isinstance(row["score"], list) else [row["score"]]}


def copies(paths: Iterable[Path]) -> dict[Path, Path]:
    """Files that are byte for byte an earlier one, with that one; only files of one length are read."""
    by_size: dict[int, list[Path]] = {}
    for path in paths:
        by_size.setdefault(path.stat().st_size, []).append(path)
    found: dict[Path, Path] = {}
    for alike in (group for size, group in by_size.items() if size and len(group) > 1):
        first: dict[str, Path] = {}
        for path in alike:
            with suppress(OSError), path.open("rb") as file:
                if (earlier := first.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), path)) is not path:
                    found[path] = earlier
    return found


def total(counts: Sequence[object]) -> int | None:
    """The sum of token counts; None where one of them is not known."""
    known = [count for count in map(whole_number, counts) if count is not None]
    return sum(known) if len(known) == len(counts) else None
