"""A chunk's file: the columns of its parquet table, and its reading, with the checksum verified."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tts.common import checksum

_TEXT, _INDICES = pa.string(), pa.list_(pa.int32())
TRAJECTORY = pa.struct(
    {"path": _INDICES, "steps": pa.list_(_TEXT), "scores": pa.list_(pa.float64()), "status": _TEXT, "tokens": pa.int32()}
)
SCHEMA = pa.schema(
    [
        ("problem_id", _TEXT),
        ("problem", _TEXT),
        ("answer", _TEXT),
        ("prompt", _TEXT),  # as rendered; null in chunks made before it was kept, and in imported ones
        ("prompt_tokens", pa.int64()),
        ("policy_tokens", pa.int64()),
        ("prm_tokens", pa.int64()),
        ("trajectories", pa.list_(TRAJECTORY)),
        # Of each trajectory, of tts.search.confidence.KINDS; null where it was not kept.
        ("confidences", pa.list_(pa.list_(pa.float64()))),
    ]
)
STEP = pa.struct({"path": _INDICES, "ids": _INDICES, "text": _TEXT, "status": _TEXT, "generated": pa.int32()})
# A further column of searches: each problem's steps as :class:`tts.policies.step_reuse.Step` says, but for the problem.
STEPS = pa.field("sampled", pa.list_(STEP))

ALL = "all.parquet"  # the one file of a run that was imported
MANIFEST = "import.json"  # the list of what one import holds
_AGAIN = {ALL: "import its files again", MANIFEST: "import the data again"}
_COLUMNS = {field.name: field for field in [*SCHEMA, STEPS]}


class StoreError(RuntimeError):
    """A store that cannot be read or written; the message names the file and the remedy."""


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
            if name in ("prompt", "confidences", STEPS.name) and name not in table.column_names:
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
