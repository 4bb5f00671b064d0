"""A process that makes chunks for :mod:`tts.generate.local_pool`: JSON lines in and out; it ends with its parent.

In: first the share of memory, then chunks, with the store that holds what they are made from. Out: numbers of tokens as they come, and
for each chunk what was made or what went wrong.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from typing import TextIO

import pyarrow as pa

from tts.generate.chunks import Engines, Work, inputs_of, make
from tts.store.chunk_file import STEPS
from tts.store.store import Store

TOKENS_EVERY = 0.5  # seconds


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, who ends us
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no reply
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    engines = Engines(1, json.loads(lines.get())["share"])
    settled = False
    while True:
        order = json.loads(lines.get())
        work = Work(order["spec"], order["chunk"])
        try:
            engines = engines.of(work.spec)
            tokens = _Tokens(out)
            made = make(work, inputs_of(work, Store(order["store"])), engines, tokens.add)
            tokens.say()
            _say(out, rows=made.rows, seconds=made.seconds, steps=_packed(made.steps), limits=made.limits, warnings=made.warnings)
        except Exception as error:  # the parent raises it
            kind = f"{type(error).__module__}:{type(error).__qualname__}"
            _say(out, error=kind, text=str(error), trace=traceback.format_exc())
        if not settled:  # libraries stay: half a million objects, through which every full collection would look again
            gc.collect()
            gc.freeze()
            settled = True


def _read(lines: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)  # the parent is gone, whatever is under way


class _Tokens:
    """Reports tokens every now and then."""

    def __init__(self, out: TextIO):
        self.out, self.count, self.said = out, 0, time.monotonic()

    def add(self, tokens: int) -> None:
        self.count += tokens
        if time.monotonic() - self.said > TOKENS_EVERY:
            self.say()

    def say(self) -> None:
        _say(self.out, tokens=self.count)
        self.count, self.said = 0, time.monotonic()


def _packed(steps: pa.ListArray | None) -> str | None:
    """Arrow's own bytes, in characters: many steps take longer to write and read as JSON than to sample."""
    if steps is None:
        return None
    batch, sink = pa.record_batch([steps], [STEPS.name]), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode()


def _say(out: TextIO, **reply: object) -> None:
    out.write(json.dumps(reply) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
