"""Where trajectories are kept: append by chunk, resume, read.

A *run* is everything that determines trajectories but the problems: policy, PRM, method, budget, sampling, engine; a hash of that names
its folder. A *chunk* is a fixed number of problems, whose hash names its file, written whole or not at all. So a run that is cut off
continues where it was, and a longer list of problems adds to a shorter. A search's chunk also holds the steps that were sampled for it,
pruned ones included, which other searches need not sample again.
"""

import glob
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import AcquireReturnProxy, FileLock, Timeout

from tts.common import checksum
from tts.common.files import replacing, write_text
from tts.common.names import short
from tts.store.chunk_file import ALL, SCHEMA, STEPS, StoreError, damage_told, open_chunk, read_chunk, read_groups, writing
from tts.store.clock import Clock, together
from tts.store.run_spec import RunSpec
from tts.store.step_columns import ChunkSteps, StepCache
from tts.tasks.problems import fingerprint

_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")  # in a file's name; ids come from strangers


@dataclass(frozen=True)
class Run:
    """One run: the folder of its chunks, and its spec, which is everything that determines it."""

    folder: Path
    spec: RunSpec
    group: ClassVar[int | None] = None  # rows that are in memory at a time as it is written, and make one row group; None for all

    @property
    def key(self) -> str:
        return self.spec.key

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

    def write(
        self,
        problems: Sequence[dict],
        rows: Iterable[dict],  # of :data:`SCHEMA`, of the problems
        seconds: float,  # wall time that it took to make
        limits: Sequence[str] = (),  # shortcomings of the engine, in words
        steps: pa.ListArray | None = None,  # that were sampled for it, as of :meth:`StepCache.column`
        unread: Mapping[str, int] | None = None,  # by the PRM, as :meth:`tts.reward_models.base.Reader.report_unread` counts it
        clock: Clock | None = None,  # of policy and PRM, where it is known
    ) -> None:
        """Commits a chunk: a temporary file, flushed, then renamed; raises :class:`StoreError` where the folder cannot be written."""
        notes = {"seconds": f"{seconds:.3f}", checksum.KEY: checksum.BLANK}
        notes |= {name: json.dumps(kept) for name, kept in {"limits": list(limits), "unread": dict(unread or {})}.items() if kept}
        notes |= {"clock": clock.text} if clock else {}
        schema = (SCHEMA if steps is None else SCHEMA.append(STEPS)).with_metadata(notes)
        path, rows = self.path(problems), iter(rows)
        with writing(path), replacing(path) as temporary:
            with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
                while held := list(islice(rows, self.group)):
                    table = pa.Table.from_pylist(held, SCHEMA)
                    writer.write_table((table if steps is None else table.append_column(STEPS, steps)).cast(schema))
            checksum.seal(temporary)

    def read(self, problems: Sequence[dict]) -> list[dict]:
        """A chunk's rows, in the order of its problems; raises :class:`StoreError` where it is missing or damaged."""
        return read_chunk(self._stored(problems)).to_pylist()

    def steps(self, problems: Sequence[dict]) -> ChunkSteps:
        """The steps that were sampled for a chunk, if they were kept; raises :class:`StoreError` as :meth:`read` does."""
        problem_ids, steps = read_chunk(self._stored(problems), ["problem_id", STEPS.name]).columns
        return ChunkSteps(problem_ids.to_pylist(), steps.combine_chunks())

    @property
    def files(self) -> list[Path]:
        """The files of its chunks."""
        return sorted(self.folder.glob("*.parquet"))

    def limits(self) -> list[str]:
        """What the engine could not do when it made any of the run's chunks; "not reproducible", for instance."""
        limits: dict[str, None] = {}
        for path in self.files:
            with suppress(pa.ArrowException, OSError):  # whoever reads the rows of a damaged one is told
                limits |= dict.fromkeys(json.loads((pq.read_schema(path).metadata or {}).get(b"limits", "[]")))
        return list(limits)

    def clock(self) -> Clock:
        """How long policy and PRM took for the run's chunks, as far as that was kept."""
        held = []
        for path in self.files:
            with suppress(pa.ArrowException, OSError, ValueError, TypeError):  # as above
                if text := (pq.read_schema(path).metadata or {}).get(b"clock"):
                    held.append(Clock.of(text))
        return together(held)

    def rows(self) -> Iterator[dict]:
        """Every row that the run holds, chunk by chunk; raises :class:`StoreError` where a chunk is damaged."""
        for path in self.files:
            yield from read_chunk(path).to_pylist()

    def problems(self) -> str:
        """How many problems it holds of which sets, in words; a set is what ids have before their number."""
        ids = (name for path in self.files for name in read_chunk(path, ["problem_id"])["problem_id"].to_pylist())
        sets = Counter(re.sub(r"(-test)?[-_]?\d+$", "", name) or "unnamed" for name in ids)
        return ", ".join(f"{count} {name}" for name, count in sets.items())

    def row(self, problem: str = "") -> dict:
        """The row of one problem: the first, or that of an id, a text or a number from 1; only the problem's own chunk is read whole.

        Raises :class:`StoreError` where the run holds no such problem, or a chunk is damaged.
        """
        number = int(problem) if problem.isdecimal() else int(not problem)
        ids = ((path, *at) for path in self.files for at in enumerate(read_chunk(path, ["problem_id", "problem"]).to_pylist()))
        seen, found = 0, None
        for seen, (path, at, row) in enumerate(ids, 1):
            if problem in row.values() or seen == number:
                found = path, at
            if found and problem in ("", row["problem_id"]):  # a number may be another problem's id
                break
        if found is None:
            raise StoreError(f"{self.spec} holds {seen} problems, and none with the id, number or text {problem!r:.80}")
        return read_chunk(found[0]).slice(found[1], 1).to_pylist()[0]

    @property
    def size(self) -> tuple[int, int]:
        """Its number of chunks, and their bytes."""
        return len(self.files), sum(file.stat().st_size for file in self.files)

    def remove(self) -> None:
        """Deletes the run, its chunks first: what a kill leaves of it still says what it is."""
        for path in self.files:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _stored(self, problems: Sequence[dict]) -> Path:
        path = self.path(problems)
        if not path.exists():
            raise StoreError(f"nothing stored yet for {self.spec} on {problems[0]['id']} and following; run the study first")
        return path


