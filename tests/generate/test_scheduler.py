"""Chunks under a scheduler whose workers take virtual time: each is stored once, in an order that no worker's speed changes."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tts.generate import local_pool, runner
from tts.generate.chunks import make_together
from tts.generate.scheduler import Waiting
from tts.generate.work import TOGETHER, Made, Work, goes_with
from tts.search.base import Candidate, Sample
from tts.search.driver import Driver
from tts.store.clock import Clock
from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.step_columns import StepCache
from tts.store.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from latencies import LOADED, fitted, predicted, shapes  # noqa: E402 (the benchmarks are no package)
from simulated_cluster import Failure, SimulatedCluster  # noqa: E402
from simulated_models import SimulatedEngines, SimulatedPolicy  # noqa: E402

BATCH = 128


def spec(method, policy="policy", n=4, engine="vllm"):
    search = {"width": 4, "max_steps": 40} if method == "beam_search" else {}
    prm = Model("prm", "") if method in ("scores", "beam_search") else None
    sampling = {"temperature": 0.7, "max_tokens": 8192, "seed": 0}
    return RunSpec(method, Model(policy, ""), prm, n, sampling, RunEngine(engine, BATCH, 2), TaskKey("maths", 1, ""), **search)


def chunk(number, size=2):
    return [{"id": f"p-{i}", "problem": f"What is {i}?", "answer": str(i)} for i in range(number * size, (number + 1) * size)]


def study(policies=2, chunks=6):
    """Scores, pools and two searches of each policy, in an order in which some have to wait for what comes later."""
    runs = [("scores", 256), ("beam_search", 16), ("beam_search", 4), ("pool", 256)]
    specs = [spec(method, f"policy-{i}", n) for i in range(policies) for method, n in runs]
    return [Work(one, chunk(number)) for one in specs for number in range(chunks)]


def made_by(folder, workers, failures=(), seconds=lambda items: 10.0 * len(items)):
    """The order in which a cluster stores a study's chunks, and the cluster."""
    store, cluster, order = Store(folder), SimulatedCluster(workers, seconds, lambda items: 5.0, failures), []
    with cluster:
        for made in cluster.make(study(), store, lambda item: None, lambda tokens: None):
            run = store.open(made.work.spec)
            assert not run.has(made.work.chunk)
            run.write(made.work.chunk, [], made.seconds)
            order.append((str(made.work.spec), made.work.chunk[0]["id"]))
    return order, cluster


