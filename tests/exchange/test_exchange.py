"""Other people's runs: every quirk of their files is handled or listed, and what is exported comes back the same."""

from __future__ import annotations

import json
import shutil
import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tts import exchange, policies, reward_models
from tts.analysis import costs
from tts.analysis.accuracy import Results
from tts.claims import findings
from tts.exchange import importing, plain, reading, summary
from tts.exchange.records import ExchangeError
from tts.generate import runner
from tts.generate.grid import Grid
from tts.policies import open_policy
from tts.report import plots, tables
from tts.reward_models import open_prm
from tts.search.sampling import Sampling
from tts.store import imported
from tts.store.store import Run, Store, StoreError
from tts.study import cli

CONFIG = {"gen_config": {"temperature": 0.7, "top_p": 1, "max_new_tokens": 50}, "prm_step_tag": "ки\n"}


def tts(*arguments):
    """What a command prints, run in this process."""
    done = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def folder(root, task, policy="Pol-1B", prm="Some-PRM-7B", parameters="1_1_1"):
    made = root / task / policy / prm / parameters
    made.mkdir(parents=True)
    (made / "config.json").write_text(json.dumps(CONFIG))
    return made


def record(made, question, number, outputs, problem=None, truth=None, result=None, tokens=10):
    """One record of the study's code; an output is an answer, or an answer and its last score."""
    output = []
    for entry in outputs:
        answer, score = entry if isinstance(entry, tuple) else (entry, 0.5)
        text = f"First a step. ки\n\\[ x \\]\nsecond \\boxed{{{answer}}} ки\n"
        output.append({"text": text, "value": [0.9, score], "token_history": [tokens], "completion_tokens": 3 * tokens})
    path = made / f"question_{question}"
    path.mkdir(exist_ok=True)
    content = {
        "question": problem or f"What is {question}+1?",
        "groundtruth": truth or f"It is $\\boxed{{{question + 1}}}$.",
        "result": result or {},
        "output": output,
    }
    (path / f"record_{number}.jsonl").write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    return path / f"record_{number}.jsonl"


def imported_from(path, store, name="x", **names):
    found, _ = exchange.read_runs(path)
    assert len(found) == 1
    return importing.import_into(store, found[0], name, path, **names)


def reasons(done):
    return {"/".join(source.rsplit("/", 2)[-2:]): reason for source, reason in done.contents.skipped}


def grid_of(done, **changes):
    source = done.source
    policy = source.runs[0].spec.policy.name
    prms = list(dict.fromkeys(h.spec.prm.name for h in source.runs if h.spec.prm))
    values = {"problems": {source.problem_set: source.count}, "policies": [policy], "prms": prms, "budgets": [2], "samples": 2}
    return Grid(**(values | changes))


def rows_of(store, method, **wanted):
    [run] = [r for r in store.runs() if r.spec.method == method and all(getattr(r.spec, k) == v for k, v in wanted.items())]
    return {row["problem_id"]: row for row in run.rows()}


# -- the study's code ------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    """Two questions: two single samples each, two one-place beam searches at N = 4 each."""
    root = tmp_path / "output"
    pool, beam = folder(root, "MATH_best_of_n"), folder(root, "MATH_beam_search", parameters="40_4_1")
    for question in range(2):
        record(pool, question, 0, [(question + 1, 0.2)], result={"majority_vote": 1})
        record(pool, question, 1, [(7, 0.8)], result={"majority_vote": 0})
        record(beam, question, 0, [(question + 1, 0.3)])
        record(beam, question, 1, [(7, 0.9)])
    return root


def test_single_samples_are_a_pool_and_repeated_searches_are_dvts(study, tmp_path):
    store = Store(tmp_path / "runs")
    done = imported_from(study, store)
    assert not done.contents.skipped and done.regraded.grades == 4 and not done.regraded.differences
    grid = grid_of(done, methods=["majority", "best_of_n", "beam_search", "dvts"], budgets=[2, 4, 8], aggregate="last", vote="max")
    assert runner.missing(grid, store) == []
    results, names = Results(grid, store), (done.source.problem_set, grid.policies[0], grid.prms[0])
    assert results.accuracy(*names[:2], None, "pass", 1).tolist() == [0.5, 0.5]
    assert results.accuracy(*names, "pass", 2).tolist() == [1, 1]
    assert results.accuracy(*names, "best_of_n", 2).tolist() == [0, 0], "the wrong answer has the better score"
    assert results.accuracy(*names, "best_of_n", 1).tolist() == [0.5, 0.5]
    assert results.accuracy(*names, "beam_search", 4).tolist() == [1, 1], "the first record is seed 0"
    assert results.accuracy(*names, "dvts", 8).tolist() == [0, 0]
    assert results.accuracy(*names, "dvts", 4).tolist() == [0.5, 0.5], "each subtree by itself"
    assert results.policy_tokens(*names, "dvts", 8).tolist() == [60, 60] and results.policy_tokens(*names, "best_of_n", 1).tolist() == [
        30,
        30,
    ]
    assert all(value != value for value in results.prompt_tokens(*names[:2])), "unknown, not invented"
    second = Results(Grid(**(grid.model_dump() | {"seed": 1})), store)
    assert second.accuracy(*names, "beam_search", 4).tolist() == [0, 0]
    assert set(results.table["method"]) == {"pass", "majority", "best_of_n", "beam_search", "dvts"}, "no CoT is made up"
    assert results.alone(*names[:2])[0] == "Pass@1"


