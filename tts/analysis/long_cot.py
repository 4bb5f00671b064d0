"""Internal against external test-time scaling: long-CoT policies, plain ones with a PRM, and both together (Liu et al. 2025, Table 6).

The long-CoT policies of the pocket family check each operation in a step of its own, which ends in ``ok`` or ``no``, and do it again
after a ``no``. So whether checks catch errors can be counted.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tts.analysis import stats
from tts.analysis.accuracy import Results
from tts.analysis.evidence import Evidence
from tts.tasks.pocket_problems import apply
from tts.tasks.pocket_traces import split_equation

PLAIN = ("neither: plain CoT", "external: plain with TTS")  # with CoT, with any method
LONG = ("internal: long CoT", "both: long with TTS")


def ways(plain: Evidence, long: Evidence, problem_set: str, pairs: dict[str, str], prm: str) -> pd.DataFrame:
    """Every method and budget of each plain policy, whose name is the size, and of its long-CoT counterpart, with tokens per problem."""
    parts = []
    for name, other in pairs.items():
        for evidence, policy, kinds in ((plain, name, PLAIN), (long, other, LONG)):
            table = evidence.table[evidence.table["prm"].isin([prm, ""]) & (evidence.table["method"] != "pass")]
            rows = table[(table["problems"] == problem_set) & (table["policy"] == policy)]
            parts.append(rows.assign(size=name, kind=np.where(rows["method"] == "cot", *kinds), tokens=rows["policy_tokens"]))
    columns = ["size", "policy", "kind", "method", "n", "accuracy", "low", "high", "tokens"]
    return pd.concat(parts, ignore_index=True)[columns]


def contrasts(plain: Evidence, long: Evidence, problem_set: str, pairs: dict[str, str], prm: str, method: str, n: int) -> pd.DataFrame:
    """External scaling (a method at a budget that both hold), internal and both, paired by problem."""
    rows = []
    for name, other in pairs.items():
        kinds = {
            "plain CoT": (plain, name, "cot", 1),
            "internal": (long, other, "cot", 1),
            "external": (plain, name, method, n),
            "both": (long, other, method, n),
        }
        accuracy = {kind: e.accuracy(problem_set, policy, prm, how, k) for kind, (e, policy, how, k) in kinds.items()}
        tokens = {kind: e.policy_tokens(problem_set, policy, prm, how, k).mean() for kind, (e, policy, how, k) in kinds.items()}
        for first, second in (("internal", "plain CoT"), ("external", "internal"), ("both", "internal"), ("both", "external")):
            difference = stats.of_difference(accuracy[first] - accuracy[second])
            numbers = {"verdict": stats.verdict(difference), "times the tokens": tokens[first] / tokens[second]}
            rows.append({"size": name, "contrast": f"{first} - {second}"} | difference.columns("difference") | numbers)
    return pd.DataFrame(rows)


def is_check(step: str) -> bool:
    """Whether a step checks the one before it."""
    return step.rstrip().endswith((" ok", " no"))


def checks(steps: Sequence[str]) -> Iterator[tuple[bool, bool, bool]]:
    """Each operation of a solution that a check follows: is it right, does the check say so, and is the next operation right.

    The last is False where nothing follows. Steps that are no arithmetic are passed over.
    """
    right = [_arithmetic(step) for step in steps]
    for here, check, follows in zip(right, steps[1:], [*right[2:], None]):
        if here is not None and is_check(check):
            yield here, check.rstrip().endswith("ok"), bool(follows)


def _arithmetic(step: str) -> bool | None:
    """Whether an equation holds; None for a check, an answer, or what is no equation."""
    try:
        left, op, right, result = split_equation(step.strip())
    except (ValueError, StopIteration):
        return None
    return apply(op, left, right) == result


def catches(results: Results, problem_set: str, policy: str) -> pd.DataFrame:
    """Do the checks catch errors? Shares in the policy's pool of samples, NaN of nothing, with bootstrap intervals over problems."""
    operations, solutions = [], []
    for number, samples in enumerate(_samples(results, problem_set, "pool", policy)):
        for sample, solved in samples:
            checked = list(checks(sample["steps"]))
            operations += [(number, *check) for check in checked]
            verdicts = [ok for right, ok, _ in checked if not right]  # on the wrong operations
            solutions.append((number, solved, bool(verdicts), any(verdicts)))
    done = pd.DataFrame(operations, columns=["problem", "right", "ok", "mended"]).set_index("problem").astype(bool)
    whole = pd.DataFrame(solutions, columns=["problem", "solved", "erred", "passed"]).set_index("problem")
    wrong, called = ~done["right"], ~done["ok"]
    shares = {
        "operations that are wrong": (wrong, wrong | done["right"]),
        "wrong ones that their check calls wrong": (wrong & called, wrong),
        "right ones that their check calls wrong": (done["right"] & called, done["right"]),
        "operations done right after a no": (called & done["mended"], called),
    }
    kinds = {
        "no operation wrong": ~whole["erred"],
        "wrong ones, all called wrong": whole["erred"] & ~whole["passed"],
        "a wrong one passed as ok": whole["passed"],
    }
    shares |= {f"solutions that are right: {kind}": (inside & whole["solved"], inside) for kind, inside in kinds.items()}
    rows = []
    for what, part_and_whole in shares.items():
        counts = pd.concat(part_and_whole, axis=1).groupby(level=0).sum().reindex(whole.index.unique(), fill_value=0).to_numpy(float)
        part, of = counts.sum(0)
        share = stats.Interval(part / of if of else np.nan, np.nan, np.nan, "none")
        if of and len(counts) > 1:
            share = stats.bootstrap(counts, lambda means: means[..., 0] / np.maximum(means[..., 1], 1e-12))
        rows.append({"policy": policy, "what": what} | share.columns("share") | {"of": int(of)})
    return pd.DataFrame(rows)


def _samples(results: Results, problem_set: str, method: str, policy: str, prm: str | None = None) -> Iterator[list[tuple[dict, bool]]]:
    """Per problem, a run's stored samples, each with whether it is right."""
    spec = results.grid.spec(method, policy, prm, results.grid.samples)
    stored = (row for chunk in results.grid.chunks(problem_set) for row in results.store.run(spec).read(chunk))
    for row, graded in zip(stored, results.graded(problem_set, spec)):
        yield list(zip(row["trajectories"], graded.correct.tolist()))


def check_scores(results: Results, problem_set: str, policy: str, prm: str) -> dict[str, str | float]:
    """Mean score that a PRM gives to check steps, and to the others, in right solutions of the pool."""
    right = [sample for samples in _samples(results, problem_set, "scores", policy, prm) for sample, solved in samples if solved]
    scored = [(is_check(step), score) for sample in right for step, score in zip(sample["steps"], sample["scores"])]
    checks, others = (float(np.mean([score for check, score in scored if check == kind] or [np.nan])) for kind in (True, False))
    return {"policy": policy, "prm": prm, "checks": checks, "other steps": others}