class ImportedRun(Run):
    """A run that was made elsewhere: one file with all of its problems, so that any part of them is a chunk."""

    group = 32

    def path(self, problems: Sequence[dict]) -> Path:
        return self.folder / ALL

    def has(self, problems: Sequence[dict]) -> bool:
        return self.path(problems).exists() and set(map(_identity, problems)) <= set(self._groups())

    def read(self, problems: Sequence[dict]) -> list[dict]:
        """Its rows of these problems; raises :class:`StoreError` where it lacks one of them, or is damaged."""
        groups, wanted = self._groups(), dict.fromkeys(map(_identity, problems))
        if missing := [identity for identity in wanted if identity not in groups]:
            raise StoreError(f"{self.spec} lacks {len(missing)} problems, {missing[0][0]} first; ask for fewer, or import again")
        read = self._rows(sorted({groups[identity] for identity in wanted}))
        rows = {identity: row for row in read if (identity := _identity(row, "problem_id")) in wanted}
        return [rows[identity] for identity in wanted]

    def rows(self) -> Iterator[dict]:
        return self._rows(sorted(set(self._groups().values())))

    def _rows(self, groups: Iterable[int]) -> Iterator[dict]:
        """Rows of row groups, of which one at a time is in memory: all rows of 500 problems x 256 solutions take gigabytes."""
        for group in groups:
            path = self.path([])
            yield from read_groups(path, _opened(path, path.stat().st_mtime_ns), [group]).to_pylist()

    def _groups(self) -> dict[tuple, int]:
        """The row group of each problem."""
        path = self.path([])
        return _groups_of(path, path.stat().st_mtime_ns) if path.exists() else {}


@lru_cache(maxsize=2)
def _opened(path: Path, changed: int) -> pq.ParquetFile:
    return open_chunk(path)


@lru_cache(maxsize=64)
def _groups_of(path: Path, changed: int) -> dict[tuple, int]:
    file = _opened(path, changed)
    groups = (read_groups(path, file, [i], ["problem_id", "problem", "answer"]).to_pylist() for i in range(file.num_row_groups))
    return {_identity(row, "problem_id"): number for number, rows in enumerate(groups) for row in rows}


def _identity(problem: dict, key: str = "id") -> tuple:
    return problem[key], problem["problem"], problem["answer"]


