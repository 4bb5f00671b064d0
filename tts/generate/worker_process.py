"""A process that makes chunks for :mod:`tts.generate.local_pool`; it ends with its parent."""

import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from tts.generate.chunks import Engines, inputs_of, make_together
from tts.generate.work import Made, Work
from tts.store.store import Store

TOKENS_EVERY = 0.5  # seconds


def serve(connection: Connection, threads: int, share: float, environment: Mapping[str, str]) -> None:
    """Makes the chunks that come, with the folder of the store that holds what they are made from.

    It replies to each with what was made or raised, and numbers of tokens before that. ``share`` is the share of the machine's memory
    that the models may take, ``environment`` the parent's variables; the fork server's may be older.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    os.dup2(2, 1)  # what libraries print is no output of the parent's
    os.environ.update(environment)
    orders: queue.SimpleQueue[tuple[Sequence[Work], str]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, orders), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    engines = Engines(share=share)
    while True:
        works, folder = orders.get()
        reply: list[Made] | Exception
        try:
            tokens = _Tokens(connection)
            reply = make_together(works, [inputs_of(work, Store(folder)) for work in works], engines, tokens.add)
            tokens.say()
        except Exception as error:
            reply = _portable(error)
        connection.send(reply)


def _receive(connection: Connection, orders: queue.SimpleQueue[tuple[Sequence[Work], str]]) -> None:
    with suppress(EOFError, OSError):
        while True:
            orders.put(connection.recv())
    os._exit(1)  # the parent is gone, or wants this process gone, whatever is under way


class _Tokens:
    """Reports tokens every now and then."""

    def __init__(self, connection: Connection):
        self.connection, self.count, self.said = connection, 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self.count += tokens
        if time.monotonic() - self.said > TOKENS_EVERY:
            self.say()

    def say(self) -> None:
        self.connection.send(self.count)
        self.count, self.said = 0, time.monotonic()


def _portable(error: Exception) -> Exception:
    """The error made of its text alone, so that it can be sent, with its traceback as a note; a plain one where its kind needs more."""
    try:
        plain: Exception = type(error)(str(error))
    except TypeError:
        plain = RuntimeError(f"{type(error).__name__}: {error}")
    plain.add_note("".join(traceback.format_exception(error)))
    return plain