def test_step_tags_leave_the_steps_and_scores_stay_with_theirs(study, tmp_path):
    store = Store(tmp_path / "runs")
    imported_from(study, store)
    first = rows_of(store, "scores")["x-00000"]["trajectories"][0]
    assert first["steps"] == ["First a step.", "\\[ x \\]\nsecond \\boxed{1}"] and first["scores"] == [0.9, 0.2]
    assert rows_of(store, "pool")["x-00000"]["trajectories"][0]["scores"] == []


def test_what_cannot_be_read_is_listed_with_its_reason(study, tmp_path):
    pool = study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1"
    for question in range(2, 6):
        record(pool, question, 0, [question + 1])
        record(pool, question, 1, [question + 1])
    cut = pool / "question_2/record_1.jsonl"
    cut.write_text(cut.read_text(encoding="utf-8")[:90], encoding="utf-8")
    record(pool, 3, 2, [1], problem="What is 0+1?")
    record(pool, 3, 3, [1], problem="Something else?")
    record(pool, 4, 2, [5], truth="It is $\\boxed{6}$.")
    twice = pool / "question_5/record_0.jsonl"
    twice.write_text(twice.read_text(encoding="utf-8") * 2, encoding="utf-8")
    (pool / "question_6").mkdir()
    (pool / "question_5/notes.txt").write_text("x")
    (pool / "question_5/record_4.jsonl").write_text("")
    (pool / "question_5/record_5.jsonl").write_text('{"question": "What is 5+1?", "groundtruth": "6", "output": []}\n')
    (pool / "question_5/record_6.jsonl").write_bytes(b"\xff\xfe")
    done = imported_from(study, Store(tmp_path / "runs"))
    found = reasons(done)
    for source, reason in {
        "question_2/record_1.jsonl": "the file ends within it",
        "question_3/record_2.jsonl": "another problem (its text is that of question 0)",
        "question_3/record_3.jsonl": "another problem (its text is that of no other question",
        "question_4/record_2.jsonl": "its answer '6' is not '5'",
        "question_5/record_0.jsonl, line 2": "the same record again",
        "1_1_1/question_6": "without records",
        "question_5/notes.txt": "not a record",
        "question_5/record_4.jsonl": "empty file",
        "question_5/record_5.jsonl": "no output texts",
        "question_5/record_6.jsonl": "cannot be read",
        "question_2/record_0.jsonl": "has 1 of the 2 samples",
    }.items():
        assert reason in found[source], source
    assert len(found) == 11
    text = "\n".join(summary.lines(done))
    assert "not used: 11" in text and all(source.split("/")[-1] in text for source in found)


def test_a_record_after_a_blank_line_is_no_repetition_of_itself(study, tmp_path):
    path = study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1/question_0/record_0.jsonl"
    path.write_text("\n" + path.read_text(encoding="utf-8") * 2, encoding="utf-8")
    [(source, reason)] = imported_from(study, Store(tmp_path / "runs")).contents.skipped
    assert source.endswith("record_0.jsonl, line 3") and reason == "the same record again"


def test_what_is_not_there_is_said(study, tmp_path):
    text = "\n".join(summary.lines(imported_from(study, Store(tmp_path / "runs"))))
    assert "greedy CoT" in text and "more than 2 samples" in text and "beam search at N = 16, 64, 256; there is N = 4" in text
    assert "token counts of prompts" in text and "not estimated" in text
    assert "python -m tts run --preset" in text and "preset.yaml" in text


def test_spellings_of_a_problem_and_its_answer_are_one(study, tmp_path):
    pool = study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1"
    record(pool, 0, 1, [7], problem="What  is\n0+1?", truth="So $\\boxed{1.0}$")
    done = imported_from(study, Store(tmp_path / "runs"))
    assert not done.contents.skipped and any("spell" in note for note in done.contents.notes)
    assert done.source.count == 2


def test_grades_are_made_anew_and_differences_listed(study, tmp_path):
    pool = study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1"
    record(pool, 0, 0, ["\\$1"], result={"majority_vote": 0})
    done = imported_from(study, Store(tmp_path / "runs"))
    [difference] = done.regraded.differences
    assert "question_0/record_0.jsonl: majority gives" in difference and difference.endswith(": right here, wrong as recorded")


def test_greedy_runs_are_cot_and_cut_off_ones_have_no_answer(study, tmp_path):
    greedy = folder(study, "MATH_cot", prm="dummy")
    record(greedy, 0, 0, [1])
    record(greedy, 1, 0, [2], tokens=50)
    store = Store(tmp_path / "runs")
    done = imported_from(study, store)
    results = Results(grid_of(done, methods=["majority"]), store)
    name, values = results.alone(done.source.problem_set, results.grid.policies[0])
    assert name == "CoT" and values.tolist() == [1, 0], "the second has as many tokens as the limit"


def test_two_prms_with_samples_of_their_own(study, tmp_path):
    other = folder(study, "MATH_best_of_n", prm="Other-PRM")
    for question in range(2):
        for number in range(3):
            record(other, question, number, [question + 1])
    store = Store(tmp_path / "runs")
    done = imported_from(study, store)
    assert {h.spec.n for h in done.source.runs if h.spec.method == "pool"} == {3}, "the pool is the larger one"
    grid = grid_of(done, methods=["majority", "best_of_n"])
    assert [grid.spec("scores", grid.policies[0], prm, grid.samples).n for prm in sorted(grid.prms)] == [3, 2]
    assert len(done.presets) == 2, "they hold different things"


