"""Spreads a study over a Ray cluster: one chunk of problems per task, one policy and one PRM per actor.

Actors are given what a chunk is made from, and return rows; so the store needs no shared file system.
"""

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from tts import policies, reward_models
from tts.common.paths import ROOT
from tts.generate.chunks import Engines, Inputs, inputs_of, make_together
from tts.generate.local_pool import CLUSTER, side_by_side
from tts.generate.scheduler import Lost, Reply, Scheduler, Worker
from tts.generate.work import Announce, Made, OnTokens, Work
from tts.models.hub import ModelError, first_line
from tts.policies import openai, vllm
from tts.store.run_spec import Model
from tts.store.store import Store

# What actors take from this process's environment; never a key, for Ray writes these into its logs.
INHERITED = ("HF_HUB_OFFLINE", "HF_HOME", "HF_ENDPOINT", vllm.OPTIONS, openai.PATIENCE)
PATIENCE = 5.0  # seconds until the cluster is looked at again, for nodes that came or went


class ClusterError(RuntimeError):
    """A cluster that cannot be used; the message says what to do."""


@contextmanager
def using(address: str | None = None, gpus: float | None = None) -> Iterator[None]:
    """While it lasts, this process and the notebooks it starts spread what they generate over a cluster.

    ``address`` is the ``host:port`` of its head, by default that of a cluster that this machine is part of, or else this machine; ``gpus``
    are those of each actor, by default one where any node has GPUs. Raises :class:`ClusterError` where Ray is not installed, there is no
    cluster at the address, or no node has room for an actor.
    """
    with _connected(address) as ray:
        cluster = _Cluster(ray, gpus, 1)
        if not cluster.places():
            size = f"{cluster.cpus} CPUs" + (f" and {cluster.gpus:g} GPUs" if cluster.gpus else "")
            raise ClusterError(f"no node of the Ray cluster has {size}; choose --gpus to fit the nodes that 'ray status' lists")
        os.environ[CLUSTER] = json.dumps({"address": ray.get_runtime_context().gcs_address, "gpus": gpus})
        try:
            yield
        finally:
            del os.environ[CLUSTER]


def make_all(work: list[Work], store: Store, announce: Announce, on_tokens: OnTokens) -> Iterator[Made]:
    """:meth:`Scheduler.make` by actors that end with it; tokens are told with each chunk, not while it is made."""
    setting = json.loads(os.environ[CLUSTER])
    _, threads = side_by_side(item.spec for item in work)  # as here, so that sums are made in the same order
    with _connected(setting["address"]) as ray, _Cluster(ray, setting["gpus"], threads) as cluster:
        yield from cluster.make(work, store, announce, on_tokens)


class _Cluster(Scheduler):
    """Workers that are actors, as many as the nodes that are alive have room for."""

    error = ClusterError
    remedy = f"every node needs this checkout at {ROOT}, the same packages, and memory for the models"

    def __init__(self, ray: Any, gpus: float | None, threads: int):
        super().__init__()
        self.ray = ray
        nodes = self._nodes()
        self.gpus = float(any(node.get("GPU") for node in nodes)) if gpus is None else gpus
        # Of each actor: a CPU for each of its threads, as far as a node has them, but one beside GPUs.
        most = 1 if self.gpus else max((int(node.get("CPU", 0)) for node in nodes), default=0)
        self.cpus = max(1, min(threads, most))

    def _nodes(self) -> list[dict]:
        """The resources of the nodes that are alive."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def places(self) -> int:
        sizes = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        return sum(min(int(node.get(kind, 0) // size) for kind, size in sizes.items()) for node in self._nodes())

    def share(self) -> float:
        """Of a GPU's memory, or of a node's: what falls to each of the actors on it."""
        if self.gpus:
            return min(1.0, self.gpus)
        return 1 / max([1, *(int(node.get("CPU", 0) // self.cpus) for node in self._nodes())])

    def start(self) -> Worker:
        return _Handle(self)

    def replies(self) -> Iterator[tuple[Worker, Reply]]:
        making = {worker.reference: worker for worker in self.workers if worker.items}
        if not making:  # every node is gone; others may come
            time.sleep(PATIENCE)
            return
        done, _ = self.ray.wait(list(making), num_returns=1, timeout=PATIENCE)
        for reference in done:
            try:
                made = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:
                error.cause.__cause__ = error  # which has the actor's traceback
                yield making[reference], error.cause
            except self.ray.exceptions.RayError as error:  # its process or its node died
                yield making[reference], Lost(f"was lost ({first_line(error)})")
            else:
                yield making[reference], sum(chunk.generated for chunk in made)
                yield making[reference], made


class _Handle(Worker):
    """An actor, as the driver sees it; for other models it is started anew, since not every engine frees a GPU's memory."""

    reference: Any = None  # Ray's, to the chunks that it is making

    def __init__(self, cluster: _Cluster):
        self.cluster = cluster
        self._start()

    def hand(self, items: Sequence[Work], store: Store) -> None:
        if not self.suits(items[0]):
            self.stop()
            self._start()
        super().hand(items, store)

    def send(self, items: Sequence[Work], store: Store) -> None:
        self.reference = self._actor.make.remote(items, [inputs_of(item, store) for item in items])

    def stop(self) -> None:
        self.cluster.ray.kill(self._actor)

    def _start(self) -> None:
        self.models = None, None
        remote = self.cluster.ray.remote(num_cpus=self.cluster.cpus, num_gpus=self.cluster.gpus)
        self._actor = remote(Actor).remote(self.cluster.cpus, self.cluster.share())


class Actor:
    """What runs in an actor's process: the models, which may take a share of its node's memory, or of its GPU's."""

    def __init__(self, threads: int, share: float):
        import torch

        torch.set_num_threads(threads)
        self.engines = Engines(share=share)

    def make(self, works: Sequence[Work], inputs: Sequence[Inputs]) -> list[Made]:
        """Makes chunks; raises ``ModelError`` where this node has other weights of the same name than the driver."""
        spec = works[0].spec
        _check_weights(spec.policy, policies.weights_of)
        if spec.prm:
            _check_weights(spec.prm, reward_models.weights_of)
        return make_together(works, inputs, self.engines)


@cache  # it means reading the whole model
def _check_weights(model: Model, weights_of: Callable[[str], str]) -> None:
    if weights_of(model.name) != model.weights:
        raise ModelError(f"{model.name} on node {os.uname().nodename} is another model than where the study was started; copy it anew")


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
        raise ClusterError(
            f"cannot {what}: {first_line(error)}; start one with 'ray start --head', and give the address that it prints"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
