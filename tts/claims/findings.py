"""The claims ledger: each claim of ``notebooks/claims.yaml`` as a check, with one verdict per scope.

A verdict holds at the ledger's level after Holm's correction over the claims of its scope.
"""

import datetime
import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from tts.analysis import committed, costs, difficulty, stats
from tts.analysis.accuracy import Results
from tts.analysis.evidence import Evidence, cells
from tts.claims import checks, published, published_checks, released
from tts.claims.finding import Finding
from tts.claims.scope import NotTested, Roles, Scope
from tts.claims.wording import OWN_BEST
from tts.common.names import short
from tts.common.paths import NOTEBOOKS
from tts.exchange import presets
from tts.exchange.presets import FINDINGS
from tts.generate.grid import Grid, explain, grid_of
from tts.search.registry import compared, method_of
from tts.store import imported
from tts.store.store import Store
from tts.strategy import compute_optimal
from tts.tasks.selection import RULES, Rule

CLAIMS = NOTEBOOKS / "claims.yaml"
FIXED = {"published": published_checks.PUBLISHED, "released": released.RELEASED}
"""Scopes whose checks need no evidence, with those checks."""
COLUMNS = "claim statement reference scope verdict estimate low high unit margin bound interval p rules above below least most".split()
COLUMNS += ["decided above", "decided below", "problems", "detail", "fixed"]


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

    fixed: dict[str, datetime.date]  # of published, released and measured checks
    rule: dict[str, str]
    n: int = Field(ge=1)
    level: float = Field(gt=0, lt=1)
    scopes: dict[str, Roles]
    claims: dict[str, Claim]

    @model_validator(mode="after")
    def _checks_exist(self) -> Self:
        if taken := {*FIXED, "imported", "this run"} & set(self.scopes):
            raise ValueError(f"scopes: {', '.join(sorted(taken))} has another meaning; choose another name")
        if set(self.fixed) != {*FIXED, "measured"}:
            raise ValueError(f"fixed: say the date of {', '.join(FIXED)} and measured; given {', '.join(self.fixed) or 'none'}")
        for name, claim in self.claims.items():
            for kind, known in (FIXED | {"measured": checks.CHECKS}).items():
                check = getattr(claim, kind).check
                if check and check not in known:
                    raise ValueError(f"claim {name!r}, {kind}: no check {check!r}; known: {', '.join(known)}")
                if check:
                    model = _parameters(known[check])
                    given = getattr(claim, kind).parameters
                    try:
                        model(**given)
                        for one, other in (("first", "second"), ("method", "over")):
                            if given.get(one) and given.get(one) == given.get(other):
                                raise ValueError(f"{one} and {other} are both {given[one]!r}; compare two different ones")
                        if kind in FIXED:
                            known[check](**given)  # PublishedError where a table has no such name
                    except ValueError as error:
                        wrong = explain(error, model) if isinstance(error, ValidationError) else error
                        raise ValueError(f"claim {name!r}, {kind}, check {check}: {wrong}") from None
        for name, roles in self.scopes.items():
            for part, of, whole in (("searchers", "policies", roles.policies), ("weak_prms", "prms", roles.prms)):
                if strange := set(getattr(roles, part)) - set(whole):
                    raise ValueError(
                        f"scope {name!r}: {part} holds {', '.join(sorted(strange))}, which is not among its {of}: {', '.join(whole)}"
                    )
        return self


def _parameters(check: Callable[..., Finding]) -> type[BaseModel]:
    """What a check takes beside a scope."""
    taken = [p for p in inspect.signature(check).parameters.values() if p.name != "scope"]
    fields: dict[str, Any] = {p.name: (p.annotation, ... if p.default is p.empty else p.default) for p in taken}
    return create_model("parameters", __config__=ConfigDict(extra="forbid", strict=True), **fields)


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


def committed_scopes(ledger: Ledger, grid: Grid, *only: str) -> dict[str, Scope | None]:
    """Each measured scope, or only those named, from committed outcomes, None where they lack it; what is open is as in ``grid``."""
    scopes: dict[str, Scope | None] = dict.fromkeys(only or ("pocket", "laptop", "imported"))
    for name, roles in ((name, ledger.scopes[name]) for name in only or ledger.scopes):
        if not (evidence := _committed_evidence(ledger, roles, grid, roles.split)):
            models = ", ".join(map(short, [*roles.policies, *roles.long.values(), *roles.prms]))
            print(f"{name}: outcomes of {models} on {' and '.join(roles.problem_sets)} ({roles.split}) are not all committed")
        else:
            chosen = best_rules(_committed_evidence(ledger, roles, grid, "development"), roles, roles.n or ledger.n)
            on = "development problems" if chosen else "other problems of the same set, for no development outcomes are committed"
            print(f"{name}: each method's own best rule is chosen on {on}")
            scopes[name] = scope(ledger, roles, evidence, chosen)
    return scopes


