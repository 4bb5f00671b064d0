"""What a reader of another tool's files hands over: records in one schema, and what it could not use."""

import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tts.tasks.selection import Rule

COUNTS = ("prompt_tokens", "policy_tokens", "prm_tokens")
SAMPLES = "samples"  # method of independent samples, with scores or without; with scores they serve best-of-N too


class ExchangeError(ValueError):
    """A folder, file or record that cannot be imported or exported; the message says why, and names it and the remedy."""


def expect(fits: object, problem: str) -> None:
    """Raises an error that names the problem, unless something fits."""
    if not fits:
        raise ExchangeError(problem)


class Solution(NamedTuple):
    """One complete solution; None, or nothing, for what is not recorded."""

    steps: Sequence[str]
    scores: Sequence[float] = ()  # the PRM's, one for each step
    tokens: int | None = None  # that the policy wrote
    status: str = "finished"  # or "open", or "truncated" where a limit cut it off
    path: Sequence[int] = ()  # sample indices from the root on
    correct: bool | None = None  # recorded grade


class Header(NamedTuple):
    """What tells the runs of an import apart."""

    method: str  # "cot", a search's name, or SAMPLES
    policy: str
    prm: str | None = None
    n: int | None = None  # budget; None leaves it to the number of solutions, and adds up those of several records of a problem
    seed: int = 0  # tells repeated runs apart
    width: int | None = None  # M of a search
    sampling: Any = {}  # temperature and so on


@dataclass(frozen=True)
class Record:
    """What one file, or one line of it, holds of one problem; None, or nothing, where it does not say."""

    header: Header
    problem: str
    answer: str
    packed: tuple[bytes, ...]  # its solutions, as :func:`pack` gives them; of several records of a problem that were merged, each one's
    source: str  # file, and line where it has several
    problem_id: str | None = None
    place: int | None = None  # number of the problem, where problems are counted
    counts: dict[str, int | None] = field(default_factory=dict)  # tokens of the whole search, by COUNTS
    seconds: float | None = None  # that all of them took
    # By rule and number of the first solutions that it chose from, the answer that it selected, or whether that was right.
    recorded: dict[tuple[Rule, int], str | bool] = field(default_factory=dict)
    leaders: tuple[int, ...] = ()  # numbers of the solutions that are the search's, where others are recorded beside them; empty for all
    totals: tuple[float, ...] = ()  # aggregate of each solution's scores by the tool that recorded them; empty where this suite's serves
    sigmoid: bool = False  # whether the packed scores are logits, which become probabilities

    @property
    def solutions(self) -> list[Solution]:
        """Its solutions; a search of independent parts (DVTS) has one for each part."""
        solutions = [Solution._make(fields) for part in self.packed for fields in json.loads(zlib.decompress(part))]
        if self.sigmoid:
            return [s._replace(scores=[0.5 + 0.5 * math.tanh(score / 2) for score in s.scores]) for s in solutions]
        return solutions

    @property
    def scores(self) -> list[float]:
        """Every step's score, of all solutions."""
        return [score for s in self.solutions for score in s.scores]


def pack(solutions: Sequence[Solution]) -> bytes:
    """Solutions as compressed JSON text: as objects those of 500 problems x 256 take gigabytes, and one record's are needed at a time."""
    return zlib.compress(json.dumps(solutions).encode(), 1)


@dataclass
class Contents:
    """What files of one format hold of one problem set, in their order."""

    format: str
    name: str = ""  # of the problem set, as far as the files tell it
    records: list[Record] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # sources that were not used, and why
    notes: list[str] = field(default_factory=list)  # quirks of the files, and what was made of them
    unnamed: bool = False  # whether the format has no names of models
    extract: tuple[str, ...] = ()  # ways in which answers are found in the solutions; empty for the box alone
    boxed: Counter[bool] = field(default_factory=Counter)  # how many completions hold a box, and how many hold none
    seen: set = field(default_factory=set)  # identities of samples, where a format has them
    sources: list[dict] = field(default_factory=list)  # where the files are from, with the revision, for the import's list

    def skip(self, source: object, reason: str) -> None:
        self.skipped.append((str(source), reason))

    @contextmanager
    def using(self, source: str) -> Iterator[None]:
        """Lists a source as skipped where the block finds that it cannot be used."""
        try:
            yield
        except ExchangeError as error:
            self.skip(source, str(error))


def problem_key(text: str) -> str:
    """What tells problems apart: the text but for its spacing."""
    return " ".join(text.split())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what stops the writing of a file or folder into an error that names it."""
    try:
        yield
    except OSError as error:
        raise ExchangeError(f"cannot write {path}: {error.strerror or error}") from error
