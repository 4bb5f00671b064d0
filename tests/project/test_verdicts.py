"""How prose states verdicts; that it states those of the ledger is held where all notebooks run, in ``tests/study/test_study.py``."""

from __future__ import annotations

import pandas as pd
import verdicts


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
