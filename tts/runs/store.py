"""Where trajectories are kept: append by chunk, resume, read.

A *run* is everything that determines trajectories but the problems: policy, PRM, method, budget, sampling, engine. Its
folder is named by a hash of that. A *chunk* is a fixed number of problems; its file is named by a hash of them, written
whole or not at all. So a run that is cut off continues where it was, and a longer list of problems adds to a shorter.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

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
        ("prompt", pa.string()),  # as rendered; null in chunks made before it was kept, and in imported ones
        ("prompt_tokens", pa.int64()),
        ("policy_tokens", pa.int64()),
        ("prm_tokens", pa.int64()),
        ("trajectories", pa.list_(TRAJECTORY)),
    ]
)


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
        return self.folder / f"{problems[0]['id'].replace('/', '_')}-{len(problems)}-{fingerprint(list(problems))}.parquet"

    def has(self, problems: Sequence[dict]) -> bool:
        return self.path(problems).exists()

    def write(self, problems: Sequence[dict], rows: list[dict], seconds: float, limits: Sequence[str] = ()) -> None:
        """Commits a chunk: a temporary file, flushed, then renamed.

        Args:
            seconds: that it took to make.
            limits: what the engine could not do, in words.

        Raises:
            StoreError: where the folder cannot be written.
        """
        target = self.path(problems)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            notes = {"seconds": f"{seconds:.3f}"} | ({"limits": json.dumps(list(limits))} if limits else {})
            table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata(notes)
            with open(temporary, "wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
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

    def limits(self) -> list[str]:
        """What the engine could not do when it made any of the run's chunks; "not reproducible", for instance."""
        found = {}
        for path in sorted(self.folder.glob("*.parquet")):
            metadata = pq.read_schema(path).metadata or {}
            found |= dict.fromkeys(json.loads(metadata.get(b"limits", "[]")))
        return list(found)

    def _table(self, problems: Sequence[dict]) -> pa.Table:
        path = self.path(problems)
        if not path.exists():
            raise StoreError(f"nothing stored yet for {describe(self.spec)} on {problems[0]['id']} and following; run the study first")
        return _read(path)


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
            run.folder.mkdir(parents=True, exist_ok=True)
            note = run.folder / "run.json"
            if not note.exists():
                temporary = note.with_suffix(f".{os.getpid()}.tmp")
                with open(temporary, "w", encoding="utf-8") as file:
                    file.write(json.dumps(spec, indent=2, sort_keys=True) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, note)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.folder}: {error.strerror or error}") from error
        return run

    def lock(self, wait: bool = False) -> FileLock:
        """Held while writing, so that two studies on one store do not repeat each other's work.

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
        except Timeout:
            raise StoreError(f"another process is writing to {self.folder}; wait for it, or choose another store") from None
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.folder}: {error.strerror or error}") from error
        return lock

    def runs(self) -> Iterator[Run]:
        """Every run that is stored.

        Raises:
            StoreError: where a run's description is damaged.
        """
        for note in sorted(self.folder.glob("*/run.json")):
            try:
                spec = json.loads(note.read_text())
            except ValueError as error:
                raise StoreError(f"{note} is damaged ({error}); delete its folder and run the study again") from None
            yield Run(note.parent, spec)

    def export(self) -> Iterator[str]:
        """The canonical export: one JSON line per run and problem, sorted, without times."""
        for run in sorted(self.runs(), key=lambda run: run.key):
            rows = [row for path in run.folder.glob("*.parquet") for row in _read(path).to_pylist()]
            for row in sorted(rows, key=lambda row: row["problem_id"]):
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


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
        if "prompt" not in table.column_names:
            table = table.add_column(SCHEMA.get_field_index("prompt"), "prompt", pa.nulls(len(table), pa.string()))
        return table
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and run the study again, which makes only it anew") from None


def describe(spec: dict) -> str:
    """A run in one line."""
    prm = f" with {spec['prm']['name']}" if spec.get("prm") else ""
    return f"{spec['method']} of {spec['policy']['name']}{prm}, N = {spec['n']}"


def _name(spec: dict) -> str:
    # Of an address that is the model's name; a "?" or ":" is no part of a file's name everywhere.
    policy = spec["policy"]["name"].partition("?")[0].rpartition("#")[2].replace(":", "-")
    parts = [spec["method"], Path(policy).name]
    if spec.get("prm"):
        parts.append(Path(spec["prm"]["name"].replace(":", "-")).name)
    return "-".join([*parts, str(spec["n"])])
