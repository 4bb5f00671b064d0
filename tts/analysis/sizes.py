"""Sizes of models of which only the name is known: published ones, or what the name says."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pandas as pd

from tts.analysis import flops
from tts.analysis.flops import Shape
from tts.common.paths import DATA

# A number of billions that stands by itself, as in Qwen2.5-1.5B-Instruct or math-shepherd-mistral-7b-prm.
_BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![\w.])")


def shape_of(name: str) -> Shape:
    """A model's size from ``data/published/sizes.csv``, else its parameters as its name gives them; what is not known is NaN."""
    model = name.rsplit("/", 1)[-1]
    if model in _published().index:
        return shape_in(_published().loc[model])
    said = _BILLIONS.search(model)
    return Shape(float(said[1]) * 1e9 if said else np.nan, np.nan, np.nan)


def shape_in(row: pd.Series) -> Shape:
    """The size that a row of ``sizes.csv`` gives."""
    return Shape(row["parameters"], row["layers"], row["attention_width"], row["parameters"] - row["active_parameters"])


def training_flops(name: str) -> float:
    """Pre-training FLOPs of a published model, 6ND; NaN for any other."""
    model = name.rsplit("/", 1)[-1]
    if model not in _published().index:
        return np.nan
    row = _published().loc[model]
    return flops.pretraining(row["active_parameters"], row["pretraining_tokens"])


@cache
def _published() -> pd.DataFrame:
    return pd.read_csv(DATA / "published" / "sizes.csv").set_index("model")
