"""Memory in pages of 2 MiB in place of 4 KiB, on Linux.

A decode step reads all weights once, in pages whose places the processor has to look up anew each time: looking up takes as long as
reading, in a virtual machine above all. Linux puts memory together when it is asked to (madvise(2), ``MADV_COLLAPSE``, Linux 6.1).
"""

import ctypes
import logging
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

HUGE = 1 << 21
LEAST = 1 << 26  # bytes of weights below which a processor's own table of places suffices, about
SMALLEST = 4 * HUGE  # of a stretch that is worth it
PIECE = 8 * HUGE
_WANTED, _NOW = 14, 25  # MADV_HUGEPAGE, MADV_COLLAPSE
_HEAD = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (?:(rw)\S* \S+ \S+ 0\b|\S{4} )")  # the third where it is no file's and written to
_SIZE = re.compile(rb"(Rss|AnonHugePages): +(\d+) kB")

log = logging.getLogger(__name__)


def wanted(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, which nothing was written to yet; where it lies on the CPU and is large, it will lie in huge pages."""
    if tensor.is_cpu and tensor.nbytes >= SMALLEST:
        _advise(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, _WANTED)
    return tensor


def collapse(maps: Path = Path("/proc/self/smaps")) -> int:
    """Puts this process's larger stretches of memory into huge pages; gives the bytes of the pieces of which the system says it did.

    Takes some seconds a gigabyte. In pieces, since a call cannot be interrupted, not even by the end of the process, and what another
    thread frees meanwhile, or for which no huge page is left, should fail alone.
    """
    try:
        found = list(_stretches(maps.read_bytes()))
    except OSError:
        return 0
    moved = 0
    for start, stop in found:
        _advise(start, stop, _WANTED)  # a Linux before 6.1 does it at leisure, and what grows here later is asked for
        for first in range(-(-start // HUGE) * HUGE, stop - HUGE + 1, PIECE):
            last = min(first + PIECE, stop // HUGE * HUGE)
            moved += (last - first) * _advise(first, last, _NOW)
    log.debug("%d of %d MiB lie in huge pages", moved >> 20, sum(stop - start for start, stop in found) >> 20)
    return moved


def _advise(start: int, stop: int, what: int) -> bool:
    """Whether the system takes advice on the whole huge pages of a stretch."""
    first, size = -(-start // HUGE) * HUGE, stop // HUGE * HUGE + (-start // HUGE) * HUGE
    return size > 0 and (call := _madvise()) is not None and call(first, size, what) == 0


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """The system's call; None where it has none, or means something else by these numbers."""
    if not sys.platform.startswith("linux"):
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return call


def _stretches(maps: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of what is large, no file's and nearly full, and not in huge pages but for one or two."""
    start = stop = held = 0
    for line in maps.split(b"\n"):  # names of files may hold anything else
        if head := _HEAD.match(line):
            start, stop = (int(head[1], 16), int(head[2], 16)) if head[3] else (0, 0)
        elif size := _SIZE.match(line):
            if size[1] == b"Rss":
                held = 1024 * int(size[2])
            elif stop - start >= SMALLEST and held > 0.75 * (stop - start) and held - 1024 * int(size[2]) >= 2 * HUGE:
                yield start, stop
