"""Hands chunks to workers, each of which keeps a policy and a PRM in memory, and takes back what they made.

A chunk is a pure function of its spec, its problems and what the store holds for it, so neither its worker nor a second try shows in it.
Workers are processes of this machine (:mod:`tts.generate.local_pool`) or actors of a Ray cluster (:mod:`tts.generate.ray_pool`); the
process that schedules alone writes to the store.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from tts.generate.chunks import Announce, Made, OnTokens, Work, pool_of
from tts.search.registry import is_search
from tts.store.store import Store

RETRIES = 3  # of one chunk whose worker was lost


class WorkerError(RuntimeError):
    """A chunk that no worker could make; the message says which, and what to do."""


class Lost(str):
    """Reply of a worker that is gone: how it ended, in words."""


Reply = int | Made | Exception | Lost  # tokens generated since the last reply, a chunk, what its making raised, or the worker's end


class Worker(ABC):
    """A worker, as the scheduler sees it."""

    item: Work | None = None  # that it is making; None while it is idle
    models: tuple[str | None, ...] = None, None  # names of the policy and the PRM that it holds; None for one that it needed not yet

    def suits(self, item: Work) -> bool:
        """Whether it can make a chunk without giving up a model that it holds."""
        return all(wanted is None or held in (None, wanted) for wanted, held in zip(_models(item), self.models))

    def hand(self, item: Work, store: Store) -> None:
        """Gives it a chunk to make from what the store holds."""
        self.item, self.models = item, tuple(wanted or held for wanted, held in zip(_models(item), self.models))
        self.send(item, store)

    @abstractmethod
    def send(self, item: Work, store: Store) -> None:
        """Sends the chunk; a worker that is gone says so in its next reply."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it, whatever it does."""


def _models(item: Work) -> tuple[str | None, str | None]:
    """Names of the policy and the PRM that a chunk needs in memory; scores of a pool need no policy."""
    return None if item.spec.method == "scores" else item.spec.policy.name, item.spec.guide


class Waiting:
    """Chunks that wait for a worker, in the order in which they are to be made; one that another is made from has to be stored first.

    Scores need their pool. Searches of the same problems by the same policy follow one another, as each is given the steps of those
    before it: so all that a chunk is made from follows from the order of the work, not from which worker was faster.
    """

    def __init__(self, work: Sequence[Work], store: Store, announce: Announce = lambda item: None):
        self.items, self.store, self.announce = list(work), store, announce
        self._lost: Counter[int] = Counter()
        self._before: dict[int, Work | None] = {}
        latest: dict[str, Work] = {}
        for item in (item for item in self.items if is_search(item.spec.method)):
            like = f"{item.spec.sampler} {item.chunk}"
            self._before[id(item)] = latest.get(like)
            latest[like] = item

    def take(self, suits: Callable[[Work], bool] = lambda item: True) -> Work | None:
        """The first chunk that can be made now, and that suits; None where there is none."""
        for place, item in enumerate(self.items):
            if suits(item) and self._ready(item):
                self.announce(item)
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


class Scheduler(AbstractContextManager):
    """Workers of one kind; they keep their models from chunk to chunk, and end with the ``with`` block."""

    error: type[Exception] = WorkerError  # about a chunk whose workers were lost again and again
    remedy: str  # what its message says to do

    def __init__(self) -> None:
        self.workers: list[Any] = []

    @abstractmethod
    def places(self) -> int:
        """For how many workers there is room now."""

    @abstractmethod
    def start(self) -> Worker:
        """A further worker."""

    @abstractmethod
    def replies(self) -> Iterator[tuple[Worker, Reply]]:
        """What workers replied; waits some seconds for it at most."""

    def __exit__(self, *error: object) -> None:
        while self.workers:
            self.workers.pop().stop()

    def make(self, work: list[Work], store: Store, announce: Announce, on_tokens: OnTokens) -> Iterator[Made]:
        """Begins chunks in their order, and gives them in that in which they get done; the caller stores each before it asks for the next.

        Raises what a chunk raised, as it would here, or :attr:`error` for one whose workers were lost.
        """
        waiting = Waiting(work, store, announce)
        while True:
            self._hand_out(waiting)
            if not any(worker.item for worker in self.workers):
                if not waiting.items:
                    return
                if self.places():
                    raise WorkerError(f"{waiting.items[0].spec}: what it is made from is neither stored nor asked for")
            for worker, reply in self.replies():
                if isinstance(reply, int):
                    on_tokens(reply)
                elif isinstance(reply, Lost):
                    self.workers.remove(worker)
                    worker.stop()
                    if (item := worker.item) and not waiting.again(item):
                        made = f"the process that made the chunk from {item.chunk[0]['id']} on {reply}"
                        raise self.error(f"{item.spec}: {made}, again and again; {self.remedy}")
                elif isinstance(reply, Exception):
                    raise reply
                else:
                    worker.item = None
                    if following := waiting.take(worker.suits):  # it need not wait until this one lies on the disk
                        worker.hand(following, store)
                    yield reply

    def _hand_out(self, waiting: Waiting) -> None:
        """Gives each idle worker a chunk, one that suits its models if there is any; starts and stops workers as there is room."""
        places = self.places()
        for worker in [worker for worker in self.workers if not worker.item]:
            if len(self.workers) > places:
                self.workers.remove(worker)
                worker.stop()
            elif item := waiting.take(worker.suits) or waiting.take():
                worker.hand(item, waiting.store)
        while len(self.workers) < places and (item := waiting.take()):
            self.workers.append(worker := self.start())
            worker.hand(item, waiting.store)
