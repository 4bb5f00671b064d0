"""The study's published tables, and what follows from them: intervals, verdicts, FLOPs, disagreements.

The numbers are those of Liu et al. 2025 (arXiv 2502.06703), under ``data/published``. Nothing here was measured by this suite.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from tts.analysis import costs, flops, stats
from tts.analysis.flops import Cost
from tts.analysis.stats import Interval
from tts.common.paths import DATA

FOLDER = DATA / "published"
PROBLEMS = {"MATH-500": 500, "AIME24": 30}
PROMPT_TOKENS = 200  # assumed of a prompt of MATH-500; the study does not give it


class PublishedError(ValueError):
    """A table or problem set that was not published."""


def read(name: str) -> pd.DataFrame:
    """A table by its file's name or a first part that is its own, say ``table3``; PublishedError where it is missing or damaged."""
    files = {path.stem: path for path in sorted(FOLDER.glob("*.csv"))}
    fitting = [path for stem, path in files.items() if name in (stem, stem.split("_")[0])]
    if len(fitting) != 1:
        raise PublishedError(f"no published table {name!r}; there are {', '.join(files)}")
    try:
        return pd.read_csv(fitting[0])
    except ValueError as error:
        raise PublishedError(f"{fitting[0]} is damaged ({error}); restore it, say with git checkout") from None


def known(names: Sequence[str], among: Iterable[str], where: str) -> None:
    """PublishedError for a name that a table does not have."""
    if missing := [name for name in names if name not in (there := list(among))]:
        raise PublishedError(f"{where} has no {missing[0]!r}; it has {', '.join(there)}")


def accuracy(percent: float, problem_set: str) -> Interval:
    """Wilson's 95 % interval of a published accuracy, as a share; PublishedError where the number of problems is not known."""
    if problem_set not in PROBLEMS:
        raise PublishedError(f"no number of problems is known for {problem_set!r}; there are {', '.join(PROBLEMS)}")
    solved = percent / 100 * PROBLEMS[problem_set]  # not always a whole number: some are averages of runs
    return stats.wilson(solved, PROBLEMS[problem_set])


def combination(accuracies: Sequence[float], signs: Sequence[float], problem_set: str) -> Interval:
    """A signed sum of published accuracies (in per cent; signs are 1 or -1), as a share, with its 95 % interval.

    Wilson's limits of each are combined by their distances from it (Zou and Donner 2008, equation 2); of two accuracies this is
    Newcombe's hybrid score interval (1998, method 10). They count as independent proportions: all are of the same problems, but
    which ones each model solved was not published, so a paired interval, as a rule narrower, cannot be had.
    """
    estimate = below = above = 0.0
    for percent, sign in zip(accuracies, signs):
        wilson = accuracy(percent, problem_set)
        ends = sorted((sign * wilson.low, sign * wilson.high))
        share = sign * percent / 100
        estimate, below, above = estimate + share, below + (share - ends[0]) ** 2, above + (ends[1] - share) ** 2
    return Interval(estimate, estimate - below**0.5, estimate + above**0.5, "Wilson's intervals combined (MOVER), unpaired")


def table3() -> pd.DataFrame:
    """Table 3 with an interval for each accuracy: columns model, group, problems, accuracy, low, high (in per cent)."""
    rows = read("table3").melt(["model", "group"], list(PROBLEMS), "problems", "accuracy").dropna(ignore_index=True)
    intervals = [accuracy(row.accuracy, row.problems) for row in rows.itertuples()]
    return rows.assign(low=[100 * i.low for i in intervals], high=[100 * i.high for i in intervals])


def table4() -> pd.DataFrame:
    """Table 4 with pre-training worked out again as 6ND, and inference with the active parameters only.

    Parameters and tokens are those of ``sizes.csv``, inferred. Inference is quoted; the tokens behind it follow as FLOPs / 2N.
    """
    table = read("table4")
    size = table[["model"]].merge(read("sizes"))
    again = flops.pretraining(size["parameters"], size["pretraining_tokens"])
    agrees = [f"{a:.2e}" == f"{p:.2e}" for a, p in zip(again, table["pretraining_flops"])]
    inferred = table["inference_flops"] / (2 * size["parameters"])
    active = flops.inference(size["active_parameters"], inferred)
    return table.assign(recomputed_pretraining=again, agrees=agrees, inferred_tokens=inferred, inference_active_parameters=active)


def table5() -> pd.DataFrame:
    """Table 5 with its performance gain recomputed, and the error reduction that follows from it."""
    table = read("table5")
    cot, tts = table["cot"], table["compute_optimal_tts"]
    gain, reduction = ((tts / cot - 1) * 100).round(1), ((tts - cot) / (100 - cot) * 100).round(1)
    return table.assign(recomputed_gain=gain, agrees=gain == table["performance_gain_percent"], error_reduction_percent=reduction)


def table6() -> pd.DataFrame:
    """Each external row of Table 6 less each long-CoT row: columns external, internal, and those of :func:`_with_differences`."""
    rows = read("table6").melt(["model", "group"], list(PROBLEMS), "problems", "accuracy").set_index("group")
    external = rows.loc["TTS"].rename(columns={"model": "external", "accuracy": "TTS"})
    internal = rows.loc["long CoT"].rename(columns={"model": "internal", "accuracy": "CoT"})
    return _with_differences(external.merge(internal, on="problems"))


