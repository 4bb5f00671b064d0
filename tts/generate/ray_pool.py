"""Spreads a study over a Ray cluster: one chunk of problems per task, one policy and one PRM per actor.

Where an actor runs, and that it is started again with its chunk when its process or its node dies, is Ray's business; this
module hands an actor its next chunk. A chunk is a pure function of its spec, its problems and what it is given of the store,
so it may be made twice. Workers return rows; the driver alone writes to the store, which needs no shared file system.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tts import policies, reward_models
from tts.common.paths import ROOT
from tts.generate.chunks import Engines, Inputs, Made, Work, inputs_of, make
from tts.generate.local_pool import CLUSTER, side_by_side
from tts.generate.work_queue import RETRIES, Waiting
from tts.models.hub import ModelError
from tts.policies import server, vllm
from tts.store.store import Store, describe

# What actors take from this process's environment; never a key, for Ray writes these into its logs.
INHERITED = ("HF_HUB_OFFLINE", "HF_HOME", "HF_ENDPOINT", vllm.OPTIONS, server.PATIENCE)
PATIENCE = 5.0  # seconds until the cluster is looked at again, for nodes that came or went


class ClusterError(RuntimeError):
    """A cluster that cannot be used; the message says what to do."""


@contextmanager
def using(address: str | None = None, gpus: float | None = None) -> Iterator[None]:
    """While it lasts, this process and the notebooks it starts spread what they generate over a cluster.

    Args:
        address: ``host:port`` of the cluster's head; by default a cluster that this machine is part of, or else this machine.
        gpus: for each actor; by default one where any node has GPUs.

    Raises:
        ClusterError: where Ray is not installed, there is no cluster at the address, or no node has room for an actor.
    """
    with _connected(address) as ray:
        room = _Room.of(ray, gpus, 1)
        if not room.slots(ray):
            raise ClusterError(f"no node of the Ray cluster has {room}; choose --gpus to fit the nodes that 'ray status' lists")
        os.environ[CLUSTER] = json.dumps({"address": ray.get_runtime_context().gcs_address, "gpus": gpus})
        try:
            yield
        finally:
            del os.environ[CLUSTER]


def make_all(work: list[Work], store: Store, announce: Callable[[Work], None], on_tokens: Callable[[int], object]) -> Iterator[Made]:
    """Makes chunks on the cluster, in the order in which they get done; the caller stores each before it asks for the next.

    Tokens are told with each chunk, not while it is made.

    Raises:
        ClusterError: where a chunk's process died again and again.
        Exception: what a chunk raised, as it would here.
    """
    setting = json.loads(os.environ[CLUSTER])
    _, threads = side_by_side(item.spec for item in work)  # as here, so that sums are made in the same order
    with _connected(setting["address"]) as ray:
        spread = _Spread(ray, _Room.of(ray, setting["gpus"], threads), work, store, announce)
        try:
            while spread.waiting or spread.running:
                spread.hand_out()
                for made in spread.collect():
                    on_tokens(made.generated)
                    yield made
        finally:
            spread.stop()


class _Spread:
    """Chunks that wait, actors, and which of them makes which chunk."""

    def __init__(self, ray: Any, room: _Room, work: list[Work], store: Store, announce: Callable[[Work], None]):
        self.ray, self.room, self.announce = ray, room, announce
        self.waiting = Waiting(work, store)
        self.running: dict[Any, tuple[_Actor, Work]] = {}
        self._actors: set[_Actor] = set()

    def hand_out(self) -> None:
        """Gives each idle actor a chunk, or its place to another one, as far as there is room for actors."""
        slots = self.room.slots(self.ray)
        for actor in self._actors - {actor for actor, _ in self.running.values()}:
            item = self.waiting.take(actor.serves) if len(self._actors) <= slots else None
            if item is not None:
                self._start(actor, item)
            elif len(self._actors) > slots or not (self.running and self.waiting.holds(actor.serves)):
                self._dismiss(actor)  # its place is free for other models, or for an actor whose node died
        while len(self._actors) < slots and (item := self.waiting.take()):
            actor = _Actor.of(self.ray, self.room, item)
            self._actors.add(actor)
            self._start(actor, item)

    def collect(self) -> Iterator[Made]:
        """The chunks that are done, after waiting for at least one; a lost one waits for another actor."""
        if not self.running:  # every node is gone; others may come
            time.sleep(PATIENCE)
            return
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=PATIENCE)
        for reference in done:
            actor, item = self.running.pop(reference)
            try:
                made = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except self.ray.exceptions.RayError as error:  # Ray gave up, say on a node that is dead and not yet known to be
                self._dismiss(actor)
                self._wait_again(item, error)
                continue
            yield made

    def stop(self) -> None:
        for actor in list(self._actors):
            self._dismiss(actor)

    def _start(self, actor: _Actor, item: Work) -> None:
        self.announce(item)
        self.running[actor.start(item, inputs_of(item, self.waiting.store))] = actor, item

    def _dismiss(self, actor: _Actor) -> None:
        self._actors.discard(actor)
        self.ray.kill(actor.handle)

    def _wait_again(self, item: Work, error: Exception) -> None:
        if not self.waiting.again(item):
            reason = str(error).strip().splitlines()[0]
            raise ClusterError(
                f"{describe(item.spec)}: no process of the cluster could make the chunk from {item.chunk[0]['id']} on ({reason}); "
                f"every node needs this checkout at {ROOT}, the same packages, and memory for the models"
            )


@dataclass(frozen=True)
class _Room:
    """What each actor takes of a node."""

    cpus: int
    gpus: float

    @classmethod
    def of(cls, ray: Any, gpus: float | None, threads: int) -> _Room:
        """One CPU beside GPUs; else as many as there are to be threads, or a node has."""
        nodes = _nodes(ray)
        wanted = float(any(node.get("GPU") for node in nodes)) if gpus is None else gpus
        most = 1 if wanted else max((int(node.get("CPU", 0)) for node in nodes), default=0)
        return cls(max(1, min(threads, most)), wanted)

    def slots(self, ray: Any) -> int:
        """For how many actors the nodes that are alive have room."""
        by_cpu = [int(node.get("CPU", 0) // self.cpus) for node in _nodes(ray)]
        by_gpu = [int(node.get("GPU", 0) // self.gpus) if self.gpus else count for node, count in zip(_nodes(ray), by_cpu)]
        return sum(map(min, by_cpu, by_gpu))

    def share(self, ray: Any) -> float:
        """Of a GPU's memory, or of a node's: what falls to each of the actors on it."""
        if self.gpus:
            return min(1.0, self.gpus)
        return 1 / max(1, *(int(node.get("CPU", 0) // self.cpus) for node in _nodes(ray)))

    def __str__(self) -> str:
        return f"{self.cpus} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


@dataclass(eq=False)
class _Actor:
    """A process with models, as the driver sees it.

    Attributes:
        handle: Ray's.
        policy: the policy of its chunks.
        prm: the one PRM that it holds; None as long as it needed none.
    """

    handle: Any
    policy: str
    prm: str | None = None

    @classmethod
    def of(cls, ray: Any, room: _Room, item: Work) -> _Actor:
        options = {"num_cpus": room.cpus, "num_gpus": room.gpus, "max_restarts": -1, "max_task_retries": RETRIES}
        return cls(ray.remote(**options)(Worker).remote(room.cpus, room.share(ray)), item.spec["policy"]["name"])

    def serves(self, item: Work) -> bool:
        return item.spec["policy"]["name"] == self.policy and (self.prm is None or _prm(item) in (None, self.prm))

    def start(self, item: Work, inputs: Inputs) -> Any:
        self.prm = self.prm or _prm(item)
        return self.handle.make.remote(item, inputs)


def _prm(item: Work) -> str | None:
    return item.spec["prm"]["name"] if item.spec["prm"] else None


class Worker:
    """What runs in an actor's process: the models, loaded when they are first needed.

    Args:
        threads: of torch.
        share: of the memory of its node, or of its GPU.
    """

    def __init__(self, threads: int, share: float):
        import torch

        torch.set_num_threads(threads)
        self.engines = Engines(1, share)

    def make(self, work: Work, inputs: Inputs) -> Made:
        """Makes a chunk.

        Raises:
            ModelError: where this node has other weights of the same name than the driver.
        """
        _check_weights(work.spec["policy"], policies.weights_of)
        if work.spec["prm"]:
            _check_weights(work.spec["prm"], reward_models.weights_of)
        self.engines = self.engines.of(work.spec)
        return make(work, inputs, self.engines)


_checked: set[str] = set()


def _check_weights(model: dict, weights_of: Callable[[str], str]) -> None:
    """Compares once a process, since it means reading the whole model."""
    if model["name"] in _checked:
        return
    if weights_of(model["name"]) != model["weights"]:
        raise ModelError(f"{model['name']} on node {os.uname().nodename} is another model than where the study was started; copy it anew")
    _checked.add(model["name"])


def _nodes(ray: Any) -> list[dict]:
    """The resources of the nodes that are alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster, or started on this machine; left as it was found."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError("--engine ray needs Ray: pip install 'ray>=2.50' into this environment and that of every node")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    variables = {"PYTHONPATH": path} | {name: os.environ[name] for name in INHERITED if name in os.environ}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": variables})
    except Exception as error:  # Ray raises many kinds, plain ones among them
        what = f"reach a Ray cluster at {address}" if address else "start Ray on this machine"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ClusterError(f"cannot {what}: {reason}; start one with 'ray start --head', and give the address that it prints") from None
    try:
        yield ray
    finally:
        ray.shutdown()
