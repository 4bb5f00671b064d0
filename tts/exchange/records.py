"""What a reader of another tool's files hands over: records in one schema, and what it could not use."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tts.tasks.prompts import join_steps, split_steps
from tts.tasks.selection import Rule

SAMPLES = "samples"  # a pool, with scores or without

# Tags that PRMs want after each step and that some tools leave in the text: Math-Shepherd's and Qwen2.5-Math-PRM's.
STEP_TAGS = ("ки", "<extra_0>")


class ExchangeError(ValueError):
    """A folder or file that cannot be imported or exported; the message names it and the remedy."""


@dataclass(frozen=True)
class Solution:
    """One complete solution.

    Attributes:
        steps: its text, step by step.
        scores: the PRM's score of each step; empty where there are none.
        tokens: that the policy wrote for it; None where that is not recorded.
        status: ``finished``, or ``truncated`` where a limit cut it off.
        path: sample indices from the root on; () where they are not recorded.
        correct: the grade that was recorded for it; None for none.
    """

    steps: tuple[str, ...]
    scores: tuple[float, ...] = ()
    tokens: int | None = None
    status: str = "finished"
    path: tuple[int, ...] = ()
    correct: bool | None = None

    @property
    def text(self) -> str:
        return join_steps(self.steps)


@dataclass(frozen=True)
class Recorded:
    """A verdict that a record holds already.

    Attributes:
        rule: what selected an answer.
        correct: whether that was right; None where only the answer is recorded.
        answer: the one that was selected.
        solution: the number of the only solution that it is about; None for all of the record's.
    """

    rule: Rule
    correct: bool | None = None
    answer: str | None = None
    solution: int | None = None


@dataclass(frozen=True)
class Record:
    """What one file, or one line of it, holds of one problem.

    Attributes:
        problem, answer: the problem's text and its right answer.
        method: ``cot``, a search's name, or ``samples``, which are independent; with scores they serve best-of-N too.
        policy: who wrote the solutions.
        solutions: of a search of independent parts (DVTS), one for each part.
        source: file, and line where it has several.
        prm: who scored them.
        n: the budget; None leaves it to the number of solutions, and adds those of several records of a problem together.
        seed: distinguishes repeated runs.
        width: M of a search.
        sampling: temperature and so on, where they are recorded.
        problem_id: where there is one.
        place: the problem's number, where problems are counted.
        prompt_tokens, policy_tokens, prm_tokens: of the whole search; None where they are not recorded.
        recorded: verdicts, to compare with this suite's.
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
    recorded: tuple[Recorded, ...] = ()

    @property
    def scored(self) -> bool:
        return bool(self.solutions) and all(s.scores for s in self.solutions if s.steps)


@dataclass(frozen=True)
class Skip:
    """Something that was not used, and why."""

    source: str
    reason: str


@dataclass
class Found:
    """What a reader found for one problem set.

    Attributes:
        format: the reader's name.
        name: of the problem set, as far as the files tell it; may be empty.
        records: in the order of the files.
        skipped: what could not be used.
        notes: what was made of quirks.
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
    for number, content in enumerate(lines, 1):
        if not content.strip():
            continue
        try:
            line = content.decode("utf-8")
            row = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            yield number, None, f"cannot be read ({error})"
            continue
        except UnicodeEncodeError:
            yield number, None, "holds half a surrogate pair, which is no text"
            continue
        except (ValueError, RecursionError) as error:
            end = "the file ends within it" if number == len(lines) else "not valid JSON"
            yield number, None, f"{end} ({str(error).splitlines()[0]})"
            continue
        yield (number, row, "") if isinstance(row, dict) else (number, None, f"expected an object, found {type(row).__name__}")


def clean_scores(values: object) -> tuple[float, ...]:
    """Step scores as numbers; none where one of them is missing or is no finite number."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values):
        return ()
    return tuple(float(v) for v in values)


def steps_and_scores(text: str, scores: tuple[float, ...], tags: Sequence[str] = STEP_TAGS) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """A text's steps with step tags removed, and their scores.

    Steps end at a tag where the text has any, else at blank lines. A blank step is left out together with its score. Where the
    number of scores fits neither way of counting the steps, they stay as they were recorded: aggregates need no steps.

    Args:
        text: as it was stored.
        scores: as they were stored, one a step.
        tags: that may end a step, at the end of a line and after white space.
    """
    pattern = "|".join(re.escape(tag.strip()) for tag in tags if tag.strip())
    pieces = re.split(rf"(?:^|(?<=\s))(?:{pattern})[ \t]*(?:\n|$)", text) if pattern else [text]
    if len(pieces) > 1:
        pieces = pieces if pieces[-1].strip() else pieces[:-1]
    else:
        pieces = text.split("\n\n")
    if len(pieces) == len(scores):
        pairs = [(piece.strip(), score) for piece, score in zip(pieces, scores) if piece.strip()]
        return tuple(piece for piece, _ in pairs), tuple(score for _, score in pairs)
    steps = split_steps("\n\n".join(pieces)) if len(pieces) == 1 else tuple(p.strip() for p in pieces if p.strip())
    return steps, scores if steps else ()


def whole_number(value: object) -> int | None:
    """A token count; None for anything that is not one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
