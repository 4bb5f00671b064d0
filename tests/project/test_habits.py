"""The hooks, the workflow, the citation and the type checks agree with the project file and the lock."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from type_errors import WITHOUT_ERRORS, by_room, judge, read

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)


def test_the_workflow_checks_the_pythons_that_the_project_allows():
    [job] = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"].values()
    cells = [(cell["os"], cell["python"]) for cell in job["strategy"]["matrix"]["include"]]
    assert cells == [("ubuntu-latest", "3.11"), ("ubuntu-latest", "3.13"), ("macos-latest", "3.12")]
    assert all(f"{python}.0" in SpecifierSet(PROJECT["requires-python"]) for _, python in cells)
    assert all(("whl/cpu" in cell["torch_index"]) == cell["os"].startswith("ubuntu") for cell in job["strategy"]["matrix"]["include"])
    ran = [step["run"] for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ran == ["make lint", "make test"] and {"lint", "test", "test-fast", "types"} <= set(targets)


def test_the_hooks_are_pinned_to_what_the_lock_pins():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pinned = {repo["repo"].rsplit("/", 1)[1]: repo["rev"] for repo in repos}
    assert pinned["ruff-pre-commit"] == f"v{LOCK['ruff']}" and re.fullmatch(r"[\d.]+", pinned["nbstripout"])
    assert [hook["id"] for repo in repos for hook in repo["hooks"]] == ["ruff-check", "ruff-format", "nbstripout"]


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert {"title", "message", "authors"} <= set(citation) and "2502.06703" in str(citation["references"])
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", PROJECT["version"]]


def test_type_errors_are_counted_by_room():
    lines = ["tts/store/a.py:3: error: x", "tts/training/pocket/b.py:1: error: x", "tts/store/a.py:3: note: x", "tts/train.py:1: error: x"]
    assert by_room(lines) == {"store": 1, "training": 1, "tts": 1}
    with pytest.raises(ValueError, match="pyproject.toml"):
        by_room(["pyproject.toml: [mypy]: error: no such option"])


def test_more_type_errors_than_recorded_are_refused_and_fewer_are_said():
    more, fewer = judge(Counter(store=1, report=3, claims=1), {"report": 2, "claims": 2, "study": 4})
    assert [text.split(":")[0] for text in more] == ["report", "store"]
    assert [text.split(":")[0] for text in fewer] == ["claims", "study"]
    assert not WITHOUT_ERRORS & set(read())
