"""One HTML file from executed notebooks, which opens offline: no scripts, fonts or styles from elsewhere."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

_REMOTE = re.compile(r'<script[^>]*\bsrc="https?://[^>]*></script>|<link[^>]*href="https?://[^>]*>')


def build(executed: list[Path], failures: dict[str, str], target: Path, title: str) -> Path:
    """Binds executed notebooks into one page, code folded away, failures named at the top.

    Args:
        executed: notebooks with outputs, in order.
        failures: per notebook that failed, why.
        target: the HTML file.
        title: of the page.
    """
    opening = [f"# {title}", *(f"- **{name} did not finish**: {escape(reason)}" for name, reason in failures.items())]
    bound = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("\n".join(opening))])
    for path in executed:
        for cell in nbformat.read(path, as_version=4).cells:
            bound.cells.append(_without_noise(cell, f"cell-{len(bound.cells)}"))
    bound.metadata["title"] = title
    exporter = HTMLExporter(template_name="classic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.mathjax_url = exporter.require_js_url = exporter.jquery_url = ""
    page, _ = exporter.from_notebook_node(bound)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_REMOTE.sub("", page), encoding="utf-8")
    return target


def _without_noise(cell: nbformat.NotebookNode, identity: str) -> nbformat.NotebookNode:
    """Progress bars and warnings go to stderr; a report does not need them. A widget needs a kernel, which a report has not."""
    if cell.cell_type == "code":
        cell.outputs = [
            o
            for o in cell.outputs
            if not (o.output_type == "stream" and o.name == "stderr")
            and "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
        ]
    cell["id"] = identity
    return cell
