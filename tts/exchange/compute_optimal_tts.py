"""Output folders of the study's own code (RyanLiu112/compute-optimal-tts).

``TASK_METHOD/POLICY/PRM/DEPTH_WIDTH_SEQUENCES/question_I/record_J.jsonl``, with a ``config.json`` beside the questions. What the
folders mean follows from that code's README and ``evaluate.py``:

- ``best_of_n`` is run with width 1 and many records: each record is *one* sample, so that a question's records are a pool.
- ``beam_search`` with width W and S sequences has N = W and M = W / S; its records are repetitions.
- DVTS has no folder of its own: it is beam search with one sequence, and each record is a subtree of width W.
- ``cot`` is greedy.
- ``value`` holds the PRM's step scores, ``completion_tokens`` what the policy generated, pruned branches included, and
  ``token_history`` the tokens of each step of the solution itself.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tts.exchange.reading import clean_scores, copies, lines, steps_and_scores, total, whole_number
from tts.exchange.records import SAMPLES, Contents, ExchangeError, Header, Record, Solution, expect, pack, problem_key
from tts.search.registry import GREEDY
from tts.tasks.extraction import boxed_answer
from tts.tasks.selection import Rule

NAME = "compute-optimal-tts"
_RUN = re.compile(r"([^/]+)_(best_of_n|beam_search|cot)/([^/]+)/([^/]+)/\d+_(\d+)_(\d+)")
_RECORD = re.compile(r"question_(\d+)/record_(\d+)\.jsonl")
# Its verdicts for several candidates, by the names in its records.
_RULES = {"majority_vote": Rule("", "majority")} | {
    f"prm_{how}_{vote}": Rule(how, vote) for how in ("min", "last", "avg") for vote in ("max", "vote")
}


class Run:
    """A ``DEPTH_WIDTH_SEQUENCES`` folder, and what the last four parts of its path, its name, say."""

    def __init__(self, folder: Path, named: re.Match):
        self.folder, self.name = folder, named[0]
        self.task, self.method, self.policy, self.prm = named.groups()[:4]
        self.width, self.sequences = int(named[5]), int(named[6])
        paths = ((_RECORD.fullmatch("/".join(path.parts[-2:])), path) for path in folder.glob("question_*/*"))
        # Question number, record number and file of each record, in order.
        self.records = sorted((int(record[1]), int(record[2]), path) for record, path in paths if record)


def runs(root: Path) -> list[Run]:
    """The runs at or below a folder."""
    folders = [path for path in (root, *sorted(root.rglob("*_*_*"))) if path.is_dir()]
    return [Run(path, named) for path in folders if (named := _RUN.fullmatch("/".join(path.parts[-4:])))]


def read_folders(root: Path, known: list[Run]) -> Iterator[Contents]:
    """What runs below ``root`` hold, one problem set for each task."""
    for task in dict.fromkeys(run.task for run in known):
        of_task = [run for run in known if run.task == task]
        contents = Contents(NAME, task)
        texts, again = _questions(of_task), copies([path for run in of_task for *_, path in run.records])
        for run in of_task:
            _read_run(run, root, texts, again, contents)
        yield contents


def _questions(of_task: list[Run]) -> dict[int, str]:
    """Each question's text, as most of its records in all runs have it."""
    counts: dict[int, Counter] = defaultdict(Counter)
    for question, _, path in (record for run in of_task for record in run.records):
        for _, row, _ in lines(path):
            if row and isinstance(row.get("question"), str):
                counts[question][problem_key(row["question"])] += 1
    return {question: texts.most_common(1)[0][0] for question, texts in counts.items()}


