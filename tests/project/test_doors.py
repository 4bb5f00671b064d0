"""The files of Binder, Codespaces and Colab: well formed, and in agreement with the project, the Makefile and each other."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
from packaging.specifiers import SpecifierSet

from tts.study import parameters

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COLAB = ROOT / "docs/examples/colab.ipynb"


def test_binder_installs_the_lock_and_the_checkout():
    folder = ROOT / ".binder"
    lines = [line for line in (folder / "requirements.txt").read_text().splitlines() if not line.startswith(("#", "--extra-index-url "))]
    assert lines == ["-r ../requirements.lock"] and (folder / lines[0].split()[1]).resolve() == ROOT / "requirements.lock"
    version = (folder / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"{version}.0" in SpecifierSet(PROJECT["requires-python"])
    script = folder / "postBuild"
    assert os.access(script, os.X_OK) and subprocess.run(["bash", "-n", script]).returncode == 0
    assert "--no-deps --editable ." in script.read_text() and "tts doctor" in script.read_text()


def test_codespaces_are_set_up_by_the_makefile():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    version = container["image"].rpartition(":")[2]
    assert f"{version}.0" in SpecifierSet(PROJECT["requires-python"])
    make, doctor = container["postCreateCommand"].split(" && ")
    done = subprocess.run([*make.split(), "--dry-run", "--always-make"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "requirements.lock" in done.stdout and "whl/cpu torch==" in done.stdout, done.stderr
    assert doctor == ".venv/bin/python -m tts doctor"
    assert container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"] == doctor.split()[0]


def test_colab_clones_the_tag_of_this_version_and_runs_notebooks_that_there_are(tmp_path):
    notebook = nbformat.read(COLAB, as_version=4)
    nbformat.validate(notebook)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    given = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(code[0]).body}
    assert given["REVISION"] == f"v{PROJECT['version']}" and given["PRESET"] == "pocket"
    for cell in (text for text in code if text.startswith("%%bash")):
        assert cell.startswith("%%bash -es "), "it ends where a command fails"
        script = tmp_path / "cell.sh"
        script.write_text(cell.partition("\n")[2])
        assert subprocess.run(["bash", "-n", script]).returncode == 0
    [run] = re.findall(r"tts run (.*) --preset", "\n".join(code))
    assert run.split() == ["00_a_search_by_hand", "01_tts_methods"] and set(run.split()) <= set(parameters.notebooks())
    assert "colab" not in parameters.notebooks(), "the study does not run it"
    ast.parse(code[-1])


def test_badges_and_the_notebook_name_one_address_and_files_that_there_are():
    page = (ROOT / "docs/commands.md").read_text()
    repository = re.search(r"https://github\.com/([\w-]+/[\w-]+)", COLAB.read_text())[1]
    badges = re.findall(r"\]\((https://(?:colab|mybinder|codespaces)[^)]*)\)$", page, re.MULTILINE)
    assert len(badges) == 3 and all(f"/{repository}" in badge for badge in badges)
    for path in re.findall(r"/(?:blob/main|lab/tree)/([^\s)]+)", page):
        assert (ROOT / path).is_file()
