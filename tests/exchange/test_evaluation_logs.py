"""Logs of inspect_ai and of lm-evaluation-harness, as those tools wrote them: ``logs/make_logs.py`` says how."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from tts import exchange
from tts.analysis import run_comparison
from tts.analysis.accuracy import Results
from tts.exchange import evaluation_logs, importing, plain
from tts.exchange.records import Contents, ExchangeError
from tts.generate.grid import Grid
from tts.store.store import Store
from tts.study import cli
from tts.tasks.selection import Rule

LOGS = Path(__file__).with_name("logs")
[LINES] = LOGS.glob("own__tiny-model/samples_*.jsonl")


def read(path):
    [contents], unknown = exchange.read_runs(path)
    return contents, unknown


def pass_at_1(path, store):
    """Pass@1 of each problem by an import's own preset, and what was recomputed."""
    contents, _ = read(path)
    done = importing.import_into(Store(store), contents, "x", path)
    preset = yaml.safe_load((done.source.folder / "preset.yaml").read_text())["common"]
    grid = Grid(**{name: value for name, value in preset.items() if name in Grid.model_fields})
    found = Results(grid, Store(store)).accuracy(done.source.problem_set, grid.policies[0], None, "pass", 1)
    return found.tolist(), done.regraded


def test_epochs_of_inspect_ai_are_a_pool(tmp_path):
    contents, _ = read(LOGS / "sums.eval")
    assert [record.problem for record in contents.records[::2]] == ["What is 2+2?", "What is 3*5?", "What is 7-9?"]
    first = contents.records[0]
    assert (first.header.method, first.header.policy, first.header.sampling) == ("samples", "mockllm/model", {"temperature": 0.7})
    assert first.counts == {"policy_tokens": 20, "prompt_tokens": 15, "prm_tokens": None}, "what a cache held is of the prompt too"
    assert [record.counts["policy_tokens"] for record in contents.records] == [20, 23, 21, 24, 22, 25], "by problem, then by epoch"
    assert [s.status for record in contents.records for s in record.solutions] == ["finished"] * 4 + ["truncated"] * 2
    found, regraded = pass_at_1(LOGS / "sums.eval", tmp_path)
    assert found == [1, 1, 0], "ANSWER: 4, a box, and one that was cut off"
    assert (regraded.grades, len(regraded.differences)) == (6, 2), "its scorer takes no box"


def test_commands_grade_an_import_in_the_ways_of_its_preset(tmp_path):
    """Of six samples two have a label, ANSWER: 4, two a box, and two were cut off."""
    importing.import_into(Store(tmp_path), read(LOGS / "sums.eval")[0], "x", LOGS / "sums.eval")
    [run] = Store(tmp_path).runs()
    assert list(run_comparison.right([run])) == [2 / 3]
    assert run_comparison.compare(run, run, Rule("last", "vote")).runs["accuracy"].tolist() == [2 / 3] * 2
    completions = [one for row in plain.rows(Store(tmp_path), graded=True) for one in row["completions"]]
    assert [one["outcome"] for one in completions] == ["answered, label"] * 2 + ["answered"] * 2 + ["truncated"] * 2
    told = {"store": ["--accuracy"], "show": [run.key], "compare": [run.key, run.key], "export": [str(tmp_path / "x.jsonl"), "--graded"]}
    for command, arguments in told.items():
        said = CliRunner().invoke(cli.app, [command, *arguments, "--store", str(tmp_path)]).output
        assert "graded: imported:x by box, label; ways that a study's 'extract' adds are not stored" in " ".join(said.split()), command
    manifest = tmp_path / "imported" / "x" / "import.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"extract": []}))
    assert list(run_comparison.right([run])) == [1 / 3], "by the box alone"


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_is_exported_of_a_log_is_graded_alike_where_it_is_imported_again(ending, tmp_path):
    first, again = Store(tmp_path / "first"), Store(tmp_path / "again")
    importing.import_into(first, read(LOGS / "sums.eval")[0], "x", LOGS / "sums.eval")
    out = tmp_path / f"out.{ending}"
    plain.write(plain.rows(first), out)
    assert pass_at_1(out, again.folder)[0] == [1, 1, 0]
    assert list(run_comparison.right(again.runs())) == list(run_comparison.right(first.runs())) == [2 / 3]


