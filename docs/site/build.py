"""The static site: executed notebooks, docs, API reference and gallery, readable offline and without running anything.

``python docs/site/build.py --study figures/pocket --output _site`` lays the sources out as in the checkout, so that links between pages
are the same here and on the site, builds them by Sphinx with warnings as errors, and checks every page (``check.py``).
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import check

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"\]\(((?:\.\./)*)tts/([\w/]+)\.py\)")  # a link to a module's file, which is its page of the API reference here
TEMPLATE = re.compile(r"\]\((\w+\.ipynb)")  # a link of a template of a notebook, which holds once the template is copied to notebooks
REPOSITORY = re.compile(r"^.*\]\(\.\./\.\./.*\n+", re.MULTILINE)  # lines of the README that link to pages of its repository on GitHub
LEFT_OUT = (".*", "__pycache__", "site", "runs", "training", "cache", "*.safetensors")
WIDGET = "application/vnd.jupyter.widget-view+json"


def lay_out(study: Path, source: Path) -> None:
    """The checkout's pages, with the notebooks that the study executed in the place of those without outputs.

    Raises:
        ValueError: A notebook of the study holds an error, or is not in the checkout.
    """
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("docs", "notebooks", "figures/gallery", "data"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / page, source / page)
    for path in sorted((study / "notebooks").glob("*.ipynb")):
        if not (source / "notebooks" / path.name).exists():
            raise ValueError(f"{path} is of no notebook in the checkout; remove it, or run the study anew")
        (source / "notebooks" / path.name).write_text(json.dumps(readable(json.loads(path.read_text()), path)))
    readme = source / "README.md"
    readme.write_text(REPOSITORY.sub("", readme.read_text()))
    for path in [*source.rglob("*.md"), *source.rglob("*.ipynb")]:
        path.write_text(CODE.sub(_reference, path.read_text()))
    for path in (source / "docs" / "examples").glob("*.ipynb"):
        path.write_text(TEMPLATE.sub(r"](../../notebooks/\1", path.read_text()))
    shutil.copy(ROOT / "docs" / "site" / "index.md", source)
    (source / "gallery.md").write_text(gallery(study, source / "figures" / "study"))


def _reference(link: re.Match[str]) -> str:
    return f"]({link[1]}api/{'.'.join(['tts', *link[2].removesuffix('__init__').strip('/').split('/')])}.rst)"


def readable(notebook: dict, path: Path) -> dict:
    """An executed notebook without warnings; of widgets, which need a kernel, only the HTML that stands for them, if there is any."""
    for cell in notebook["cells"]:
        outputs = cell.get("outputs", [])
        if any(output["output_type"] == "error" for output in outputs):
            raise ValueError(f"{path} holds an error; run the study anew")
        if outputs:
            left = [o for o in outputs if o.get("name") != "stderr"]
            cell["outputs"] = [o for o in left if o.get("data", {}).pop(WIDGET, None) is None or "text/html" in o["data"]]
    notebook["metadata"].pop("widgets", None)
    return notebook


def gallery(study: Path, copies: Path) -> str:
    """A page with every figure of the study: its caption, its files, and the line that redraws it."""
    copies.mkdir(parents=True)
    index = "The [index](figures/gallery/README.md) has their notebooks and the columns of their CSV."
    parts = ["# Gallery", "For those who want a figure in a report.", f"Every figure of the executed study. {index}"]
    for image in sorted(study.glob("*.png")):
        name = image.stem
        files = [path for path in (image.with_suffix(end) for end in (".pdf", ".csv", ".json", ".txt")) if path.exists()]
        for path in (image, *files):
            shutil.copy(path, copies)
        caption = image.with_suffix(".txt")
        links = " · ".join(f"[{path.suffix[1:].upper()}](figures/study/{path.name})" for path in files)
        told = [re.sub(r"([\\`*_$\[<])", r"\\\1", caption.read_text())] if caption.exists() else []
        parts += [f"## {name}", *told, f"![{name}](figures/study/{image.name})"]
        parts += [f"{links} · redraw it: `python -m tts figure {name}`"]
    return "\n\n".join(parts) + "\n"


def expected(source: Path) -> list[str]:
    """The pages that a site must have: of each page and notebook of the checkout, and of each public module."""
    pages = [path.relative_to(source).with_suffix(".html") for end in ("*.md", "*.ipynb") for path in source.rglob(end)]
    modules = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "tts").rglob("*.py") if not path.stem.startswith("_")]
    return [str(page) for page in pages] + [f"api/{'.'.join(module.parts)}.html" for module in modules]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, default=ROOT / "figures" / "pocket", help="figures' folder of a run of preset pocket")
    parser.add_argument("--output", type=Path, default=ROOT / "_site", help="folder of the site")
    options = parser.parse_args()
    if not list((options.study / "notebooks").glob("*.ipynb")):
        sys.exit(f"error: {options.study / 'notebooks'} holds no executed notebooks; run `make reproduce` first")
    from sphinx.cmd.build import build_main

    source, pages = options.output / "source", options.output / "html"
    try:
        lay_out(options.study, source)
    except ValueError as error:
        sys.exit(f"error: {error}")
    shutil.rmtree(pages, ignore_errors=True)
    conf, parsed = str(Path(__file__).parent), str(options.output / "doctrees")
    if status := build_main(["-qEW", "-j", "2", "-b", "html", "-c", conf, "-d", parsed, str(source), str(pages)]):
        sys.exit(status)
    found = check.faults(pages, expected(source))
    count, size = len(list(pages.rglob("*.html"))), sum(path.stat().st_size for path in pages.rglob("*") if path.is_file())
    print(*found, f"{count} pages, {size / 1e6:.0f} MB, {len(found)} faults: {pages / 'index.html'}", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
