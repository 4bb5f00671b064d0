"""``make bench`` section "profile": where the time of a pool and of searches goes, on one thread, beside what it cannot fall below.

These floors: the forward passes within the very same run; and the bytes and operations of these, at the rates that this machine reaches
on an array as large as what a pass reads, and on a large matrix product.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tts.engine.cached_model import CachedModel
from tts.engine.cpu_kernels import Kernels
from tts.reward_models.base import Family, StepScorer

COMPILED = {
    "attend": "attention",
    "norm": "norms",
    "gate": "other operations",
}
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
Call = tuple[CachedModel, tuple[int, ...], list[int]]


@contextmanager
def replaced(owner: object, name: str, wrapper: Callable) -> Iterator[None]:
    """``owner.name`` is called through ``wrapper(original, *arguments)`` meanwhile."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *given, **named: wrapper(original, *given, **named))
    try:
        yield
    finally:
        setattr(owner, name, original)


def shares(work: Callable[[], object]) -> dict[str, float]:
    """How much of some work's time goes into which kind of operation; the rest is Python, and what the profiler costs it."""
    with ExitStack() as stack:
        for name in COMPILED:

            def seen(original, *given, name=name):
                with record_function(f"compiled::{name}"):
                    return original(*given)

            stack.enter_context(replaced(Kernels, name, seen))
        profiled = stack.enter_context(profile(activities=[ProfilerActivity.CPU]))
        started = time.perf_counter()
        work()
        wall = time.perf_counter() - started
    kind_of = {f"aten::{name}": kind for kind, names in KINDS.items() for name in names}
    kind_of |= {f"compiled::{name}": kind for name, kind in COMPILED.items()}
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[kind_of.get(event.key, OTHER)] += event.self_cpu_time_total / 1e6
    found = {kind: spent[kind] / wall for kind in (*KINDS, OTHER)}
    return found | {"Python": 1 - sum(found.values())}


def forward_share(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time of some work, and the share of it that went by within forward passes."""
    within = 0.0

    def timed(original, *given):
        nonlocal within
        started = time.perf_counter()
        result = original(*given)
        within += time.perf_counter() - started
        return result

    with replaced(CachedModel, "extend", timed):
        started = time.perf_counter()
        work()
        wall = time.perf_counter() - started
    return wall, within / wall


def forward_passes(work: Callable[[], object]) -> list[Call]:
    """The model, the shape, and each row's length after it, of every forward pass that is made."""
    calls: list[Call] = []

    def seen(original, model, cache, tokens, start, longest):
        calls.append((model, tuple(tokens.shape), (start + tokens.shape[1]).tolist()))
        return original(model, cache, tokens, start, longest)

    with replaced(CachedModel, "extend", seen):
        work()
    return calls


def least(calls: list[Call]) -> tuple[float, float]:
    """Seconds that the bytes of the same forward passes take at the rate of reading, and their operations at that of a matrix product.

    Rows are counted one by one, also where siblings share what they read.
    """
    reading = operations = 0.0
    for model, (rows, new), lengths in calls:
        config = model.backbone.config
        weights = sum(p.numel() for p in model.backbone.layers.parameters())
        read = sum(lengths) if model.compiled else rows * max(lengths)
        moved = 4 * weights + model.token_bytes * (read + rows * new)
        reading += moved / _bytes_per_second(int(moved).bit_length())
        operations += 2 * weights * rows * new + 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * read * new
    return reading, operations / _operations_per_second()


@contextmanager
def scored_by(scorer: StepScorer) -> Iterator[set[tuple[str, tuple[str, ...]]]]:
    """The partial solutions that a PRM scores meanwhile, each with its problem's text; the openings too."""
    scored, plain = set(), scorer.score

    def watched(texts, steps):
        scored.update((text, solution[:depth]) for (_, text), solution in zip(texts, steps) for depth in range(len(solution) + 1))
        return plain(texts, steps)

    scorer.score = watched
    try:
        yield scored
    finally:
        del scorer.score


def once(family: Family, scored: set[tuple[str, tuple[str, ...]]]) -> int:
    """Tokens of what :func:`scored_by` saw, each problem's opening and each distinct step's rendering once."""
    length = dict(zip(scored, map(len, family.render(list(scored)))))
    return sum(size - (length[text, steps[:-1]] if steps else 0) for (text, steps), size in length.items())


@cache
def _bytes_per_second(bits: int) -> float:
    """Of reading an array of ``2 ** (bits - 1)`` bytes over and over."""
    array = torch.randn(1 << max(0, bits - 3))
    return 4 * len(array) / _fastest(array.sum)


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


def table(what: dict[str, Callable[[], object]], rounds: int) -> str:
    """Markdown: per kind of work its wall time, shares in per cent, and floors as a share of the wall time.

    Wall times and the share of forward passes are medians of the rounds; a profiled run takes its profiler a minute to add up.
    """
    columns: dict[str, list[str]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, work in what.items():
            calls = forward_passes(work)
            walls, within = zip(*(forward_share(work) for _ in range(rounds)))
            wall = statistics.median(walls)
            reading, operations = least(calls)
            values = shares(work) | {
                "*within forward passes, of the policy and the PRM*": statistics.median(within),
                "*their bytes at the rate of reading*": reading / wall,
                "*their operations at the rate of a large product*": operations / wall,
            }
            columns[name] = [f"{wall:.2f}", *(f"{100 * value:.0f} %" for value in values.values())]
    finally:
        torch.set_num_threads(threads)
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    labels = ["wall time (s)", *values]
    return "\n".join([*lines, *(f"| {label} | {' | '.join(c[row] for c in columns.values())} |" for row, label in enumerate(labels))])
