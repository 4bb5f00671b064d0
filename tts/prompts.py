"""Prompts, steps and answers: everything that is known about the text of a solution."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jinja2 import TemplateError

STEP_SEPARATOR = "\n\n"

# Llama's chat template prints today's date unless it is given one; a pinned date keeps runs reproducible.
PINNED_DATE = "26 Jul 2024"

_BRACE = re.compile(r"\\boxed\{|[{}]")

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."


def split_steps(text: str) -> tuple[str, ...]:
    """A solution's steps: its parts between blank lines, blank ones left out."""
    return tuple(part.strip() for part in re.split(r"\n\s*\n", text) if part.strip())


def join_steps(steps: Sequence[str]) -> str:
    return STEP_SEPARATOR.join(steps)


def boxed_answer(text: str) -> str | None:
    r"""The content of the last complete ``\boxed{...}``, braces balanced; None where there is none."""
    open_braces: list[tuple[int, bool]] = []  # where its content begins, and whether \boxed stands before it
    last = (-1, -1)
    for brace in _BRACE.finditer(text):  # one pass: a hostile text may open thousands of boxes and close none
        if brace[0] != "}":
            open_braces.append((brace.end(), len(brace[0]) > 1))
        elif open_braces:
            start, boxed = open_braces.pop()
            if boxed and start > last[0]:
                last = (start, brace.start())
    return text[last[0] : last[1]].strip() if last[0] >= 0 else None


def render_prompt(tokenizer, problem: str, system: str | None = SYSTEM_PROMPT) -> str:
    """The text that a policy continues, by the tokenizer's own chat template.

    Raises:
        ValueError: where the tokenizer has no chat template, or one that cannot be used.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; "
            "use an instruction-tuned model, or add a chat_template.jinja to its folder"
        )
    messages = [{"role": "user", "content": problem}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, date_string=PINNED_DATE)
    except TemplateError as error:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path!r} cannot be used ({error}); restore its chat_template.jinja"
        ) from None
