"""Which examples make up a batch: all of a pass once, in a seeded order, and of about equal length within a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class ByLength:
    """Indices of the examples of each step; the same step gives the same ones.

    Args:
        lengths: of the examples.
        batch: examples per step; what does not fill the last batch of a pass is left out of it.
        seed: of the order.
    """

    WINDOW = 16  # batches that are sorted by length together, so that little is padding

    def __init__(self, lengths: Sequence[int], batch: int, seed: int):
        if len(lengths) < batch:
            raise ValueError(f"{len(lengths)} examples do not fill a batch of {batch}; give more examples or a smaller batch")
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.per_pass = len(lengths) // batch

    def __getitem__(self, step: int) -> list[int]:
        number, at = divmod(step, self.per_pass)
        return self._order(number)[at]

    def _order(self, number: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.lengths))[: self.per_pass * self.batch].tolist()
        batches = []
        for at in range(0, len(order), self.batch * self.WINDOW):
            window = sorted(order[at : at + self.batch * self.WINDOW], key=lambda i: self.lengths[i])
            batches += [window[i : i + self.batch] for i in range(0, len(window), self.batch)]
        return [batches[i] for i in rng.permutation(len(batches))]
