"""Which examples make up a batch: all of a pass once, in a seeded order, and of about equal length within a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class ByLength:
    """Examples by step number; the same step gives the same ones.

    Args:
        examples: examples to learn from.
        lengths: length of each example.
        batch: examples per step; what does not fill the last batch of a pass is left out of it.
        seed: seed of the order.
    """

    WINDOW = 16  # batches that are sorted by length together, so that little is padding

    def __init__(self, examples: Sequence, lengths: Sequence[int], batch: int, seed: int):
        if len(lengths) < batch:
            raise ValueError(f"{len(lengths)} examples do not fill a batch of {batch}; give more examples or a smaller batch")
        self.examples, self.lengths, self.batch, self.seed = examples, lengths, batch, seed
        self.per_pass = len(lengths) // batch

    def chosen(self, step: int) -> list:
        """The examples of a step."""
        number, at = divmod(step, self.per_pass)
        return [self.examples[i] for i in self._order(number)[at]]

    def _order(self, number: int) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.lengths))[: self.per_pass * self.batch].tolist()
        batches = []
        for at in range(0, len(order), self.batch * self.WINDOW):
            window = sorted(order[at : at + self.batch * self.WINDOW], key=lambda i: self.lengths[i])
            batches += [window[i : i + self.batch] for i in range(0, len(window), self.batch)]
        return [batches[i] for i in rng.permutation(len(batches))]
