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

from tts.claims import findings, published, released, wording

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


GSM8K = {(0, 0, 0, 0): 4, (0, 1, 0, 1): 9, (1, 1, 1, 1): 5, (0, 0, 1, 1): 2}  # alone, with verifier; 6B, then 175B


def tables(folder, monkeypatch, **named):
    for name, (columns, rows) in named.items():
        write(folder, f"released_{name}", rows, columns)
    monkeypatch.setattr(published, "FOLDER", folder)


def of_gsm8k(patterns=GSM8K):
    return ["6B", "6B with verifier", "175B", "175B with verifier", "problems"], [(*pattern, n) for pattern, n in patterns.items()]


def of_methods(rates, problems):
    """``rates``: (method, N) -> accuracy in per cent by PRM-Vote and by majority, of each seed."""
    rows = [(m, n, seed, 0.0, *both, 9, "MATH-500", problems) for (m, n), seeds in rates.items() for seed, both in enumerate(seeds)]
    return ["method", "n", "seed", "prm_max", "prm_vote", "majority", "solvable", "problem_set", "problems"], rows


def resampled(columns, of_means, count=20_000):
    """A bootstrap written anew: 2.5 and 97.5 % of a function of the columns' means over resampled problems."""
    columns = np.asarray(columns, float)
    picks = np.random.default_rng(7).integers(len(columns), size=(count, len(columns)))
    return np.percentile([of_means(columns[pick].mean(0)) for pick in picks], [2.5, 97.5])


def test_gsm8k_is_paired_by_problem(tmp_path, monkeypatch):
    tables(tmp_path, monkeypatch, gsm8k=of_gsm8k())
    found = released.gsm8k("6B with verifier", "175B")
    assert found.estimate == pytest.approx((14 - 7) / 20) and "paired" in found.method
    assert found.detail == "6B with verifier 70.0% less 175B 35.0%, by 9 against 2 of 20 problems of GSM8K; 29 times the size"
    differences = [[0]] * 9 + [[1]] * 9 + [[-1]] * 2
    assert (found.low, found.high) == pytest.approx(resampled(differences, lambda means: means[0]), abs=0.06)


def test_the_relative_gain_of_a_verifier(tmp_path, monkeypatch):
    tables(tmp_path, monkeypatch, gsm8k=of_gsm8k({pattern: 10 * n for pattern, n in GSM8K.items()}))
    found = released.relative_gain("6B", "175B")
    assert found.estimate == pytest.approx((14 / 5 - 1) - (16 / 7 - 1)) and found.unit == "share"
    rows = np.repeat(np.array(list(GSM8K)), [10 * n for n in GSM8K.values()], axis=0)
    low, high = resampled(rows, lambda m: m[1] / m[0] - m[3] / m[2])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.04)
    tables(tmp_path, monkeypatch, gsm8k=of_gsm8k({(0, 1, 0, 1): 10, (0, 0, 1, 1): 10}))
    assert released.relative_gain("6B", "175B").estimate == pytest.approx(0.5 / 0.025 - 1 / 0.5), "half a problem for none"


def test_problems_that_are_mostly_solved(tmp_path, monkeypatch):
    columns = ["model", "problem_set", "low", "high", "problems", "at_low"]
    rows = [("L", "MATH", 0.7, 0.8, 30, 1), ("L", "MATH", 0.8, 0.9, 10, 3), ("L", "MATH", 0.9, 1.0, 60, 5), ("L", "GSM8K", 0.8, 0.9, 9, 0)]
    tables(tmp_path, monkeypatch, pass_at_1=(columns, rows))
    found = released.mostly_solved("L", "MATH", 0.8, 0.5)
    assert (found.estimate, found.margin, found.method) == (0.67, 0.5, "Wilson") and 0.5 < found.low < 0.67 < found.high
    with pytest.raises(published.PublishedError, match="no bin from 0.75 of L on MATH"):
        released.mostly_solved("L", "MATH", 0.75, 0.5)


def test_methods_differ_by_rates_of_seeds_and_problems(tmp_path, monkeypatch):
    rates = {("dvts", 256): [(60, 0), (62, 0)], ("best_of_n", 256): [(40, 50), (50, 50)]}
    tables(tmp_path, monkeypatch, methods=of_methods(rates, 100))
    found = released.methods(["dvts", "prm_vote"], ["best_of_n", "prm_vote"], 256)
    # over seeds 2e-4 / 2 and 50e-4 / 2, over problems 0.61 * 0.39 / 100 and 0.45 * 0.55 / 100
    error = np.sqrt(1e-4 + 25e-4 + 0.002379 + 0.002475)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.16, 0.16 - 1.96 * error, 0.16 + 1.96 * error))
    assert found.detail == "DVTS by PRM-Vote, N = 256, 61.0%, less Best-of-N by PRM-Vote, N = 256, 45.0%; one policy, 2 seeds"
    with pytest.raises(published.PublishedError, match="no two seeds of dvts by prm_vote at N = 64"):
        released.methods(["dvts", "prm_vote"], ["best_of_n", "majority"], 64)


