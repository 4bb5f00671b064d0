"""Steps that one search had sampled serve the others, and nothing else changes by it."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import count

import pyarrow.parquet as pq
import pytest
from scripted import ScriptedPolicy, ScriptedPRM
from stores import export, grid

from tts.generate.chunks import Engines, inputs_of, make
from tts.generate.local_pool import Processes
from tts.generate.runner import fill, missing
from tts.generate.scheduler import Waiting
from tts.generate.work import Work
from tts.policies.step_reuse import Remembering
from tts.search import beam_search, dvts, sample_pool
from tts.search.base import Candidate
from tts.search.driver import Driver
from tts.store.step_columns import ChunkSteps, StepCache
from tts.store.store import Store


def script(steps, index):
    """Every second first step finishes at the third step; the others at the second, but for an odd one that is cut off."""
    text = f"{index}"
    if len(steps) == 2 or (len(steps) == 1 and int(steps[0]) % 2):
        return text, "finished", 5
    return text, "truncated" if steps and index == 3 else "open", 3


def cache(steps=()):
    return StepCache([{(step["problem_id"], *step["path"]): step for step in reversed(steps)}])


def search(method, n, known=(), score=lambda steps: int(steps[-1]) / 10):
    policy, steps, told = ScriptedPolicy(script), cache(known), []
    remembering = Remembering(policy, steps, told.append)
    [outcome] = Driver(remembering, ScriptedPRM(score)).run([(root := Candidate("p", "1+1"), method(root, n, 4))])
    assert sum(told) == policy.generated >= sum(step["generated"] for step in steps.sampled)
    found = [(c.path, c.steps, c.status, c.scores, c.text) for c in outcome.trajectories]
    return found, outcome.policy_tokens, steps.sampled, policy.generated


@pytest.mark.parametrize("method", [beam_search, dvts])
def test_a_search_finds_the_same_with_steps_known_and_is_charged_the_same(method):
    found, charged, sampled, generated = search(method, 16)
    assert generated == charged > 0
    assert search(method, 16, sampled) == (found, charged, [], 0), "all of it is known"
    half = [step for step in sampled if len(step["path"]) == 1]
    assert search(method, 16, half)[:2] == (found, charged)
    assert search(method, 16, half)[3] == charged - 16 * 3, "first steps cost 3 tokens each"


def test_smaller_budgets_and_other_methods_and_prms_share_steps():
    _, _, sampled, _ = search(beam_search, 16)
    for method, n, score in [
        (beam_search, 4, lambda s: 0.5),
        (dvts, 16, lambda s: int(s[-1]) / 10),
        (dvts, 8, lambda s: 1 - int(s[-1]) / 20),
    ]:
        alone, shared = search(method, n, score=score), search(method, n, sampled, score)
        assert shared[:2] == alone[:2] and shared[3] <= alone[3] - 3 * n
        assert {tuple(step["path"]) for step in shared[2]}.isdisjoint(tuple(step["path"]) for step in sampled)


def test_more_continuations_than_are_known_are_sampled_anew():
    few, many = search(beam_search, 4), search(beam_search, 8)
    assert search(beam_search, 8, few[2])[:2] == many[:2]


def test_an_engine_that_cannot_repeat_its_samples_is_not_given_a_step_under_another_parent():
    asked = count()

    def ever_new(steps, index):
        return f"{index} sample {next(asked)}", "open", 3

    def score(steps):
        return 1 / (1 + int(steps[-1].split()[0]))

    def sampled(n, known):
        remembering = Remembering(ScriptedPolicy(ever_new), steps := cache(known))
        [outcome] = Driver(remembering, ScriptedPRM(score), record=True).run([(root := Candidate("p", "1+1"), beam_search(root, n, 4, 4))])
        return steps.sampled, outcome.nodes

    few, _ = sampled(4, [])
    more, nodes = sampled(8, few)
    held = {tuple(step["path"]): step["text"].strip() for step in few + more}
    assert len(held) == len(few) + len(more), "a path has two versions"
    assert any(len(node.path) > 1 and node.path in {tuple(step["path"]) for step in few} for node in nodes), "no later step was known"
    for node in nodes:
        assert list(node.steps) == [held[node.path[:depth]] for depth in range(1, len(node.path) + 1)]


def test_whole_solutions_are_neither_taken_from_steps_nor_kept():
    _, _, sampled, _ = search(dvts, 8)
    policy = ScriptedPolicy(script)
    root = Candidate("p", "1+1")
    remembering = Remembering(policy, steps := cache(sampled))
    [outcome] = Driver(remembering).run([(root, sample_pool(root, 8))])
    assert steps.sampled == [] and outcome.policy_tokens == policy.generated > 0


def test_an_interrupted_search_leaves_nothing_behind():
    remembering = Remembering(ScriptedPolicy(script), cache(search(beam_search, 4)[2]))
    remembering.submit("ticket", Candidate("p", "1+1"), 4, False)
    remembering.submit("other", Candidate("q", "1+1"), 4, False)
    remembering.reset()
    assert remembering._ready == [] and remembering._asked == {} and remembering.policy.queue == []


# -- in a study ------------------------------------------------------------------------------------------------


def studied(policy, prm, tmp_path, **changes):
    wanted, store = grid(policy, prm, samples=8, budgets=[4, 8], **changes), Store(tmp_path)
    fill(wanted, store)
    return wanted, store


def samples(rows):
    """Rows without scores, whose last digits depend on what was read together, and what the PRM read."""
    rows = copy.deepcopy(rows)
    for trajectory in (t for row in rows for t in row["trajectories"]):
        trajectory["scores"] = len(trajectory["scores"])
    return rows


def test_a_study_samples_what_each_search_samples_alone(tiny_lm, tmp_path):
    wanted, store = studied(tiny_lm, tiny_lm, tmp_path)
    engines, shared, alone = Engines(8), 0, 0
    for spec in wanted.specs():
        for chunk in wanted.chunks("pocket-main"):
            if spec.method in ("dvts", "beam_search"):
                made = make(Work(spec, chunk), None, engines)
                assert samples(store.run(spec).read(chunk)) == samples(made.rows)
                alone += made.generated
                shared += sum(step["generated"] for step in store.run(spec).steps(chunk).values())
    assert 0 < shared < 0.8 * alone


def test_an_added_prm_or_budget_finds_what_is_stored(tiny_lm, tmp_path):
    wanted, store = studied(tiny_lm, tiny_lm, tmp_path)
    spec, chunk = wanted.spec("beam_search", str(tiny_lm), f"math-shepherd:{tiny_lm}", 4), wanted.chunks("pocket-main")[0]
    other = replace(spec, width=2)
    assert all(store.steps(other, chunk).get((chunk[0]["id"], i)) for i in range(8))
    changes = {"sampling": spec.sampling | {"seed": 1}, "engine": replace(spec.engine, batch=9), "task": replace(spec.task, version=0)}
    for key, value in changes.items():
        assert store.steps(replace(spec, **{key: value}), chunk).chunks == [], "of other samples"
    elsewhere = [path[0] for steps in store.steps(spec, wanted.chunks("pocket-main")[1]).chunks for path in steps]
    assert elsewhere and {p["id"] for p in chunk}.isdisjoint(elsewhere)


def test_steps_do_not_show_in_rows_or_exports(tiny_lm, tmp_path):
    wanted, store = studied(tiny_lm, tiny_lm, tmp_path)
    assert "sampled" not in export(store)
    spec, chunk = wanted.spec("dvts", str(tiny_lm), f"math-shepherd:{tiny_lm}", 8), wanted.chunks("pocket-main")[0]
    run = store.run(spec)
    before, kept = run.read(chunk), run.steps(chunk)
    assert kept and {path[0] for path in kept} == {p["id"] for p in chunk}
    path = run.path(chunk)
    pq.write_table(pq.read_table(path).drop_columns("sampled").replace_schema_metadata({"seconds": "1.0"}), path)
    assert run.read(chunk) == before and run.steps(chunk) == {}, "as chunks were before steps were kept"


def test_a_damaged_chunk_is_a_matter_of_its_readers(tiny_lm, tmp_path):
    """What it would have spared is sampled again."""
    wanted, store = studied(tiny_lm, tiny_lm, tmp_path)
    dvts_spec, chunk = wanted.spec("dvts", str(tiny_lm), f"math-shepherd:{tiny_lm}", 8), wanted.chunks("pocket-main")[0]
    beam = store.run(wanted.spec("beam_search", str(tiny_lm), f"math-shepherd:{tiny_lm}", 8))
    before = samples(beam.read(chunk))
    path = store.run(dvts_spec).path(chunk)
    path.write_bytes(path.read_bytes()[:-50])
    beam.path(chunk).unlink()
    assert fill(wanted, store) == 1
    assert samples(beam.read(chunk)) == before and {len(path) - 1 for path in beam.steps(chunk)} >= {1}


def test_searches_of_the_same_problems_follow_one_another(tiny_lm, tmp_path):
    """Whichever worker is faster: each finds the steps of all before it, and of none after."""
    wanted, store = grid(tiny_lm, tiny_lm, methods=["dvts", "beam_search"], samples=8, budgets=[4, 8]), Store(tmp_path)
    waiting = Waiting(missing(wanted, store), store)
    under_way = [item for [item] in iter(waiting.take, [])]
    searches = [item for item in under_way if item.spec.method in ("dvts", "beam_search")]
    assert [item.spec.method for item in searches] == 3 * ["dvts"] and waiting.items
    last = searches[-1]
    made = make(last, inputs_of(last, store), Engines(8))
    store.open(last.spec).write(last.chunk, made.rows, 1.0, steps=made.steps)
    waiting.stored(last, 1.0)
    [after] = waiting.take()
    assert after.chunk == last.chunk and (after.spec.method, after.spec.n) == ("beam_search", 8)
    sampled = ChunkSteps([row["problem_id"] for row in made.rows], made.steps)
    assert inputs_of(after, store).chunks == [sampled] and not waiting.take()


def test_processes_share_steps_as_one_does(tiny_lm, tmp_path):
    wanted, store = studied(tiny_lm, tiny_lm, tmp_path / "one")
    other = Store(tmp_path / "two")
    work = missing(wanted, other)
    with Processes(2, 1) as processes:
        for made in processes.make(work, other, lambda item: None, lambda tokens: None):
            other.open(made.work.spec).write(made.work.chunk, made.rows, 1.0, steps=made.steps)
    kept = 0
    for spec in wanted.specs():
        for chunk in wanted.chunks("pocket-main"):
            assert samples(store.run(spec).read(chunk)) == samples(other.run(spec).read(chunk))
            assert store.run(spec).steps(chunk) == other.run(spec).steps(chunk)
            kept += len(other.run(spec).steps(chunk))
    assert kept > 100
