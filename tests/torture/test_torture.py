"""What fits here of the campaign that ``make torture`` runs: kills, disks, damage, hostile answers, wrong parameters."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from stores import export, grid

from torture import answers, disks, import_damage, import_folders, kills, notebooks, parameters, processes, programs
from torture.damages import BINARY, EMPTY, edited, flipped, truncated
from torture.invoke import in_process
from tts.analysis import committed, difficulty
from tts.common import checksum
from tts.common.files import replacing, write_text
from tts.generate.runner import fill, missing
from tts.models.files import read_card, weights_hash
from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm, load_tokenizer
from tts.store.chunk_file import StoreError, read_chunk
from tts.store.store import Store
from tts.tasks import sandbox
from tts.tasks.answer_text import normal_form
from tts.tasks.extraction import boxed_answer
from tts.tasks.grading import Grader
from tts.tasks.judge import Judge
from tts.tasks.problems import ProblemError, load_problems
from tts.training.loop import Schedule, TrainingError, train

ROOT = Path(__file__).resolve().parents[2]


# -- kills -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short(tiny_lm, tmp_path_factory):
    """A beam search's grid, and the canonical export of its unbroken run."""
    wanted = grid(tiny_lm, tiny_lm, problems={"pocket-main": 4}, methods=["beam_search"])
    store = Store(tmp_path_factory.mktemp("whole"))
    fill(wanted, store)
    return wanted, export(store)


def test_a_store_killed_while_it_writes_loses_that_chunk_only(short, tmp_path):
    wanted, whole = short
    store = Store(tmp_path)
    killed = kills.start(wanted, tmp_path, kills.MOMENTS.index("half of its bytes written"), 3, how="spawn")
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*/*.parquet"))) == 2 and len(list(tmp_path.glob("*/*.tmp"))) == 1
    assert fill(wanted, store) == 4 and export(store) == whole
    assert not list(tmp_path.glob("*/*.tmp")), "what the killed writer left is swept by the next"


def test_an_import_that_is_killed_is_none_and_is_completed_by_doing_it_again(tmp_path):
    """At the first step of each kind, over an older import; in forks of a process without threads. ``make torture`` does at every step."""
    code = "import sys; from torture.import_kills import *; print(at_every_step(Importing(Path(sys.argv[1])), whole=False))"
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, env=os.environ | paths)
    assert done.returncode == 0, done.stderr
    found = ast.literal_eval(done.stdout)
    assert found == {"kills": 5, "nothing": 0, "older": 5, "new": 0}


