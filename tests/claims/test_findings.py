"""The ledger: checks with outcomes worked out by hand, the correction, and files that are wrong."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
import yaml
from statsmodels.stats.proportion import confint_proportions_2indep

from tts.claims import findings, published_checks, wording

SMALL, GOOD = "policy-6k", "implicit:policy-216k"


@pytest.fixture(scope="module")
def published_rows():
    return findings.judge(findings.read(), {}).query("scope == 'published'").set_index("claim")


def test_the_title_is_undecided(published_rows):
    assert published_rows.loc["title", "verdict"] == "undecided"
    assert published_rows.loc["depends-on-prm", "verdict"] == "not tested"


def test_a_claim_of_two_halves_is_as_certain_as_the_less_certain_one(published_rows):
    """Table 4: 3.65e25 / 1.62e23 = 225 and 5.96e25 / 7.56e23 = 78.8; Table 3 on MATH-500: 75.6 against 71.4 and 95.2 against 97.3."""
    found = published_rows.loc["flops"]
    low, high = confint_proportions_2indep(378, 500, 357, 500, method="newcomb")  # 75.6 % and 71.4 % of 500
    assert found["verdict"] == "undecided" and found["unit"] == "points"
    assert found[["estimate", "low", "high"]].tolist() == pytest.approx([0.042, low, high], abs=1e-6)
    assert "75.6 less Llama-3.1-405B-Instruct 71.4" in found["detail"] and "FLOPs, 225 times" in found["detail"]
    r1 = published_rows.loc["flops-r1"]
    assert r1[["verdict", "unit", "estimate"]].tolist() == ["contradicted", "ratio", pytest.approx(78.84, abs=0.01)]
    assert "95.2 less DeepSeek-R1 97.3" in r1["detail"] and "say the opposite" in r1["detail"] and "78.8 times" in r1["detail"]
    assert published_rows.loc["flops-1000", ["verdict", "estimate"]].tolist() == ["contradicted", pytest.approx(225.31, abs=0.01)]


@pytest.mark.parametrize(("column", "difference"), [("MATH-500", 0.952 - 0.973), ("AIME24", 0.833 - 0.798)])
def test_where_the_flops_are_few_enough_the_accuracy_decides(column, difference):
    found = published_checks.published_flops("DeepSeek-R1-Distill-Qwen-7B", "DeepSeek-R1", 50, column)
    assert (found.unit, found.margin, found.estimate) == ("points", 0.0, pytest.approx(difference))


def test_a_claim_against_the_printed_numbers_says_so_though_undecided(published_rows):
    press = published_rows.loc["fig1-distill-mini-aime"]
    assert press[["verdict", "estimate"]].tolist() == ["undecided", pytest.approx(0.633 - 0.636)]
    assert press["detail"].endswith("63.3 less o1-mini 63.6, 30 problems of AIME24; the printed numbers themselves say the opposite")
    assert "opposite" in published_rows.loc["title-aime", "detail"] and "opposite" not in published_rows.loc["title", "detail"]


def test_claims_that_nothing_tests_yet_say_why():
    claims = findings.read().claims
    assert claims["other-domains"].published.missing == "announced, no numbers"
    assert all(kind.missing for kind in (claims["other-domains"].released, claims["other-domains"].measured))
    assert "size is not known" in claims["fig1-half-b"].measured.missing


def test_a_claim_that_was_added_is_dated_so(published_rows):
    fixed = published_rows["fixed"].to_dict()
    added = {name for name, date in fixed.items() if date == "2026-11-29"}
    assert added == {"small-search", "fig1-distill-mini-aime", "large-every-bin", "flops-1000", "other-domains"}
    assert {fixed[name] for name in fixed if name not in added} == {"2026-11-24"}


def test_tables_begin_with_the_statement_and_end_with_the_identifier():
    ledger = findings.read()
    described, wide = findings.described(ledger), wording.wide(findings.judge(ledger, {}))
    statements = [claim.statement for claim in ledger.claims.values()]
    assert len(set(statements)) == len(statements), "each is to be understood without the others"
    for table in (described, wide):
        assert list(table.index) == statements and list(table["claim"]) == list(ledger.claims) and table.columns[-1] == "claim"
    title = described.loc[statements[0]]
    assert (title["added"], title["released"]) == ("", "not tested: the largest ratio of sizes is 29")
    assert wide.loc[statements[0], "published"] == "undecided +0.8 [-4.8, +6.4]"


def ledger_of(tmp_path, count):
    """A ledger of claims that share one check on published numbers, o1-preview against a 1.5B policy: z is about 3."""
    content = yaml.safe_load(findings.CLAIMS.read_text())
    claim = content["claims"]["fig1-distill-preview"]
    content["claims"] = {f"claim-{i}": claim for i in range(count)}
    path = tmp_path / f"{count}.yaml"
    path.write_text(yaml.safe_dump(content))
    return findings.judge(findings.read(path), {}).query("scope == 'published'")


@pytest.mark.slow
def test_holm_multiplies_the_smallest_p_by_the_number_of_claims(tmp_path):
    alone, ten = (ledger_of(tmp_path, count) for count in (1, 10))
    assert ten["p"].tolist() == pytest.approx([10 * alone["p"].iloc[0]] * 10)
    assert set(ten["verdict"]) == {"supported"}
    many = ledger_of(tmp_path, 40)
    assert set(many["verdict"]) == {"undecided"} and many["estimate"].tolist() == pytest.approx([alone["estimate"].iloc[0]] * 40)


@pytest.mark.slow
def test_export_holds_every_row(tmp_path):
    ledger = findings.judge(findings.read(), {})
    as_json, as_csv = wording.export(ledger, tmp_path)
    assert [row["claim"] for row in json.loads(as_json.read_text())] == ledger["claim"].tolist()
    again = pd.read_csv(as_csv)
    assert wording.wide(again).equals(wording.wide(ledger))


GAIN = {"check": "advantage", "method": "dvts", "over": "majority"}


def claims_with(published, released={"missing": "m"}, measured={"missing": "m"}):  # noqa: B006
    checked = {"published": published, "released": released, "measured": measured}
    return {"claims": {"x": {"statement": "s", "reference": "r"} | checked}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixed": {"published": "soon"}}, "fixed.published: Input should be a valid date"),
        (claims_with({"check": "table9"}), "no check 'table9'"),
        (claims_with({}), "give either check"),
        (claims_with({"missing": "m"}, {"check": "table3"}), "claim 'x', released: no check 'table3'; known: efficiency, gsm8k"),
        ({"fixed": {"published": "2026-11-24"}}, "say the date of published, released and measured; given published"),
        (claims_with({"check": "table3", "frist": "x"}), "claim 'x', published, check table3: first: Field required"),
        (
            claims_with(*[{"missing": "m"}] * 2, GAIN | {"bins": ["har"]}),
            "bins.0: Input should be 'easy', 'medium' or 'hard' (given: 'har')",
        ),
        (claims_with(*[{"missing": "m"}] * 2, GAIN | {"size": "tiny"}), "x', measured, check advantage: size: Input should be 'small'"),
        (claims_with(*[{"missing": "m"}] * 2, GAIN | {"binz": ["hard"]}), "unknown parameter 'binz'; known: method, over, size, bins"),
        (
            claims_with(*[{"missing": "m"}] * 2, {"check": "small_over_large", "ratio": 10, "of": "tokens"}),
            "of: Input should be 'parameters' or 'flops' (given: 'tokens')",
        ),
        (
            claims_with(*[{"missing": "m"}] * 2, GAIN | {"check": "interaction", "first": {"bin": ["hard"]}, "second": {}}),
            "check interaction: unknown parameter 'first.bin'",
        ),
        (
            claims_with({"check": "table3", "first": "o2", "second": "o1", "column": "MATH-500"}),
            "claim 'x', published, check table3: table3 has no 'o2'; it has ",
        ),
        (claims_with({"check": "table3", "first": "o1", "second": "GPT-4o", "column": "AIME25"}), "no 'AIME25'; it has MATH-500, AIME24"),
        (claims_with({"check": "table5_all", "first": "tts", "second": "majority"}), "no 'tts'; it has cot, majority, compute_optimal_tts"),
        (claims_with({"check": "relative_gain", "first": "x", "second": "y"}), "published, check relative_gain: table5 has no 'x'"),
        (claims_with({"missing": "m"}, {"check": "gsm8k", "first": "6B", "second": "70B"}), "the released table has no '70B'; it has 6B"),
        (claims_with({"check": "table3", "first": "o1", "second": "o1", "column": "AIME24"}), "first and second are both 'o1'"),
        (claims_with(*[{"missing": "m"}] * 2, GAIN | {"over": "dvts"}), "method and over are both 'dvts'"),
        (claims_with(*[{"missing": "m"}] * 2, GAIN | {"over": "dvtz"}), "over: unknown method 'dvtz'; choose from"),
        (
            claims_with(
                *[{"missing": "m"}] * 2, GAIN | {"check": "interaction", "first": {"bins": ["hard"]}, "second": {"bins": ["hard"]}}
            ),
            "first and second are both {'bins': ['hard']}",
        ),
        (
            claims_with(*[{"missing": "m"}] * 2, {"check": "mostly_solved", "pass_at_1": 80, "above": 0.5}),
            "x', measured, check mostly_solved: pass_at_1: Input should be less than 1 (given: 80)",
        ),
        (claims_with(*[{"missing": "m"}] * 2, {"check": "small_over_large", "ratio": -1}), "ratio: Input should be greater than 1"),
        (
            claims_with(*[{"missing": "m"}] * 2, {"check": "voting", "first": {}, "second": {"aggregate": "min", "vote": "max"}}),
            "first: give aggregate and vote of one of the rules min+max",
        ),
        (
            {"scopes": {"x": yaml.safe_load(findings.CLAIMS.read_text())["scopes"]["laptop"] | {"weak_prms": ["b"]}}},
            "scope 'x': weak_prms holds b, which is not among its prms: laptop-prm",
        ),
        (
            {"scopes": {"x": yaml.safe_load(findings.CLAIMS.read_text())["scopes"]["laptop"] | {"searchers": ["b"]}}},
            "scope 'x': searchers holds b, which is not among its policies: laptop-policy",
        ),
        ({"level": 95}, "level: Input should be less than 1"),
        ({"scopes": {"this run": yaml.safe_load(findings.CLAIMS.read_text())["scopes"]["laptop"]}}, "this run has another meaning"),
        ({"scopes": {"x": yaml.safe_load(findings.CLAIMS.read_text())["scopes"]["laptop"] | {"prms": ["a", "a"]}}}, "name each once"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_claims_file_says_where(tmp_path, change, message):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(findings.CLAIMS.read_text()) | change))
    with pytest.raises(findings.ClaimsError, match=re.escape(message)):
        findings.read(path)


def test_a_missing_or_broken_claims_file_is_named(tmp_path):
    with pytest.raises(findings.ClaimsError, match="no claims file"):
        findings.read(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("claims: [")
    with pytest.raises(findings.ClaimsError, match="broken.yaml is not a claims file"):
        findings.read(tmp_path / "broken.yaml")
