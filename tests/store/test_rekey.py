"""Stores of an earlier version are re-keyed once; a changed prompt or task makes new samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stores import export, grid

from tts.generate.runner import fill, missing
from tts.store.rekey import outdated, rekey
from tts.store.store import Store
from tts.tasks.pocket import Pocket


@pytest.fixture
def older(tiny_lm, tmp_path):
    """A store as an earlier version made it, without tasks in its keys; and its grid and export as they should be."""
    store, wanted = Store(tmp_path), grid(tiny_lm, tiny_lm)
    fill(wanted, store)
    expected = export(store)
    for run in list(store.runs()):
        other = store.open(replace(run.spec, task=None))
        for path in run.folder.glob("*.parquet"):
            path.replace(other.folder / path.name)
        run.remove()
    return store, wanted, expected


def test_an_older_store_is_found_again_after_rekeying_once(older):
    store, wanted, expected = older
    assert len(missing(wanted, store)) == 15 and len(outdated(store)) == 5
    lines = list(rekey(store))
    assert len(lines) == 5 and all(line.endswith(": 3 chunks moved") for line in lines)
    assert missing(wanted, store) == [] and export(store) == expected and outdated(store) == []
    assert list(rekey(store)) == []


def test_samples_of_another_prompt_stay_as_they_are(older, monkeypatch):
    store, wanted, _ = older
    monkeypatch.setattr("tts.store.rekey.render_prompt", lambda tokenizer, problem, task: f"Think twice. {problem}")
    assert all("0 chunks moved; left as they are: they were sampled with another prompt" in line for line in rekey(store))
    assert len(outdated(store)) == 5 and len(missing(wanted, store)) == 15


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


def test_it_is_said_that_runs_of_an_earlier_version_are_not_found(older, capsys):
    store, wanted, _ = older
    fill(wanted, store)
    assert "5 runs in" in (said := capsys.readouterr().err) and "tts store --rekey" in said
