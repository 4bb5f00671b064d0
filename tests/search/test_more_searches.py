"""REBASE, particle filtering, MCTS and lookahead against scripts whose outcome is worked out by hand."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import by_digits, named, random_score, random_script, run, scripts, texts

from tts.generate.grid import ParameterError, grid_of
from tts.search import beam_search, dvts, lookahead_search, mcts, particle_filter, rebase
from tts.search.rebase import shares
from tts.store.run_spec import RunSpec

GRID = {"problems": {"pocket-main": 4}, "policies": ["policy-6k"], "prms": ["prm-qwen-28k"], "samples": 4, "budgets": [4]}


def ends_at(last):
    """As ``named``, but child ``last`` of the root has finished."""
    return lambda steps, index: (str(index), "finished" if steps or index == last else "open", 10)


def test_rebase_shares_places_by_the_softmax_of_scores():
    # Scores 0, 0.1, 0.2, 0.3 over 0.1: e^0 to e^3 of 31.2, so 0.13, 0.35, 0.95 and 2.58 of four places: none, none, one, three.
    outcome, policy, prm = run(named, by_digits, lambda r: rebase(r, 4, 0.1))
    assert texts(outcome) == ["20", "30", "31", "32"]
    assert outcome.policy_tokens == policy.generated == (4 + 4) * 10 and len(prm.scored) == 8


def test_a_finished_solution_takes_a_place_of_rebase():
    outcome, policy, _ = run(ends_at(3), by_digits, lambda r: rebase(r, 4, 100))
    assert texts(outcome) == ["3", "00", "10", "20"], "three places are left, and nearly equal scores have one each"
    assert policy.generated == (4 + 3) * 10


def test_rebase_counts_equal_solutions_each_and_leaves_out_what_was_cut_off():
    same, *_ = run(lambda steps, index: ("x", "finished", 10), lambda s: 0.5, lambda r: rebase(r, 3))
    assert texts(same) == ["x", "x", "x"]
    cut, policy, _ = run(
        lambda s, i: (str(i), "truncated" if i else "open" if len(s) < 1 else "finished", 10), by_digits, lambda r: rebase(r, 3)
    )
    assert texts(cut) == ["00"] and policy.generated == (3 + 3) * 10, "the places of steps that were cut off go to the others"
    none, *_ = run(lambda s, i: (str(i), "truncated", 10), by_digits, lambda r: rebase(r, 3))
    assert texts(none) == []


@given(st.lists(st.floats(-5, 5), max_size=8), st.integers(0, 64))
def test_shares_are_all_places_and_more_for_the_better(logits, places):
    found = shares(logits, places)
    assert sum(found) == (places if logits else 0) and min(found, default=0) >= 0
    ranked = [count for _, count in sorted(zip(logits, found), key=lambda pair: pair[0])]
    assert all(a <= b + 1 for a, b in zip(ranked, ranked[1:]))


def test_particles_go_where_the_odds_are():
    # Score 1 for the digit 3 alone: odds of a million to one against each other, so that all four particles follow it.
    outcome, policy, _ = run(named, lambda steps: float(steps[-1] == "3"), lambda r: particle_filter(r, 4))
    assert texts(outcome) == ["33"] * 4 and policy.generated == (4 + 4) * 10


def test_particles_are_drawn_by_the_odds_of_their_scores():
    scores = {"0": 0.5, "1": 0.8, "2": 0.2, "3": 0.5}  # odds 1, 4, 1/4, 1
    drawn = Counter()
    for seed in range(400):
        outcome, *_ = run(lambda s, i: (str(i), "finished", 1), lambda s: scores[s[-1]], partial(particle_filter, n=4, seed=seed))
        drawn.update(texts(outcome))
    shares_of = {text: drawn[text] / 1600 for text in scores}
    assert shares_of == pytest.approx({"0": 0.16, "1": 0.64, "2": 0.04, "3": 0.16}, abs=0.04)
    again = [texts(run(named, by_digits, partial(particle_filter, n=8, seed=seed))[0]) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


def test_a_finished_particle_is_drawn_with_the_others():
    scores = {("1",): 0.999999, ("0", "0"): 0.5, ("0", "1"): 0.5}
    outcome, policy, prm = run(ends_at(1), lambda s: scores.get(s, 0.5), lambda r: particle_filter(r, 2, seed=1))
    assert set(texts(outcome)) == {"1"} and prm.scored.count(("1",)) == 1 and len(outcome.trajectories) == 2


def test_mcts_goes_where_the_value_is():
    # Without exploration: root, then 1 (0.1 over 0), then 11; the second time 1 (mean 0.1) again, where only 10 is left.
    outcome, policy, _ = run(named, by_digits, lambda r: mcts(r, 4, 2, 0))
    assert texts(outcome) == ["11", "10"] and policy.generated == (2 + 2) * 10
    # With much of it the unvisited 0 comes next: 10 sqrt(ln 2) = 8.3 over 0.1 + 10 sqrt(ln 2 / 2) = 6.0; then 01, 0.1 over 0.
    outcome, policy, _ = run(named, by_digits, lambda r: mcts(r, 4, 2, 10))
    assert texts(outcome) == ["11", "01"] and policy.generated == (2 + 2 + 2) * 10


def test_mcts_finds_each_solution_once_and_ends_where_none_is_left():
    outcome, policy, _ = run(named, by_digits, lambda r: mcts(r, 64, 2))
    assert sorted(texts(outcome)) == ["00", "01", "10", "11"] and policy.generated == 60
    dead, policy, _ = run(lambda s, i: (str(i), "open" if not s else "truncated", 5), by_digits, lambda r: mcts(r, 8, 2))
    assert texts(dead) == [] and policy.generated == (2 + 4) * 5, "both children are tried once"


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([1, 2, 4]))
def test_one_simulation_is_dvts_with_one_subtree(seed, width):
    first, policy, _ = run(random_script(seed), random_score(seed), lambda r: mcts(r, width, width, 1, 6))
    second, other, _ = run(random_script(seed), random_score(seed), lambda r: dvts(r, width, width, 6))
    assert texts(first) == texts(second) and policy.generated == other.generated


def test_lookahead_scores_a_candidate_where_its_rollout_ends():
    # 0 looks better than 1 until its next step; the child of index 0 is the greedy one.
    scores = {"0": 0.9, "1": 0.1, "00": 0.2, "10": 0.8}
    deep = lambda steps, index: (str(index), "finished" if len(steps) == 2 else "open", 10)  # noqa: E731
    near, policy, _ = run(deep, lambda s: scores.get("".join(s), 0.5), lambda r: lookahead_search(r, 2, 2, 0))
    assert texts(near)[0].startswith("0") and policy.generated == (2 + 2 + 2) * 10
    far, policy, prm = run(deep, lambda s: scores.get("".join(s), 0.5), lambda r: lookahead_search(r, 2, 2, 1))
    assert prm.scored[:2] == [("0", "0"), ("1", "0")] and texts(far) == ["100"]
    # Two first steps and their rollouts, two second ones and theirs, which end, then two third ones, which have ended.
    assert policy.generated == far.policy_tokens == (2 + 2 + 2 + 2 + 2) * 10
    assert len(far.nodes) == 6 and len(far.rollouts) == 4, "a rollout is no candidate"
    assert far.trajectories[0].scores == (0.1, 0.8, 0.5), "the finished solution has the scores of its own steps"


def test_a_rollout_that_is_cut_off_leaves_the_score_before_it():
    cut = lambda steps, index: (str(index), "truncated" if steps == ("1",) else "finished" if steps else "open", 10)  # noqa: E731
    _, _, prm = run(cut, by_digits, lambda r: lookahead_search(r, 2, 2, 5))
    assert prm.scored[:2] == [("0", "0"), ("1",)]


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([2, 4, 8]))
def test_without_lookahead_it_is_beam_search(seed, n):
    first, policy, _ = run(random_script(seed), random_score(seed), lambda r: lookahead_search(r, n, 2, 0, 6))
    second, other, _ = run(random_script(seed), random_score(seed), lambda r: beam_search(r, n, 2, 6))
    assert texts(first) == texts(second) and policy.generated == other.generated


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([2, 4, 8]), st.integers(1, 3))
def test_lookahead_bills_its_rollouts(seed, n, steps):
    outcome, policy, prm = run(random_script(seed), random_score(seed), lambda r: lookahead_search(r, n, 2, steps, 6))
    assert all(c.status == "finished" for c in outcome.trajectories) and len(outcome.trajectories) <= n // 2
    assert outcome.policy_tokens == policy.generated == sum(c.generated for c in (*outcome.nodes, *outcome.rollouts))
    assert outcome.prm_tokens == prm.read


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([4, 8]))
def test_every_search_returns_finished_solutions_and_bills_what_it_sampled(seed, n):
    for search in (lambda r: rebase(r, n, 0.2, 6), lambda r: particle_filter(r, n, 0, 6), lambda r: mcts(r, n, 2, 1, 6)):
        outcome, policy, prm = run(random_script(seed), random_score(seed), search)
        assert all(c.status == "finished" for c in outcome.trajectories) and len(outcome.trajectories) <= n
        assert outcome.policy_tokens == policy.generated == sum(c.generated for c in outcome.nodes) and outcome.prm_tokens == prm.read


def test_constants_are_part_of_a_runs_key_and_checked():
    grids = [grid_of(**GRID, methods=["rebase", "beam_search"], constants=given) for given in ({}, {"balance": 0.2}, {"balance": 0.1})]
    specs = [grid.spec("rebase", "policy-6k", "prm-qwen-28k", 4) for grid in grids]
    assert specs[0].key == specs[1].key != specs[2].key and RunSpec.of(specs[2].stored) == specs[2]
    assert specs[2].constants == {"balance": 0.1} and grids[2].settings.constants["exploration"] == 1
    others = [grid.spec("beam_search", "policy-6k", "prm-qwen-28k", 4) for grid in grids]
    assert len({spec.key for spec in others}) == 1 and others[0].constants is None, "stored runs of other methods keep their keys"
    for wrong, message in (
        ({"balence": 1}, "unknown constant 'balence'; choose from balance"),
        ({"balance": 0}, "balance must lie in 0.01 to 100 .given: ..balance.: 0"),
        ({"exploration": -1}, "exploration must lie in 0 to 100 .given"),
        ({"balance": float("nan")}, "balance must lie in"),
        ({"window": 2.5}, "window must be a whole number"),
    ):
        with pytest.raises(ParameterError, match=message):
            grid_of(**GRID, methods=["rebase"], constants=wrong)
    with pytest.raises(ParameterError, match="mcts: the budget N must be a positive multiple of the beam width"):
        grid_of(**GRID | {"budgets": [2]}, methods=["mcts"])
