"""Texts of strangers' models and problems, through whatever shows text: nothing in them is rendered, linked, loaded or obeyed."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from io import BytesIO
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from scripted import ScriptedPolicy, ScriptedPRM, root
from stores import hand_written
from typer.testing import CliRunner

from tts.analysis.search_losses import follow, where_lost
from tts.common.paths import NOTEBOOKS
from tts.generate.grid import Grid
from tts.report import explorer, html
from tts.report.explorer import Explorer, page, tree
from tts.report.search_steps import draw
from tts.search import beam_search
from tts.search.driver import Driver
from tts.strategy import adviser
from tts.study import cli
from tts.study.experiment import Experiment

HOSTILE = [
    "<script>alert('stranger')</script>",
    "<img src=x onerror=alert('stranger')>",
    "</code></td></table><svg/onload=alert('stranger')>",
    "[a link](javascript:alert('stranger')) ![](http://stranger.example/x.png) http://stranger.example",
    "\x1b[31mred\x1b[2J\x1b]0;stranger\x07\x9b31m\x08",
    "$\\stranger{ $$ \\(x\\) $x^2$",
    "{{ 7*7 }}{% stranger %} [bold red]stranger[/bold red]",
    "&lt;b&gt;stranger\u202e&#60;",
]
GRID = Grid(problems={"pocket-main": 1}, policies=["scripted"], methods=["majority"], aggregate="last", vote="max")
INERT = {"table", "caption", "thead", "tbody", "tr", "th", "td", "code", "b", "br", "div", "span", "style", "p"}


class Rendered(HTMLParser):
    """What a browser would make of a page: its elements, and what in them runs, links or loads."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.dangerous = set(), []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            if name.startswith("on") or "stranger" in (value or ""):
                self.dangerous.append((tag, name, value))


def searched(text: str, problem: str):
    """A search whose every step and answer is a text."""
    script = lambda steps, index: (f"\\boxed{{{text}}}", "finished", 1) if steps else (text, "open", 1)  # noqa: E731
    driver = Driver(ScriptedPolicy(script), ScriptedPRM(lambda steps: 0.5), record=True)
    outcome = driver.run([(start := root(), beam_search(start, 4, 2))])[0]
    return outcome, follow(GRID, outcome, problem, "20", "beam_search")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", HOSTILE)
def test_explorer(text):
    outcome, followed = searched(text, text)
    for step in (1, 2):
        shown = Rendered(page(followed, step))
        assert shown.tags <= INERT and not shown.dangerous
    view = Explorer(lambda *asked: followed, [(text, text)], ["beam_search"], followed)
    for shown in map(Rendered, (view.verdict.value, view.table.value, view._repr_mimebundle_()["text/html"])):
        assert shown.tags <= INERT | {"details", "summary", "img"} and not shown.dangerous
    assert followed.given == text.strip() or followed.given is None


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    "text", [text if "$" in text or "\x1b" in text else pytest.param(text, marks=pytest.mark.torture) for text in HOSTILE]
)
def test_drawings(text):
    """Only formulas and characters without a shape mean anything to them."""
    followed = searched(text, text)[1]
    assert all(tree(followed, step).startswith(b"\x89PNG") for step in (1, 2))
    draw(followed.steps, f"{text} by beam search").savefig(BytesIO(), format="png")


@pytest.mark.parametrize("text", HOSTILE)
def test_tables(text):
    outcome, followed = searched(text, text)
    table = where_lost([followed])
    for shown in (Rendered(table._repr_html_()), Rendered(explorer.coloured([text], [0.5], 0.6, 0, text).data)):
        assert shown.tags <= INERT and not shown.dangerous