def test_an_endless_judgement_ends_with_the_study_that_asked_for_it(tmp_path):
    judging = "g = Grader(judge=Judge(600)); g.right('x+1', '1+x'); print(g.judge.process.pid, flush=True); g.right('42', '9^{9^{9}}!')"
    code = f"from tts.tasks.grading import Grader, Judge; {judging}"
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    judge = int(asking.stdout.readline())
    time.sleep(0.5)
    judging = [judge, *processes.descendants(judge)]
    asking.kill()
    asking.communicate()
    deadline = time.monotonic() + 20
    while any(map(processes.runs, judging)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(judging) == 2 and not any(map(processes.runs, judging))


# -- disks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kib", [8, 20])
def test_a_full_disk_loses_nothing_and_is_said(short, tmp_path, kib):
    wanted, whole = short
    try:
        disks.full_disk(wanted, whole, tmp_path / "disk", kib)
    except disks.CannotMount as reason:
        pytest.skip(f"mounting is not permitted here: {reason}")


def test_a_read_only_store_is_read_and_not_written(short, tiny_lm, tmp_path):
    wanted, whole = short
    store = Store(tmp_path / "closed")
    fill(wanted, store)
    try:
        with disks.read_only(store.folder):
            assert fill(wanted, store) == 0 and export(store) == whole
            with pytest.raises(StoreError, match=f"cannot write to the store {store.folder}: Read-only file system; make it writable, or"):
                fill(wanted.model_copy(update={"seed": 1}), store)
    except disks.CannotMount as reason:
        pytest.skip(f"mounting is not permitted here: {reason}")


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    write_text(path, "old")
    with pytest.raises(OSError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise OSError("no space left")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_of_a_file_left_is_swept_by_the_next(tmp_path):
    path = tmp_path / "report [1].html"
    code = """
import os, sys
from pathlib import Path
from tts.common.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text('half')
    os.kill(os.getpid(), 9)
"""
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT).returncode == -signal.SIGKILL
    other = tmp_path / f"{path.name}.{os.getppid()}.tmp"
    other.write_text("of a process that is still writing")
    assert len(list(tmp_path.iterdir())) == 2, "the second swept what the first left"
    write_text(path, "whole")
    assert path.read_text() == "whole" and set(tmp_path.iterdir()) == {path, other}


# -- notebooks ---------------------------------------------------------------------------------------------------


@pytest.mark.torture
def test_a_killed_process_and_an_endless_notebook_are_named_and_the_others_finish(tmp_path):
    outcome, page = notebooks.execute(tmp_path, ["process_is_killed", "never_ends", "last"], limit=5, workers=3)
    notebooks.check(outcome, page)
    assert outcome["last"] is None and list(outcome) == ["process_is_killed", "never_ends", "last"]


# -- hostile input -----------------------------------------------------------------------------------------------


@pytest.mark.torture
def test_hostile_answers(tmp_path):
    found = answers.campaign(200, 5, tmp_path, seconds=0.25)
    assert found.counts["pairs judged"] > 100 and found.counts["judges restarted"] > 0, "nothing hostile got to the judge"


def test_a_busy_machine_makes_no_right_answer_wrong():
    """The judge gets no processor for four times its limit."""
    with Grader(judge=Judge(0.5)) as grader:
        assert grader.right("\\frac{1}{3}", "\\frac{2}{6}")
        judge = grader.judge.process.pid
        os.killpg(judge, signal.SIGSTOP)
        threading.Timer(2, os.killpg, (judge, signal.SIGCONT)).start()
        assert grader.right("\\frac{3}{4}", "\\frac{6}{8}") and grader.judge.process.pid == judge


def test_a_text_that_no_judge_survived_is_put_before_no_other():
    with Grader(judge=Judge(0.3)) as grader:
        assert not grader.right("42", "9^{9^{9}}!") and not grader.doubted
        deaths = grader.judge.deaths
        assert not any(grader.right(gold, "9^{9^{9}}!") for gold in ("\\frac{1}{2}", "(1,2)", "x+1"))
        assert grader.judge.deaths == deaths == 1, "judged again"
        assert grader.right("\\frac{1}{2}", "\\frac{2}{4}")


def test_the_last_box_as_defined():
    """Against the definition: the last innermost box that holds something; of those never closed the last, to the end of its line."""

    def closes(text, at):
        depth = 1
        while at < len(text):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if not depth:
                return at
            at += 2 if text[at] == "\\" else 1
        return None

    def by_definition(text):
        starts = [found.span() for found in re.finditer(r"\\(?:boxed|fbox)\s*\{", text)]
        ends = {start: closes(text, start[1]) for start in starts}
        closed = [start for start in starts if ends[start] and not any(start[0] < s[0] < ends[start] and ends[s] for s in starts)]
        boxes = [(start[0], text[start[1] : ends[start]].strip()) for start in closed]
        unclosed = [start for start in starts if ends[start] is None]
        if unclosed and unclosed[-1][0] > max((start for start, _ in boxes), default=-1):
            boxes.append((unclosed[-1][0], re.split(r"[$\n]", text[unclosed[-1][1] :])[0].strip().rstrip(".")))
        return next((content for _, content in reversed(boxes) if normal_form(content)), None)

    rng = random.Random(0)
    parts = ["\\boxed{", "\\boxed {", "\\fbox{", "{", "}", "}", "7", "\\", "\\{", "\\}", " ", "\n", "$"]
    for _ in range(6000):
        text = "".join(rng.choice(parts) for _ in range(rng.randrange(15)))
        assert boxed_answer(text) == by_definition(text), text


def test_boxes_that_are_never_closed_take_no_time():
    started = time.monotonic()
    assert boxed_answer("\\boxed{5} " + "\\boxed{" * 150_000) == "5"
    assert time.monotonic() - started < 5


def test_wrong_parameters_are_refused_by_name_and_nothing_is_written(tmp_path):
    """Every third; ``make torture`` does all."""
    count, wrong = parameters.refused(tmp_path, every=3)
    assert count >= 80 and wrong == []


@pytest.mark.slow
def test_hostile_programs(tmp_path):
    try:
        sandbox.protection()
    except sandbox.SandboxError as reason:
        pytest.skip(str(reason))
    every = programs.programs()
    with programs.place(tmp_path) as where:
        for name in programs.CHEAP:
            programs.judged(where, every[f"{name}, on loading"])
        programs.judged(where, every["gives equal to all"])
        assert sandbox.run("def f(x):\n    return 1764 if x > 0 else 1521\n", "f", tests=programs.TESTS).passed, "a right one passes"
        open_to_all = where.filled("open('FOLDER/made', 'w')")
        subprocess.run([sys.executable, "-c", open_to_all], check=True)
        assert where.reached == "the folder", "outside of a sandbox the attack works"


# -- damaged files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [truncated(0.5), EMPTY, BINARY, flipped(0.3), flipped(0.98)])
def test_damaged_chunks_are_named(short, tiny_lm, tmp_path, damage):
    wanted, _ = short
    store = Store(tmp_path)
    fill(wanted.model_copy(update={"methods": ["majority"], "problems": {"pocket-main": 2}}), store)
    path = next(tmp_path.glob("pool-*/*.parquet"))
    damage(path)
    with pytest.raises(StoreError, match=f"{path.name} is damaged .*; delete it and run the study again"):
        list(store.export())


def test_no_flipped_bit_of_a_chunk_changes_a_row(short, tmp_path):
    """A bit of each third byte of the footer, which no page's checksum covers; all are said but for the checksum's own name and place."""
    wanted, _ = short
    store, spec, problem = Store(tmp_path), next(wanted.specs()), {"problem": "1+1", "answer": "2"}
    row = problem | {"problem_id": "p", "prompt": "", "prompt_tokens": 1, "policy_tokens": 1, "prm_tokens": 0, "trajectories": []}
    row |= {"confidences": None}
    store.open(spec).write([problem | {"id": "p"}], [row], 1.0)
    path = next(tmp_path.glob("*/*.parquet"))
    whole, unsaid = path.read_bytes(), 0
    assert read_chunk(path).to_pylist() == [row]
    footer = range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole))
    for at in footer[::3]:
        bit = at % 8  # `make torture` flips others
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        try:
            assert read_chunk(path).to_pylist() == [row], f"bit {bit} of byte {at}"
            unsaid += 1
        except StoreError:
            continue
    assert unsaid < len(checksum.KEY) + 2 < len(footer) / 10


