"""Folders to import, sound ones of each format, and the cases in which they are damaged, with what must be said of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from torture.damages import BINARY, EMPTY, Damage, edited, flipped, removed, truncated
from tts.exchange import plain

RUN = Path("MATH_best_of_n/Pol-1B/Some-PRM-7B/1_1_1")
QUESTION = RUN / "question_1"
KNOWN = "holds nothing that can be imported"
PROBLEMS = 5


class Case(NamedTuple):
    """A damaged folder.

    Attributes:
        name: of the case.
        root: which of the sound ones, see :func:`build`.
        damage: done to it, or to a file of it.
        file: which.
        said: what must be said; where it is refused, in the refusal, else among what was not used.
        kept: problems of which there are samples all the same; None where nothing can be used.
    """

    name: str
    root: str
    damage: Damage
    file: str = ""
    said: tuple[str, ...] = ()
    kept: int | None = PROBLEMS


# -- sound folders -----------------------------------------------------------------------------------------------


def build(folder: Path) -> None:
    """A folder of each format, and one with all three."""
    for root in ("plain", "sal", "study", "all"):
        (folder / root).mkdir(parents=True)
    for root in ("plain", "all"):
        one_of_plain(folder / root / "mine.jsonl")
    for root in ("sal", "all"):
        _search_and_learn(folder / root / "Llama-1B" / "best_of_n_completions.jsonl")
    for root in ("study", "all"):
        _study(folder / root / RUN)
    (folder / "exported").mkdir()
    rows = [json.loads(line) for line in (folder / "plain" / "mine.jsonl").read_text().splitlines()]
    whole = [{name: None for name in plain.schema().names} | row | {"sampling": {}} for row in rows]
    plain.write(whole, folder / "exported" / "mine.parquet")


def one_of_plain(path: Path) -> None:
    rows = [
        {
            "id": f"p{i}",
            "problem": f"What is {i}+1?",
            "answer": str(i + 1),
            "completions": [{"text": f"One.\n\n\\boxed{{{i + k}}}", "scores": [0.5, 0.25], "tokens": 7} for k in range(3)],
        }
        for i in range(PROBLEMS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _search_and_learn(path: Path) -> None:
    path.parent.mkdir()
    rows = [
        {
            "problem": f"Find {i}.",
            "answer": str(i),
            "unique_id": f"test/{i}.json",
            "completions": [f"One.\n\n\\boxed{{{i + k}}}" for k in range(3)],
            "scores": [[0.8, 0.1 * k] for k in range(3)],
            "completion_tokens": [5] * 3,
        }
        for i in range(PROBLEMS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _study(run: Path) -> None:
    for i in range(PROBLEMS):
        folder = run / f"question_{i}"
        folder.mkdir(parents=True)
        for number in range(2):
            output = {
                "text": f"One. ки\ntwo \\boxed{{{i + number}}} ки\n",
                "value": [0.9, 0.4],
                "token_history": [9],
                "completion_tokens": 9,
            }
            row = {"question": f"What is {i}-0?", "groundtruth": f"It is $\\boxed{{{i}}}$.", "result": {}, "output": [output]}
            (folder / f"record_{number}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    (run / "config.json").write_text(json.dumps({"gen_config": {"temperature": 0.7, "max_new_tokens": 50}, "prm_step_tag": "ки\n"}))


# -- damage ------------------------------------------------------------------------------------------------------


def line(number: int, change: Callable[[bytes], bytes]) -> Damage:
    """Changes one line, counted from 1."""

    def damage(path: Path) -> None:
        lines = path.read_bytes().split(b"\n")
        lines[number - 1] = change(lines[number - 1])
        path.write_bytes(b"\n".join(lines))

    return damage


def field(number: int, **values: object) -> Damage:
    """Sets fields of one line's object."""
    return line(number, lambda text: json.dumps(json.loads(text) | values).encode())


