"""What a study would take on GPUs, by the FLOPs model: no model is loaded, nothing is measured, and the Hub is not asked.

The dry run's estimate (:mod:`tts.generate.dry_run`) measures instead, with the models on this machine.
"""

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import product

import pandas as pd

from tts.analysis import costs, flops
from tts.generate.grid import Grid
from tts.models.hub import ModelError

ALONE = "samples"  # the column of what needs no PRM: CoT, and the pool of majority vote and Pass@N
GIB = 1 << 30
BYTES = 2  # of a number in bfloat16
NOMINAL = 1.1  # times a model's nominal parameters: 7B are 7.6 billion
USABLE = 0.9  # share of a GPU's memory that weights and caches may take; the rest is CUDA's, what lies between operations, and gaps


@dataclass(frozen=True)
class Assumptions:
    """What the model does not know."""

    tokens: dict[str, float] = field(default_factory=lambda: {"math500": 600.0, "aime24": 1200.0})  # of a solution, by problem set
    otherwise: float = 600.0  # of a solution of any other set
    prompt: float = 200.0  # tokens
    peak: float = 989e12  # operations a second of one GPU
    decoding: float = 0.1  # share of the peak that generating reaches
    reading: float = 0.4  # that a PRM reaches, which reads many tokens at once

    def __str__(self) -> str:
        lengths = ", ".join(f"{count:g} on {name}" for name, count in self.tokens.items())
        return (
            f"Assumed: tokens of a solution: {lengths}, {self.otherwise:g} elsewhere, the same for every policy and method; prompts of "
            f"{self.prompt:g} tokens; {self.peak / 1e12:g} TFLOP/s a GPU, of which generating reaches {self.decoding:.0%} and a PRM "
            f"{self.reading:.0%}; a PRM reads each token once; every search generates as much as N samples."
        )


def table(grids: Iterable[Grid], assumed: Assumptions) -> pd.DataFrame:
    """What the runs of some grids would take, each run counted once, on as many of its problems as any grid asks for.

    Columns policy, prm (or :data:`ALONE`), generated and read (tokens), flops, hours (of one GPU). Raises as :func:`size_of`.
    """
    counts: dict[tuple, int] = {}
    for grid in grids:
        for run, (problem_set, count) in product(grid.runs(), grid.problems.items()):
            key = *run, problem_set, grid.split, grid.sampling(0.0 if run[0] == "cot" else None)
            counts[key] = max(count, counts.get(key, 0))
    rows = []
    for (method, policy, prm, n, problem_set, _, _), problems in counts.items():
        solution = assumed.tokens.get(problem_set.partition(":")[0], assumed.otherwise)  # a local copy of a set is like it
        prompts = [assumed.prompt] * problems
        solutions = n * problems * solution
        generated = 0.0 if method == "scores" else solutions
        read = sum(prompts) + solutions if prm else 0.0
        generating = flops.answering(size_of(policy), prompts, generated, solution).inference if generated else 0.0
        scoring = flops.answering(flops.Shape(0), prompts, 0.0, solution, size_of(prm), read).inference if prm else 0.0
        hours = (generating / assumed.decoding + scoring / assumed.reading) / assumed.peak / 3600
        rows.append((policy, prm or ALONE, generated, read, generating + scoring, hours))
    columns = ["policy", "prm", "generated", "read", "flops", "hours"]
    return pd.DataFrame(rows, columns=columns).groupby(["policy", "prm"], sort=False, as_index=False).sum()


@cache
def size_of(model: str) -> flops.Shape:
    """A model's nominal size (``data/published/sizes.csv``), else its local folder's; raises ModelError where neither tells it."""
    shape = costs.named_shape(name := re.split(r"[:/#]", model.partition("?")[0])[-1])
    with suppress(ModelError):
        shape = costs.shape_of(model) if math.isnan(shape.layers) else shape
    if math.isnan(shape.layers):
        raise ModelError(f"the size of {model!r} is not known; add a row for {name} to {costs.SIZES}")
    return shape


def sequences(models: Sequence[str], memory: float, tokens: float) -> int:
    """How many sequences of so many tokens a GPU of ``memory`` bytes holds the caches of beside the weights of these models.

    What weights leave is cut into equal parts, one a model; the least number counts. 0 where not even the weights fit. A verifier without
    weights, such as a rule, takes nothing.
    """
    shapes = [shape for shape in map(size_of, models) if shape.layers]
    left = USABLE * memory - sum(BYTES * NOMINAL * shape.parameters for shape in shapes)
    caches = (2 * BYTES * shape.layers * (shape.kv_width or shape.attention_width) * tokens for shape in shapes)
    return max(0, min(int(left / len(shapes) / cache) for cache in caches))


def fitting(found: pd.DataFrame, gigabytes: float, tokens: float) -> str:
    """A table of the pairs that fit on one GPU: GPU hours, and in brackets how many sequences of so many tokens fit at once."""
    held = found.assign(
        at_once=[
            sequences([row.policy, *([] if row.prm == ALONE else [row.prm])], gigabytes * GIB, tokens)
            for row in found.itertuples(index=False)
        ]
    )
    held["cell"] = [f"{_hours(row.hours)} ({row.at_once})" if row.at_once else "" for row in held.itertuples()]
    cells = (
        held.pivot(index="policy", columns="prm", values="cell").reindex(index=found.policy.unique(), columns=found.prm.unique()).fillna("")
    )
    cells = cells.loc[(cells != "").any(axis=1), (cells != "").any(axis=0)]
    head = f"GPU hours on one GPU of {gigabytes:g} GB, and how many sequences of {tokens:,.0f} tokens fit at once beside the weights:"
    return f"{head}\n\n{_lines(cells)}" if len(cells) else f"No model fits on one GPU of {gigabytes:g} GB."


def _hours(count: float) -> str:
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def markdown(found: pd.DataFrame) -> str:
    """Two tables with a row for each policy and a column for each PRM, with totals: GPU hours; tokens generated and read."""
    sums = found.pivot_table(index="policy", columns="prm", aggfunc="sum", margins=True, margins_name="all", sort=False)
    hours = sums["hours"].map(_hours)
    generated, read = ((sums[name] / 1e6).map("{:,.0f}".format, na_action="ignore") for name in ("generated", "read"))
    tokens = (generated + " + " + read).drop(columns="all")
    if len(tokens.iloc[:-1].drop_duplicates()) == 1:
        tokens = tokens.iloc[-2:].set_axis(["each policy", "all"])
    return "\n\n".join(["GPU hours:", _lines(hours), "Million tokens, generated by the policy + read by the PRM:", _lines(tokens)])


def _lines(frame: pd.DataFrame) -> str:
    heads = ["policy", *(column.rpartition("/")[2] for column in frame.columns)]
    cells = frame.astype(object).where(frame.notna(), "").to_numpy()
    rows = [[name.rpartition("/")[2], *map(str, row)] for name, row in zip(frame.index, cells)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows])
