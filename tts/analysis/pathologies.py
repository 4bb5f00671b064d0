"""How a PRM errs, measured on solutions whose first wrong step is known (Liu et al. 2025, Fig 12 to 18).

With a threshold below which a step is called wrong, a right solution is *over-criticised* where a step is called wrong; in a
wrong solution the error is *neglected* where no step is, *mislocated* where the first one called wrong is another one, else found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from tts.analysis import localisation, stats
from tts.analysis.localisation import Localisation
from tts.generate import labelled
from tts.generate.labelled import Labelled
from tts.tasks.pocket_problems import STYLES
from tts.tasks.pocket_tokenizer import pieces
from tts.tasks.pocket_traces import corrupted

KINDS = ("over-criticism", "error neglect", "called too early", "called too late")

Scores = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Judged:
    """A PRM with its step scores on the fixed test solutions.

    Attributes:
        name: the PRM.
        localisation: shares of found errors and of accepted right solutions, at the threshold chosen on validation.
        scores: each solution's step scores.
    """

    name: str
    localisation: Localisation
    scores: list[tuple[float, ...]]

    @property
    def threshold(self) -> float:
        return self.localisation.threshold


def judge(name: str, solutions: Sequence[Labelled]) -> Judged:
    """Scores the solutions with a PRM, its threshold chosen on the validation solutions."""
    validation = labelled.read("validation")
    of_validation, scores = labelled.step_scores(name, validation, solutions)
    threshold = localisation.best_threshold(of_validation, validation)
    return Judged(name, localisation.at_threshold(scores, solutions, threshold), scores)


def by_writer(judged: Judged, solutions: Sequence[Labelled]) -> dict[str, float]:
    """F1 on the solutions of each policy that wrote them."""
    f1 = {}
    for writer in dict.fromkeys(s.policy for s in solutions):
        scores, own = zip(*((row, s) for row, s in zip(judged.scores, solutions) if s.policy == writer))
        if {s.first_error < 0 for s in own} == {True, False}:
            f1[writer] = localisation.at_threshold(scores, own, judged.threshold).f1
    return f1


def verdicts(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> list[str]:
    """Per solution: ``right`` (accepted or found), or one of :data:`KINDS`."""
    called, wrong = np.array(localisation.first_below(scores, threshold)), np.array([s.first_error for s in solutions])
    conditions = [called == wrong, wrong < 0, called < 0, called < wrong]
    return np.select(conditions, ["right", *KINDS[:3]], KINDS[3]).tolist()


def shares(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> pd.DataFrame:
    """How often each pathology shows: over-criticism among right solutions, the others among wrong ones.

    Returns:
        Columns pathology, of (how many solutions it is a share of), share, low, high (Wilson, 95 %).
    """
    labels = np.array(verdicts(scores, solutions, threshold))
    wrong = np.array([s.first_error >= 0 for s in solutions])
    rows = []
    for kind in KINDS:
        group = labels[~wrong] if kind == "over-criticism" else labels[wrong]
        share = stats.wilson(int((group == kind).sum()), len(group))
        rows.append({"pathology": kind, "of": len(group)} | share.columns("share"))
    return pd.DataFrame(rows)


def error_rates(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> tuple[float, float]:
    """False-positive and false-negative rate, the two numbers of :mod:`tts.reward_models.dial`.

    At the step where a solution turns wrong, and at the right steps before it. Steps after the first wrong one do not count: a
    search that keeps it has already lost, and some PRMs judge each step by itself.

    Returns:
        Share of the first wrong steps that are accepted; share of the right steps that are rejected.
    """
    accepted, rejected = [], []
    for row, solution in zip(scores, solutions):
        until = len(row) if solution.first_error < 0 else solution.first_error
        rejected += [score < threshold for score in row[:until]]
        accepted += [score >= threshold for score in row[until : until + 1]]
    return float(np.mean(accepted)), float(np.mean(rejected))


def by_length(scores: Scores, solutions: Sequence[Labelled], edges: Sequence[int]) -> pd.DataFrame:
    """Mean score of right steps by their length in characters: a PRM without length bias gives a flat line.

    Args:
        edges: lower edges of the classes of length, rising; a step belongs to the last edge that it reaches.

    Returns:
        Columns length (the class's lower edge), steps, score, low, high (bootstrap over solutions, 95 %).
    """
    steps = []
    for number, (row, solution) in enumerate(zip(scores, solutions)):
        until = len(row) if solution.first_error < 0 else solution.first_error
        for score, step in zip(row[:until], solution.steps):
            steps.append((number, max((edge for edge in edges if edge <= len(step)), default=edges[0]), score))
    rows = []
    for edge, of_length in pd.DataFrame(steps, columns=["solution", "length", "score"]).groupby("length"):
        if of_length["solution"].nunique() > 1:
            mean = stats.bootstrap(of_length["score"].to_numpy(), clusters=of_length["solution"].tolist(), resamples=500)
            rows.append({"length": edge, "steps": len(of_length)} | mean.columns("score"))
    return pd.DataFrame(rows)


def examples(judged: Judged, solutions: Sequence[Labelled]) -> dict[str, int]:
    """The number of the first solution that shows each pathology."""
    labels = verdicts(judged.scores, solutions, judged.threshold)
    return {kind: labels.index(kind) for kind in KINDS if kind in labels}


def training_lengths(sample: int = 2000) -> pd.DataFrame:
    """Tokens per solution and per step of what PRMs of each step style are trained on (Liu et al. 2025, Table 1).

    Args:
        sample: solutions counted for each style.
    """
    rows = {}
    for style in STYLES:
        steps = [solution for _, solution in islice(corrupted(0, style), sample)]
        per_step = [len(pieces(step)) for solution in steps for step in solution]
        rows[style] = {"tokens per solution": sum(per_step) / sample, "tokens per step": float(np.mean(per_step))}
    return pd.DataFrame(rows)
