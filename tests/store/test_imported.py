"""What was imported: which seed is used, which settings cannot apply, and what is deleted together."""

from __future__ import annotations

import json

import pytest

from tts.analysis import difficulty
from tts.exchange import summary
from tts.generate import runner
from tts.generate.grid import Grid
from tts.store import imported
from tts.store.imported import NotImported
from tts.store.store import Store, StoreError


@pytest.fixture
def import_of(tmp_path):
    """Imports samples of one problem, one line for each seed."""

    def run(seeds, name="mine", **more):
        texts = [{"text": "2+2=4\n\n\\boxed{4}"}, {"text": "\\boxed{5}"}]
        lines = [{"problem": "What is 2+2?", "answer": "4", "seed": seed, "completions": texts} | more for seed in seeds]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)))
        store = Store(tmp_path / "runs")
        list(summary.import_all(store, [path]))
        [source] = [source for source in imported.all_of(store.folder) if source.name == name]
        return store, source

    return run


def grid(source, **changes):
    policy = source.runs[0].spec.policy.name
    return Grid(problems={source.problem_set: 1}, policies=[policy], methods=["majority"], **({"samples": 2, "budgets": [2]} | changes))


@pytest.mark.parametrize(("there", "asked", "used"), [([0], 0, 0), ([3], 0, 3), ([1, 2], 0, 1), ([1, 2], 2, 2), ([0, 1], 1, 1)])
def test_the_seed_that_is_used(import_of, there, asked, used):
    store, source = import_of(there)
    wanted = grid(source, seed=asked)
    assert next(wanted.specs()).seed == used
    said = runner.describe(wanted, store)
    assert (f"pool of mine: seed {used} of the imported runs is used; choose others with -p seed=" in said) == (len(there) > 1)


@pytest.mark.parametrize("there", [[0], [1], [1, 2]])
def test_a_seed_that_is_not_there_is_refused(import_of, there):
    _, source = import_of(there)
    with pytest.raises(ValueError, match=f"(?s)majority of mine at N = 2, seed 3 is not in.*it holds:.*seed {there[0]}"):
        grid(source, seed=3)


def test_settings_that_cannot_apply_are_refused(import_of):
    _, source = import_of([0])
    there = [source.runs[0].spec.policy.name], [source.problem_set]
    with pytest.raises(NotImported, match="^samples=4: 2 samples of a problem were imported, and all of them are used; leave it out"):
        imported.check_asked({"samples": 4}, *there)
    with pytest.raises(NotImported, match="^temperature, max_tokens: imported solutions are as they are"):
        imported.check_asked({"max_tokens": 3, "temperature": 0.1}, *there)
    imported.check_asked({"samples": 2, "budgets": [1], "seed": 0}, *there)
    imported.check_asked({"samples": 4, "temperature": 0.1}, [*there[0], "policy-20k"], [*there[1], "pocket-main"])


def test_an_import_is_deleted_whole_or_not_at_all(import_of):
    store, _ = import_of([0])
    _, source = import_of([0, 1], "other")
    listed = store.run(source.runs[0].spec)
    with pytest.raises(StoreError, match=f"{listed.key} is listed by the import .*; delete the whole of it: --delete imported:other$"):
        imported.named(store, listed.key)
    for unknown in ("imported:", "imported:..", "imported:oth"):
        with pytest.raises(StoreError, match="no import '.*' in .*; there are: mine, other$"):
            imported.named(store, unknown)
    store.delete(*imported.named(store, "imported:other"))
    assert [source.name for source in imported.all_of(store.folder)] == ["mine"] and len(list(store.runs())) == 1
    assert imported.unfinished(store) == [] and not source.folder.exists()


def test_no_separate_samples_are_asked_of_imported_policies(import_of):
    """They cannot be sampled anew, and a preset of an import with a notebook that needs difficulties must plan."""
    _, source = import_of([0])
    assert difficulty.separate_grids(grid(source), 16) == []
