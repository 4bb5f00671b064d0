"""What a study would take on GPUs, by the FLOPs model: no model is loaded, nothing is measured, and the Hub is not asked.

The dry run's estimate (:mod:`tts.generate.dry_run`) measures instead, with the models on this machine.
"""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import pandas as pd

from tts.analysis import costs, flops
from tts.analysis.flops import Shape
from tts.generate.grid import Grid
from tts.models.hub import ModelError

ALONE = "samples"  # the column of what needs no PRM: CoT, and the pool of majority vote and Pass@N


@dataclass(frozen=True)
class Assumptions:
    """What the model does not know.

    Attributes:
        tokens: tokens of a solution, by problem set.
        otherwise: tokens of a solution of any other set.
        prompt: tokens of a prompt.
        peak: operations a second of one GPU.
        decoding: share of the peak that generating reaches.
        reading: share of the peak that a PRM reaches, which reads many tokens at once.
    """

    tokens: dict[str, float] = field(default_factory=lambda: {"math500": 600.0, "aime24": 1200.0})
    otherwise: float = 600.0
    prompt: float = 200.0
    peak: float = 989e12
    decoding: float = 0.1
    reading: float = 0.4

    def solution(self, problem_set: str) -> float:
        """Tokens of a solution of a set, also of a local copy of it."""
        return self.tokens.get(problem_set.partition(":")[0], self.otherwise)

    def __str__(self) -> str:
        lengths = ", ".join(f"{count:g} on {name}" for name, count in self.tokens.items())
        return (
            f"Assumed: tokens of a solution: {lengths}, {self.otherwise:g} elsewhere, the same for every policy and method; prompts of "
            f"{self.prompt:g} tokens; {self.peak / 1e12:g} TFLOP/s a GPU, of which generating reaches {self.decoding:.0%} and a PRM "
            f"{self.reading:.0%}; a PRM reads each token once; every search generates as much as N samples."
        )


def table(grids: Iterable[Grid], assumed: Assumptions) -> pd.DataFrame:
    """What the runs of some grids would take, each run counted once, on as many of its problems as any grid asks for.

    Returns:
        Columns policy, prm (:data:`ALONE` where there is none), generated and read (tokens), flops, hours (of one GPU).

    Raises:
        tts.models.hub.ModelError: for a model whose size is not known.
    """
    counts: dict[tuple, int] = {}
    for grid in grids:
        for run in grid.runs():
            for problem_set, count in grid.problems.items():
                key = *run, problem_set, grid.split, grid.sampling(0.0 if run[0] == "cot" else None)
                counts[key] = max(count, counts.get(key, 0))
    rows = []
    for (method, policy, prm, n, problem_set, _, _), problems in counts.items():
        solution, prompts = assumed.solution(problem_set), [assumed.prompt] * problems
        solutions = n * problems * solution
        generated = 0.0 if method == "scores" else solutions
        read = sum(prompts) + solutions if prm else 0.0
        generating = flops.answering(size_of(policy), prompts, generated, solution).inference if generated else 0.0
        scoring = flops.answering(Shape(0), prompts, 0.0, solution, size_of(prm), read).inference if prm else 0.0
        hours = (generating / assumed.decoding + scoring / assumed.reading) / assumed.peak / 3600
        tokens = {"generated": generated, "read": read}
        rows.append({"policy": policy, "prm": prm or ALONE} | tokens | {"flops": generating + scoring, "hours": hours})
    return pd.DataFrame(rows).groupby(["policy", "prm"], sort=False, as_index=False).sum()


@cache
def size_of(model: str) -> Shape:
    """A model's size: the nominal one of the study's models (``data/published/sizes.csv``), else a local folder's own.

    Raises:
        ModelError: where neither knows it.
    """
    shape = costs.named_shape(name := re.split(r"[:/#]", model)[-1])
    with suppress(ModelError):
        shape = costs.shape_of(model) if math.isnan(shape.layers) else shape
    if math.isnan(shape.layers):
        raise ModelError(f"the size of {model!r} is not known; add a row for {name} to {costs.SIZES}")
    return shape


def markdown(found: pd.DataFrame) -> str:
    """Two tables with a row for each policy and a column for each PRM, with totals: GPU hours; tokens generated and read."""
    sums = found.pivot_table(index="policy", columns="prm", aggfunc="sum", margins=True, margins_name="all", sort=False)
    hours = sums["hours"].map(lambda count: f"{count:,.0f}" if count >= 10 else f"{count:.2g}")
    generated, read = ((sums[name] / 1e6).map("{:,.0f}".format, na_action="ignore") for name in ("generated", "read"))
    tokens = (generated + " + " + read).drop(columns="all")
    if len(tokens.iloc[:-1].drop_duplicates()) == 1:
        tokens = tokens.iloc[-2:].set_axis(["each policy", "all"])
    return "\n\n".join(["GPU hours:", _lines(hours), "Million tokens, generated by the policy + read by the PRM:", _lines(tokens)])


def _lines(frame: pd.DataFrame) -> str:
    heads = ["policy", *(column.rpartition("/")[2] for column in frame.columns)]
    rows = [[name.rpartition("/")[2], *map(str, row)] for name, row in zip(frame.index, frame.to_numpy())]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows])
