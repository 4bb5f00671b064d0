"""The lock, the project file and the conda environment agree; the checkout keeps the rules it states."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tts.study.parameters import notebooks

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in notebooks()]


def test_lock_has_plain_pins_only():
    assert [line for line in LOCK if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    assert "torch==2.13.0" in LOCK


# Extras that live in virtual environments of their own.
APART = {"browser", "site", "vllm"}
LOCKED = [text for extra, texts in PROJECT["optional-dependencies"].items() if extra not in APART for text in texts]


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *LOCKED])
def test_lock_pins_every_dependency_within_its_range(text):
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in LOCK}
    wanted = Requirement(text)
    assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)])


def test_conda_environment_installs_the_lock_and_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *plain, pip = environment["dependencies"]
    assert "pip" in plain and any(d.startswith("python=") and f">={d.split('=')[1]}" <= PROJECT["requires-python"] for d in plain)
    assert pip["pip"] == ["-r requirements.lock", "--no-deps -e ."]


def tracked(*suffixes):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if name.endswith(suffixes) and (ROOT / name).exists()]


def test_top_level_is_as_laid_out():
    allowed = {
        "notebooks",
        "tts",
        "data",
        "figures",
        "tests",
        "docs",
        "environment.yml",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "pyproject.toml",
        "requirements.lock",
    }
    names = {path.relative_to(ROOT).parts[0] for path in tracked("")}
    assert {name for name in names if not name.startswith(".")} <= allowed | {"Makefile", "LICENSE"}


def test_no_pickle_no_remote_code_no_eval():
    forbidden = {"eval", "exec", "torch.load", "pickle.load", "pickle.loads", "parse_expr", "sympy.parse_expr"}
    found = []
    sandboxed = ROOT / "tts" / "tasks" / "sandbox_process.py"  # the one file that executes what models write: in a sandbox
    for path in filter(lambda path: path != sandboxed, tracked(".py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                flags = {k.arg for k in node.keywords if k.arg in {"trust_remote_code", "allow_pickle"} and getattr(k.value, "value", 1)}
                if ast.unparse(node.func) in forbidden or flags:
                    found.append(f"{path.name}:{node.lineno}")
            if isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"\bpickle\b", ast.unparse(node)):
                found.append(f"{path.name}:{node.lineno}")
    assert found == []


def test_weights_are_small_and_safetensors():
    weights = {".safetensors", ".bin", ".pt", ".pth"}
    models = [p for p in (ROOT / "data").rglob("*") if p.suffix in weights and not {"training", "cache"} & set(p.parts)]
    assert models and {p.suffix for p in models} == {".safetensors"}
    assert sum(p.stat().st_size for p in models) <= 30e6


def test_recipes_of_committed_models_exist():
    from tts.training.pocket.recipes import POLICIES, PRMS

    committed = {path.parent.name for path in (ROOT / "data" / "models").glob("*/config.json")}
    assert committed <= set(POLICIES) | set(PRMS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_anatomy(path):
    cells = json.loads(path.read_text())["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    lengths = sorted(len([x for x in "".join(c["source"]).splitlines() if x.strip()]) for c in code)
    assert len(code) <= 20 and lengths[len(lengths) // 2] <= 6
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
    defined = [n.name for c in code for n in ast.walk(ast.parse("".join(c["source"]))) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert defined == (["continued", "scored"] if path.stem == "00_a_search_by_hand" else []), "this one teaches by definitions"
    [parameters] = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    for line in "".join(parameters["source"]).splitlines():
        assert "#" in line, f"a parameter without a comment: {line}"
        ast.literal_eval(line.split(" = ", 1)[1].rsplit("  #", 1)[0])


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "make reproduce" in readme and "make test" in readme


def test_what_the_pages_show_and_link_to_is_committed():
    pages = tracked(".md")
    elsewhere = r"https?:|#|\.\./\.\./(?:actions|deployments)/"  # the last are pages of the repository on GitHub, whoever owns it
    links = [(page, link) for page in pages for link in re.findall(rf"\]\((?!{elsewhere})([^)#]+)", page.read_text())]
    known = set(tracked(""))
    assert len(links) > 5 and [f"{page.name}: {link}" for page, link in links if (page.parent / link).resolve() not in known] == []
