"""Training: a run that is stopped and continued ends with the weights of one that was not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torture.invoke import in_process

from tts.models.loading import load_causal_lm
from tts.study import train_cli
from tts.study.terminal import guarded
from tts.tasks.pocket_traces import solutions
from tts.training.loop import Schedule, TrainingError, train
from tts.training.pocket import cards
from tts.training.pocket.build import corpus_batches, language_model_loss, new_policy, save, train_model
from tts.training.pocket.corpora import pack, policy_sequences
from tts.training.pocket.recipes import FURTHER, POLICIES, PRMS, ROWS_PER_BATCH, PolicyRecipe, family

TINY = PolicyRecipe(width=16, layers=1, heads=1, inner=16)


class StopsAt:
    """Batches that are interrupted, as by Ctrl-C, when a step is reached."""

    def __init__(self, batches, step):
        self.batches, self.step = batches, step

    def __getitem__(self, step):
        if step == self.step:
            raise KeyboardInterrupt
        return self.batches[step]


@pytest.fixture(scope="module")
def batches():
    corpus = pack(policy_sequences(solutions(0)), ROWS_PER_BATCH * 256 * 8, "test")
    return corpus_batches(corpus, seed=0)


def run(batches, folder, recipe="tiny", every=0.0):
    model = new_policy(TINY)
    progress = train(model, language_model_loss, batches, Schedule(8, 1e-2, warmup=2), folder, "test", recipe, every, compile=False)
    return model.state_dict(), progress


def test_a_stopped_run_continues_to_the_same_weights(batches, tmp_path):
    unbroken, _ = run(batches, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        run(StopsAt(batches, 5), tmp_path / "stopped")
    resumed, progress = run(batches, tmp_path / "stopped")
    assert progress.step == 8
    for name, weights in unbroken.items():
        torch.testing.assert_close(resumed[name], weights, rtol=0, atol=0)


def test_a_checkpoint_of_another_recipe_is_not_continued(batches, tmp_path):
    run(batches, tmp_path)
    with pytest.raises(TrainingError, match=r"state.safetensors was made by another recipe; delete .* to train afresh"):
        run(batches, tmp_path, recipe="another")


def test_training_lowers_the_loss(batches, tmp_path):
    before = language_model_loss(new_policy(TINY), batches[0]).item()
    model = new_policy(TINY)
    model.load_state_dict(run(batches, tmp_path)[0])
    assert language_model_loss(model, batches[0]).item() < before - 0.3


def test_every_pass_over_a_corpus_is_shuffled_anew(batches):
    first, second = batches[0]["ids"], batches[batches.per_pass]["ids"]
    assert not np.array_equal(first, second)


def test_learning_rate_rises_then_falls_to_a_twentieth():
    schedule = Schedule(1000, 1e-2, warmup=100)
    rates = [schedule.learning_rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-2)
    assert rates[99] == pytest.approx(1e-2) and rates[-1] == pytest.approx(5e-4, rel=0.01)


def test_a_prm_without_its_policies_says_which_to_train(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"prm-qwen-54k starts from policies that are not in .*: train policy-6k, policy-10k, policy-20k, policy-32k first",
    ):
        train_model("prm-qwen-54k", tmp_path, tmp_path)


def test_an_unknown_model_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tts.train", "models", "policy-9b"])
    done = in_process(lambda: guarded(train_cli.app))
    assert done.code == 2 and "no recipe named policy-9b; there are policy-6k" in done.err and "Traceback" not in done.err


def test_the_family_is_ordered_by_size_and_no_prm_is_better_informed_than_it_says():
    for domain in ("arithmetic", *FURTHER):
        sizes = [sum(p.numel() for p in new_policy(POLICIES[name]).parameters()) for name in family(domain)]
        assert sizes == sorted(sizes) and sizes[-1] >= (100 if domain == "arithmetic" else 60) * sizes[0]
    for recipe in PRMS.values():
        assert {recipe.start, *recipe.samples_from} <= set(family(recipe.domain))


def test_a_model_stored_in_half_precision_runs_in_single_precision(tmp_path):
    model = new_policy(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save(model, tmp_path, half=True)
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    loaded = load_causal_lm(str(tmp_path)).state_dict()
    assert loaded.keys() == before.keys() and {value.dtype for value in loaded.values()} == {torch.float32}
    assert all(torch.equal(loaded[name], value.half().float()) for name, value in before.items())


def test_three_training_solutions_of_one_problem():
    """(5 + 42) + (12 + 41) = 47 + 53 = 100; the PRM's has 48 in the place of 47."""
    rows = cards.examples().reset_index()
    assert set(rows["problem"]) == {"(5+42)+(12+41)=?"}
    policy, long, prm = (rows[rows["for"] == whose] for whose in ("policy", "long-CoT policy", "PRM"))
    assert list(policy["step"]) == ["5+42=47", "12+41=53", "47+53=100", "\\boxed{100}"] and set(policy["learnt"]) == {"to write it"}
    assert list(long.loc[long["learnt"] == "to read it", "step"]) == ["47+53=110"] and "53+47=100 no" in set(long["step"])
    assert list(zip(prm["step"].str.split("=").str[1], prm["learnt"]))[:3] == [("53", "score 1"), ("47", "score 1"), ("101", "score 0")]


def test_what_the_cards_show():
    """Twelve million tokens each; 6k to 668k by losses and greedy accuracies that the cards state."""
    rows = cards.checks()
    assert rows["the cards show it"].tolist() == ["yes"] * 3 and rows["by"].tolist() == [
        "12.0 M to 12.0 M",
        "0.518 to 0.026",
        "0.0075 to 0.9025",
    ]
