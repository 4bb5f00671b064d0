"""Prompts: how a task's problem is put to a model, by its family and its chat template."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import MappingProxyType
from urllib.parse import parse_qsl

from jinja2 import TemplateError

from tts.tasks.base import Task
from tts.tasks.maths import MATHS

# Llama's chat template prints today's date unless it is given one; a pinned date keeps runs reproducible.
PINNED_DATE = "26 Jul 2024"
# What a policy is told after an attempt.
REVISION = "There may be an error in the solution above. Look for it, then solve the problem again, from the beginning to the answer."


@dataclass(frozen=True)
class Style:
    """How a model family is asked."""

    marker: str  # which its chat templates hold, and no other family's; a folder may have any name
    name: str  # which the names of its models hold, for where the template is not known
    system: bool = True  # whether a task's instruction stands in the system's turn, or at the end of the user's


STYLES = {
    "llama-3": Style("<|start_header_id|>", "llama-3"),
    "deepseek-r1": Style("<｜User｜>", "deepseek-r1", system=False),  # its authors advise against a system prompt
    "qwen2.5": Style("<|im_start|>", "qwen2.5"),
    "": Style("", ""),  # any other family
}


def style_of(template: str | None, name: str = "") -> Style:
    """How to ask a model, by its chat template, or by its name where the template is not known."""
    return next(style for style in STYLES.values() if (style.marker in template if template else style.name in name.lower()))


def messages(style: Style, problem: str, task: Task = MATHS) -> list[dict[str, str]]:
    """The turns before a solution."""
    instruction = task.instruction_for(style.name) if task.system is None else task.system
    if instruction and style.system:
        return [{"role": "system", "content": instruction}, {"role": "user", "content": problem}]
    return [{"role": "user", "content": f"{problem}\n{instruction}" if instruction else problem}]


Exchanges = Sequence[tuple[str, str]]
"""What a policy said, and what it is told then, the oldest first."""


def with_exchanges(turns: list[dict[str, str]], exchanges: Exchanges) -> list[dict[str, str]]:
    """Turns, and those of what came of them."""
    return turns + [
        turn for said, told in exchanges for turn in ({"role": "assistant", "content": said}, {"role": "user", "content": told})
    ]


def template_hash(template: str | None, task: Task, name: str = "") -> str:
    """What tells prompts apart in the key of a run: a hash of the chat template (None where a server has it), and of its turns."""
    turns = messages(style_of(template, name), "{problem}", task)
    return hashlib.sha256(json.dumps([template, turns, PINNED_DATE]).encode()).hexdigest()[:12]


class SolutionRenderer:
    """Token ids of partial solutions as a policy would write them: the prompt of a task, then the steps, each with what ends it."""

    def __init__(self, tokenizer, task: Task = MATHS):
        self.tokenizer, self.task = tokenizer, task
        self._prompt = lru_cache(1 << 12)(partial(render_prompt, tokenizer))

    def __call__(self, solutions: Sequence[tuple[str, Sequence[str]]]) -> list[list[int]]:
        """Ids of each (problem, steps)."""
        ends = self.task.separator
        return token_ids(self.tokenizer, [self._prompt(p, self.task) + "".join(step + ends for step in steps) for p, steps in solutions])


def ids_by_text(tokenizer, texts: Iterable[str]) -> dict[str, list[int]]:
    """:func:`token_ids` of each distinct text; in one call, since that is how tokenizers are fast."""
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, token_ids(tokenizer, distinct)))


def token_ids(tokenizer, texts: list[str]) -> list[list[int]]:
    """Each text's token ids without special tokens; where the tokenizer is compiled, without their places in the text, which take time."""
    compiled = getattr(tokenizer, "backend_tokenizer", None)
    if compiled is None:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]
    compiled.no_padding()
    compiled.no_truncation()
    return [encoding.ids for encoding in compiled.encode_batch_fast(texts, add_special_tokens=False)]


def unknown_id(tokenizer) -> int | None:
    """The id that stands for text which a tokenizer, transformers' or its compiled one, does not know; None where it knows all.

    Byte-level ones do: the ``unk_token`` that they declare is another mark, say the end of text, which prompts may hold.
    """
    compiled = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(compiled, "model"):
        return tokenizer.unk_token_id
    declared = getattr(tokenizer, "unk_token", None)  # which a unigram model does not hold itself
    token = getattr(compiled.model, "unk_token", declared)
    return compiled.token_to_id(token) if token else None


def template_options(name: str) -> dict[str, object]:
    """What a policy's name tells its chat template: of ``NAME?enable_thinking=false`` that ``enable_thinking`` is False."""
    given = parse_qsl(name.partition("?")[2], keep_blank_values=True)
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    return {key: words.get(value.lower(), int(value) if value.isdecimal() else value) for key, value in given}


def check_template(tokenizer, options: Mapping[str, object]) -> None:
    """Raises ``ValueError`` where a tokenizer has no chat template, or one that lacks an option."""
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; "
            "use an instruction-tuned model, or add a chat_template.jinja to its folder"
        )
    check_options(tokenizer.get_chat_template(), tokenizer.name_or_path, options)


def check_options(template: str, model: str, options: Mapping[str, object]) -> None:
    """Raises ``ValueError`` for an option that a chat template's text does not name."""
    if unknown := [name for name in options if not re.search(rf"\b{re.escape(name)}\b", template)]:
        raise ValueError(f"the chat template of {model!r} has no option {unknown[0]}; leave ?{unknown[0]}= out of the model's name")


def render_prompt(
    tokenizer, problem: str, task: Task = MATHS, options: Mapping[str, object] = MappingProxyType({}), exchanges: Exchanges = ()
) -> str:
    """The text that a policy continues, by the tokenizer's own chat template; raises ``ValueError`` where none can be used."""
    check_template(tokenizer, options)
    style = style_of(tokenizer.get_chat_template())
    for asked in (style, replace(style, system=False)):  # some families' templates refuse a system's turn
        turns = with_exchanges(messages(asked, problem, task), exchanges)
        try:
            text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, date_string=PINNED_DATE, **options)
        except (TemplateError, TypeError) as error:
            refused = str(error)
            continue
        # A template may escape signs, or write other white space. Whether it shows exchanges is asked elsewhere.
        if exchanges or max(re.findall(r"\w+", problem), key=len, default="") in text:
            return text
        refused = "it leaves the problem out"
    raise ValueError(f"the chat template of {tokenizer.name_or_path!r} cannot be used ({refused}); restore its chat_template.jinja")
