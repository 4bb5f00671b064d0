"""Output of search-and-learn (huggingface/search-and-learn): ``APPROACH_completions.jsonl``, a problem a line.

``completions`` and ``scores`` hold a text and its step scores for each candidate; steps are its parts between blank lines.
``completion_tokens`` is a list for best-of-N, and -1 for its searches, which do not count. Beam search there returns N candidates
(a finished one is replaced, unlike in the study), DVTS all M last continuations of each of its N/M subtrees. ``pred_maj@n``,
``pred_weighted@n`` and ``pred_naive@n`` are what its votes selected out of the first n. Neither policy nor PRM is named.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from tts.exchange.reading import clean_scores, objects, steps_and_scores, total, whole_number
from tts.exchange.records import SAMPLES, Contents, Header, Record, Solution, expect, pack, problem_key
from tts.tasks.extraction import boxed_answer
from tts.tasks.selection import AGGREGATES, Rule, aggregates

NAME = "search-and-learn"
WIDTH = 4  # M where nothing says it: search-and-learn's default

_APPROACH = re.compile(r"(best_of_n|beam_search|dvts)_completions\.jsonl")


def is_row(row: dict) -> bool:
    """Whether a JSON line is in this format."""
    texts = row.get("completions")
    return "problem" in row and isinstance(texts, list) and bool(texts) and all(isinstance(t, str) for t in texts)


def read_file(path: Path, name: str, contents: Contents) -> None:
    """Adds what a file holds to ``contents``; ``name`` is the file's in messages."""
    contents.unnamed = True
    named = _APPROACH.fullmatch(path.name)
    method = named[1].replace("best_of_n", SAMPLES) if named else SAMPLES
    header = Header(method, path.resolve().parent.name, "prm", width=WIDTH)
    describe(name, method, contents)
    if not named:
        contents.notes.append(f"{name} does not name its approach: taken as best_of_n")
    if method != SAMPLES:
        contents.notes.append(f"{name} does not say the beam width: M = {WIDTH} assumed, search-and-learn's default")
    seen: dict[str, list[tuple[str, int]]] = {}
    for source, row in objects(path, name, contents):
        with contents.using(source):
            read = record(row, source, header, contents)
            before = seen.setdefault(read.problem_id or problem_key(read.problem), [])
            this = problem_key(read.problem), hash(tuple(row["completions"]))
            expect(this not in before, f"the same problem and completions again ({read.problem_id or 'no id'})")
            expect(not before or before[0][0] == this[0], f"id {read.problem_id!r} is already that of another problem")
            before.append(this)
            seed = 0 if method == SAMPLES else len(before) - 1
            contents.records.append(replace(read, header=read.header._replace(seed=seed)))


def describe(name: str, method: str, contents: Contents) -> None:
    """Notes what this format does not say, and where its search is not the study's."""
    contents.notes.append(f"{name} does not say which completions were cut off: all count as finished")
    if method == "beam_search":
        contents.notes.append(f"{name}: this beam search refills its places as candidates finish, the study's does not")


def record(row: dict, source: str, header: Header, contents: Contents, aggregate: str = "") -> Record:
    """A row as a record of the run that ``header`` describes; an ExchangeError where it cannot be used.

    ``aggregate`` is that of its votes, empty where only the row may show it.
    """
    expect(is_row(row), "no problem with a list of completion texts")
    expect(str(row["problem"]).strip(), "an empty problem")
    answer = row.get("answer") if row.get("answer") not in (None, "") else boxed_answer(str(row.get("solution") or ""))
    expect(answer is not None and str(answer).strip(), "no answer, nor a solution with a boxed one")
    texts, scores, tokens = row["completions"], row.get("scores"), row.get("completion_tokens")
    searched, subtrees, width = header.method != SAMPLES, header.method == "dvts", header.width or WIDTH
    if searched:
        expect(len(texts) % width == 0, f"{len(texts)} completions, which is no multiple of the beam width M = {width}")
    scores = [clean_scores(s) for s in scores] if isinstance(scores, list) and len(scores) == len(texts) else [()] * len(texts)
    tokens = tokens if isinstance(tokens, list) and len(tokens) == len(texts) else [None] * len(texts)
    solutions = [
        Solution(*steps_and_scores(text, of_text), whole_number(count), path=(i - i % width,) if subtrees else ())
        for i, (text, of_text, count) in enumerate(zip(texts, scores, tokens))
    ]
    if not all(s.scores for s in solutions if s.steps):
        contents.skip(source, "step scores (missing, or not numbers, for some completion); the texts are used")
    prm = header.prm if any(s.scores for s in solutions) else None
    # Of each subtree the continuation with the best last score, as its selection has it.
    last = [s.scores[-1] if s.scores else -1.0 for s in solutions]
    leaders = tuple(max(range(i, i + width), key=last.__getitem__) for i in range(0, len(last), width)) if subtrees else ()
    identity = row.get("unique_id", row.get("id"))
    how, totals = _totals(row, scores, aggregate)
    return Record(
        header._replace(prm=prm, n=len(texts), width=width) if searched else header._replace(prm=prm, width=None),
        str(row["problem"]),
        str(answer),
        (pack(solutions),),
        source,
        problem_id=None if identity is None else str(identity),
        counts={} if searched else {"policy_tokens": total([s.tokens for s in solutions])},
        recorded=_recorded(row, len(texts), how),
        totals=totals,
        leaders=leaders,
    )


def _totals(row: dict, scores: list[tuple[float, ...]], aggregate: str) -> tuple[str, tuple[float, ...]]:
    """How a row's step scores were aggregated, and each completion's aggregate; nothing where that is not known."""
    if not all(scores):
        return "", ()
    given = clean_scores(row.get("agg_scores"))
    if len(given) == len(scores):
        how = next((h for h in AGGREGATES if np.abs(aggregates(scores, h) - given).max() < 1e-6), "")
        return how, given if how else ()
    return aggregate, tuple(aggregates(scores, aggregate).tolist()) if aggregate else ()


def _recorded(row: dict, most: int, how: str) -> dict[tuple[Rule, int], str | bool]:
    """Its three votes over the first n completions, for every n; the two with scores where it is known how it aggregated them."""
    rules = {"maj": Rule("", "majority")} | ({"weighted": Rule(how, "vote"), "naive": Rule(how, "max")} if how else {})
    return {
        (rule, int(vote[1])): boxed_answer(answer) or ""
        for name, rule in rules.items()
        for key, answer in row.items()
        if (vote := re.fullmatch(rf"pred_{name}@(\d+)", key)) and int(vote[1]) <= most and isinstance(answer, str)
    }
