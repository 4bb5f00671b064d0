"""Output of search-and-learn (huggingface/search-and-learn): ``APPROACH_completions.jsonl``, a problem a line.

``completions`` and ``scores`` hold a text and its step scores for each candidate; steps are its parts between blank lines.
``completion_tokens`` is a list for best-of-N, and -1 for its searches, which do not count. Beam search there returns N candidates
(a finished one is replaced, unlike in the study), DVTS all M last continuations of each of its N/M subtrees. ``pred_maj@n``,
``pred_weighted@n`` and ``pred_naive@n`` are what its votes selected out of the first n. Neither policy nor PRM is named.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tts.exchange.records import Contents, Record, Solution, clean_scores, problem_key, steps_and_scores, total, whole_number
from tts.tasks.extraction import boxed_answer
from tts.tasks.selection import AGGREGATES, Rule, aggregates

NAME = "search-and-learn"
WIDTH = 4
"""M where nothing says it: search-and-learn's default."""

_APPROACH = re.compile(r"(best_of_n|beam_search|dvts)_completions\.jsonl")
_VOTE = re.compile(r"pred_\w+@(\d+)")


def is_row(row: dict) -> bool:
    """Whether a JSON line is in this format."""
    texts = row.get("completions")
    return "problem" in row and isinstance(texts, list) and bool(texts) and all(isinstance(t, str) for t in texts)


@dataclass(frozen=True)
class Configuration:
    """What is known of a file's completions beside what its rows say.

    Attributes:
        approach: ``best_of_n``, ``beam_search`` or ``dvts``.
        n: number of completions of each row; None where it is not known.
        width: M of a search.
        aggregate: aggregate of its votes; empty where only the rows may show it.
    """

    approach: str
    policy: str
    prm: str = "prm"
    n: int | None = None
    seed: int = 0
    width: int = WIDTH
    sampling: dict = field(default_factory=dict)
    aggregate: str = ""


def read_rows(path: Path, name: str, rows: Iterator[tuple[str, dict]], contents: Contents) -> None:
    """Adds what a file holds, place and object of each line, to ``contents``; ``name`` is the file's in messages."""
    contents.unnamed = True
    named = _APPROACH.fullmatch(path.name)
    about = Configuration(named[1] if named else "best_of_n", path.resolve().parent.name)
    describe(name, about.approach, contents)
    if not named:
        contents.notes.append(f"{name} does not name its approach: taken as best_of_n")
    if about.approach != "best_of_n":
        contents.notes.append(f"{name} does not say the beam width: M = {WIDTH} assumed, search-and-learn's default")
    seen: dict[str, list[tuple[str, int]]] = {}
    for source, row in rows:
        read = record(row, source, about, contents)
        if read is None:
            continue
        before = seen.setdefault(read.problem_id or problem_key(read.problem), [])
        this = problem_key(read.problem), hash(tuple(row["completions"]))
        if this in before:
            contents.skip(source, f"the same problem and completions again ({read.problem_id or 'no id'})")
            continue
        if before and before[0][0] != this[0]:
            contents.skip(source, f"id {read.problem_id!r} is already that of another problem")
            continue
        before.append(this)
        contents.add(read if about.approach == "best_of_n" else replace(read, seed=len(before) - 1))


def describe(name: str, approach: str, contents: Contents) -> None:
    """Notes what this format does not say, and where its search is not the study's."""
    contents.notes.append(f"{name} does not say which completions were cut off: all count as finished")
    if approach == "beam_search":
        contents.notes.append(f"{name}: this beam search refills its places as candidates finish, the study's does not")


def record(row: dict, source: str, about: Configuration, contents: Contents) -> Record | None:
    """A row as a record; None, listed as skipped, where it cannot be used."""
    if not is_row(row):
        return contents.skip(source, "no problem with a list of completion texts")
    if not str(row["problem"]).strip():
        return contents.skip(source, "an empty problem")
    answer = row.get("answer") if row.get("answer") not in (None, "") else boxed_answer(str(row.get("solution") or ""))
    if answer is None or not str(answer).strip():
        return contents.skip(source, "no answer, nor a solution with a boxed one")
    texts, scores, tokens = row["completions"], row.get("scores"), row.get("completion_tokens")
    searched = about.approach != "best_of_n"
    if searched and len(texts) % about.width:
        return contents.skip(source, f"{len(texts)} completions, which is no multiple of the beam width M = {about.width}")
    scores = [clean_scores(s) for s in scores] if isinstance(scores, list) and len(scores) == len(texts) else [()] * len(texts)
    tokens = tokens if isinstance(tokens, list) and len(tokens) == len(texts) else [None] * len(texts)
    subtrees = about.approach == "dvts"
    solutions = tuple(
        Solution(*steps_and_scores(text, of_text), whole_number(count), path=(i - i % about.width,) if subtrees else ())
        for i, (text, of_text, count) in enumerate(zip(texts, scores, tokens))
    )
    if not all(s.scores for s in solutions if s.steps):
        contents.skip(source, "step scores (missing, or not numbers, for some completion); the texts are used")
    identity = row.get("unique_id", row.get("id"))
    how, totals = _totals(row, scores, about.aggregate)
    return Record(
        problem=str(row["problem"]),
        answer=str(answer),
        method=about.approach if searched else "samples",
        policy=about.policy,
        solutions=solutions,
        source=source,
        prm=about.prm if any(s.scores for s in solutions) else None,
        n=len(texts) if searched else about.n,
        seed=about.seed,
        width=about.width if searched else None,
        sampling=about.sampling,
        problem_id=None if identity is None else str(identity),
        policy_tokens=None if searched else total([s.tokens for s in solutions]),
        recorded=_recorded(row, len(texts), how),
        totals=totals,
        leaders=_leaders(solutions, about.width) if subtrees else (),
    )


def _leaders(solutions: Sequence[Solution], width: int) -> tuple[int, ...]:
    """Of each subtree the number of the continuation with the best last score, as its selection has it."""
    last = [s.scores[-1] if s.scores else -1.0 for s in solutions]
    return tuple(max(range(i, i + width), key=last.__getitem__) for i in range(0, len(last), width))


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
    named = (
        (rule, _VOTE.fullmatch(key), answer)
        for name, rule in rules.items()
        for key, answer in row.items()
        if key.startswith(f"pred_{name}@")
    )
    return {
        (rule, int(at[1])): boxed_answer(answer) or ""
        for rule, at, answer in named
        if at and int(at[1]) <= most and isinstance(answer, str)
    }
