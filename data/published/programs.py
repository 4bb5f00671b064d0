"""Runs the recorded programs of two models on HumanEval, and computes ``released_programs.csv`` from what became of them.

    python data/published/programs.py FOLDER [--kept FILE] [--at-once 2]

FOLDER holds ``humaneval.jsonl``, the tasks, and ``humaneval_runs_*.jsonl``: task_id, model, run, code and passed, the recorded verdict.
Every program runs in the sandbox, with the hidden tests and with the public ones of its prompt; FILE keeps outcomes, so that what was
stopped goes on. Then, or without FOLDER, it writes what the table says into ``docs/code.md``: Pass@k, and best-of-n by public tests.
"""

import argparse
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tts.analysis import stats
from tts.claims.released import of_programs
from tts.common.names import shown
from tts.tasks import code, sandbox
from tts.tasks.code import CODE
from tts.tasks.problems import checked_row, records

TABLE = Path(__file__).with_name("released_programs.csv")
PAGE = Path(__file__).parents[2] / "docs" / "code.md"
SAMPLES = (1, 2, 5, 10)


def outcomes(folder: Path, kept: Path, at_once: int) -> pd.DataFrame:
    """What became of each program: model, task, run, recorded, passed (the hidden tests), public (the prompt's), values, examples."""
    tasks = {row["task_id"]: checked_row(row, where, CODE) for where, row in records(folder / "humaneval.jsonl", "HumanEval's columns")}
    runs = [row for path in sorted(folder.glob("humaneval_runs_*.jsonl")) for _, row in records(path, "'task_id', 'model', 'run', 'code'")]
    held = {tuple(row["key"]): row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}

    def outcome(run: dict) -> dict:
        task, program = tasks[run["task_id"]], CODE.normal(run["code"])
        hidden, public = sandbox.run(program, **json.loads(task["answer"])), code._behaviour(task["problem"], program)
        key = run["model"], run["task_id"], run["run"]
        told = {"key": key, "recorded": run["passed"], "passed": hidden.passed, "said": hidden.said, "public": public.passed}
        return told | {"values": public.values, "n": len(code._public(task["problem"])["examples"])}

    missing = [run for run in runs if (run["model"], run["task_id"], run["run"]) not in held]
    with kept.open("a") as file, ThreadPoolExecutor(at_once) as pool:
        for row in tqdm(pool.map(outcome, missing), total=len(missing), desc="programs", unit="program"):
            held[tuple(row["key"])] = row
            file.write(json.dumps(row) + "\n")
    rows = [dict(zip(("model", "task", "run"), key)) | row for key, row in held.items()]
    return pd.DataFrame(rows).drop(columns="key").sort_values(["model", "task", "run"])


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Per model and task: numbers of programs, of right ones, of verdicts as recorded, of those that pass the public tests, of right ones
    among these, of public tests; and by all programs the accuracy of a vote by behaviour, and of one that counts what passes alone."""
    found = []
    for (model, task), part in rows.groupby(["model", "task"]):
        right, public = part["passed"].to_numpy(bool), part["public"].to_numpy(bool)
        named = {
            "model": model,
            "task": task,
            "programs": len(part),
            "right": right.sum(),
            "as_recorded": (part["passed"] == part["recorded"]).sum(),
        }
        named |= {"public": public.sum(), "public_right": (public & right).sum(), "public_tests": part["n"].iloc[0]}
        behaviour = [str(values) if any(v[0] != "!" for v in values) else "" for values in part["values"]]
        numbers = {text: number for number, text in enumerate(dict.fromkeys(filter(None, behaviour)))}
        groups = np.array([numbers.get(text, -1) for text in behaviour])
        if not named["public_tests"]:  # no inputs on which behaviour shows: each program stands for itself
            groups = np.arange(len(part))
        votes = {"vote": np.ones(len(part)), "agreement": public.astype(float)}
        # In the order of the runs: the number of each one's behaviour, -1 for none, and whether it is right.
        named |= {"answers": " ".join(map(str, groups)), "passed": " ".join(map(str, right.astype(int)))}
        found.append(named | {name: stats.vote_accuracy(right, weights, groups, len(part)) for name, weights in votes.items()})
    return pd.DataFrame(found).assign(source="jamesmurdza/humaneval-results")


def told(table: pd.DataFrame) -> list[str]:
    """The table's numbers as lines."""
    same, total = table["as_recorded"].sum(), table["programs"].sum()
    lines = [f"verdicts as recorded: {same:,} of {total:,}"]
    weak, strong = table.groupby("model")["right"].sum().sort_values().index
    by_n = {n: of_programs(table, n).pivot(index="task", columns="model") for n in SAMPLES}
    for model in (weak, strong):
        for name in ("passed", "best"):
            what = {"passed": "Pass@n", "best": "best-of-n by public tests"}[name]
            cells = [stats.of_accuracy(by_n[n][name, model].to_numpy()) for n in SAMPLES]
            lines.append(f"{model}, {what}, n = {', '.join(map(str, SAMPLES))}: " + "; ".join(map(_interval, cells)))
        own = table[table["model"] == model]
        lines += [f"{model}, {name} of 10: {_interval(stats.of_accuracy(own[name].to_numpy()))}" for name in ("vote", "agreement")]
    tests = table[table["model"] == weak].set_index("task")["public_tests"]
    lines.append(f"tasks with public tests: {(tests > 0).sum()} of {len(tests)}")
    for n in SAMPLES[1:]:
        gap = by_n[n]["best", weak] - by_n[1]["passed", strong]
        lines.append(f"{weak}, best of {n} by public tests, less {strong} alone, paired: {_interval(stats.of_difference(gap.to_numpy()))}")
    gap = table[table["model"] == weak].set_index("task")["agreement"] - by_n[1]["passed", strong]
    lines.append(f"{weak}, agreement of 10, less {strong} alone, paired: {_interval(stats.of_difference(gap.to_numpy()))}")
    return lines


def _interval(found: stats.Interval) -> str:
    return "{} [{}, {}]".format(*(shown(100 * value, ".1f") for value in (found.estimate, found.low, found.high)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs recorded programs on HumanEval, and computes released_programs.csv.")
    parser.add_argument("folder", type=Path, nargs="?", help="folder of the tasks and the recorded programs; the committed table without")
    parser.add_argument("--kept", type=Path, default=Path("programs.jsonl"), help="file that keeps what became of each program")
    parser.add_argument("--at-once", type=int, default=2, help="programs that run side by side")
    given = parser.parse_args()
    if given.folder:
        rows = outcomes(given.folder, given.kept, given.at_once)
        for row in rows[rows["passed"] != rows["recorded"]].itertuples():
            print(f"{row.model}, {row.task}, run {row.run}: recorded {row.recorded}, here {row.passed}: {row.said}")
        assert Counter(rows.groupby(["model", "task"]).size()) == {10: 328}, "ten programs of each model for each of 164 tasks"
        counted(rows).to_csv(TABLE, index=False, float_format="%.6g")
    print(written := "\n".join(f"- {line}" for line in told(pd.read_csv(TABLE))))
    page = re.sub(r"(?<=<!-- programs -->\n).*?(?=<!-- end -->)", lambda _: f"{written}\n", PAGE.read_text(), flags=re.DOTALL)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
