"""The most bytes that the engine's caches take at any time, parked ones included."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch.utils.weak import WeakIdKeyDictionary

from tts.engine.cached_model import CachedModel
from tts.engine.slot_cache import SlotCache


@contextmanager
def peak_of_caches() -> Iterator[list[int]]:
    """Gives a list of one number, the peak so far; set it to 0 to begin anew."""
    noted, parked, caches, most = WeakIdKeyDictionary(), [0], weakref.WeakSet(), [0]
    park, extend = SlotCache.park, CachedModel.extend

    def let_go(size):
        parked[0] -= size

    def park_and_note(self, *given):
        state = park(self, *given)
        if state and (held := state.parts[-1].held) not in noted:  # a state that ends within another's part adds nothing
            noted[held] = True
            parked[0] += held.nbytes
            weakref.finalize(held, let_go, held.nbytes)
        return state

    def extend_and_weigh(self, cache, *given):
        hidden = extend(self, cache, *given)
        caches.add(cache)
        most[0] = max(most[0], parked[0] + sum(cache.held.nbytes for cache in caches))
        return hidden

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SlotCache, "park", park_and_note)
        patched.setattr(CachedModel, "extend", extend_and_weigh)
        yield most
