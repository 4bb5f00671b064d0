"""Chunks that wait to be made by one of several workers, each with models of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tts.runs.making import Work, pool_of
from tts.runs.store import Store

RETRIES = 3  # of one chunk whose worker was lost


class Waiting:
    """Chunks in the order in which they are to be made; those about a pool's scores once the pool is stored.

    Args:
        work: the chunks.
        store: that gets them.
    """

    def __init__(self, work: Sequence[Work], store: Store):
        self._items, self.store = list(work), store
        self._lost: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._items)

    def take(self, suits: Callable[[Work], bool] = lambda item: True) -> Work | None:
        """The first chunk that can be made now, and that suits; None where there is none."""
        for place, item in enumerate(self._items):
            pool = pool_of(item, self.store)
            if (pool is None or pool.has(item.chunk)) and suits(item):
                return self._items.pop(place)
        return None

    def again(self, item: Work) -> bool:
        """Puts a chunk whose worker was lost back; False where that has happened too often."""
        self._lost[id(item)] += 1
        if self._lost[id(item)] > RETRIES:
            return False
        self._items.insert(0, item)
        return True

    def pool_rows(self, item: Work) -> list[dict] | None:
        """The stored rows that a chunk's scores are of."""
        pool = pool_of(item, self.store)
        return pool.read(item.chunk) if pool else None