def half(text: bytes) -> bytes:
    return text[: len(text) // 2]


def lines_as(change: Callable[[str], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_text()))


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def by_guessing(path: Path) -> None:
    path.write_text(path.read_text().replace('"completions"', '"method": "guess", "completions"'))


def another_answer(text: bytes) -> bytes:
    """The record twice, the second time with another answer."""
    return text + b"\n" + text.replace(b'"2"', b'"77"', 1)


def of_another_tool(folder: Path) -> None:
    emptied(folder)
    (folder / "results.json").write_text(json.dumps({"results": {"math": {"acc": 0.3}}, "config": {"model": "x"}}))
    (folder / "samples.jsonl").write_text('{"doc_id": 0, "resps": [["4"]], "target": "4"}\n' * 3)
    (folder / "table.csv").write_text("problem,answer\n1+1,2\n")


def cases() -> list[Case]:
    """Every damaged folder whose damage and words are given."""
    mine, sal = "mine.jsonl", "Llama-1B/best_of_n_completions.jsonl"
    record, other = (str(QUESTION / f"record_{number}.jsonl") for number in range(2))
    by_line = [
        (Case(f"{root}: {name}", root, damage, file, (f"{file}, line 2", said), PROBLEMS - 1))
        for root, file in (("plain", mine), ("sal", sal))
        for name, damage, said in (
            ("half a line within", line(2, half), "not valid JSON"),
            ("a byte that is no text", line(2, lambda text: text.replace(b"+", b"\xff").replace(b"Find", b"\xff")), "cannot be read"),
            ("zeros", line(2, lambda text: b"\0" * len(text)), "not valid JSON"),
            ("nested without end", line(2, lambda text: b"[" * 100_000), "not valid JSON"),
            ("an endless number", line(2, lambda text: b'{"n": ' + b"9" * 9999 + b"}"), "not valid JSON"),
            ("a list", line(2, lambda text: b"[1, 2]"), "expected an object, found list"),
            ("half a character", line(2, lambda text: text.replace(b'"problem": "', b'"problem": "\\ud800')), "half a surrogate pair"),
            ("an empty problem", field(2, problem=" "), "an empty problem"),
            ("completions of another kind", field(2, completions="none"), "completion"),
        )
    ]
    listed = [
        *by_line,
        Case("plain: cut off", "plain", truncated(0.95), mine, (f"{mine}, line 5", "the file ends within it"), 4),
        Case("plain: a first line of nothing", "plain", line(1, lambda text: b'{"a": 1}'), mine, (f"{mine}, line 1", "no problem"), 4),
        Case("plain: a record of another problem", "plain", field(2, id="p0"), mine, ("line 2", "already that of another problem"), 4),
        Case("plain: another answer", "plain", line(2, another_answer), mine, ("line 3", "'77' is not '2'")),
        Case("plain: scores that are none", "plain", field(2, completions=[{"text": "x", "scores": [None]}]), mine, ("finite numbers",), 4),
        Case("plain: a score of infinity", "plain", line(2, lambda t: t.replace(b"0.25", b"Infinity")), mine, ("finite numbers",), 4),
        Case("plain: too few samples", "plain", field(2, completions=[{"text": "x"}], prm="prm"), mine, ("has 1 of the 3",), 4),
        Case("plain: a byte order mark", "plain", lines_as(lambda text: text.encode("utf-8-sig")), mine),
        Case("plain: lines of another system", "plain", lines_as(lambda text: text.replace("\n", "\r\n").encode()), mine),
        Case("plain: a strange file beside it", "plain", lambda root: (root / "core").write_bytes(b"\x7fELF\0"), "", ("1 files", "core")),
        Case("sal: cut off", "sal", truncated(0.95), sal, (f"{sal}, line 5", "the file ends within it"), 4),
        Case("sal: no scores", "sal", field(2, scores=None), sal, ("line 2", "step scores")),
        Case("sal: a score that is none", "sal", field(2, scores=[[0.1, None]] * 3), sal, ("line 2", "step scores")),
        Case("sal: no answer", "sal", field(2, answer=None), sal, ("line 2", "no answer"), 4),
        Case("sal: a record of another problem", "sal", field(2, unique_id="test/0.json"), sal, ("line 2", "another problem"), 4),
        Case("sal: the same again", "sal", line(2, lambda text: text + b"\n" + text), sal, ("line 3", "again")),
        Case("study: record cut off", "study", truncated(0.5), record, ("record_0.jsonl", "the file ends within it", "1 of the 2"), 4),
        Case("study: record that is empty", "study", EMPTY, record, ("record_0.jsonl", "empty file"), 4),
        Case("study: record that is no text", "study", BINARY, record, ("record_0.jsonl",), 4),
        Case("study: a byte flipped into no text", "study", flipped(0.4), record, ("record_0.jsonl", "cannot be read"), 4),
        Case("study: a record gone", "study", removed, record, ("1 of the 2",), 4),
        Case("study: a question's records gone", "study", emptied, str(QUESTION), ("question_1", "without records"), 4),
        Case(
            "study: a record of another question", "study", edited(lambda row: row.update(question="What is 0-0?")), other,
            ("record_1.jsonl", "another problem (its text is that of question 0)"), 4,
        ),
        Case("study: no truth", "study", edited(lambda row: row.update(groundtruth=None)), record, ("no groundtruth",), 4),
        Case("study: no texts", "study", edited(lambda row: row.update(output=[{}])), record, ("no output texts",), 4),
        Case("study: no scores", "study", edited(lambda row: row["output"][0].pop("value")), record, ("step scores",)),
        Case("study: config cut off", "study", truncated(0.5), str(RUN / "config.json"), ("config.json", "not readable")),
        Case("study: config that is no text", "study", BINARY, str(RUN / "config.json"), ("config.json", "not readable")),
        Case("study: a strange file", "study", lambda root: (root / RUN / "notes").write_text("x"), "", ("notes", "not a record")),
        Case("all three, one cut off", "all", truncated(0.95), mine, ("the file ends within it",), 14),
        Case("all three, one useless", "all", lines_as(lambda text: text.replace('"answer": "', '"answer": "" , "x": "').encode()), mine,
             ("none of the 5 records of plain", "an empty answer"), 10),
        Case("all three, one that is none", "all", BINARY, mine, ("1 files in no known format", "mine.jsonl"), 10),
        Case("an export with a row of nothing", "exported", _without_a_problem, "mine.parquet", ("mine.parquet, line 2",), 4),
    ]  # fmt: skip
    refused = [
        Case("an empty folder", "plain", emptied, "", (KNOWN, "no files"), None),
        Case("a folder of another tool", "plain", of_another_tool, "", (KNOWN, "results.json", "samples.jsonl", "table.csv"), None),
        Case("no folder", "plain", shutil.rmtree, "", ("no folder or file",), None),
        Case("a file that is empty", "plain", EMPTY, mine, (KNOWN, mine), None),
        Case("a file that is no text", "plain", BINARY, mine, (KNOWN, mine), None),
        Case("a file in UTF-16", "plain", lines_as(lambda text: text.encode("utf-16")), mine, (KNOWN, mine), None),
        Case("a file cut within its first line", "plain", truncated(0.05), mine, (KNOWN, mine), None),
        Case(
            "a file of useless records", "plain", by_guessing,
            mine, ("none of the 5 records", "unknown method 'guess'", "line 5"), None,
        ),
        Case("search-and-learn without answers", "sal", lines_as(lambda text: text.replace('"answer"', '"a"').encode()), sal,
             ("none of the 5 records", "no answer"), None),
        Case("search-and-learn cut within its first line", "sal", truncated(0.05), sal, (KNOWN, "best_of_n_completions.jsonl"), None),
        Case("the study's folder without questions", "study", _without_questions, "", ("none of the 0 records",), None),
        Case("the study's folder with empty records", "study", _all_records_empty, "", ("none of the 10 records", "empty file"), None),
        Case("an export cut off", "exported", truncated(0.7), "mine.parquet", (KNOWN, "mine.parquet"), None),
        Case("an export that is empty", "exported", EMPTY, "mine.parquet", (KNOWN, "mine.parquet"), None),
    ]  # fmt: skip
    return listed + refused


def _without_a_problem(path: Path) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1]["problem"] = None
    pq.write_table(type(table).from_pylist(rows, table.schema), path)


def _without_questions(root: Path) -> None:
    for question in (root / RUN).glob("question_*"):
        shutil.rmtree(question)


def _all_records_empty(root: Path) -> None:
    for record in (root / RUN).glob("question_*/*"):
        record.write_text("")
