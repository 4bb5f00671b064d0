"""The store: nothing lost, nothing half written, and the same bytes after a crash as without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import export, grid

from tts.generate import local_pool
from tts.generate.runner import fill, missing
from tts.store.chunk_file import read_chunk
from tts.store.store import Store, StoreError
from tts.tasks.pocket import Pocket


def test_filling_twice_makes_nothing_new(tiny_lm, tmp_path):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm)
    assert fill(wanted, store) == 5 * 3
    before = export(store)
    assert fill(wanted, store) == 0 and export(store) == before


def test_more_problems_add_to_fewer(tiny_lm, tmp_path):
    store = Store(tmp_path)
    fill(grid(tiny_lm, tiny_lm, methods=["majority"]), store)
    more = grid(tiny_lm, tiny_lm, methods=["majority"], problems={"pocket-main": 8})
    assert len(missing(more, store)) == 2


@pytest.mark.parametrize("change", [{"version": 2}, {"instruction_for": lambda self, family: "Think twice."}])
def test_a_changed_task_or_prompt_makes_new_samples(tiny_lm, tmp_path, monkeypatch, change):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    fill(wanted, store)
    for name, value in change.items():
        monkeypatch.setattr(Pocket, name, value)
    from tts.generate import grid as module

    module._prompt.cache_clear()
    assert len(missing(wanted, store)) == 6
    monkeypatch.undo()
    module._prompt.cache_clear()
    assert missing(wanted, store) == []


@pytest.mark.parametrize(
    ("change", "anew"),
    [({"seed": 1}, 6), ({"temperature": 0.5}, 3), ({"max_tokens": 41}, 6), ({"batch": 4}, 6), ({"split": "selection"}, 6)],
)
def test_whatever_determines_a_run_is_in_its_key(tiny_lm, tmp_path, change, anew):
    """Another temperature leaves greedy CoT as it is."""
    store = Store(tmp_path)
    fill(grid(tiny_lm, tiny_lm, methods=["majority"]), store)
    other = grid(tiny_lm, tiny_lm, methods=["majority"], **change)
    assert len(missing(other, store)) == anew


SCRIPT = """
import sys
from tts.generate.grid import Grid

from tts.generate.runner import fill
from tts.store.store import Store
fill(Grid.model_validate_json(sys.argv[1]), Store(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("stop", "moments"),
    [
        (signal.SIGKILL, [4]),
        pytest.param(signal.SIGKILL, [1, 4, 9], marks=pytest.mark.torture),
        pytest.param(signal.SIGINT, [1, 4, 9], marks=pytest.mark.torture),
    ],
)
def test_a_stopped_study_continues_and_ends_with_the_same_bytes(tiny_lm, tmp_path, stop, moments):
    wanted = grid(tiny_lm, tiny_lm, problems={"pocket-main": 12})
    fill(wanted, whole := Store(tmp_path / "whole"))
    broken = Store(tmp_path / "broken")
    for chunks in moments:
        process = local_pool._context().Process(target=fill, args=(wanted, broken))  # a fork that has imported torch already
        process.start()
        while process.is_alive() and len(list(broken.folder.glob("*/*.parquet"))) < chunks:
            time.sleep(0.005)
        os.kill(process.pid, stop)
        process.join()
    assert 0 < len(missing(wanted, broken)) < 5 * 6, "the study was not stopped in its middle"
    assert fill(wanted, broken) > 0
    assert export(broken) == export(whole)


def test_a_half_written_file_is_no_chunk(tiny_lm, tmp_path):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    run = store.open(next(wanted.specs()))
    chunk = wanted.chunks("pocket-main")[0]
    run.path(chunk).with_suffix(".1.tmp").write_bytes(b"half")
    assert not run.has(chunk) and list(store.export()) == []


def test_a_damaged_file_is_named_with_its_remedy(tiny_lm, tmp_path):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    fill(wanted, store)
    run, chunk = store.run(next(wanted.specs())), wanted.chunks("pocket-main")[0]
    path = run.path(chunk)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=f"{path.name} is damaged .* delete it and run the study again"):
        run.read(chunk)


def test_what_was_not_run_is_said(tiny_lm, tmp_path):
    wanted = grid(tiny_lm, tiny_lm)
    with pytest.raises(StoreError, match="nothing stored yet for cot of .* run the study first"):
        Store(tmp_path).run(next(wanted.specs())).read(wanted.chunks("pocket-main")[0])


