"""A study spread over three Ray nodes: the same bytes as here, though processes and a node are killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from processes import heed_ctrl_c
from test_store import export, grid

from tts.models import ModelError
from tts.paths import ROOT
from tts.runs import cluster
from tts.runs.runner import Work, fill, missing
from tts.runs.store import Store

ray = pytest.importorskip("ray", reason="Ray is not installed (the extra 'ray')")
psutil = pytest.importorskip("psutil")


@pytest.fixture(scope="module")
def nodes():
    """A cluster of three nodes with one CPU each, on this machine, and the two of them that may be killed."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    quick = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    made = Cluster(initialize_head=True, head_node_args=node | {"_system_config": quick})
    others = [made.add_node(**node) for _ in range(2)]
    yield made, others
    ray.shutdown()
    made.shutdown()


@pytest.fixture(scope="module")
def wanted(tiny_lm):
    return grid(tiny_lm, tiny_lm, problems={"pocket-main": 24}, samples=8)


@pytest.fixture(scope="module")
def here(wanted, tmp_path_factory):
    """The same study, run in this process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    fill(wanted, store := Store(tmp_path_factory.mktemp("here")))
    yield store
    torch.set_num_threads(before)


def chunks(store):
    return len(list(store.folder.glob("*/*.parquet")))


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def actors():
    """Processes of actors at work, of the cluster that this process started."""
    return [p for p in psutil.Process().children(recursive=True) if "ray::Worker.make" in " ".join(p.cmdline())]


def test_killed_process_and_node_lose_nothing(nodes, here, wanted, tmp_path):
    made, others = nodes
    there, done = Store(tmp_path), []

    def kill():
        wait_for(lambda: chunks(there) >= 2 and actors())
        os.kill(actors()[0].pid, signal.SIGKILL)
        before = chunks(there)
        wait_for(lambda: chunks(there) >= before + 2)
        made.remove_node(others.pop(), allow_graceful=False)
        done.append(len(missing(wanted, there)))

    killer = threading.Thread(target=kill)
    with cluster.using(made.address):
        killer.start()
        assert fill(wanted, there) == 5 * 12
        killer.join()
        assert sum(node["Alive"] for node in ray.nodes()) == 2
    assert done[0] > 3, "the node was not killed in the middle"
    assert export(there) == export(here)
