"""Grades of chunks, and the verdicts that are kept in the store: judged once, never wrong, judged again wherever they do not hold."""

from __future__ import annotations

import _thread
import itertools
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from torture.processes import descendants

from tts.analysis import grades
from tts.analysis.accuracy import Results
from tts.analysis.grades import Grades, Judges, of_row
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.store.run_spec import Model, RunEngine, RunSpec
from tts.store.store import Store, StoreError
from tts.tasks import grading, judge, judge_process, maths, prompts, verdicts
from tts.tasks.base import changed
from tts.tasks.grading import Grader
from tts.tasks.judge import Judge
from tts.tasks.maths import MATHS, Maths
from tts.tasks.pocket import POCKET
from tts.tasks.verdicts import Verdicts

SPEC = RunSpec("pool", Model("p", ""), None, 4, {"seed": 0}, RunEngine("transformers"))
PROBLEMS = [{"id": f"p{i}", "problem": f"{i}?", "answer": answer} for i, answer in enumerate([r"\frac{1}{2}", "3", r"\sqrt{2}"])]
ANSWERS = [["0.5", r"\frac{2}{4}", r"\frac{1}{3}", None], ["3", "03", "4", "x"], [r"2^{1/2}", "1.41", "1.41", r"\sqrt{2}"]]
WANTED = [
    Grades([0, 0, 1, -1], [True, True, False, False], ["answered"] * 3 + ["no answer"]),
    Grades([0, 0, 1, 2], [True, True, False, False], ["answered"] * 4),
    Grades([0, 1, 1, 0], [True, False, False, True], ["answered"] * 4),
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
    pairs, verdict = [], Judge.verdict
    monkeypatch.setattr(Judge, "verdict", lambda self, *pair: pairs.append(pair) or verdict(self, *pair))
    return pairs


def graded(run):
    with Judges(2) as judges:
        rows, found = zip(*judges.of_chunk(run, PROBLEMS, MATHS))
    assert list(rows) == run.read(PROBLEMS)
    return list(found)


def is_graded(run, problems=PROBLEMS, task=MATHS):
    return Verdicts(run.folder.parent / grades.VERDICTS).holds(task, grades._note(run, problems, task))


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
    assert graded(run)[0] == Grades([0, 0, 0, -1], [True, True, True, False], WANTED[0].status) and judged


def test_another_version_of_the_task_judges_anew(run, judged, monkeypatch):
    graded(run)
    judged.clear()
    monkeypatch.setattr(Maths, "grading", Maths.grading + 1)
    assert not is_graded(run) and graded(run) == WANTED and judged
    judged.clear()
    monkeypatch.undo()
    assert is_graded(run) and graded(run) == WANTED and not judged


def test_an_edited_comment_judges_nothing_anew(run, judged, monkeypatch, tmp_path):
    graded(run)
    judged.clear()
    for module in (grades, grading, judge, judge_process, maths, prompts, verdicts):
        shutil.copy(module.__file__, tmp_path / "edited.py")
        (tmp_path / "edited.py").open("a").write("# edited\n")
        monkeypatch.setattr(module, "__file__", str(tmp_path / "edited.py"))
        assert is_graded(run) and graded(run) == WANTED and not judged


def test_no_damage_changes_a_grade(run):
    """Every byte of the file that is not blank, flipped; and many lengths that a torn write could leave."""
    graded(run)
    path = run.folder.parent / grades.VERDICTS
    content, pairs = path.read_bytes(), list(itertools.product([r"\frac{1}{2}", "0.5", r"\sqrt{2}", "1.41"], repeat=2))
    kept = [Verdicts(path).of(MATHS, *pair) for pair in pairs]
    assert {True, False} <= set(kept)
    damaged = [content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :] for at in range(len(content)) if content[at]]
    for damage in [*damaged, *(content[:length] for length in range(0, len(content), 97)), b"", b"no database" * 99]:
        path.write_bytes(damage)
        found = Verdicts(path)
        assert all(found.of(MATHS, *pair) in (before, None) for pair, before in zip(pairs, kept))
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    assert graded(run) == WANTED and [Verdicts(path).of(MATHS, *pair) for pair in pairs] == kept, "it was made anew"


def test_several_write_at_the_same_time(tmp_path):
    writers = [Verdicts(tmp_path / grades.VERDICTS) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: writers[n % 4].keep(MATHS, f"{n // 8}", f"{n % 8}", n % 3 == 0), range(400)))
    assert all(writer.writable for writer in writers)
    found = Verdicts(tmp_path / grades.VERDICTS)
    assert all(found.of(MATHS, f"{n // 8}", f"{n % 8}") is (n % 3 == 0) for n in range(400))


def test_what_is_no_text_is_kept_too_and_costs_no_other_verdict(tmp_path):
    found = Verdicts(tmp_path / grades.VERDICTS)
    found.keep(MATHS, "1", "2", False)
    found.keep(MATHS, "1", "\ud800", False)
    found.keep(MATHS, "2", "1", True)
    assert [found.of(MATHS, *pair) for pair in ["12", "1\ud800", "21", "11"]] == [False, False, True, None]


