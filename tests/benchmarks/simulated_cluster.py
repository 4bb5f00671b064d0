"""Workers that take virtual time, under the scheduler and the store that a study has."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tts.generate.scheduler import Lost, Reply, Scheduler, Worker
from tts.generate.work import Made, Work
from tts.store.clock import Clock
from tts.store.store import Store

Seconds = Callable[[Sequence[Work]], float]  # of making chunks together, and of loading the models that they need


@dataclass
class Failure:
    """A node that fails."""

    at: float  # virtual seconds
    workers: int  # that are lost
    back: float  # seconds until their places are there again


@dataclass
class Account:
    """What became of the workers' virtual seconds."""

    working: float = 0.0
    loading: float = 0.0
    lost: float = 0.0  # that went to chunks whose workers were lost
    loads: int = 0
    takes: list[tuple[float, float]] = field(default_factory=list)  # begin and end of what a worker did without a pause


class SimulatedCluster(Scheduler):
    """``count`` workers, started anew for other models as actors are; the time is :attr:`now`."""

    remedy = "it is a simulation"

    def __init__(self, count: int, making: Seconds, loading: Seconds, failures: tuple[Failure, ...] = ()):
        super().__init__()
        self.count, self.making, self.loading = count, making, loading
        self.now, self.gone, self.account = 0.0, 0, Account()
        self._number = 0
        self._events: list[tuple[float, int, Callable[[], list[tuple[Worker, Reply]]]]] = []
        for failure in failures:
            self.later(failure.at, lambda failure=failure: self._fail(failure))

    def later(self, at: float, happens: Callable[[], list[tuple[Worker, Reply]]]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, happens))

    def places(self) -> int:
        return max(0, self.count - self.gone)

    def start(self) -> Worker:
        return SimulatedWorker(self)

    def replies(self) -> Iterator[tuple[Worker, Reply]]:
        self.now, _, happens = heapq.heappop(self._events)
        yield from happens()

    def _fail(self, failure: Failure) -> list[tuple[Worker, Reply]]:
        self.gone += failure.workers
        self.later(self.now + failure.back, lambda: self._return(failure))
        return [(worker, Lost("was lost (its node failed)")) for worker in self.workers[: failure.workers]]

    def _return(self, failure: Failure) -> list[tuple[Worker, Reply]]:
        self.gone -= failure.workers
        return []


class SimulatedWorker(Worker):
    def __init__(self, cluster: SimulatedCluster):
        self.cluster, self.order = cluster, 0
        self.began = self.until = 0.0

    def hand(self, items: Sequence[Work], store: Store) -> None:
        if not self.suits(items[0]):
            self.models = None, None
        self.held = self.models
        super().hand(items, store)

    def send(self, items: Sequence[Work], store: Store) -> None:
        cluster, account = self.cluster, self.cluster.account
        load = cluster.loading(items) if self.models != self.held else 0.0
        seconds = cluster.making(items)
        self.began, self.until, self.order = cluster.now, cluster.now + load + seconds, self.order + 1
        account.loading, account.loads = account.loading + load, account.loads + bool(load)
        order = self.order
        cluster.later(self.until, lambda: self._done(order, items, seconds))

    def _done(self, order: int, items: Sequence[Work], seconds: float) -> list[tuple[Worker, Reply]]:
        if order != self.order:  # it was lost meanwhile
            return []
        account = self.cluster.account
        account.working += seconds
        account.takes.append((self.began, self.until))
        return [(self, [Made(item, [], seconds / len(items), Clock("simulated", len(item.chunk))) for item in items])]

    def stop(self) -> None:
        self.order += 1
        if self.items:
            self.cluster.account.lost += self.cluster.now - self.began
