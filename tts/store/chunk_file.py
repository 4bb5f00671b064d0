"""A chunk's file: the columns of its parquet table, written whole and read with its checksum verified."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tts.common import checksum
from tts.common.files import replacing

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
STEP = pa.struct(
    [
        ("path", pa.list_(pa.int32())),
        ("ids", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("status", pa.string()),
        ("generated", pa.int32()),
    ]
)
STEPS = pa.field("sampled", pa.list_(STEP))
"""A further column of searches: each problem's steps as :class:`tts.policies.step_reuse.Step` says, but for the problem."""

ALL = "all.parquet"  # the one file of a run that was imported
MANIFEST = "import.json"  # the list of what one import holds
_AGAIN = {ALL: "import its files again", MANIFEST: "import the data again"}
_COLUMNS = {field.name: field for field in [*SCHEMA, STEPS]}


class StoreError(RuntimeError):
    """A store that cannot be read or written; the message names the file and the remedy."""


def write_chunk(
    path: Path,
    rows: Iterable[dict],
    seconds: float,
    limits: Sequence[str] = (),
    steps: pa.ListArray | None = None,
    unread: Mapping[str, int] | None = None,
    group: int | None = None,
) -> None:
    """Commits a chunk: a temporary file, flushed, then renamed.

    Args:
        rows: rows of :data:`SCHEMA`.
        seconds: wall time that it took to make.
        limits: shortcomings of the engine, in words.
        steps: column of the steps that were sampled for it, as of :meth:`tts.store.step_columns.StepCache.column`.
        unread: what the PRM could not read, as :meth:`tts.reward_models.base.Reader.report_unread` counts it.
        group: rows that are held in memory at a time, and make one row group of the file; all of them by default.

    Raises:
        StoreError: where the folder cannot be written.
    """
    notes = {"seconds": f"{seconds:.3f}", checksum.KEY: checksum.BLANK}
    notes |= {name: json.dumps(kept) for name, kept in {"limits": list(limits), "unread": dict(unread or {})}.items() if kept}
    schema = (SCHEMA if steps is None else SCHEMA.append(STEPS)).with_metadata(notes)
    rows = iter(rows)
    with writing(path), replacing(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            while held := list(islice(rows, group)):
                table = pa.Table.from_pylist(held, SCHEMA)
                writer.write_table((table if steps is None else table.append_column(STEPS, steps)).cast(schema))
        checksum.seal(temporary)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes into a store: an ``OSError`` becomes a :class:`StoreError` with reason and remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write to the store {path}: {reason}; make it writable, or free space, or choose another store") from error


def read_chunk(path: Path, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Columns of a stored chunk (:data:`SCHEMA`, :data:`STEPS`), its checksum verified; raises :class:`StoreError` for a damaged one."""
    return read_groups(path, open_chunk(path), columns=columns)


def open_chunk(path: Path) -> pq.ParquetFile:
    """A stored chunk's file in memory, compressed as it is, its checksum verified. Raises as :func:`read_chunk`."""
    with damage_told(path):
        content = checksum.content_of(path)
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if not checksum.is_whole(content, file.metadata.metadata or {}):
            raise ValueError("its bytes are not those that were written")
        return file


def read_groups(path: Path, file: pq.ParquetFile, groups: Sequence[int] | None = None, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """Some row groups, all by default, of an opened chunk. Raises as :func:`read_chunk`."""
    with damage_told(path):
        names = [name for name in file.schema_arrow.names if name in columns]
        table = file.read(names) if groups is None else file.read_row_groups(list(groups), names)
        for place, name in enumerate(columns):
            if name in ("prompt", STEPS.name) and name not in table.column_names:
                table = table.add_column(place, name, pa.nulls(len(table), _COLUMNS[name].type))
        wanted = pa.schema([_COLUMNS[name] for name in columns])
        unknown = set(file.schema_arrow.names) - set(_COLUMNS)
        if unknown or not table.schema.equals(wanted) or b"seconds" not in (table.schema.metadata or {}):
            raise ValueError("its columns are not a chunk's")
        return table


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Around what reads a file of a store: whatever damage raises there becomes a :class:`StoreError` with reason and remedy."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        again = _AGAIN.get(path.name, "run the study again, which makes only it anew")
        raise StoreError(f"{path} is damaged ({reason}); delete it and {again}") from None
