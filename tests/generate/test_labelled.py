"""Labelled sets by name: small files of ProcessBench's and Mr-Ben's forms, a scripted PRM, and F1 worked out by hand."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from scripted import ScriptedPRM

from tts.analysis import pathologies
from tts.common.paths import NOTEBOOKS
from tts.generate import labelled
from tts.generate.labelled import Labelled, LabelledError, read
from tts.models import hub
from tts.report import tables
from tts.study import presets
from tts.study.experiment import experiment_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def judge_by_words(monkeypatch, tmp_path):
    """A PRM to which a step with "bad" in it is bad; a Hub cache of the test's own."""
    monkeypatch.setattr(labelled, "open_prm", lambda name: ScriptedPRM(lambda steps: 0.2 if "bad" in steps[-1] else 0.9))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for remembered in (labelled._solutions, hub.resolve):
        remembered.cache_clear()


OPTIONS = "A: 1 \nB: 2 "


def problems(part, after=""):
    """Texts that, with what comes after them, are problems for thresholds, or for figures."""
    texts = (f"How much is {number} + 1?" for number in range(200))
    return (text for text in texts if (hashlib.sha256(f"{text}{after}".encode()).digest()[0] % 4 == 0) == (part == "validation"))


def process_bench():
    """By split; for figures, of 4 right solutions 3 are accepted, and of 6 wrong ones 3 first errors found."""
    validation, test = problems("validation"), problems("test")
    rows = {"gsm8k": [], "math": []}

    def add(split, problem, label, *steps):
        number = len(rows[split])
        about = {"id": f"{split}-{number}", "generator": f"writer-{number % 2}", "final_answer_correct": label < 0}
        rows[split].append(about | {"problem": problem, "steps": list(steps), "label": label})

    for split, label, steps in (("gsm8k", -1, ("so", "x")), ("math", 1, ("so", "bad")), ("gsm8k", 0, ("bad", "x"))):
        add(split, next(validation), label, *steps)
    add("gsm8k", next(test), -1, "so", "x")
    add("gsm8k", next(test), -1, "so", "x", "y")
    add("gsm8k", next(test), 1, "so", "bad")  # found
    add("gsm8k", next(test), 1, "so", "sly")  # neglected
    add("math", next(test), -1, "so")
    add("math", next(test), -1, "so", "bad")  # over-criticised
    add("math", next(test), 0, "bad", "bad")  # found
    add("math", next(test), 2, "so", "so", "bad")  # found
    add("math", next(test), 1, "so", "sly", "x")  # neglected
    add("math", next(test), 1, "bad", "sly", "x")  # called too early
    return rows


BY_HAND = {"all": (4, 6, 0.6), "gsm8k": (2, 2, 2 / 3), "math": (2, 4, 0.5)}  # right, wrong, F1: 3/4 and 3/6; 2/2 and 1/2; 1/2 and 2/4


