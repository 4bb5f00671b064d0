"""The claims ledger: each claim of the study as a check, with one verdict per scope.

Claims, their contrasts and what plays which part in a scope stand in ``notebooks/claims.yaml``, with the date on which they were
fixed. A verdict holds at the ledger's level after Holm's correction over the claims of its scope.
"""

import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

import pandas as pd
import yaml
from pydantic import BaseModel, ValidationError, model_validator

from tts.analysis import committed, difficulty
from tts.analysis.accuracy import Results
from tts.analysis.evidence import Evidence
from tts.claims import checks, released
from tts.claims.checks import Finding
from tts.claims.scope import NotTested, Roles, Scope
from tts.common.files import write_text
from tts.common.paths import NOTEBOOKS
from tts.exchange import presets
from tts.exchange.presets import FINDINGS
from tts.generate.grid import Grid
from tts.search.registry import compared
from tts.store import imported
from tts.store.store import Store

CLAIMS = NOTEBOOKS / "claims.yaml"
FIXED = {"published": checks.PUBLISHED, "released": released.RELEASED}
"""Scopes whose checks need no evidence, with those checks."""
VERDICTS = ("supported", "contradicted", "undecided", "not tested")
COLUMNS = "claim statement reference scope verdict estimate low high unit margin bound interval p detail fixed".split()


class ClaimsError(ValueError):
    """A claims file that cannot be used; the message says where and why."""


class Check(BaseModel, extra="allow"):
    """Which check, with its parameters as extra fields; or why there is none."""

    check: str = ""
    missing: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.check) == bool(self.missing):
            raise ValueError("give either check (with its parameters) or missing (why there is none)")
        return self

    @property
    def parameters(self) -> dict:
        return self.model_extra or {}

    def __str__(self) -> str:
        if self.missing:
            return f"not tested: {self.missing}"
        return ", ".join([self.check, *(f"{name} {value}" for name, value in self.parameters.items())])


class Claim(BaseModel, extra="forbid"):
    """A claim of the study, its place in the paper, and its checks: of published numbers, of others' models, of any scope's outcomes."""

    statement: str
    reference: str
    added: datetime.date | None = None  # where later than the ledger
    published: Check
    released: Check
    measured: Check


class Ledger(BaseModel, extra="forbid"):
    """The content of ``claims.yaml``."""

    fixed: datetime.date
    fixed_released: datetime.date
    rule: dict[str, str]
    n: int
    level: float
    correction: str
    scopes: dict[str, Roles]
    claims: dict[str, Claim]

    @model_validator(mode="after")
    def _checks_exist(self) -> Self:
        for name, claim in self.claims.items():
            for kind, known in (FIXED | {"measured": checks.CHECKS}).items():
                check = getattr(claim, kind).check
                if check and check not in known:
                    raise ValueError(f"claim {name!r}, {kind}: no check {check!r}; known: {', '.join(known)}")
        return self


