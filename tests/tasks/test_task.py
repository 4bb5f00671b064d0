"""Tasks: the template's own prompt, steps, answers and accuracy, through the public path and through a notebook."""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from torture.invoke import command_line, in_process

from tts import tasks
from tts.generate.grid import Grid, _problems
from tts.generate.runner import fill
from tts.policies.transformers import TransformersPolicy
from tts.search import sample_pool
from tts.search.base import Sample
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.store.run_spec import Model, RunEngine, RunSpec
from tts.store.store import Store
from tts.tasks.grading import Grader, groups
from tts.tasks.judge import Judge
from tts.tasks.maths import MATHS
from tts.tasks.pocket import POCKET
from tts.tasks.pocket_tokenizer import CHATML_TEMPLATE, build
from tts.tasks.problems import ProblemError, problem_rows
from tts.tasks.prompts import render_prompt, template_hash

ROOT = Path(__file__).resolve().parents[2]
QWEN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def text():
    """The template task, registered."""
    place = importlib.util.spec_from_file_location("text_task", ROOT / "docs" / "examples" / "text_task.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    tasks.register(module.TEXT)
    yield module.TEXT
    del tasks.TASKS["text"]


def jsonl(path, answers):
    path.write_text("".join(json.dumps({"problem": f"{n},+8=?", "answer": answer}) + "\n" for n, answer in enumerate(answers, 7)))
    return path


def test_a_problem_sets_name_says_its_task(text, tmp_path):
    file = jsonl(tmp_path / "own.jsonl", ["15"])
    for name in ("math500", "math500:copy.jsonl", "reasoning-gym:leg_counting", str(file), f"maths:{file}"):
        assert tasks.task_of(name) is MATHS
    assert tasks.task_of("pocket-hard") is tasks.task_of(f"pocket:{file}") is POCKET and tasks.task_of(f"text:{file}") is text
    assert problem_rows(f"text:{file}", 1) == [{"id": "own-00000", "problem": "7,+8=?", "answer": "15", "task": "text"}]
    assert tasks.task_in(problem_rows("pocket-main", 1)) is POCKET
    with pytest.raises(ProblemError, match=f"choose from pocket-main.* TASK:path/to/problems.jsonl of the tasks {', '.join(tasks.TASKS)}"):
        problem_rows("text:own", 1)


def test_a_name_is_given_to_one_task(text):
    tasks.register(text)
    with pytest.raises(ValueError, match="there is a task 'text' already"):
        tasks.register(type(text)())
    with pytest.raises(ValueError, match=f"unknown task 'prose'; known: {', '.join(tasks.TASKS)}"):
        tasks.task_named("prose")


def test_further_fields_of_a_record_are_kept_and_tell_chunks_apart(text, tmp_path, monkeypatch):
    spec = RunSpec("pool", Model("p", ""), None, 1, {"seed": 0}, RunEngine("transformers"))
    file, run = tmp_path / "own.jsonl", Store(tmp_path).run(spec)
    monkeypatch.setattr(type(text), "fields", ("units",))
    monkeypatch.setattr(type(text), "aliases", {"answer": "gold"})
    rows = []
    for units in (["m"], ["m", "s"]):
        file.write_text(json.dumps({"problem": "7,+8=?", "gold": 15, "units": units, "level": 1}))
        rows += problem_rows(f"text:{file}")
    assert rows[0] == {"id": "own-00000", "problem": "7,+8=?", "answer": "15", "units": ["m"], "task": "text"}
    assert run.path(rows[:1]) != run.path(rows[1:])


def test_it_is_asked_and_graded_its_own_way(text, monkeypatch):
    assert text.instruction in render_prompt(build(QWEN), "1+1", text) and "boxed" not in render_prompt(build(QWEN), "1+1", text)
    assert [text.answer(t) for t in ("so\nAnswer: Two  Words", "so\n\n\\boxed{3}\n", "", " \n")] == ["Two  Words", "\\boxed{3}", None, None]
    monkeypatch.setattr(Judge, "verdict", lambda self, *pair: pytest.fail(f"math-verify was asked: {pair}"))
    with Grader(text) as grader:
        assert grader.right("two words", "Two  Words") and not grader.right("1/2", "0.5") and not grader.right("3", None)
        assert groups(["a b", "A  B", None, "1/2", "0.5"], grader) == [0, 0, -1, 1, 2]


def test_what_tells_prompts_apart(text):
    hashes = [template_hash(template, task) for template in (QWEN, CHATML_TEMPLATE, None) for task in (MATHS, text)]
    assert len(set(hashes)) == 6 and template_hash(QWEN, POCKET) == template_hash(QWEN, MATHS)
    assert template_hash(None, MATHS, "Llama-3.2-1B") != template_hash(None, MATHS, "Qwen2.5-7B")


def test_the_checker_numbers_the_first_wrong_step():
    steps = ["47+38=85", "85*3=265", "\\boxed{265}"]
    assert [POCKET.check_steps("47,+38,*3=?", steps[:count]) for count in range(4)] == [0, 1, 1, 1]
    assert POCKET.check_steps("What is 3 plus 4?", steps) is MATHS.check_steps("47,+38,*3=?", steps) is None


def test_steps_end_where_the_task_says(text, tiny_lm, monkeypatch):
    monkeypatch.setattr(type(text), "separator", "=")
    policy = TransformersPolicy(str(tiny_lm), Sampling(temperature=1.0, max_tokens=60, max_step_tokens=60, seed=1), 16, text)

    def search(root):
        [children] = yield Sample([root], 64)
        return children

    [outcome] = Driver(policy).run([(root := policy.root("p", "7,+8=?"), search(root))])
    going_on = [c for c in outcome.trajectories if c.status == "open"]
    assert going_on and all(c.text.endswith("=") and c.text.count("=") == 1 for c in going_on)
    [outcome] = Driver(policy).run([(root := policy.root("p", "7,+8=?"), sample_pool(root, 16))])
    assert all(c.steps == tuple(p.strip() for p in c.text.split("=") if p.strip()) for c in outcome.trajectories)


@pytest.mark.slow
def test_it_runs_through_a_notebook_with_its_own_accuracy(text, tiny_lm, tmp_path, monkeypatch):
    file, given = jsonl(tmp_path / "own.jsonl", "00"), {"policies": [str(tiny_lm)], "prms": [f"implicit:{tiny_lm}"]}
    given |= {"problems": {f"text:{file}": 2}, "methods": ["majority", "best_of_n"], "samples": 8, "budgets": [8]}
    grid = Grid(**given, max_tokens=40)
    fill(grid, Store(tmp_path / "first"))

    def last_lines(store):
        [rows] = [store.run(grid.spec("pool", str(tiny_lm), n=8)).read(chunk) for chunk in grid.chunks(f"text:{file}")]
        finished = [[t["steps"] for t in row["trajectories"] if t["status"] == "finished" and t["steps"]] for row in rows]
        return [[steps[-1].splitlines()[-1] for steps in solutions] for solutions in finished]

    # The same ids draw the same samples again.
    usual = [Counter(lines).most_common(1)[0][0] for lines in last_lines(Store(tmp_path / "first"))]
    jsonl(file, usual)
    (tmp_path / "my_plugin.py").write_text("from text_task import TEXT\nfrom tts.tasks import register\n\nregister(TEXT)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TTS_PLUGINS", "my_plugin")  # of kernels; here it is registered
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT / "docs" / "examples"), str(ROOT)]))
    given |= {"max_tokens": 40, "store": str(tmp_path / "runs"), "figures": str(tmp_path / "figures")}
    _problems.cache_clear()
    done = in_process(
        command_line("run", "01_tts_methods", *(part for key, value in given.items() for part in ("-p", f"{key}={json.dumps(value)}")))
    )
    assert done.code == 0, done.out + done.err
    lines = last_lines(Store(tmp_path / "runs"))
    shares = [sum(text.normal(line) == text.normal(answer) for line in own) / 8 for own, answer in zip(lines, usual)]
    [csv] = (tmp_path / "figures").glob("tts_methods_*own.csv")
    table = pd.read_csv(csv).set_index(["method", "n"])["accuracy"]
    assert 0 < sum(shares) and table["pass", 1] == pytest.approx(sum(shares) / 2)
    assert {"majority", "best_of_n"} <= set(table.index.get_level_values("method"))
