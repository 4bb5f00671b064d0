"""Processes that end with the one that started them, however that ends."""

import os
from multiprocessing import parent_process
from threading import RLock, Thread

from tqdm import tqdm

OWN_ENGINE = "TTS_OWN_ENGINE"  # in the environment of processes that vLLM starts for this package


def end_with_parent() -> None:
    """Ends this process with the one that asked for it, which a fork server outlives as long as it has children.

    tqdm's bars get a lock of this process alone: by default they share one with other processes, a semaphore, and Python warns its user of
    those that an ended process has not given back.
    """
    tqdm.set_lock(RLock())
    if parent := parent_process():

        def watch() -> None:
            parent.join()
            os._exit(1)

        Thread(target=watch, daemon=True).start()


def end_own_engine_with_parent() -> None:
    """What vLLM calls in each of its processes: of those that it starts for this package, none outlives it.

    vLLM ends them where Python ends in order; a signal or a time limit would leave them behind, computing.
    """
    if OWN_ENGINE in os.environ:
        end_with_parent()
