"""One HTML page from executed notebooks, which opens offline: no scripts, fonts or styles from elsewhere.

nbconvert renders the cells, :class:`_Page` fits them into one page, and ``page.html.j2`` shows it, with ``page.css`` and ``page.js``.
"""

import itertools
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tts.common import quick_imports  # noqa: F401

# isort: split
import jinja2
import nbformat
import pandas as pd
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert import HTMLExporter

from tts.analysis import provenance
from tts.analysis.accuracy import Results
from tts.claims import wording
from tts.common.files import write_text
from tts.report.comparison_plots import VERDICT_FIELDS
from tts.store.store import StoreError

_FORMULA = re.compile(r"```.*?```|`[^`\n]*`|(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?=\S)([^$\n]+?)(?<=\S)\$(?!\d)", re.DOTALL)
_WIDGET = "application/vnd.jupyter.widget-view+json"
_NO_ALT = "No description has been provided for this image"  # nbconvert's word for it
_HERE = Path(__file__).parent
_TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE), autoescape=True)
_WITHOUT = dict.fromkeys(("exclude_input_prompt", "exclude_output_prompt", "exclude_anchor_links"), True)
_EXPORTER = HTMLExporter(template_name="classic", raw_template=(_HERE / "cells.html.j2").read_text(encoding="utf-8"), **_WITHOUT)
_OWN_IDS = {"top", "text", "query", "matches", "theme", "fold", "claims", "shown", "large", "large-caption", "large-files"}  # templates'


def build(
    executed: Sequence[Path],
    failures: dict[str, str],  # notebook that failed -> why
    target: Path,
    title: str,
    ledger: Path | None = None,  # the ``ledger.csv`` that a notebook wrote
    results: Sequence[Results] = (),  # those whose runs are listed
    earlier: dict[str, str] | None = None,  # notebook that an earlier run executed -> when
) -> Path:
    """Binds executed notebooks into one page: the ledger on top, the notebooks with their code folded, what ran at the end.

    A picture that is the same as a PNG beside ``target`` is captioned by the text file of that name, and links to its other files.
    """
    page = _Page(target.parent)
    claims = {}
    if ledger and ledger.exists():
        try:
            claims = _claims(pd.read_csv(ledger))
        except (KeyError, ValueError):  # it is damaged, or another's
            failures = failures | {"09_findings": f"its {ledger.name} cannot be read; run it again"}
    for path in executed:
        page.add(path.stem, _cells(path))
    if results:
        page.add("what-ran", [f"<h1>What ran</h1>{_what_ran(results)}"])
    parts = [{"id": "claims", "title": "The study's claims"}] * bool(claims) + page.linked()
    given = {"title": title, "failures": failures, "earlier": earlier, "parts": parts, "colours": VERDICT_FIELDS}
    write_text(target, _TEMPLATES.get_template("page.html.j2").render(given | claims))
    return target


def _cells(path: Path) -> list[str]:
    """A notebook's cells as HTML, without progress bars and warnings, and of widgets what needs no kernel; a word where it was cut off."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, OSError):
        return [f"<h1>{escape(path.stem)}</h1><p>It was cut off while it was written; nothing of it can be shown.</p>"]
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _FORMULA.sub(_mathml, cell.source)
        elif cell.cell_type == "code":
            left = [o for o in cell.outputs if o.get("name") != "stderr"]
            cell.outputs = [o for o in left if o.get("data", {}).pop(_WIDGET, None) is None or "text/html" in o["data"]]
    page, _ = _EXPORTER.from_notebook_node(notebook)
    return [f"<h1>{escape(path.stem)}</h1>"] * ("<h1" not in page) + page.split("<!--end of cell-->")


def _mathml(formula: re.Match[str]) -> str:
    """A formula by Pandoc's rule, as browsers draw it by themselves, where MathJax would have to be fetched; code stays as it is."""
    with suppress(Exception):  # whatever a reader's notebook has between two dollars
        drawn = convert(formula[1] or formula[2], display="block" if formula[1] else "inline")
        if not re.search(r"<(?!/?m)|href|style", drawn):  # neither a script nor a link
            return drawn
    return formula[0]