def test_a_store_that_cannot_be_written_is_graded_all_the_same(run):
    (run.folder.parent / grades.VERDICTS).mkdir()
    assert graded(run) == graded(run) == WANTED


def test_judges_side_by_side_keep_the_order(run):
    rows = [row | {"answer": str(number)} for number, row in enumerate(run.read(PROBLEMS)[1:2] * 7)]
    with Judges(3) as judges:
        assert [any(found.correct) for found in judges.of_rows(rows)] == [False, False, False, True, True, False, False]


def test_an_interruption_stops_every_judge_within_its_row(run):
    """Sixty answers to one problem of which no two can be told apart at a glance: minutes of judging."""
    hard = [f"\\frac{{\\sqrt{{{n}}}+x^{{{n}}}}}{{{n}}}+(x+{n})^5" for n in range(2, 62)]
    rows = [{"answer": "1", "trajectories": [solution(answer, n) for n, answer in enumerate(hard)]}] * 2
    with Judges(2) as judges:
        judges.of_rows(run.read(PROBLEMS))
        started = time.monotonic()
        timer = threading.Timer(3, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            judges.of_rows(rows)
        assert time.monotonic() - started < 3 + 5
        again = judges.of_rows(run.read(PROBLEMS))
    assert again == WANTED, "what was under way is no answer to what is asked next"


@pytest.mark.parametrize("idle", [pytest.param(True, marks=pytest.mark.torture), False])
@pytest.mark.parametrize("lost", ["all", "fork", "process"])
def test_a_judge_that_is_lost_changes_no_verdict(idle, lost):
    pairs = [
        (r"\frac{1}{2}", "0.5"),
        (r"\sqrt{2}", "2^{1/2}"),
        (r"\frac{1}{3}", "0.5"),
        (r"\frac{2}{4}", "0.5"),
        ("3^{2}", "9.5"),
        ("3^{2}", "9"),
    ]
    with Grader() as grader:
        assert grader.right("x+1", "1+x")
        found = []
        for number, pair in enumerate(pairs):
            if number in (1, 4):
                process = grader.judge.process.pid
                kill({"all": [process, *descendants(process)], "fork": descendants(process), "process": [process]}[lost], idle)
            found.append(grader.right(*pair))
        assert found == [True, True, False, True, False, True] and not grader.doubted
        assert grader.judge.deaths == (0 if lost == "process" else 2), "a fork goes on without the process that it comes from"


def test_a_signal_of_the_limit_from_elsewhere_is_no_verdict():
    """The pair that was sent is still to be read: its reply must not become another's."""
    with Grader() as grader:
        assert grader.right("x+1", "1+x")
        for gold, answer, equal in [("5", r"\frac{10}{2}", True), (r"\sqrt{9}", "8", False), ("9", r"\frac{18}{2}", True)]:
            os.kill(descendants(grader.judge.process.pid)[0], signal.SIGPROF)
            assert grader.judge.verdict(gold, answer) is equal
        assert not grader.judge.hopeless


def kill(pids, idle):
    """Kills processes while they wait, or stops them and kills them when they have been asked."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL if idle else signal.SIGSTOP)
        if not idle:
            threading.Timer(0.5, kill_if_there, (pid,)).start()


def kill_if_there(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_what_lost_judges_leave_open_is_not_kept(run, judged, monkeypatch):
    verdict = Judge.verdict
    monkeypatch.setattr(Judge, "verdict", lambda self, *pair: None)
    assert graded(run) != WANTED
    monkeypatch.setattr(Judge, "verdict", verdict)
    assert graded(run) == WANTED and judged


def test_ctrl_c_is_no_verdict():
    """It reaches the judge too, from a terminal or from Jupyter."""
    with Grader() as grader:
        assert grader.right("x+1", "1+x")
        for _ in range(3):
            os.killpg(grader.judge.process.pid, signal.SIGINT)
            assert grader.judge.verdict(r"\sqrt{2}", "2^{1/2}") is True
        assert grader.judge.deaths == 0


def test_what_is_replaced_while_it_is_judged_is_not_kept(run, monkeypatch):
    rows, of_rows = run.read(PROBLEMS), Judges.of_rows

    def meanwhile(self, read, *how):
        run.write(PROBLEMS, [row | {"answer": "7"} for row in rows], 1.0)
        return of_rows(self, read, *how)

    monkeypatch.setattr(Judges, "of_rows", meanwhile)
    with Judges(1) as judges:
        assert [found for _, found in judges.of_chunk(run, PROBLEMS, MATHS)] == WANTED
    assert not is_graded(run)


def test_what_a_study_reads_is_graded_before(tiny_lm, tmp_path):
    store = Store(tmp_path)
    grid = Grid(
        problems={"pocket-main": 3}, policies=[str(tiny_lm)], methods=["majority"], samples=4, budgets=[4], max_tokens=30, chunk=2, batch=8
    )
    fill(grid, store)
    before = list(store.export())
    assert grades.keep(store, [grid, grid]) == 4  # two chunks of each, CoT and the pool
    assert grades.keep(store, [grid]) == 0 and list(store.export()) == before
    with Judges() as judges:
        for run, problems in itertools.product(store.runs(), grid.chunks("pocket-main")):
            assert is_graded(run, problems, POCKET)
            assert [kept for _, kept in judges.of_chunk(run, problems, POCKET)] == judges.of_rows(run.read(problems))
    damaged, _ = [store.run(spec).path(grid.chunks("pocket-main")[0]) for spec in grid.specs()]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert grades.keep(store, [grid]) == 0, "what cannot be read is for whoever reads it to say"


def test_results_that_failed_half_way_are_not_taken_for_whole(tiny_lm, tmp_path):
    store = Store(tmp_path)
    grid = Grid(
        problems={"pocket-main": 3}, policies=[str(tiny_lm)], methods=["majority"], samples=4, budgets=[4], max_tokens=30, chunk=2, batch=8
    )
    fill(grid, store)
    spec = grid.spec("pool", str(tiny_lm), n=4)
    path = store.run(spec).path(grid.chunks("pocket-main")[1])
    content, results = path.read_bytes(), Results(grid, store)
    path.unlink()
    with pytest.raises(StoreError, match="nothing stored yet"):
        results.graded("pocket-main", spec)
    path.write_bytes(content)
    assert len(results.graded("pocket-main", spec)) == 3


def test_what_became_of_each_answer():
    texts = ["\\boxed{3}", "\\boxed{4+}", "\\boxed{}", "The answer is 3.", "\\boxed{3}"]
    steps = [{"steps": [text], "status": "finished"} for text in texts]
    steps[-1]["status"] = "truncated"
    row = {"answer": "3", "trajectories": steps}
    with Grader() as own, Grader(changed(MATHS, None, ("box", "phrase"))) as both:
        plain, wider = of_row(row, own), of_row(row, both)
    assert plain.status == ["answered", "unreadable", "no answer", "no answer", "truncated"]
    assert (plain.group, plain.correct) == ([0, -1, -1, -1, -1], [True, False, False, False, False])
    assert wider.status == ["answered", "unreadable", "no answer", "answered, phrase", "truncated"] and wider.correct[3]
    assert of_row(row | {"trajectories": []}, own) == Grades([], [], [])


def test_an_answer_whose_judges_were_lost_is_uncertain(monkeypatch):
    monkeypatch.setattr(Judge, "verdict", lambda *_: None)
    with Grader() as grader:
        grades = of_row({"answer": "\\frac12", "trajectories": [{"steps": ["\\boxed{\\frac{2}{4}}"], "status": "finished"}]}, grader)
    assert grades == Grades([-1], [False], ["judged uncertain"])


def test_ways_of_finding_answers_are_part_of_what_is_graded(run):
    grid = {"problems": {"pocket-main": 1}, "policies": ["policy-6k"], "methods": ["majority"], "samples": 4, "budgets": [4]}
    assert Grid(**grid).task is POCKET and Grid(**grid, extract=["box", "phrase"]).task is changed(POCKET, None, ("box", "phrase"))
    with pytest.raises(ValueError, match="cannot find answers by 'guess'; it has box, hashes"):
        Grid(**grid, extract=["guess"])
    names = {grades._note(run, PROBLEMS, changed(MATHS, None, ways)) for ways in (("box",), ("box", "phrase"), ("phrase", "box"))}
    assert len(names) == 3 and grades._note(run, PROBLEMS, MATHS) in names


@pytest.fixture(scope="module")
def one_judge():
    judge = Judge()
    yield judge
    judge.close()


@pytest.mark.parametrize(
    ("reference", "right", "wrong"),
    [
        ("(2,6)", ["(2,6)", "2, 6"], ["6, 2", "(6,2)"]),
        ("(-\\infty, 3)", ["(-\\infty, 3)"], ["x<3"]),
        ("1375_8", ["1375", "1375_8"], ["1375_9"]),
        ("3:30 p.m.", ["3:30"], ["3:30 AM"]),
        ("x=5", ["5"], ["y=5"]),
        ("5", ["5\\%"], ["0.05"]),
        ("x \\ne 2", ["x \\neq 2", "x ≠ 2"], ["x \\ne 3"]),
    ],
)
def test_verdicts_do_not_depend_on_the_order_of_samples(one_judge, reference, right, wrong):
    grader = Grader(judge=one_judge)
    for answers in itertools.permutations([*right, *wrong]):
        steps = [{"steps": [f"\\boxed{{{answer}}}"], "status": "finished"} for answer in answers]
        grades = of_row({"answer": reference, "trajectories": steps}, grader)
        assert dict(zip(answers, grades.correct)) == dict.fromkeys(right, True) | dict.fromkeys(wrong, False)
        assert len({grades.group[answers.index(answer)] for answer in right}) == 1, "right answers are one vote"
        assert not {grades.group[answers.index(a)] for a in right} & {grades.group[answers.index(a)] for a in wrong}
