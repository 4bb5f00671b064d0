"""Hands chunks to workers, each of which keeps a policy and a PRM in memory, and takes back what they made.

A chunk is a pure function of its spec, its problems and what the store holds for it, so neither its worker nor a second try shows in it.
Workers are processes of this machine (:mod:`tts.generate.local_pool`) or actors of a Ray cluster (:mod:`tts.generate.ray_pool`); the
process that schedules alone writes to the store.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from tts.generate.chunks import pool_of
from tts.generate.work import Announce, Made, OnTokens, Work, goes_with
from tts.search.registry import is_search
from tts.store.store import Store

RETRIES = 3  # of one chunk whose worker was lost


class WorkerError(RuntimeError):
    """A chunk that no worker could make; the message says which, and what to do."""


class Lost(str):
    """Reply of a worker that is gone: how it ended, in words."""


Reply = int | list[Made] | Exception | Lost  # tokens generated since the last reply, chunks, what their making raised, or the worker's end


class Worker(ABC):
    """A worker, as the scheduler sees it."""

    items: Sequence[Work] = ()  # that it is making; none while it is idle
    models: tuple[str | None, ...] = None, None  # names of the policy and the PRM that it holds; None for one that it needed not yet

    def suits(self, item: Work) -> bool:
        """Whether it can make a chunk without giving up a model that it holds."""
        return all(wanted is None or held in (None, wanted) for wanted, held in zip(_models(item), self.models))

    def hand(self, items: Sequence[Work], store: Store) -> None:
        """Gives it chunks that go together to make from what the store holds."""
        self.items, self.models = items, tuple(wanted or held for wanted, held in zip(_models(items[0]), self.models))
        self.send(items, store)

    @abstractmethod
    def send(self, items: Sequence[Work], store: Store) -> None:
        """Sends the chunks; a worker that is gone says so in its next reply."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it, whatever it does."""


Models = tuple[str | None, str | None]


def _models(item: Work) -> Models:
    """Names of the policy and the PRM that a chunk needs in memory; scores of a pool need no policy."""
    return None if item.spec.method == "scores" else item.spec.policy.name, item.spec.guide


def _solutions(item: Work) -> int:
    return item.spec.n * len(item.chunk)