@pytest.mark.parametrize("damage", [truncated(0.5), EMPTY, BINARY, edited(lambda spec: spec.update(n=3))])
def test_a_damaged_note_is_named_and_written_anew_alone(short, tmp_path, damage):
    wanted, whole = short
    store = Store(tmp_path)
    fill(wanted, store)
    note = next(tmp_path.glob("pool-*/run.json"))
    damage(note)
    with pytest.raises(StoreError, match="run.json is damaged .*; delete it and run the study again"):
        list(store.export())
    chunks = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.parquet")}
    note.unlink()
    assert len(missing(wanted, store)) == 2, "a run that nobody can read is not held to be stored"
    fill(wanted, store)
    assert export(store) == whole and {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.parquet")} == chunks


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.safetensors", flipped(0.7), "are not those that its card.json records"),
        ("model.safetensors", flipped(0.9, 1), "are not those that its card.json records"),
        ("model.safetensors", truncated(0.5), "are not those that its card.json records"),
        ("config.json", truncated(0.5), "config.json is damaged"),
        ("card.json", truncated(0.5), "card.json is damaged"),
        ("card.json", BINARY, "card.json is damaged"),
        ("tokenizer.json", truncated(0.5), "cannot load"),
        ("tokenizer_config.json", truncated(0.5), "tokenizer_config.json is damaged"),
    ],
)
def test_damaged_models_are_named(tmp_path, file, damage, message):
    folder = shutil.copytree(ROOT / "data" / "models" / "policy-6k", tmp_path / "mine")
    load_causal_lm(str(folder)), load_tokenizer(str(folder))
    damage(folder / file)
    with pytest.raises(ModelError, match=message) as error:
        load_tokenizer(str(folder)), load_causal_lm(str(folder))
    assert str(folder) in str(error.value)


