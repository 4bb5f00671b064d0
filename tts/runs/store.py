"""Where trajectories are kept: append by chunk, resume, read.

A *run* is everything that determines trajectories but the problems: policy, PRM, method, budget, sampling, engine. Its
folder is named by a hash of that. A *chunk* is a fixed number of problems; its file is named by a hash of them, written
whole or not at all. So a run that is cut off continues where it was, and a longer list of problems adds to a shorter.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
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

    def write(self, problems: Sequence[dict], rows: list[dict], seconds: float) -> None:
        """Commits a chunk: a temporary file, flushed, then renamed.

        Raises:
            StoreError: where the folder cannot be written.
        """
        target = self.path(problems)
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"seconds": f"{seconds:.3f}"})
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

    def all_rows(self) -> list[dict]:
        """The rows of every chunk that is stored."""
        return [row for path in sorted(self.folder.glob("*.parquet")) for row in _read(path).to_pylist()]

    def _table(self, problems: Sequence[dict]) -> pa.Table:
        path = self.path(problems)
        if not path.exists():
            raise StoreError(f"nothing stored yet for {describe(self.spec)} on {problems[0]['id']} and following; run the study first")
        return _read(path)


class ImportedRun(Run):
    """A run that was made elsewhere: one file with all of its problems, so that any part of them is a chunk."""

    def path(self, problems: Sequence[dict]) -> Path:
        return self.folder / "all.parquet"

    def has(self, problems: Sequence[dict]) -> bool:
        return self.path(problems).exists() and {_identity(p) for p in problems} <= set(self._held())

    def read(self, problems: Sequence[dict]) -> list[dict]:
        """Its rows of these problems.

        Raises:
            StoreError: where it lacks one of them, or is damaged.
        """
        held = self._held() if self.path(problems).exists() else {}
        missing = [p["id"] for p in problems if _identity(p) not in held]
        if missing:
            raise StoreError(f"{describe(self.spec)} lacks {len(missing)} problems, {missing[0]} first; ask for fewer, or import again")
        return copy.deepcopy([held[_identity(p)] for p in problems])

    def _held(self) -> dict[tuple, dict]:
        path = self.path([])
        return _rows_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _rows_of(path: Path, changed: int) -> dict[tuple, dict]:
    return {(row["problem_id"], row["problem"], row["answer"]): row for row in _read(path).to_pylist()}


def _identity(problem: dict) -> tuple:
    return problem["id"], problem["problem"], problem["answer"]


class Store:
    """All runs below one folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def run(self, spec: dict) -> Run:
        """The run of a spec; nothing is written before its first chunk, but for the spec itself."""
        return _run(self.folder / f"{_name(spec)}-{digest(spec)}", spec)

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
            yield _run(note.parent, spec)

    def export(self) -> Iterator[str]:
        """The canonical export: one JSON line per run and problem, sorted, without times."""
        for run in sorted(self.runs(), key=lambda run: run.key):
            for row in sorted(run.all_rows(), key=lambda row: row["problem_id"]):
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
        shutil.rmtree(self.folder / "imported", ignore_errors=True)  # what describes imported runs
        return len(runs)


def _run(folder: Path, spec: dict) -> Run:
    return ImportedRun(folder, spec) if spec.get("engine", {}).get("name") == "imported" else Run(folder, spec)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and run the study again, which makes only it anew") from None


def describe(spec: dict) -> str:
    """A run in one line."""
    prm = f" with {spec['prm']['name']}" if spec.get("prm") else ""
    return f"{spec['method']} of {spec['policy']['name']}{prm}, N = {spec['n']}"


def _name(spec: dict) -> str:
    parts = [spec["method"], Path(spec["policy"]["name"]).name]
    if spec.get("prm"):
        parts.append(Path(spec["prm"]["name"].replace(":", "-")).name)
    return "-".join([*parts, str(spec["n"])])
