"""How long models of 1B, 7B and 72B take on H100s: a model of one decoding step, fitted to published measurements.

A step of ``rows`` sequences takes a fixed time for each layer, the time to read the weights and the keys and values, and the time of the
operations. The fixed time and the two rates come from :data:`STATIC` and :data:`FIRST`, which NVIDIA measured at 8 bits. :data:`LOADED`
was not fitted to; the program prints it beside what the model says. All shapes that the simulation uses are *derived*: 16 bits, other
layers, other keys and values, at the fitted rates. No published table of a 1B model on an H100 was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

MEMORY, BANDWIDTH, PEAK = 80e9, 3.35e12, 1979e12  # of an H100 SXM: bytes, bytes a second, operations a second at 8 bits
PAGES = "https://github.com/NVIDIA/TensorRT-LLM/blob"
SOURCES = {
    "static": f"{PAGES}/release/0.5.0/docs/source/performance.md (High Throughput, H100 FP8)",
    "first": f"{PAGES}/release/0.5.0/docs/source/performance.md (Low Latency, H100 FP8)",
    "loaded": f"{PAGES}/258c7540c035/docs/source/performance/perf-overview.md (version 0.17, H100 FP8)",
}


class Throughput(NamedTuple):
    """A published row: tokens that a model wrote a second."""

    model: str
    batch: int  # 0 where as many as fitted
    read: int  # tokens of the prompt
    written: int  # tokens of the answer
    rate: float


STATIC = [
    Throughput("LLaMA 7B", 64, 128, 128, 9193),
    Throughput("LLaMA 7B", 64, 128, 2048, 5367),
    Throughput("LLaMA 7B", 32, 2048, 2048, 2230),
    # Of the 70B rows the shortest alone: in the longer ones a row's context costs eight times what its keys and values take to read, and
    # eight query heads share them. That version read them once for each; later ones do not.
    Throughput("LLaMA 70B", 64, 128, 128, 3317),
]
FIRST = {"LLaMA 7B": 0.036, "LLaMA 70B": 0.109}  # seconds to read 2,048 tokens
LOADED = [
    Throughput("Llama 3.1 8B", 0, *row)
    for row in ((128, 2048, 21109.38), (500, 2000, 16500.69), (1000, 1000, 15244.78), (2048, 2048, 9488.42))
] + [Throughput("LLaMA 70B", 0, *row) for row in ((128, 2048, 11511.93), (500, 2000, 9836.7), (1000, 1000, 7430.99), (2048, 2048, 5480.03))]


@dataclass(frozen=True)
class Shape:
    """A model on its GPUs."""

    parameters: float
    layers: int
    heads: int  # of keys and values
    head: int  # numbers of each
    gpus: int = 1
    width: int = 1  # bytes of a number
    fixed: float = 0.0  # seconds of a step for each layer
    reading: float = BANDWIDTH  # bytes a second of one GPU
    computing: float = PEAK  # operations a second of one GPU

    @property
    def weights(self) -> float:
        """Bytes."""
        return self.parameters * self.width

    @property
    def cached(self) -> float:
        """Bytes of a token's keys and values."""
        return 2.0 * self.layers * self.heads * self.head * self.width

    def steps(self, rows: int, context: float, count: int = 1) -> float:
        """Seconds of ``count`` steps of ``rows`` sequences, which look at ``context`` tokens together at the first step."""
        looked_at = context * count + rows * count * (count - 1) / 2
        moved = (self.weights * count + self.cached * looked_at) / self.reading
        return self.fixed * self.layers * count + (moved + 2 * self.parameters * rows * count / self.computing) / self.gpus

    def read(self, tokens: float, passes: int = 1) -> float:
        """Seconds to read tokens in so many forward passes, by the operations or by the weights, whichever take longer."""
        longer = max(2 * self.parameters * tokens / self.computing, passes * self.weights / self.reading)
        return passes * self.fixed * self.layers + longer / self.gpus

    def in_16_bits(self) -> Shape:
        return replace(self, width=2, computing=self.computing / 2)


MEASURED = {
    "LLaMA 7B": Shape(6.7e9, 32, 32, 128),
    "LLaMA 70B": Shape(69e9, 80, 8, 128, gpus=4),
    "Llama 3.1 8B": Shape(8.0e9, 32, 8, 128),
}


def fitted() -> dict[str, Shape]:
    """:data:`MEASURED` with the rates that the published rows come to."""
    found = {}
    for name, seconds in FIRST.items():
        found[name] = replace(MEASURED[name], computing=2 * MEASURED[name].parameters * 2048 / seconds / MEASURED[name].gpus)
    bytes_moved, left = [], []
    for row in (row for row in STATIC if row.model == "LLaMA 7B"):
        shape = replace(found[row.model], reading=np.inf)
        prefill = shape.read(row.batch * row.read)
        a_step = (row.batch * row.written / row.rate - prefill) / row.written
        context = row.batch * (row.read + row.written / 2)
        bytes_moved.append(shape.weights + shape.cached * context)
        left.append(a_step - shape.steps(row.batch, 0))
    per_byte, fixed = np.polyfit(bytes_moved, left, 1)
    reading = 1 / per_byte
    found["LLaMA 7B"] = replace(found["LLaMA 7B"], reading=reading, fixed=fixed / MEASURED["LLaMA 7B"].layers)
    [row], shape = [row for row in STATIC if row.model == "LLaMA 70B"], replace(found["LLaMA 70B"], reading=reading)
    a_step = (row.batch * row.written / row.rate - shape.read(row.batch * row.read)) / row.written
    fixed = a_step - shape.steps(row.batch, row.batch * (row.read + row.written / 2))
    found["LLaMA 70B"] = replace(shape, fixed=fixed / shape.layers)
    eight = found["LLaMA 7B"]
    found["Llama 3.1 8B"] = replace(MEASURED["Llama 3.1 8B"], fixed=eight.fixed, reading=reading, computing=eight.computing)
    return found


def predicted(row: Throughput, shape: Shape) -> float:
    """Tokens a second that the model says for a published row; 90 % of the memory that weights leave holds as many rows as fit."""
    room = 0.9 * (MEMORY * shape.gpus - shape.weights)
    batch = row.batch or int(room / shape.cached / (row.read + row.written))
    a_step = shape.steps(batch, batch * (row.read + row.written / 2))
    return batch / (a_step + shape.read(batch * row.read) / row.written)


@cache
def shapes() -> dict[str, Shape]:
    """The simulated models in 16 bits: Llama-3.2-1B, Qwen2.5-1.5B, 7B and 72B; all derived."""
    found = fitted()
    seven, seventy = found["LLaMA 7B"].in_16_bits(), found["LLaMA 70B"].in_16_bits()
    return {
        "1B": replace(seven, parameters=1.24e9, layers=16, heads=8, head=64),
        "1.5B": replace(seven, parameters=1.54e9, layers=28, heads=2),
        "7B": replace(seven, parameters=7.6e9, layers=28, heads=4),
        "72B": replace(seventy, parameters=72.7e9),
    }