def test_copies_of_runs_and_of_searches_are_listed_and_samples_may_repeat(study, tmp_path):
    before = {h.spec.n for h in imported_from(study, Store(tmp_path / "before")).source.runs}
    shutil.copytree(study / "MATH_best_of_n", study / "backup" / "MATH_best_of_n")
    beams = study / "MATH_beam_search/Pol-1B/Some-PRM-7B/40_4_1"
    for question in range(2):
        (beams / f"question_{question}/record_2.jsonl").write_bytes((beams / f"question_{question}/record_0.jsonl").read_bytes())
        record(study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1", question, 2, [7])
        record(study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1", question, 3, [7])
    done = imported_from(study, Store(tmp_path / "runs"))
    assert {h.spec.n for h in done.source.runs} == (before | {4}) - {2}, "8 subtrees' samples as before, and four samples"
    text = "\n".join(summary.lines(done))
    assert "not used: 6" in text and text.count("a byte-identical copy of ") == 2, "one line for each cause and folder"
    assert "(3 more like this)" in text and "(1 more like this)" in text
    assert "2 records are byte for byte another one of their question; samples may repeat" in text


def test_a_copied_file_is_used_once(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, plain_rows())))
    done = imported_from(tmp_path / "in", Store(tmp_path / "runs"))
    assert done.contents.skipped == [("b.jsonl", "a byte-identical copy of a.jsonl")]
    assert {h.spec.n for h in done.source.runs} == {2}


def test_near_misses_are_read_and_said(tmp_path):
    rows = [{"question": r["problem"]} | {k: v for k, v in r.items() if k != "problem"} for r in plain_rows()]
    for row in rows:
        row["completions"] = [{"text": c["text"], "score": c["scores"][-1], "tokens": 3.0} for c in row["completions"]]
    (tmp_path / "mine.json").write_text(json.dumps([*rows, {"problem": "p", "answer": "1"}, 5], indent=1))
    store = Store(tmp_path / "runs")
    done = imported_from(tmp_path / "mine.json", store)
    assert done.source.count == 3 and rows_of(store, "scores")["x-00000"]["trajectories"][0]["scores"] == [0.6]
    assert rows_of(store, "pool")["x-00000"]["policy_tokens"] == 6
    assert {f"mine.json: {made} in 3 lines" for made in ("question is read as problem", "score is read as scores")} <= set(
        done.contents.notes
    )
    assert (
        done.contents.skipped
        == [
            ("mine.json, item 5", "expected an object, found int"),
            ("mine.json, item 4", "no completions; its fields are problem, answer"),
        ][::-1]
    )


def test_a_file_of_no_format_is_told_by_line_and_field(tmp_path):
    (tmp_path / "mine.jsonl").write_text('\n{"problem": "p", "solution": "1", "responses": ["x"]}\n')
    with pytest.raises(ExchangeError, match="mine.jsonl, line 2: no answer, completions; its fields are problem, solution, responses"):
        exchange.read_runs(tmp_path)


def test_scores_outside_of_0_to_1_are_refused_where_they_are_summed_or_multiplied(tmp_path):
    rows = plain_rows(12)
    for row in rows:
        row["completions"] = [c | {"scores": [-1.0, 2.0][: len(c["scores"])]} for c in row["completions"]]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = tts("import", tmp_path / "mine.jsonl", "--store", tmp_path / "runs", "--name", "x")
    assert "scores from -1 to 2, not in [0, 1]: no PRM-Vote and no product" in said
    [source] = imported.all_of(tmp_path / "runs")
    done = SimpleNamespace(source=source)
    for rule in ({"vote": "vote", "aggregate": "last"}, {"vote": "max", "aggregate": "product"}):
        with pytest.raises(ValueError, match="imported scores of prm are not in .0, 1.*--scores sigmoid"):
            grid_of(done, methods=["best_of_n"], **rule)
    grid = grid_of(done, methods=["majority", "best_of_n"], vote="max", aggregate="last")
    results, asked = Results(grid, Store(tmp_path / "runs")), (source.problem_set, grid.policies[0])
    table = tables.score_by_vote(results, *asked, 2)
    assert table.index[table.isna().all(axis=1)].tolist() == [
        *("PRM-Min-Vote", "PRM-Last-Vote", "PRM-Avg-Vote", "PRM-Product-Max", "PRM-Product-Vote"),
    ]
    assert set(map(str, results.rules(*asked, grid.prms[0], "best_of_n", 2))) == {"min+max", "last+max", "avg+max", "majority"}
    preset = (source.folder / "preset.yaml").read_text()
    assert "vote: max" in preset and "aggregate: last" in preset and "05_compute_optimal" not in preset
    said = tts("import", tmp_path / "mine.jsonl", "--store", tmp_path / "mapped", "--name", "x", "--scores", "sigmoid")
    assert "not in [0, 1]" not in said
    held = rows_of(Store(tmp_path / "mapped"), "scores")["x-00000"]["trajectories"][0]["scores"]
    assert held == pytest.approx([1 / (1 + np.exp(1.0)), 1 / (1 + np.exp(-2.0))])


