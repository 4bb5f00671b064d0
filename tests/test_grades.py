"""Grades that are kept beside chunks: judged once, never wrong, and worked out again wherever they do not hold."""

from __future__ import annotations

import shutil

import pytest

from tts import grading
from tts.analysis import grades
from tts.analysis.grades import Grades, Judges
from tts.grading import Grader
from tts.runs.grid import Grid
from tts.runs.runner import fill
from tts.runs.store import Store

SPEC = {"method": "pool", "policy": {"name": "p"}, "prm": None, "n": 4, "engine": {"name": "transformers"}}
PROBLEMS = [{"id": f"p{i}", "problem": f"{i}?", "answer": answer} for i, answer in enumerate([r"\frac{1}{2}", "3", r"\sqrt{2}"])]
ANSWERS = [["0.5", r"\frac{2}{4}", r"\frac{1}{3}", None], ["3", "03", "4", "x"], [r"2^{1/2}", "1.41", "1.41", r"\sqrt{2}"]]
WANTED = [
    Grades([0, 0, 1, -1], [True, True, False, False]),
    Grades([0, 0, 1, 2], [True, True, False, False]),
    Grades([0, 1, 1, 0], [True, False, False, True]),
]


def solution(answer, number):
    steps = ["so"] if answer is None else ["so", f"\\boxed{{{answer}}}"]
    return {"path": [number], "steps": steps, "scores": [], "status": "finished", "tokens": 3}


@pytest.fixture
def run(tmp_path):
    found = Store(tmp_path / "runs").open(SPEC)
    costs = {"prompt": "", "prompt_tokens": 1, "policy_tokens": 12, "prm_tokens": 0}
    rows = [
        {"problem_id": p["id"], "problem": p["problem"], "answer": p["answer"], **costs}
        | {"trajectories": [solution(answer, number) for number, answer in enumerate(answers)]}
        for p, answers in zip(PROBLEMS, ANSWERS)
    ]
    found.write(PROBLEMS, rows, 1.0)
    return found


@pytest.fixture
def judged(monkeypatch):
    """Pairs that went to a judge."""
    pairs, judge = [], Grader._judge
    monkeypatch.setattr(Grader, "_judge", lambda self, *pair: pairs.append(pair) or judge(self, *pair))
    return pairs


def graded(run):
    with Judges(2) as judges:
        return judges.of_chunk(run, PROBLEMS, run.read(PROBLEMS))


def test_a_chunk_is_judged_once(run, judged):
    assert graded(run) == WANTED and judged
    judged.clear()
    assert graded(run) == WANTED and not judged


def test_another_content_of_the_chunk_is_judged_anew(run, judged):
    graded(run)
    judged.clear()
    rows = run.read(PROBLEMS)
    rows[0]["trajectories"][2] = solution(r"\frac{3}{6}", 2)
    run.write(PROBLEMS, rows, 1.0)
    assert graded(run)[0] == Grades([0, 0, 0, -1], [True, True, True, False]) and judged


def test_another_judge_judges_anew(run, judged, monkeypatch):
    graded(run)
    judged.clear()
    monkeypatch.setattr(grades, "_judge", lambda: "another")
    assert graded(run) == WANTED and judged


def test_the_judge_is_another_where_its_code_is(monkeypatch, tmp_path):
    before = grades._judge.__wrapped__()
    shutil.copy(grading.__file__, tmp_path / "grading.py")
    (tmp_path / "grading.py").open("a").write("\n")
    monkeypatch.setattr(grading, "__file__", str(tmp_path / "grading.py"))
    assert grades._judge.__wrapped__() != before


def test_no_damage_changes_a_grade(run, monkeypatch):
    """Every byte of the file, flipped; and every length that a torn write could leave."""
    graded(run)
    path, origin = run.grades(PROBLEMS), grades._origin(run, PROBLEMS)
    content = path.read_bytes()
    assert grades._read(path, origin) == WANTED
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
        assert grades._read(path, origin) is None, at
        path.write_bytes(content[:at])
        assert grades._read(path, origin) is None, at
    assert graded(run) == WANTED and grades._read(path, origin) == WANTED


def test_a_store_that_cannot_be_written_is_graded_all_the_same(run):
    (run.folder / "grades").write_text("no folder can be made here")
    assert graded(run) == graded(run) == WANTED


def test_judges_side_by_side_keep_the_order(run):
    rows = [row | {"answer": str(number)} for number, row in enumerate(run.read(PROBLEMS)[1:2] * 7)]
    with Judges(3) as judges:
        assert [any(found.correct) for found in judges.of_rows(rows)] == [False, False, False, True, True, False, False]


def test_an_interruption_stops_every_judge(run, monkeypatch):
    seen = []

    def interrupted(row, grader):
        seen.append(row)
        raise KeyboardInterrupt

    monkeypatch.setattr(grades, "of_row", interrupted)
    with Judges(2) as judges, pytest.raises(KeyboardInterrupt):
        judges.of_rows(run.read(PROBLEMS) * 9)
    assert 1 <= len(seen) <= 2


def test_what_a_study_reads_is_graded_before(tiny_lm, tmp_path):
    store = Store(tmp_path)
    grid = Grid(
        problems={"pocket-main": 3}, policies=[str(tiny_lm)], methods=["majority"], samples=4, budgets=[4], max_tokens=30, chunk=2, batch=8
    )
    fill(grid, store)
    before = list(store.export())
    assert grades.keep(store, [grid, grid]) == 4  # two chunks of each, CoT and the pool
    assert grades.keep(store, [grid]) == 0 and list(store.export()) == before
    damaged, _ = [store.run(spec).path(grid.chunks("pocket-main")[0]) for spec in grid.specs()]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert grades.keep(store, [grid]) == 1, "what cannot be read is for whoever reads it to say"
