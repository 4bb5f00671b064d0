"""How a PRM errs, measured on solutions whose first wrong step is known (Zheng et al. 2024; Liu et al. 2025, Fig 12 to 18).

The first step scored below a threshold is called wrong. A right solution in which a step is called wrong is *over-criticised*. The
error of a wrong solution is *neglected* where no step is called wrong, *mislocated* where another step is, else found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.generate import labelled
from tts.generate.labelled import Labelled
from tts.reward_models import UnreadableError, scores_whole
from tts.store.imported import is_imported
from tts.tasks.pocket_problems import STYLES
from tts.tasks.pocket_tokenizer import pieces
from tts.tasks.pocket_traces import corrupted
from tts.tasks.selection import aggregates

KINDS = ("over-criticism", "error neglect", "called too early", "called too late")

Scores = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Judged:
    """A PRM's step scores of each solution, and how well they find first errors at one threshold, as ProcessBench counts it."""

    scores: Scores
    threshold: float
    erroneous: float  # share of wrong solutions whose first wrong step is found exactly
    correct: float  # share of right ones called right

    @property
    def f1(self) -> float:
        """Harmonic mean of the two shares."""
        return float(_f1(np.array([self.erroneous, 1.0, self.correct, 1.0])))


def judge(prm: str, solutions: Sequence[Labelled], name: str = labelled.POCKET, kept: Path | None = None) -> Judged:
    """Scores solutions of a set (:func:`tts.generate.labelled.read`) with a PRM, its threshold chosen on the validation solutions.

    Scores are ``kept`` as :func:`tts.generate.labelled.step_scores` says. Raises :class:`.LabelledError` where all steps score alike.
    """
    validation = labelled.read("validation", name)
    of_validation, scores = labelled.step_scores(prm, validation, solutions, kept=kept)
    if len({score for row in (*of_validation, *scores) for score in row}) < 2:
        raise labelled.LabelledError(f"{prm} scores all steps of {name} alike, as if it could not read them; leave it out of prms")
    return at_threshold(scores, solutions, best_threshold(of_validation, validation))


def judge_all(prms: Sequence[str], name: str = labelled.POCKET, kept: Path | None = None) -> tuple[dict[str, Judged], list[Labelled]]:
    """:func:`judge` by PRM on a labelled set, and its solutions; says which PRM is left out: one imported, or that cannot read them."""
    judged, solutions = {}, labelled.read("test", name)
    for prm in prms:
        if is_imported(prm):
            print(f"{prm} was imported and cannot be run: of it there are the figures of stored scores only")
            continue
        if scores_whole(prm):
            print(f"{prm} scores whole solutions, and finds no first wrong step: it has no F1 and no pathologies")
            continue
        try:
            judged[prm] = judge(prm, solutions, name, kept)
        except UnreadableError as error:
            print(f"no F1, pathologies and verifier map, which are measured on the labelled set {name}: {error}")
    return judged, solutions


