"""Search methods against scripts whose outcome is worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import (
    ScriptedPolicy,
    ScriptedPRM,
    ScriptPerProblem,
    by_digits,
    named,
    random_score,
    random_script,
    root,
    run,
    scripts,
    texts,
)

from tts.search import beam_search, best_of_n, dvts, sample_pool
from tts.search.driver import Driver


def test_best_of_n_returns_all_n_scored_once():
    outcome, policy, prm = run(named, by_digits, lambda r: best_of_n(r, 4))
    assert texts(outcome) == ["00", "11", "22", "33"]
    assert outcome.policy_tokens == policy.generated == 80
    assert outcome.prm_tokens == prm.read == 8
    assert [c.scores for c in outcome.trajectories] == [(0.0, 0.0), (0.1, 0.1), (0.2, 0.2), (0.3, 0.3)]


def test_pool_asks_for_no_scores():
    outcome, _, prm = run(named, by_digits, lambda r: sample_pool(r, 3))
    assert len(outcome.trajectories) == 3 and prm.scored == []


def test_beam_search_keeps_n_over_m_and_expands_each_into_m():
    # Roots 0..7; the best 2 are 6 and 7; each gets children 0..3; of the eight, the best two are 63 and 73.
    outcome, policy, _ = run(named, by_digits, lambda r: beam_search(r, 8, 4))
    assert texts(outcome) == ["63", "73"]
    assert outcome.policy_tokens == policy.generated == (8 + 8) * 10


def test_ties_go_to_the_lower_index():
    outcome, _, _ = run(named, lambda steps: 0.5, lambda r: beam_search(r, 4, 2))
    assert texts(outcome) == ["00", "01"]


def test_finished_candidate_keeps_its_place_and_the_frontier_never_refills():
    def script(steps, index):
        if not steps:
            return str(index), "finished" if index == 3 else "open", 10
        return str(index), "finished" if len(steps) == 2 else "open", 10

    # N = 4, M = 2: two places. Root 3 finishes with the best score, root 2 goes on, alone, to the end.
    outcome, policy, prm = run(script, by_digits, lambda r: beam_search(r, 4, 2))
    assert texts(outcome) == ["3", "211"]
    assert outcome.policy_tokens == policy.generated == (4 + 2 + 2) * 10
    assert prm.scored.count(("3",)) == 1, "a finished candidate was scored again"


def test_finished_candidate_is_not_displaced_by_better_later_ones():
    def script(steps, index):
        return str(index), "finished" if steps or index == 1 else "open", 1

    scores = {("0",): 0.9, ("1",): 0.2}
    # N = 4, M = 2: roots 0 and 1 win the two places (2 and 3 score 0); 00 and 01 score 1, yet only one place is left.
    outcome, _, _ = run(script, lambda s: scores.get(s, 1.0 if len(s) == 2 else 0.0), lambda r: beam_search(r, 4, 2))
    assert texts(outcome) == ["1", "00"]


def test_finished_candidate_that_wins_no_place_is_lost():
    def script(steps, index):
        return str(index), "finished" if steps or index == 0 else "open", 1

    outcome, _, _ = run(script, by_digits, lambda r: beam_search(r, 4, 2))
    assert texts(outcome) == ["21", "31"]


def test_identical_siblings_merge_and_are_billed():
    def script(steps, index):
        return ("same" if not steps else str(index)), "finished" if steps else "open", 10

    outcome, policy, prm = run(script, lambda s: 0.5, lambda r: beam_search(r, 8, 4))
    # One distinct root takes one of two places; its four children compete for both.
    assert texts(outcome) == ["same0", "same1"]
    assert outcome.policy_tokens == policy.generated == (8 + 4) * 10
    assert prm.scored.count(("same",)) == 1


def test_truncated_steps_drop_out_and_are_billed():
    def script(steps, index):
        return str(index), "truncated" if index % 2 else ("finished" if steps else "open"), 10

    outcome, policy, prm = run(script, by_digits, lambda r: beam_search(r, 4, 2))
    # Places for 0 and 2; each has one untruncated child, 0.
    assert texts(outcome) == ["00", "20"]
    assert outcome.policy_tokens == policy.generated == 80
    assert ("1",) not in prm.scored


def test_dead_end_returns_nothing():
    outcome, policy, _ = run(lambda s, i: (str(i), "truncated", 5), by_digits, lambda r: beam_search(r, 4, 2))
    assert outcome.trajectories == [] and outcome.policy_tokens == policy.generated == 20


def test_depth_limit_loses_open_candidates():
    outcome, policy, _ = run(lambda s, i: (str(i), "open", 1), by_digits, lambda r: beam_search(r, 4, 2, max_steps=3))
    assert outcome.trajectories == [] and outcome.policy_tokens == policy.generated == 4 + 4 + 4


@pytest.mark.parametrize(("n", "width"), [(6, 4), (2, 4), (0, 4), (4, 0)])
@pytest.mark.parametrize("method", [beam_search, dvts])
def test_budget_must_be_a_multiple_of_the_width(method, n, width):
    with pytest.raises(ValueError, match=f"N = {n}, M = {width}"):
        run(named, by_digits, lambda r: method(r, n, width))


def test_dvts_by_hand():
    # N = 8, M = 4: trees of roots 0..3 and 4..7 lead with 3 and 7; the best child of each is its child 3.
    outcome, policy, _ = run(named, by_digits, lambda r: dvts(r, 8, 4))
    assert texts(outcome) == ["33", "73"]
    assert outcome.policy_tokens == policy.generated == (8 + 8) * 10


def test_dvts_depth_limit_costs_what_beam_search_costs():
    endless = lambda s, i: (str(i), "open", 1)  # noqa: E731
    outcome, policy, _ = run(endless, by_digits, lambda r: dvts(r, 4, 2, max_steps=3))
    assert outcome.trajectories == [] and policy.generated == 4 + 4 + 4


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([1, 2, 4]))
def test_dvts_with_one_tree_is_a_beam_search_of_one_place(seed, width):
    first, policy, _ = run(random_script(seed), random_score(seed), lambda r: dvts(r, width, width, 6))
    second, other, _ = run(random_script(seed), random_score(seed), lambda r: beam_search(r, width, width, 6))
    assert texts(first) == texts(second)
    assert policy.generated == other.generated


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([(4, 2), (8, 4), (8, 2)]))
def test_dvts_subtrees_never_exchange_candidates(seed, budget):
    n, width = budget
    subtree = lambda candidate: candidate.path[0] // width  # noqa: E731
    outcome, policy, _ = run(random_script(seed), random_score(seed), lambda r: dvts(r, n, width, 6))
    trees = [subtree(c) for c in outcome.trajectories]
    assert trees == sorted(set(trees)), "a subtree gave more than one solution"
    for tree in range(n // width):
        expanded = {c.path[:-1] for c in outcome.nodes if len(c.path) > 1 and subtree(c) == tree}
        assert len({len(path) for path in expanded}) == len(expanded), "a subtree kept more than one candidate a step"
    assert outcome.policy_tokens == policy.generated == sum(c.generated for c in outcome.nodes)


@settings(max_examples=60, deadline=None)
@given(scripts, st.sampled_from([(4, 2), (8, 4), (16, 4)]))
def test_beam_search_invariants(seed, budget):
    n, width = budget
    outcome, policy, prm = run(random_script(seed), random_score(seed), lambda r: beam_search(r, n, width, 6))
    assert len(outcome.trajectories) <= n // width
    assert all(c.status == "finished" for c in outcome.trajectories)
    assert outcome.policy_tokens == policy.generated == sum(c.generated for c in outcome.nodes)
    assert outcome.prm_tokens == prm.read
    by_depth = {}
    for path in {c.path[:-1] for c in outcome.nodes if len(c.path) > 1}:
        by_depth[len(path)] = by_depth.get(len(path), 0) + 1
    sizes = [by_depth[d] for d in sorted(by_depth)]
    assert all(size <= n // width for size in sizes)


def test_problems_do_not_disturb_each_other():
    alone = [run(random_script(i), random_score(1), lambda r: beam_search(r, 8, 4, 6))[0] for i in range(5)]
    assert len({tuple(texts(o)) for o in alone}) == 5
    roots = [root(f"p{i}") for i in range(5)]
    policy, prm = ScriptPerProblem({r.problem_id: random_script(i) for i, r in enumerate(roots)}), ScriptedPRM(random_score(1))
    together = Driver(policy, prm).run([(r, beam_search(r, 8, 4, 6)) for r in roots])
    assert [o.problem_id for o in together] == [r.problem_id for r in roots]
    for outcome, solo in zip(together, alone, strict=True):
        assert texts(outcome) == texts(solo) and outcome.policy_tokens == solo.policy_tokens
        assert {c.problem_id for c in outcome.trajectories} <= {outcome.problem_id}


def test_an_interrupted_run_leaves_nothing_in_the_engine():
    class Interrupted(ScriptedPRM):
        def score(self, problems, steps):
            raise KeyboardInterrupt

    policy = ScriptedPolicy(random_script(1))
    with pytest.raises(KeyboardInterrupt):
        Driver(policy, Interrupted(random_score(1))).run([(r := root(f"p{i}"), beam_search(r, 8, 4, 6)) for i in range(3)])
    assert policy.queue == []
    [again] = Driver(policy, ScriptedPRM(random_score(1))).run([(r := root("p9"), beam_search(r, 8, 4, 6))])
    assert again.problem_id == "p9" and texts(again) == texts(run(random_script(1), random_score(1), lambda r: beam_search(r, 8, 4, 6))[0])


def test_searches_that_ask_for_scores_need_a_prm():
    with pytest.raises(ValueError, match="no PRM was given"):
        Driver(ScriptedPolicy(named)).run([(r := root(), best_of_n(r, 2))])


def test_ids_must_be_distinct():
    with pytest.raises(ValueError, match="ids must be distinct"):
        Driver(ScriptedPolicy(named)).run([(r := root(), sample_pool(r, 1)), (s := root(), sample_pool(s, 1))])


def test_a_search_waits_until_there_is_room_for_its_candidates():
    held, most = 0, []

    class Counting(ScriptedPolicy):
        def submit(self, ticket, parent, count, whole):
            nonlocal held
            held += count
            most.append(held)
            super().submit(ticket, parent, count, whole)

        def poll(self):
            nonlocal held
            answers = super().poll()
            held -= sum(len(children) for _, children in answers)
            return answers

    def script(steps, index):
        return (f"{len(steps)}.{index}", "finished" if len(steps) == 2 else "open", 1)

    def outcomes(room):
        most.clear()
        searches = [(r := root(f"p{i}"), beam_search(r, 8, 4)) for i in range(10)]
        driver = Driver(Counting(script), ScriptedPRM(lambda steps: len(steps[-1])), room=room)
        return [[(c.path, c.steps) for c in o.trajectories] for o in driver.run(searches)]

    unbounded = outcomes(None)
    assert max(most) == 80
    assert outcomes(16) == unbounded and max(most) == 16
    assert outcomes(1) == unbounded and max(most) == 8, "a search larger than the room runs alone"
