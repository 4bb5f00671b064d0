"""Waiting on a queue in a way that Ctrl-C ends."""

from __future__ import annotations

import queue
from typing import TypeVar

Item = TypeVar("Item")


def first_of(items: queue.SimpleQueue[Item]) -> Item:
    """The next item of a queue, once there is one.

    A second at a time: a signal that comes just before a wait without an end is only seen when that ends.
    """
    while True:
        try:
            return items.get(timeout=1)
        except queue.Empty:
            continue
