"""Where trajectories are kept: append by chunk, resume, read.

A *run* is everything that determines trajectories but the problems: policy, PRM, method, budget, sampling, engine. Its
folder is named by a hash of that. A *chunk* is a fixed number of problems; its file is named by a hash of them, written
whole or not at all. So a run that is cut off continues where it was, and a longer list of problems adds to a shorter.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from tts.files import replacing, write_text
from tts.problems import fingerprint

TRAJECTORY = pa.struct(
    [
        ("path", pa.list_(pa.int32())),
        ("steps", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("status", pa.string()),
        ("tokens", pa.int32()),
    ]
)
SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("policy_tokens", pa.int64()),
        ("prm_tokens", pa.int64()),
        ("trajectories", pa.list_(TRAJECTORY)),
    ]
)


_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")  # in a file's name; ids come from strangers


class StoreError(RuntimeError):
    """A store that cannot be read or written; the message names the file and the remedy."""


def digest(spec: dict) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """One run's folder.

    Attributes:
        folder: where its chunks lie.
        spec: what determines it.
    """

    folder: Path
    spec: dict

    @property
    def key(self) -> str:
        return digest(self.spec)

    def path(self, problems: Sequence[dict]) -> Path:
        """The file of a chunk of problems."""
        first = _UNSAFE.sub("_", problems[0]["id"])[:60]
        return self.folder / f"{first}-{len(problems)}-{fingerprint(list(problems))}.parquet"

    @property
    def note(self) -> Path:
        """The file that says what the run is."""
        return self.folder / "run.json"

    def has(self, problems: Sequence[dict]) -> bool:
        """Whether a chunk is stored; without the run's note no reader would know whose it is."""
        return self.path(problems).exists() and self.note.exists()

    def write(self, problems: Sequence[dict], rows: list[dict], seconds: float) -> None:
        """Commits a chunk: a temporary file, flushed, then renamed.

        Raises:
            StoreError: where the folder cannot be written.
        """
        target = self.path(problems)
        table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"seconds": f"{seconds:.3f}"})
        try:
            with replacing(target) as temporary:
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error.strerror or error}; free space or choose another store") from error

    def read(self, problems: Sequence[dict]) -> list[dict]:
        """A chunk's rows, in the order of its problems.

        Raises:
            StoreError: where the chunk is missing or damaged.
        """
        return self._table(problems).to_pylist()

    def seconds(self, problems: Sequence[dict]) -> float:
        """How long the chunk took to make."""
        return float(self._table(problems).schema.metadata[b"seconds"])

    def rows(self) -> Iterator[dict]:
        """Every row that the run holds, chunk by chunk.

        Raises:
            StoreError: where a chunk is damaged.
        """
        for path in sorted(self.folder.glob("*.parquet")):
            yield from read_chunk(path).to_pylist()

    def _table(self, problems: Sequence[dict]) -> pa.Table:
        path = self.path(problems)
        if not path.exists():
            raise StoreError(f"nothing stored yet for {describe(self.spec)} on {problems[0]['id']} and following; run the study first")
        return read_chunk(path)


class Store:
    """All runs below one folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def run(self, spec: dict) -> Run:
        """The run of a spec; nothing is written before its first chunk, but for the spec itself."""
        run = Run(self.folder / f"{_name(spec)}-{digest(spec)}", spec)
        return run

    def open(self, spec: dict) -> Run:
        """The run of a spec, its folder made and its spec written beside its chunks.

        Raises:
            StoreError: where the store cannot be written.
        """
        run = self.run(spec)
        try:
            if not run.note.exists():
                write_text(run.note, json.dumps(spec, indent=2, sort_keys=True) + "\n")
        except OSError as error:
            raise StoreError(self._unwritable(error)) from error
        return run

    def lock(self, wait: bool = False) -> FileLock:
        """Held while writing, so that two studies on one store do not repeat each other's work.

        Who gets it deletes what a killed writer left half written.

        Args:
            wait: for another process that holds it, and say so; else refuse.

        Raises:
            StoreError: where another process holds it, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if not wait:
                    raise
                print(f"another process is writing to {self.folder}; waiting for it (Ctrl-C stops)", flush=True)
                lock.acquire()
            for leftover in self.folder.glob("*/*.tmp"):
                leftover.unlink(missing_ok=True)
        except Timeout:
            raise StoreError(f"another process is writing to {self.folder}; wait for it, or choose another store") from None
        except OSError as error:
            raise StoreError(self._unwritable(error)) from error
        return lock

    def _unwritable(self, error: OSError) -> str:
        return f"cannot write to the store {self.folder}: {error.strerror or error}; make it writable, or choose another store"

    def runs(self) -> Iterator[Run]:
        """Every run that is stored.

        Raises:
            StoreError: where a run's description is damaged.
        """
        for note in sorted(self.folder.glob("*/run.json")):
            try:
                spec = json.loads(note.read_text(encoding="utf-8"))
                if not note.parent.name.endswith(f"-{digest(spec)}"):
                    raise ValueError("it does not describe the run that its folder is named after")
            except (ValueError, RecursionError) as error:
                raise StoreError(f"{note} is damaged ({error}); delete it and run the study again, which makes only it anew") from None
            yield Run(note.parent, spec)

    def export(self) -> Iterator[str]:
        """The canonical export: one JSON line per run and problem, sorted, without times."""
        for run in sorted(self.runs(), key=lambda run: run.key):
            for row in sorted(run.rows(), key=lambda row: row["problem_id"]):
                yield json.dumps({"run": run.spec} | row, sort_keys=True, ensure_ascii=False)

    def sizes(self) -> list[tuple[Run, int, int]]:
        """Per run: its number of chunks and its bytes."""
        found = []
        for run in self.runs():
            files = list(run.folder.glob("*.parquet"))
            found.append((run, len(files), sum(f.stat().st_size for f in files)))
        return found

    def clean(self) -> int:
        """Deletes all runs; returns how many."""
        runs = list(self.runs())
        for run in runs:
            shutil.rmtree(run.folder)
        return len(runs)


def read_chunk(path: Path) -> pa.Table:
    """A stored chunk, its pages' checksums verified.

    Raises:
        StoreError: where it is damaged.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        if not table.schema.equals(SCHEMA) or b"seconds" not in (table.schema.metadata or {}):
            raise ValueError("its columns are not a chunk's")
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} is damaged ({reason}); delete it and run the study again, which makes only it anew") from None


def describe(spec: dict) -> str:
    """A run in one line."""
    prm = f" with {spec['prm']['name']}" if spec.get("prm") else ""
    return f"{spec['method']} of {spec['policy']['name']}{prm}, N = {spec['n']}"


def _name(spec: dict) -> str:
    parts = [spec["method"], Path(spec["policy"]["name"]).name[:60]]
    if spec.get("prm"):
        parts.append(Path(spec["prm"]["name"].replace(":", "-")).name[:60])
    return "-".join([*parts, str(spec["n"])])