class Store:
    """All runs below one folder."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def run(self, spec: RunSpec) -> Run:
        """The run of a spec; nothing is written before its first chunk, but for the spec itself."""
        names = [spec.method, _policy_name(spec)]
        if spec.prm:
            names.append(Path(spec.prm.name.partition("?")[0].replace(":", "-")).name[:60])
        return _run(self.folder / "-".join([*names, str(spec.n), spec.key]), spec)

    def open(self, spec: RunSpec) -> Run:
        """The run of a spec, its folder made and the spec written into it; raises :class:`StoreError` where that cannot be."""
        run = self.run(spec)
        with writing(self.folder):
            if not run.note.exists():
                write_text(run.note, json.dumps(spec.stored, indent=2, sort_keys=True) + "\n")
        return run

    def steps(self, spec: RunSpec, problems: Sequence[dict]) -> StepCache:
        """A chunk's cache of steps: it holds those that any run with the spec's policy, sampling, engine and task sampled for the chunk."""
        found = []
        for note in sorted(self.folder.glob(f"*-{glob.escape(_policy_name(spec))}-*/run.json")):
            with suppress(StoreError, OSError):  # whoever needs the rows of a damaged one is told
                run = _stored_run(note)
                if run.spec.sampler == spec.sampler and run.has(problems):
                    found.append(run.steps(problems))
        return StepCache(found)

    def lock(self, wait: bool = False) -> AcquireReturnProxy:
        """Held for a ``with`` block that writes, so that two studies on one store do not repeat each other's work.

        Who gets it deletes what a killed writer left half written. Raises :class:`StoreError` where the folder cannot be written, and,
        unless it is to ``wait``, where another process holds it.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            try:
                held = lock.acquire(timeout=0)
            except Timeout:
                if not wait:
                    raise StoreError(f"another process is writing to {self.folder}; wait for it, or choose another store") from None
                print(f"another process is writing to {self.folder}; waiting for it (Ctrl-C stops)", flush=True)
                held = lock.acquire()
            for leftover in [*self.folder.glob("*/*.tmp"), *self.folder.glob("imported/*/*.tmp")]:
                leftover.unlink(missing_ok=True)
        return held

    def runs(self) -> Iterator[Run]:
        """Every run that is stored; raises :class:`StoreError` where a run's description is damaged."""
        return map(_stored_run, sorted(self.folder.glob("*/run.json")))

    def export(self) -> Iterator[str]:
        """The canonical export: one JSON line per run and problem, sorted, without times."""
        for run in sorted(self.runs(), key=lambda run: run.key):
            for row in sorted(run.rows(), key=lambda row: row["problem_id"]):
                yield json.dumps({"run": run.spec.stored} | row, sort_keys=True, ensure_ascii=False)

    def find(self, text: str) -> Run:
        """The run whose key, folder's name or description begins so, or one of whose models has this name or short name.

        A description may lack the ``…/`` of :attr:`.RunSpec.brief`. Raises :class:`StoreError` where none does, or more than one.
        """
        runs, asked = list(self.runs()), text.replace("…/", "")
        found = []
        for run in runs:
            spec = run.spec
            told = (run.key, run.folder.name, f"{spec}, seed {spec.seed}", spec.brief.replace("…/", ""))
            models = [name for model in (spec.policy, spec.prm) if model for name in (model.name, short(model.name))]
            if asked in models or any(name.startswith(asked) for name in told):
                found.append(run)
        if not found:
            raise StoreError(
                f"no run {text!r} in {self.folder}; it holds {len(runs)} runs, which `python -m tts store` lists with their keys"
            )
        if len(found) > 1:
            listed = "".join(f"\n  {run.key}  {run.spec}, seed {run.spec.seed}" for run in found)
            raise StoreError(f"{text!r} means {len(found)} runs; give more, or a key:{listed}")
        return found[0]

    def delete(self, runs: Sequence[Run], folders: Sequence[Path] = ()) -> None:
        """Deletes runs, and before them the folders that describe imported ones; raises as :meth:`lock` does."""
        with self.lock():
            for folder in folders:
                if folder.exists():
                    shutil.rmtree(folder)
            for run in runs:
                run.remove()


def _run(folder: Path, spec: RunSpec) -> Run:
    return ImportedRun(folder, spec) if spec.elsewhere else Run(folder, spec)


def _stored_run(note: Path) -> Run:
    """The run that a ``run.json`` describes; raises :class:`StoreError` where that is damaged."""
    with damage_told(note):
        spec = RunSpec.of(json.loads(note.read_text(encoding="utf-8")))
        if not note.parent.name.endswith(f"-{spec.key}"):
            raise ValueError("it does not describe the run that its folder is named after")
        return _run(note.parent, spec)


def _policy_name(spec: RunSpec) -> str:
    # Of an address that is the model's name; a "?" or ":" is no part of a file's name everywhere.
    return Path(spec.policy.name.partition("?")[0].rpartition("#")[2].replace(":", "-")).name[:60]
