"""A checksum of a whole parquet file, kept inside of it: page checksums do not cover the footer, where a flipped bit can hide all rows."""

import hashlib
from pathlib import Path

import pyarrow as pa

KEY = "sha256"
BLANK = "unsealed" + 56 * "0"  # what stands in the place of the checksum, a hash in hexadecimal digits, while it is reckoned


def seal(path: Path) -> None:
    """Puts the checksum into a file that was written with ``{KEY: BLANK}`` in its metadata."""
    content = path.read_bytes()
    at = content.rindex(BLANK.encode())
    with path.open("r+b") as file:
        file.seek(at)
        file.write(hashlib.sha256(content).hexdigest().encode())


def content_of(path: Path) -> pa.Buffer:
    """A file's bytes in Arrow's own memory, for :class:`pyarrow.BufferReader`.

    Arrow's threads may let go of what they read from only while the interpreter ends; if that belonged to Python, as ``bytes`` and open
    files of Python do, the process would abort then (apache/arrow#34314). Raises OSError where the file cannot be read.
    """
    with pa.OSFile(str(path)) as file:
        return file.read_buffer()


def is_whole(content: pa.Buffer, metadata: dict[bytes, bytes]) -> bool:
    """Whether a file is as it was sealed; true of one that was written before files were.

    The metadata are the file's own: what pyarrow says of its schema is a copy that was never sealed.
    """
    held = metadata.get(KEY.encode())
    if held is None:
        return True
    bytes_of = memoryview(content)
    footer = len(bytes_of) - 8 - int.from_bytes(bytes_of[-8:-4], "little")  # where the file's metadata begin
    before, _, after = bytes(bytes_of[footer:]).rpartition(held)
    whole = hashlib.sha256(bytes_of[:footer])
    whole.update(before + BLANK.encode() + after)
    return whole.hexdigest().encode() == held
