"""What a reader of another tool's files hands over: records in one schema, and what it could not use."""

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, NamedTuple

from tts.tasks.selection import Rule

COUNTS = ("prompt_tokens", "policy_tokens", "prm_tokens")
SAMPLES = "samples"
"""Method of independent samples, with scores or without; with scores they serve best-of-N too."""


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


class Place(NamedTuple):
    """Where solutions lie in a temporary file, and what can be told of them without reading them."""

    at: int
    size: int  # in bytes
    count: int
    scored: bool  # whether each solution that has steps has scores
    ends: tuple[float, ...]  # the lowest and the highest score; empty without any
    digest: str


@dataclass(frozen=True)
class Stored:
    """Solutions in a temporary file: 500 problems x 256 solutions take gigabytes as objects, and one record's are needed at a time."""

    file: Any
    places: tuple[Place, ...]
    sigmoid: bool = False  # whether the scores are logits, which become probabilities

    def __len__(self) -> int:
        return sum(place.count for place in self.places)

    def __iter__(self) -> Iterator[Solution]:
        for place in self.places:
            self.file.seek(place.at)
            for solution in map(Solution._make, json.loads(zlib.decompress(self.file.read(place.size)))):
                yield solution._replace(scores=self._mapped(solution.scores)) if self.sigmoid else solution

    @property
    def ends(self) -> list[float]:
        """The lowest and the highest scores of its places."""
        return self._mapped([end for place in self.places for end in place.ends])

    def _mapped(self, scores: Sequence[float]) -> list[float]:
        return [0.5 + 0.5 * math.tanh(score / 2) if self.sigmoid else score for score in scores]


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
    solutions: Stored  # a search of independent parts (DVTS) has one for each part
    source: str  # file, and line where it has several
    problem_id: str | None = None
    place: int | None = None  # number of the problem, where problems are counted
    counts: dict[str, int | None] = field(default_factory=dict)  # tokens of the whole search, by COUNTS
    # By rule and number of the first solutions that it chose from, the answer that it selected, or whether that was right.
    recorded: dict[tuple[Rule, int], str | bool] = field(default_factory=dict)
    leaders: tuple[int, ...] = ()  # numbers of the solutions that are the search's, where others are recorded beside them; empty for all
    totals: tuple[float, ...] = ()  # aggregate of each solution's scores by the tool that recorded them; empty where this suite's serves


class Skip(NamedTuple):
    """Something that was not used, and why."""

    source: str
    reason: str


@dataclass
class Contents:
    """What files of one format hold of one problem set, in their order."""

    format: str
    name: str = ""  # of the problem set, as far as the files tell it
    records: list[Record] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # quirks of the files, and what was made of them
    unnamed: bool = False  # whether the format has no names of models
    sources: list[dict] = field(default_factory=list)  # where the files are from, with the revision, for the import's list
    _file: Any = field(default_factory=lambda: SpooledTemporaryFile(max_size=1 << 26), repr=False)  # noqa: SIM115 (closed with it)

    def skip(self, source: object, reason: str) -> None:
        self.skipped.append(Skip(str(source), reason))

    @contextmanager
    def using(self, source: str) -> Iterator[None]:
        """Lists a source as skipped where the block finds that it cannot be used."""
        try:
            yield
        except ExchangeError as error:
            self.skip(source, str(error))

    def keep(self, solutions: Sequence[Solution]) -> Stored:
        """Puts solutions into a temporary file."""
        text = json.dumps(solutions).encode()
        packed = zlib.compress(text, 1)
        scored = bool(solutions) and all(s.scores for s in solutions if s.steps)
        scores = [score for s in solutions for score in s.scores]
        ends = (min(scores), max(scores)) if scores else ()
        place = Place(self._file.seek(0, 2), len(packed), len(solutions), scored, ends, hashlib.sha256(text).hexdigest())
        self._file.write(packed)
        return Stored(self._file, (place,))


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
