"""A template to copy: a kind of problem whose answers are texts, right where they are equal but for case and spacing.

Copy it into tts/tasks/ and add a line to TASKS in tts/tasks/__init__.py; then problems={"text:my.jsonl": 100} reads a file with a
"problem" and an "answer" in each line. Raise its version whenever it finds other answers, or other answers are right.
"""

from __future__ import annotations

from tts.tasks.base import Task


class Text(Task):
    """The answer is what follows "Answer:" in the solution's last line, or that line."""

    name = "text"
    instruction = "Think step by step. End with a line that begins with Answer: and gives the answer."

    def answer(self, text: str) -> str | None:
        *_, last = text.strip().splitlines() or [""]
        return last.rpartition("Answer:")[2].strip() or None

    def normal(self, answer: str) -> str:
        return " ".join(answer.split()).casefold()


TEXT = Text()
