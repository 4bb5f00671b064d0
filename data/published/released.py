"""Computes the tables ``released_*.csv`` from what others measured on real language models.

    python data/published/released.py FOLDER

``data/README.md`` names the sources. FOLDER holds them as files of one row per problem, or per run:

- ``llama-3.2-1b_math500_counts.csv``: unique_id, and right samples out of 256 for each seed
- ``llama-3.2-1b_math500_methods.csv``: method, n, seed, accuracies in per cent by three votes, problems with a right candidate
- ``llama-3_pass_at_1_of_10000.csv``: model, problem_set, problem, pass_at_1
- ``llama-3_curves.csv``: model, problem_set, series (pass_at_n or majority), n, value
- ``gsm8k_verifiers.csv``: problem, and for each of four systems 1 where it was right
- ``qwen2.5-coder_evalplus.csv``: model, problem_set, task_id, and 1 where the base tests, and the base and plus tests, were passed
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tts.analysis import stats

SMALL = {"model": "Llama-3.2-1B-Instruct", "problem_set": "MATH-500"}
EACH = 256  # samples of a problem and seed
PRM = "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data"
BAY, BROWN, WEON = "Bay and Yearick, of Beeching et al. 2024", "Brown et al. 2024", "Weon and Kang, of Beeching et al. 2024"
TENTHS = np.arange(11) / 10
SYSTEMS = {
    "6b_finetuning": "6B",
    "6b_verification": "6B with verifier",
    "175b_finetuning": "175B",
    "175b_verification": "175B with verifier",
}


def right(folder: Path) -> np.ndarray:
    """Right samples of the 1B policy on each problem, all seeds pooled, ``(problems, samples)``, the right ones first."""
    counts = pd.read_csv(folder / "llama-3.2-1b_math500_counts.csv").drop(columns="unique_id")
    return np.arange(EACH * counts.shape[1]) < counts.sum(axis=1).to_numpy()[:, None]


def pass_at_1(folder: Path) -> pd.DataFrame:
    """How many problems have their Pass@1 in each tenth, from low to below high, 1 in the last one; at_low: how many at exactly low."""
    samples = right(folder)
    others = pd.read_csv(folder / "llama-3_pass_at_1_of_10000.csv")
    parts = [(SMALL | {"samples": samples.shape[1], "source": BAY}, samples.mean(axis=1))]
    for (model, problem_set), part in others.groupby(["model", "problem_set"], sort=False):
        parts.append(({"model": model, "problem_set": problem_set, "samples": 10_000, "source": BROWN}, part["pass_at_1"].to_numpy()))
    rows = []
    for named, values in parts:
        values = values.round(9)  # 0.3 is 3 * 0.1 less 4e-17
        counts, _ = np.histogram(values, TENTHS)
        for low, high, count in zip(TENTHS, TENTHS[1:], counts):
            rows.append(named | {"low": low, "high": high, "problems": count, "at_low": (values == low).sum()})
    return pd.DataFrame(rows).assign(source=lambda table: table.pop("source"))  # last


def curves(folder: Path) -> pd.DataFrame:
    """Pass@k and majority over the number of samples, each with a 95 % interval and its method.

    A majority of one sample is Pass@1. A series that is far from that at n = 1 is left out: that of MATH is 0 for every n.
    """
    samples, rows = right(folder), []
    total = samples.shape[1]
    for n in [*(1 << i for i in range(total.bit_length()) if 1 << i < total), total]:
        interval = stats.bootstrap(np.array([stats.pass_at_k(of_problem, n) for of_problem in samples]))
        named = SMALL | {"series": "pass", "n": n} | interval.columns() | {"interval": interval.method}
        rows.append(named | {"problems": len(samples), "samples": total, "source": BAY})
    others = pd.read_csv(folder / "llama-3_curves.csv").replace({"series": {"pass_at_n": "pass"}})
    problems = pd.read_csv(folder / "llama-3_pass_at_1_of_10000.csv").value_counts(["model", "problem_set"])
    single = others[others["n"] == 1].pivot(index=["model", "problem_set"], columns="series", values="value")
    faulty = single.index[(single["majority"] - single["pass"]).abs() > 0.05]
    for row in others.itertuples():
        if row.series == "majority" and (row.model, row.problem_set) in faulty:
            continue
        count = int(problems[row.model, row.problem_set])
        interval = stats.wilson(row.value * count, count)
        named = {"model": row.model, "problem_set": row.problem_set, "series": row.series, "n": row.n, "accuracy": row.value}
        bounds = {"low": interval.low, "high": interval.high, "interval": interval.method}
        rows.append(named | bounds | {"problems": count, "samples": 10_000, "source": BROWN})
    return pd.DataFrame(rows)


def methods(folder: Path) -> pd.DataFrame:
    """Accuracy in per cent of each method, budget and seed by three votes, and in how many problems a candidate is right."""
    rows = pd.read_csv(folder / "llama-3.2-1b_math500_methods.csv")
    names = {"prm_last_max": "prm_max", "prm_last_vote": "prm_vote", "solvable_of_500": "solvable"}
    return rows.rename(columns=names).assign(problems=500, **SMALL, prm=PRM, source=WEON)


def gsm8k(folder: Path) -> pd.DataFrame:
    """How many problems have each pattern of right and wrong by the four systems."""
    rows = pd.read_csv(folder / "gsm8k_verifiers.csv").rename(columns=SYSTEMS)
    return patterns(rows, list(SYSTEMS.values())).assign(source="Cobbe et al. 2021")


def coder(folder: Path) -> pd.DataFrame:
    """How many tasks have each pattern of right and wrong by the two policies, per problem set and tests (plus: base and plus ones)."""
    rows = pd.read_csv(folder / "qwen2.5-coder_evalplus.csv").melt(["model", "problem_set", "task_id"], ["base", "plus"], "tests", "right")
    rows["model"] = rows["model"].str.removeprefix("Qwen2.5-Coder-")
    wide = rows.pivot(index=["problem_set", "tests", "task_id"], columns="model", values="right")
    if wide.isna().any(axis=None):
        raise ValueError("a task of qwen2.5-coder_evalplus.csv has an outcome of one policy only")
    models = sorted(wide.columns, key=lambda name: float(name.removesuffix("B")))
    parts = [patterns(part, models).assign(problem_set=name, tests=tests) for (name, tests), part in wide.groupby(level=[0, 1])]
    return pd.concat(parts)[["problem_set", "tests", *models, "problems"]].assign(source="Qwen2.5-Coder repository")


def patterns(rows: pd.DataFrame, systems: list[str]) -> pd.DataFrame:
    """Each pattern of 0 and 1 over the systems, with its number of problems."""
    every = pd.MultiIndex.from_product([(0, 1)] * len(systems), names=systems)
    return rows.value_counts(systems).reindex(every, fill_value=0).rename("problems").reset_index()


TABLES = {"pass_at_1": pass_at_1, "curves": curves, "methods": methods, "gsm8k": gsm8k, "coder": coder}


def main() -> None:
    parser = argparse.ArgumentParser(description="Computes the tables released_*.csv of what others measured on real language models.")
    parser.add_argument("folder", type=Path, help="folder of the sources")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="folder of the tables; by default this script's")
    given = parser.parse_args()
    for name, table in TABLES.items():
        try:
            table(given.folder).to_csv(given.to / f"released_{name}.csv", index=False, float_format="%.6g")
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            sys.exit(f"released_{name}.csv: the sources in {given.folder} are missing or damaged ({type(error).__name__}: {reason:.200})")


if __name__ == "__main__":
    main()
