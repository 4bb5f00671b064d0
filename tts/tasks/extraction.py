r"""The answer that a solution's text gives: in its last box, or in one of the other ways that data sets ask for.

Only the box is looked for by default, as the study asks for it. The other ways find answers where none was meant, so each has to be
asked for, and what it found is counted apart.
"""

import re
from collections.abc import Callable

from tts.tasks.answer_text import normal_form

_BOX = re.compile(r"(?<!\\)\\+(?:boxed|fbox|framebox)(?![a-zA-Z])\s*\{?|\\\\|\\[{}]|[{}]")
_UNBRACED = re.compile(
    r"[-+]?(?:\d[\d,.]*\d|\d|\\d?frac(?:\d\d|\s*\{[^{}]*\}\s*\{[^{}]*\})|\\[a-zA-Z]+(?:\{[^{}]*\})?|[a-zA-Z](?![a-zA-Z]))"
)
_BETWEEN = re.compile(r"(?:\s|\$|\\[()\[\]]|\\q?quad|\\text\{|\}|,|;|&|\band\b|\bor\b|[a-zA-Z](?:_\d)?\s*=(?!=))+")
_LONG = 500  # characters of a content that is surely not empty, and too long to be worked on
_SEPARATOR = re.compile(r"[,;&]|\band\b|\bor\b")


def boxed_answer(text: str) -> str | None:
    r"""The content of the last ``\boxed``, ``\fbox`` or ``\framebox`` that holds something; None where there is none.

    A box that is never closed ends with its line or formula. Boxes that only ``and``, ``or``, commas or ``x =`` stand between are one
    list; a box that corrects another is not.
    """
    boxes = [box for box in _boxes(text) if len(box[2]) > _LONG or normal_form(box[2])]
    if not boxes:
        return None
    first, _, answer = boxes[-1]
    members = [answer]
    for start, end, content in reversed(boxes[:-1]):
        between = text[end:first]
        if "\n\n" in between or not (_BETWEEN.fullmatch(between) and _SEPARATOR.search(between)):
            break
        members.insert(0, content)
        first = start
    return ", ".join(dict.fromkeys(members))


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Where each innermost box begins and ends, and its content; in one pass, because a hostile text may open thousands of boxes."""
    found: list[tuple[int, int, str]] = []
    open_braces: list[tuple[int, int]] = []  # where the content begins, and where its box does, -1 for no box
    for part in _BOX.finditer(text):
        if part[0] == "}" and open_braces:
            start, box = open_braces.pop()
            if box > (found[-1][0] if found else -1):
                found.append((box, part.end(), text[start : part.start()].strip()))
        elif part[0] == "{":
            open_braces.append((part.end(), -1))
        elif part[0].endswith("{") and len(part[0]) > 2:
            open_braces.append((part.end(), part.start()))
        elif len(part[0]) > 2 and (value := _UNBRACED.match(text, part.end())):
            found.append((part.start(), value.end(), value[0]))
    start, box = next((brace for brace in reversed(open_braces) if brace[1] >= 0), (0, -1))
    if box > (found[-1][0] if found else -1):
        found.append((box, len(text), re.split(r"\$|\n", text[start:], maxsplit=1)[0].strip().rstrip(".")))
    return found


def _last(pattern: str) -> Callable[[str], str | None]:
    """Finds what a group of the last match holds, of those that hold something."""
    compiled = re.compile(pattern, re.MULTILINE)

    def find(text: str) -> str | None:
        groups = (next(filter(None, found.groups()), "") for found in compiled.finditer(text))
        return next((group for group in reversed(list(groups)) if len(group) > _LONG or normal_form(group)), None)

    return find


WAYS: dict[str, Callable[[str], str | None]] = {
    "box": boxed_answer,
    "hashes": _last(r"^\s*####\s*(.+?)\s*$"),  # GSM8K's "#### 5"
    "label": _last(r"^\W*(?:A|Answer|ANSWER|Final [Aa]nswer)\W*:[*\s]*(\S.*?)[*\s]*$"),
    "phrase": _last(r"(?i:\banswer is)\s*:?\s*(.+?)(?:[.!]?\s*$|[.!]\s)"),
    "letter": _last(r"\(([A-J])\)|\*\*([A-J])\*\*|(?i:answer|option|choice)\W+(?:is\W+)?([A-J])\b|^\s*([A-J])[.):]?\s*$"),
    "number": _last(r"(?<![\w.])(-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?!\w)"),
}
