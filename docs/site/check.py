"""Checks a built site: nothing from elsewhere is loaded, every link and image leads somewhere, no page is missing."""

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, without a click.
LOADS = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src", "object": "data", "video": "src", "audio": "src"}
REMOTE_STYLE = re.compile(r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s;]+)""")


class Page(HTMLParser):
    """The links, anchors and styles of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, bool]] = []  # target, and whether a browser loads it by itself
        self.anchors: set[str] = set()
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if link := values.get(LOADS.get(tag, "href")):
            self.links.append((link, tag in LOADS))
        self.anchors |= {values.get("id", ""), values.get("name", "") if tag == "a" else ""}
        self.styles.append(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.styles.append(data)


def faults(site: Path, expected: Iterable[str]) -> list[str]:
    """What is wrong with a site, a line each.

    Args:
        site: Folder of the pages.
        expected: Pages that must be there, relative to ``site``.
    """
    found = [f"{name}: no such page" for name in expected if not (site / name).is_file()]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    styles = {path.resolve(): [path.read_text(encoding="utf-8")] for path in sorted(site.rglob("*.css"))}
    for path, page in pages.items():
        wrong = [why for link, loaded in page.links if (why := _wrong(link, loaded, path, pages))]
        found += [f"{path.relative_to(site.resolve())}: {why}" for why in wrong]
    for path, texts in ({path: page.styles for path, page in pages.items()} | styles).items():
        remote = [link for text in texts for link in REMOTE_STYLE.findall(text)]
        found += [f"{path.relative_to(site.resolve())}: loads {link}" for link in remote]
    return found


def _wrong(link: str, loaded: bool, path: Path, pages: dict[Path, Page]) -> str | None:
    """Why a link of the page at ``path`` does not serve, if so."""
    parts = urlsplit(link)
    if parts.scheme == "data":
        return None
    if parts.scheme or parts.netloc:
        return f"loads {link}" if loaded else None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return f"no file behind {link}"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"no anchor behind {link}"
    return None