# -- search-and-learn ------------------------------------------------------------------------------------------


def sal(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.parent


def sal_row(number, answers, scores=(0.2, 0.9, 0.4, 0.1), **changes):
    row = {
        "problem": f"Find {number}.",
        "answer": str(number),
        "unique_id": f"test/{number}.json",
        "completions": [f"One.\n\n\n\nTwo.\n\n\\boxed{{{a}}}" for a in answers],
        "scores": [[0.8, 0.1, 0.5, s] for s in scores[: len(answers)]],
        "completion_tokens": [5] * len(answers),
    }
    return row | changes


def test_search_and_learn(tmp_path):
    rows = [
        sal_row(1, [1, 2, 1, 1], **{"agg_scores": [0.2, 0.9, 0.4, 0.1], "pred_maj@4": "\\boxed{1}", "pred_naive@4": "\\boxed{1}"}),
        sal_row(2, [1, 2, 2, 1]),
        sal_row(2, [1, 2, 2, 1]),
        sal_row(3, [1, 1, 1, 1], unique_id="test/2.json"),
        sal_row(4, [4], completions="not a list"),
    ]
    path = sal(tmp_path / "Llama-1B" / "best_of_n_completions.jsonl", rows)
    store = Store(tmp_path / "runs")
    done = imported_from(path, store, prm="A-PRM-7B")
    assert [reason[:24] for _, reason in done.contents.skipped] == [
        "the same problem and com",
        "id 'test/2.json' is alre",
        "no problem with a list o",
    ]
    row = rows_of(store, "scores")["test/1.json"]
    assert row["trajectories"][0]["steps"] == ["One.", "Two.", "\\boxed{1}"], "a blank step goes, its score with it"
    assert row["trajectories"][0]["scores"] == [0.8, 0.5, 0.2] and row["policy_tokens"] == 20
    assert done.regraded.grades == 2 and [d.split(" gives ")[0].split(": ")[1] for d in done.regraded.differences] == ["last+max"]
    assert any("Llama-1B with A-PRM-7B" in note for note in done.contents.notes), "and the policy's name is asked for"


def test_search_and_learns_searches_do_not_count_tokens(tmp_path):
    answers = [1, 2, 3, 4, 5, 6, 7, 8]
    scores = (0.1, 0.9, 0.2, 0.3, 0.5, 0.4, 0.8, 0.6)
    path = sal(tmp_path / "P" / "dvts_completions.jsonl", [sal_row(2, answers, scores, completion_tokens=-1)])
    store = Store(tmp_path / "runs")
    done = imported_from(path, store)
    [row] = rows_of(store, "dvts", n=8, width=4).values()
    assert [t["steps"][-1] for t in row["trajectories"]] == ["\\boxed{2}", "\\boxed{7}"], "the best of each subtree"
    assert [t["path"] for t in row["trajectories"]] == [[0], [4]] and row["policy_tokens"] is None
    assert any("M = 4 assumed" in note for note in done.contents.notes)
    path = sal(tmp_path / "Q" / "beam_search_completions.jsonl", [sal_row(2, answers, scores), sal_row(3, answers[:3])])
    done = imported_from(path, store, "y")
    assert "3 completions, which is no multiple" in done.contents.skipped[0][1] and done.source.runs[0].spec.width == 4


# -- plain, and back -------------------------------------------------------------------------------------------

NAMES = st.text("abcXYZ019.-_/:", min_size=1, max_size=8)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
COUNT = st.none() | st.integers(0, 10**9)


@st.composite
def completions(draw, n, scored):
    steps = draw(st.lists(TEXT, min_size=1, max_size=3))
    score = st.floats(0, 1) if scored else st.nothing()
    return {
        "text": "\n\n".join(steps),
        "steps": steps,
        "scores": draw(st.lists(score, min_size=len(steps), max_size=len(steps))) if scored else [],
        "tokens": draw(COUNT),
        "status": draw(st.sampled_from(plain.STATUSES)),
        "path": draw(st.lists(st.integers(0, 99), min_size=1, max_size=3)),
    }


@st.composite
def exports(draw):
    """What a store may hold, as its export: a pool, its scores, a search, on some problems."""
    problems = [{"id": f"id-{i}", "problem": f"{draw(TEXT)}p{i}", "answer": f"{i}{draw(TEXT)}"} for i in range(draw(st.integers(1, 3)))]
    policy, prm, n = draw(NAMES), draw(NAMES), draw(st.integers(1, 3))
    sampling = draw(st.dictionaries(st.sampled_from(["temperature", "top_p"]), st.floats(0, 1)))
    header = {"policy": policy, "n": n, "seed": draw(st.integers(0, 3)), "width": None, "sampling": sampling}
    runs = [header | {"method": "samples", "prm": None}, header | {"method": "samples", "prm": prm}]
    if draw(st.booleans()):
        runs.append(header | {"method": "beam_search", "prm": prm, "n": 2 * n, "width": 2})
    rows, extract = [], draw(st.sampled_from([None, ["box", "label"], ["number"]]))
    for run in runs:
        for problem in problems:
            counts = {key: draw(COUNT) for key in ("prompt_tokens", "policy_tokens")} | {"prm_tokens": draw(st.integers(0, 9))}
            held = [draw(completions(n, run["prm"] is not None)) for _ in range(n)]
            rows.append(
                problem
                | {key: run[key] for key in ("method", "policy", "prm", "n", "seed", "width", "sampling")}
                | counts
                | {"extract": extract, "completions": held}
            )
    return rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=exports(), again=st.booleans())
