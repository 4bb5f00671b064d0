"""Pages on results: the numbers of models are written from cards and committed outcomes, and nobody typed one in."""

import json
import re

import model_tables
import pytest
import verdicts

from tts.claims import findings
from tts.common.paths import NOTEBOOKS, ROOT

PAGES = [ROOT / "docs" / f"{name}.md" for name in ("results", "pocket_family", "laptop")]
STUDIES = [
    NOTEBOOKS / f"{name}.ipynb"
    for name in ("06_small_vs_large", "07_flops_comparison", "08_long_cot", "11_real_models", "12_when_small_beats_large")
]
RESULT = re.compile(r"(?<![\w-])[+−-]\d[\d.]*|\d[\d.]* ?(?:%|points|times)")


def typed(text):
    """Numbers that look like results, outside of the regions that are written, but for the level of intervals."""
    return [number for number in RESULT.findall(verdicts.REGION.sub("", text)) if number != "95 %"]


def test_what_counts_as_a_typed_result():
    text = "The 95 % interval of SmolLM2-135M: 18 points, +3.2, 40 times, 61 %.\n<!-- claims: pocket a-b -->\n+9 %\n<!-- end of ledger -->"
    assert typed(text) == ["18 points", "+3.2", "40 times", "61 %"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_page_has_a_typed_result(path):
    assert typed(path.read_text()) == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_no_finding_of_a_notebook_is_typed(path):
    told = [cell for cell in verdicts.cells_of(path) if cell.startswith("## What you should see")]
    assert told and [typed(cell) for cell in told] == [[]]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_notebook_ends_with_checks_and_begins_with_problems_where_it_has_any(path):
    code = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert "experiment.note(" in code[-1] and "claims" in code[-1]
    averages = [number for number, source in enumerate(code) if re.search(r"display\(|\.plot\(|\.show\(", source)]
    problems = [number for number, source in enumerate(code) if "show_problems(" in source]
    assert problems[0] < averages[0]


def test_every_claim_that_is_measured_stands_among_the_results():
    named = " ".join(re.findall(r"<!-- claims: pocket (.+) -->", PAGES[0].read_text())).split()
    measured = {name for name, claim in findings.read().claims.items() if claim.measured.check}
    assert len(named) == len(set(named)) and measured <= set(named)


def test_tables_of_models_have_what_their_cards_say():
    policies, prms = model_tables.policies(), model_tables.prms()
    assert ["`policy-32k`", "32,160", "43.5 %", "92.0 %", "0.0 %", "0.69", "3 min"] in policies
    assert ["`policy-51k-long`", "51,720", "39.8 %", "83.0 %", "1.7 %", "", "4 min"] in policies, "no implicit PRM was measured of it"
    assert ["`prm-shepherd-terse`", "125,136", "0.39", "0.33", "`policy-94k`", "terse", "6 min"] in prms
    assert model_tables.held_out()[1:] == [["over all steps", "0.70", "0.62"], ["within problems", "0.76", "0.78"]]
    names, four, sixteen = model_tables.laptop()
    assert names[0] == "N" and (four[0], four[2], four[-1]) == ("4", "55.9 [47, 65]", "Best-of-N less Majority +4.2 [+1.2, +7.2]")
    assert (sixteen[0], sixteen[1], sixteen[-2:]) == ("16", "59.0 [49, 69]", ["83.0 [76, 90]", "none"])