@pytest.mark.parametrize("workers", [1, 5, 64])
def test_every_chunk_is_stored_once_though_workers_are_lost(workers, tmp_path):
    wanted = Counter((str(item.spec), item.chunk[0]["id"]) for item in study())
    order, cluster = made_by(tmp_path / "whole", workers)
    lost = tuple(Failure(share * cluster.now, max(1, workers // 2), 30.0) for share in (0.1, 0.5, 0.9))
    again, failing = made_by(tmp_path / "failing", workers, lost)
    assert Counter(order) == Counter(again) == wanted and set(wanted.values()) == {1}
    assert failing.account.lost > 0 and failing.now >= cluster.now


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_what_a_chunk_is_made_from_does_not_depend_on_speed(workers, tmp_path):
    drawn = random.Random(workers)
    order, _ = made_by(tmp_path, workers, seconds=lambda items: drawn.expovariate(1.0))
    place = {chunk: at for at, chunk in enumerate(order)}
    for policy in ("policy-0", "policy-1"):
        for number in range(6):
            first = chunk(number)[0]["id"]
            pool, scores, *searches = (
                place[str(spec(*run)), first]
                for run in (("pool", policy, 256), ("scores", policy, 256), ("beam_search", policy, 16), ("beam_search", policy, 4))
            )
            assert pool < scores and searches == sorted(searches)


def test_to_take_a_chunk_asks_no_store_about_the_others(tmp_path, monkeypatch):
    store = Store(tmp_path)
    waiting, asked = Waiting(study(chunks=50), store), []
    monkeypatch.setattr(Store, "run", lambda *given: asked.append(given))
    while waiting.take(lambda item: item.spec.policy.name == "policy-1"):
        pass
    assert not asked and waiting.take() and not waiting.take(lambda item: False)


def test_chunks_of_few_solutions_go_to_a_worker_together(tmp_path):
    few = [Work(spec("beam_search"), chunk(number, 40)) for number in range(13)]
    waiting = Waiting(few, Store(tmp_path))
    taken = waiting.take()
    assert taken == few
    assert [len(Waiting(few, Store(tmp_path)).take(workers=count)) for count in (2, 8, 64)] == [7, 2, 1]  # enough is left for the others
    assert waiting.again(taken[0]) and waiting.take() == [few[0]]  # whose worker was lost is made by itself


def test_who_has_to_load_models_is_given_what_most_depends_on(tmp_path):
    def search(policy, prm, n):
        return Work(replace(spec("beam_search", policy, n), prm=Model(prm, "")), chunk(0, 40))

    work = {run: search(*run) for run in product("abc", ("first", "second"), (64, 16))}
    store, seconds = Store(tmp_path), {"a": 10.0, "b": 1000.0, "c": 100.0}
    waiting, order = Waiting(list(work.values()), store), []
    for _ in work:
        [item] = waiting.take()
        store.open(item.spec).write(item.chunk, [], 1.0)
        waiting.stored(item, seconds[item.spec.policy.name])
        order.append(item)
    # Of each policy one, which tells how long it takes; then the longest chain, until what is left of another is longer.
    assert [item.spec.policy.name for item in order] == list("abc" + "bbb" + "ccc" + "aaa")
    for policy in "abc":
        assert [item for item in order if item.spec.policy.name == policy] == [one for (name, *_), one in work.items() if name == policy]
    anew = Waiting(list(work.values()), Store(tmp_path / "new"))
    assert anew.take(lambda item: item.spec.policy.name != "a") == [work["b", "first", 64]]  # one that suits, in the order of the work


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Work(spec("beam_search", n=16), chunk(1)), "another run"),
        (Work(spec("beam_search"), chunk(0)), "the same problems"),
        (Work(spec("beam_search"), chunk(1, TOGETHER * BATCH // 4)), "too many"),
    ],
)
def test_chunks_that_do_not_go_together(other, why):
    assert goes_with([Work(spec("beam_search"), chunk(0))], Work(spec("beam_search"), chunk(1)))
    assert not goes_with([Work(spec("beam_search"), chunk(0))], other), why


def test_the_suites_own_engine_makes_each_chunk_by_itself():
    first, second = (Work(spec("beam_search", engine="transformers"), chunk(number)) for number in (0, 1))
    assert not goes_with([first], second)


def test_one_process_makes_them_together_too(tmp_path, monkeypatch):
    def make(items, inputs, engines, on_tokens):
        told.append(len(items))
        return [Made(item, [], 1.0, Clock("")) for item in items]

    told = []
    monkeypatch.setattr(runner, "make_together", make)
    monkeypatch.setattr(local_pool, "side_by_side", lambda specs: (1, 1))
    runs = [("beam_search", 64), ("beam_search", 4), ("pool", 256)]
    work = [Work(one, chunk(number, 40)) for one in (spec(method, n=n) for method, n in runs) for number in range(7)]
    made = list(runner._made(work, [], Store(tmp_path), lambda item: None, print))
    assert [one.work for one in made] == work and told == [3, 3, 1, 7] + [1] * 7


def steps_of(made):
    return [sorted(row, key=lambda step: step["path"]) for row in made.steps.to_pylist()]


def test_chunks_made_together_are_those_made_alone():
    known = shapes()
    works = [Work(spec("beam_search", n=16), chunk(number, 10)) for number in range(3)]
    alone, tokens = [], []
    for work in works:
        alone += make_together([work], [StepCache()], SimulatedEngines(known["1B"], known["7B"]), tokens.append)
    engines, told = SimulatedEngines(known["1B"], known["7B"]), []
    together = make_together(works, [StepCache() for _ in works], engines, told.append)
    assert [made.rows for made in together] == [made.rows for made in alone] and [made.work for made in together] == works
    assert list(map(steps_of, together)) == list(map(steps_of, alone))
    assert sum(made.generated for made in together) == sum(told) == sum(tokens)
    read = [sum(row["prm_tokens"] for row in made.rows) for made in together]
    assert [made.clock.read for made in together] == read and [made.clock.problems for made in together] == [10, 10, 10]


class Greedy(SimulatedPolicy):
    """Tells the largest number of searches that had begun while the batch had room."""

    begun = 0

    def submit(self, request, parent, count, whole):
        self.begun += not parent.path
        super().submit(request, parent, count, whole)


@pytest.mark.parametrize(("room", "most", "begun"), [(8, None, 2), (8, 32, 8), (8, 8, 2)])
def test_further_searches_begin_where_the_policy_has_little_to_do(room, most, begun):
    def search(root):
        [children] = yield Sample([root], 4)
        begins.append(policy.begun)
        return children

    begins = []
    policy = Greedy(shapes()["1B"], 64, SimulatedEngines(None, None).clock)
    roots = [Candidate(f"p-{i}", "", prompt=(0,)) for i in range(20)]
    Driver(policy, room=room, most=most).run([(root, search(root)) for root in roots])
    assert begins[0] == begun and len(begins) == 20


def test_the_model_of_latencies_is_near_what_nothing_was_fitted_to():
    known = fitted()
    ratios = [predicted(row, known[row.model]) / row.rate for row in LOADED]
    assert all(0.7 < ratio < 1.1 for ratio in ratios)