def written(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
    return str(path)


def on_the_hub(tmp_path, rows, parts=()):
    """The data set as the Hub's client leaves it in its cache."""
    storage = tmp_path / "hub" / "datasets--Qwen--ProcessBench"
    (snapshot := storage / "snapshots" / COMMIT).mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(COMMIT)
    (snapshot / "README.md").write_text("of no concern")
    for split, of_split in rows.items():
        written(snapshot / f"{split}.json", of_split)
    return "Qwen/ProcessBench"


def measured(name):
    solutions = read("test", name)
    judged = pathologies.judge("scripted", solutions, name)
    return judged, pathologies.localisation(judged, solutions)


@pytest.mark.parametrize("form", [".jsonl", ".json", ".parquet", "hub"])
def test_f1_with_its_interval_on_all_and_by_split(tmp_path, form):
    rows = process_bench()
    name = on_the_hub(tmp_path, rows) if form == "hub" else written(tmp_path / f"mine{form}", [*rows["gsm8k"], *rows["math"]])
    judged, table = measured(name)
    assert (judged.correct, judged.erroneous, judged.f1) == (0.75, 0.5, pytest.approx(0.6))
    found = {row.solutions: (row.right, row.wrong, row.f1) for row in table.itertuples()}
    assert {split: found[split] for split in BY_HAND} == {split: (*of[:2], pytest.approx(of[2])) for split, of in BY_HAND.items()}
    assert {"writer-0", "writer-1"} == set(found) - set(BY_HAND)
    assert ((table["low"] < table["f1"]) & (table["f1"] < table["high"])).all()
    shown = tables.localisation({"prm-scripted": judged}, read("test", name))["scripted"]
    assert shown["all", 4, 6].startswith("0.60 [0.")


def test_one_split_of_the_hubs_and_its_revision(tmp_path):
    name = on_the_hub(tmp_path, process_bench())
    assert {s.group for part in ("validation", "test") for s in read(part, name)} == {"gsm8k", "math"}
    assert labelled.source(f"{name}:gsm8k") == f"Qwen/ProcessBench@{COMMIT}:gsm8k" and labelled.source("pocket") == "pocket"
    assert {s.group for s in read("test", f"{name}:gsm8k")} == {"gsm8k"}
    assert measured(f"{name}@{COMMIT}:gsm8k")[0].f1 == pytest.approx(2 / 3)
    with pytest.raises(LabelledError, match="Qwen/ProcessBench has no split 'algebra'; it has gsm8k, math"):
        read("test", f"{name}:algebra")


def mr_ben(question, lines, correctness, first, **more):
    about = {"Question_UUID": "1", "Subject": "college_chemistry", "Question": question, "Options": OPTIONS}
    about |= {"Ground_Truth_Answer": "A", "Ground_Truth_Answer_Modified": "B", "Sampled_Model": "GPT3.5"}
    about |= {"Model_Solution_Steps": lines, "Model_Solution_Correctness": correctness, "Model_Solution_First_Error_Step": first}
    return about | more


def test_mr_bens_form_by_hand(tmp_path):
    """Labels are numbers of the steps that a solution counts itself; a line without a number belongs to the step before."""
    test, validation = (problems(part, f"\n{OPTIONS}") for part in ("test", "validation"))
    lines = ["Step 1: so", "- further", "Step 2: bad", "- further", "Solution: A"]
    rows = [
        mr_ben(next(validation), ["x"], "correct", "N/A"),
        mr_ben(next(validation), ["bad"], "incorrect", "1"),
        mr_ben(first := next(test), lines, "incorrect", "2"),
        mr_ben(next(test), ["x", "y"], "correct", None, Subject="high_school_chemistry"),
        mr_ben(next(test), ["x", "sly", "bad"], "incorrect", "2", Subject="high_school_chemistry"),
    ]
    name = written(tmp_path / "chemistry.jsonl", rows)
    solutions = read("test", name)
    merged = ("Step 1: so\n- further", "Step 2: bad\n- further", "Solution: A")
    assert solutions[0] == Labelled(f"{first}\n{OPTIONS}", merged, 1, "GPT3.5", "college_chemistry")
    assert [s.first_error for s in solutions] == [1, -1, 1]
    judged, table = measured(name)
    assert (judged.correct, judged.erroneous) == (1, 0.5) and judged.f1 == pytest.approx(2 / 3)
    assert table["solutions"].tolist() == ["all", "high_school_chemistry"], "no F1 where all are wrong, nor one of a sole writer again"


GOOD = {"problem": "1+1=?", "steps": ["2", "3"], "label": 1}
ERROR = "Model_Solution_First_Error_Step must be the number of one of its 1 steps, from 1; given"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {k: v for k, v in GOOD.items() if k != "label"}], "mine.jsonl, line 2: no label; expected problem, steps, label"),
        ([GOOD | {"steps": None, "problem": None}], "line 1: no problem, steps; expected"),
        ([GOOD, GOOD, GOOD | {"label": 2}], "line 3: label must be -1 or the number of one of its 2 steps, from 0; given 2"),
        ([GOOD | {"label": -2}], "line 1: label must be .* given -2"),
        ([GOOD | {"label": True}], "line 1: label must be .* given True"),
        ([GOOD | {"label": "1"}], "line 1: label must be .* given '1'"),
        ([GOOD | {"steps": "2"}], "line 1: steps must be a list of texts; given '2'"),
        ([GOOD | {"steps": []}], "line 1: steps must be a list of texts"),
        ([mr_ben("q", ["x"], "incorrect", "2")], f"line 1: {ERROR} '2'"),
        ([mr_ben("q", ["x"], "incorrect", "N/A")], f"line 1: {ERROR} 'N/A'"),
        ([mr_ben("q", ["x"], "incorrect", "0")], f"line 1: {ERROR} '0'"),
        ([mr_ben("q", ["x"], "perhaps", "1")], "line 1: Model_Solution_Correctness must be correct or incorrect; given 'perhaps'"),
        ([{"Question": "q", "Model_Solution_Steps": ["x"]}], "line 1: no Model_Solution_Correctness, Model_Solution_First_Error_Step; exp"),
        ([], "mine.jsonl holds no solutions; expected rows with problem, steps, label or Question, "),
        ([GOOD], "mine.jsonl: the [01] of its solutions that are for (thresholds|figures) are not right ones and wrong ones"),
        ([[1]], "line 1: expected an object with problem, steps, label or Question"),
    ],
)
def test_wrong_files_are_refused_with_column_and_line(tmp_path, rows, message):
    name = written(tmp_path / "mine.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        labelled.check(name)


def test_names_that_are_no_set(tmp_path):
    with pytest.raises(
        LabelledError,
        match="no labelled set 'pockets'; give pocket, pocket-chemistry, pocket-code, pocket-puzzles, a data set on the Hugging Face",
    ):
        read("test", "pockets")
    with pytest.raises(ValueError, match="no file .*missing.jsonl; expected JSON lines with problem, steps, label or"):
        read("test", str(tmp_path / "missing.jsonl"))


def test_a_prm_that_cannot_read_the_solutions_is_refused_and_what_is_too_long_is_told(tmp_path, monkeypatch, capsys):
    rows = process_bench()
    name, prm = written(tmp_path / "mine.jsonl", [*rows["gsm8k"], *rows["math"]]), ScriptedPRM(lambda steps: 0.0)
    prm.report_unread = lambda: ({}, "it reads 8 tokens at most; 3 steps that end beyond that scored 0")
    monkeypatch.setattr(labelled, "open_prm", lambda name: prm)
    with pytest.raises(LabelledError, match="prm-x scores all steps of .*mine.jsonl alike, as if it could not read them; leave it out"):
        pathologies.judge("prm-x", read("test", name), name)
    assert capsys.readouterr().err == "warning: it reads 8 tokens at most; 3 steps that end beyond that scored 0\n"


def test_scores_are_kept_for_the_next_notebook_unless_the_prm_or_its_file_changed(tmp_path, monkeypatch):
    solutions, asked = [labelled.Labelled("7,+8=?", ("7+8=15", "\\boxed{15}"), -1, "a")], []
    monkeypatch.setattr(labelled, "open_prm", lambda name: asked.append(name) or ScriptedPRM(lambda steps: 1 / 3))
    monkeypatch.setattr(labelled, "weights_of", lambda name: weights)
    weights = "first"
    found = labelled.step_scores("prm-x", solutions, kept=tmp_path)
    assert labelled.step_scores("prm-x", solutions, kept=tmp_path) == found == [[(1 / 3, 1 / 3)]] and asked == ["prm-x"]
    weights = "second"
    labelled.step_scores("prm-x", solutions, kept=tmp_path)
    assert len(asked) == len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        path.write_text(path.read_text().replace("0.33", "0.34"))
    assert labelled.step_scores("prm-x", solutions, kept=tmp_path) == found and len(asked) == 3, "a damaged file is made anew"
    labelled.step_scores("prm-x", solutions)
    assert len(asked) == 4


def test_scores_of_a_served_prm_another_scoring_and_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    solutions, values = [labelled.Labelled("7,+8=?", ("7+8=15", "\\boxed{15}"), -1, "a")], iter([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])

    def opened(name):
        value = next(values)  # each opening scores otherwise
        return ScriptedPRM(lambda steps: value)

    monkeypatch.setattr(labelled, "open_prm", opened)
    monkeypatch.setattr(labelled, "weights_of", lambda name: "as served" if "http" in name else "first")
    first = lambda prm, kept: labelled.step_scores(prm, solutions, kept=kept)[0][0][0]  # noqa: E731
    served = "qwen-prm:http://127.0.0.1:9/v1#m"
    assert [first(served, tmp_path), first(served, tmp_path)] == [0.1, 0.2] and not list(tmp_path.iterdir())
    assert [first("prm-x", tmp_path), first("prm-x", tmp_path)] == [0.3, 0.3]
    monkeypatch.setattr(labelled, "SCORING", labelled.SCORING + 1)
    assert first("prm-x", tmp_path) == 0.4
    (tmp_path / "file").touch()  # no folder can be made in it, by whomever
    assert [first("prm-x", tmp_path / "file" / "labelled"), first("prm-x", tmp_path / "file" / "labelled")] == [0.5, 0.6]


def test_the_notebook_takes_it_checks_it_first_and_records_it(tmp_path, monkeypatch):
    rows = process_bench()
    written(tmp_path / "mine.jsonl", [*rows["gsm8k"], *rows["math"]])
    monkeypatch.chdir(tmp_path)
    [job] = presets.plan("smoke", ["02_reward_models"], {"labelled": "mine.jsonl"})
    assert job.values["labelled"] == str(tmp_path / "mine.jsonl"), "notebooks run in a folder of their own"
    assert experiment_of("02_reward_models", job.values).provenance()["parameters"]["labelled"] == str(tmp_path / "mine.jsonl")
    name = on_the_hub(tmp_path, rows)
    [job] = presets.plan("smoke", ["02_reward_models"], {"labelled": name})
    assert experiment_of("02_reward_models", job.values).provenance()["parameters"]["labelled"] == f"{name}@{COMMIT}"
    with pytest.raises(LabelledError, match="no labelled set 'pockets'"):
        presets.plan("smoke", ["02_reward_models"], {"labelled": "pockets"})
    assert 'labelled = \\"pocket\\"' in (NOTEBOOKS / "02_reward_models.ipynb").read_text()


def test_long_steps_have_longer_classes_of_length():
    solutions = [Labelled("p", ("x" * 300, "x" * 50), -1, ""), Labelled("q", ("x" * 310, "x" * 90), -1, "")]
    table = pathologies.by_length([(0.5, 0.7), (0.7, 0.9)], solutions)
    assert table.set_index("length")["score"].to_dict() == pytest.approx({240: 0.6}) and table["steps"].tolist() == [2]
