"""The site's parts that need no Sphinx: its contents, the sources' links, how notebooks are laid out, and the check of built pages."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "site"
sys.path.insert(0, str(SITE))

import build  # noqa: E402
import check  # noqa: E402

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md", *(ROOT / "figures" / "gallery").glob("*.md")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MADE = {"gallery", "api/modules"}  # pages that the build writes


def text_of(page: Path) -> str:
    """A page's Markdown, without code blocks."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_contents_list_every_page_once():
    entries = re.findall(
        r"^(?!:)[\w/*]+$", "\n".join(re.findall(r"\{toctree\}(.*?)```", (SITE / "index.md").read_text(), re.DOTALL)), re.MULTILINE
    )
    listed = [entry for entry in entries if "*" not in entry]
    assert len(set(entries)) == len(entries) and {"notebooks/*", "docs/examples/*"} <= set(entries)
    laid_out = {str(page.relative_to(ROOT).with_suffix("")) for page in PAGES}
    assert set(listed) == laid_out | MADE


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_the_sources_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?", text_of(page)):
        if page == ROOT / "README.md" and re.match(r"\.\./\.\./(actions|deployments)/", link):  # of its repository on GitHub
            link = link.replace("../../actions", ".github").removesuffix("/badge.svg").replace("../../deployments/github-pages", "")
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}#{anchor}"


def test_every_doc_stands_behind_a_door_and_says_for_whom_it_is():
    doors = (ROOT / "docs" / "README.md").read_text()
    linked = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)#]+)", doors)}
    docs = set((ROOT / "docs").glob("*.md"))
    assert docs - linked == {ROOT / "docs" / "README.md"}
    assert [page.name for page in docs if not re.match(r"# .+\n\nFor [^\n]+\.\n", page.read_text())] == []


def test_the_configuration_loads_nothing_from_elsewhere():
    settings = runpy.run_path(str(SITE / "conf.py"))
    assert settings["nb_ipywidgets_js"] == {} and settings["nb_execution_mode"] == "off"
    assert settings["html_math_renderer"] == "mathml" and not any("mathjax" in name for name in settings["extensions"])


def output(kind: str, **fields) -> dict:
    return {"output_type": kind, **fields}


def notebook(*outputs: dict) -> dict:
    return {"cells": [{"cell_type": "code", "source": "1", "outputs": list(outputs)}], "metadata": {"widgets": {"state": {}}}}


def test_executed_notebooks_keep_what_can_be_read():
    kept = [output("stream", name="stdout", text="ok"), output("display_data", data={"image/png": "…"})]
    static = output("display_data", data={build.WIDGET: {}, "text/plain": "VBox", "text/html": "<p>a search</p>"})
    dropped = [output("stream", name="stderr", text="findfont"), output("display_data", data={build.WIDGET: {}, "text/plain": "VBox"})]
    readable = build.readable(notebook(*kept, *dropped, static), Path("01.ipynb"))
    without = output("display_data", data={"text/plain": "VBox", "text/html": "<p>a search</p>"})
    assert readable["cells"][0]["outputs"] == [*kept, without] and readable["metadata"] == {}
    with pytest.raises(ValueError, match="01.ipynb holds an error"):
        build.readable(notebook(output("error", ename="KeyError")), Path("01.ipynb"))


def test_pages_are_laid_out_with_the_studys_notebooks_and_figures(tmp_path):
    study, source = tmp_path / "study", tmp_path / "source"
    (study / "notebooks").mkdir(parents=True)
    (study / "notebooks" / "09_findings.ipynb").write_text(json.dumps(notebook(output("stream", name="stdout", text="of this run"))))
    for name, text in (("rules.png", "p"), ("rules.csv", "c"), ("rules.txt", "Best_of $N$.")):
        (study / name).write_text(text)
    build.lay_out(study, source)
    assert "of this run" in (source / "notebooks" / "09_findings.ipynb").read_text()
    readme = (source / "README.md").read_text()
    assert (
        "](../../" in (ROOT / "README.md").read_text()
        and "](../../" not in readme
        and readme.startswith("# ")
        and "\n\nA notebook" in readme
    )
    assert {path.name for path in (source / "notebooks").glob("*.ipynb")} == {path.name for path in NOTEBOOKS}
    gallery = (source / "gallery.md").read_text()
    assert "Best\\_of \\$N\\$.\n\n![rules](figures/study/rules.png)" in gallery and "[CSV](figures/study/rules.csv)" in gallery
    assert "`python -m tts figure rules`" in gallery and (source / "figures" / "study" / "rules.csv").read_text() == "c"
    assert {"docs/commands.html", "README.html", "gallery.html", "api/tts.search.dvts.html"} <= set(build.expected(source))
    (study / "notebooks" / "99_gone.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="99_gone.ipynb is of no notebook in the checkout"):
        build.lay_out(study, source)


def test_a_link_of_a_template_leads_to_the_notebooks():
    text = "[a](glossary.ipynb) and [b](https://a.org/c.ipynb)"
    assert build.TEMPLATE.sub(r"](../../notebooks/\1", text) == "[a](../../notebooks/glossary.ipynb) and [b](https://a.org/c.ipynb)"


def test_a_link_to_a_module_leads_to_its_reference():
    text = "[a](../tts/search/dvts.py), [b](tts/policies/__init__.py), [c](../data/README.md)"
    expected = "[a](../api/tts.search.dvts.rst), [b](api/tts.policies.rst), [c](../data/README.md)"
    assert build.CODE.sub(build._reference, text) == expected


def test_the_check_finds_each_fault(tmp_path):
    (tmp_path / "b.html").write_text('<h1 id="top">b</h1><a name="old"></a>')
    (tmp_path / "i.png").write_text("")
    right = ["b.html#top", "b.html#old", "https://a.org", "#a", "i.png"]
    (tmp_path / "a.html").write_text(
        '<h1 id="a">a</h1><img src="i.png"><img src="data:,">' + "".join(f'<a href="{a}">a</a>' for a in right)
    )
    assert check.faults(tmp_path, ["a.html", "b.html"]) == []
    wrong = {
        '<a href="gone.html">x</a>': "no file behind gone.html",
        '<a href="b.html#gone">x</a>': "no anchor behind b.html#gone",
        '<img src="gone.png">': "no file behind gone.png",
        '<script src="//cdn.org/x.js"></script>': "loads //cdn.org/x.js",
        '<link rel="stylesheet" href="https://cdn.org/x.css">': "loads https://cdn.org/x.css",
        '<img src="http://a.org/i.png">': "loads http://a.org/i.png",
        "<style>@font-face { src: url('https://a.org/f.woff') }</style>": "loads https://a.org/f.woff",
    }
    (tmp_path / "a.html").write_text("".join(wrong))
    (tmp_path / "s.css").write_text('@import "//cdn.org/x.css";')
    found = check.faults(tmp_path, ["a.html", "c.html"])
    assert found == ["c.html: no such page", *(f"a.html: {text}" for text in wrong.values()), "s.css: loads //cdn.org/x.css"]
