"""Nothing is executed or unpickled that a model, a file or a stranger wrote: a look at every line of the suite and its notebooks."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "code", "codeop", "runpy"}
NAMES = {"eval", "exec", "compile", "__import__", "parse_expr", "sympify"}
METHODS = {
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "pd.read_pickle", "pd.eval", "subprocess.getoutput", "subprocess.getstatusoutput",
}  # fmt: skip
ANYWHERE = {"to_pickle", "read_pickle", "parse_expr", "sympify", "set_trace"}  # as a method of anything
SANDBOX = "tts/tasks/sandbox_process.py"  # the one file that executes what models write: inside a sandbox, in processes of its own
FLAGS = {"allow_pickle": False, "shell": False, "trust_remote_code": False, "weights_only": True, "use_safetensors": True}


def sources() -> Iterator[tuple[str, str]]:
    """Where code stands, and the code."""
    for path in sorted((ROOT / "tts").rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell["cell_type"] == "code":
                yield f"{path.relative_to(ROOT)}, cell {number}", "".join(cell["source"])


def offences(source: str) -> list[str]:
    """What a source does that it must not, by line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node, f"import {alias.name}") for alias in node.names if alias.name.split(".")[0] in MODULES]
        if isinstance(node, ast.ImportFrom):
            imported = {alias.name for alias in node.names} & (NAMES | ANYWHERE)
            if (node.module or "").split(".")[0] in MODULES or imported:
                found.append((node, f"from {node.module} import {', '.join(sorted(imported)) or '...'}"))
        if isinstance(node, ast.Call):
            found += [(node, offence) for offence in _of_call(node)]
    return [f"line {node.lineno}: {what}" for node, what in found]


def _of_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    method = name.rpartition(".")[2]
    if name in NAMES | METHODS or method in ANYWHERE:
        yield name
    # A module's eval() takes nothing; a data frame's eval and query take code, which must stand in the source.
    if method in ("eval", "query") and "." in name and not all(isinstance(text, ast.Constant) for text in call.args):
        yield f"{name} of a text"
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if name == "get_completion_script":  # of typer: prints a text, and its "shell" is the name of one
        del given["shell"]
    for flag, allowed in FLAGS.items():
        if flag in given and not (isinstance(given[flag], ast.Constant) and given[flag].value is allowed):
            yield f"{flag}={ast.unparse(given[flag])}"
    if name == "np.load" and "allow_pickle" not in given:
        yield "np.load without allow_pickle=False"
    if method == "from_pretrained" and not {"trust_remote_code", "use_safetensors"} & set(given):
        yield f"{name} without use_safetensors=True (weights) or trust_remote_code=False (the rest)"


def test_nothing_foreign_is_executed_or_unpickled():
    looked_at = list(sources())
    assert len(looked_at) > 150
    assert [f"{where}, {offence}" for where, source in looked_at if where != SANDBOX for offence in offences(source)] == []


def test_the_process_in_the_sandbox_is_started_by_path_and_imported_by_nobody():
    imported = re.compile(r"^\s*(?:from|import)\s.*\bsandbox_process\b", re.MULTILINE)
    assert [where for where, source in sources() if imported.search(source)] == []
    allowed = {"exec", "eval", "compile"}
    assert {offence.rpartition(" ")[2] for offence in offences((ROOT / SANDBOX).read_text())} == allowed


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "os.system(text)",
        "from sympy import parse_expr",
        "sympy.parse_expr(text)",
        "yaml.load(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name)",
        "frame.eval(text)",
        "AutoModel.from_pretrained(name, use_safetensors=None)",
        "torch.hub.load(name)",
        "pd.read_pickle(path)",
        "__import__(name)",
        "frame.query(text)",
    ],
)
def test_the_look_finds_what_it_looks_for(source):
    assert offences(source)


def test_what_is_harmless_is_left_alone():
    for source in (
        "model.eval()",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "ast.literal_eval(text)",
        "json.load(file)",
    ):
        assert offences(source) == []
