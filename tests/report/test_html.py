"""The report's page, made from small notebooks: anchors, headings, tables, figures, links and claims; ``make test-browser`` uses it."""

from __future__ import annotations

import re
from base64 import b64encode
from io import BytesIO

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tts.claims.findings import COLUMNS
from tts.report import html


def png(width: float) -> bytes:
    """A white picture, ``width`` inches wide."""
    Figure(figsize=(width, 1)).savefig(file := BytesIO(), format="png")
    return file.getvalue()


def shown(picture: bytes) -> nbformat.NotebookNode:
    """A cell that displays a picture."""
    return new_code_cell("draw()", outputs=[new_output("display_data", {"image/png": b64encode(picture).decode()})])


def row(claim: str, scope: str, verdict: str, **given: object) -> dict:
    """A ledger's row."""
    named = {"claim": claim, "statement": f"The sentence of {claim}", "reference": "Fig 1", "scope": scope, "verdict": verdict}
    measured = {"estimate": 0.05, "low": 0.01, "high": 0.09, "unit": "points", "bound": "="} if verdict != "not tested" else {}
    return dict.fromkeys(COLUMNS) | named | {"detail": f"detail of {claim} in {scope}"} | measured | given


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of figures with two notebooks, a ledger, and the report of them."""
    folder = tmp_path_factory.mktemp("figures")
    known, captioned = png(1), png(2)
    for name, picture in {"known_figure": known, "captioned": captioned}.items():
        for ending in ("pdf", "csv", "json"):
            (folder / f"{name}.{ending}").write_text("1")
        (folder / f"{name}.png").write_bytes(picture)
    (folder / "known_figure.json").unlink()
    (folder / "captioned.txt").write_text("Accuracy <b>against</b> N.\nN = 4.\n")
    table = pd.DataFrame({"accuracy": [0.5]}, index=["majority"])._repr_html_()
    remote = '<script src="https://example.org/a.js"></script><div id="query">a stranger\'s id</div>' + f'<a href="{"a" * 5000}">bad</a>'
    cells = [
        new_markdown_cell(
            "# First notebook\n[second](02_second.ipynb#A-part), [here](#A-part), [gone](../docs/gone.md), [csv](captioned.csv)"
        ),
        shown(known),
        new_markdown_cell("## A part\n#### Deep\n#### As deep\n## A part"),
        new_code_cell("1", outputs=[new_output("display_data", {"text/html": text}) for text in (table, remote)]),
        new_markdown_cell("## Another\n<div>left open"),
        shown(captioned),
        shown(png(3)),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "01_first.ipynb")
    nbformat.write(new_notebook(cells=[new_markdown_cell("## A part\nof the second")]), folder / "02_second.ipynb")
    rows = [
        row("one", "published", "supported"),
        row("two", "published", "not tested"),
        row(
            "one",
            "pocket",
            "undecided",
            rules=9,
            above=7,
            below=2,
            least=-0.02,
            most=0.08,
            **{"decided above": "", "decided below": "min+max"},
        ),
        row("two", "pocket", "contradicted", estimate=-0.05, low=-0.09, high=-0.01),
        row("one", "laptop", "not tested"),
        row("two", "laptop", "not tested"),
    ]
    pd.DataFrame(rows).to_csv(folder / "ledger.csv", index=False)
    html.build(sorted(folder.glob("*.ipynb")), {}, folder / "report.html", "A title", folder / "ledger.csv")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return BeautifulSoup((folder / "report.html").read_text(), "html.parser")


def test_ids_are_unique_and_everything_that_leads_somewhere_leads_there(folder, page):
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for link in page.find_all("a", href=True):
        assert link["href"][1:] in ids if link["href"].startswith("#") else (folder / link["href"]).exists()
    referred = [
        name for element in page.find_all(True) for a in ("aria-labelledby", "aria-describedby", "for") for name in [element.get(a)]
    ]
    assert {name for name in referred if name} <= set(ids)


def test_contents_have_every_notebook_and_section_with_stable_anchors(page):
    assert [(link["href"], link.get_text()) for link in page.select("nav a")] == [
        ("#claims", "The study's claims"),
        ("#01_first", "First notebook"),
        ("#01_first--a-part", "A part"),
        ("#01_first--a-part-2", "A part"),
        ("#01_first--another", "Another"),
        ("#02_second", "02_second"),
        ("#02_second--a-part", "A part"),
    ]


def test_headings_have_one_first_and_no_gaps(page):
    levels = [(int(heading.name[1]), heading.get_text()) for heading in page.find_all(re.compile("^h[1-6]$"))]
    assert levels == [
        (1, "A title"),
        (2, "The study's claims"),
        (2, "First notebook"),
        (3, "A part"),
        (4, "Deep"),
        (4, "As deep"),
        (3, "A part"),
        (3, "Another"),
        (2, "02_second"),
        (3, "A part"),
    ]


def test_links_between_notebooks_stay_in_the_page_and_those_to_nothing_are_text(page):
    first = page.find("section", id="part-01_first")
    links = {link.get_text(): link["href"] for link in first.find_all("a")}
    assert links["second"] == "#02_second--a-part" and links["here"] == "#01_first--a-part" and links["csv"] == "captioned.csv"
    assert "gone" in first.get_text() and not {"gone", "bad"} & set(links)


def test_figures_have_alternative_text_a_caption_and_their_files(page):
    figures = page.find_all("figure")
    told = [(f.get("id"), f.img["alt"], f.figcaption.contents[0].strip(), [a["href"] for a in f.find_all("a")]) for f in figures]
    assert told == [
        ("figure-known_figure", "known figure: First notebook", "known figure: First notebook",
         ["known_figure.pdf", "known_figure.png", "known_figure.csv"]),
        ("figure-captioned", "captioned: Another", "Accuracy <b>against</b> N.\nN = 4.",
         ["captioned.pdf", "captioned.png", "captioned.csv", "captioned.json"]),
        (None, "Another", "Another", []),
    ]  # fmt: skip


def test_tables_say_what_a_header_heads(page):
    table = page.select_one("#part-01_first table")
    assert [(cell.name, cell.get("scope"), cell.get_text()) for cell in table.find_all(["th", "td"])] == [
        ("td", None, ""), ("th", "col", "accuracy"), ("th", "row", "majority"), ("td", None, "0.5"),
    ]  # fmt: skip


def test_nothing_is_fetched_and_a_tag_left_open_ends_with_its_cell(page):
    assert not page.select('script[src], link, [src^="http"], style[scoped]') and "a stranger's id" in page.get_text()
    assert not page.find(string=re.compile("left open")).find_parent("div").find("figure")
    assert page.select_one("#part-02_second").parent.name == "main"


def test_claims_are_sentences_with_verdicts_by_scope_and_their_names_last(page):
    claims = page.select(".claims > li")
    assert [" ".join(claim.get_text(" ").split()) for claim in claims] == [
        "The sentence of one published supported +5.0 [+1.0, +9.0] pocket undecided +5.0 [+1.0, +9.0] "
        "of 9 rules 7 for it, 2 against (1 decided): -2.0 to +8.0 what was compared "
        "published detail of one in published pocket detail of one in pocket Fig 1 · one",
        "The sentence of two published not tested pocket contradicted -5.0 [-9.0, -1.0] what was compared "
        "published detail of two in published pocket detail of two in pocket Fig 1 · two",
    ]
    counts = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in page.select(".counts tr")]
    assert counts == [
        ["scope", "supported", "contradicted", "undecided", "not tested"],
        ["published", "1", "0", "0", "1"],
        ["pocket", "0", "1", "1", "0"],
    ]
    assert "No outcomes: laptop." in page.get_text()
    assert [button.get_text() for button in page.select(".filter button[aria-pressed=false]")] == [*counts[0][1:], "published", "pocket"]


def test_strangers_texts_in_the_ledger_captions_and_names_are_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>\"'</script>"
    (tmp_path / "a'b.txt").write_text(evil)
    (tmp_path / "a'b.png").write_bytes(picture := png(1))
    nbformat.write(new_notebook(cells=[new_markdown_cell("# `<b>`"), shown(picture)]), tmp_path / "<i>.ipynb")
    claim = row("one", evil, "supported", statement=evil, reference=evil, detail=evil)
    pd.DataFrame([claim, claim | {"scope": "x", "verdict": "not tested"}]).to_csv(tmp_path / "ledger.csv", index=False)
    html.build([tmp_path / "<i>.ipynb"], {evil: evil}, tmp_path / "report.html", evil, tmp_path / "ledger.csv", earlier={evil: evil})
    page = BeautifulSoup((tmp_path / "report.html").read_text(), "html.parser")
    assert len(page.find_all("script")) == 1 and not page.find_all(["b", "i"]) and not page.find_all(onerror=True)
    assert page.get_text().count(evil) == 14  # titles 2, failure 2, earlier 2, counts, button, claim 5, caption
    assert page.select_one("figcaption a")["href"] == "a%27b.png"


def test_of_two_equal_pictures_neither_is_captioned_and_a_damaged_ledger_is_left_out(tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.png").write_bytes(png(1))
        (tmp_path / f"{name}.txt").write_text(f"The caption of {name}.")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Only"), shown(png(1))]), tmp_path / "01_only.ipynb")
    for damaged in ("", "a,b\n1,2\n"):
        (tmp_path / "ledger.csv").write_text(damaged)
        page = html.build([tmp_path / "01_only.ipynb"], {}, tmp_path / "report.html", "title", tmp_path / "ledger.csv").read_text()
        assert "its ledger.csv cannot be read; run it again" in page
        assert "The caption of" not in page and 'class="claims"' not in page and "Only" in page