@pytest.mark.parametrize(
    ("searched", "bound", "times"),
    [((70, 75, 80), ">", 16), ((40, 60, 80), "=", 256 / 32), ((30, 40, 45), "<", 1)],  # majority: 50 %; halfway from 16 to 64 is 32
)
def test_how_many_times_fewer_samples_a_search_needs(tmp_path, monkeypatch, searched, bound, times):
    rates = {("beam_search", n): [(rate, 0)] * 2 for n, rate in zip((16, 64, 256), searched)} | {("best_of_n", 256): [(0, 50)] * 2}
    tables(tmp_path, monkeypatch, methods=of_methods(rates, 10**6))
    found = released.efficiency(["beam_search", "prm_vote"], 256)
    assert (found.bound, found.estimate, found.margin) == (bound, pytest.approx(times), 1.0)
    assert found.low == pytest.approx(times, rel=0.02) and found.high == pytest.approx(times, rel=0.02), "a million problems"


def test_an_efficiency_gain_is_as_uncertain_as_its_rates(tmp_path, monkeypatch):
    rates = {("beam_search", n): [(rate, 0)] * 2 for n, rate in ((16, 49), (64, 51), (256, 57))} | {("best_of_n", 256): [(0, 50)] * 2}
    tables(tmp_path, monkeypatch, methods=of_methods(rates, 500))
    found = released.efficiency(["beam_search", "prm_vote"], 256)
    shares = np.array([0.50, 0.49, 0.51, 0.57])
    errors, random = np.sqrt(shares * (1 - shares) / 500), np.random.default_rng(3)
    gains = []
    for of_target, of_search in random.standard_normal((20_000, 2)):
        target, *searched = shares + errors * np.array([of_target, *[of_search] * 3])
        gains.append(256 / np.exp(np.interp(target, searched, np.log([16, 64, 256]))))  # 16 or 1 beyond the ends
    assert (found.low, found.high) == pytest.approx(np.percentile(gains, [2.5, 97.5]), rel=0.1) and found.low < 2
    with pytest.raises(published.PublishedError, match="no two seeds of best_of_n by majority at N = 512"):
        released.efficiency(["beam_search", "prm_vote"], 512)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no published table 'released_gsm8k'; there are "),
        (lambda path: path.write_text(""), "released_gsm8k.csv is damaged .*; restore it, say with git checkout"),
        (lambda path: path.write_text("6B,problems\n1,2\n"), "it lacks 6B with verifier, 175B, 175B with verifier.; restore it"),
    ],
)
def test_a_missing_or_damaged_table_is_said_in_a_line(tmp_path, monkeypatch, damage, message):
    tables(tmp_path, monkeypatch, gsm8k=of_gsm8k())
    damage(tmp_path / "released_gsm8k.csv")
    with pytest.raises(published.PublishedError, match=message) as said:
        released.gsm8k("6B with verifier", "175B")
    assert "\n" not in str(said.value)


def test_the_ledger_has_a_column_for_released_models():
    rows = findings.judge(findings.read(), {}).query("scope == 'released'").set_index("claim")
    assert set(rows["fixed"]) == {"2026-11-29"}, "later than the other scopes"
    tested = rows[rows["verdict"] != "not tested"]["verdict"].to_dict()
    assert tested.keys() == {"fig1-3b", "small-search", "absolute-bins", "tts-over-majority", "shrinking-gain", "efficiency"}
    assert tested["fig1-3b"] == tested["tts-over-majority"] == "supported" and tested["absolute-bins"] == "contradicted"
    assert wording.formatted(rows.loc["fig1-3b"]).startswith("+4.3 [")
    assert "by 209 against 152 of 1319 problems" in rows.loc["fig1-3b", "detail"]
    assert set(rows["problems"]) == {"1319 of GSM8K, 500 of MATH-500, 128 of MATH"}


def test_votes_that_stop_on_released_programs():
    """Ten programs that behave alike are enough after four (0.969 > 0.95) or a window of five; two camps are never enough."""
    alike = {"model": "m", "task": "a", "answers": " ".join("0" * 10), "passed": " ".join("1" * 10)}
    camps = {"model": "m", "task": "b", "answers": " ".join("01" * 5), "passed": " ".join("01" * 5)}
    rows, contrasts = released.stopping(pd.DataFrame([alike, camps]))
    at = rows.set_index(["strategy", "n"])
    assert at.loc[("majority", 10), "samples"] == 10 and at.loc[("majority", 10), "accuracy"] == pytest.approx(0.75), "a tie is half right"
    assert at.loc[("adaptive_consistency", 10), "samples"] == pytest.approx((4 + 10) / 2)
    assert at.loc[("early_stopping", 10), "samples"] == pytest.approx((5 + 10) / 2) and at.loc[("early_stopping", 4), "samples"] == 4
    assert at.loc[("adaptive_consistency", 10), "accuracy"] == pytest.approx(0.75) and rows["n"].max() == 10
    told = contrasts.set_index("method")
    assert told.loc["adaptive_consistency", "majority N"] == 7 and told.loc["early_stopping", "majority N"] == 8
    assert told.loc["adaptive_consistency", "difference"] == pytest.approx(0.75 - (1 + 0.5) / 2)
