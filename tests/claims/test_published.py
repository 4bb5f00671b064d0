"""The published tables: intervals by hand, and what follows from the tables to the digits that the study prints."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from tts.claims import published

Z = 1.959963984540054


def wilson(p, n):
    centre, half = p + Z * Z / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return (centre - half) / (1 + Z * Z / n), (centre + half) / (1 + Z * Z / n)


def test_an_unknown_table_or_problem_set_is_refused_with_what_there_is():
    with pytest.raises(published.PublishedError, match="no published table 'table9'; there are fig1_claims, fig6.*, sizes, table1_"):
        published.read("table9")
    with pytest.raises(published.PublishedError, match="'GSM8K'; there are MATH-500, AIME24"):
        published.accuracy(50.0, "GSM8K")
    with pytest.raises(published.PublishedError, match="no convention 'half'; there are the study's, active"):
        published.counted("half")


def test_an_accuracy_gets_wilson_s_interval_of_its_number_of_problems():
    found = published.accuracy(23.3, "AIME24")
    assert (found.low, found.high) == pytest.approx(wilson(0.233, 30))
    assert published.accuracy(72.2, "MATH-500").high - published.accuracy(72.2, "MATH-500").low == pytest.approx(0.0782, abs=1e-3)


def test_a_difference_gets_newcombe_s_interval():
    """Newcombe 1998, method 10: the two Wilson intervals, combined by their distances from the estimates."""
    (low_a, high_a), (low_b, high_b) = wilson(0.722, 500), wilson(0.714, 500)
    found = published.combination([72.2, 71.4], [1, -1], "MATH-500")
    assert found.estimate == pytest.approx(0.008)
    assert found.low == pytest.approx(0.008 - np.hypot(0.722 - low_a, high_b - 0.714))
    assert found.high == pytest.approx(0.008 + np.hypot(high_a - 0.722, 0.714 - low_b))


def test_table3_gets_an_interval_for_each_accuracy():
    rows = published.table3()
    assert len(rows) == 30 and ((rows["low"] < rows["accuracy"]) & (rows["accuracy"] < rows["high"])).all()


def test_tables_4_and_5_recompute_to_the_printed_digits():
    assert published.table4()["agrees"].all()
    table5 = published.table5()
    assert table5["agrees"].all() and table5["error_reduction_percent"].between(46, 69).all()


def test_tables_that_disagree_are_found():
    rows = published.disagreements()
    assert len(rows) == 5 and rows["agrees"].sum() == 3
    found = rows[~rows["agrees"]].set_index("model")[["accuracy", "accuracy again"]]
    assert found.loc["Llama-3.2-3B-Instruct"].tolist() == [75.6, 78.2]
    assert found.loc["Qwen2.5-1.5B-Instruct"].tolist() == [81.8, 85.6]


def test_every_claim_has_a_verdict_for_each_value_that_was_published():
    rows = published.claims()
    asked = published.read("fig1")
    assert set(zip(rows["claim"], rows["problems"])) == set(zip(asked["claim"], asked["problem_set"]))
    title = rows[(rows["claim"] == "1B beats 405B") & (rows["problems"] == "MATH-500")]
    assert title["verdict"].tolist() == ["undecided"] and title[["TTS", "CoT"]].to_numpy().tolist() == [[72.2, 71.4]]
    twice = rows[(rows["claim"] == "3B beats 405B") & (rows["problems"] == "MATH-500")].set_index("source")["verdict"]
    assert twice.to_dict() == {"Table 3": "undecided", "Table 5": "supported"}


def test_what_table_4_says_depends_on_what_is_counted():
    ratios = published.flops_comparisons().set_index(["small with TTS", "counted"])["times fewer total FLOPs"]
    # 405 x 15 over 3 x 9, over that and 7 x 18, over that and 72 x 18: FLOPs are 6ND, and inference is one millionth of it.
    by_hand = {
        ("Llama-3.2-3B-Instruct", "the study's"): 405 * 15 / 27,
        ("Llama-3.2-3B-Instruct", "full, 7B PRM"): 405 * 15 / (27 + 126),
        ("Llama-3.2-3B-Instruct", "full, 72B PRM"): 405 * 15 / (27 + 1296),
        ("DeepSeek-R1-Distill-Qwen-7B", "the study's"): 671 * 14.8 / 126,
        ("DeepSeek-R1-Distill-Qwen-7B", "active parameters"): 37 * 14.8 / 126,
        ("DeepSeek-R1-Distill-Qwen-7B", "full, 72B PRM"): 37 * 14.8 / (126 + 1296),
    }
    assert {key: ratios[key] for key in by_hand} == pytest.approx(by_hand, rel=1e-4)


def test_active_parameters_turn_r1_s_inference_round():
    rows = published.table4().set_index("model")["inference_active_parameters"]
    assert rows["DeepSeek-R1"] == pytest.approx(4.03e18 * 37 / 671) and rows["DeepSeek-R1"] < rows["DeepSeek-R1-Distill-Qwen-7B"] == 8.15e17


def test_the_full_convention_by_hand():
    cost = published.counted("full, 7B PRM")["Llama-3.2-3B-Instruct"]
    tokens, prompts, solution = 3.07e17 / 6e9, 500 * 200, 4.25e17 / 810e9 / 500
    assert (cost.decode, cost.prefill) == pytest.approx((3.07e17, 6e9 * prompts))
    assert cost.prm_inference == pytest.approx(14e9 * (tokens + prompts)) and cost.deployed == 10e9
    context = 200 + (solution + 1) / 2
    policy = 4 * 28 * 3072 * (tokens * context + 500 * 200**2 / 2)
    assert cost.attention == pytest.approx(policy + 4 * 28 * 3584 * (tokens + prompts) * context)


def test_two_published_accuracies_have_newcombes_interval():
    found = published.combination([72.2, 71.4], [1, -1], "MATH-500")
    low, high = confint_proportions_2indep(361, 500, 357, 500, method="newcomb")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert found.estimate == pytest.approx(0.008)
