"""Votes weighted by the policy's confidence: weights worked out by hand, what engines keep, and what a pool without it says."""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tts.analysis.accuracy import Results, weighed_vote
from tts.generate.grid import ParameterError, grid_of
from tts.generate.runner import fill
from tts.policies.transformers import TransformersPolicy
from tts.search import sample_pool
from tts.search.confidence import borda, filtered, likelihood, summary
from tts.search.driver import Driver
from tts.search.registry import Settings, method_of
from tts.search.sampling import Sampling
from tts.store.store import Store, StoreError

DRAWN = np.array([[-1.0, -2.0, 3.0, 0.5], [-0.5, -0.1, 2.0, 0.7], [-2.0, -1.0, 2.0, 0.9], [-1.5, -3.0, 1.0, 0.1]])
VOTES = ["confidence_vote", "tail_confidence", "self_certainty", "deepconf"]


def told(**constants):
    return Settings(constants=constants)


def test_a_samples_confidence_is_of_its_tokens():
    logs, certainty = -np.arange(1.0, 21.0), np.arange(20.0)[::-1]  # a tenth are two tokens
    assert summary(logs, certainty) == pytest.approx((-10.5, -19.5, 9.5, 0.5))
    assert summary([-1.0, -3.0]) == pytest.approx((-2.0, -3.0, np.nan, np.nan), nan_ok=True) and summary([]) == ()


def test_likelihoods_are_geometric_means():
    assert likelihood(DRAWN, told()) == pytest.approx(np.exp([-1, -0.5, -2, -1.5]))
    assert likelihood(DRAWN, told(), kind=1) == pytest.approx(np.exp([-2, -0.1, -1, -3]))


def test_borda_votes_go_by_ranks():
    assert borda(DRAWN, told(borda=1.0)) == pytest.approx([4, 2.5, 2.5, 1]), "two are level at places 2 and 3"
    assert borda(DRAWN, told(borda=0.0)) == pytest.approx([1, 1, 1, 1])
    assert borda(DRAWN[:1], told(borda=2.0)) == pytest.approx([1])


def test_deepconf_lets_the_most_certain_vote():
    assert filtered(DRAWN, told(keep=0.5)) == pytest.approx([0, 0.7, 0.9, 0])
    assert filtered(DRAWN, told(keep=0.01)) == pytest.approx([0, 0, 0.9, 0]) and filtered(DRAWN, told(keep=1.0)).min() > 0


@pytest.mark.parametrize(
    ("group", "correct", "weights", "expected"),
    [
        ([0, 0, 1], [1, 1, 0], [1, 1, 3], 0.0),
        ([0, 0, 1], [1, 1, 0], [1, 1, 1.5], 1.0),
        ([0, 0, 1], [1, 1, 0], [1, 1, 2], 0.5),
        ([0, 0, 0], [1, 0, 0], [1, 1, 1], 1 / 3),
        ([-1, -1, 1], [0, 0, 1], [9, 9, 1], 1.0),
        ([-1, -1], [0, 0], [9, 9], 0.0),
    ],
)
def test_the_largest_sum_wins(group, correct, weights, expected):
    assert weighed_vote(np.array(group), np.array(correct, bool), np.array(weights, float)) == pytest.approx(expected)