def _committed_evidence(ledger: Ledger, roles: Roles, grid: Grid, split: str) -> list[Evidence]:
    """Committed outcomes of the searchers with every PRM, and of every policy with the good one and by rules; empty where one is missing.

    First those of the searchers with the good PRM at smaller budgets too, of the problems that verdicts are about.
    """
    n, every = roles.n or ledger.n, dict.fromkeys(roles.problem_sets, 1)
    common = ledger.rule | {"split": split, "methods": compared(study=True), "samples": n, "prms": [roles.good_prm], "budgets": [n]}
    asked: list[dict[str, Any]] = [
        {"policies": roles.searchers, "problems": {roles.problem_sets[0]: 1}, "budgets": [b for b in (4, 16, 64, 256) if b <= n]},
        {"policies": roles.searchers, "prms": roles.prms, "problems": every},
        {"policies": [*roles.policies, *roles.long.values()], "problems": every},
    ]
    if roles.rules:
        asked.append({"policies": roles.policies, "prms": roles.rules, "problems": every, "methods": ["majority", "best_of_n"]})
    asked = asked if split == roles.split else asked[1:]
    outcomes = [committed.committed(grid_of(**(grid.model_dump() | common | own))) for own in asked]
    return [evidence for evidence in outcomes if evidence] if all(outcomes) else []


def best_rules(development: Sequence[Evidence], roles: Roles, n: int) -> dict[tuple[str, str, str], Rule]:
    """The rule with the highest mean accuracy on development problems, of each policy, PRM and method that has one."""
    found: dict[tuple[str, str, str], Rule] = {}
    for held in development:
        for policy, prm, method in product(held.grid.policies, held.grid.prms, held.grid.methods):
            if method_of(method).guided and (prm, method, n) in cells(held.grid, policy, held.grid.budgets):
                asked = [(name, policy, prm, method, n) for name in roles.problem_sets]
                rules = [rule for rule in RULES if all(rule in held.rules(*cell) for cell in asked)]
                means = [np.mean(np.concatenate([held.accuracy(*cell, rule) for cell in asked])) for rule in rules]
                found |= {(policy, prm, method): rules[int(compute_optimal.first_best(np.array(means)))]} if len(rules) > 1 else {}
    return found


def imported_scopes(ledger: Ledger, store: Store) -> dict[str, Scope]:
    """The scope ``imported`` from a store's largest import that has enough problems and step scores; empty where there is none."""
    held = sorted(imported.all_of(store.folder), key=lambda source: (-source.count, source.name))
    for preset in (preset for source in held for preset in presets.build(source)):
        if FINDINGS in preset.notebooks:
            own = {k: v for k, v in preset.common.items() if k in Grid.model_fields} | ledger.rule
            grid = Grid(**own)
            # How good its PRMs are is not known: the first plays the good one, and none the weak one.
            sets = {"problem_sets": [next(iter(grid.problems))]}
            roles = Roles(policies=grid.policies, searchers=grid.policies, prms=grid.prms, good_prm=grid.prms[0], **sets)
            n = max(grid.budgets)
            print(f"imported: {preset.problems} problems of {Path(roles.problem_sets[0]).stem}, N = {n}")
            return {"imported": scope(ledger, roles, [Results(grid, store)], n=n)}
    return {}


def scope(
    ledger: Ledger, roles: Roles, evidence: Sequence[Evidence], chosen: dict[tuple[str, str, str], Rule] | None = None, n: int | None = None
) -> Scope:
    """A scope from roles, evidence and the rules of :func:`best_rules`, at budget ``n``, else the roles' or the ledger's."""
    grids = {name: next(held.grid for held in evidence if name in held.grid.problems) for name in roles.problem_sets}
    asked = product(roles.problem_sets, roles.policies)
    counted = {(name, p): values for name, p in asked if (values := difficulty.known_pass_at_1(grids[name], p, name)) is not None}
    parts = roles.model_dump() | {"n": n or roles.n or ledger.n, "policies": costs.by_size(roles.policies)}
    return Scope(**parts, evidence=evidence, pass_at_1=counted, chosen=chosen or {})


