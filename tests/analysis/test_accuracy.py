"""From hand-written trajectories to accuracies, tables and costs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from stores import hand_written, trajectory
from transformers import MixtralConfig, MixtralForCausalLM

from tts.analysis import costs, flops, grades, stats
from tts.analysis.accuracy import Results
from tts.models.files import load_config
from tts.models.loading import load_causal_lm
from tts.report import tables
from tts.store.store import Store
from tts.strategy import choices
from tts.tasks.grading import Grader


@pytest.fixture
def written(tiny_lm, tmp_path):
    results = hand_written(tiny_lm, tmp_path)
    [problems], [policy], [prm] = results.grid.problems, results.grid.policies, results.grid.prms
    return results, problems, policy, prm


def test_accuracies_by_hand(written):
    results, problems, policy, prm = written
    assert results.accuracy(problems, policy, None, "cot", 1).tolist() == [1, 1]
    assert results.accuracy(problems, policy, None, "pass", 1).tolist() == [0.5, 0.25]
    assert results.accuracy(problems, policy, None, "pass", 2).tolist() == pytest.approx([1 - 1 / 6, 1 - 3 / 6])
    # At n = 4 problem a ties two against two, which is half a right answer; b goes to 3.
    assert results.accuracy(problems, policy, None, "majority", 4).tolist() == [0.5, 0]
    # PRM-Max takes 14 (0.9) for a; for b the best answered sample is 2 (0.6), as the one without an answer cannot win.
    assert results.accuracy(problems, policy, prm, "best_of_n", 4).tolist() == [0, 1]
    # Pairs of a: the right ones win where 1 is absent: {0,2}, {0,3}, {2,3} of six.
    assert results.accuracy(problems, policy, prm, "best_of_n", 2)[0] == pytest.approx(3 / 6)
    assert results.accuracy(problems, policy, prm, "beam_search", 4).tolist() == [1, 0]


def test_dvts_at_a_smaller_budget_draws_whole_subtrees(written):
    results, problems, policy, prm = written
    # a: subtree 0 is right, subtree 1 has nothing. b: subtree 0 says 3 with the better score, subtree 1 says 2.
    assert results.accuracy(problems, policy, prm, "dvts", 4).tolist() == [1, 0]
    assert results.accuracy(problems, policy, prm, "dvts", 2).tolist() == [0.5, 0.5]


def test_the_first_samples_alone_as_published_tables_count(written):
    results, problems, policy, prm = written
    first = Results(results.grid.model_copy(update={"subsets": "first"}), results.store)
    at_two = {method: first.accuracy(problems, policy, prm, method, 2).tolist() for method in ("pass", "majority", "best_of_n", "dvts")}
    # Of a 15 and 14 come first, and 14 has the better score; of b 2 and nothing. The first subtree of a is right, that of b wrong.
    assert at_two == {"pass": [1, 1], "majority": [0.5, 1], "best_of_n": [0, 1], "dvts": [1, 0]}
    for method in at_two:
        every = [held.accuracy(problems, policy, prm, method, 4).tolist() for held in (first, results)]
        assert every[0] == every[1], "at N there is one subset"


def test_tokens_of_a_part_are_that_part(written):
    results, problems, policy, prm = written
    assert results.policy_tokens(problems, policy, prm, "best_of_n", 2).tolist() == [20, 20]
    assert results.policy_tokens(problems, policy, prm, "dvts", 4).tolist() == [50, 50]
    assert results.policy_tokens(problems, policy, prm, "beam_search", 2).tolist() == [30, 30]
    assert results.prm_tokens(problems, policy, prm, "majority", 4).tolist() == [0, 0]
    assert results.prm_tokens(problems, policy, prm, "best_of_n", 4).tolist() == [60, 60]
    assert np.isnan(results.prm_tokens(problems, policy, prm, "best_of_n", 2)).all()  # shared steps: nobody knows


def test_a_model_without_a_card_has_unknown_not_free_training(written):
    results, problems, policy, prm = written
    (Path(policy) / "card.json").unlink()
    rows = costs.table(results, problems, prm, "best_of_n", 4)
    assert rows["policy training"].isna().all() and (rows["policy decode"] > 0).all()


def test_policies_by_size():
    assert costs.by_size(["policy-94k", "policy-6k", "policy-20k"]) == ["policy-6k", "policy-20k", "policy-94k"]


def test_the_answer_may_stand_before_the_last_step():
    steps = ["7+8=15", "so \\boxed{15}.", "I hope it is correct."]
    with Grader() as grader:
        assert grades.of_row({"answer": "15", "trajectories": [{"steps": steps, "status": "finished"}]}, grader).correct == [True]


def test_intervals_of_certain_results_are_not_empty():
    nothing, everything = stats.of_accuracy([0.0] * 60), stats.of_accuracy([1.0] * 60)
    assert nothing.low == 0 and 0.03 < nothing.high < 0.10 and 0.90 < everything.low < 0.97
    level = stats.of_accuracy([0.5] * 9)
    assert level.method == "Wilson" and level.low < 0.3 and level.high > 0.7, "nine resampled halves would say that nothing is uncertain"


def test_the_method_of_an_interval_follows_a_rule_and_does_not_jump():
    values = np.zeros(60)
    nothing = stats.of_accuracy(values)
    values[7] = 0.01  # one of a hundred drawn subsets
    hardly = stats.of_accuracy(values)
    assert nothing.method == hardly.method == "Wilson" and hardly.high == pytest.approx(nothing.high, abs=1e-3)
    for right, method in ((7, "Wilson"), (8, "bootstrap over problems"), (52, "bootstrap over problems"), (53, "Wilson")):
        assert stats.of_accuracy(np.arange(60) < right).method == method


@pytest.mark.parametrize("problems", [30, 100])
@pytest.mark.parametrize("right", [1, 4, 7, 9, 14])
def test_intervals_of_accuracies_cover_what_they_say(problems, right):
    """Rates that differ between problems, 64 samples each: at least 90 of 100 intervals of 95 % hold the mean, 93 in the long run."""
    rng, share = np.random.default_rng([problems, right]), right / problems
    rates = rng.beta(share, 1 - share, (300, problems))
    intervals = [stats.of_accuracy(values) for values in rng.binomial(64, rates) / 64]
    assert np.mean([interval.low <= share <= interval.high for interval in intervals]) > 0.9


def test_every_method_and_budget_is_in_the_table(written):
    results, problems, policy, prm = written
    counts = results.table.groupby("method").size().to_dict()
    assert counts == {"cot": 1, "pass": 3, "majority": 3, "best_of_n": 3, "beam_search": 2, "dvts": 2}
    assert ((results.table["low"] <= results.table["accuracy"]) & (results.table["accuracy"] <= results.table["high"])).all()


def test_lowest_and_highest_over_rules_by_hand(written, tmp_path):
    given, problems, policy, prm = written
    grid = given.grid.model_copy(update={"methods": ["majority", "best_of_n"]})
    results, [chunk] = Results(grid, Store(tmp_path / "others")), grid.chunks(problems)
    # What is right first, then 14 twice for a and 3 once for b; the last two of b have no answer.
    held = {"a": [[0.9, 0.4], [0.3, 0.8], [0.2, 0.5], [1.0, 1.0]], "b": [[0.5, 0.9], [0.6, 0.7], [1.0, 1.0], [1.0, 1.0]]}
    answers = {"a": ["15", "14", "14", None], "b": ["2", "3", None, None]}
    for run in (("cot", policy), ("pool", policy, None, 4), ("scores", policy, prm, 4)):
        rows = list(given.store.run(grid.spec(*run)).read(chunk))
        for row in rows if run[0] != "cot" else []:
            scores = held[row["problem_id"]] if run[0] == "scores" else [[]] * 4
            row["trajectories"] = [
                trajectory(a, None, (i,)) | {"scores": s} for i, (a, s) in enumerate(zip(answers[row["problem_id"]], scores))
            ]
        results.store.open(grid.spec(*run)).write(chunk, rows, 1.0)
    # a: min 0.4 against 0.3 and 0.2, last 0.4 against 0.8 and 0.5, avg 0.65 against 0.55 and 0.35, product 0.36 against 0.24 and 0.1.
    # b: min 0.5 against 0.6, last 0.9 against 0.7, avg 0.7 against 0.65, product 0.45 against 0.42.
    right = {"min+max": (1, 0), "min+vote": (0, 0), "last+max": (0, 1), "last+vote": (0, 1), "avg+max": (1, 1), "avg+vote": (0, 1)}
    right |= {"product+max": (1, 1), "product+vote": (1, 1), "majority": (0, 0.5)}
    asked = (problems, policy, prm, "best_of_n", 4)
    assert {str(rule): tuple(results.accuracy(*asked, rule)) for rule in results.rules(*asked)} == right
    rows = tables.over_rules(results, problems)
    assert [*rows] == [*results.table, "lowest", "highest"] and rows[[*results.table]].equals(results.table)
    ends = rows.set_index(["method", "n"])[["accuracy", "lowest", "highest"]]
    assert ends.loc["best_of_n", 4].tolist() == [0.5, 0, 1]
    assert ends.loc["best_of_n", 1].tolist() == [0.25, 0.25, 0.25], "of one sample every rule takes that one"
    assert rows[rows["prm"] == ""][["lowest", "highest"]].isna().all(axis=None), "what no PRM guides has no rules"


def test_costs_by_hand(written):
    results, problems, policy, prm = written
    size = sum(p.numel() for p in load_causal_lm(policy).parameters())
    study = costs.cost(results, problems, policy, prm, "best_of_n", 4, full=False)
    assert (study.policy_training, study.prm_training, study.prm_inference) == (5e6, 0, 0)
    assert (study.decode, study.inference, study.deployed) == (2 * size * 80, 2 * size * 80, size)
    full = costs.cost(results, problems, policy, prm, "best_of_n", 4, full=True)
    config = load_config(policy)
    width = config.num_attention_heads * config.head_dim
    # Eight solutions of ten tokens after prompts of seven, 4 L d t of attention at contexts 8 to 17; the PRM's 120 tokens at their mean.
    looked = 8 * sum(range(8, 18)) + 2 * 49 / 2 + 120 * 12.5
    assert (full.prefill, full.decode, full.prm_inference) == (2 * size * 14, 2 * size * 80, 2 * size * 120)
    assert full.attention == pytest.approx(4 * config.num_hidden_layers * width * looked)
    # A policy that is its own implicit PRM is trained once and deployed once.
    assert (full.training, full.deployed) == (5e6, size)


def test_a_prm_adds_what_its_policy_has_not_paid_for(written, tmp_path):
    results, problems, policy, prm = written
    other = tmp_path / "other"
    shutil.copytree(policy, other)
    (other / "card.json").write_text(json.dumps({"training_flops": 3e6}))
    size = costs.shape_of(policy).parameters
    spec = results.grid.spec("scores", policy, f"implicit:{other}", 4)
    [chunk] = results.grid.chunks(problems)
    results.store.open(spec).write(chunk, list(results.store.run(results.grid.spec("scores", policy, prm, 4)).read(chunk)), 1.0)
    full = costs.cost(results, problems, policy, f"implicit:{other}", "best_of_n", 4, full=True)
    assert (full.policy_training, full.prm_training, full.deployed) == (5e6, 3e6, 2 * size)


def test_the_base_model_of_a_prm():
    assert costs.solver_of("implicit:policy-216k") == "policy-216k" and costs.solver_of("prm-qwen-54k") == "policy-32k"
    assert costs.solver_of("dial:0.1,0.1") is None


def test_bins_by_hand():
    pass_at_1 = [1.0, 0.5, 0.49, 0.1, 0.09, 0.0]
    assert choices.absolute_bins(pass_at_1).tolist() == ["easy", "easy", "medium", "medium", "hard", "hard"]
    assert choices.quantile_bins([0.9, 0.8, 0.7]).tolist() == ["easy", "medium", "hard"]
    counts = np.unique(choices.quantile_bins(np.zeros(100)), return_counts=True)[1]
    assert counts.max() - counts.min() <= 1


def test_flops_against_the_profiler(tiny_lm):
    """2N per token and the attention term, against what torch counts, with eager attention."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_lm, attn_implementation="eager")
    config, length = model.config, 32
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, length, dtype=torch.int64))
    # The input embedding is looked up, not multiplied with.
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name)
    shape = flops.Shape(matrices, config.num_hidden_layers, config.num_attention_heads * config.head_dim)
    # Eager attention computes the masked half too: twice the causal term.
    causal = flops.attention(shape, length**2 / 2)
    assert counter.get_total_flops() == pytest.approx(2 * matrices * length + 2 * causal, rel=0.005)