@pytest.mark.slow
def test_what_is_exported_comes_back_the_same(tmp_path_factory, rows, again):
    place = tmp_path_factory.mktemp("round")
    assert plain.write(rows, place / "a.jsonl") == len(rows)
    store = Store(place / "runs")
    done = imported_from(place / "a.jsonl", store)
    assert done.contents.skipped == []
    back = list(plain.rows(store))
    key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
    assert sorted(back, key=key) == sorted(rows, key=key)
    plain.write(back, place / "b.parquet")
    read = pq.read_table(place / "b.parquet").to_pylist()
    assert [row | {"sampling": json.loads(row["sampling"])} for row in read] == back
    again = Store(place / "again")
    imported_from(place / "b.parquet", again)
    assert list(plain.rows(again)) == back


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_graded_export_says_what_became_of_each_answer(ending, tmp_path):
    texts = ["\\boxed{4}", "\\boxed{5}", "no box", "\\boxed{4+}"]
    completions = [{"text": text, "status": "finished"} for text in texts] + [{"text": "\\boxed{4}", "status": "truncated"}]
    plain.write([{"problem": "2+2?", "answer": "4", "completions": completions, "sampling": {}}], tmp_path / "in.jsonl")
    tts("import", tmp_path / "in.jsonl", "--store", tmp_path / "runs")
    assert "1 records" in tts("export", tmp_path / f"out.{ending}", "--store", tmp_path / "runs", "--graded")
    [row] = [row for _, row, _ in reading.lines(tmp_path / f"out.{ending}")]
    found = [(one["outcome"], one["correct"]) for one in row["completions"]]
    assert found == [("answered", True), ("answered", False), ("no answer", False), ("unreadable", False), ("truncated", False)]
    again = tts("import", tmp_path / f"out.{ending}", "--store", tmp_path / "again")
    assert "5 recorded grades recomputed, 0 differ" in again


def test_what_cannot_have_an_effect_is_refused(tmp_path):
    write = {"problem": "2+2?", "answer": "4", "completions": [{"text": "\\boxed{4}", "scores": [0.5]}]}
    (tmp_path / "in.jsonl").write_text(json.dumps(write))
    with pytest.raises(ExchangeError, match="sigmoid is for logits, and all scores of these files are in"):
        list(summary.import_all(Store(tmp_path / "runs"), [str(tmp_path / "in.jsonl")], scores="sigmoid"))
    list(summary.import_all(Store(tmp_path / "runs"), [str(tmp_path / "in.jsonl")]))
    held = {"problems": {str(tmp_path / "runs" / "imported" / "in" / "in.jsonl"): 1}, "policies": ["imported:in/in"]}
    Grid(**held, methods=["majority"], samples=1, budgets=[1])
    with pytest.raises(ValueError, match="imported samples were made with a prompt of their own"):
        Grid(**held, methods=["majority"], samples=1, budgets=[1], system="Think.")


def plain_rows(count=3):
    solution = {"text": "One.\n\n\\boxed{1}", "scores": [0.5, 0.6], "tokens": 4, "correct": True}
    return [{"problem": f"p{i}", "answer": "1", "completions": [solution, {"text": "\\boxed{2}", "scores": [0.1]}]} for i in range(count)]


def test_runs_on_other_problems_are_kept_and_said(tmp_path):
    other = [{**row, "problem": f"q{number}", "policy": "other"} for number, row in enumerate(plain_rows(2))]
    (tmp_path / "both.jsonl").write_text("\n".join(map(json.dumps, [*plain_rows(), *other])))
    done = imported_from(tmp_path / "both.jsonl", Store(tmp_path / "runs"))
    assert [(preset.policies, preset.problems) for preset in done.presets] == [(("imported:x/both",), 3)]
    [note] = [note for note in done.contents.notes if "no preset shows" in note]
    assert note.startswith("pool of other") and note.endswith("import runs on other problems by themselves")
    assert {row["problem"] for row in plain.rows(Store(tmp_path / "runs"))} == {"p0", "p1", "p2", "q0", "q1"}


def test_the_smallest_plain_file(tmp_path):
    (tmp_path / "mine.jsonl").write_text(
        '{"problem": "2+2?", "answer": "4", "completions": [{"text": "\\\\boxed{4}"}, {"text": "\\\\boxed{5}"}]}\n'
    )
    store = Store(tmp_path / "runs")
    done = imported_from(tmp_path / "mine.jsonl", store)
    [row] = rows_of(store, "pool", n=2).values()
    assert row["trajectories"][0]["tokens"] is None and row["policy_tokens"] is None
    assert "step scores: no best-of-n" in "\n".join(summary.lines(done))
    assert list(done.presets[0].notebooks) == ["01_tts_methods", "04_difficulty_bins", "13_more_methods"]