@pytest.mark.parametrize("batch", [3, 64])
def test_the_engine_tells_the_models_own_probabilities(tiny_lm, batch):
    """Also of samples that shared rows, and that waited for one."""
    policy = TransformersPolicy(str(tiny_lm), Sampling(temperature=0.8, max_tokens=30, seed=5, confidence=True), batch)
    model = AutoModelForCausalLM.from_pretrained(tiny_lm).eval()
    outcomes = Driver(policy).run(
        [(policy.root(f"p{n}", text), sample_pool(policy.root(f"p{n}", text), 8)) for n, text in enumerate(("7,+8=?", "1,+1=?"))]
    )
    for outcome in outcomes:
        for sample in outcome.trajectories:
            prompt, tokens = list(sample.prompt), list(sample.tokens)
            with torch.inference_mode():
                logs = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            own = logs[torch.arange(len(tokens)), torch.tensor(tokens)].numpy()
            certainty = -logs.mean(-1).numpy() - math.log(logs.shape[-1])
            assert sample.confidence == pytest.approx(summary(own, certainty), abs=1e-4)
    policy.sampling = Sampling(temperature=0.8, max_tokens=30, seed=5)
    plain = Driver(policy).run([(root := policy.root("p0", "7,+8=?"), sample_pool(root, 8))])[0]
    assert [c.tokens for c in plain.trajectories] == [c.tokens for c in outcomes[0].trajectories], "the samples are the same"
    assert all(c.confidence == () for c in plain.trajectories)


@pytest.fixture(scope="module")
def sizes(tiny_lm):
    return {
        "problems": {"pocket-main": 3},
        "policies": [str(tiny_lm)],
        "samples": 6,
        "budgets": [4, 6],
        "max_tokens": 40,
        "temperature": 1.0,
    }


def test_a_pool_keeps_it_where_a_vote_asks(sizes, tiny_lm, tmp_path):
    grid, plain = grid_of(**sizes, methods=["majority", *VOTES]), grid_of(**sizes, methods=["majority"])
    own, other = (g.spec("pool", str(tiny_lm), n=6) for g in (grid, plain))
    assert own.key != other.key and own.sampling == other.sampling | {"confidence": True}
    assert grid.spec("cot", str(tiny_lm)).key == plain.spec("cot", str(tiny_lm)).key
    store = Store(tmp_path)
    fill(grid, store)
    rows = list(store.run(own).rows())
    assert all(len(row["confidences"]) == len(row["trajectories"]) == 6 and len(row["confidences"][0]) == 4 for row in rows)
    results = Results(grid, store)
    for name in VOTES:
        found = results.accuracy("pocket-main", str(tiny_lm), None, name, 4)
        assert found.shape == (3,) and ((found >= 0) & (found <= 1)).all()
    assert results.table.query("method == 'deepconf'")["n"].max() == 6


def test_its_accuracy_is_the_mean_over_sequences_of_the_pool(sizes):
    Held = namedtuple("Held", "group correct confidence")
    results = Results(grid_of(**sizes, methods=["majority", *VOTES]), None)
    held = Held(np.array([0, 1, 1]), np.array([True, False, False]), np.array([[-0.1, 0, 0, 0], [-2.0, 0, 0, 0], [-3.0, 0, 0, 0]]))
    # Of two: (0, 1) and (2, 0) go to the first answer, (1, 2) to the second; of three e^-0.1 is more than e^-2 + e^-3.
    assert results._weighed(held, method_of("confidence_vote"), 2) == pytest.approx(2 / 3)
    assert results._weighed(held, method_of("confidence_vote"), 3) == 1


def test_what_is_not_kept_is_said(sizes):
    Held = namedtuple("Held", "group correct confidence")
    results = Results(grid_of(**sizes, methods=["majority", *VOTES]), None)
    none, logs = (Held(np.zeros(2, int), np.ones(2, bool), kept) for kept in (None, np.array([[-1.0, -1.0, np.nan, np.nan]] * 2)))
    with pytest.raises(
        StoreError, match="confidence_vote needs more than is kept of the samples, no confidence: .* leave it out of methods"
    ):
        results._weighed(none, method_of("confidence_vote"), 2)
    with pytest.raises(StoreError, match="deepconf needs more than is kept of the samples, only log-probabilities"):
        results._weighed(logs, method_of("deepconf"), 2)
    assert results._weighed(logs, method_of("tail_confidence"), 2) == 1


def test_constants_have_ranges(sizes):
    with pytest.raises(ParameterError, match="keep must lie in 0.01 to 1"):
        grid_of(**sizes, methods=["deepconf"], constants={"keep": 0})
