"""The templates under docs/examples, registered through the public path and run. A method's: tests/search/test_method_template.py."""

from __future__ import annotations

import pytest

from tts.analysis.accuracy import Results
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.policies import ENGINES, open_policy, register_engine
from tts.reward_models import FAMILIES, family_of, open_prm, register_family
from tts.search.sampling import Sampling
from tts.store.store import Store


@pytest.fixture
def registered():
    register_family("mean-state", "mean_state_prm:MeanStatePRM")
    register_engine("echo", "echo_engine:EchoPolicy")
    yield
    del FAMILIES["mean-state"], ENGINES["echo"]


def test_no_name_is_given_twice(registered):
    with pytest.raises(ValueError, match="there is a PRM family 'implicit' already"):
        register_family("implicit", "mean_state_prm:MeanStatePRM")
    with pytest.raises(ValueError, match="there is an engine 'vllm' already"):
        register_engine("vllm", "echo_engine:EchoPolicy")


def test_a_family_of_ones_own_may_read_any_model(registered):
    assert family_of("mean-state:policy-20k")[0] == family_of("mean-state:prm-qwen-28k")[0] == "mean-state"


def test_blanks_around_a_step_change_no_score(registered, tiny_lm):
    prm = open_prm(f"mean-state:{tiny_lm}")
    assert prm.score([("p", "1+1")], [("1 ", "\n2")])[0] == prm.score([("q", "1+1")], [("1", "2")])[0]


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
