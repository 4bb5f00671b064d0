"""Writes the splits that committed outcomes are of: ``python tests/project/problem_files.py``."""

import json

from tts.tasks import task_of
from tts.tasks.drawn import FOLDER

COUNTS = {
    ("pocket-main", "test"): 950,
    ("pocket-main", "confirmation"): 300,
    ("pocket-main", "confirmation-2"): 300,
    ("pocket-hard", "confirmation"): 100,
    ("pocket-hard", "confirmation-2"): 100,
    ("pocket-puzzles", "confirmation"): 300,
    ("pocket-puzzles-hard", "confirmation"): 100,
    ("pocket-code", "confirmation"): 300,
    ("pocket-chemistry", "confirmation"): 300,
    ("pocket-chemistry-hard", "confirmation"): 100,
    ("pocket-main", "development"): 100,
    ("pocket-hard", "development"): 50,
    ("pocket-puzzles", "development"): 100,
    ("pocket-puzzles-hard", "development"): 50,
    ("pocket-code", "development"): 100,
    ("pocket-chemistry", "development"): 100,
    ("pocket-chemistry-hard", "development"): 50,
    ("pocket-puzzles", "test"): 300,
    ("pocket-code", "test"): 300,
    ("pocket-chemistry", "test"): 300,
}


def text_of(name: str, split: str) -> str:
    return "".join(json.dumps(row) + "\n" for row in task_of(name).drawn(name, COUNTS[name, split], split))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, split in COUNTS:
        (FOLDER / f"{name}-{split}.jsonl").write_text(text_of(name, split))
