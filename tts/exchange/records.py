"""What a reader of another tool's files hands over: records in one schema, and what it could not use."""

import codecs
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(frozen=True)
class Record:
    """What one file, or one line of it, holds of one problem; None, or nothing, where it does not say.

    Attributes:
        method: ``cot``, a search's name, or ``samples``, which are independent; with scores they serve best-of-N too.
        solutions: a search of independent parts (DVTS) has one for each part.
        source: file, and line where it has several.
        n: budget; None leaves it to the number of solutions, and adds those of several records of a problem together.
        seed: number that tells repeated runs apart.
        width: M of a search.
        sampling: temperature and so on.
        place: number of the problem, where problems are counted.
        prompt_tokens, policy_tokens, prm_tokens: numbers of tokens of the whole search.
        recorded: by rule, the answer that it selected, or whether that was right; to compare with this suite's.
    """

    problem: str
    answer: str
    method: str
    policy: str
    solutions: tuple[Solution, ...]
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
    recorded: dict[Rule, str | bool] = field(default_factory=dict)


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
    """

    format: str
    name: str = ""
    records: list[Record] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unnamed: bool = False

    def skip(self, source: object, reason: str) -> None:
        self.skipped.append(Skip(str(source), reason))


def problem_key(text: str) -> str:
    """What tells problems apart: the text but for its spacing."""
    return " ".join(text.split())


def clean_name(name: str) -> str:
    """A model's name without what a file name, a figure's title or a terminal might take for something else, 100 characters at most."""
    return re.sub(r"[^\w.:/+@,#~-]+", "-", name)[:100] or "unnamed"


def printable(text: str) -> str:
    """A line for a terminal, without control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def json_lines(path: Path) -> Iterator[tuple[int, dict | None, str]]:
    """Each line that is not blank: its number, the object, or None and what is wrong with it; a damaged byte costs its own line only."""
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        yield 0, None, f"cannot be read ({error.strerror or error})"
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
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
            end = "the file ends within it" if number == len(lines) else "not valid JSON"
            problem = f"{end} ({str(error).splitlines()[0]})"
        yield number, None if problem else row, problem


def lines(path: Path) -> Iterator[tuple[int, dict | None, str]]:
    """Each line of a JSON lines file, or row of a parquet export: its number, the object, or None and what is wrong with it."""
    if path.suffix != ".parquet":
        yield from json_lines(path)
        return
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(500) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                yield number, row | ({"sampling": json.loads(row["sampling"])} if row.get("sampling") else {}), ""
    except (pa.ArrowException, OSError, ValueError, TypeError, RecursionError) as error:
        yield number + 1, None, f"cannot be read from here on ({' '.join(str(error).split()):.200})"


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
    """A token count; None for anything that is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def total(counts: Sequence[object]) -> int | None:
    """The sum of token counts; None where one of them is not known."""
    known = [count for count in map(whole_number, counts) if count is not None]
    return sum(known) if len(known) == len(counts) else None
