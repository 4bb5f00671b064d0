"""Problem sets by name: the study's own from a copy, from the cache of the Hub, and what is said where neither is there."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from pathlib import Path

import pandas as pd
import problem_files
import pytest
from huggingface_hub import constants

from tts.models import hub
from tts.tasks import drawn, task_of
from tts.tasks.answer_text import normal_form
from tts.tasks.grading import Grader
from tts.tasks.maths import PUBLISHED
from tts.tasks.problems import ProblemError, load_problems, problem_rows

TEXTS = [f"What is {n} plus the number of sides of a triangle?" for n in range(12)]
ROWS = [{"problem": text, "answer": str(n + 3), "unique_id": f"own/{n}.json", "level": 1} for n, text in enumerate(TEXTS)]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def copy(tmp_path):
    return jsonl(tmp_path / "copy.jsonl", ROWS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the Hub's files, empty at first."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub.unreachable.cache_clear()
    yield tmp_path / "hub"
    hub.unreachable.cache_clear()


def cached(cache, name):
    about = PUBLISHED[name]
    file = cache / f"datasets--{about.repository.replace('/', '--')}" / "snapshots" / about.revision / about.file
    file.parent.mkdir(parents=True)
    return file


def test_halves_go_by_the_hash_of_the_text(copy):
    halves = {split: load_problems(f"math500:{copy}", None, split) for split in ("selection", "test", "all")}
    assert halves["all"]["problem"][:] == TEXTS
    odd = [text for text in TEXTS if int(hashlib.sha256(text.encode()).hexdigest()[:2], 16) % 2]
    assert halves["selection"]["problem"][:] == odd and 0 < len(odd) < 12
    assert sorted(odd + halves["test"]["problem"][:]) == sorted(TEXTS)
    assert halves["all"]["id"][0] == "math500-" + hashlib.sha256(TEXTS[0].encode()).hexdigest()[:12]


def test_a_copy_with_other_field_names_and_spacing_is_the_same_set(copy, tmp_path):
    rows = [{"problem": r["problem"].replace(" is ", "  is\n"), "extracted_groundtruth": r["answer"], "url": "none"} for r in ROWS]
    other = load_problems(f"math500:{jsonl(tmp_path / 'other.jsonl', rows)}", 12, "all")
    assert [other["id"][:], other["answer"][:]] == [load_problems(f"math500:{copy}", 12, "all")[k][:] for k in ("id", "answer")]


def test_more_than_a_half_holds_is_refused(copy):
    with pytest.raises(ProblemError, match="has . problems in its split 'test', and as many as there are in 'all'; asked for 12"):
        load_problems(f"math500:{copy}", 12)


@pytest.mark.parametrize(
    ("name", "split"),
    [("math500", "development"), ("math500", "confirmation-2"), ("pocket-main", "all"), ("reasoning-gym:basic_arithmetic", "all")],
)
def test_splits_that_a_set_does_not_have_are_refused(copy, name, split):
    with pytest.raises(ProblemError, match=f"has no {split} problems; choose selection" if name == "math500" else "has no split 'all'"):
        load_problems(f"math500:{copy}" if name == "math500" else name, 3, split)


def test_a_line_separator_within_a_text_ends_no_line(tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"problem": "2\u2028+ 2", "answer": 4}, ensure_ascii=False), encoding="utf-8")
    assert load_problems(str(file), 1)["problem"][:] == ["2\u2028+ 2"]


def test_the_sets_come_from_the_local_cache_without_network(cache):
    jsonl(cached(cache, "math500"), ROWS)
    frame = pd.DataFrame(ROWS)[["problem", "answer"]].assign(id=range(60, 72))
    frame.to_parquet(cached(cache, "aime24"))
    for name in PUBLISHED:
        found = load_problems(name, None, "all")
        assert found["problem"][:] == TEXTS and found["answer"][:] == [row["answer"] for row in ROWS]
        assert all(identity.startswith(f"{name}-") for identity in found["id"])


def test_without_network_a_local_copy_is_asked_for(cache):
    with pytest.raises(ProblemError, match=r"aime24 .*HF_HUB_OFFLINE is set\); give a local copy as aime24:path/to/problems.jsonl"):
        load_problems("aime24", 3)


@pytest.mark.parametrize("answers", [False, True])
def test_a_hub_that_refuses_or_hangs_is_given_up_within_seconds(cache, monkeypatch, answers):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "DEADLINE", 0.5)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()  # connections are taken and never answered
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ProblemError, match="the Hub cannot be reached"):
            load_problems("math500", 3)
    assert time.monotonic() - started < 5


def test_revisions_are_commits():
    assert all(len(about.revision) == 40 and int(about.revision, 16) for about in PUBLISHED.values())


FILES = os.environ.get("TTS_PROBLEM_FILES")


@pytest.mark.skipif(not FILES, reason="TTS_PROBLEM_FILES names no folder with math500.jsonl and aime24.jsonl")
@pytest.mark.parametrize(("name", "count", "halves", "same"), [("math500", 500, (245, 255), 3), ("aime24", 30, (16, 14), 0)])
def test_gold_answers_of_the_study_equal_themselves_and_not_the_next(name, count, halves, same):
    """Also by the judge, not only as equal strings; ``same`` neighbours are mathematically equal."""
    path = f"{name}:{Path(FILES) / name}.jsonl"
    gold = load_problems(path, None, "all")["answer"][:]
    assert len(gold) == count and tuple(len(load_problems(path, None, half)) for half in ("selection", "test")) == halves
    with Grader() as grader:
        assert all(grader.right(answer, answer) and grader.judge.verdict(normal_form(answer), normal_form(answer)) for answer in gold)
        pairs = [(a, b) for a, b in zip(gold, gold[1:] + gold[:1]) if grader.right(a, b)]
    assert len(pairs) == same and {a.removeprefix("x=") == b.removeprefix("x=") for a, b in pairs} <= {True}


# To draw all of them takes a minute; a confirmation split of these is drawn after hundreds of problems that it must not repeat.
SLOW = {("pocket-code", "confirmation"), ("pocket-chemistry", "confirmation"), ("pocket-chemistry-hard", "confirmation")}


@pytest.mark.parametrize(("name", "split"), [about for about in problem_files.COUNTS if about not in SLOW])
def test_problems_in_files_begin_as_they_are_drawn(name, split):
    lines = (drawn.FOLDER / f"{name}-{split}.jsonl").read_text().splitlines()
    assert len(lines) == problem_files.COUNTS[name, split]
    rows = task_of(name).drawn(name, 3, split)
    assert [json.loads(line) for line in lines[:3]] == rows and problem_rows(name, 3, split) == problem_rows(name, 40, split)[:3]


@pytest.mark.torture
@pytest.mark.parametrize(("name", "split"), problem_files.COUNTS)
def test_problems_in_files_are_those_that_are_drawn(name, split, monkeypatch):
    count = problem_files.COUNTS[name, split]
    assert (drawn.FOLDER / f"{name}-{split}.jsonl").read_text() == problem_files.text_of(name, split)
    kept, more = problem_rows(name, count, split), problem_rows(name, count + 1, split)
    assert kept[:200] == problem_rows(name, None, split)[:count] and len(problem_rows(name, None, split)) == 200
    monkeypatch.setattr(drawn, "FOLDER", Path("nowhere"))
    assert kept == more[:-1] == problem_rows(name, count, split)


@pytest.mark.parametrize(
    ("task", "problem", "answer", "more"),
    [
        ("pocket-puzzles", "3,7,12,18=75?", "((12-7)*(18-3)=75)", {}),
        ("pocket-puzzles", "3,7,12,18=75?", "wrong", {}),
        ("pocket-code", "2:7,2,5>4,10,14;9,1,1,3>2,2,6,18?", "2:1>2?", {}),
        ("code", "Add two numbers.", "assert add(1, 2) == 3", {}),
        ("choice", "Which gas is noble?", "B", {"options": ["oxygen", "argon"]}),
        ("quantity", "What is the enthalpy?", 12.5, {"unit": "kJ/mol"}),
    ],
)
def test_a_file_of_another_task_is_refused_without_its_name(tmp_path, task, problem, answer, more):
    (file := tmp_path / "own.jsonl").write_text(json.dumps({"problem": problem, "answer": answer} | more))
    with pytest.raises(ProblemError, match=f"looks like one of the task {task}, .*; give {task}:{file}, or maths:{file} for mathematics"):
        problem_rows(str(file))
    assert problem_rows(f"maths:{file}")[0]["task"] == "maths"


@pytest.mark.parametrize(("problem", "answer"), [("12,+30,-4=?", 38), ("Solve $x+y=2$?", "from 0 to 2"), ("Why?", "assertion")])
def test_mathematics_needs_no_name(tmp_path, problem, answer):
    (file := tmp_path / "own.jsonl").write_text(json.dumps({"problem": problem, "answer": answer}))
    assert problem_rows(str(file))[0]["task"] == "maths"