def _read_run(run: Run, root: Path, texts: dict[int, str], again: dict[Path, Path], contents: Contents) -> None:
    config, searched = _config(run.folder, root, contents), run.method == "beam_search"
    generation = config.get("gen_config", {})
    repeated = 0
    header = Header(
        SAMPLES if run.method == "best_of_n" else run.method,
        run.policy,
        None if "dummy" in run.prm.lower() or run.method == GREEDY else run.prm,
        n=run.width if searched else 1 if run.method == GREEDY else None,
        width=max(1, run.width // max(1, run.sequences)) if searched else None,
        sampling={key: generation[key] for key in ("temperature", "top_p") if isinstance(generation.get(key), (int, float))},
    )
    if run.method == "best_of_n" and run.folder.name == "1_1_1":
        contents.notes.append(f"{run.name}: each record is one sample; a question's records together are a pool, not best-of-N")
    if searched and run.sequences == 1:
        contents.notes.append(f"{run.name}: a question's records are repetitions (seeds) of beam search, and together the subtrees of DVTS")
    for question, number, path in run.records:
        where, first = path.relative_to(root), again.get(path)
        if first and path.parts[-6:-1] == first.parts[-6:-1]:  # of the same run and question
            # Independent samples may be the same, byte for byte; whole searches, with their counts of pruned tokens, are not.
            if path.name == first.name or searched:
                contents.skip(where, f"a byte-identical copy of {first.relative_to(root)}")
                continue
            repeated += 1
        rows = list(lines(path))
        if not rows:
            contents.skip(where, "empty file")
        for line, row, problem in rows:
            source = f"{where}, {line}" if len(rows) > 1 else str(where)
            with contents.using(source):
                expect(row is not None, problem)
                expect(row is rows[0][1] or row != rows[0][1], "the same record again")
                seed = 0 if header.method == SAMPLES else number
                record = _record(row, source, header._replace(seed=seed), config, question, texts, contents)
                contents.records.append(record)
                if searched and header.n == header.width and len(record.solutions) == 1:  # also a subtree of DVTS
                    contents.records.append(replace(record, header=header._replace(method="dvts", n=None), recorded={}))
    if repeated:
        contents.notes.append(
            f"{run.name}: {repeated} records are byte for byte another one of their question; samples may repeat: all are used"
        )
    known = {path for *_, path in run.records}
    for path in sorted(run.folder.rglob("*")):
        if path.is_file() and path not in known and path.name not in ("config.json", "avg_result.json") and "lock_dir" not in path.parts:
            contents.skip(path.relative_to(root), "not a record (record_J.jsonl in a folder question_I)")
    for path in sorted({*run.folder.glob("question_*/")} - {path.parent for path in known}):
        contents.skip(path.relative_to(root), "a question without records")


def _config(folder: Path, root: Path, contents: Contents) -> dict:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        expect(isinstance(config, dict) and isinstance(config.get("gen_config", {}), dict), "not an object")
        return config
    except FileNotFoundError:
        contents.notes.append(f"{folder.relative_to(root)} has no config.json: temperature and token limit are unknown")
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error).splitlines()[0]
        contents.skip(path.relative_to(root), f"not readable ({reason}): temperature and token limit are unknown")
    return {}


def _record(row: dict, source: str, header: Header, config: dict, question: int, texts: dict[int, str], contents: Contents) -> Record:
    """A row as a record; an ExchangeError where it cannot be used."""
    text, truth, output, result = (row.get(key) for key in ("question", "groundtruth", "output", "result"))
    expect(isinstance(text, str) and text.strip(), "no question")
    if (key := problem_key(text)) != texts[question]:
        whose = next((f"question {i}" for i, known in texts.items() if known == key), "no other question of the task")
        raise ExchangeError(f"a record from another problem (its text is that of {whose})")
    expect(isinstance(truth, (str, int, float)) and str(truth).strip(), "no groundtruth")
    told = isinstance(output, list) and output and all(isinstance(o, dict) and isinstance(o.get("text"), str) for o in output)
    expect(told, "no output texts")
    limit, tag = config.get("gen_config", {}).get("max_new_tokens"), config.get("prm_step_tag")
    solutions = [_solution(o, None if header.width else limit, tag if isinstance(tag, str) else "") for o in output]
    if header.prm and not any(s.scores for s in solutions):
        contents.skip(source, f"step scores (there are none of {header.prm}, or not all are numbers); the text is used")
    result = result if isinstance(result, dict) else {}
    tokens = whole_number(result.get("total_completion_tokens")) or total([o.get("completion_tokens") for o in output])
    return Record(
        header,
        text,
        boxed_answer(str(truth)) or str(truth).strip(),
        (pack(solutions),),
        source,
        place=question,
        counts={"policy_tokens": tokens or None},
        recorded={(rule, len(solutions)): bool(result[key]) for key, rule in _RULES.items() if result.get(key) in (0, 1)},
    )


def _solution(output: dict, limit: object, tag: str) -> Solution:
    steps, scores = steps_and_scores(output["text"], clean_scores(output.get("value")), tag)
    history = output.get("token_history")
    tokens = total(history) or None if isinstance(history, list) else None
    cut = isinstance(limit, int) and tokens is not None and tokens >= limit
    return Solution(steps, scores, tokens, "truncated" if cut else "finished")
