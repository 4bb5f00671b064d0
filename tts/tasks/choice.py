r"""Multiple choice: options with letters in a shuffled order, an answer that is a letter, votes by letter.

The order of a problem's options is drawn from a seed and its text, and kept in its record: ``options`` as they are shown, ``order`` the
place that each has in the file. A file's record has ``options``, a list of texts, and as ``answer`` a letter or the text of an option.
"""

import random
import re
from collections.abc import Sequence

from tts.tasks.base import Task
from tts.tasks.extraction import boxed_answer
from tts.tasks.published import Published, PublishedSet, load, parts

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _gpqa(row: dict) -> dict:
    right = str(row.get("Correct Answer") or "").strip()
    options = sorted([right, *(str(row.get(f"Incorrect Answer {n}") or "").strip() for n in (1, 2, 3))])  # the right one is first there
    answer = LETTERS[options.index(right)]
    return {"problem": row.get("Question"), "options": options, "answer": answer, "category": str(row.get("High-level domain")).lower()}


def _mmlu_pro(row: dict) -> dict:
    return {"problem": row.get("question"), "category": str(row.get("category")), **{key: row.get(key) for key in ("options", "answer")}}


# Commits as several public evaluations record them; nobody could ask the Hub when this was written. GPQA's files need a login there.
SETS = {
    "gpqa": PublishedSet([Published("Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd", "gpqa_diamond.csv")], _gpqa),
    "mmlu-pro": PublishedSet(
        [Published("TIGER-Lab/MMLU-Pro", "b189ec765aa7ed75c8acfea42df31fdae71f97be", "data/test-00000-of-00001.parquet")], _mmlu_pro
    ),
}

# Options that speak of others stay where they are, since "A and C" or "all of the above" would mean something else elsewhere.
_REFERS = re.compile(
    r"\b(?:above|below|preceding|following)\b|\b[A-J]\s*(?:,|&|\band\b|\bor\b)\s*[A-J]\b|\b(?:options?|choices?)\s+[A-J]\b"
)

_MARKUP = re.compile(r"\\(?:text|math)(?:bf|rm)?\b|[{}$*_\\]")
# A letter alone: not the beginning of a word or of a formula (C-H, C=O), nor, unless it is marked, of a sentence ("A catalyst").
_END = r"(?![\w'’+=]|-\w|\s*="
_ALONE = (
    rf"\s*(?:(?:[(\[]|\b(?i:options?|choices?)\b)\s*)+([A-Z]){_END})|\s*([A-Z]){_END}|\s+(?!(?:and|as|because|is|or|since|which)\b)[a-z])"
)
_FIRST = re.compile(_ALONE)
_NEXT = re.compile(rf"[\s)\].]*(?:[/,;&]|\band\b|\bor\b)(?:{_ALONE})")
# A letter that a formula begins with, in LaTeX as it stands: C_2H_6, C(CH_3)_4, A + B. "A +12 kJ" may be an option with its text.
_FORMULA = re.compile(
    r"(?:\\[a-z]+|[^\w\\]|_)*[A-Z](?:[({]|\}*(?:[_^](?:[^\W_]|[({\\+-])|\d|\s*-\s*[A-Z]\W*$"
    r"|\s*-?(?:[+<>≤≥×·→⇌]|\\(?:cdot|times|pm|to|[lg]eq?|\w*arrow|rightleftharpoons)(?![a-zA-Z]))(?!\d)))"
)
_SMALL = re.compile(r"[\s(\[]*([a-z])[\s)\].]*")
_CUE = re.compile(r"\b(?:answer|solution|option|choice)(?:\s+(?:is|would be|should be|must be)\b\s*:?|\W{0,4}:)\s*", re.IGNORECASE)
_MARKED = re.compile(r"(?=[(\[][A-Z][)\]]|\*\*[A-Z]\*\*|\b(?i:options?|choices?)[\s_\\]+[A-Z]\b)|^\W*(?=[A-Z]\W*$)")


def _letter(text: str) -> str | None:
    """The letter that a text begins with; "" where it names several, None where it names none."""
    if _FORMULA.match(text):
        return None
    text = _MARKUP.sub(" ", text)
    if small := _SMALL.fullmatch(text):
        return small[1].upper()
    if not (first := _FIRST.match(text)):
        return None
    other = _NEXT.match(text, first.end())
    return "" if other and (other[1] or other[2]) != (first[1] or first[2]) else first[1] or first[2]


def _boxed(text: str) -> str | None:
    return None if (box := boxed_answer(text)) is None else _letter(box)


def _said(text: str) -> str | None:
    said = (_letter(text[cue.end() :].partition("\n")[0]) for cue in reversed(list(_CUE.finditer(text))))
    return next((letter for letter in said if letter is not None), None)


def _last_line(text: str) -> str | None:
    *_, last = text.strip().splitlines() or [""]
    letters = {_letter(last[mark.end() :]) for mark in _MARKED.finditer(last)} - {None}
    return letters.pop() if len(letters) == 1 else "" if letters else None


_WAYS = {"box": _boxed, "said": _said, "last line": _last_line}


class Choice(Task):
    """Ways of finding the letter: in the last box; after "the answer is" or "Answer:", the last one; alone in the last line.

    The first of them that names an option decides, and a text that names several at once there gives no answer.
    """

    name = "choice"
    grading = 3  # 2: answers inside thinking counted; 1: the first letter of some formulas was an option
    ways = known_ways = tuple(_WAYS)
    answer_mark = "\\boxed"
    sets = ("gpqa[:CATEGORY]", "mmlu-pro[:CATEGORY]")
    instruction = "Please reason step by step, and put the letter of the right option within \\boxed{}."
    fields = ("options", "order")

    def has(self, name: str) -> bool:
        return parts(name)[0] in SETS

    def published(self, name: str) -> Sequence[Published]:
        own, _, copy = parts(name)
        return SETS[own].files if own in SETS and not copy else ()

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        return load(name, SETS, self, split, seed)

    def prepared(self, row: dict, seed: int) -> dict:
        options = row.get("options")
        if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
            raise ValueError(f"'options' must be a list of 2 to {len(LETTERS)} texts; given {options!r:.80}")
        texts, answer = [str(option).strip() for option in options], row["answer"].strip()
        lettered = answer if answer in LETTERS[: len(texts)] else ""
        places = {LETTERS.index(lettered)} if lettered else set()
        places |= {place for place, text in enumerate(texts) if text == answer}
        if len(places) != 1:
            given = f"the answer {answer!r:.80} is {'several' if places else 'none'} of the options"
            raise ValueError(f"{given}; give one of the letters A to {LETTERS[len(texts) - 1]}, or the text of one option")
        order = list(range(len(texts)))
        if not any(map(_REFERS.search, texts)):
            random.Random(f"{seed} {row['problem']}").shuffle(order)
        shown = "\n".join(f"{letter}. {texts[place]}" for letter, place in zip(LETTERS, order))
        right = LETTERS[order.index(places.pop())]
        return row | {"problem": f"{row['problem']}\n\n{shown}", "answer": right, "options": [texts[i] for i in order], "order": order}

    def answer(self, text: str) -> str | None:
        return self.found(text)[0]

    def found(self, text: str) -> tuple[str | None, str]:
        letter, way = next(((found, way) for way in self.ways if (found := _WAYS[way](text)) is not None), ("", ""))
        return (letter, way) if letter else (None, "several options" if way else "")

    def normal(self, answer: str) -> str:
        return answer.strip().upper()

    def readable(self, answer: str) -> bool:
        return len(answer) == 1 and answer in LETTERS


CHOICE = Choice()