def judge(ledger: Ledger, scopes: dict[str, Scope | None], rules: pd.DataFrame | None = None) -> pd.DataFrame:
    """The ledger: one row per claim and scope, published and released among them. ``scopes``: evidence by name, None for none.

    A verdict is of the compute-optimal reading, in which each method has its own best rule; beside it stands what ``rules``, by default
    :func:`by_rule`, says of the reading under one rule for all methods. Columns claim, statement, reference, scope, verdict, interval (its
    method), p (two-sided, corrected within the scope), problems (of the scope), detail (what was compared, or why it is not tested), fixed;
    rules (how many there are), above and below (how many have the contrast on the claim's side of the margin, and on the other), least and
    most (its two ends over them), decided above and decided below (under which its own interval lies on one side); and those of
    :class:`Finding`, whose low and high are not corrected.
    """
    rules = by_rule(ledger, scopes) if rules is None else rules
    rows = []
    for scope_name in (*FIXED, *scopes):
        fixed = str(ledger.fixed[scope_name if scope_name in FIXED else "measured"])
        results = {name: _run(claim, scope_name, scopes.get(scope_name)) for name, claim in ledger.claims.items()}
        uncertain = {name: f for name, f in results.items() if isinstance(f, Finding) and f.method != "exact"}
        corrected = dict(zip(uncertain, stats.holm([finding.p for finding in uncertain.values()])))
        of_scope = {"scope": scope_name, "problems": _problems(scope_name, scopes.get(scope_name))}
        for name, found in results.items():
            claim = ledger.claims[name]
            row = {"claim": name, **claim.model_dump(include={"statement", "reference"}), **of_scope}
            row["fixed"] = max(fixed, str(claim.added or ""))
            if isinstance(found, str):
                rows.append(row | {"verdict": "not tested", "detail": found})
                continue
            p, side = corrected.get(name, 0.0), "supported" if found.estimate > found.margin else "contradicted"
            row |= asdict(found) | {"interval": found.method, "p": p, "verdict": side if p < 1 - ledger.level else "undecided"}
            rows.append(row | _over_rules(rules[(rules["claim"] == name) & (rules["scope"] == scope_name)]))
    return pd.DataFrame(rows, columns=COLUMNS)


def by_rule(ledger: Ledger, scopes: dict[str, Scope | None]) -> pd.DataFrame:
    """Each contrast that depends on selection, under each rule: columns claim, statement, scope, problems, rule, and those of Finding.

    The rule ``own best`` is the compute-optimal reading. A rule that the evidence of a claim does not have is left out.
    """
    asked = {n: c for n, c in ledger.claims.items() if c.measured.check and c.measured.check not in checks.WITHOUT_RULE}
    rows = []
    for scope_name, scope in scopes.items():
        readings = {None: scope} | {rule: scope.changed(rule=rule) for rule in RULES} if scope else {}
        for (name, claim), (rule, here) in product(asked.items(), readings.items()):
            if isinstance(found := _run(claim, scope_name, here), Finding):
                named = {"claim": name, "statement": claim.statement, "scope": scope_name, "problems": _problems(scope_name, scope)}
                rows.append(named | {"rule": str(rule or OWN_BEST)} | asdict(found))
    return pd.DataFrame(rows, columns=["claim", "statement", "scope", "problems", "rule", *(field.name for field in fields(Finding))])


def _problems(scope_name: str, scope: Scope | None) -> str:
    """The problem sets of a scope, with how many problems of each."""
    if scope_name in FIXED:
        counts = published.PROBLEMS if scope_name == "published" else released.problems()
    else:
        counts = {name: scope.count(name) for name in scope.problem_sets} if scope else {}
    return ", ".join(f"{count} of {short(name)}" for name, count in counts.items())


def _over_rules(found: pd.DataFrame) -> dict:
    """What the rows of one contrast say of the rules."""
    found = found[found["rule"] != OWN_BEST]
    if len(found) < 2:  # the evidence may know one rule only
        return {}
    beyond = (found["estimate"] - found["margin"]).round(9)  # what is 0 but for rounding is on no side
    ends = {"least": found["estimate"].min(), "most": found["estimate"].max()}
    decided = {"decided above": found["low"] > found["margin"], "decided below": found["high"] < found["margin"]}
    named = {name: " ".join(found.loc[rows, "rule"]) for name, rows in decided.items()}
    return {"rules": len(found), "above": int((beyond > 0).sum()), "below": int((beyond < 0).sum())} | ends | named


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


def described(ledger: Ledger) -> pd.DataFrame:
    """One row per statement: its reference, when it was added, its check in each kind of scope, and the claim's identifier."""
    rows = [{key: str(value or "") for key, value in claim} | {"claim": name} for name, claim in ledger.claims.items()]
    return pd.DataFrame(rows).set_index("statement")
