"""Whether a PRM can read what it is asked to score: to one that cannot, all solutions look alike, and its scores mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from tts.models.files import folder_of, guarded
from tts.models.hub import ModelError
from tts.tasks.prompts import unknown_id

MOST_UNKNOWN = 0.05  # share of the tokens; a policy may write a stray sign
FEWEST = 200  # tokens of solutions before they are judged: in a single step, a stray sign is no small share


class UnreadableError(ModelError):
    """A PRM that cannot read what it is asked to score."""


def check_share(name: str, unknown: int, tokens: int, example: str) -> None:
    """Raises :class:`UnreadableError` where too many of a PRM's tokens stand for text that its tokenizer does not know."""
    if unknown > MOST_UNKNOWN * tokens:
        raise UnreadableError(
            f"the PRM {name} cannot read its input: its tokenizer does not know {unknown / tokens:.0%} of the tokens, as in "
            f"{example[:80]!r}; give one that does with -p prm=FAMILY:MODEL"
        )


def check_problems(name: str, location: str, problems: Sequence[str]) -> None:
    """:func:`check_share` of problems, by the tokenizer's file alone, since transformers takes seconds to import.

    A tokenizer without such a file is checked by the scorer, as it reads.
    """
    path = folder_of(location) / "tokenizer.json"
    if not path.exists():
        return
    compiled = guarded(location, lambda: Tokenizer.from_file(str(path)))
    number = unknown_id(compiled)
    rows = [encoding.ids for encoding in compiled.encode_batch_fast(problems, add_special_tokens=False)]
    counts = [ids.count(number) for ids in rows]
    check_share(name, sum(counts), sum(map(len, rows)), problems[counts.index(max(counts))])