def at_threshold(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> Judged:
    """How well the first errors of solutions are found at one threshold."""
    wrong = _wrong(solutions)
    hits = _called(scores, threshold) == wrong
    return Judged(scores, threshold, float(hits[wrong >= 0].mean()), float(hits[wrong < 0].mean()))


def telling(scores: Scores, solutions: Sequence[Labelled]) -> float:
    """How well a PRM tells right solutions from wrong ones, whatever their problems: the area under the ROC curve.

    A solution's score is the product of its steps'.
    """
    found = stats.auc(aggregates(scores, "product"), _wrong(solutions) < 0)
    assert found is not None, "every set has right ones and wrong ones"
    return found


def best_threshold(scores: Scores, solutions: Sequence[Labelled]) -> float:
    """The threshold of highest F1, among the quantiles of all step scores."""
    flat = np.concatenate([np.asarray(row) for row in scores])
    candidates = np.unique(np.quantile(flat, np.linspace(0.01, 0.99, 99)))
    return float(max(candidates, key=lambda t: at_threshold(scores, solutions, t).f1))


def _called(scores: Scores, threshold: float) -> np.ndarray:
    """The first step of each solution that is scored below a threshold, ``(solutions,)``; -1 where none is."""
    return np.array([next((i for i, s in enumerate(row) if s < threshold), -1) for row in scores])


def _wrong(solutions: Sequence[Labelled]) -> np.ndarray:
    """The first wrong step of each solution, ``(solutions,)``; -1 where none is."""
    return np.array([s.first_error for s in solutions])


def localisation(judged: Judged, solutions: Sequence[Labelled]) -> pd.DataFrame:
    """F1 on all solutions, on those of each subject or split, and of each policy that wrote them, with a bootstrap over problems.

    Columns solutions (which), right, wrong (how many), f1, low, high; none of solutions that are all right, or all wrong.
    """
    wrong = _wrong(solutions)
    hits, is_wrong = _called(judged.scores, judged.threshold) == wrong, wrong >= 0
    columns = np.stack([hits & is_wrong, is_wrong, hits & ~is_wrong, ~is_wrong], 1).astype(float)  # as in _f1
    problems, rows = np.array([s.problem for s in solutions]), []
    for kind in ("", "group", "policy"):
        names = np.array([getattr(s, kind) if kind else "all" for s in solutions])
        for name in dict.fromkeys(filter(None, names.tolist())):
            own = names == name
            right, false = int((~is_wrong[own]).sum()), int(is_wrong[own].sum())
            whole_again = bool(kind) and own.all()
            if right and false and len(set(problems[own])) > 1 and not whole_again:
                f1 = stats.bootstrap(columns[own], _f1, clusters=problems[own].tolist())
                rows.append({"solutions": name, "right": right, "wrong": false} | f1.columns("f1"))
    return pd.DataFrame(rows, columns=["solutions", "right", "wrong", "f1", "low", "high"])


def _f1(means: np.ndarray) -> np.ndarray:
    """F1, ``(...)``, of the shares of found and of all wrong, of accepted and of all right solutions, ``(..., 4)``."""
    found, wrong, accepted, right = np.moveaxis(means, -1, 0)
    erroneous, correct = found / np.maximum(wrong, 1e-12), accepted / np.maximum(right, 1e-12)
    return 2 * erroneous * correct / np.maximum(erroneous + correct, 1e-12)


def verdicts(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> list[str]:
    """Per solution: ``right`` (accepted or found), or one of :data:`KINDS`."""
    called, wrong = _called(scores, threshold), _wrong(solutions)
    conditions = [called == wrong, wrong < 0, called < 0, called < wrong]
    return np.select(conditions, ["right", *KINDS[:3]], KINDS[3]).tolist()


def shares(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> pd.DataFrame:
    """How often each pathology shows, with Wilson's interval: over-criticism ``of`` the right solutions, the others of the wrong ones."""
    labels = np.array(verdicts(scores, solutions, threshold))
    rows = []
    for kind in KINDS:
        group = labels[(_wrong(solutions) < 0) == (kind == "over-criticism")]
        share = stats.wilson(int((group == kind).sum()), len(group))
        rows.append({"pathology": kind, "of": len(group)} | share.columns("share"))
    return pd.DataFrame(rows)


def error_rates(scores: Scores, solutions: Sequence[Labelled], threshold: float) -> tuple[float, float]:
    """False-positive and false-negative rate, the two numbers of :mod:`tts.reward_models.dial`.

    The share of first wrong steps that are accepted, and of right steps before them that are rejected. Later steps do not count: a
    search that keeps a wrong one has already lost, and some PRMs judge each step by itself.
    """
    accepted, rejected = [], []
    for row, solution in zip(scores, solutions):
        until = len(row) if solution.first_error < 0 else solution.first_error
        rejected += [score < threshold for score in row[:until]]
        accepted += [score >= threshold for score in row[until : until + 1]]
    return float(np.mean(accepted)), float(np.mean(rejected))


def by_length(scores: Scores, solutions: Sequence[Labelled], edges: Sequence[int] = (4, 6, 8, 10, 12, 16, 24)) -> pd.DataFrame:
    """Mean score of right steps by their length, with a bootstrap over solutions: a PRM without length bias gives a flat line.

    ``edges`` are the lower edges of the classes of length, in characters, rising; ten times as long, and again, until half of the right
    steps are shorter than the last one.
    """
    steps = []
    for number, (row, solution) in enumerate(zip(scores, solutions)):
        until = len(row) if solution.first_error < 0 else solution.first_error
        steps += [(number, len(step), score) for score, step in zip(row[:until], solution.steps)]
    table = pd.DataFrame(steps, columns=["solution", "length", "score"])
    while table["length"].median() >= edges[-1]:
        edges = [10 * edge for edge in edges]
    table["length"] = [max((edge for edge in edges if edge <= length), default=edges[0]) for length in table["length"]]
    rows = []
    for edge, of_length in table.groupby("length"):
        if of_length["solution"].nunique() > 1:
            mean = stats.bootstrap(of_length["score"].to_numpy(), clusters=of_length["solution"].tolist(), resamples=500)
            rows.append({"length": edge, "steps": len(of_length)} | mean.columns("score"))
    return pd.DataFrame(rows)


def examples(judged: Judged, solutions: Sequence[Labelled]) -> dict[str, int]:
    """The number of the first solution that shows each pathology."""
    labels = verdicts(judged.scores, solutions, judged.threshold)
    return {kind: labels.index(kind) for kind in KINDS if kind in labels}


def training_lengths() -> pd.DataFrame:
    """Tokens per solution and per step of 2,000 solutions that PRMs of each step style are trained on (Liu et al. 2025, Table 1)."""
    rows = {}
    for style in STYLES:
        solutions = [[len(pieces(step)) for step in solution] for _, solution in islice(corrupted(0, style), 2000)]
        rows[style] = {"tokens per solution": np.mean([sum(of) for of in solutions]), "tokens per step": np.concatenate(solutions).mean()}
    return pd.DataFrame(rows)
