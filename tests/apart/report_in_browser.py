"""The study's report in headless Chromium: contents, search, claims, figures, dark mode, keyboard, narrow screens, axe."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ["00_quickstart", "01_tts_methods", "09_findings"]
WORD = "majority"


def made(python: Path, folder: Path) -> Path:
    """A report of a few notebooks of the smoke preset, made as a user makes it."""
    places = ["-p", f"store={folder / 'runs'}", "-p", f"figures={folder / 'report'}"]
    subprocess.run([python, "-m", "tts", "run", *NOTEBOOKS, "--preset", "smoke", *places], cwd=ROOT, check=True)
    return folder / "report" / "report.html"


def check(browser: Browser, report: Path, screenshots: Path) -> None:
    """Walks through a report that has claims; raises where something is not as it should be, and leaves screenshots in a folder."""
    wrong: list[str] = []  # asked for elsewhere, or said by the browser
    expect.set_options(timeout=180_000)
    for width, height in ((1280, 900), (768, 1000), (390, 800)):
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_default_timeout(180_000)
            page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url))
            page.on("console", lambda said: wrong.append(said.text))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(report.as_uri())
            page.screenshot(path=screenshots / f"report-{width}-{scheme}.png")
            fits(page, width)
            if scheme == "light":
                keyboard(page)
                contents(page, width)
                search(page)
                claims(page)
                figures(page, report.parent, width)
            theme(page, scheme)
            if width != 768:  # which is laid out as 390 is
                accessible(page)
            printed(page)
            assert not wrong, wrong
            page.close()
            print(f"the report at {width} pixels, {scheme}: as it should be")
    print(f"the report works: {report}; screenshots: {screenshots / 'report-*.png'}")


def fits(page: Page, width: int) -> None:
    """Nothing makes the page wider than the screen, also with every fold open."""
    page.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"the page scrolls sideways at {width} pixels"
    page.evaluate("document.querySelectorAll('main details').forEach(fold => fold.open = false)")


def keyboard(page: Page) -> None:
    """The first stop of the Tab key leads past the contents, and what has the focus can be told."""
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    expect(skip).to_be_focused()
    assert skip.bounding_box()["x"] >= 0 and skip.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def contents(page: Page, width: int) -> None:
    """Every entry leads to its heading and is then the marked one; the column stays in sight, and folds where the screen is narrow."""
    fold = page.locator("#fold")
    notebooks = page.locator("nav > details > ol > li > a")
    for number in (1, notebooks.count() - 1):
        if width < 1024:
            expect(fold).not_to_have_attribute("open", "")
            fold.locator("summary").click()
        notebooks.nth(number).click()
        heading = page.locator(f"[id='{unquote(notebooks.nth(number).get_attribute('href'))[1:]}']")
        expect(heading).to_be_in_viewport()
        expect(page.locator("nav a[aria-current]")).to_have_text(notebooks.nth(number).inner_text() or heading.inner_text())
        assert page.locator("body > header").bounding_box()["y"] == 0
        assert heading.bounding_box()["y"] >= (0 if width >= 1024 else page.locator("body > header").bounding_box()["height"] - 1)
    if width >= 1024:
        sections = notebooks.nth(1).locator("xpath=..").locator("ol a")
        expect(sections.last).to_be_hidden()
        notebooks.nth(1).click()
        sections.last.click()
        expect(page.locator("nav a[aria-current]")).to_have_text(sections.last.inner_text())
    page.locator(".up").click()
    expect(page.locator("h1")).to_be_in_viewport()


def search(page: Page) -> None:
    """Sections without the word go out of sight; matches are counted, and Enter goes from one to the next."""
    query, told, units = page.locator("#query"), page.locator("#matches"), page.locator(".unit")
    count = page.evaluate(f"[...document.querySelectorAll('.unit')].map(u => u.textContent.toLowerCase().split('{WORD}').length - 1)")
    query.fill(WORD.upper())
    expect(told).to_have_text(re.compile(rf"^{sum(count)} matches in {sum(n > 0 for n in count)} sections"))
    assert units.evaluate_all("units => units.map(unit => unit.checkVisibility())") == [n > 0 for n in count]
    query.press("Enter")
    expect(told).to_have_text(f"match 1 of {sum(count)}")
    query.press("Shift+Enter")
    expect(told).to_have_text(f"match {sum(count)} of {sum(count)}")
    query.fill("no such word")
    expect(told).to_have_text("no match")
    expect(page.locator(".part:visible")).to_have_count(0)
    query.fill("")
    expect(told).to_be_empty()
    expect(page.locator(".unit:visible")).to_have_count(len(count))


def claims(page: Page) -> None:
    """Buttons leave the claims with a verdict in a scope, and pressed again bring the others back."""
    every, shown = page.locator(".claims > li"), page.locator("#shown")
    verdict, scope = (page.locator(f'.filter[data-of="{of}"] button', has_text=re.compile(f"^{name}$"))
                      for of, name in (("verdict", "supported"), ("scope", "published")))  # fmt: skip
    rows = '[data-scope="published"]'
    fitting = every.filter(has=page.locator(f'{rows}[data-verdict="supported"]')).count()
    assert 0 < fitting < every.count()
    for button in (verdict, scope):
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
    expect(shown).to_have_text(f"{fitting} of {every.count()} claims")
    expect(page.locator(f".claims > li:visible {rows}")).to_have_count(fitting)
    expect(page.locator(f".claims [data-scope]:not({rows}):visible")).to_have_count(0)
    for button in (verdict, scope):
        button.click()
    expect(shown).to_have_text(f"{every.count()} claims")
    first = every.first.inner_text().splitlines()
    assert first[0].count(" ") > 4 and first[-1].endswith(every.first.locator(".source code").inner_text()), first


def figures(page: Page, folder: Path, width: int) -> None:
    """Figures open large by the keyboard, lead to their files, and close with Escape."""
    button, dialog = page.locator(".enlarge").first, page.locator("#large")
    small = button.locator("img").bounding_box()["width"]
    button.focus()
    page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    picture = dialog.locator("img")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0") and picture.bounding_box()["width"] > small
    assert dialog.bounding_box()["width"] <= width and picture.get_attribute("alt")
    before = picture.get_attribute("src")
    page.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", before)
    page.keyboard.press("ArrowLeft")
    expect(picture).to_have_attribute("src", before)
    files = [unquote(link.get_attribute("href")) for link in dialog.locator("a").all()]
    assert {Path(name).suffix for name in files} == {".pdf", ".png", ".csv", ".json"} and all((folder / name).exists() for name in files)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def theme(page: Page, scheme: str) -> None:
    """The system's choice, until the reader's, which is kept; figures stay on white."""
    switch = page.locator("#theme")
    bright = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).reduce((sum, part) => sum + +part, 0) > 382"
    assert page.evaluate(bright) == (scheme == "light")
    expect(switch).to_have_attribute("aria-pressed", str(scheme == "dark").lower())
    switch.click()
    assert page.evaluate(bright) == (scheme == "dark")
    assert page.locator("figure img").first.evaluate("image => getComputedStyle(image).backgroundColor") == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(bright) == (scheme == "dark"), "the choice is not kept"
    switch.click()


def accessible(page: Page) -> None:
    """axe finds nothing serious, with every fold and every section open."""
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    page.wait_for_timeout(300)  # what scrolls sideways is made known to the keyboard after it is drawn
    found = Axe().run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, serious


def printed(page: Page) -> None:
    """Paper has the text, dark on white, without what only a screen can use; each notebook begins a page."""
    page.emulate_media(media="print")
    expect(page.locator("body > header")).to_be_hidden()
    expect(page.locator("figure img").first).to_be_visible()
    assert page.locator(".part").nth(1).evaluate("part => getComputedStyle(part).breakBefore") == "page"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
