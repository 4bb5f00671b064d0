"""Prose that states verdicts: README and notebooks hold a region per scope, which is written from the ledger of committed outcomes.

A region begins with ``<!-- ledger: SCOPE -->``, with ``<!-- table: SCOPE -->`` for a table of all tested claims, or with
``<!-- together: SCOPE -->`` for the claims that released models can test too, with ``<!-- claims: SCOPE NAME NAME -->`` for some claims
by their identifiers, decided or not, or with ``<!-- measured: TABLE -->`` for a table of :mod:`model_tables`, and ends with
``<!-- end of ledger -->``.
``python tests/project/verdicts.py`` writes all of them anew; a test checks that they are what it would write.
"""

import json
import re
from pathlib import Path

import pandas as pd
from model_tables import MEASURED

from tts.claims import findings, wording
from tts.claims.scope import Scope
from tts.common.files import write_text
from tts.common.paths import NOTEBOOKS, ROOT
from tts.generate.grid import Grid
from tts.report import real_models, summaries

REGION = re.compile(r"(<!-- (ledger|table|together|claims|measured): ([\w-]+)((?: [\w-]+)*) -->\n).*?(<!-- end of ledger -->)", re.DOTALL)
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(NOTEBOOKS.glob("*.ipynb"))]
FILES = [path for path in TEXTS if "<!-- end of ledger -->" in path.read_text(encoding="utf-8")]


def committed_scopes() -> dict[str, Scope]:
    any_grid = Grid(problems={"pocket-main": 1}, policies=["policy-6k"], prms=["implicit:policy-216k"])
    return {name: scope for name, scope in findings.committed_scopes(findings.read(), any_grid).items() if scope}


def committed_ledger(scopes: dict[str, Scope]) -> pd.DataFrame:
    """The ledger without a run: what is published, released, and committed."""
    return findings.judge(findings.read(), scopes)


def written(text: str, ledger: pd.DataFrame) -> str:
    """A text with its regions written from a ledger: counts and each decided claim, some claims decided or not, or a table."""

    def region(found: re.Match[str]) -> str:
        of_scope = ledger[ledger["scope"] == found[3]]
        if found[2] == "table":
            rows = of_scope[of_scope["verdict"] != "not tested"].to_dict("records")
            cells = [(row["claim"], row["verdict"], wording.formatted(row), wording.over_rules(row), row["detail"]) for row in rows]
            lines = table(["claim", "verdict", "contrast", "rules", "what was compared"], cells)
        elif found[2] == "together":
            rows = [(row.Index, row.together, row.released, row[2]) for row in real_models.verdicts(ledger, found[3]).itertuples()]
            lines = table(["claim", "together", "released", found[3]], rows)
        elif found[2] == "measured":
            names, *rows = MEASURED[found[3]]()
            lines = table(names, rows)
        elif found[2] == "claims":
            lines = [line(of_scope[of_scope["claim"] == name].iloc[0]) for name in found[4].split()]
        else:
            counted, *decided = summaries.findings(of_scope)
            lines = [f"*{counted[0].upper()}{counted[1:]}.*", "", *(f"- {line.split(', ', 1)[1]}" for line in decided)]
        return "\n".join([found[1].rstrip("\n"), *lines, found[5]])

    return REGION.sub(region, text)


def line(row: pd.Series) -> str:
    """A claim with its verdict and contrast, or why it is not tested."""
    told = [wording.formatted(row), wording.over_rules(row)] if row["verdict"] != "not tested" else [row["detail"]]
    return f"- {row['verdict']}: {row['statement']} ({'; '.join(filter(None, told))})"


def table(names: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows)]


def cells_of(path: Path) -> list[str]:
    """The texts of a file in which regions may stand: a notebook's cells, or the whole."""
    text = path.read_text(encoding="utf-8")
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"]] if path.suffix == ".ipynb" else [text]


def write(path: Path, ledger: pd.DataFrame) -> None:
    texts = [written(text, ledger) for text in cells_of(path)]
    if path.suffix != ".ipynb":
        return write_text(path, texts[0])
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell, text in zip(notebook["cells"], texts):
        cell["source"] = text.splitlines(keepends=True)
    write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    ledger = committed_ledger(committed_scopes())
    for path in FILES:
        write(path, ledger)
        print(path)
