"""Logs of samples of inspect_ai (``*.eval``, ``*.json``) and of lm-evaluation-harness (``samples_TASK_DATE.jsonl``).

An inspect_ai log is a zip file, or one JSON object, with a header and a sample for each problem and epoch
(https://inspect.aisi.org.uk/eval-logs.html); a problem's epochs are one pool. lm-evaluation-harness's ``--log_samples`` writes a line for
each problem and filter; all filters have the same responses, so that the first one's lines are read. Neither has scores of steps. Both
are read as rows of the plain format.
"""

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from tts.exchange import plain, reading
from tts.exchange.records import SAMPLES, Contents, ExchangeError, expect
from tts.search.registry import GREEDY
from tts.tasks.extraction import WAYS, boxed_answer

NAME = "evaluation-log"
RESULTS = re.compile(r"results_\d{4}-[^_]+\.json")  # of lm-evaluation-harness, beside its samples
# How answers are found in completions: in a box, and as the prompts of the tools' own tasks ask for them.
INSPECT, HARNESS = ("box", "label"), ("box", "hashes", "phrase")
_STATUS = {"stop": "finished", "unknown": "finished", "max_tokens": "truncated", "model_length": "truncated"}
_GRADES = {"C": True, "I": False, 1: True, 0: False}  # 1.0 and true are the same key as 1
_FILE = re.compile(r"samples_(.+)_(\d{4}-[^_]+)\.jsonl")
_LARGEST = 256 << 20  # bytes of a member of a zip file; more is no log, but would fill the memory
_UNPACKING = (zipfile.BadZipFile, zlib.error, struct.error, pa.ArrowException, EOFError, MemoryError, RuntimeError)  # the last: encrypted
_DAMAGE = (*_UNPACKING, OSError, ValueError, KeyError, TypeError, AttributeError)


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
                    try:
                        yield place, json.loads(_member(archive, place)) | {"log": log}, ""
                    except _DAMAGE as error:
                        yield place, None, f"cannot be read ({str(error) or type(error).__name__})"
        elif path.suffix == ".json" and re.match(rb'\s*\{\s*"version":\s*\d+,\s*"status":', path.read_bytes()[:100]):
            log = json.loads(path.read_bytes())
            for number, sample in enumerate(log.pop("samples", None) or []):
                yield f"samples.{number}", sample | {"log": log}, ""
        else:
            yield from reading.lines(path)
    except _DAMAGE as error:
        yield place, None, f"cannot be read ({str(error) or type(error).__name__})"


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member of a zip file; inspect_ai compresses them by Zstandard, which Python's own module reads from 3.14 on only."""
    info = archive.getinfo(name)
    expect(info.file_size <= _LARGEST, f"it has {info.file_size:,} bytes, and no sample of a log has over {_LARGEST:,}")
    expect((method := info.compress_type) in (0, 8, 93), f"compressed by method {method}; logs are stored, deflated, or by Zstandard")
    if method != 93:
        return archive.open(name).read(info.file_size)  # archive.read would unpack all that follows, whatever size is declared
    with open(str(archive.filename), "rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)  # a local header ends with the lengths of the name and of the extra field that follow it
        file.seek(sum(struct.unpack("<HH", head[26:])), 1)
        content = pa.CompressedInputStream(pa.BufferReader(file.read(info.compress_size)), "zstd").read(info.file_size)
    expect(zlib.crc32(content) == info.CRC, "its checksum is another")
    return content


def is_row(row: dict) -> bool:
    """Whether a JSON line, or a sample with its log's header, is in one of the two formats."""
    return {"log", "epoch", "target"} <= set(row) or {"doc", "target", "resps"} <= set(row)


def read_file(path: Path, name: str, contents: Contents) -> None:
    """Adds what a file holds to ``contents``; ``name`` is the file's in messages."""
    filters = dict[object, None]()
    for place, row, problem in lines(path):
        with contents.using(source := f"{name}, {place}"):
            expect(row is not None, problem)
            expect(is_row(row), f"no sample of an evaluation; its fields are {', '.join(map(str, row))!s:.120}")
            try:
                if "log" in row:
                    contents.records.append(plain.record(_sample(row, contents), source, "", contents))
                    continue
                filters[row.get("filter")] = None
                if row.get("filter") == next(iter(filters)):
                    contents.records.append(plain.record(_line(row, path, contents), source, path.resolve().parent.name, contents))
            except (AttributeError, TypeError, KeyError) as error:
                raise ExchangeError(f"a field is of another kind than in such logs ({error})") from None
    contents.extract = tuple(dict.fromkeys([*contents.extract, *(HARNESS if filters else INSPECT)]))
    if filters:
        contents.notes.append(f"{name} says neither which completions were cut off, all count as finished, nor how many tokens they have")
    if others := [*map(str, filters)][1:]:
        contents.notes.append(f"{name}: recorded grades are those of filter {next(iter(filters))}, not of {', '.join(others)}")


def _at(row: Any, path: str, default: Any = ExchangeError) -> Any:
    """What lies at a path of names and numbers, or the default; without one an ExchangeError that names the path."""
    for part in path.split("."):
        try:
            row = row[int(part) if isinstance(row, list) else part]
        except (KeyError, IndexError, TypeError, ValueError):
            expect(default is not ExchangeError, f"no {path}")
            return default
    return row


def _sample(row: dict, contents: Contents) -> dict:
    """A sample of inspect_ai as a row of the plain format."""
    expect(not row.get("error"), f"error: the sample ended with {_at(row, 'error.message', row.get('error'))!s:.120}")
    expect(not row.get("choices"), "choices: a question of multiple choice has no answer to compare")
    expect(len(_at(row, "output.choices")) == 1, "output.choices: one completion is needed")
    asked = [m.get("role") for m in row.get("messages") or []].count("assistant")
    expect(asked <= 1, f"messages: the model was asked {asked} times; a trajectory is one solution")
    said = row["input"] if isinstance(row["input"], list) else [{"role": "user", "content": row["input"]}]
    said = [m.get("content") for m in said if m.get("role") == "user"]
    expect(len(said) == 1, f"input: {len(said)} messages of a user; a problem has one")
    expect(not (one := row.get("uuid")) or one not in contents.seen, "the sample is in another of these logs too")  # one was retried
    contents.seen.add(one)
    given = _at(row, "log.eval.model_generate_config", {}) | _at(row, "log.plan.config", {})
    sampling = {name: given[name] for name in ("temperature", "top_p", "max_tokens") if name in given}
    greedy = given.get("temperature") == 0 and _at(row, "log.eval.config.epochs", None) in (None, 1)
    grade = next((_at(score, "value", None) for score in (row.get("scores") or {}).values()), None)
    usage = _at(row, "output.usage", None) or {}
    read = [usage.get(f"input_tokens{kind}") or 0 for kind in ("", "_cache_read", "_cache_write")]  # each without the others
    completion = {
        "text": _text(_at(row, "output.choices.0.message.content")),
        "tokens": usage.get("output_tokens"),
        "status": "truncated" if row.get("limit") else _STATUS.get(_at(row, "output.choices.0.stop_reason", "unknown"), "open"),
        "correct": _GRADES.get(grade) if isinstance(grade, (str, int, float)) else None,
    }
    return _row(_text(said[0]), row["target"], [completion], greedy) | {
        "id": f"{_at(row, 'log.eval.task')}-{_at(row, 'id')}",
        "policy": _at(row, "log.eval.model"),
        "prompt_tokens": sum(read) if usage else None,
        "sampling": sampling,
    }


def _line(row: dict, path: Path, contents: Contents) -> dict:
    """A line of lm-evaluation-harness as a row of the plain format."""
    texts, settings = _at(row, "resps.0"), _at(row, "arguments.gen_args_0.arg_1", {})
    fit = len(row["resps"]) == 1 and isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    expect(texts and fit, f"resps: no texts, as of a task that weighs given choices; given {row['resps']!r:.60}")
    prompt = _at(row, "arguments.gen_args_0.arg_0", None)
    problem = _at(row, "doc.problem", _at(row, "doc.question", prompt))
    expect(problem, f"doc: no problem or question; its fields are {', '.join(row['doc'])!s:.120}")
    named, model, one = _FILE.fullmatch(path.name), None, len(texts) == 1
    with suppress(*_DAMAGE):
        model = json.loads(path.with_name(f"results_{named[2]}.json").read_bytes())["model_name"]  # type: ignore[index]
    contents.unnamed |= not model
    # It decodes greedily unless it is told otherwise. A recorded grade is of what a filter made of all responses.
    greedy = one and bool(settings) and (not settings.get("temperature") or settings.get("do_sample") is False)
    grade = next((row[metric] for metric in row.get("metrics", ["exact_match"]) if row.get(metric) in (0, 1)), None) if one else None
    completions = [{"text": text, "correct": _GRADES.get(grade)} for text in texts]
    return _row(problem, row["target"], completions, greedy) | {
        "id": f"{named[1] if named else path.stem}-{_at(row, 'doc_id')}",
        "policy": model,
        "sampling": {name: settings[name] for name in ("temperature", "top_p") if name in settings},
    }


def _row(problem: str, target: Any, completions: list[dict], greedy: bool) -> dict:
    """The fields that both have; the target is one answer, or a worked solution that ends with it."""
    one = target[0] if isinstance(target, list) and len(target) == 1 else target
    expect(isinstance(one, (str, int, float)), f"target: one answer is needed; given {target!r:.60}")
    answer = WAYS["hashes"](str(one)) or boxed_answer(str(one)) or str(one)
    method, n = (GREEDY, 1) if greedy else (SAMPLES, None)
    return {"problem": problem, "answer": answer, "completions": completions, "method": method, "n": n}


def _text(given: Any) -> Any:
    """A text, or the text parts of a message; reasoning and images are none."""
    return "\n\n".join(_at(p, "text") for p in given if _at(p, "type", "") == "text") if isinstance(given, list) else given