def test_plain_completions_without_a_box_are_counted_and_unknown_ways_are_told(tmp_path):
    row = {"problem": "2+2?", "answer": "4", "completions": [{"text": "ANSWER: 4"}, {"text": "\\boxed{4}"}, {"text": "4"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"extract": ["labels"]}) + "\n")
    contents = importing.import_into(Store(tmp_path / "runs"), read(tmp_path / "a.jsonl")[0], "x", tmp_path / "a.jsonl").contents
    assert contents.notes == ["2 of 3 completions have no box; answers are looked for by box, see 'extract' in docs/grading.md"]
    [(source, said)] = contents.skipped
    assert source == "a.jsonl, line 2" and said.startswith("extract must be a list of box, hashes, label, ") and "given ['labels']" in said
    (tmp_path / "a.jsonl").write_text(json.dumps(row | {"extract": ["box", "label"]}) + "\n")
    contents = importing.import_into(Store(tmp_path / "runs"), read(tmp_path / "a.jsonl")[0], "x", tmp_path / "a.jsonl").contents
    assert contents.extract == ("box", "label") and "looked for by box, label, see" in contents.notes[0]


def test_greedy_samples_of_inspect_ai_are_cot(tmp_path):
    contents, _ = read(LOGS / "greedy.json")
    [record] = contents.records
    assert (record.header.method, record.header.n, record.problem_id, record.answer) == ("cot", 1, "sums-0", "4")
    assert record.solutions[0].correct is True and contents.extract == ("box", "label")


def test_responses_of_the_harness_are_a_pool(tmp_path):
    contents, unknown = read(LOGS / "own__tiny-model")
    assert unknown == [] and not contents.unnamed and len(contents.records) == 3, "once, although there are two filters"
    record = contents.records[0]
    assert record.header[:2] == ("samples", "own/tiny-model") and record.header.sampling == {"temperature": 0.7}
    assert (record.problem, record.answer, record.problem_id, len(record.solutions)) == ("What is 2+2?", "4", "gsm_own-0", 2)
    assert any("strict-match, not of flexible-extract" in note for note in contents.notes)
    assert any("nor how many tokens" in note for note in contents.notes)
    found, regraded = pass_at_1(LOGS / "own__tiny-model", tmp_path)
    assert found == [0.5, 0.5, 0.5] and regraded.grades == 0, "grades of several responses are none of any one"


def test_without_the_results_beside_them_the_folder_names_the_model(tmp_path):
    path = tmp_path / "somebody" / LINES.name
    path.parent.mkdir()
    row = json.loads(LINES.read_text().splitlines()[1])
    row["arguments"]["gen_args_0"]["arg_1"] = {"until": []}
    path.write_text(json.dumps(row | {"resps": [["\\boxed{15}"]], "exact_match": 1.0, "target": 15}) + "\n")
    contents, _ = read(path)
    [record] = contents.records
    assert record.header[:2] == ("cot", "somebody") and contents.unnamed, "greedy unless it is told otherwise"
    assert record.answer == "15" and record.solutions[0].correct is True


