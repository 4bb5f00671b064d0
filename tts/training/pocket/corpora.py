"""Token rows for training: examples packed end to end, each attending to itself only.

A corpus holds arrays of equal shape, ``(rows, length)``, by name: the fields of :class:`Sequence`; ``document``, which example a token
belongs to (0 is padding); and ``position``, a token's position in its example.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from tts.common.files import replacing
from tts.tasks import pocket_problems, pocket_tokenizer
from tts.tasks.pocket import POCKET
from tts.tasks.pocket_traces import Example
from tts.training.pocket.domains import Labelled

ROW = 256
UNLABELLED = 2
VOCABULARY = pocket_tokenizer.build(letters=True).get_vocab()  # those without letters number the others alike

# How a PRM family writes a solution: an opening with the problem in place of {}, and the mark after each step.
LAYOUTS = {
    "math-shepherd": ("{} ", " ки\n"),
    "qwen-prm": ("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", "<extra_0>"),
}

Corpus = dict[str, np.ndarray]


class Sequence(NamedTuple):
    """One example as tokens, with what is to be learnt at each of them."""

    ids: list[int]
    learn: list[int]  # 1 where the *next* token is a target of the language-model loss
    label: list[int]  # 1 or 0 where the solution is right or wrong up to and including this token, UNLABELLED where nothing says


def kept(path: Path, sequences: Callable[[], Iterable[Sequence]], tokens: int) -> Corpus:
    """The corpus in a file, which is made first where it is not there, as by :func:`pack`."""
    if not path.exists():
        made = pack(sequences(), tokens, path.stem)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **made)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def pack(sequences: Iterable[Sequence], tokens: int, description: str) -> Corpus:
    """Rows of ``ROW`` tokens from the first sequences that hold ``tokens`` tokens together; longer ones are left out."""
    rows: list[list[Sequence]] = []
    room = total = 0
    with tqdm(total=tokens, desc=description, unit="token", unit_scale=True) as progress:
        for sequence in (one for one in sequences if len(one.ids) <= ROW):
            length = len(sequence.ids)
            if length > room:
                rows.append([])
                room = ROW
            rows[-1].append(sequence)
            room, total = room - length, total + length
            progress.update(length)
            if total >= tokens:
                break
    corpus = {name: np.zeros((len(rows), ROW), np.uint8) for name in ("ids", "document", "position", "learn", "label")}
    corpus["label"][:] = UNLABELLED
    for at, row in enumerate(rows):
        start = 0
        for number, sequence in enumerate(row, 1):
            here = at, slice(start, start + len(sequence.ids))
            corpus["document"][here], corpus["position"][here] = number, np.arange(len(sequence.ids))
            for name, values in sequence._asdict().items():
                corpus[name][here] = values
            start += len(sequence.ids)
    return corpus


def token_ids(text: str) -> list[int]:
    """A text's, by a table lookup per piece, many times faster than calling the tokenizer."""
    return [VOCABULARY[piece] for piece in pocket_tokenizer.pieces(text)]


def policy_sequences(examples: Iterable[Example]) -> Iterator[Sequence]:
    """The prompt, then the steps; the loss is on the solution only."""
    for example in examples:
        ids = token_ids(example.problem.text + POCKET.separator)
        learn = [0] * len(ids)
        for step, taught in zip(example.steps, example.taught):
            tokens = token_ids(step + POCKET.separator)
            ids += tokens
            learn += [int(taught)] * len(tokens)
        ids[-1] = VOCABULARY["<eos>"]  # in the place of the last separator
        yield Sequence(ids, learn[1:] + [0], [UNLABELLED] * len(ids))


def prm_sequences(
    labelled: Iterable[Labelled], layout: tuple[str, str], first_error: Callable = pocket_problems.first_error
) -> Iterator[Sequence]:
    """Solutions in a PRM's own layout, every token of them labelled; the language-model loss is on right tokens only."""
    opening, mark = layout
    marks = token_ids(mark)
    for problem, steps in labelled:
        error = first_error(problem, steps) or (len(steps), 0)  # step and character
        ids = token_ids(opening.format(problem.text))
        label = [UNLABELLED] * len(ids)
        learn = [0] * len(ids)
        for number, step in enumerate(steps):
            ends = itertools.accumulate(map(len, pocket_tokenizer.pieces(step)))  # of its tokens
            right = [int((number, end) <= error) for end in ends]
            ids += [*token_ids(step), *marks]
            label += [*right, *[int(number < error[0])] * len(marks)]
            learn += [*right, *[0] * len(marks)]
        yield Sequence(ids, learn[1:] + [0], label)