class _Page:
    """Notebooks as parts of one page, which lies in a folder beside the files of its figures."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.parts: list[dict[str, Any]] = []
        self.taken = set(_OWN_IDS)
        self.anchors: dict[tuple[str, str], str] = {}  # notebook, and a heading as Jupyter links to it or "" -> the id here
        names: dict[str, list[str]] = {}
        for path in sorted(folder.glob("*.png")):
            names.setdefault(b64encode(path.read_bytes()).decode(), []).append(path.stem)
        self.pictures = {picture: of[0] for picture, of in names.items() if len(of) == 1}  # of two equal ones nothing tells which it is

    def add(self, name: str, cells: list[str]) -> None:
        """Adds a notebook by its name and its cells as HTML.

        Its headings come one level down, without gaps, and of the first two levels into the contents; ids become unique, header cells
        say what they head, pictures become figures, and nothing is left that would be fetched.
        """
        part: dict[str, Any] = {"id": self._id(name), "name": name, "title": "", "headings": [], "sections": []}
        self.anchors[name, ""] = part["id"]
        heading, levels = name, list[int]()  # of the headings above
        for soup in (BeautifulSoup(cell, "html.parser") for cell in cells):  # each alone: what it leaves open ends with it
            begins = not part["sections"]
            for corner in soup.select("th:empty"):  # it heads nothing
                corner.name = "td"
            for left_out in soup.select("script[src], link, style[scoped]"):  # fetched, or of a data frame, which has the page's style
                left_out.decompose()
            for element in soup.find_all(True):
                kind, old = element.name, element.get("id", "")
                if re.fullmatch("h[1-6]", kind):
                    heading, level = element.get_text(" ", strip=True), int(kind[1])
                    levels = [*(above for above in levels if above < level), level]
                    element.name = f"h{min(len(levels) + 1, 6)}"
                    element["id"] = self._id(f"{part['id']}--{heading}") if part["title"] else part["id"]
                    self.anchors.setdefault((name, element.get_text().replace(" ", "-")), element["id"])
                    if part["title"] and level <= 2:
                        part["headings"].append((element["id"], heading))
                        begins = True
                    part["title"] = part["title"] or heading or name
                elif old in self.taken:
                    del element["id"]
                elif old:
                    self.taken.add(old)
                if kind == "img":
                    self._figure(element, heading)
                elif kind == "th":
                    element["scope"] = "col" if element.find_parent("thead") or not element.parent.find("td", recursive=False) else "row"
            part["sections"] += [[]] * begins
            part["sections"][-1].append(soup)
        self.parts.append(part)

    def _figure(self, picture: Tag, heading: str) -> None:
        """Puts a cell's picture into a figure with its caption, and links to its files where they are there; else only describes it."""
        name = self.pictures.get("".join(picture.get("src", "").partition(",")[2].split()), "")
        if picture.get("alt", _NO_ALT) == _NO_ALT:
            picture["alt"] = f"{name.replace('_', ' ')}: {heading}".removeprefix(": ")
        if picture.find_parent(class_="output_subarea"):
            files = [file for ending in ("pdf", "png", "csv", "json") if (file := self.folder / f"{name}.{ending}").exists()]
            told = self.folder / f"{name}.txt"
            caption = told.read_text(encoding="utf-8", errors="replace").strip() if told.exists() else picture["alt"]
            given = {"id": name and self._id(f"figure-{name}"), "picture": picture, "caption": caption, "files": files}
            picture.replace_with(BeautifulSoup(_TEMPLATES.get_template("figure.html.j2").render(given), "html.parser"))

    def _id(self, text: str) -> str:
        """An id that is not taken yet, from a text."""
        plain = re.sub(r"[^\w-]+", "-", text.lower()).strip("-")
        free = next(name for number in itertools.count(1) if (name := plain + f"-{number}" * (number > 1)) not in self.taken)
        self.taken.add(free)
        return free

    def linked(self) -> list[dict[str, Any]]:
        """The parts, their sections as HTML: links to notebooks lead into the page, and none to a file that is not there."""
        for part in self.parts:
            for link in (link for section in part["sections"] for soup in section for link in soup("a", href=True)):
                path, _, anchor = unquote(link["href"]).partition("#")
                name = Path(path).stem if path.endswith(".ipynb") else "" if path else part["name"]
                if inside := self.anchors.get((name, anchor), self.anchors.get((name, ""))):
                    link["href"] = f"#{inside}"
                elif not (re.match(r"[\w+]+:|//", path) or os.path.exists(self.folder / path)):
                    link.unwrap()
            part["sections"] = ["".join(map(str, section)) for section in part["sections"]]
        return self.parts


def _claims(ledger: pd.DataFrame) -> dict[str, Any]:
    """What ``claims.html.j2`` shows: the ledger's rows with their contrasts in words, and the scopes without any outcome."""
    silent = [scope for scope, rows in ledger.groupby("scope", sort=False) if (rows["verdict"] == "not tested").all()]
    rows = ledger[~ledger["scope"].isin(silent)].to_dict("records")
    return {"silent": silent, "rows": [row | {"contrast": wording.formatted(row), "over": wording.over_rules(row)} for row in rows]}


def _what_ran(results: Sequence[Results]) -> str:
    try:
        held = provenance.runs(results)
    except StoreError as error:
        return f"<p>What ran cannot be listed: {escape(str(error))}</p>"
    looks: dict[str, Any] = {"index": False, "formatters": {"FLOPs": "{:.2e}".format, "seconds": "{:.0f}".format}, "na_rep": "unknown"}
    tables = {f"{name}: {len(rows)}": rows.to_html(**looks) for name, rows in (("models", provenance.models(results)), ("runs", held))}
    return _TEMPLATES.get_template("ran.html.j2").render(told=[provenance.environment(), provenance.total(held)], tables=tables)