def sample(**changes):
    log = json.loads((LOGS / "greedy.json").read_text())
    log["samples"][0] |= changes
    return json.dumps(log)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"error": {"message": "timed out"}}, "samples.0: error: the sample ended with timed out"),
        ({"choices": ["3", "4"]}, "samples.0: choices: "),
        ({"target": ["4", "four"]}, "samples.0: target: one answer is needed; given ['4', 'four']"),
        ({"messages": [{"role": "assistant"}] * 2}, "samples.0: messages: the model was asked 2 times"),
        ({"output": {"choices": []}}, "samples.0: output.choices: one completion is needed"),
        ({"output": {"choices": [{"message": {"content": None}}]}}, "samples.0: completion 0: no text"),
        ({"input": [{"role": "user", "content": "a"}] * 2}, "samples.0: input: 2 messages of a user; a problem has one"),
        ({"input": " "}, "samples.0: an empty problem"),
        ({"output": {"choices": [{}]}}, "samples.0: no output.choices.0.message.content"),
        ({"messages": ["text"]}, "samples.0: a field is of another kind than in such logs ("),
    ],
)
def test_a_sample_that_does_not_fit_is_told_by_place_and_field(changes, reason, tmp_path):
    path = tmp_path / "log.json"
    path.write_text(sample(**changes))
    contents, _ = read(path)
    [(source, said)] = contents.skipped
    assert f"{source.removeprefix('log.json, ')}: {said}".startswith(reason) and contents.records == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resps": [[[-1.5, False]]]}, "resps: no texts, as of a task that weighs given choices; given [[[-1.5, False]]]"),
        ({"resps": []}, "no resps.0"),
        ({"doc": {"passage": "x"}, "arguments": {}}, "doc: no problem or question; its fields are passage"),
        ({"target": []}, "target: one answer is needed; given []"),
        ({"doc": 5, "arguments": {}}, "a field is of another kind than in such logs ("),
    ],
)
def test_a_line_that_does_not_fit_is_told_by_line_and_field(changes, reason, tmp_path):
    path = tmp_path / LINES.name
    first, second, *_ = map(json.loads, LINES.read_text().splitlines())
    path.write_text(json.dumps(first) + "\n" + json.dumps(second | changes) + "\n")
    contents, _ = read(path)
    [(source, said)] = contents.skipped
    assert source == f"{LINES.name}, line 2" and said.startswith(reason) and len(contents.records) == 1


def test_parts_of_a_message_and_both_kinds_of_zip(tmp_path):
    """Reasoning is no part of a solution; logs of earlier releases are deflated."""
    log = json.loads((LOGS / "greedy.json").read_text())
    [one] = log.pop("samples")
    parts = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "2+2=4"}, {"type": "text", "text": "ANSWER: 4"}]
    one["output"]["choices"][0]["message"]["content"] = parts
    with zipfile.ZipFile(tmp_path / "log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps({"eval": log["eval"], "plan": log["plan"]}))
        archive.writestr("samples/0_epoch_1.json", json.dumps(one | {"limit": {"type": "time"}}))
        archive.writestr("samples/1_epoch_1.json", "{")
    contents, _ = read(tmp_path / "log.eval")
    [solution] = contents.records[0].solutions
    assert solution.steps == ["2+2=4", "ANSWER: 4"] and solution.status == "truncated"
    [(source, reason)] = contents.skipped
    assert source == "log.eval, samples/1_epoch_1.json" and reason.startswith("cannot be read (")


def test_a_damaged_sample_costs_itself_only(tmp_path):
    content = bytearray((LOGS / "sums.eval").read_bytes())
    with zipfile.ZipFile(LOGS / "sums.eval") as archive:
        info = archive.getinfo("samples/1_epoch_1.json")
    content[info.header_offset + 30 + len(info.filename) + 200] ^= 255
    (tmp_path / "log.eval").write_bytes(content)
    contents, _ = read(tmp_path / "log.eval")
    assert [source for source, _ in contents.skipped] == ["log.eval, samples/1_epoch_1.json"] and len(contents.records) == 5


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    """A log of inspect_ai with members by name, and the places of each one's local header and of its entry in the list."""
    log = json.loads((LOGS / "greedy.json").read_text())
    [one] = log.pop("samples")
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("header.json", json.dumps(log), zipfile.ZIP_DEFLATED)
        for name, text in members.items():
            archive.writestr(f"samples/{name}.json", text or json.dumps(one | {"uuid": name}))
        places = {info.filename: info.header_offset for info in archive.infolist()}
    content = bytearray(path.read_bytes())
    return content, {name: (place, content.rfind(name.encode()) - 46) for name, place in places.items()}


def encrypted(content, local, listed):
    content[local + 6] |= 1
    content[listed + 8] |= 1


def of_unknown_method(content, local, listed):
    content[local + 8] = content[listed + 10] = 97


def no_stream(content, local, listed):
    content[local + 45 : local + 90] = b"\xff" * 45


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (encrypted, "cannot be read (File 'samples/1.json' is encrypted, password required for extraction)"),
        (of_unknown_method, "cannot be read (compressed by method 97; logs are stored, deflated, or by Zstandard)"),
        (no_stream, "cannot be read (Error -3 while decompressing data: "),
    ],
)
def test_a_member_that_cannot_be_unpacked_costs_itself_only(damage, reason, tmp_path):
    content, places = zipped(tmp_path / "a.eval", {"1": "", "2": ""})
    damage(content, *places["samples/1.json"])
    (tmp_path / "a.eval").write_bytes(content)
    shutil.copy(LOGS / "sums.eval", tmp_path / "b.eval")
    contents, _ = read(tmp_path)
    [(source, said)] = contents.skipped
    assert source == "a.eval, samples/1.json" and said.startswith(reason) and len(contents.records) == 7