def test_a_second_writer_waits_for_the_first(tiny_lm, tmp_path):
    with Store(tmp_path).lock():
        command = [sys.executable, "-c", SCRIPT, grid(tiny_lm, tiny_lm).model_dump_json(), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert b"another process is writing" in process.stdout.readline()
        assert list(tmp_path.glob("*/*.parquet")) == []
    process.communicate(timeout=120)
    assert process.returncode == 0 and missing(grid(tiny_lm, tiny_lm), Store(tmp_path)) == []


def test_what_cannot_wait_is_refused(tmp_path):
    refused = pytest.raises(StoreError, match="another process is writing to .*; wait for it, or choose another store")
    with Store(tmp_path).lock(), refused:
        Store(tmp_path).lock()


def test_a_folder_that_cannot_be_written_is_said(tiny_lm, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match="cannot write to the store"):
        Store(blocked / "below").open(next(grid(tiny_lm, tiny_lm).specs()))


def test_token_counts_are_exact(tiny_lm, tmp_path):
    """Every method's policy tokens alone, and what it adds to the methods before it, against what the engine really decoded."""
    from tts.generate.chunks import Engines, inputs_of, make
    from tts.generate.work import Work

    wanted = grid(tiny_lm, tiny_lm)
    store, engines, decoded = Store(tmp_path), Engines(8), []
    policy = engines.policy(str(tiny_lm), wanted.sampling(), wanted.task)
    decoding = policy.engine
    settle = decoding._settle
    decoding._settle = lambda drawn: (settle(drawn), decoded.append(len(decoding._samples)))[0]
    for spec in wanted.specs():
        for chunk in wanted.chunks("pocket-main"):
            work = Work(spec, chunk)
            decoded.clear()
            made = make(work, inputs_of(work, store), engines)
            assert made.generated == sum(decoded)
            store.open(spec).write(chunk, made.rows, 0.0, steps=made.steps)
            if spec.method == "scores":
                continue
            decoded.clear()
            alone = make(work, None, engines)
            stored = sum(row["policy_tokens"] for row in store.run(spec).read(chunk))
            assert stored == sum(row["policy_tokens"] for row in alone.rows) == alone.generated == sum(decoded) > 0
            assert (made.generated < stored) == (spec.method == "beam_search"), "a beam search finds DVTS's first steps known"


def test_prompts_are_stored_as_rendered_and_older_chunks_are_read(tiny_lm, tmp_path):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    fill(wanted, store)
    run, chunk = store.run(next(wanted.specs())), wanted.chunks("pocket-main")[0]
    new = run.read(chunk)
    assert [r["prompt"] for r in new] == [p["problem"] + "\n\n" for p in chunk]
    path = run.path(chunk)
    pq.write_table(pq.read_table(path).drop_columns("prompt").replace_schema_metadata({"seconds": "1.0"}), path)
    assert run.read(chunk) == [r | {"prompt": None} for r in new] and read_chunk(path).schema.metadata[b"seconds"] == b"1.0"
    assert '"prompt": null' in export(store)


def test_what_an_engine_could_not_do_is_kept_beside_its_rows(tiny_lm, tmp_path):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    fill(wanted, store)
    run, (first, second, _) = store.run(next(wanted.specs())), wanted.chunks("pocket-main")
    assert run.limits() == []
    run.write(first, run.read(first), 1.0, ["no seeds"])
    run.write(second, run.read(second), 1.0, ["no seeds", "no steps"])
    assert run.limits() == ["no seeds", "no steps"] and read_chunk(run.path(first)).schema.metadata[b"seconds"] == b"1.000"


def test_arrow_reads_from_memory_of_its_own(tiny_lm, tmp_path, monkeypatch):
    """It may let go of it in a thread of its own while the interpreter ends, which aborts where the memory is Python's."""
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    fill(wanted, store)
    given, reader = [], pa.BufferReader
    monkeypatch.setattr(pa, "BufferReader", lambda content: given.append(content) or reader(content))
    assert len(export(store)) and given and all(type(content) is pa.Buffer for content in given)


def test_a_run_is_found_by_the_beginning_of_its_key_and_deleted_alone(tiny_lm, tmp_path):
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm, methods=["majority"])
    fill(wanted, store)
    cot, pool = store.runs()
    store.delete([store.find(pool.key[:8])])
    assert [run.key for run in store.runs()] == [cot.key] and len(missing(wanted, store)) == 3
    with store.lock(), pytest.raises(StoreError, match="another process is writing"):
        store.delete([cot])
    assert cot.size == (3, sum(path.stat().st_size for path in cot.folder.glob("*.parquet")))
