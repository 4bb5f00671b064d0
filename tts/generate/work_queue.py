"""Chunks that wait to be made by one of several workers, each with models of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tts.generate.chunks import Work, pool_of
from tts.search.registry import is_search
from tts.store.store import Store

RETRIES = 3  # of one chunk whose worker was lost


class Waiting:
    """Chunks in the order in which they are to be made; one that is made from what another leaves, once that one is stored.

    Scores need their pool. Searches of the same problems by the same policy follow one another, as each is given the steps of those
    before it: so all that a chunk is made from follows from the order of the work, not from which worker was faster.

    Args:
        work: the chunks.
        store: store that gets them.
    """

    def __init__(self, work: Sequence[Work], store: Store):
        self.items, self.store = list(work), store
        self._lost: Counter[int] = Counter()
        self._before: dict[int, Work] = {}
        latest: dict[str, Work] = {}
        for item in (item for item in self.items if is_search(item.spec.method)):
            like = f"{item.spec.sampler} {item.chunk}"
            if like in latest:
                self._before[id(item)] = latest[like]
            latest[like] = item

    def __bool__(self) -> bool:
        return bool(self.items)

    def take(self, suits: Callable[[Work], bool] = lambda item: True) -> Work | None:
        """The first chunk that can be made now, and that suits; None where there is none."""
        for place, item in enumerate(self.items):
            if suits(item) and self._ready(item):
                return self.items.pop(place)
        return None

    def again(self, item: Work) -> bool:
        """Puts a chunk whose worker was lost back; False where that has happened too often."""
        self._lost[id(item)] += 1
        if self._lost[id(item)] > RETRIES:
            return False
        self.items.insert(0, item)
        return True

    def _ready(self, item: Work) -> bool:
        before = self._before.get(id(item))
        needed = self.store.run(before.spec) if before else pool_of(item, self.store)
        return needed is None or needed.has(item.chunk)
