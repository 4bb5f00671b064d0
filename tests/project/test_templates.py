"""The templates under docs/examples, registered through the public path and run. A method's: tests/search/test_method_template.py."""

from __future__ import annotations

import pytest

from tts.analysis.accuracy import Results
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.policies import ENGINES, open_policy
from tts.reward_models import FAMILIES, open_prm
from tts.search.sampling import Sampling
from tts.store.store import Store


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(FAMILIES, "mean-state", "mean_state_prm:MeanStatePRM")
    monkeypatch.setitem(ENGINES, "echo", "echo_engine:EchoPolicy")


def test_a_prm_family_scores_each_step_from_cached_prefixes(registered, tiny_lm):
    prm = open_prm(f"mean-state:{tiny_lm}")
    scores, tokens = prm.score([("p", "1+1")] * 2, [("1", "2"), ("1", "3")])
    assert scores[0][0] == scores[1][0] and scores[0][1] != scores[1][1]
    opening, step = (len(prm.family.render([("1+1", steps)])[0]) for steps in ((), ("1",)))
    assert tokens == [opening + 2 * (step - opening), step - opening]


def test_an_engine_answers_questions_with_their_own_seeds(registered, tiny_lm):
    policy = open_policy(f"echo:{tiny_lm}", Sampling(max_tokens=40, max_step_tokens=12), 4)
    policy.submit("ticket", policy.root("p", "1+1=?"), 3, False)
    [(ticket, children)] = policy.poll()
    assert ticket == "ticket" and len({child.text for child in children}) == 3


def test_a_study_runs_with_both(registered, tiny_lm, tmp_path):
    names = {"policies": [f"echo:{tiny_lm}"], "prms": [f"mean-state:{tiny_lm}"]}
    grid, store = Grid(problems={"pocket-main": 4}, samples=4, budgets=[4], max_tokens=80, **names), Store(tmp_path)
    fill(grid, store)
    table = Results(grid, store).table
    assert set(grid.methods) <= set(table["method"]) and (table.query("method == 'dvts'")["prm_tokens"] > 0).all()