class Waiting:
    """Chunks that wait for a worker, in the order in which they are to be made; one that another is made from has to be stored first.

    Scores need their pool. Searches of the same problems by the same policy follow one another, as each is given the steps of those
    before it: so all that a chunk is made from follows from the order of the work, not from which worker was faster.

    Whoever has to load other models is given what most depends on: the chunk after which most seconds of work follow one another, by what
    its policy's solutions have taken so far. So a large policy's searches do not begin when all others are made.
    """

    def __init__(self, work: Sequence[Work], store: Store, announce: Announce = lambda item: None):
        self.items, self.store, self.announce = dict(enumerate(work)), store, announce  # by their places in the order
        self._lost: Counter[int] = Counter()
        self._ready: defaultdict[Models, list[int]] = defaultdict(list)  # heaps of places, by the models that the chunks need
        self._blocked: defaultdict[Path, list[int]] = defaultdict(list)  # places, by the file that has to be stored first
        self._following = {id(item): _solutions(item) for item in self.items.values()}  # with its own, one after the other
        self._taken: defaultdict[str | None, list[float]] = defaultdict(lambda: [0.0, 0.0])  # seconds and solutions, by policy
        latest: dict[str, Work] = {}
        for place, item in self.items.items():
            needed = pool_of(item, store)
            if is_search(item.spec.method):
                like = f"{item.spec.sampler} {item.chunk}"
                needed = store.run(latest[like].spec) if like in latest else None
                latest[like] = item
            if needed is None or needed.has(item.chunk):
                heappush(self._ready[_models(item)], place)
            else:
                self._blocked[needed.path(item.chunk)].append(place)
        for item in reversed(self.items.values()):
            after = self._blocked.get(store.run(item.spec).path(item.chunk), ())
            self._following[id(item)] += max((self._following[id(self.items[place])] for place in after), default=0)

    def take(self, suits: Callable[[Work], bool] | None = None, workers: int = 1) -> list[Work]:
        """The first chunk that can be made now, and that suits, or without ``suits`` the most urgent one; none where there is none.

        Chunks that need the same models suit alike. With a chunk come those of its run that go with it, as far as there are enough for all
        ``workers``.
        """
        firsts = [heap[0] for heap in self._ready.values() if suits is None or suits(self.items[heap[0]])]
        if not firsts:
            return []
        place = min(firsts) if suits else min(firsts, key=lambda place: (-self._urgency(self.items[place]), place))
        heap = self._ready[_models(first := self.items[place])]
        taken = [self.items.pop(heappop(heap))]
        if heap and self._joins(taken, self.items[heap[0]]):
            alike = 1 + sum(self.items[place].spec == first.spec for place in heap)
            while heap and len(taken) * workers < alike and self._joins(taken, self.items[heap[0]]):
                taken.append(self.items.pop(heappop(heap)))
        if not heap:
            del self._ready[_models(first)]
        for item in taken:
            self.announce(item)
        return taken

    @property
    def ready(self) -> bool:
        """Whether there is a chunk that can be made now."""
        return bool(self._ready)

    def _urgency(self, item: Work) -> float:
        """Seconds of the work that follows one another from a chunk on; of a policy that has made nothing yet they may be any number."""
        seconds, solutions = self._taken[_models(item)[0]]
        return self._following[id(item)] * seconds / solutions if solutions else math.inf

    def _joins(self, taken: Sequence[Work], item: Work) -> bool:
        """Whether a chunk is made with others; one whose worker was lost is made by itself."""
        return not any(self._lost[id(other)] for other in (*taken, item)) and goes_with(taken, item)

    def stored(self, item: Work, seconds: float) -> None:
        """Frees the chunks that are made from one, now that it is stored; it took so many seconds to make."""
        taken = self._taken[_models(item)[0]]
        taken[0], taken[1] = taken[0] + seconds, taken[1] + _solutions(item)
        run = self.store.run(item.spec)
        if run.has(item.chunk):
            for place in self._blocked.pop(run.path(item.chunk), ()):
                heappush(self._ready[_models(self.items[place])], place)

    def again(self, item: Work) -> bool:
        """Puts a chunk whose worker was lost back, before all others; False where that has happened too often."""
        self._lost[id(item)] += 1
        if self._lost[id(item)] > RETRIES:
            return False
        place = min(self.items, default=0) - 1
        self.items[place] = item
        heappush(self._ready[_models(item)], place)
        return True


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
            if not any(worker.items for worker in self.workers):
                if not waiting.items:
                    return
                if not waiting.ready:
                    raise WorkerError(f"{next(iter(waiting.items.values())).spec}: what it is made from is neither stored nor asked for")
            for worker, reply in self.replies():
                if isinstance(reply, int):
                    on_tokens(reply)
                elif isinstance(reply, Lost):
                    self.workers.remove(worker)
                    worker.stop()
                    for item in reversed(worker.items):
                        if not waiting.again(item):
                            what = f"the process that made the chunk from {item.chunk[0]['id']} on {reply}"
                            raise self.error(f"{item.spec}: {what}, again and again; {self.remedy}")
                elif isinstance(reply, Exception):
                    raise reply
                else:
                    worker.items = ()
                    if following := waiting.take(worker.suits, self.places()):  # it need not wait until these lie on the disk
                        worker.hand(following, store)
                    for made in reply:
                        yield made
                        waiting.stored(made.work, made.seconds)

    def _hand_out(self, waiting: Waiting) -> None:
        """Gives each idle worker a chunk, one that suits its models if there is any; starts and stops workers as there is room."""
        places = self.places()
        for worker in [worker for worker in self.workers if not worker.items]:
            if len(self.workers) > places:
                self.workers.remove(worker)
                worker.stop()
            elif items := waiting.take(worker.suits, places) or waiting.take(workers=places):
                worker.hand(items, waiting.store)
        while len(self.workers) < places and (items := waiting.take(workers=places)):
            self.workers.append(worker := self.start())
            worker.hand(items, waiting.store)
