"""A search's step that holds an answer ends its solution where that was asked for, as in the study's own code."""

from __future__ import annotations

import pytest
from stores import grid

from tts.generate.grid import Grid
from tts.policies import open_policy
from tts.policies.base import Asked, RequestPolicy, Told
from tts.search import beam_search, best_of_n
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks.base import Task
from tts.tasks.maths import MATHS
from tts.tasks.pocket import POCKET

STEPS = ["7+8=15", "\\boxed{15}", "but wait", "\\boxed{16}"]


class WritesOn(RequestPolicy):
    """Writes the steps in turn, one for each question; asked for a whole solution, all of them."""

    def __init__(self, tokenizer, sampling: Sampling, task: Task = MATHS):
        super().__init__("writes-on", sampling, 8, 4096, task)
        self.tokenizer, self.asked = tokenizer, []

    def _send(self, number: int, asked: Asked) -> None:
        self.asked.append((number, asked))

    def _receive(self) -> list[tuple[int, Told]]:
        number, asked = self.asked.pop(0)
        written = sum(step in asked.text for step in STEPS)
        if asked.stop is None:
            return [(number, Told((1,) * 40, "\n\n".join(STEPS), "finished", 40))]
        text = STEPS[written] + ("\n\n" if written < 3 else "")
        return [(number, Told((1,) * 10, text, "open" if written < 3 else "finished", 10))]

    def _abort(self, numbers: list[int]) -> None:
        self.asked.clear()


class Right:
    """A PRM to which all steps are right."""

    def score(self, problems, steps):
        return [(1.0,) * len(one) for one in steps], [0] * len(steps)

    def forget(self, problem_id):
        pass


@pytest.fixture
def tokenizer():
    from tts.tasks import pocket_tokenizer

    return pocket_tokenizer.build()


@pytest.mark.parametrize(("stop", "steps", "tokens"), [(False, STEPS, 4 * 4 * 10), (True, STEPS[:2], 2 * 4 * 10)])
def test_the_step_with_the_answer_is_a_searchs_last(tokenizer, stop, steps, tokens):
    policy = WritesOn(tokenizer, Sampling(stop_at_answer=stop))
    root = policy.root("a", "7,+8=?")
    [outcome] = Driver(policy, Right()).run([(root, beam_search(root, 4, 4))])
    assert {c.steps for c in outcome.trajectories} == {tuple(steps)} and {c.status for c in outcome.trajectories} == {"finished"}
    assert outcome.policy_tokens == tokens


def test_whole_solutions_are_as_they_were_written(tokenizer):
    policy = WritesOn(tokenizer, Sampling(stop_at_answer=True))
    root = policy.root("a", "7,+8=?")
    [outcome] = Driver(policy, Right()).run([(root, best_of_n(root, 4))])
    assert [c.steps for c in outcome.trajectories] == [tuple(STEPS)] * 4


def test_only_searches_are_other_runs(tiny_lm):
    plain, stopping = (grid(tiny_lm, tiny_lm, stop_at_answer=stop) for stop in (False, True))
    keys = [{(spec.method, spec.n): spec.key for spec in wanted.specs()} for wanted in (plain, stopping)]
    assert {method for (method, n), key in keys[0].items() if keys[1][method, n] != key} == {"beam_search", "dvts"}
    assert all("stop_at_answer" not in spec.sampling for spec in plain.specs())
    assert all(spec.sampling.get("stop_at_answer", False) == (spec.method in ("beam_search", "dvts")) for spec in stopping.specs())


def test_our_engine_is_told(tiny_lm, monkeypatch):
    """Where an equals sign stands for the answer, which the tiny model writes often."""
    monkeypatch.setattr(type(POCKET), "answer_mark", "=")
    told = []
    for stop in (False, True):
        policy = open_policy(str(tiny_lm), Sampling(temperature=1.0, max_tokens=60, stop_at_answer=stop), 32, POCKET)
        policy.submit("all", policy.root("a", "7,+8=?"), 200, False)
        [(_, children)] = policy.poll()
        told.append([(child.steps, child.status) for child in children])
    plain, stopping = told
    assert stopping == [(s, "finished" if status == "open" and "=" in s[-1] else status) for s, status in plain] != plain


def test_a_task_without_a_mark_of_answers_refuses_it(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setattr(type(MATHS), "answer_mark", "")
    file = tmp_path / "mine.jsonl"
    file.write_text('{"problem": "7,+8=?", "answer": "15"}\n')
    with pytest.raises(ValueError, match="stop_at_answer: no text tells that a step of the task maths holds an answer; leave it out"):
        Grid(problems={str(file): 1}, policies=[str(tiny_lm)], methods=["majority"], stop_at_answer=True)
    with pytest.raises(ValueError, match="stop_at_answer"):
        Grid(problems={str(file): 1}, policies=[str(tiny_lm)], methods=["majority"], stop_at_answer="perhaps")
