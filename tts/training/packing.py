"""All solutions of a problem in one sequence, as a tree of tokens: what they share passes the model once.

A token attends to those before it in its own solutions only, and stands where it would stand in any of them; so the hidden states
are those of each solution read alone, but for rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence


class Packed(NamedTuple):
    """A tree of tokens, each after the one that it follows."""

    ids: list[int]
    parents: list[int]  # index of the token that each follows; -1 for a first one
    paths: list[list[int]]  # indices of the tokens of each packed sequence; they rise


def pack(sequences: Sequence[Sequence[int]]) -> Packed:
    """Sequences of token ids as one tree; equal beginnings are there once."""
    tree = Packed([], [], [])
    known: dict[tuple[int, int], int] = {}
    for sequence in sequences:
        at, path = -1, []
        for token in sequence:
            if (at, token) not in known:
                known[at, token] = len(tree.ids)
                tree.ids.append(token)
                tree.parents.append(at)
            at = known[at, token]
            path.append(at)
        tree.paths.append(path)
    return tree


def collate(trees: Sequence[Packed]) -> dict[str, torch.Tensor]:
    """Trees side by side: ``ids`` and ``positions`` of ``(trees, tokens)``, ``mask`` of ``(trees, 1, tokens, tokens)``.

    A token (row of the mask) attends to itself and to those that it follows; padding to itself alone.
    """
    ids = pad_sequence([torch.tensor(tree.ids) for tree in trees], batch_first=True)
    mask = torch.eye(ids.shape[1], dtype=torch.bool).repeat(len(trees), 1, 1, 1)
    for seen, tree in zip(mask[:, 0], trees):
        for at, parent in enumerate(tree.parents):
            if parent >= 0:
                seen[at] |= seen[parent]
    return {"ids": ids, "positions": mask[:, 0].sum(-1) - 1, "mask": mask}  # each stands behind those that it attends to