def test_greedy_solutions_alone_are_imported_and_no_preset_is_made_of_them(tmp_path):
    rows = [row | {"method": "cot", "completions": row["completions"][:1]} for row in plain_rows()]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = imported_from(tmp_path / "mine.jsonl", Store(tmp_path / "runs"))
    assert [held.spec.method for held in done.source.runs] == ["cot"] and done.presets == []
    assert "independent samples: no majority" in "\n".join(summary.lines(done))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "guess"}, "unknown method 'guess'"),
        ({"method": "beam_search", "n": 4}, "beam_search needs n and width"),
        ({"method": "dvts", "n": 4, "width": 2}, "dvts needs a path"),
        ({"n": "many"}, "n must be a whole number; given 'many'"),
        ({"n": 5}, "holds 2 of N = 5 samples"),
        ({"sampling": [1]}, "sampling must be an object"),
        ({"answer": " "}, "an empty answer"),
        ({"completions": [{"scores": [1]}]}, "completion 0: no text"),
        ({"completions": [{"text": "x", "scores": ["good"]}]}, "completion 0: scores must be finite numbers"),
        ({"completions": [{"text": "x", "scores": [10**400]}]}, "completion 0: scores must be finite numbers"),
        ({"completions": [{"text": "x", "status": "lost"}]}, "completion 0: unknown status 'lost'"),
    ],
)
def test_a_line_that_does_not_fit_is_skipped_by_number(tmp_path, change, reason):
    lines = [json.dumps(row) for row in plain_rows()]
    lines.insert(1, json.dumps(plain_rows(1)[0] | {"problem": "odd"} | change))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    done = imported_from(tmp_path / "mine.jsonl", Store(tmp_path / "runs"))
    [(source, told)] = done.contents.skipped
    assert reason in told and source == "mine.jsonl, line 2" and done.source.count == 3


