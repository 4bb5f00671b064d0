"""The ledger in words: contrasts in their units, tables for readers, and its two files."""

import json
from pathlib import Path

import pandas as pd

from tts.common.files import write_text

VERDICTS = ("supported", "contradicted", "undecided", "not tested")
OWN_BEST = "own best"  # in the place of a rule: the reading in which each method has its own best one


def formatted(row: dict | pd.Series) -> str:
    """A row's contrast with its interval, in its unit; open (…) where only a bound is known."""
    if row["verdict"] == "not tested":
        return ""
    point, low, high = (in_unit(row, name) for name in ("estimate", "low", "high"))
    contrast = f"{row['bound'].strip('=')}{point}" + " times" * (row["unit"] == "ratio")
    if low == high:
        return contrast
    return f"{contrast} [{'…' if row['bound'] == '<' else low}, {'…' if row['bound'] == '>' else high}]"


def in_unit(row: dict | pd.Series, name: str) -> str:
    """A row's number of that name in the row's unit."""
    scale, form = {"points": (100, "{:+.1f}"), "share": (100, "{:.0f} %"), "ratio": (1, "{:.3g}")}[row["unit"]]
    return form.format(scale * row[name])


def over_rules(row: dict | pd.Series) -> str:
    """Under how many of the rules a row's contrast is for the claim, and against it, and decidedly so; its two ends; else empty."""
    if not row.get("rules", 0) > 0:  # also NaN
        return ""
    sides = []
    for side, meaning in ("above", "for it"), ("below", "against"):
        rules = row[f"decided {side}"]  # NaN in a table that was read, where there is none
        decided = f" ({len(rules.split())} decided)" if isinstance(rules, str) and rules else ""
        sides += [f"{row[side]:.0f} {meaning}{decided}"] if row[side] else []
    return f"of {row['rules']:.0f} rules {', '.join(sides) or 'none on either side'}: {in_unit(row, 'least')} to {in_unit(row, 'most')}"


def in_words(ledger: pd.DataFrame) -> pd.DataFrame:
    """What was compared for each tested claim: indexed by statement; columns scope, verdict, contrast, rules, detail, interval, claim."""
    tested = ledger[ledger["verdict"] != "not tested"]
    told = {"contrast": [formatted(row) for _, row in tested.iterrows()], "rules": [over_rules(row) for _, row in tested.iterrows()]}
    return tested.assign(**told).set_index("statement")[["scope", "verdict", "contrast", "rules", "detail", "interval", "claim"]]


def untested(ledger: pd.DataFrame) -> pd.DataFrame:
    """Why a claim is not tested in a scope in which others are: indexed by statement; columns scope, detail, claim."""
    silent = ledger["verdict"] == "not tested"
    some = ledger["scope"].isin(ledger.loc[~silent, "scope"])
    return ledger[silent & some].set_index("statement")[["scope", "detail", "claim"]]


def wide(ledger: pd.DataFrame) -> pd.DataFrame:
    """One row per statement: its reference, verdict and contrast in each scope, and the claim's identifier."""
    texts = [f"{row['verdict']} {formatted(row)}".strip() + f"; {over_rules(row)}" * bool(over_rules(row)) for _, row in ledger.iterrows()]
    shown = ledger.assign(text=texts)
    contrasts = shown.pivot(index="claim", columns="scope", values="text")[ledger["scope"].unique()]
    table = ledger.drop_duplicates("claim").set_index("claim")[["statement", "reference"]].join(contrasts)
    return table.assign(claim=table.index).set_index("statement")


def export(ledger: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes the ledger as ``ledger.json`` and ``ledger.csv``."""
    records = json.loads(ledger.to_json(orient="records"))  # NaN as null
    write_text(as_json := folder / "ledger.json", json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    write_text(as_csv := folder / "ledger.csv", ledger.to_csv(index=False))
    return [as_json, as_csv]
