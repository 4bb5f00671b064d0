"""Problem sets that others published: files of data sets on the Hugging Face Hub, at fixed commits."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from tts.common.names import listed
from tts.models import hub
from tts.tasks import split_set
from tts.tasks.base import Task
from tts.tasks.problems import ProblemError, checked_row, records

COPIES = (".jsonl", ".json", ".parquet", ".csv")


@dataclass(frozen=True)
class Published:
    """One file of a data set."""

    repository: str
    revision: str
    file: str

    @property
    def is_cached(self) -> bool:
        return isinstance(try_to_load_from_cache(self.repository, self.file, repo_type="dataset", revision=self.revision), str)

    def fetch(self, name: str) -> Path:
        """The file, from the local cache or else from the Hub; raises :class:`ProblemError`, which names the set, where neither has it."""
        try:
            if not self.is_cached and (reason := hub.unreachable()):
                raise ConnectionError(f"the Hub cannot be reached ({reason})")
            return Path(hf_hub_download(self.repository, self.file, repo_type="dataset", revision=self.revision))
        except Exception as error:  # the Hub's client raises many kinds
            reason, remedy = hub.first_line(error), f"give a local copy as {name}:path/to/problems.jsonl"
            raise ProblemError(f"cannot download {name} ({self.repository}), which is not on this machine: {reason}; {remedy}") from error


@dataclass(frozen=True)
class PublishedSet:
    """A set of files, named ``SET``, ``SET:CATEGORY``, or either with ``:FILE`` of a copy after it."""

    files: Sequence[Published]
    form: Callable[[dict], dict]  # from a row of a file to a record with ``problem``, ``answer``, ``category`` and a task's fields


def absent(names: Iterable[str]) -> list[str]:
    """Those of the problem sets that would have to be downloaded."""
    return [name for name in names if not all(one.is_cached for task, own in [split_set(name)] for one in task.published(own))]


def parts(name: str) -> tuple[str, str, str]:
    """A published set's name, its category and the file of its copy; "" for each that is not given."""
    own, _, rest = name.partition(":")
    category, _, copy = rest.partition(":")
    return (own, "", rest) if rest.endswith(COPIES) and not copy else (own, category, copy)


def load(name: str, sets: Mapping[str, PublishedSet], task: Task, split: str, seed: int) -> tuple[list[dict], str]:
    """:meth:`Task.load` of published sets: all problems or those of a category."""
    own, category, copy = parts(name)
    paths = [Path(copy)] if copy else [one.fetch(f"{own}:{category}" if category else own) for one in sets[own].files]
    rows = [sets[own].form(row) | {"where": where} for path in paths for where, row in records(path, "the columns of the published set")]
    if category and category not in (known := sorted({row["category"] for row in rows})):
        raise ProblemError(f"{own} has no category {category!r}; it has {listed(known, category)}")
    chosen = half(own, [row for row in rows if category in ("", row["category"])], split)
    return [checked_row(row, row["where"], task, seed) for row in chosen], own


def half(name: str, rows: list[dict], split: str) -> list[dict]:
    """The rows that belong to a split, with ids made of their texts; equal ones are taken once, and none whose text has two answers."""
    if split not in ("selection", "test", "all"):
        raise ProblemError(f"{name} has no {split} problems; choose selection, test or all")
    known: dict[bytes, dict] = {}
    doubtful = set()
    for row in rows:
        text = " ".join(map(str, (row["problem"], *sorted(map(str, row.get("options") or ())))))
        of = hashlib.sha256(" ".join(text.split()).encode()).digest()
        if known.setdefault(of, row)["answer"] != row["answer"]:
            doubtful.add(of)
    wanted = [of for of in known if of not in doubtful and split in ("all", ("test", "selection")[of[0] % 2])]
    return [known[of] | {"id": f"{name}-{of.hex()[:12]}"} for of in wanted]
