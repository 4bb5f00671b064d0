"""Logs of samples of inspect_ai (``*.eval``, ``*.json``) and of lm-evaluation-harness (``samples_TASK_DATE.jsonl``).

An inspect_ai log is a zip file, or one JSON object, with a header and a sample for each problem and epoch
(https://inspect.aisi.org.uk/eval-logs.html); a problem's epochs are one pool. lm-evaluation-harness's ``--log_samples`` writes a line for
each problem and filter; all filters have the same responses, so that the first one's lines are read. Neither has scores of steps.
"""

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import AliasPath, BaseModel, BeforeValidator, Field, ValidationError

from tts.exchange import reading
from tts.exchange.reading import steps_and_scores, whole_number
from tts.exchange.records import SAMPLES, Contents, ExchangeError, Header, Record, Solution, expect, pack
from tts.generate.grid import explain
from tts.search.registry import GREEDY
from tts.tasks.extraction import WAYS, boxed_answer

NAME = "evaluation-log"
# How answers are found in completions: in a box, and as the prompts of the tools' own tasks ask for them.
INSPECT, HARNESS = ("box", "label"), ("box", "hashes", "phrase")
_STATUS = {"stop": "finished", "unknown": "finished", "max_tokens": "truncated", "model_length": "truncated"}
_GRADES = {"C": True, "I": False, 1: True, 0: False}  # 1.0 and true are the same key as 1
_SAMPLES = re.compile(r"samples_(.+)_(\d{4}-[^_]+)\.jsonl")
RESULTS = re.compile(r"results_\d{4}-[^_]+\.json")  # beside the samples; the name of the model is read from it
_DAMAGE = (zipfile.BadZipFile, struct.error, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, pa.ArrowException)


def _text(given: Any) -> Any:
    """A text, or the text parts of a message; reasoning and images are none."""
    if isinstance(given, list):
        return "\n\n".join(str(part["text"]) for part in given if isinstance(part, dict) and part.get("type") == "text")
    return given


def _question(given: Any) -> Any:
    """A text, or what the one message of a user says."""
    asked = [m.get("content") for m in given if isinstance(m, dict) and m.get("role") == "user"] if isinstance(given, list) else [given]
    expect(len(asked) == 1, f"{len(asked)} messages of a user; a problem has one")
    return _text(asked[0])


def _answer(target: Any) -> str:
    """The gold answer that a target is, or with which it ends where it is a worked solution."""
    one = target[0] if isinstance(target, list) and len(target) == 1 else target
    expect(isinstance(one, (str, int, float)), "one answer is needed")
    return WAYS["hashes"](str(one)) or boxed_answer(str(one)) or str(one).strip()


Text = Annotated[str, BeforeValidator(_text)]


class _Settings(BaseModel):
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


def _at(*path: str | int, default: Any = ...) -> Any:
    """A field of a log, by its path."""
    return Field(default, validation_alias=AliasPath(*path))  # type: ignore[arg-type]


class _Sample(BaseModel):
    """A sample of inspect_ai with the header of its log, as far as they are read."""

    model: str = _at("log", "eval", "model")
    task: str = _at("log", "eval", "task")
    epochs: int | None = _at("log", "eval", "config", "epochs", default=None)
    of_model: _Settings = _at("log", "eval", "model_generate_config", default=_Settings())
    of_task: _Settings = _at("log", "plan", "config", default=_Settings())
    id: int | str
    input: Annotated[str, BeforeValidator(_question), Field(pattern=r"\S")]
    target: Annotated[str, BeforeValidator(_answer)]
    choices: None | list = Field(None, max_length=0)  # of a question of multiple choice
    messages: list[dict] = []
    candidates: list = Field(min_length=1, max_length=1, validation_alias=AliasPath("output", "choices"))
    text: Text = _at("output", "choices", 0, "message", "content")
    stop_reason: str = _at("output", "choices", 0, "stop_reason", default="unknown")
    usage: dict[str, Any] | None = _at("output", "usage", default=None)
    scores: dict[str, dict] | None = None
    error: None = None
    limit: dict | None = None
    uuid: str | None = None


class _Line(BaseModel):
    """A line of lm-evaluation-harness, as far as it is read."""

    doc_id: int
    doc: dict
    target: Annotated[str, BeforeValidator(_answer)]
    texts: list[str] = Field(min_length=1, validation_alias=AliasPath("resps", 0))  # a task that weighs given choices has none
    prompt: str | None = _at("arguments", "gen_args_0", "arg_0", default=None)
    settings: dict | None = _at("arguments", "gen_args_0", "arg_1", default=None)
    filter: str = "none"
    metrics: list[str] = ["exact_match"]


def lines(path: Path) -> Iterator[tuple[str, Any, str]]:
    """As :func:`tts.exchange.reading.lines`; of a log of inspect_ai its samples, each with the log's header as ``log``."""
    place = path.name
    try:
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                place = "header.json" if "header.json" in names else "_journal/start.json"  # of an evaluation that was cut off
                log = json.loads(_member(archive, place))
                samples = (name for name in names if name.startswith("samples/"))
                for place in sorted(samples, key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(12), name)):
                    yield place, *_sample(archive, place, log)
        elif path.suffix == ".json" and re.match(rb'\s*\{\s*"version":\s*\d+,\s*"status":', path.read_bytes()[:100]):
            log = json.loads(path.read_bytes())
            for number, sample in enumerate(log.pop("samples", None) or []):
                yield f"samples.{number}", sample | {"log": log}, ""
        else:
            yield from reading.lines(path)
    except _DAMAGE as error:
        yield place, None, f"cannot be read ({str(error) or type(error).__name__})"


