"""Mathematics: an answer in a box, right where math-verify takes it for the reference; the study's sets, and reasoning-gym's."""

import hashlib
import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path

from tts.tasks.answer_text import normal_form, quickly_readable, quickly_same
from tts.tasks.base import Task
from tts.tasks.extraction import WAYS
from tts.tasks.problems import ProblemError, check_drawn, read
from tts.tasks.published import Published, half

REASONING_GYM = "reasoning-gym:"

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."

# What Llama 3 was evaluated with on MATH, and the study after it.
LLAMA_PROMPT = r"""Solve the following math problem efficiently and clearly:

- For simple problems (2 steps or fewer):
Provide a concise solution with minimal explanation.

- For complex problems (3 steps or more):
Use this step-by-step format:

## Step 1: [Concise description]
[Brief explanation and calculations]

## Step 2: [Concise description]
[Brief explanation and calculations]

...

Regardless of the approach, always conclude with:

Therefore, the final answer is: $\boxed{answer}$. I hope it is correct.

Where [answer] is just the final number or expression that solves the problem."""


PUBLISHED = {
    "math500": Published("HuggingFaceH4/MATH-500", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", "test.jsonl"),
    "aime24": Published("HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a", "data/train-00000-of-00001.parquet"),
}


class Maths(Task):
    """Answers are in the last box. Two are the same where math-verify 0.9 accepts one for the other, the reference first.

    Units, degree and percent signs are ignored; ``x=5`` is ``5`` (but not ``2x=5``), ``\\{1,2\\}`` is ``(1,2)``, and the case of words
    does not count. A decimal does not equal a surd, nor an inequality an interval. Numbers in a base are equal where their digits are,
    and their bases unless one is left out.
    """

    name = "maths"
    ways = ("box",)
    answer_mark = "\\boxed"
    known_ways = tuple(WAYS)
    grading = 3  # 2: answers inside thinking counted; 1: before answers were rewritten
    sets = (*PUBLISHED, f"{REASONING_GYM}TASK[,OPTION=VALUE...]")
    instruction = SYSTEM_PROMPT
    aliases = {"answer": "extracted_groundtruth", "id": "unique_id"}  # as the study's repository and MATH-500 call them

    def has(self, name: str) -> bool:
        return name.partition(":")[0] in (*PUBLISHED, REASONING_GYM.rstrip(":"))

    def published(self, name: str) -> Sequence[Published]:
        return [PUBLISHED[name]] if name in PUBLISHED else []

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        published, _, copy = name.partition(":")
        if about := PUBLISHED.get(published):
            return half(published, read(Path(copy) if copy else about.fetch(published), self), split), published
        check_drawn(name, count, split)
        drawn = reasoning_gym_tasks(name, count or 200, split, seed)
        return [{"problem": one["question"], "answer": str(one["answer"])} for one in drawn], f"{name}-{split}-{seed}"

    def instruction_for(self, family: str) -> str:
        return LLAMA_PROMPT if family == "llama-3" else self.instruction

    normal = staticmethod(normal_form)
    same = staticmethod(quickly_same)
    readable = staticmethod(quickly_readable)

    def answer(self, text: str) -> str | None:
        return self.found(text)[0]

    def found(self, text: str) -> tuple[str | None, str]:
        return next(((answer, way) for way in self.ways if (answer := WAYS[way](text)) is not None), (None, ""))

    def value(self, answer: str) -> Hashable | None:
        return int(answer) if re.fullmatch(r"[+-]?\d{1,18}", answer) else None


MATHS = Maths()


def reasoning_gym_tasks(name: str, count: int, split: str, seed: int = 0) -> list[dict]:
    """reasoning-gym's ``question``, ``answer`` and ``metadata``; raises :class:`ProblemError` for an unknown task or unfit options."""
    import reasoning_gym

    task, *options = name.removeprefix(REASONING_GYM).split(",")
    number = int.from_bytes(hashlib.sha256(f"{split}/{seed}".encode()).digest()[:4], "big")
    try:
        chosen = dict(_option(name, option) for option in options)
        return list(reasoning_gym.create_dataset(task, size=count, seed=number, **chosen))
    except (ValueError, TypeError, AssertionError) as error:
        raise ProblemError(f"reasoning-gym cannot make {name!r}: {error}") from None


def _option(name: str, text: str) -> tuple[str, object]:
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier() or key in ("size", "seed"):
        raise ProblemError(f"{name!r}: expected OPTION=VALUE after a comma, found {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