def test_every_committed_card_records_its_weights():
    folders = [path.parent for path in (ROOT / "data" / "models").glob("*/config.json")]  # an adapter's hash is that of what it makes
    assert len(folders) >= 18
    for folder in folders:
        assert read_card(folder)["weights_sha256"] == weights_hash(folder), folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bytes(range(256)), "is not UTF-8"),
        (b"[" * 200_000, "line 1: not JSON that can be read"),
        (b'{"problem": "1", "answer": ' + b"9" * 9999 + b"}", "line 1: not JSON that can be read"),
        (b'{"problem": "\\ud800", "answer": 1}', "half a character"),
        (b'{"problem": ["1"], "answer": 1}', "'problem' must be text or a number"),
    ],
)
def test_damaged_problem_files_are_named(tmp_path, text, message):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(text)
    with pytest.raises(ProblemError, match=message) as error:
        load_problems(str(path))
    assert str(path) in str(error.value)


def test_damaged_import_folders_are_listed_or_refused(tmp_path):
    """Every sixth case, and some damage at random."""
    place, rng = import_damage.Place(tmp_path, in_process), random.Random(0)
    chosen = import_folders.cases()[::6]
    assert {case.kept is None for case in chosen} == {True, False}
    assert [(case.name, problem) for case in chosen if (problem := import_damage.judged(place, case))] == []
    assert [problem for problem, _ in (import_damage.at_random(place, rng) for _ in range(10)) if problem] == []


def test_separators_inside_of_a_problem_end_no_line(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('\ufeff{"problem": "one\u2028two\x85three", "answer": "1"}\n', encoding="utf-8")
    assert load_problems(str(path))["problem"] == ["one\u2028two\x85three"]


def test_damaged_evidence_is_named(tiny_lm, tmp_path, monkeypatch):
    wanted = grid(tiny_lm, tiny_lm)
    shutil.copy(ROOT / "data" / "outcomes" / "pocket-dial.parquet", tmp_path / "mine.parquet")
    truncated(0.5)(tmp_path / "mine.parquet")
    with pytest.raises(committed.CommittedError, match="mine.parquet is damaged .*; restore it"):
        committed.committed(wanted, tmp_path)
    monkeypatch.setattr(difficulty, "COUNTS", tmp_path)
    (tmp_path / "pocket-main.csv").write_text("problem_id,samples\na,3\n")
    missing = "'problem', 'policy', 'weights', 'sampling', 'correct'"
    with pytest.raises(committed.CommittedError, match=f"pocket-main.csv is damaged .*{missing}.* not in index.*; restore it"):
        difficulty.known_pass_at_1(wanted, str(tiny_lm), "pocket-main")


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(json.dumps({"half": 1}).encode())
    with pytest.raises(TrainingError, match=f"{tmp_path / 'state.safetensors'} is damaged .*; delete {tmp_path} to train afresh"):
        train(torch.nn.Linear(2, 2), None, [], Schedule(1, 1e-3), tmp_path, "x", "recipe", compile=False)
