"""Grades of imported solutions: this suite's, and where they differ from those that were recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tqdm.auto import tqdm

from tts.exchange.records import Record
from tts.tasks.grading import Grader, groups
from tts.tasks.maths import boxed_answer
from tts.tasks.selection import Rule, aggregates, select


@dataclass(frozen=True)
class Difference:
    """A recorded verdict that this suite does not share."""

    source: str
    rule: Rule
    gold: str
    answer: str | None
    here: bool
    recorded: bool

    def __str__(self) -> str:
        words = {True: "right", False: "wrong"}
        return (
            f"{self.source}: {self.rule} gives {'no boxed answer' if self.answer is None else repr(self.answer)}, gold {self.gold!r}: "
            f"{words[self.here]} here, {words[self.recorded]} as recorded"
        )


def regrade(records: Iterable[Record], grader: Grader) -> tuple[int, list[Difference]]:
    """Recomputes every recorded verdict; returns how many there are, and those that differ."""
    count, differences = 0, []
    for record in tqdm(list(records), desc="grading", unit="record", leave=False, delay=2):
        answers = [boxed_answer(s.text) if s.status == "finished" else None for s in record.solutions]
        verdicts = [
            (f"{record.source}, completion {number}", Rule("", "majority"), answers[number], solution.correct)
            for number, solution in enumerate(record.solutions)
            if solution.correct is not None
        ]
        for held in record.recorded:
            correct = grader.right(record.answer, held.answer) if held.correct is None else held.correct
            verdicts.append((record.source, held.rule, _selected(record, answers, held.rule, grader), correct))
        for source, rule, answer, recorded in verdicts:
            here = grader.right(record.answer, answer)
            if here != recorded:
                differences.append(Difference(source, rule, record.answer, answer, here, recorded))
        count += len(verdicts)
    return count, differences


def _selected(record: Record, answers: list[str | None], rule: Rule, grader: Grader) -> str | None:
    scores = None if rule.vote == "majority" else aggregates([s.scores for s in record.solutions], rule.aggregate)
    chosen = select(groups(answers, grader), scores, rule.vote)
    return None if chosen < 0 else answers[chosen]
