"""Prose that states verdicts is what the ledger says."""

from __future__ import annotations

import pandas as pd
import pytest
import verdicts


@pytest.mark.slow
def test_every_verdict_in_prose_is_the_ledgers():
    ledger = verdicts.committed_ledger()
    for path in verdicts.FILES:
        texts = verdicts.cells_of(path)
        assert any(verdicts.REGION.search(text) for text in texts), path
        for text in texts:
            assert verdicts.written(text, ledger) == text, f"{path}: run python tests/project/verdicts.py"


def test_a_region_lists_what_is_decided():
    row = {"scope": "pocket", "verdict": "supported", "statement": "A beats B", "unit": "points", "bound": "=", "estimate": 0.05}
    row |= {"low": 0.01, "high": 0.09, "rules": 9, "agree": 8, "least": -0.02, "most": 0.07, "against": "min+max"}
    ledger = pd.DataFrame([row, row | {"verdict": "undecided", "statement": "C beats D"}])
    told = "1 supported, 0 contradicted, 1 undecided, 0 not tested"
    line = "- supported: A beats B (+5.0 [+1.0, +9.0]; 8 of 9 rules agree: -2.0 to +7.0; 1 decided against)"
    table = verdicts.written("<!-- table: pocket -->\n<!-- end of ledger -->", ledger.assign(claim=["ab", "cd"]))
    assert "| ab | supported | +5.0 [+1.0, +9.0] | 8 of 9 rules agree: -2.0 to +7.0; 1 decided against |\n| cd | undecided |" in table
    text = "a\n<!-- ledger: pocket -->\nold\n<!-- end of ledger -->\nb"
    assert verdicts.written(text, ledger) == f"a\n<!-- ledger: pocket -->\n*Pocket: {told}.*\n\n{line}\n<!-- end of ledger -->\nb"
