"""``make bench`` section "profile": where the time of a pool and of searches goes, on one thread, beside two floors.

The floors: the very same forward passes and nothing else; and the bytes and operations of these, at the rates that this machine
reaches on large arrays.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

from tts.kv_cache import CachedModel, positions_read

KINDS = {
    "attention": ("bmm", "baddbmm", "_softmax"),
    "matrix products": ("mm", "addmm"),
    "norms": ("rms_norm", "_fused_rms_norm", "linalg_vector_norm", "rsqrt", "rsqrt_", "pow", "mean"),
    "reading and writing the cache": (
        "_index_put_impl_",
        "index_put_",
        "index_copy_",
        "index_select",
        "index",
        "copy_",
        "clone",
        "fill_",
        "zero_",
        "cat",
    ),
}
OTHER = "other operations"
Call = tuple[CachedModel, torch.Tensor, torch.Tensor]


def shares(work: Callable[[], object]) -> tuple[float, dict[str, float]]:
    """Wall time of some work, and how much of it went into which kind of operation; the rest is Python.

    Times of operations come from a profiled run, scaled so that the profiler's own cost does not count.
    """
    started = time.perf_counter()
    work()
    wall = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        started = time.perf_counter()
        work()
        slowed = time.perf_counter() - started
    kind_of = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[kind_of.get(event.key, OTHER)] += event.self_cpu_time_total / 1e6
    found = {kind: spent[kind] / slowed * wall for kind in (*KINDS, OTHER)}
    return wall, found | {"Python": wall - sum(found.values())}


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """The forward passes that are made meanwhile."""
    calls: list[Call] = []
    extend = CachedModel.extend

    def watched(self: CachedModel, tokens: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        calls.append((self, tokens.clone(), start.clone()))
        return extend(self, tokens, start)

    CachedModel.extend = watched
    try:
        yield calls
    finally:
        CachedModel.extend = extend


def replayed(calls: list[Call]) -> float:
    """Wall time of the same forward passes alone."""
    fresh = {id(cached): cached.with_slots(max(cached.slots, 1)) for cached, *_ in calls}
    started = time.perf_counter()
    for cached, tokens, start in calls:
        fresh[id(cached)].extend(tokens, start)
    return time.perf_counter() - started


def least(calls: list[Call]) -> tuple[float, float]:
    """Seconds that the bytes of the same forward passes take at the rate of a copy, and their operations at that of a matrix product."""
    moved = operations = 0.0
    for cached, tokens, start in calls:
        rows, new = tokens.shape
        config = cached.backbone.config
        weights = sum(p.numel() for p in cached.backbone.layers.parameters())
        read = positions_read((start + new).tolist())
        moved += 4 * weights + cached.token_bytes * (read + rows * new)
        operations += 2 * weights * rows * new + 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * read * new
    return moved / _bytes_per_second(), operations / _operations_per_second()


def _bytes_per_second() -> float:
    """Of a copy of what lies in the cache that the cores share, read and written."""
    source = torch.randn(1 << 20)
    target = torch.empty_like(source)
    return 2 * 4 * len(source) / _fastest(lambda: target.copy_(source))


def _operations_per_second() -> float:
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    return 2 * 512**3 / _fastest(lambda: left @ right)


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(30):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def table(what: dict[str, Callable[[], object]]) -> str:
    """Markdown: per kind of work its wall time, shares in per cent, and floors as a share of the wall time."""
    columns: dict[str, list[str]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, work in what.items():
            work()
            wall, found = shares(work)
            with recorded() as calls:
                work()
            moved, operations = least(calls)
            floors = {
                "*the same forward passes alone*": replayed(calls),
                "*their bytes at the rate of a copy*": moved,
                "*their operations at the rate of a large product*": operations,
            }
            columns[name] = [f"{wall:.2f}", *(f"{100 * value / wall:.0f} %" for value in (found | floors).values())]
    finally:
        torch.set_num_threads(threads)
    labels = ["wall time (s)", *found, *floors]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {label} | {' | '.join(c[row] for c in columns.values())} |" for row, label in enumerate(labels))])
