"""Hands chunks to workers, each of which keeps a policy and a PRM in memory, and takes back what they made.

A chunk is a pure function of its spec, its problems and what the store holds for it, so neither its worker nor a second try shows in it.
Workers are processes of this machine (:mod:`tts.generate.local_pool`) or actors of a Ray cluster (:mod:`tts.generate.ray_pool`); the
process that schedules alone writes to the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tts.generate.chunks import Announce, Made, OnTokens, Work
from tts.generate.work_queue import Waiting
from tts.store.store import Store


class WorkerError(RuntimeError):
    """A chunk that no worker could make; the message says which, and what to do."""


@dataclass(frozen=True)
class Lost:
    """Reply of a worker that is gone: how it ended, in words."""

    reason: str


Reply = int | Made | Exception | Lost
"""Tokens generated since the last reply, a chunk, what its making raised, or the worker's end."""


class Worker(ABC):
    """A worker, as the scheduler sees it.

    Attributes:
        item: chunk that it is making; None while it is idle.
        models: names of the policy and the PRM that it holds; None for one that it needed not yet.
    """

    item: Work | None = None
    models: tuple[str | None, str | None] = None, None

    def suits(self, item: Work) -> bool:
        """Whether it can make a chunk without giving up a model that it holds."""
        return all(wanted is None or held in (None, wanted) for wanted, held in zip(_models(item), self.models))

    def hand(self, item: Work, store: Store) -> None:
        """Gives it a chunk to make from what the store holds."""
        policy, prm = (wanted or held for wanted, held in zip(_models(item), self.models))
        self.item, self.models = item, (policy, prm)
        self.send(item, store)

    @abstractmethod
    def send(self, item: Work, store: Store) -> None:
        """Sends the chunk; a worker that is gone says so in its next reply."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it, whatever it does."""


def _models(item: Work) -> tuple[str | None, str | None]:
    """Names of the policy and the PRM that a chunk needs in memory; scores of a pool need no policy."""
    policy = None if item.spec.method == "scores" else item.spec.policy.name
    return policy, item.spec.guide


class Pool(ABC):
    """Where workers run."""

    @abstractmethod
    def places(self) -> int:
        """For how many workers there is room now."""

    @abstractmethod
    def start(self) -> Worker:
        """A further worker."""

    @abstractmethod
    def replies(self, workers: Sequence[Worker]) -> Iterator[tuple[Worker, Reply]]:
        """What workers replied; waits some seconds for it at most."""

    @abstractmethod
    def gave_up(self, run: str, problem: str, reason: str) -> Exception:
        """Error about a chunk whose workers were lost again and again.

        Args:
            run: description of the chunk's run.
            problem: id of the chunk's first problem.
            reason: how the last worker ended.
        """


class Scheduler(AbstractContextManager):
    """Workers of a pool; they keep their models from chunk to chunk, and end with the ``with`` block."""

    def __init__(self, pool: Pool):
        self.pool = pool
        self._workers: list[Worker] = []

    def __exit__(self, *error: object) -> None:
        while self._workers:
            self._workers.pop().stop()

    def make(self, work: list[Work], store: Store, announce: Announce, on_tokens: OnTokens) -> Iterator[Made]:
        """Makes chunks, in the order in which they get done; the caller stores each before it asks for the next.

        Args:
            work: chunks, in the order in which they are to be begun.
            store: store that gets them.

        Raises:
            Exception: what a chunk raised, as it would here, or what :meth:`Pool.gave_up` gives for one whose workers were lost.
        """
        waiting = Waiting(work, store)
        while True:
            self._hand_out(waiting, announce)
            if not any(worker.item for worker in self._workers):
                if not waiting:
                    return
                if self.pool.places():
                    raise WorkerError(f"{waiting.items[0].spec}: what it is made from is neither stored nor asked for")
            for worker, reply in self.pool.replies(self._workers):
                if isinstance(reply, int):
                    on_tokens(reply)
                elif isinstance(reply, Lost):
                    self._workers.remove(worker)
                    worker.stop()
                    if worker.item and not waiting.again(worker.item):
                        raise self.pool.gave_up(str(worker.item.spec), worker.item.chunk[0]["id"], reply.reason)
                elif isinstance(reply, Exception):
                    raise reply
                else:
                    worker.item = None
                    if following := waiting.take(worker.suits):  # it need not wait until this one lies on the disk
                        _hand(worker, following, waiting, announce)
                    yield reply

    def _hand_out(self, waiting: Waiting, announce: Announce) -> None:
        """Gives each idle worker a chunk, one that suits its models if there is any; starts and stops workers as there is room."""
        places = self.pool.places()
        for worker in [worker for worker in self._workers if not worker.item]:
            if len(self._workers) > places:
                self._workers.remove(worker)
                worker.stop()
            elif item := waiting.take(worker.suits) or waiting.take():
                _hand(worker, item, waiting, announce)
        while len(self._workers) < places and (item := waiting.take()):
            self._workers.append(worker := self.pool.start())
            _hand(worker, item, waiting, announce)


def _hand(worker: Worker, item: Work, waiting: Waiting, announce: Announce) -> None:
    announce(item)
    worker.hand(item, waiting.store)