def read(path: Path = CLAIMS) -> Ledger:
    """The claims file; ClaimsError where it is missing, malformed, or names a check that does not exist."""
    try:
        return Ledger.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ClaimsError(f"no claims file {path}; restore it, say with git checkout") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()]
        raise ClaimsError(f"{path}: " + "; ".join(lines)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ClaimsError(f"{path} is not a claims file: {' '.join(str(error).split())}; restore it, say with git checkout") from None


def committed_scopes(ledger: Ledger, grid: Grid) -> dict[str, Scope | None]:
    """Each measured scope from committed outcomes, None where they lack it; what a scope leaves open is set as in ``grid``."""
    scopes: dict[str, Scope | None] = dict.fromkeys(("pocket", "laptop", "imported"))
    for name, roles in ledger.scopes.items():
        if evidence := _committed_evidence(ledger, roles, grid, ledger.rule):
            scopes[name] = scope(ledger, roles, evidence, _committed_evidence(ledger, roles, grid, other_rule(ledger)))
    return scopes


def _committed_evidence(ledger: Ledger, roles: Roles, grid: Grid, rule: dict[str, str]) -> list[Evidence]:
    """Committed outcomes of the searchers with every PRM, and of every policy with the good one."""
    n = roles.n or ledger.n
    common = rule | {"split": roles.split, "problems": {roles.problem_set: 1}, "methods": compared(study=True), "samples": n}
    asked = (
        {"policies": roles.searchers, "prms": roles.prms, "budgets": [smaller for smaller in (4, 16, 64, 256) if smaller <= n]},
        {"policies": [*roles.policies, *roles.long.values()], "prms": [roles.good_prm], "budgets": [n]},
    )
    outcomes = [committed.committed(Grid(**(grid.model_dump() | common | own))) for own in asked]
    return [evidence for evidence in outcomes if evidence]


def imported_scopes(ledger: Ledger, store: Store) -> dict[str, Scope]:
    """The scope ``imported`` from a store's largest import that has enough problems and step scores; empty where there is none."""
    held = sorted(imported.all_of(store.folder), key=lambda source: (-source.count, source.name))
    for preset in (preset for source in held for preset in presets.build(source)):
        if FINDINGS in preset.notebooks:
            own = {k: v for k, v in preset.common.items() if k in Grid.model_fields} | ledger.rule
            grid = Grid(**own)
            # How good its PRMs are is not known: the first plays the good one, and none the weak one.
            prms = {"prms": grid.prms, "good_prm": grid.prms[0], "weak_prm": grid.prms[0]}
            roles = Roles(problem_set=next(iter(grid.problems)), policies=grid.policies, searchers=grid.policies, **prms)
            otherwise = Results(Grid(**(own | other_rule(ledger))), store)
            n = max(grid.budgets)
            print(f"imported: {preset.problems} problems of {Path(roles.problem_set).stem}, N = {n}")
            return {"imported": scope(ledger, roles, [Results(grid, store)], [otherwise], n)}
    return {}


def other_rule(ledger: Ledger) -> dict[str, str]:
    """The rule that the voting claim compares with, as parameters of a grid; the ledger's own where there is no such claim."""
    return next((c.measured.parameters["against"] for c in ledger.claims.values() if c.measured.check == "voting"), ledger.rule)


def scope(ledger: Ledger, roles: Roles, evidence: Sequence[Evidence], otherwise: Sequence[Evidence] = (), n: int | None = None) -> Scope:
    """A scope from roles, evidence, and that under the voting claim's other rule, at budget ``n``, else the roles' or the ledger's."""
    known = {policy: difficulty.known_pass_at_1(evidence[0].grid, policy, roles.problem_set) for policy in roles.policies}
    counted = {policy: values for policy, values in known.items() if values is not None}
    parts = roles.model_dump() | {"n": n or roles.n or ledger.n}
    return Scope(**parts, evidence=evidence, pass_at_1=counted, other_rule=otherwise)


def judge(ledger: Ledger, scopes: dict[str, Scope | None]) -> pd.DataFrame:
    """The ledger: one row per claim and scope, published and released among them. ``scopes``: evidence by name, None for none.

    Columns claim, statement, reference, scope, verdict, interval (its method), p (two-sided, corrected within the scope), detail (what
    was compared, or why the claim is not tested), fixed, and those of :class:`Finding`, whose low and high are not corrected.
    """
    from statsmodels.stats.multitest import multipletests  # takes a second

    rows = []
    for scope_name in (*FIXED, *scopes):
        fixed = str(ledger.fixed_released if scope_name == "released" else ledger.fixed)
        results = {name: _run(claim, scope_name, scopes.get(scope_name)) for name, claim in ledger.claims.items()}
        uncertain = {name: f for name, f in results.items() if isinstance(f, Finding) and f.method != "exact"}
        raw = [math.erfc(abs(checks.certainty(f)) / math.sqrt(2)) for f in uncertain.values()]
        corrected = dict(zip(uncertain, multipletests(raw, 1 - ledger.level, method=ledger.correction)[1])) if raw else {}
        for name, found in results.items():
            claim = ledger.claims[name]
            row = {"claim": name, **claim.model_dump(include={"statement", "reference"}), "scope": scope_name}
            row["fixed"] = max(fixed, str(claim.added or ""))
            if isinstance(found, str):
                rows.append(row | {"verdict": "not tested", "detail": found})
                continue
            p, side = corrected.get(name, 0.0), "supported" if found.estimate > found.margin else "contradicted"
            rows.append(row | asdict(found) | {"interval": found.method, "p": p, "verdict": side if p < 1 - ledger.level else "undecided"})
    return pd.DataFrame(rows, columns=COLUMNS)


def _run(claim: Claim, scope_name: str, scope: Scope | None) -> Finding | str:
    """What a claim's check finds in a scope, or why it cannot."""
    check = getattr(claim, scope_name if scope_name in FIXED else "measured")
    if check.missing:
        return check.missing
    if scope_name in FIXED:
        return FIXED[scope_name][check.check](**check.parameters)
    if scope is None:
        return f"no outcomes of the scope {scope_name!r}"
    try:
        return checks.CHECKS[check.check](scope, **check.parameters)
    except NotTested as reason:
        return str(reason)


def formatted(row: dict | pd.Series) -> str:
    """A row's contrast with its interval, in its unit; open (…) where only a bound is known, and is the interval's end too."""
    if row["verdict"] == "not tested":
        return ""
    scale, form, unit = {"points": (100, "{:+.1f}", ""), "share": (100, "{:.0f} %", ""), "ratio": (1, "{:.3g}", " times")}[row["unit"]]
    point, low, high = (form.format(scale * row[name]) for name in ("estimate", "low", "high"))
    contrast = f"{row['bound'].strip('=')}{point}{unit}"
    if low == high:
        return contrast
    low = "…" if row["bound"] == "<" and low == point else low
    high = "…" if row["bound"] == ">" and high == point else high
    return f"{contrast} [{low}, {high}]"


def described(ledger: Ledger) -> pd.DataFrame:
    """One row per statement: its reference, when it was added, its check in each kind of scope, and the claim's identifier."""
    rows = [{key: str(value or "") for key, value in claim} | {"claim": name} for name, claim in ledger.claims.items()]
    return pd.DataFrame(rows).set_index("statement")


def wide(ledger: pd.DataFrame) -> pd.DataFrame:
    """One row per statement: its reference, verdict and contrast in each scope, and the claim's identifier."""
    shown = ledger.assign(text=[f"{row['verdict']} {formatted(row)}".strip() for _, row in ledger.iterrows()])
    contrasts = shown.pivot(index="claim", columns="scope", values="text")[ledger["scope"].unique()]
    table = ledger.drop_duplicates("claim").set_index("claim")[["statement", "reference"]].join(contrasts)
    return table.assign(claim=table.index).set_index("statement")


def export(ledger: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes the ledger as ``ledger.json`` and ``ledger.csv``."""
    records = json.loads(ledger.to_json(orient="records"))  # NaN as null
    write_text(as_json := folder / "ledger.json", json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    write_text(as_csv := folder / "ledger.csv", ledger.to_csv(index=False))
    return [as_json, as_csv]


def counts(ledger: pd.DataFrame) -> pd.DataFrame:
    """How many claims got each verdict, per scope."""
    table = pd.crosstab(ledger["scope"], ledger["verdict"])
    return table.reindex(index=ledger["scope"].unique(), columns=list(VERDICTS), fill_value=0)