def test_a_damaged_byte_costs_its_own_line_only(tmp_path):
    lines = [json.dumps(row).encode() for row in plain_rows(4)]
    lines[0] = b'{"not": "of this format"}'
    lines[1] = lines[1].replace(b"p1", b"\xff1")
    (tmp_path / "mine.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    done = imported_from(tmp_path / "mine.jsonl", Store(tmp_path / "runs"))
    assert done.source.count == 2 and [source for source, _ in done.contents.skipped] == ["mine.jsonl, line 1", "mine.jsonl, line 2"]
    assert "can't decode byte 0xff" in done.contents.skipped[1][1]


def test_one_record_without_scores_takes_the_others_from_no_pool(tmp_path):
    rows = [sal_row(i, [1, 2]) for i in range(3)]
    path = sal(tmp_path / "P" / "best_of_n_completions.jsonl", [rows[0], rows[1] | {"scores": None}, rows[2]])
    store = Store(tmp_path / "runs")
    imported_from(path, store)
    assert len(rows_of(store, "pool")) == 3
    assert set(rows_of(store, "scores")) == {"test/0.json", "test/2.json"}


def test_a_useless_file_does_not_stop_the_others(tmp_path):
    sal(tmp_path / "in" / "P" / "best_of_n_completions.jsonl", [sal_row(i, [1, 2], answer=None) for i in range(2)])
    (tmp_path / "in" / "mine.jsonl").write_text("\n".join(map(json.dumps, plain_rows())))
    told = tts("import", tmp_path / "in", "--store", tmp_path / "runs")
    assert "3 problems, format plain" in told and "none of the 2 records of search-and-learn" in told and "no answer" in told
    (tmp_path / "in" / "mine.jsonl").unlink()
    with pytest.raises(ExchangeError, match="(?s)none of the 2 records of search-and-learn in .*line 2: no answer"):
        list(summary.import_all(Store(tmp_path / "other"), [tmp_path / "in"]))


def test_token_counts_of_samples_are_summed_and_unknown_ones_are_no_axis(tmp_path):
    rows = json.loads(json.dumps(plain_rows(2)))
    del rows[1]["completions"][0]["tokens"]
    rows[0]["completions"][1]["tokens"] = 3
    rows.append(rows[0] | {"problem": "p2", "policy_tokens": None})
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "runs")
    imported_from(tmp_path / "mine.jsonl", store)
    assert [row["policy_tokens"] for row in rows_of(store, "pool").values()] == [7, None, None]
    cells = {"policy": "a", "strategy": "adaptive", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    table = pd.DataFrame([cells | {"prm": "known", "tokens": 9.0}, cells | {"prm": "unknown", "tokens": np.nan}])
    for shown, said in ((table, [False, True]), (table[1:], [True])):
        figure = plots.accuracy_against_tokens(shown)
        figure.savefig(BytesIO(), format="png")
        assert ["token counts are not known" in [text.get_text() for text in ax.texts] for ax in figure.axes] == said


def test_grades_of_single_completions(tmp_path):
    rows = plain_rows()
    rows[1]["answer"] = "3"
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = imported_from(tmp_path / "mine.jsonl", Store(tmp_path / "runs"))
    assert done.regraded.grades == 3 and [d.split(": ")[0] for d in done.regraded.differences] == ["mine.jsonl, line 2, completion 0"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99) | st.floats() | st.sampled_from(["", "x", "1", "\\boxed{1}"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.slow
def test_no_content_of_a_field_stops_an_import(tmp_path_factory, data):
    """Whatever a stranger's field holds, the record is used or listed, and the others are imported."""
    place = tmp_path_factory.mktemp("odd")
    pool = folder(place / "output", "MATH_best_of_n")
    whole = json.loads(record(pool, 0, 0, [1]).read_text(encoding="utf-8"))
    odd = whole | {data.draw(st.sampled_from(sorted(whole))): data.draw(JSON)}
    odd["output"] = (
        [whole["output"][0] | {data.draw(st.sampled_from(sorted(whole["output"][0]))): data.draw(JSON)}]
        if odd["output"] is whole["output"]
        else odd["output"]
    )
    (pool / "question_0" / "record_1.jsonl").write_text(json.dumps(odd))
    sal(
        place / "sal" / "best_of_n_completions.jsonl",
        [sal_row(1, [1, 2]), (row := sal_row(2, [1, 2])) | {data.draw(st.sampled_from(sorted(row))): data.draw(JSON)}],
    )
    (place / "plain.jsonl").write_text(
        "\n".join(
            map(
                json.dumps,
                [
                    (row := plain_rows(1)[0]) | {"id": "a"},
                    row | {data.draw(st.sampled_from(["id", "n", "seed", "policy", "prm", "width", *row])): data.draw(JSON)},
                ],
            )
        )
    )
    store = Store(place / "runs")
    found, _ = exchange.read_runs(place)
    assert [f.format for f in found] == ["compute-optimal-tts", "search-and-learn", "plain"]
    for number, one in enumerate(found):
        done = importing.import_into(store, one, f"x{number}", place)
        assert done.source.count >= 1 and list(summary.lines(done))


# -- the store -------------------------------------------------------------------------------------------------


def state(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"}


def test_again_changes_nothing_and_changed_files_replace(study, tmp_path):
    store = Store(tmp_path / "runs")
    imported_from(study, store)
    before = state(store.folder)
    imported_from(study, store)
    assert state(store.folder) == before
    record(study / "MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1", 0, 1, [8])
    done = imported_from(study, store)
    assert {run.spec.policy.weights for run in store.runs()} == {done.source.digest}
    assert len(list(store.runs())) == len(before_runs(before)), "those of before are gone"


def before_runs(before):
    return [name for name in before if name.endswith("run.json")]


def test_an_import_that_is_stopped_leaves_a_store_that_works(study, tmp_path, monkeypatch):
    whole = Store(tmp_path / "whole")
    imported_from(study, whole)
    store, write, left = Store(tmp_path / "runs"), Run.write, [2]

    def stopped(self, *arguments, **named):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, *arguments, **named)

    monkeypatch.setattr(Run, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        imported_from(study, store)
    assert imported.all_of(store.folder) == [] and len(list(store.export())) == 4
    monkeypatch.setattr(Run, "write", write)
    imported_from(study, store)
    assert list(store.export()) == list(whole.export())


def test_a_part_of_an_import_is_said_to_be_one(study, tmp_path):
    store = Store(tmp_path / "runs")
    done = imported_from(study, store)
    manifest = done.source.folder / "import.json"
    content = manifest.read_text()
    for damaged in (content[:100], "[1]", '{"runs": 5}', '{"name": "x"}'):
        manifest.write_text(damaged)
        with pytest.raises(StoreError, match=f"{manifest} is damaged .*; delete it and import the data again"):
            grid_of(done, methods=["majority"])
        with pytest.raises(StoreError, match="delete it and import the data again"):
            imported.all_of(store.folder)
    manifest.unlink()
    with pytest.raises(StoreError, match=f"the import x was not finished: {manifest.parent} has no import.json; import its files again"):
        grid_of(done, methods=["majority"])
    told = tts("export", tmp_path / "all.jsonl", "--store", store.folder)
    assert "warning: the import x was not finished" in told and imported.unfinished(store) == ["x"]
    imported_from(study, store)
    assert manifest.read_text() == content and imported.unfinished(store) == []
    assert runner.missing(grid_of(done, methods=["majority"]), store) == []


def test_a_name_belongs_to_one_folder(study, tmp_path):
    store = Store(tmp_path / "runs")
    imported_from(study, store)
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, plain_rows())))
    with pytest.raises(ExchangeError, match="x is the name of an import of .*output already; give --name another"):
        imported_from(tmp_path / "mine.jsonl", store)


def test_what_is_not_in_the_data_is_an_error_that_lists_what_is(study, tmp_path):
    store = Store(tmp_path / "runs")
    done = imported_from(study, store)
    with pytest.raises(
        ValueError, match="(?s)beam_search of Pol-1B with Some-PRM-7B at N = 16.*it holds:.*N = 4, seed 1.*cannot be sampled anew"
    ):
        grid_of(done, methods=["beam_search"], budgets=[16])
    with pytest.raises(ValueError, match="is not in the imported data"):
        grid_of(done, methods=["majority"], budgets=[64])
    with pytest.raises(StoreError, match="goes with the problems that it was imported with"):
        grid_of(done, problems={"pocket-main": 2})
    with pytest.raises(ValueError, match="has scores of imported solutions only; policy-6k needs"):
        grid_of(done, policies=["policy-6k"])
    assert reward_models.weights_of("imported:x/a/b") == policies.weights_of("imported:x/a/b") == "imported"
    for opened in (lambda: open_policy("imported:x/Pol-1B", Sampling(), 1), lambda: open_prm("imported:x/Some-PRM-7B")):
        with pytest.raises(ValueError, match="was imported: there are its stored"):
            opened()


def test_fewer_problems_are_read_from_the_same_run(study, tmp_path):
    store = Store(tmp_path / "runs")
    done = imported_from(study, store)
    grid = grid_of(done, problems={done.source.problem_set: 1}, methods=["majority", "best_of_n"])
    assert runner.missing(grid, store) == [] and runner.fill(grid, store) == 0


def test_nothing_to_import(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ExchangeError, match="holds nothing that can be imported .notes.txt"):
        exchange.read_runs(tmp_path)
    with pytest.raises(ExchangeError, match="no folder or file"):
        exchange.read_runs(tmp_path / "missing")


# -- what comes after ------------------------------------------------------------------------------------------

EVIL = "<script>alert('stranger')</script>"
MORE = "<img src=x onerror=alert('stranger')>[link](javascript:alert('stranger'))\x1b[2J\x1b]0;stranger\x07$\\stranger{$"


@pytest.mark.slow
def test_strangers_text_through_notebook_and_report_is_not_rendered(tmp_path):
    """Imported, run and bound as a user would."""
    solution = {"text": f"{EVIL}{MORE}\n\n\\boxed{{1}}{EVIL}", "scores": [0.5, 0.6], "tokens": 4}
    wrong = {"text": f"\\boxed{{{EVIL}{MORE}}}", "scores": [0.4], "tokens": 3}
    rows = [
        {
            "id": f"{EVIL}{i}",
            "problem": f"{EVIL}{MORE} {i}",
            "answer": "1",
            "policy": f"a/{EVIL}-1B",
            "prm": "$\\x$",
            "completions": [solution, wrong],
        }
        for i in range(10)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join([*map(json.dumps, rows), json.dumps({"problem": EVIL, "completions": []})]))
    store, figures = tmp_path / "runs", tmp_path / "figures"
    told = tts("import", tmp_path / "mine.jsonl", "--store", store)
    assert "10 problems" in told
    [command] = [line for line in told.splitlines() if "tts run 01_tts_methods" in line]
    assert "done" in tts(*command.split()[3:], "-p", f"figures={figures}")
    page = (figures / "report.html").read_text()
    assert "script-alert-stranger" in page and "&lt;script&gt;alert('stranger')" in page, "the samples are shown as text"
    assert not any(live in page for live in ("<script>alert", "<img src=x", 'href="javascript:', "\x1b"))
    assert {p.suffix for p in figures.glob("tts_methods_mine.*")} == {".pdf", ".png", ".csv", ".json", ".txt"}


def test_commands(study, tmp_path, capsys, monkeypatch):
    for name in ("first", "second"):
        assert "not used" not in tts("import", study, "--store", tmp_path / name, "--name", "same")
        assert "10 records" in tts("export", tmp_path / f"{name}.jsonl", "--store", tmp_path / name)
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()
    for arguments, message in {
        ("export", tmp_path / "first.csv", "--store", tmp_path / "first"): "ends in .jsonl or .parquet",
        ("import", tmp_path / "nowhere"): "no folder or file",
    }.items():
        monkeypatch.setattr(sys, "argv", ["tts", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.slow
def test_the_ledger_has_a_scope_for_imported_runs(tmp_path):
    rows = plain_rows(12)
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "runs")
    ledger = findings.read()
    assert findings.imported_scopes(ledger, store) == {}
    imported_from(tmp_path / "mine.jsonl", store)
    scope = findings.imported_scopes(ledger, store)["imported"]
    judged = findings.judge(ledger, {"imported": scope}).set_index(["scope", "claim"]).loc["imported"]
    assert judged.loc["tts-over-majority", "verdict"] != "not tested"
    for claim, why in {
        "prm-quality": "not in the data",
        "poor-prm": "no PRM known to be weak",
        "shrinking-gain": "no run of cot",
        "small-hard": "the size of a policy is unknown",
        "absolute-bins": "was not counted",
    }.items():
        assert judged.loc[claim, "verdict"] == "not tested" and why in judged.loc[claim, "detail"], claim


def test_policies_of_known_size_with_cot_serve_every_comparison(tmp_path):
    rows = []
    for policy in ("Llama-3.2-3B-Instruct", "Tiny-0.5B"):
        for row in plain_rows(6):
            cot = {"method": "cot", "n": 1, "completions": [{"text": "\\boxed{1}"}]}
            rows += [row | {"policy": policy}, row | {"policy": policy} | cot]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [preset] = imported_from(tmp_path / "mine.jsonl", Store(tmp_path / "runs")).presets
    assert [imported.original(p) for p in preset.policies] == ["Tiny-0.5B", "Llama-3.2-3B-Instruct"]
    assert {"03_policy_scaling", "06_small_vs_large", "07_flops_comparison"} <= set(preset.notebooks)
    assert preset.without["09_findings"] == "there is no verdict on fewer than 10 problems"
    assert costs.shape_of(preset.policies[0]).parameters == 5e8 and np.isnan(costs.shape_of(preset.policies[0]).layers)
    assert costs.training_flops(preset.policies[1]) == 6 * 3e9 * 9e12 and np.isnan(costs.training_flops(preset.policies[0]))


@pytest.mark.parametrize(
    ("name", "billions"),
    [("Qwen2.5-1.5B-Instruct", 1.5), ("math-shepherd-mistral-7b-prm", 7), ("gpt-4o", None), ("a2B", None), ("model-3Bit", None)],
)
def test_what_a_name_says_of_a_size(name, billions):
    parameters = costs.shape_of(f"imported:x/{name}").parameters
    assert np.isnan(parameters) if billions is None else parameters == billions * 1e9
