"""Prompts, steps and answers: everything that is known about the text of a solution."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from jinja2 import TemplateError

STEP_SEPARATOR = "\n\n"

# Llama's chat template prints today's date unless it is given one; a pinned date keeps runs reproducible.
PINNED_DATE = "26 Jul 2024"

_BRACE = re.compile(r"\\boxed\{|[{}]")

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


@dataclass(frozen=True)
class Style:
    """How a model family is asked.

    Attributes:
        marker: what its chat templates hold, and no other family's; a folder may have any name.
        name: what the names of its models hold, for where the template is not known.
        instruction: what it is told.
        system: whether in the system's turn, or at the end of the user's.
    """

    marker: str
    name: str
    instruction: str
    system: bool = True


STYLES = {
    "llama-3": Style("<|start_header_id|>", "llama-3", LLAMA_PROMPT),
    "deepseek-r1": Style("<｜User｜>", "deepseek-r1", SYSTEM_PROMPT, system=False),  # its authors advise against a system prompt
    "qwen2.5": Style("<|im_start|>", "qwen2.5", SYSTEM_PROMPT),
}
DEFAULT_STYLE = Style("", "", SYSTEM_PROMPT)


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


def style_of(template: str | None, name: str = "") -> Style:
    """How to ask a model, by its chat template, or by its name where the template is not known."""
    for style in STYLES.values():
        if style.marker in template if template else style.name in name.lower():
            return style
    return DEFAULT_STYLE


def messages(style: Style, problem: str) -> list[dict[str, str]]:
    """The turns before a solution."""
    if style.system:
        return [{"role": "system", "content": style.instruction}, {"role": "user", "content": problem}]
    return [{"role": "user", "content": f"{problem}\n{style.instruction}"}]


class SolutionRenderer:
    """Token ids of partial solutions as a policy would write them: its own prompt, then the steps, each followed by a blank line."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self._prompt = lru_cache(1 << 12)(partial(render_prompt, tokenizer))

    def __call__(self, solutions: Sequence[tuple[str, Sequence[str]]]) -> list[list[int]]:
        """Ids of each (problem, steps)."""
        texts = [self._prompt(problem) + "".join(step + STEP_SEPARATOR for step in steps) for problem, steps in solutions]
        return token_ids(self.tokenizer, texts)


class Pieces:
    """Token ids of pieces of text, each by itself, without special tokens of the tokenizer's own; what a caller repeats is remembered.

    Args:
        at_most: pieces that are remembered.
    """

    def __init__(self, tokenizer, at_most: int = 1 << 16):
        self.tokenizer, self.at_most = tokenizer, at_most
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Ids by text; new texts are encoded in one call, since that is how tokenizers are fast."""
        texts = dict.fromkeys(texts)
        if new := [text for text in texts if text not in self._known]:
            if len(self._known) + len(new) > self.at_most:
                self._known.clear()
                new = list(texts)
            self._known |= zip(new, token_ids(self.tokenizer, new))
        return {text: self._known[text] for text in texts}


def token_ids(tokenizer, texts: list[str]) -> list[list[int]]:
    """Each text's token ids without special tokens; where the tokenizer is compiled, without their places in the text, which take time."""
    compiled = getattr(tokenizer, "backend_tokenizer", None)
    if compiled is None:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]
    compiled.no_padding()
    compiled.no_truncation()
    return [encoding.ids for encoding in compiled.encode_batch_fast(texts, add_special_tokens=False)]


def render_prompt(tokenizer, problem: str) -> str:
    """The text that a policy continues, by the tokenizer's own chat template.

    Raises:
        ValueError: where the tokenizer has no chat template, or one that cannot be used.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; "
            "use an instruction-tuned model, or add a chat_template.jinja to its folder"
        )
    style = style_of(tokenizer.get_chat_template())
    options = {"tokenize": False, "add_generation_prompt": True, "date_string": PINNED_DATE}
    try:
        return tokenizer.apply_chat_template(messages(style, problem), **options)
    except TemplateError:  # some families' templates refuse a system's turn
        pass
    try:
        return tokenizer.apply_chat_template(messages(replace(style, system=False), problem), **options)
    except TemplateError as error:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path!r} cannot be used ({error}); restore its chat_template.jinja"
        ) from None