def _sample(archive: zipfile.ZipFile, name: str, log: dict) -> tuple[dict | None, str]:
    """A sample with its log's header; or None and what is wrong, which is no other sample's matter."""
    try:
        return json.loads(_member(archive, name)) | {"log": log}, ""
    except _DAMAGE as error:
        return None, f"cannot be read ({str(error) or type(error).__name__})"


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of a zip file; inspect_ai compresses them by Zstandard, which Python's own module reads from 3.14 on only."""
    info = archive.getinfo(name)
    if info.compress_type != 93:
        return archive.read(name)
    with open(str(archive.filename), "rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)  # a local header ends with the lengths of the name and of the extra field that follow it
        file.seek(sum(struct.unpack("<HH", head[26:])), 1)
        content = pa.CompressedInputStream(pa.BufferReader(file.read(info.compress_size)), "zstd").read()
    expect(zlib.crc32(content) == info.CRC, "its checksum is another")
    return content


def is_row(row: dict) -> bool:
    """Whether a JSON line, or a sample with its log's header, is in one of the two formats."""
    return {"log", "epoch", "target"} <= set(row) or {"doc", "target", "resps"} <= set(row)


def read_file(path: Path, name: str, contents: Contents) -> None:
    """Adds what a file holds to ``contents``; ``name`` is the file's in messages."""
    before, filters, ways = len(contents.records), dict[str, None](), INSPECT
    for place, row, problem in lines(path):
        with contents.using(source := f"{name}, {place}"):
            expect(row is not None, problem)
            expect(is_row(row), f"no sample of an evaluation; its fields are {', '.join(map(str, row))!s:.120}")
            try:
                if "log" in row:
                    contents.records.append(_inspected(_Sample.model_validate(row), source, contents))
                    continue
                line, ways = _Line.model_validate(row), HARNESS
            except ValidationError as error:
                raise ExchangeError("; ".join(explain(error).splitlines())) from None
            filters.setdefault(line.filter)
            if line.filter == next(iter(filters)):
                contents.records.append(_harnessed(line, row, source, path, contents))
    contents.extract = tuple(dict.fromkeys([*contents.extract, *ways]))
    texts = ["\n\n".join(s.steps) for record in contents.records[before:] for s in record.solutions]
    if bare := sum(boxed_answer(text) is None for text in texts):
        found = f"answers are looked for by {', '.join(ways)}, see 'extract' in docs/grading.md"
        contents.notes.append(f"{name}: {bare} of {len(texts)} completions have no box; {found}")
    if filters:
        contents.notes.append(f"{name} says neither which completions were cut off, all count as finished, nor how many tokens they have")
    if others := list(filters)[1:]:
        contents.notes.append(f"{name}: recorded grades are those of filter {next(iter(filters))}, not of {', '.join(others)}")


def _inspected(sample: _Sample, source: str, contents: Contents) -> Record:
    asked = sum(message.get("role") == "assistant" for message in sample.messages)
    expect(asked <= 1, f"messages: the model was asked {asked} times; a trajectory is one solution")
    expect(not sample.uuid or sample.uuid not in contents.seen, "the sample is in another of these logs too")  # one that was retried
    contents.seen.add(sample.uuid)
    sampling = sample.of_model.model_dump(exclude_none=True) | sample.of_task.model_dump(exclude_none=True)
    greedy = sampling.get("temperature") == 0 and sample.epochs in (None, 1)
    grade = next((score.get("value") for score in (sample.scores or {}).values()), None)
    usage = {name: whole_number(count) for name, count in (sample.usage or {}).items()}
    of_prompt = [usage.get(f"input_tokens{kind}") for kind in ("", "_cache_read", "_cache_write")]  # each without the others
    tokens, status = usage.get("output_tokens"), "truncated" if sample.limit else _STATUS.get(sample.stop_reason, "open")
    correct = _GRADES.get(grade) if isinstance(grade, (str, int, float)) else None
    return Record(
        Header(GREEDY if greedy else SAMPLES, sample.model, n=1 if greedy else None, sampling=sampling),
        sample.input,
        sample.target,
        (pack([Solution(steps_and_scores(sample.text, ())[0], tokens=tokens, status=status, correct=correct)]),),
        source,
        problem_id=f"{sample.task}-{sample.id}",
        counts={"policy_tokens": tokens, "prompt_tokens": None if of_prompt[0] is None else sum(filter(None, of_prompt))},
    )


def _harnessed(line: _Line, row: dict, source: str, path: Path, contents: Contents) -> Record:
    problem = next((line.doc[name] for name in ("problem", "question") if name in line.doc), line.prompt)
    expect(isinstance(problem, str) and problem.strip(), f"doc: no problem or question; its fields are {', '.join(line.doc)!s:.120}")
    named, model, one = _SAMPLES.fullmatch(path.name), "", len(line.texts) == 1
    with suppress(*_DAMAGE):
        model = json.loads(path.with_name(f"results_{named[2]}.json").read_bytes())["model_name"]  # type: ignore[index]
    contents.unnamed |= not model
    # It decodes greedily unless it is told otherwise; recorded grades are of what a filter made of all responses.
    greedy = one and line.settings is not None and (not line.settings.get("temperature") or line.settings.get("do_sample") is False)
    grade = next((row[metric] for metric in line.metrics if row.get(metric) in (0, 1)), None) if one else None
    correct = None if grade is None else bool(grade)
    sampling = {name: line.settings[name] for name in ("temperature", "top_p") if name in line.settings} if line.settings else {}
    return Record(
        Header(GREEDY if greedy else SAMPLES, model or path.resolve().parent.name, n=1 if greedy else None, sampling=sampling),
        problem,
        line.target,
        (pack([Solution(steps_and_scores(text, ())[0], correct=correct) for text in line.texts]),),
        source,
        problem_id=f"{named[1] if named else path.stem}-{line.doc_id}",
    )
