"""Output of search-and-learn (huggingface/search-and-learn): ``APPROACH_completions.jsonl``, a problem a line.

``completions`` and ``scores`` hold a text and its step scores for each candidate; steps are its parts between blank lines.
``completion_tokens`` is a list for best-of-N, and -1 for its searches, which do not count. Beam search there returns N candidates
(a finished one is replaced, unlike in the study), DVTS all M last continuations of each of its N/M subtrees. ``pred_maj@n``,
``pred_weighted@n`` and ``pred_naive@n`` are what its votes selected out of the first n. Neither policy nor PRM is named.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tts.exchange.records import Contents, Record, Solution, clean_scores, problem_key, steps_and_scores, total, whole_number
from tts.tasks.extraction import boxed_answer
from tts.tasks.selection import AGGREGATES, Rule, aggregates

NAME = "search-and-learn"
WIDTH = 4
"""M where nothing says it: search-and-learn's default."""

_APPROACH = re.compile(r"(best_of_n|beam_search|dvts)_completions\.jsonl")


def is_row(row: dict) -> bool:
    """Whether a JSON line is in this format."""
    texts = row.get("completions")
    return "problem" in row and isinstance(texts, list) and bool(texts) and all(isinstance(t, str) for t in texts)


def read_rows(path: Path, name: str, rows: Iterator[tuple[str, dict]], contents: Contents) -> None:
    """Adds what a file holds, place and object of each line, to ``contents``; ``name`` is the file's in messages."""
    contents.unnamed = True
    named = _APPROACH.fullmatch(path.name)
    approach = named[1] if named else "best_of_n"
    policy = path.resolve().parent.name
    contents.notes.append(f"{name} does not say which completions were cut off: all count as finished")
    if approach == "beam_search":
        contents.notes.append(f"{name}: this beam search refills its places as candidates finish, the study's does not")
    if not named:
        contents.notes.append(f"{name} does not name its approach: taken as best_of_n")
    if approach != "best_of_n":
        contents.notes.append(f"{name} does not say the beam width: M = {WIDTH} assumed, search-and-learn's default")
    seen: dict[str, list[dict]] = {}
    for source, row in rows:
        record = _record(row, source, approach, policy, contents)
        if record is None:
            continue
        before = seen.setdefault(record.problem_id or problem_key(record.problem), [])
        if any(row["completions"] == other["completions"] for other in before):
            contents.skip(source, f"the same problem and completions again ({record.problem_id or 'no id'})")
            continue
        if before and problem_key(before[0]["problem"]) != problem_key(record.problem):
            contents.skip(source, f"id {record.problem_id!r} is already that of another problem")
            continue
        before.append(row)
        contents.records.append(record if approach == "best_of_n" else replace(record, seed=len(before) - 1))


def _record(row: dict, source: str, approach: str, policy: str, contents: Contents) -> Record | None:
    if not is_row(row):
        return contents.skip(source, "no problem with a list of completion texts")
    if not str(row["problem"]).strip():
        return contents.skip(source, "an empty problem")
    answer = row.get("answer") if row.get("answer") not in (None, "") else boxed_answer(str(row.get("solution") or ""))
    if answer is None or not str(answer).strip():
        return contents.skip(source, "no answer, nor a solution with a boxed one")
    searched = approach != "best_of_n"
    if searched and len(row["completions"]) % WIDTH:
        return contents.skip(source, f"{len(row['completions'])} completions, which is no multiple of the beam width M = {WIDTH}")
    texts, scores, tokens = row["completions"], row.get("scores"), row.get("completion_tokens")
    scores = scores if isinstance(scores, list) and len(scores) == len(texts) else [()] * len(texts)
    tokens = tokens if isinstance(tokens, list) and len(tokens) == len(texts) else [None] * len(texts)
    each = zip(texts, map(clean_scores, scores), map(whole_number, tokens))
    solutions = [Solution(*steps_and_scores(text, of_text), count) for text, of_text, count in each]
    if not all(s.scores for s in solutions if s.steps):
        contents.skip(source, "step scores (missing, or not numbers, for some completion); the texts are used")
    identity = row.get("unique_id", row.get("id"))
    return Record(
        problem=str(row["problem"]),
        answer=str(answer),
        method=approach if searched else "samples",
        policy=policy,
        solutions=_leaders(solutions) if approach == "dvts" else tuple(solutions),
        source=source,
        prm="prm" if any(s.scores for s in solutions) else None,
        n=len(texts) if searched else None,
        width=WIDTH if searched else None,
        problem_id=None if identity is None else str(identity),
        policy_tokens=None if searched else total([s.tokens for s in solutions]),
        recorded={} if searched else _recorded(row, len(texts)),
    )


def _leaders(solutions: list[Solution]) -> tuple[Solution, ...]:
    """Of each subtree the continuation with the best last score, as its selection has it."""
    firsts = range(0, len(solutions), WIDTH)
    best = [max(solutions[i : i + WIDTH], key=lambda s: s.scores[-1] if s.scores else -1.0) for i in firsts]
    return tuple(replace(solution, path=(i,)) for i, solution in zip(firsts, best))


def _recorded(row: dict, n: int) -> dict[Rule, str | bool]:
    """Its three votes over all candidates; the two with scores where it is known how it aggregated them."""
    totals, scores = clean_scores(row.get("agg_scores")), row.get("scores")
    cleaned = [clean_scores(s) for s in scores] if isinstance(scores, list) else []
    comparable = totals and len(totals) == len(cleaned) and all(cleaned)
    how = next((h for h in AGGREGATES if comparable and np.abs(aggregates(cleaned, h) - totals).max() < 1e-6), None)
    rules = {"maj": Rule("", "majority")} | ({"weighted": Rule(how, "vote"), "naive": Rule(how, "max")} if how else {})
    answers = {rule: boxed_answer(str(row.get(f"pred_{name}@{n}") or "")) for name, rule in rules.items()}
    return {rule: answer for rule, answer in answers.items() if answer is not None}
