"""The clock: what is kept of policy and PRM with a chunk, and the seconds of a method that follow from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tts.analysis.accuracy import Results
from tts.exchange.summary import import_all
from tts.generate.grid import grid_of
from tts.generate.runner import fill
from tts.store.clock import Clock, together
from tts.store.store import Store

SIZES = {"problems": {"pocket-main": 4}, "samples": 8, "budgets": [4, 8], "max_tokens": 40, "max_steps": 4, "temperature": 1.0}


@pytest.fixture(scope="module")
def study(tiny_lm, tmp_path_factory):
    grid = grid_of(
        **SIZES, policies=[str(tiny_lm)], prms=[f"math-shepherd:{tiny_lm}"], methods=["majority", "best_of_n", "beam_search", "dvts"]
    )
    store = Store(tmp_path_factory.mktemp("timed"))
    fill(grid, store)
    return grid, store, str(tiny_lm), f"math-shepherd:{tiny_lm}"


def test_every_chunk_keeps_its_clock(study):
    grid, store, *_ = study
    clocks = {spec.method: store.run(spec).clock() for spec in grid.specs()}
    rows = {spec.method: [row for run in [store.run(spec)] for row in run.rows()] for spec in grid.specs()}
    for method, clock in clocks.items():
        assert clock.problems == 4 and clock.where.startswith("cpu with ") and "128 at once, torch " in clock.where
        assert (clock.policy > 0) == (method != "scores") and (clock.prm > 0) == (method not in ("pool", "cot"))
        assert clock.read == sum(row["prm_tokens"] for row in rows[method])
    assert clocks["pool"].generated == sum(row["policy_tokens"] for row in rows["pool"])
    assert clocks["dvts"].generated <= sum(row["policy_tokens"] for row in rows["dvts"]), "known steps take no time"


def retimed(study, tmp_path, **clocks):
    """The study's store with other clocks, by method; no clock where none is given."""
    grid, store, *_ = study
    other = Store(tmp_path)
    for spec in grid.specs():
        rows = list(store.run(spec).rows())
        other.open(spec).write(grid.chunks("pocket-main")[0], rows, 1.0, clock=clocks.get(spec.method))
    return Results(grid, other)


def test_seconds_are_tokens_at_the_rates_of_the_runs(study, tmp_path):
    grid, _, policy, prm = study
    clocks = {"pool": Clock("here", 4, policy=6.0, generated=600), "scores": Clock("here", 4, prm=5.0, read=1000)}
    found = retimed(study, tmp_path, **clocks, beam_search=Clock("here", 4, policy=8.0, prm=2.0, generated=100, read=400))
    at = ("pocket-main", policy)
    tokens, read = found.policy_tokens(*at, None, "majority", 8), found.prm_tokens(*at, prm, "best_of_n", 8)
    assert found.seconds(*at, None, "majority", 8) == pytest.approx(tokens / 100)
    assert found.seconds(*at, None, "majority", 4) == pytest.approx(tokens / 200)
    assert found.seconds(*at, prm, "best_of_n", 8) == pytest.approx(tokens / 100 + read / 200)
    assert found.seconds(*at, prm, "best_of_n", 4) == pytest.approx(tokens / 200 + read / 400), "half of the pool, half of its scores"
    searched = found.policy_tokens(*at, prm, "beam_search", 4) * 0.08 + found.prm_tokens(*at, prm, "beam_search", 4) * 0.005
    assert found.seconds(*at, prm, "beam_search", 4) == pytest.approx(searched), "at the rate of both budgets"
    assert np.isnan(found.seconds(*at, prm, "dvts", 8)).all() and np.isnan(found.seconds(*at, None, "cot", 1)).all()


def test_recorded_times_of_a_search_are_those_of_its_budget(tmp_path):
    def searched(problem, n, seconds, tokens):
        done = [{"text": "\\boxed{1}", "path": [0]}]
        more = {"method": "beam_search", "n": n, "width": 2, "seconds": seconds, "policy_tokens": tokens, "prm": "theirs"}
        return {"problem": problem, "answer": "1", "completions": [d | {"scores": [0.5]} for d in done]} | more

    rows = [searched(f"1+{i}=?", n, 2.0, tokens) for i in range(6) for n, tokens in ((4, 100), (16, 1000))]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, [*rows, *(samples(f"1+{i}=?", 0.5) for i in range(6))])))
    store = Store(tmp_path / "runs")
    list(import_all(store, [tmp_path / "mine.jsonl"]))
    runs = {run.spec.n: run for run in store.runs() if run.spec.method == "beam_search"}
    assert {n: run.clock().policy for n, run in runs.items()} == {4: 12.0, 16: 12.0}
    grid = grid_of(
        problems={str(next((tmp_path / "runs").rglob("imported/*/*.jsonl"))): 6},
        policies=[runs[4].spec.policy.name],
        prms=[runs[4].spec.prm.name],
        methods=["majority", "beam_search"],
        budgets=[4, 16],
    )
    found = Results(grid, store)
    for n in (4, 16):
        assert found.seconds(next(iter(grid.problems)), grid.policies[0], grid.prms[0], "beam_search", n) == pytest.approx(np.full(6, 2.0))


def test_a_prm_without_tokens_takes_its_time_per_problem(study, tmp_path):
    _, _, policy, prm = study
    clocks = {"pool": Clock("here", 4, policy=6.0, generated=600), "scores": Clock("here", 4, prm=8.0)}
    found = retimed(study, tmp_path, **clocks)
    tokens = found.policy_tokens("pocket-main", policy, None, "majority", 8)
    assert found.seconds("pocket-main", policy, prm, "best_of_n", 8) == pytest.approx(tokens / 100 + 2.0)


def test_clocks_add_up_and_name_their_machines():
    one = Clock("here", 4, 1.0, 2.0, 30, 40)
    total = together([one, replace(one, where="there"), one])
    assert total == Clock("here; there", 12, 3.0, 6.0, 90, 120) and Clock.of(total.text) == total
    assert together([]) == Clock("")


def samples(problem, each, **more):
    completions = [{"text": f"\\boxed{{{n}}}", "tokens": 10} | ({} if each is None else {"latency": each}) for n in range(4)]
    return {"problem": problem, "answer": "1", "completions": completions} | more


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([samples("1+1=?", 0.5), samples("1+2=?", 0.25)], Clock("imported", 2, policy=3.0, generated=80)),
        ([samples("1+1=?", None, seconds=4), samples("1+2=?", 0.25, seconds=2.0)], Clock("imported", 2, policy=6.0, generated=80)),
        ([samples("1+1=?", None), samples("1+2=?", 0.25)], Clock("")),
    ],
)
def test_recorded_times_are_imported(tmp_path, rows, expected):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    store = Store(tmp_path / "runs")
    list(import_all(store, [tmp_path / "theirs"]))
    [pool] = [run for run in store.runs() if run.spec.method == "pool"]
    assert pool.clock() == expected
