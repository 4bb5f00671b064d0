"""What others measured on real models: the tables from small sources with known outcomes, and the checks by hand."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tts.claims import published

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "data" / "published" / "released.py"
SYSTEMS = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]


def write(folder, name, rows, columns):
    pd.DataFrame(rows, columns=columns).to_csv(folder / f"{name}.csv", index=False)


def sources(folder):
    """Twelve problems of the 1B policy, ten of the others, seven tasks."""
    folder.mkdir()
    counts = [(f"p{i}", *[right] * 5) for i, right in enumerate([0, 1, 128, 256, *[64] * 8])]
    write(folder, "llama-3.2-1b_math500_counts", counts, ["unique_id", *(f"right_of_256_seed_{seed}" for seed in range(5))])
    columns = ["method", "n", "seed", "prm_last_max", "prm_last_vote", "majority", "solvable_of_500"]
    write(folder, "llama-3.2-1b_math500_methods", [("dvts", 256, 0, 50.0, 55.0, 54.0, 422)], columns)
    pass_at_1 = [("L-70B", "MATH", i, value) for i, value in enumerate([0.8, 0.8001, 1.0, 0.0, 0.05, 0.1, 0.3, 0.7, 0.9, 0.95])]
    pass_at_1.append(("L-8B", "MATH", 0, 0.3))
    write(folder, "llama-3_pass_at_1_of_10000", pass_at_1, ["model", "problem_set", "problem", "pass_at_1"])
    curve = [("L-70B", "MATH", "pass_at_n", 1, 0.5), ("L-70B", "MATH", "majority", 1, 0.48), ("L-70B", "MATH", "majority", 4, 0.7)]
    curve += [("L-8B", "MATH", "pass_at_n", 1, 0.3), ("L-8B", "MATH", "majority", 1, 0.0)]
    write(folder, "llama-3_curves", curve, ["model", "problem_set", "series", "n", "value"])
    write(folder, "gsm8k_verifiers", [(0, 0, 1, 0, 1), (1, 0, 1, 0, 1), (2, 1, 1, 1, 1)], ["problem", *SYSTEMS])
    tasks = [(f"Qwen2.5-Coder-{m}", "mbpp", t, int(t < r), int(t < r - 1)) for m, r in (("1.5B", 2), ("7B", 5)) for t in range(7)]
    write(folder, "qwen2.5-coder_evalplus", tasks, ["model", "problem_set", "task_id", "base", "plus"])
    return folder


def made(folder, *more):
    command = [sys.executable, str(SCRIPT), str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_tables_follow_from_the_sources(tmp_path, monkeypatch):
    done = made(sources(tmp_path / "sources"), "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    tables = {name: published.read(f"released_{name}") for name in ("pass_at_1", "curves", "methods", "gsm8k", "coder")}
    histogram = tables["pass_at_1"].set_index(["model", "low"])
    assert histogram.loc["L-70B", "problems"].tolist() == [2, 1, 0, 1, 0, 0, 0, 1, 2, 3]
    assert histogram.loc[("L-70B", 0.8)].tolist()[-3:] == [2, 1, "Brown et al. 2024"], "0.8 and 0.8001; the first of them is at 0.8"
    assert histogram.loc["Llama-3.2-1B-Instruct", "problems"].tolist() == [2, 0, 8, 0, 0, 1, 0, 0, 0, 1]
    curve = tables["curves"].set_index(["model", "series", "n"])["accuracy"]
    expected = [1 - comb(1280 - right, 256) / comb(1280, 256) for right in (0, 5, 640, 1280, *[320] * 8)]
    assert curve["Llama-3.2-1B-Instruct", "pass", 256] == pytest.approx(np.mean(expected), abs=1e-6)
    assert curve["Llama-3.2-1B-Instruct", "pass", 1280] == pytest.approx(11 / 12, abs=1e-6)
    assert curve["L-70B", "majority", 4] == 0.7
    assert curve["L-8B"].index.tolist() == [("pass", 1)], "a majority of one sample that is no Pass@1 is left out"
    assert tables["methods"][["method", "n", "prm_max", "prm_vote", "solvable", "problems"]].to_numpy().tolist() == [
        ["dvts", 256, 50.0, 55.0, 422, 500]
    ]
    patterns = tables["gsm8k"].set_index(["6B", "6B with verifier", "175B", "175B with verifier"])["problems"]
    assert len(patterns) == 16 and patterns[patterns > 0].to_dict() == {(0, 1, 0, 1): 2, (1, 1, 1, 1): 1}
    coder = tables["coder"].set_index(["tests", "1.5B", "7B"])["problems"]
    assert coder["base"].to_dict() == {(0, 0): 2, (0, 1): 3, (1, 0): 0, (1, 1): 2}
    assert coder["plus"].to_dict() == {(0, 0): 3, (0, 1): 3, (1, 0): 0, (1, 1): 1}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "released_gsm8k.csv: the sources in .* are missing or damaged .*No such file"),
        (
            lambda path: path.write_text("problem,6b_finetuning\n0,1\n"),
            "released_gsm8k.csv: .*175b_verification|released_gsm8k.csv: .*KeyError",
        ),
        (lambda path: path.write_text(""), "released_gsm8k.csv: .*No columns"),
    ],
)
def test_missing_or_damaged_sources_are_said_in_a_line(tmp_path, damage, message):
    damage(sources(tmp_path / "sources") / "gsm8k_verifiers.csv")
    done = made(tmp_path / "sources", "--to", str(tmp_path))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert pd.Series([done.stderr]).str.contains(message).all(), done.stderr


def test_the_committed_tables_hold_what_their_sources_say():
    rows = published.read("released_gsm8k")
    shares = {name: np.average(rows[name], weights=rows["problems"]) for name in rows.columns[:4]}
    assert rows["problems"].sum() == 1319 and [f"{100 * s:.1f}" for s in shares.values()] == ["21.7", "39.0", "34.7", "56.3"]
    both = rows.groupby(["6B with verifier", "175B"])["problems"].sum()
    assert (both[1, 0], both[0, 1]) == (209, 152)
    histogram = published.read("released_pass_at_1").groupby(["model", "problem_set"])["problems"].sum()
    assert sorted(histogram) == [127, 127, 128, 128, 500]
    curve = published.read("released_curves")
    small = curve[curve["problems"] == 500].set_index("n")["accuracy"]
    assert small.index.tolist() == [*(2**i for i in range(11)), 1280] and small.is_monotonic_increasing
    assert ((curve["low"] < curve["accuracy"]) & (curve["accuracy"] <= curve["high"])).all()
    methods = published.read("released_methods")
    votes = methods[methods["n"] == 256].groupby("method")["prm_vote"].agg(["min", "max", "size"])
    assert votes.loc[["best_of_n", "beam_search", "dvts"]].to_numpy().tolist() == [[46.4, 48.4, 5], [51.4, 52.6, 5], [53.8, 55.0, 5]]
    coder = published.read("released_coder").groupby(["problem_set", "tests"])["problems"].sum()
    assert coder.to_dict() == {key: {"humaneval": 164, "mbpp": 399}[key[0]] for key in product(["humaneval", "mbpp"], ["base", "plus"])}


def test_a_table_is_found_by_its_name_or_by_a_first_part_that_is_its_own():
    assert published.read("table3_small_vs_large").equals(published.read("table3"))
    with pytest.raises(published.PublishedError, match="no published table 'released'; there are .*released_coder"):
        published.read("released")
