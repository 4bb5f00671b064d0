"""The committed ledger, and prose that states its verdicts."""

from __future__ import annotations

import pandas as pd
import pytest
import verdicts

from tts.claims import findings, wording


@pytest.fixture(scope="module")
def scopes():
    return verdicts.committed_scopes()


@pytest.fixture(scope="module")
def ledger(scopes):
    return verdicts.committed_ledger(scopes)


@pytest.mark.slow
def test_the_committed_ledger_has_every_claim_in_every_scope(scopes, ledger):
    assert [scopes["pocket"].count(name) for name in ("pocket-main", "pocket-hard")] == [300, 100] and scopes["laptop"].problems == 100
    assert [scopes["puzzles"].count(name) for name in ("pocket-puzzles", "pocket-puzzles-hard")] == [300, 100]
    assert scopes["code"].count("pocket-code") == 300
    assert [scopes["chemistry"].count(name) for name in ("pocket-chemistry", "pocket-chemistry-hard")] == [300, 100]
    good = scopes["pocket"].holder("policy-51k", "best_of_n", scopes["pocket"].good_prm)
    assert good.grid.budgets == [4, 16, 64], "or efficiency searches no smaller budget"
    assert len(ledger) == 7 * len(findings.read().claims) and set(ledger["verdict"]) <= set(wording.VERDICTS)
    tested = ledger[ledger["verdict"] != "not tested"]
    assert (tested["low"] <= tested["estimate"]).all() and (tested["estimate"] <= tested["high"]).all()
    assert ((tested["verdict"] == "undecided") == (tested["p"] >= 0.05)).all()


@pytest.mark.slow
def test_every_verdict_in_prose_is_the_ledgers(ledger):
    for path in verdicts.FILES:
        texts = verdicts.cells_of(path)
        assert any(verdicts.REGION.search(text) for text in texts), path
        for text in texts:
            assert verdicts.written(text, ledger) == text, f"{path}: run python tests/project/verdicts.py"


def test_a_region_lists_what_is_decided():
    row = {"scope": "pocket", "verdict": "supported", "statement": "A beats B", "unit": "points", "bound": "=", "estimate": 0.05}
    row |= {
        "low": 0.01,
        "high": 0.09,
        "rules": 9,
        "above": 8,
        "below": 1,
        "least": -0.02,
        "most": 0.07,
        "decided above": "last+max avg+max",
        "decided below": "min+max",
    }
    ledger = pd.DataFrame([row, row | {"verdict": "undecided", "statement": "C beats D"}])
    told = "1 supported, 0 contradicted, 1 undecided, 0 not tested"
    line = "- supported: A beats B (+5.0 [+1.0, +9.0]; of 9 rules 8 for it (2 decided), 1 against (1 decided): -2.0 to +7.0)"
    table = verdicts.written("<!-- table: pocket -->\n<!-- end of ledger -->", ledger.assign(claim=["ab", "cd"], detail="A less B"))
    shown = "| ab | supported | +5.0 [+1.0, +9.0] | of 9 rules 8 for it (2 decided), 1 against (1 decided): -2.0 to +7.0 | A less B |"
    assert shown + "\n| cd | undecided |" in table
    untested = row | {"verdict": "not tested", "statement": "E beats F", "detail": "no F"}
    asked = verdicts.written(
        "<!-- claims: pocket ef ab -->\n<!-- end of ledger -->", pd.DataFrame([row, untested]).assign(claim=["ab", "ef"])
    )
    assert asked.splitlines()[1:-1] == ["- not tested: E beats F (no F)", line]
    text = "a\n<!-- ledger: pocket -->\nold\n<!-- end of ledger -->\nb"
    assert verdicts.written(text, ledger) == f"a\n<!-- ledger: pocket -->\n*Pocket: {told}.*\n\n{line}\n<!-- end of ledger -->\nb"
