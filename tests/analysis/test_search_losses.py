"""States of candidates and the place of the loss, worked out by hand; and the explorer's view without a browser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedPolicy, ScriptedPRM, root

from tts.analysis.search_losses import at_step, candidate_steps, follow, last_right, lost, unrolled, where_lost
from tts.generate.grid import Grid
from tts.report.explorer import Explorer, page, searches, telling, tree
from tts.report.search_steps import draw
from tts.search import beam_search, best_of_n, dvts
from tts.search.driver import Driver

PROBLEM, ANSWER = "2,+3,*4=?", "20"
GRID = Grid(problems={"pocket-main": 1}, policies=["scripted"], methods=["majority"], aggregate="last", vote="max")


def run(texts, scores, search, problem=PROBLEM, grid=GRID, method="beam_search"):
    """A search whose policy writes ``texts[steps so far]`` (the last entry again where they run out) and follows it.

    A text that ends in ``...`` is cut off, another one that begins with ``\\boxed`` ends the solution; a step's score is ``scores[text]``,
    0.5 where there is none.
    """

    def script(steps, index):
        text = texts[steps][min(index, len(texts[steps]) - 1)]
        return text, "truncated" if text.endswith("...") else "finished" if text.startswith("\\boxed") else "open", 1

    driver = Driver(ScriptedPolicy(script), ScriptedPRM(lambda steps: scores.get(steps[-1], 0.5)), record=True)
    return follow(grid, driver.run([(start := root(), search(start))])[0], problem, ANSWER, method)


def states(followed):
    return {row.path: (row.text, row.state) for row in followed.steps.itertuples()}


TEXTS = {
    (): ["2+3=5", "2+3=6", "2+3=5", "2+3..."],
    ("2+3=5",): ["5*4=20", "5*4=21"],
    ("2+3=6",): ["6*4=24", "6*4=24"],
    ("2+3=5", "5*4=20"): ["\\boxed{20}"],
    ("2+3=5", "5*4=21"): ["\\boxed{21}"],
    ("2+3=6", "6*4=24"): ["\\boxed{24}", "\\boxed{42}"],
}


def beam(start):
    return beam_search(start, 4, 2)


def test_states_by_hand():
    # N = 4, M = 2, two places. Step 1: 0 and 1 stay, 2 is 0 again, 3 is cut off. Step 2: 20 (0.1) against 21 (0.9) and 24 (0.8, twice).
    followed = run(TEXTS, {"5*4=20": 0.1, "5*4=21": 0.9, "6*4=24": 0.8, "\\boxed{42}": 0.7}, beam)
    assert states(followed) == {
        "0": ("2+3=5", "kept"),
        "1": ("2+3=6", "kept"),
        "2": ("2+3=5", "merged"),
        "3": ("2+3...", "cut off"),
        "0.0": ("5*4=20", "pruned"),
        "0.1": ("5*4=21", "kept"),
        "1.0": ("6*4=24", "kept"),
        "1.1": ("6*4=24", "merged"),
        "0.1.0": ("\\boxed{21}", "finished"),
        "0.1.1": ("\\boxed{21}", "merged"),
        "1.0.0": ("\\boxed{24}", "pruned"),
        "1.0.1": ("\\boxed{42}", "finished"),
    }
    rows = followed.steps.set_index("path")
    assert rows["into"].to_dict() == dict.fromkeys(rows.index, "") | {"2": "0", "1.1": "1.0", "0.1.1": "0.1.0"}
    assert set(rows.index[rows["right"].eq(True)]) == {"0", "2", "0.0"} and rows["right"].notna().all()
    assert set(rows.index[rows["selected"]]) == {"1", "1.0", "1.0.1"} and followed.given == "42"
    assert np.isnan(rows.loc["2", "score"]) and np.isnan(rows.loc["3", "score"]) and rows.loc["0.0", "score"] == 0.1
    assert str(followed.loss) == "lost: pruned at step 2, best score 0.10" and last_right(followed.steps) == {"0.0"}
    assert list(at_step(followed.steps, 2)["path"]) == ["0.1", "1.0", "1.1", "0.0"]


@pytest.mark.parametrize(
    ("scores", "texts", "loss"),
    [
        ({"5*4=20": 0.9}, {}, "right"),
        ({"5*4=20": 0.9, "\\boxed{21}": 0.6}, {}, "lost in the vote"),
        (
            {"2+3=6": 0.9, "2+3=7": 0.8},
            {(): ["2+3=5", "2+3=6", "2+3=7"], ("2+3=7",): ["\\boxed{7}"]},
            "lost: pruned at step 1, best score 0.50",
        ),
        ({}, {(): ["2+3=6"]}, "lost: not sampled at step 1"),
        ({}, {("2+3=5",): ["5*4=21"]}, "lost: not sampled at step 2"),
        ({"5*4=20": 0.9}, {("2+3=5", "5*4=20"): ["\\boxed{20}..."]}, "lost: not sampled at step 3"),
        (
            {"5*4=20": 0.9, "6*4=24": 0.8, "\\boxed{20}": 0.1, "\\boxed{24}": 0.6, "\\boxed{42}": 0.6},
            {},
            "lost: pruned at step 3, best score 0.10",
        ),
    ],
)
def test_where_the_right_answer_was_lost(scores, texts, loss):
    assert str(run(TEXTS | texts, scores, beam).loss) == loss


def test_a_right_answer_by_a_way_that_the_checker_rejects_is_found():
    followed = run({(): ["3*4=12"], ("3*4=12",): ["\\boxed{20}"]}, {}, beam)
    assert followed.loss.kind == "found" and list(followed.steps["right"]) == [False] * 4 + [True] * 2


def test_right_until_the_depth_limit():
    grid = GRID.model_copy(update={"max_steps": 2})
    followed = run(TEXTS, {"5*4=20": 0.9}, lambda start: beam_search(start, 4, 2, max_steps=2), grid=grid)
    assert set(followed.steps[followed.steps["step"] == 2]["state"]) == {"depth limit", "merged"}
    assert followed.given is None and str(followed.loss) == "lost: open at the depth limit, step 2, best score 0.90"


@pytest.mark.parametrize(
    ("texts", "problem", "loss"),
    [
        (TEXTS, "What is twenty?", "not right; where it was lost cannot be known without an exact checker"),
        (
            TEXTS | {("2+3=5",): ["3+2=5 ok"], ("2+3=5", "3+2=5 ok"): ["\\boxed{6}"]},
            PROBLEM,
            "not right; where it was lost cannot be known",
        ),
    ],
)
def test_without_an_exact_checker_the_place_is_not_known(texts, problem, loss):
    followed = run(texts, {"5*4=20": 0.1, "5*4=21": 0.9, "6*4=24": 0.8, "3+2=5 ok": 0.9}, beam, problem)
    complete = followed.steps["state"] == "finished"
    assert str(followed.loss).startswith(loss)
    assert followed.steps[~complete & followed.steps["text"].str.startswith(("2", "3", "5"))]["right"].isna().all()
    assert followed.steps[complete]["right"].eq(False).all()


def test_a_right_answer_needs_no_checker():
    assert run(TEXTS, {"5*4=20": 0.9}, beam, "What is twenty?").loss.kind == "found"


def test_best_of_n_is_cut_into_steps():
    followed = run(TEXTS, {"\\boxed{24}": 0.9}, lambda start: best_of_n(start, 2), method="best_of_n")
    assert states(followed) == {
        "0": ("2+3=5", "kept"),
        "1": ("2+3=6", "kept"),
        "0.0": ("5*4=20", "kept"),
        "1.0": ("6*4=24", "kept"),
        "0.0.0": ("\\boxed{20}", "finished"),
        "1.0.0": ("\\boxed{42}", "finished"),
    }
    assert list(followed.steps["right"]) == [True, False, True, False, True, False]
    assert followed.given == "20" and followed.depth == 3


def test_merged_first_steps_of_dvts_stay_in_their_subtree():
    # Two subtrees of two: 0, 1 and 2, 3, all alike; 1 merges with 0 and 3 with 2.
    texts = {(): ["2+3=5"], ("2+3=5",): ["\\boxed{5}"]}
    rows = run(texts, {}, lambda start: dvts(start, 4, 2), method="dvts").steps.set_index("path")
    assert rows["into"].to_dict() == {"0": "", "1": "0", "2": "", "3": "2", "0.0": "", "0.1": "0.0", "2.0": "", "2.1": "2.0"}
    assert list(rows["state"]) == ["kept", "merged"] * 2 + ["finished", "merged"] * 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([beam_search, dvts]))
def test_states_agree_with_the_search(seed, method):
    """Brute force: what the driver was asked to expand and what came back, against the states of random searches."""
    rng = np.random.default_rng(seed)
    words, table, scores = ["2+3=5", "5*4=20", "x", "\\boxed{20}", "\\boxed{3}", "y..."], {}, {}
    grown = []

    def script(steps, index):
        text = table.setdefault((steps, index), str(rng.choice(words)))
        return text, "truncated" if text.endswith("...") else "finished" if text.startswith("\\boxed") else "open", 1

    class Watched(ScriptedPolicy):
        def submit(self, ticket, parent, count, whole):
            grown.append(parent.path)
            super().submit(ticket, parent, count, whole)

    prm = ScriptedPRM(lambda steps: scores.setdefault(steps, float(rng.random())))
    start = root()
    [outcome] = Driver(Watched(script), prm, record=True).run([(start, method(start, 8, 4, max_steps=4))])
    rows = candidate_steps(outcome, PROBLEM, ANSWER, max_steps=4)
    named = {path: set(group["path"]) for path, group in rows.groupby("state")}
    assert len(rows) == len(outcome.nodes) and rows["path"].is_unique
    assert named.get("kept", set()) == {".".join(map(str, path)) for path in grown if path}
    assert named.get("finished", set()) == {".".join(map(str, c.path)) for c in outcome.trajectories}
    assert set(rows[rows["score"].isna()]["state"]) <= {"merged", "cut off"} and (rows["into"] != "").eq(rows["state"] == "merged").all()
    if any(c.text.endswith("{20}") for c in outcome.trajectories):
        assert lost(rows).kind == "vote"  # no candidate was named as the selected one
    assert len(unrolled(outcome.nodes)) == len(outcome.nodes)


SCORES = {"5*4=20": 0.1, "5*4=21": 0.9, "6*4=24": 0.8}
OTHER = "2,+4,*4=?"


@pytest.fixture
def explorer():
    found = {PROBLEM: SCORES, OTHER: {"2+3=6": 0.9}}
    asked = []

    def search(problem, answer, method):
        asked.append((problem, method))
        how = {"beam_search": beam, "best_of_n": lambda start: best_of_n(start, 2)}[method]
        return run(TEXTS, found[problem], how, problem, method=method)

    view = Explorer(search, [(PROBLEM, ANSWER), (OTHER, ANSWER)], ["beam_search", "best_of_n"], search(PROBLEM, ANSWER, "beam_search"))
    view.asked = asked
    return view


def test_explorer_steps_through_a_search(explorer):
    assert (explorer.step.min, explorer.step.value, explorer.step.max) == (1, 1, 3)
    assert "5*4=20" not in explorer.table.value and "lost: pruned at step 2" in explorer.verdict.value
    first = explorer.tree.value
    explorer.step.value = 2
    assert "5*4=20" in explorer.table.value and explorer.tree.value != first
    assert "pruned" in explorer.table.value and "merged with 1.0" in explorer.table.value and "the last right step" in explorer.table.value
    explorer.step.value = 3
    explorer.lost.click()
    assert explorer.step.value == 2


def test_explorer_shows_a_search_without_a_kernel(explorer):
    """All steps of its example, though the widget stands at step 1; where there is a kernel, the widget comes first."""
    shown = explorer._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "text/html"} <= set(shown) and explorer.step.value == 1
    page = shown["text/html"]
    assert f"{PROBLEM} by Beam search" in page and "lost: pruned at step 2" in page and "data:image/png;base64," in page
    assert page.count("<details") == page.count("</details>") == page.count("<table") == 3 and page.count("<details open>") == 1
    assert "5*4=20" in page.partition("step 2")[2] and "5*4=20" not in page.partition("step 2")[0]


@pytest.mark.slow
def test_explorer_searches_again_for_another_problem_or_method(explorer):
    explorer.step.value = 3
    explorer.method.value = "best_of_n"
    assert (
        explorer.asked[-1] == (PROBLEM, "best_of_n") and explorer.step.value == 1 and "right is 20: <b>right</b>" in explorer.verdict.value
    )
    assert explorer.lost.disabled
    explorer.problem.index = 1
    assert explorer.asked[-1] == (OTHER, "best_of_n")


def test_searches_run_once(monkeypatch):
    asked = []
    policy, prm = ScriptedPolicy(lambda steps, index: ("\\boxed{20}", "finished", 1)), ScriptedPRM(lambda steps: 0.5)

    def search(grid, engines, problem, method, n):
        asked.append((problem, method, n))
        return Driver(policy, prm, record=True).run([(start := root(), best_of_n(start, n))])[0]

    monkeypatch.setattr("tts.generate.recorded.search", search)
    asked_for = searches(GRID, None, 2)
    assert asked_for(PROBLEM, ANSWER, "best_of_n") is asked_for(PROBLEM, ANSWER, "best_of_n")
    assert asked == [(PROBLEM, "best_of_n", 2)]


def test_page_escapes_what_a_policy_writes():
    followed = run({(): ["<script>alert(1)</script>"], ("<script>alert(1)</script>",): ["\\boxed{1}"]}, {}, beam)
    assert "<script>" not in page(followed, 1) and "&lt;script&gt;" in page(followed, 1)


def test_example_overview_and_drawing():
    found, pruned, unsampled = run(TEXTS, {"5*4=20": 0.9}, beam), run(TEXTS, SCORES, beam), run(TEXTS | {(): ["2+3=6"]}, {}, beam)
    assert telling([found, unsampled, pruned]) is pruned and telling([found, unsampled]) is unsampled and telling([found]) is found
    overview = where_lost([found, unsampled, pruned])
    assert list(overview["kind"]) == ["found", "not sampled", "pruned"]
    texts = {t.get_text() for t in draw(pruned.steps, "title").axes[0].texts}
    assert {"step 1", "step 3", "✓ 5*4=20", "✗ 5*4=21", "✗ answer 42", "0.10", "×2"} <= texts
    assert tree(found, 1).startswith(b"\x89PNG")