def _with_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of problems, TTS and CoT (accuracies in per cent), with columns count (of problems), difference, low, high (shares), verdict."""
    differences = [combination([row.TTS, row.CoT], [1, -1], row.problems) for row in rows.itertuples()]
    columns = [difference.columns("difference") | {"verdict": stats.verdict(difference)} for difference in differences]
    return rows.assign(count=rows["problems"].map(PROBLEMS), **pd.DataFrame(columns, index=rows.index))


def accuracies() -> pd.DataFrame:
    """All accuracies of Tables 3, 5 and 6: columns model, strategy (CoT or TTS), problems, accuracy (per cent), source."""
    grouped = pd.concat([read("table3").assign(source="Table 3"), read("table6").assign(source="Table 6")])
    grouped["strategy"] = grouped["group"].str.contains("TTS").map({True: "TTS", False: "CoT"})
    table5 = read("table5").rename(columns={"cot": "CoT", "compute_optimal_tts": "TTS"})
    table5 = table5.melt("model", ["CoT", "TTS"], "strategy", "MATH-500").assign(source="Table 5")
    rows = pd.concat([grouped, table5]).melt(["model", "strategy", "source"], list(PROBLEMS), "problems", "accuracy").dropna()
    return rows[["model", "strategy", "problems", "accuracy", "source"]].sort_values("source", kind="stable", ignore_index=True)


def disagreements() -> pd.DataFrame:
    """What two tables give for the same model, strategy and problems, side by side: both accuracies in per cent, and whether they agree."""
    rows = accuracies()
    both = rows.merge(rows, on=["model", "strategy", "problems"], suffixes=("", " again")).query("source < `source again`")
    return both.assign(agrees=both["accuracy"] == both["accuracy again"]).sort_values("agrees", kind="stable", ignore_index=True)


def claims() -> pd.DataFrame:
    """The comparisons of Fig 1, and the verifier as solver; where tables disagree on an accuracy there is a row for each value.

    Columns claim, made_by, small, large, source (of the small model's accuracy), and those of :func:`_with_differences`.
    """
    rows = accuracies()
    sources = rows.groupby(["strategy", "model", "problems", "accuracy"], sort=False)["source"].agg(", ".join).reset_index([1, 2, 3])
    small = sources.loc["TTS"].rename(columns={"model": "small", "accuracy": "TTS"})
    large = sources.loc["CoT"].rename(columns={"model": "large", "accuracy": "CoT"}).drop(columns="source")
    made = read("fig1").rename(columns={"problem_set": "problems"})
    return _with_differences(made.merge(small, on=["small", "problems"]).merge(large, on=["large", "problems"]))


CONVENTIONS = ("the study's", "active parameters", "full, 7B PRM", "full, 72B PRM")
"""What is counted: 6ND and 2ND with all parameters and no PRM; the same with active ones; everything, with a PRM."""


def counted(convention: str) -> dict[str, Cost]:
    """What the models of Table 4 cost on MATH-500, by one of the conventions; PublishedError for an unknown one.

    In full: active parameters, attention, prompts of :data:`PROMPT_TOKENS`, and for TTS a PRM with its training, which reads each
    token once. Solutions of TTS are taken to be as long as those of the larger model in the same comparison.
    """
    if convention not in CONVENTIONS:
        raise PublishedError(f"no convention {convention!r}; there are {', '.join(CONVENTIONS)}")
    known, queries, table = read("sizes").set_index("model"), PROBLEMS["MATH-500"], table4()
    counting = "parameters" if convention == "the study's" else "active_parameters"
    prompts, found = [PROMPT_TOKENS] * queries, {}
    solutions = table["inferred_tokens"].iloc[1::2].repeat(2) / queries  # the larger model of each comparison comes second
    for row, solution in zip(table.itertuples(), solutions):
        size, tokens = known.loc[row.model], row.inferred_tokens
        if not convention.startswith("full"):
            cost = Cost(decode=flops.inference(size[counting], tokens), deployed=size["parameters"])
        elif row.strategy == "CoT":
            cost = flops.answering(costs.shape_in(size), prompts, tokens, solution)
        else:
            prm = known.loc[f"Qwen2.5-Math-PRM-{convention.split()[1]}"]
            cost = flops.answering(costs.shape_in(size), prompts, tokens, solution, costs.shape_in(prm), tokens + sum(prompts))
            cost = replace(cost, prm_training=flops.pretraining(prm["active_parameters"], prm["pretraining_tokens"]))
        found[row.model] = replace(cost, policy_training=flops.pretraining(size[counting], size["pretraining_tokens"]))
    return found


def flops_comparisons() -> pd.DataFrame:
    """Table 4's comparisons, one row for each and each convention, with the columns of :func:`tts.analysis.flops.against`."""
    rows = []
    for convention in CONVENTIONS:
        found = list(counted(convention).items())
        for (small, small_cost), (large, large_cost) in zip(found[::2], found[1::2]):
            against = flops.against(small_cost, large_cost, PROBLEMS["MATH-500"])
            rows.append({"small with TTS": small, "large with CoT": large, "counted": convention, **against})
    return pd.DataFrame(rows).sort_values("small with TTS", ascending=False, kind="stable", ignore_index=True)