def test_memory_that_does_not_suffice_is_told_by_its_name(tmp_path, monkeypatch):
    def fails(archive, name):
        raise MemoryError

    monkeypatch.setattr(evaluation_logs, "_member", fails)
    contents = Contents(evaluation_logs.NAME)
    evaluation_logs.read_file(LOGS / "sums.eval", "sums.eval", contents)
    assert contents.skipped == [("sums.eval, header.json", "cannot be read (MemoryError)")]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, 93])
def test_a_member_is_unpacked_to_its_declared_size_and_no_further(method, tmp_path, monkeypatch):
    """One that declares more than any log has is not opened; one that declares less than it has is cut off, and has another checksum."""
    monkeypatch.setattr(evaluation_logs, "_LARGEST", 20_000)
    text = b" " * 50_000
    content, places = zipped(tmp_path / "log.eval", {"1": "", "2": text.decode(), "3": text.decode()})
    for name, size in (("2", None), ("3", 100)):
        local, listed = places[f"samples/{name}.json"]
        if size:
            content[listed + 24 : listed + 28] = struct.pack("<I", size)
        if method == 93:
            begin = local + 30 + len("samples/1.json")
            packed = pa.compress(text, "zstd", asbytes=True)
            content[begin : begin + len(packed)] = packed
            content[local + 8] = content[listed + 10] = method
            content[listed + 20 : listed + 24] = struct.pack("<I", len(packed))
    (tmp_path / "log.eval").write_bytes(content)
    contents, _ = read(tmp_path / "log.eval")
    [(_, large), (_, cut)] = contents.skipped
    assert large == "cannot be read (it has 50,000 bytes, and no sample of a log has over 20,000)" and len(contents.records) == 1
    assert cut in (
        "cannot be read (Bad CRC-32 for file 'samples/3.json')",
        "cannot be read (its checksum is another)",
    )


def test_a_sample_in_two_logs_is_used_once(tmp_path):
    shutil.copy(LOGS / "greedy.json", tmp_path / "a.json")
    (tmp_path / "b.json").write_text(sample(total_time=1.0))
    contents, _ = read(tmp_path)
    assert len(contents.records) == 1
    assert contents.skipped == [("b.json, samples.0", "the sample is in another of these logs too")]


def test_what_is_no_log_is_said(tmp_path):
    (tmp_path / "log.eval").write_text("nothing")
    with pytest.raises(ExchangeError, match=r"log.eval, log.eval: cannot be read \(File is not a zip file\)"):
        exchange.read_runs(tmp_path)
    contents = Contents(evaluation_logs.NAME)
    (tmp_path / "lines.jsonl").write_text('{"a": 1}\n[]\n')
    evaluation_logs.read_file(tmp_path / "lines.jsonl", "lines.jsonl", contents)
    assert [reason for _, reason in contents.skipped] == ["no sample of an evaluation; its fields are a", "expected an object, found list"]


@pytest.mark.parametrize("field", ["log", "id", "input", "target", "messages", "output", "scores", "error", "limit", "uuid", "choices"])
@pytest.mark.parametrize("value", [None, 1, "x", [1], {"a": 1}, [[]], {"choices": [1]}])
def test_no_content_of_a_field_stops_an_import(field, value, tmp_path):
    path = tmp_path / "log.eval"
    log = json.loads((LOGS / "greedy.json").read_text())
    [one] = log.pop("samples")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps(value if field == "log" else log))
        archive.writestr("samples/0.json", json.dumps(one if field == "log" else one | {field: value}))
    contents = Contents(evaluation_logs.NAME)
    evaluation_logs.read_file(path, "log.eval", contents)
    assert len(contents.records) + len(contents.skipped) == 1
