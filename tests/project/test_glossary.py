"""The glossary: its links, and that notebooks lead to it."""

import importlib
import inspect
import json
import re
from operator import attrgetter

import pytest

from tts.common.paths import NOTEBOOKS, ROOT
from tts.study import parameters

LINK = re.compile(r"\[(`?)([^\]`]+)`?\]\(([^)]+)\)")
PAGE = "\n".join("".join(cell["source"]) for cell in json.loads((NOTEBOOKS / "glossary.ipynb").read_text())["cells"])
ROWS = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
TERMS = """policy PRM trajectory step N CoT majority best-of-N beam_search beam_width DVTS Pass@k PRM-Max PRM-Vote PRM-Last PRM-Min rule
difficulty_bin compute-optimal cross-fitting FLOPs paired_difference interval Holm's_correction scope contrast verdict confirmation_split
F1_of_error_localisation long_CoT budget seed store preset"""


def test_each_term_has_one_line_and_says_where_it_is_computed():
    terms = [term for names, _, _ in ROWS for term in names.split(", ")]
    assert len(terms) == len(set(terms)) and {term.replace("_", " ") for term in TERMS.split()} <= set(terms)
    assert all(LINK.search(where) and meaning.strip() for _, meaning, where in ROWS)


@pytest.mark.parametrize(("code", "name", "target"), sorted(set(LINK.findall(PAGE))), ids=lambda value: str(value))
def test_a_link_leads_to_what_it_names(code, name, target):
    path = (NOTEBOOKS / target).resolve()
    assert path.is_file() and path.is_relative_to(ROOT)
    if not code:
        assert target in (f"{name}.ipynb", name)
        return
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert name.startswith(f"{module}."), f"{name} does not lie in {target}"
    found = attrgetter(name.removeprefix(f"{module}."))(importlib.import_module(module))
    if inspect.isclass(found) or inspect.isroutine(found):
        assert found.__module__ == module, f"{name} is only imported there"


@pytest.mark.parametrize(
    "notebook",
    ["06_small_vs_large", "07_flops_comparison", "08_long_cot", "10_train_pocket", "11_real_models", "12_when_small_beats_large"],
)
def test_a_notebook_leads_to_the_glossary_at_its_top(notebook):
    first = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"][0]
    assert "](glossary.ipynb)" in "".join(first["source"])


def test_the_glossary_is_no_notebook_that_runs():
    assert "glossary" not in parameters.notebooks()
    with pytest.raises(parameters.NotebookError, match="no notebook 'glossary'"):
        parameters.declaration("glossary")
