"""One HTML file from executed notebooks, which opens offline: no scripts, fonts or styles from elsewhere."""

import re
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

from tts.common import quick_imports  # noqa: F401

# isort: split
import nbformat
import pandas as pd
from latex2mathml.converter import convert
from nbconvert import HTMLExporter

from tts.analysis import provenance
from tts.analysis.accuracy import Results
from tts.claims import findings
from tts.common.files import write_text
from tts.report.comparison_plots import VERDICT_FIELDS
from tts.store.store import StoreError

_REMOTE = re.compile(r'<script[^>]*\bsrc="https?://[^>]*>\s*</script>|<link[^>]*href="https?://[^>]*>')
_FORMULA = re.compile(r"```.*?```|`[^`\n]*`|(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?=\S)([^$\n]+?)(?<=\S)\$(?!\d)", re.DOTALL)
_WIDGET = "application/vnd.jupyter.widget-view+json"
_STYLE = """<style>
summary { display: list-item; cursor: pointer; color: #888; font-size: 80%; }
table.ledger td { text-align: left; vertical-align: top; }
</style>"""
_FOLDED = """
{%- extends 'classic/index.html.j2' -%}
{% block input %}{% if cell.source %}<details><summary>code</summary>{{ super() }}</details>{% endif %}{% endblock input %}
"""


def build(
    executed: Sequence[Path],
    failures: dict[str, str],  # notebook that failed -> why
    target: Path,
    title: str,
    ledger: Path | None = None,  # the ``ledger.csv`` that a notebook wrote
    results: Sequence[Results] = (),  # those whose runs are listed
    earlier: dict[str, str] | None = None,  # notebook that an earlier run executed -> when
) -> Path:
    """Binds executed notebooks into one page: the ledger on top, the notebooks with their code folded, what ran at the end."""
    failed = "".join(f"<li><strong>{escape(name)} did not finish</strong>: {escape(reason)}</li>" for name, reason in failures.items())
    dated = "; ".join(f"{escape(name)} ({escape(when)})" for name, when in (earlier or {}).items())
    older = f"<p>Executed by an earlier run: {dated}.</p>" if dated else ""
    cells = [_html(f"{_STYLE}<h1>{escape(title)}</h1><ul>{failed}</ul>{older}")]  # no Markdown: a reason's would be rendered
    if ledger and ledger.exists():
        cells += [nbformat.v4.new_markdown_cell("# The study's claims"), _html(_ledger(pd.read_csv(ledger)))]
    for path in executed:
        cells += _cells(path)
    if results:
        cells += [nbformat.v4.new_markdown_cell("# What ran"), _html(_what_ran(results))]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    bound = nbformat.v4.new_notebook(cells=cells, metadata={"title": title})
    exporter = HTMLExporter(template_name="classic", raw_template=_FOLDED, exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_notebook_node(bound)
    write_text(target, _REMOTE.sub("", page))
    return target


def _cells(path: Path) -> list[nbformat.NotebookNode]:
    """A notebook's cells without progress bars, warnings, and widgets, which need a kernel; a word where it was cut off."""
    try:
        cells = nbformat.read(path, as_version=4).cells
    except (ValueError, OSError):
        return [nbformat.v4.new_markdown_cell(f"# {path.stem}\nIt was cut off while it was written; nothing of it can be shown.")]
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = _FORMULA.sub(_mathml, cell.source)
        elif cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and _WIDGET not in o.get("data", {})]
    return cells


def _mathml(formula: re.Match[str]) -> str:
    """A formula by Pandoc's rule, as browsers draw it by themselves, where MathJax would have to be fetched; code stays as it is."""
    with suppress(Exception):  # whatever a reader's notebook has between two dollars
        drawn = convert(formula[1] or formula[2], display="block" if formula[1] else "inline")
        if not re.search(r"<(?!/?m)|href|style", drawn):  # neither a script nor a link
            return drawn
    return formula[0]


def _html(text: str) -> nbformat.NotebookNode:
    """A cell that shows HTML and has no code."""
    return nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", {"text/html": text})])


def _ledger(ledger: pd.DataFrame) -> str:
    """The ledger with its verdicts coloured; scopes without any outcome are named below it."""
    untested = [scope for scope, rows in ledger.groupby("scope", sort=False) if (rows["verdict"] == "not tested").all()]
    table = findings.wide(ledger[~ledger["scope"].isin(untested)]).reset_index()
    colour = {verdict: f"background-color: {value}" for verdict, value in VERDICT_FIELDS.items()}
    scopes = list(table.columns[2:-1])
    styled = table.style.hide().map(lambda text: next((c for v, c in colour.items() if text.startswith(v)), ""), subset=scopes)
    note = (
        "Contrast with its 95 % interval, uncorrected; the verdict holds at the 5 % level after Holm's correction within the scope. "
        "When each contrast was fixed stands in ledger.csv, and what was known by then in notebooks/claims.yaml."
    )
    missing = f"<p>No outcomes: {escape(', '.join(untested))}.</p>" if untested else ""
    return f"<p>{escape(note)}</p>" + styled.format(escape="html").set_table_attributes('class="ledger"').to_html() + missing


def _what_ran(results: Sequence[Results]) -> str:
    try:
        held = provenance.runs(results)
    except StoreError as error:
        return f"<p>What ran cannot be listed: {escape(str(error))}</p>"
    page = f"<p>{escape(provenance.environment())}</p><p>{escape(provenance.total(held))}</p>"
    for name, table in (("models", provenance.models(results)), ("runs", held)):
        shown = table.to_html(index=False, formatters={"FLOPs": "{:.2e}".format, "seconds": "{:.0f}".format}, na_rep="unknown")
        page += f"<details><summary>{name}: {len(table)}</summary>{shown}</details>"
    return page
