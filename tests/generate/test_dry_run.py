"""What the dry run says of memory, against what a study then holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from caches import peak_of_caches

from tts.generate import chunks, dry_run
from tts.generate.dry_run import measure, missing_of
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.store.store import Store


def grid(**changes):
    values = {"problems": {"pocket-main": 48}, "split": "development", "policies": ["policy-20k"], "prms": ["prm-qwen-28k"]}
    return Grid(
        **(
            values
            | {"samples": 8, "budgets": [8], "chunk": 48, "batch": 8, "max_step_tokens": 16, "max_tokens": 80, "max_steps": 12}
            | changes
        )
    )


@pytest.fixture
def held():
    with peak_of_caches() as most:
        yield most


@pytest.mark.parametrize(
    "method", [*(pytest.param(name, marks=pytest.mark.torture) for name in ("majority", "best_of_n", "beam_search")), "dvts"]
)
def test_caches_stay_within_what_the_dry_run_says(held, tmp_path, method):
    """Of three times as many problems as are searched at once."""
    wanted = grid(methods=[method])
    said = measure(missing_of([(wanted, Store(tmp_path))])).cache_bytes
    held[0] = 0
    fill(wanted, Store(tmp_path))
    assert said / 4 < held[0] <= said


def test_counting_loads_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "open_policy", lambda *given: pytest.fail("a policy was loaded"))
    monkeypatch.setattr(chunks, "open_prm", lambda *given, **more: pytest.fail("a PRM was loaded"))
    few = grid(problems={"pocket-main": 50}), Store(tmp_path)
    items = missing_of([few, few])
    *rows, total = dry_run.table(items)
    assert rows[0] == ("policy-20k", "prm-qwen-28k", "dvts", "2", "400", "0.03")
    assert rows[-1] == ("policy-20k", "prm-qwen-28k", "scores", "2", "400", "0.00"), "the pool's tokens are counted there"
    assert {row[2] for row in rows} == {"cot", "pool", "scores", "beam_search", "dvts"} and total[3:5] == ("10", "1,650")


def test_measuring_stops_at_its_limit_and_says_what_it_did_not_see(tmp_path, monkeypatch):
    made, make = [], dry_run.make
    monkeypatch.setattr(dry_run, "make", lambda work, *given: made.append(work.spec.sampling["max_tokens"]) or make(work, *given))
    items = missing_of([(grid(methods=["majority"], max_tokens=320), Store(tmp_path))])
    hasty, whole = measure(items, minutes=0), measure(items)
    assert made[:2] == [32, 32] and set(made[2:]) == {32, 320} and whole.cut == ()
    assert hasty.cut == ("cot of policy-20k, N = 1, pocket-main", "pool of policy-20k, N = 8, pocket-main")
    assert "as if each solution took all of max_tokens" in str(hasty) and "extrapolated" not in str(whole)
    assert hasty.tokens == sum(item.tokens for item in items) > 2 * whole.tokens


def test_measuring_opens_each_model_once(tmp_path, monkeypatch):
    """With the task of its problems, of which the study opens it too."""
    opened, open_policy, open_prm = [], chunks.open_policy, chunks.open_prm
    monkeypatch.setattr(chunks, "open_policy", lambda *given: opened.append(given[3].name) or open_policy(*given))
    monkeypatch.setattr(chunks, "open_prm", lambda *given, **more: opened.append(more["task"].name) or open_prm(*given, **more))
    measure(missing_of([(grid(), Store(tmp_path))]), minutes=0)
    assert opened == ["pocket", "pocket"]


def test_nothing_is_left_to_measure(tmp_path):
    wanted, store = grid(methods=["majority"], problems={"pocket-main": 2}), Store(tmp_path)
    fill(wanted, store)
    assert missing_of([(wanted, store)]) == [] and measure([]).seconds == 0


@pytest.mark.torture
def test_batch_sets_the_bound(tmp_path):
    small, large = (measure(missing_of([(grid(batch=batch), Store(tmp_path))])).cache_bytes for batch in (4, 16))
    assert 2 * small < large


@pytest.mark.parametrize(
    ("token_bytes", "share", "scored", "expected"),
    [(1, 1.0, True, 16), (1, 1.0, False, 4), (10, 1.0, True, 10), (10, 0.5, True, 5), (10, 0.1, True, 4), (1 << 40, 1.0, True, 4)],
)
def test_searches_hold_as_many_candidates_as_fit_into_an_eighth_of_the_memory(monkeypatch, token_bytes, share, scored, expected):
    """Of a batch of 8, with 100 tokens each."""
    monkeypatch.setattr(chunks, "memory_of", lambda device: 8 * 100 * 8 * 100)
    policy = SimpleNamespace(engine=SimpleNamespace(token_bytes=token_bytes, device=torch.device("cpu")))
    assert chunks.room(chunks.Engines(8, share), policy, 100, scored) == expected * 8
    assert chunks.room(chunks.Engines(8, share), SimpleNamespace(), 100, scored) == 4 * 8