def test_answering_sums_its_tokens():
    shape = flops.Shape(1000, 2, 64)
    found = flops.answering(shape, [5.0], generated=5, solution=5)
    assert found.decode == 5 * 2 * 1000 and found.prefill == 5 * 2 * 1000
    assert found.attention == 4 * 2 * 64 * (sum(range(6, 11)) + 5 * 5 / 2)


def test_a_mixture_of_experts_computes_with_its_active_parameters():
    dense, mixture = flops.Shape(400), flops.Shape(1000, idle=600)
    a, b = (flops.answering(shape, [7.0], generated=10, solution=10) for shape in (dense, mixture))
    assert a.inference == b.inference and (a.deployed, b.deployed) == (400, 1000)


def test_active_parameters_of_a_mixture_from_its_weights(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = MixtralForCausalLM(MixtralConfig(**sizes, vocab_size=40, num_local_experts=4, num_experts_per_tok=1))
    model.save_pretrained(tmp_path)
    shape = costs.shape_of(str(tmp_path))
    # Three of four experts idle in each of two layers, each with three matrices of 16 x 24.
    assert shape.idle == 2 * 3 * 3 * 16 * 24 and shape.parameters == model.num_parameters()


def test_break_even():
    cheap, dear, queries = flops.Cost(100.0, 50.0, decode=10.0, prm_inference=10.0), flops.Cost(990.0, decode=5.0), 280
    assert cheap.training + queries * cheap.inference / 5 == dear.training + queries * dear.inference / 5
    assert flops.cheaper(cheap, dear, 5) == "up to 280 queries" and flops.cheaper(dear, cheap, 5) == "from 280 queries on"
    assert flops.cheaper(cheap, flops.Cost(990.0, decode=50.0), 5) == "at any number"
    small, large = flops.Cost(100.0, decode=20.0), flops.Cost(400.0, decode=5.0)
    assert flops.cheaper(small, large, 5) == "up to 100 queries" and flops.cheaper(large, small, 5) == "from 100 queries on"
    assert flops.cheaper(small, flops.Cost(400.0, decode=20.0), 5) == "at any number"
    assert flops.cheaper(flops.Cost(400.0, decode=20.0), small, 5) == "at no number"
    assert flops.cheaper(small, flops.Cost(math.nan, decode=5.0), 5) == "unknown"


def test_three_claims_apart():
    small = flops.Cost(100.0, 100.0, decode=10.0, prm_inference=30.0, deployed=20.0)
    found = flops.against(small, flops.Cost(900.0, decode=60.0, deployed=10.0), 5)
    assert [found[f"times fewer {claim}"] for claim in ("total FLOPs", "inference FLOPs", "deployed parameters")] == [4.0, 1.5, 0.5]