@pytest.mark.parametrize("text", HOSTILE)
def test_problems_in_full(text, tiny_lm, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    results = hand_written(tiny_lm, tmp_path, step=text)
    Experiment(results.store.folder, **results.grid.model_dump()).show_problems()
    assert len(shown) == 2 and all(
        Rendered(bundle["text/html"]).tags <= INERT and not Rendered(bundle["text/html"]).dangerous for bundle in shown
    )
    assert all("mathjax_ignore" in bundle["text/html"] for bundle in shown)
    assert all(c.isprintable() or c == "\n" for bundle in shown for c in bundle["text/plain"])


def test_report(tmp_path):
    """Printed, in a table, in an error's traceback, as why a notebook failed, as the page's title, in a file that is no notebook."""
    outputs = []
    for text in HOSTILE:
        outputs.append(new_output("stream", name="stdout", text=f"on {text}\n"))
        outputs.append(new_output("error", ename="ValueError", evalue=text, traceback=[f"\x1b[31mValueError\x1b[39m: {text}"]))
        outputs.append(new_output("execute_result", {"text/plain": text, "text/html": pd.DataFrame({"text": [text]})._repr_html_()}))
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A notebook"), new_code_cell("1", outputs=outputs)]), tmp_path / "a.ipynb")
    before = Rendered(html.build([], {}, tmp_path / "empty.html", "title").read_text())
    failures = {f"0{number}": text for number, text in enumerate(HOSTILE)}
    page = html.build([tmp_path / "a.ipynb"], failures, tmp_path / "report.html", " ".join(HOSTILE)).read_text()
    shown = Rendered(page)
    assert shown.dangerous == before.dangerous == []
    assert shown.tags - before.tags <= INERT | {"pre", "h2", "a", "ol", "ul", "li", "section", "strong", "details", "summary"}
    assert page.count("<script") == (tmp_path / "empty.html").read_text().count("<script")
    assert page.count("did not finish") == len(HOSTILE)


def test_command_line(tmp_path):
    """A model's text reaches a terminal without what would steer it."""
    lines = [
        {"id": f"{text}{number}", "problem": f"{text} {number}", "answer": text, "policy": text, "completions": [{"text": text}]}
        for number, text in enumerate(HOSTILE)
    ]
    path = tmp_path / f"{HOSTILE[4].replace('/', '')}.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, {"problem": HOSTILE[4], "answer": "", "completions": []}])))
    store = str(tmp_path / "runs")
    for command in (["import", str(path), "--store", store], ["export", str(tmp_path / "all.jsonl"), "--store", store]):
        done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
        assert done.exit_code == 0 and all(c.isprintable() or c == "\n" for c in done.output), done.output


@pytest.mark.parametrize("text", HOSTILE)
def test_an_answer_on_a_terminal(text, monkeypatch):
    entry = SimpleNamespace(difficulty="easy", method="dvts", n=4)
    monkeypatch.setattr(adviser, "load", lambda *asked: SimpleNamespace(bought=lambda *budget: ""))
    monkeypatch.setattr(adviser, "solve", lambda *asked: adviser.Solution(text, (text, text), 0.5, entry, 1, 1, None))
    done = CliRunner().invoke(cli.app, ["solve", text, "--policy", "a", "--prm", "b"], catch_exceptions=False)
    assert done.exit_code == 0 and all(c.isprintable() or c == "\n" for c in done.output), done.output
    assert "stranger" in done.output


@pytest.mark.parametrize(
    "text",
    ["costs $5 and $10", "`$a` and `$b`", "```\necho $A $B\n```", "\\$5 left, \\$6 spent", "$ 5 $",
     r"$\text{<script>alert(1)</script>}$",
     r"$\href{javascript:alert(1)}{x}$", "$\\nonsense{$"],
)  # fmt: skip
def test_what_is_no_formula_or_more_than_one_stays(text):
    assert html._FORMULA.sub(html._mathml, text) == text


def test_formulas_are_drawn_without_a_script_from_elsewhere(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("Of $n$ samples\n$$1-\\binom{n}{k}$$ and `code`.")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    page = html.build([tmp_path / "a.ipynb"], {}, tmp_path / "report.html", "t").read_text()
    assert page.count("<math") == 2 and page.count('display="block"') == 1 and "<mi>k</mi>" in page and "$n$" not in page


def test_every_formula_of_the_notebooks_is_one_that_the_report_can_draw():
    """What is not known to it stays as its command, with the backslash."""
    formulas = [
        found
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "markdown"
        for found in html._FORMULA.finditer(cell.source)
        if found[1] or found[2]
    ]
    assert len(formulas) > 40 and not [found[0] for found in formulas if "\\" in html._mathml(found) or "$" in html._mathml(found)]
