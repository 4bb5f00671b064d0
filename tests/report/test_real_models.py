"""Real models beside the pocket family: rows by hand, and figures that say what they show."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from tts.analysis.evidence import Evidence
from tts.claims import published
from tts.report import real_models

VERDICTS = ["supported", "contradicted", "undecided", "not tested"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def ledger(**verdicts):
    """``verdicts``: claim -> its verdicts on the released models and in the pocket scope."""
    held = {"statement": "s", "reference": "r", "estimate": 0.1, "low": 0.0, "high": 0.2, "unit": "points", "bound": "="}
    rows = [{"claim": c, "scope": s, "verdict": v} | held for c, both in verdicts.items() for s, v in zip(("released", "pocket"), both)]
    return pd.DataFrame(rows)


def test_disagreements_come_first_and_what_one_scope_cannot_test_is_left_out():
    held, lost, open_, none = VERDICTS
    table = real_models.verdicts(ledger(a=(held, held), b=(held, open_), c=(none, held), d=(held, lost), e=(lost, held), f=(open_, open_)))
    assert dict(zip(table["claim"], table["together"])) == {
        "d": "disagree", "e": "disagree", "a": "agree", "b": "undecided", "f": "undecided"
    }  # fmt: skip
    assert list(table["claim"]) == ["d", "e", "a", "b", "f"] and table.columns[-1] == "claim"
    assert table.iloc[0][["released", "pocket"]].tolist() == [f"{verdict} +10.0 [+0.0, +20.0]" for verdict in (held, lost)]


def write(folder, **tables):
    for name, (columns, rows) in tables.items():
        pd.DataFrame(rows, columns=columns.split()).to_csv(folder / f"released_{name}.csv", index=False)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """A few rows of each table."""
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    histogram = [
        ("L-1B-Instruct", "MATH", 0.0, 0.1, 3, 0),
        ("L-1B-Instruct", "MATH", 0.9, 1.0, 1, 0),
        ("L-1B-Instruct", "GSM8K", 0.9, 1.0, 5, 0),
    ]
    curve = [("L-1B-Instruct", "MATH", "pass", n, n / 8, n / 9, n / 7, 100, 4) for n in (1, 4)]
    curve += [
        ("L-8B", name, series, n, 0.5, 0.4, 0.6, 100, 4) for name in ("GSM8K", "MATH") for series in ("pass", "majority") for n in (1, 4)
    ]
    rates = [("best_of_n", 256, seed, 40.0, 50.0, 30.0 + 10 * seed, "MATH", 100) for seed in (0, 1)]
    rates += [("beam_search", n, seed, 45.0, 55.0, 50.0, "MATH", 100) for n in (16, 256) for seed in (0, 1)]
    write(
        tmp_path,
        pass_at_1=("model problem_set low high problems at_low", histogram),
        curves=("model problem_set series n accuracy low high problems samples", curve),
        methods=("method n seed prm_max prm_vote majority problem_set problems", rates),
        coder=("problem_set tests 1.5B 7B problems", [("mbpp", "base", 0, 1, 3), ("mbpp", "base", 1, 0, 1), ("mbpp", "plus", 1, 1, 4)]),
    )
    pd.DataFrame([(0, 1, 0, 1, 3), (1, 1, 1, 1, 2)], columns=["6B", "6B with verifier", "175B", "175B with verifier", "problems"]).to_csv(
        tmp_path / "released_gsm8k.csv", index=False
    )


def results(policy, methods):
    held = {"accuracy": 0.5, "low": 0.4, "high": 0.6, "problems": "pocket-main", "count": 7}
    return pd.DataFrame([{"policy": policy, "method": m, "n": n} | held for m in methods for n in (4, 16)])


def test_a_tenth_of_pass_at_1_stands_at_its_middle(tables):
    assert {name: values.tolist() for name, values in real_models.pass_at_1(["MATH"]).items()} == {
        "L-1B, MATH": pytest.approx([0.05, 0.05, 0.05, 0.95])
    }


def test_curves_of_released_models_and_of_results(tables):
    rows = real_models.curves(results("policy-20k", ["pass", "majority", "dvts"]))
    assert rows["panel"].unique().tolist() == ["L-1B, MATH", "L-8B, GSM8K and MATH", "pocket 20k"]
    single = rows[(rows["panel"] == "L-1B, MATH") & (rows["series"] == "Majority")]
    error = np.sqrt(0.005 / 2 + 0.35 * 0.65 / 100)  # variance of 30 and 40 % over seeds, and over problems
    assert single[["n", "accuracy", "low", "high"]].to_numpy().tolist() == [
        pytest.approx([256, 0.35, 0.35 - 1.96 * error, 0.35 + 1.96 * error])
    ]
    assert set(rows[rows["panel"] == "pocket 20k"]["series"]) == {"Pass@N", "Majority"}
    figure = real_models.curve_panels(rows)
    assert [ax.get_title() for ax in figure.axes] == rows["panel"].unique().tolist()
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["Pass@N", "Majority", "Pass@N, GSM8K", "Majority, GSM8K"]


def test_methods_show_every_seed_and_their_mean(tables):
    rows = real_models.methods({"pocket 32k, PRM-Vote": results("policy-32k", ["cot", "majority", "dvts"])})
    vote, best, pocket = (part for _, part in rows.groupby("panel", sort=False))
    assert vote.groupby("method")["accuracy"].mean().to_dict() == pytest.approx({"majority": 0.35, "best_of_n": 0.5, "beam_search": 0.55})
    assert best.groupby("method")["accuracy"].mean()["beam_search"] == pytest.approx(0.45) and set(pocket["method"]) == {"majority", "dvts"}
    figure = real_models.method_panels(rows)
    points, mean = [line for line in figure.axes[0].lines if line.get_color() == "C0"][::-1]
    assert sorted(points.get_ydata()) == pytest.approx([0.3, 0.4]) and mean.get_ydata().tolist() == pytest.approx([0.35])
    assert "one seed" in [text.get_text() for text in figure.legends[0].get_texts()]


class Written(Evidence):
    """Two policies on four problems: the large one solves all with a verifier, half without, the small one none and one."""

    def accuracy(self, problem_set, policy, prm, method, n, rule=None):
        assert (prm, n) == ((None, 1) if method == "cot" else ("prm", 64))
        right = {("small", "cot"): 0, ("small", "best_of_n"): 1, ("large", "cot"): 2, ("large", "best_of_n"): 4}[policy, method]
        return np.array([1.0] * right + [0.0] * (4 - right))

    policy_tokens = prm_tokens = prompt_tokens = None


def test_systems_are_compared_problem_by_problem(tables):
    outcomes = {"GSM8K, 6B and 175B": real_models.gsm8k(), "pocket": real_models.of_pocket(Written(), "set", "prm", 64, "small", "large")}
    rows = real_models.accuracies(outcomes).set_index(["problems", "system"])["accuracy"]
    assert rows["GSM8K, 6B and 175B"].tolist() == [0.4, 1.0, 0.4, 1.0] and rows["pocket"].tolist() == [0.0, 0.25, 0.5, 1.0]
    differences = real_models.differences(outcomes, real_models.PAIRS).set_index(["problems", "pair"])
    assert differences.loc["pocket", "difference"].to_dict() == {
        "small with verifier − large": -0.25, "small with verifier − small": 0.25, "large with verifier − large": 0.5, "large − small": 0.5
    }  # fmt: skip
    figure = real_models.bars_and_differences(pd.concat([real_models.accuracies(outcomes), differences.reset_index()]))
    assert [ax.get_title() for ax in figure.axes] == ["", *outcomes]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()][0] == "small with verifier\n− large"


def test_coders_by_problem_set_and_tests(tables):
    outcomes = real_models.coder()
    assert {name: table.sum().tolist() for name, table in outcomes.items()} == {"MBPP, 1.5B and 7B": [1, 3], "MBPP+, 1.5B and 7B": [4, 4]}
    differences = real_models.differences(outcomes, {"large − small": ("large", "small")})
    assert differences["difference"].tolist() == [0.5, 0.0]
    figure = real_models.bars_and_differences(pd.concat([real_models.accuracies(outcomes), differences]), "pair")
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == list(outcomes)
