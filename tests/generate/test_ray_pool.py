"""A study spread over a Ray cluster: the same bytes as here, though its driver, a process and a node are stopped on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import torch
from processes import TELLING, errors_of
from typer.testing import CliRunner

from tts import policies
from tts.common.paths import ROOT
from tts.generate import ray_pool
from tts.generate.grid import Grid
from tts.generate.runner import fill, missing
from tts.generate.scheduler import RETRIES
from tts.models.hub import ModelError
from tts.store.run_spec import Model
from tts.store.store import Store
from tts.study import cli, presets

psutil = pytest.importorskip("psutil")

CHUNKS = 2 * 6  # of 80 problems in CoT, pool, scores, beam search at two budgets, and DVTS
STUDY = ["-p", "problems={pocket-main: 80}", "-p", "policy=policy-6k", "-p", "prm=prm-qwen-28k"]


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Ray, which takes more than a second, imported only by the process that runs these tests."""
    global ray
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra 'ray')")


NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster():
    """A cluster on this machine of one node with one CPU; Ray takes seconds to start each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}  # a dead node is missed after six seconds
    made = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": soon})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def one_thread():
    """What an actor has on a node with one CPU: another number adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chunks(store):
    return len(list(store.folder.glob("*/*.parquet")))


def wait_for(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def busy():
    """Ids of the processes that make a chunk, of the cluster that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            found += [process.pid] if "ray::Actor.make" in " ".join(process.cmdline()) else []
    return found


def start(address, store):
    command = [sys.executable, "-m", "tts", "run", "01_tts_methods", "--preset", "smoke", "--engine", "ray", "--address", address]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": TELLING}
    return subprocess.Popen([*command, *STUDY, "-p", f"store={store.folder}"], cwd=ROOT, **pipes)


def kill_one(store):
    """Kills a process that makes a chunk, after one that was stored."""
    kept = chunks(store)
    wait_for(lambda: chunks(store) > kept and busy())
    os.kill(busy()[0], signal.SIGKILL)


@pytest.mark.torture
def test_a_killed_process_loses_nothing(cluster, one_thread, tmp_path):
    """Of one model: an actor takes seconds to start, and others start for other models."""
    wanted = Grid(problems={"pocket-main": 80}, policies=["policy-6k"], methods=["majority"], samples=8, budgets=[8], chunk=20)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    killer = threading.Thread(target=kill_one, args=(there,))
    with ray_pool.using(cluster.address):
        killer.start()
        assert fill(wanted, there) == 8
        killer.join()
    assert fill(wanted, here) == 8 and list(there.export()) == list(here.export())


@pytest.mark.torture
def test_stopped_driver_and_killed_process_and_node_lose_nothing(cluster, one_thread, tmp_path):
    other = cluster.add_node(**NODE)
    [job] = presets.plan("smoke", ["01_tts_methods"], presets.parse_overrides(STUDY[1::2]))
    wanted, here, there = job.experiment().grid, Store(tmp_path / "here"), Store(tmp_path / "there")

    driver = start(cluster.address, there)
    wait_for(lambda: chunks(there) >= 2 or driver.poll() is not None)
    driver.send_signal(signal.SIGINT)
    errors = errors_of(driver, 300)
    assert driver.returncode == 130 and "the same command continues where it was" in errors and "Traceback" not in errors
    assert 2 <= chunks(there) < CHUNKS

    def kill():
        kill_one(there)
        kept = chunks(there)
        wait_for(lambda: chunks(there) > kept)
        cluster.remove_node(other, allow_graceful=False)
        left.append(len(missing(wanted, there)))

    killer, left = threading.Thread(target=kill), []
    with ray_pool.using(cluster.address):
        killer.start()
        fill(wanted, there)
        killer.join()
        wait_for(lambda: sum(node["Alive"] for node in ray.nodes()) == 1)  # Ray hears of it after a while, the study is quicker at times
    assert left[0] >= 3, "the node was not killed in the middle"
    assert fill(wanted, here) == chunks(here) == CHUNKS
    assert list(there.export()) == list(here.export())


@pytest.mark.torture
def test_a_cluster_without_room_is_refused(cluster):
    with pytest.raises(ray_pool.ClusterError, match="no node of the Ray cluster has 1 CPUs and 2 GPUs; choose --gpus"):
        with ray_pool.using(cluster.address, gpus=2):
            pass
    assert ray_pool.CLUSTER not in os.environ


def test_other_weights_of_the_same_name_are_refused():
    with pytest.raises(ModelError, match="policy-6k on node .* is another model than where the study was started"):
        ray_pool._check_weights(Model("policy-6k", "0" * 16), policies.weights_of)


def test_what_is_no_cluster_is_refused():
    with pytest.raises(ray_pool.ClusterError, match="cannot reach a Ray cluster at nowhere: .*; start one with 'ray start --head'"):
        with ray_pool.using("nowhere"):
            pass


def test_options_of_a_cluster_want_one():
    with pytest.raises(ray_pool.ClusterError, match="--address and --gpus are of a cluster; say --engine ray too"):
        CliRunner().invoke(cli.app, ["run", "--address", "127.0.0.1:6379"], catch_exceptions=False)


def test_actors_share_their_nodes_memory():
    class Nodes:
        @staticmethod
        def nodes():
            return [{"Alive": True, "Resources": {"CPU": cpus, "GPU": 1}} for cpus in (16, 4)]

    assert ray_pool._Cluster(Nodes, 0, 4).share() == 1 / 4
    assert ray_pool._Cluster(Nodes, 0.5, 1).share() == 0.5 and ray_pool._Cluster(Nodes, 2, 1).share() == 1


class Cluster:
    """Ray as far as the pool uses it, in this process: tasks run when they are asked for, and die as told.

    Args:
        cpus: CPUs of each node, of one list after the other as it is looked at.
        dies: whether the n-th task dies with its process.
    """

    def __init__(self, cpus, dies=lambda task: False):
        self.cpus, self.dies, self.alive, self.started, self.tasks = list(cpus), dies, set(), [], 0
        self.exceptions = ray.exceptions

    def nodes(self):
        now = self.cpus.pop(0) if len(self.cpus) > 1 else self.cpus[0]
        return [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in now]

    def remote(self, **options):
        return lambda kind: SimpleNamespace(remote=lambda *given: self._start(kind(*given)))

    def _start(self, actor):
        handle = SimpleNamespace(make=SimpleNamespace(remote=lambda item, inputs: lambda: actor.make(item, inputs)))
        self.alive.add(id(handle))
        self.started.append(handle)
        return handle

    def wait(self, references, num_returns, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        self.tasks += 1
        if self.dies(self.tasks):
            raise ray.exceptions.RayActorError()
        try:
            return reference()
        except Exception as error:
            raise ray.exceptions.RayTaskError("make", "traceback", error) from None

    def kill(self, handle):
        self.alive.discard(id(handle))


def spread(cluster, policy, store, **changes):
    """Chunks that are made on a cluster, and stored."""
    values = {"problems": {"pocket-main": 6}, "policies": [str(policy)], "prms": [f"math-shepherd:{policy}"], "samples": 4, "budgets": [4]}
    sizes = {"max_tokens": 40, "max_steps": 4, "chunk": 2, "batch": 8, "temperature": 1.0}
    wanted = Grid(**(values | sizes | changes))
    with ray_pool._Cluster(cluster, 0, 1) as scheduler:
        for made in scheduler.make(missing(wanted, store), store, lambda item: None, lambda tokens: None):
            store.open(made.work.spec).write(made.work.chunk, made.rows, made.seconds, made.limits, made.steps, made.unread, made.clock)
    assert not cluster.alive
    return wanted


@pytest.mark.parametrize("cpus", [[[1, 1]], [[1, 1]] * 9 + [[1]] * 9 + [[]] * 3 + [[2, 1]]])
def test_dead_actors_and_nodes_that_come_and_go_change_nothing(tiny_lm, one_thread, tmp_path, monkeypatch, cpus):
    monkeypatch.setattr(ray_pool, "PATIENCE", 0.01)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    cluster = Cluster(cpus, dies=lambda task: task in (1, 5, 6))
    wanted = spread(cluster, tiny_lm, there)
    assert len(cluster.started) > 2 and fill(wanted, here) == 15 and not missing(wanted, there)
    assert list(there.export()) == list(here.export())


def test_a_chunk_whose_actors_die_is_named(tiny_lm, tmp_path):
    cluster = Cluster([[1]], dies=lambda task: True)
    with pytest.raises(
        ray_pool.ClusterError,
        match="made the chunk from pocket-main-.*00000 on was lost .The actor experienced an error.*; every node needs",
    ):
        spread(cluster, tiny_lm, Store(tmp_path))
    assert cluster.tasks == RETRIES + 1


def test_an_error_of_an_actor_is_raised_as_it_would_be_here(tiny_lm, tmp_path, monkeypatch):
    def refuse(*given):
        raise ModelError("no such luck")

    monkeypatch.setattr(ray_pool, "make_together", refuse)
    with pytest.raises(ModelError, match="^no such luck$") as caught:
        spread(Cluster([[1]]), tiny_lm, Store(tmp_path))
    assert isinstance(caught.value.__cause__, ray.exceptions.RayTaskError)


def test_other_models_get_an_actor_of_their_own(tiny_lm, tiny_qwen_prm, tmp_path):
    prms, cluster = [f"math-shepherd:{tiny_lm}", f"qwen-prm:{tiny_qwen_prm}"], Cluster([[1]])
    spread(cluster, tiny_lm, Store(tmp_path), problems={"pocket-main": 4}, prms=prms, methods=["best_of_n"])
    assert len(cluster.started) == 2
