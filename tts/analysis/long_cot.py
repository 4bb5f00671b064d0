"""Internal against external test-time scaling: long-CoT policies, plain ones with a PRM, and both together (Liu et al. 2025, Table 6).

The long-CoT policies of the pocket family check each operation in a step of its own, which ends in ``ok`` or ``no``, and do it again
after a ``no``. So whether checks catch errors can be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.analysis.accuracy import Results
from tts.analysis.evidence import Evidence
from tts.search.registry import prm_of
from tts.tasks.pocket_problems import apply
from tts.tasks.pocket_traces import split_equation

KINDS = {
    (False, "cot"): "neither: plain CoT",
    (True, "cot"): "internal: long CoT",
    (False, ""): "external: plain with TTS",
    (True, ""): "both: long with TTS",
}


def ways(plain: Evidence, long: Evidence, problem_set: str, pairs: dict[str, str], prm: str) -> pd.DataFrame:
    """Every method and budget of each pair of policies of one size, with what it costs.

    Args:
        plain, long: evidence of the plain policies, and of the long-CoT ones.
        pairs: each plain policy's long-CoT counterpart.

    Returns:
        Columns size (the plain policy's name), policy, kind, method, n, accuracy, low, high, tokens (policy tokens per problem).
    """
    rows = []
    for name, other in pairs.items():
        for evidence, policy, thinks in ((plain, name, False), (long, other, True)):
            table = evidence.table
            held = table[(table["problems"] == problem_set) & (table["policy"] == policy) & table["prm"].isin([prm, ""])]
            for row in held[held["method"] != "pass"].itertuples():
                kind = KINDS[thinks, "cot" if row.method == "cot" else ""]
                found = {"method": row.method, "n": row.n, "accuracy": row.accuracy, "low": row.low, "high": row.high}
                rows.append({"size": name, "policy": policy, "kind": kind} | found | {"tokens": row.policy_tokens})
    return pd.DataFrame(rows)


def contrasts(plain: Evidence, long: Evidence, problem_set: str, pairs: dict[str, str], prm: str, method: str, n: int) -> pd.DataFrame:
    """External, internal and both, paired by problem.

    Args:
        method: of external scaling.
        n: its budget, which both hold.

    Returns:
        Columns size, contrast, difference, low, high, verdict, times the tokens (the first's over the second's).
    """
    rows = []
    for name, other in pairs.items():
        used = prm_of(method, prm)
        found = {
            "plain CoT": (plain, name, None, "cot", 1),
            "internal": (long, other, None, "cot", 1),
            "external": (plain, name, used, method, n),
            "both": (long, other, used, method, n),
        }
        for first, second in (("internal", "plain CoT"), ("external", "internal"), ("both", "internal"), ("both", "external")):
            a, b = (found[which][0].accuracy(problem_set, *found[which][1:]) for which in (first, second))
            spent = [found[which][0].policy_tokens(problem_set, *found[which][1:]).mean() for which in (first, second)]
            i = stats.paired_difference(a, b)
            numbers = {"difference": i.estimate, "low": i.low, "high": i.high, "verdict": stats.verdict(i)}
            rows.append({"size": name, "contrast": f"{first} - {second}"} | numbers | {"times the tokens": spent[0] / spent[1]})
    return pd.DataFrame(rows)


def is_check(step: str) -> bool:
    """Whether a step checks the one before it."""
    return step.rstrip().endswith((" ok", " no"))


def checks(steps: Sequence[str]) -> Iterator[tuple[bool, bool, bool]]:
    """Each operation of a solution that a check follows: is it right, does the check say so, and is the next operation right.

    The last is False where nothing follows. Steps that are no arithmetic are passed over.
    """
    right = [_arithmetic(step) for step in steps]
    for at in range(len(steps) - 1):
        if (here := right[at]) is not None and is_check(steps[at + 1]):
            follows = right[at + 2] if at + 2 < len(steps) else None
            yield here, steps[at + 1].rstrip().endswith("ok"), bool(follows)


def _arithmetic(step: str) -> bool | None:
    """Whether an equation holds; None for a check, an answer, or what is no equation."""
    if is_check(step):
        return None
    try:
        left, op, right, result = split_equation(step.strip())
    except (ValueError, StopIteration):
        return None
    return apply(op, left, right) == result


def catches(results: Results, problem_set: str, policy: str) -> pd.DataFrame:
    """Do the checks catch errors? Counted over the policy's pool of samples; intervals are bootstraps over problems.

    Returns:
        Columns policy, what, share, low, high, of (how many); shares of nothing are NaN.
    """
    counted, solved = [], []
    for problem in _samples(results, problem_set, policy):
        found = [list(checks(steps)) for steps, _ in problem]
        counted.append(_counts([check for checked in found for check in checked]))
        solved.append(_outcomes(found, [correct for _, correct in problem]))
    names = {
        "operations that are wrong": (0, 1),
        "wrong ones that their check calls wrong": (2, 0),
        "right ones that their check calls wrong": (3, 4),
        "operations done right after a no": (5, 6),
    }
    rows = [_share(policy, what, np.array(counted, float)[:, place]) for what, place in names.items()]
    kinds = ("no operation wrong", "wrong ones, all called wrong", "a wrong one passed as ok")
    rows += [_share(policy, f"solutions that are right: {kind}", np.array(solved, float)[:, i]) for i, kind in enumerate(kinds)]
    return pd.DataFrame(rows)


def _samples(results: Results, problem_set: str, policy: str) -> Iterator[list[tuple[list[str], bool]]]:
    """Per problem, each sample's steps and whether it is right."""
    spec = results.grid.spec("pool", policy, n=results.grid.samples)
    stored = [row for chunk in results.grid.chunks(problem_set) for row in results.store.run(spec).read(chunk)]
    for row, graded in zip(stored, results.graded(problem_set, spec)):
        yield [(t["steps"], bool(right)) for t, right in zip(row["trajectories"], graded.correct)]


def _counts(found: Sequence[tuple[bool, bool, bool]]) -> list[int]:
    """Wrong, all; wrong and called wrong; right and called wrong, right; mended after a no, called wrong."""
    wrong = [check for check in found if not check[0]]
    no = [check for check in found if not check[1]]
    caught, false = sum(not ok for _, ok, _ in wrong), sum(right for right, _, _ in no)
    return [len(wrong), len(found), caught, false, len(found) - len(wrong), sum(mended for *_, mended in no), len(no)]


def _outcomes(found: Sequence[list[tuple[bool, bool, bool]]], correct: Sequence[bool]) -> list[tuple[int, int]]:
    """Right and all solutions: without a wrong operation, with only such as were called wrong, with one that was not."""
    tally = [[0, 0], [0, 0], [0, 0]]
    for checked, right in zip(found, correct):
        wrong = [ok for was_right, ok, _ in checked if not was_right]
        kind = 0 if not wrong else 2 if any(wrong) else 1
        tally[kind][0] += right
        tally[kind][1] += 1
    return [(right, of) for right, of in tally]


def _share(policy: str, what: str, columns: np.ndarray) -> dict:
    part, whole = columns.sum(0)
    row = {"policy": policy, "what": what, "share": np.nan, "low": np.nan, "high": np.nan, "of": int(whole)}
    if whole == 0 or len(columns) < 2:
        return row | ({"share": part / whole} if whole else {})
    i = stats.bootstrap(columns, lambda means: means[..., 0] / np.maximum(means[..., 1], 1e-12))
    return row | {"share": i.estimate, "low": i.low, "high": i.high}


def check_scores(results: Results, problem_set: str, policy: str, prm: str) -> dict[str, str | float]:
    """Mean score that a PRM gives to check steps, and to the others, in right solutions of the pool."""
    spec = results.grid.spec("scores", policy, prm, results.grid.samples)
    found: dict[bool, list[float]] = {True: [], False: []}
    for row, graded in zip(
        (row for chunk in results.grid.chunks(problem_set) for row in results.store.run(spec).read(chunk)),
        results.graded(problem_set, spec),
    ):
        for trajectory, right in zip(row["trajectories"], graded.correct):
            for step, score in zip(trajectory["steps"], trajectory["scores"]):
                if right:
                    found[is_check(step)].append(score)
    means = {
        name: float(np.mean(values)) if values else np.nan for name, values in (("checks", found[True]), ("other steps", found[False]))
    }
    return {"policy": policy, "prm": prm} | means
