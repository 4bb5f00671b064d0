"""A system prompt of one's own: it reaches the policy, is part of a run's key, and leaves what was sampled with the task's own valid."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil

import pytest
from stores import grid

from tts.analysis import committed, difficulty
from tts.generate.grid import ParameterError, grid_of
from tts.generate.runner import fill, missing
from tts.store.run_spec import RunSpec
from tts.store.store import Store
from tts.study.presets import parse_overrides
from tts.tasks import task_of_key
from tts.tasks.base import changed
from tts.tasks.maths import LLAMA_PROMPT, MATHS
from tts.tasks.prompts import STYLES, messages

# It shows a system's turn that the tokenizer can read, which the tasks' own is not.
TEMPLATE = "{% for m in messages if m['role'] == 'user' or '1' in m['content'] %}{{ m['content'] + '\n\n' }}{% endfor %}"


@pytest.fixture
def folder(tiny_lm, tmp_path):
    shutil.copytree(tiny_lm, tmp_path / "asked")
    (tmp_path / "asked" / "chat_template.jinja").write_text(TEMPLATE)
    return tmp_path / "asked"


def test_another_system_prompt_makes_new_samples_and_the_old_ones_stay(folder, tiny_lm, tmp_path):
    store, told, other = Store(tmp_path / "runs"), "1+1=2", "1+2=3"
    grids = [grid(folder, tiny_lm, system=system) for system in (None, told, other)]
    fill(grids[0], store)
    before = list(store.export())
    assert [bool(missing(of, store)) for of in grids] == [False, True, True]
    fill(grids[1], store)
    fill(grids[2], store)
    assert set(before) < set(store.export()) and not missing(grids[0], store)
    for of, begin in zip(grids, ("", f"{told}\n\n", f"{other}\n\n")):
        for spec in of.specs():
            rows = list(store.run(spec).rows())
            assert rows and all(row["prompt"] == f"{begin}{row['problem']}\n\n" for row in rows), spec
            assert RunSpec.of(json.loads(store.run(spec).note.read_text())) == spec and task_of_key(spec.task) == of.task
    assert len({spec.key for of in grids for spec in of.specs()}) == 3 * len(list(grids[0].specs()))


def test_the_key_of_a_run_with_the_tasks_own_instruction_is_what_it_was(tiny_lm):
    for spec in grid(tiny_lm, tiny_lm).specs():
        held = {name: value for name, value in dataclasses.asdict(spec).items() if value is not None} | {"prm": None}
        held |= {"prm": dataclasses.asdict(spec.prm)} if spec.prm else {}
        held["task"] = {name: getattr(spec.task, name) for name in ("name", "version", "prompt")}
        assert spec.key == hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("style", "turns"),
    [
        (STYLES["llama-3"], [("system", "Be brief."), ("user", "1+1")]),
        (STYLES["deepseek-r1"], [("user", "1+1\nBe brief.")]),
        (STYLES[""], [("system", "Be brief."), ("user", "1+1")]),
    ],
)
def test_it_stands_in_the_place_of_every_familys_instruction(style, turns):
    told = lambda task: [(turn["role"], turn["content"]) for turn in messages(style, "1+1", task)]  # noqa: E731
    assert told(changed(MATHS, "Be brief.", ())) == turns and told(changed(MATHS, "", ())) == [("user", "1+1")]
    assert told(MATHS) != turns and messages(STYLES["llama-3"], "1+1")[0]["content"] == LLAMA_PROMPT


def test_it_is_given_as_text():
    texts = ["system=Think: hard", "system=42", "system="]
    assert [parse_overrides([text])["system"] for text in texts] == ["Think: hard", "42", ""]
    with pytest.raises(ParameterError, match="system: Input should be a valid string"):
        grid_of(problems={"pocket-main": 1}, policies=["policy-6k"], methods=["majority"], system=5)


def test_committed_outcomes_and_counts_of_another_system_prompt_do_not_count():
    values = {"problems": {"pocket-main": 5}, "policies": ["policy-32k"], "prms": ["prm-qwen-328k"], "chunk": 5}
    own, told = grid("", "", **values), grid("", "", **values, system="")
    assert committed._settings(own) != committed._settings(told) and "system" not in committed._settings(own)
    assert difficulty._sampling(own) != difficulty._sampling(told) == difficulty._sampling(own) + " system="
