"""Memory in pages of 2 MiB in place of 4 KiB, on Linux.

A decode step reads all weights once, in pages whose places the processor has to look up anew each time: looking up takes as long as
reading, in a virtual machine above all. Linux puts memory together when it is asked to (madvise(2), ``MADV_COLLAPSE``, Linux 6.1).
"""

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

HUGE = 1 << 21
LEAST = 1 << 26  # bytes of weights below which a processor's own table of places suffices, about
SMALLEST = 4 * HUGE  # of a stretch that is worth it
_WANTED, _NOW = 14, 25  # MADV_HUGEPAGE, MADV_COLLAPSE
_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw\S* \S+ \S+ 0\b")


def wanted(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, which nothing was written to yet; where it lies on the CPU and is large, it will lie in huge pages."""
    if tensor.is_cpu and tensor.nbytes >= SMALLEST:
        _advise(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes, _WANTED)
    return tensor


def collapse(maps: Path = Path("/proc/self/smaps")) -> int:
    """Puts this process's larger stretches of memory into huge pages; gives the bytes that were moved, 0 where the system refuses.

    Takes some seconds a gigabyte.
    """
    try:
        found = list(_stretches(maps.read_text()))
    except OSError:
        return 0
    # The first alone asks a thread of the system to do it at leisure, also of a Linux that is older.
    return sum(stop - start for start, stop in found if _advise(start, stop, _WANTED) and _advise(start, stop, _NOW))


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


def _stretches(maps: str) -> Iterator[tuple[int, int]]:
    """Start and end of what is large, no file's and nearly full, and not in huge pages but for one or two."""
    start = stop = held = 0
    for line in maps.splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            head = _HEAD.match(line)
            start, stop = (int(head[1], 16), int(head[2], 16)) if head else (0, 0)
        elif line.startswith("Rss:"):
            held = 1024 * int(line.split()[1])
        elif line.startswith("AnonHugePages:"):
            left = held - 1024 * int(line.split()[1])
            if stop - start >= SMALLEST and held > 0.75 * (stop - start) and left >= 2 * HUGE:
                yield start, stop
