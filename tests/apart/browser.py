"""``make test-browser``: the report, and the search explorer in a real JupyterLab, in headless Chromium; leaves screenshots.

Runs with any Python that has playwright and axe; JupyterLab and the suite may live in another environment. A copy of the notebook is
served from a temporary folder, where the report is made too, so that nothing in the checkout changes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import report_in_browser
from playwright.sync_api import Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "00_quickstart"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Cells out of sight would otherwise not be in the page; the news pop-up asks the internet.
SETTINGS = {
    "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "config/labconfig/page_config.json": {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jupyter", default="jupyter", help="the jupyter command of the suite's environment")
    parser.add_argument("--chromium", default="", help=f"the browser; found by its name if not given: {', '.join(BROWSERS)}")
    parser.add_argument("--screenshot", type=Path, default=ROOT / "figures" / "explorer.png", help="where to put the picture")
    parser.add_argument("--report", type=Path, help="check this report alone, which has claims; by default one is made")
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, [given.chromium] if given.chromium else BROWSERS)), None)
    jupyter = shutil.which(given.jupyter)
    if chromium is None:
        wanted = given.chromium or ", ".join(BROWSERS)
        sys.exit(f"error: no browser found ({wanted}); on Debian: apt-get install chromium, or say CHROMIUM=/path/to/chromium")
    if jupyter is None:
        sys.exit(f"error: no command '{given.jupyter}'; give the suite's jupyter with --jupyter, say .venv/bin/jupyter")
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    given.screenshot.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = given.report or report_in_browser.made(Path(jupyter).absolute().with_name("python"), Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        report_in_browser.check(browser, report.resolve(), given.screenshot.parent)
        browser.close()
    if given.report:
        return
    with tempfile.TemporaryDirectory() as folder:
        server, base = serve(jupyter, Path(folder))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=flags)
                page = browser.new_page(viewport={"width": 1500, "height": 1300})
                page.set_default_timeout(60_000)
                expect.set_options(timeout=60_000)
                try:
                    check(page, base, given.screenshot)
                except BaseException:
                    page.screenshot(path=given.screenshot)
                    print(f"failed; the page as it was: {given.screenshot}", file=sys.stderr)
                    raise
                finally:
                    browser.close()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def serve(jupyter: str, folder: Path) -> tuple[subprocess.Popen, str]:
    """Starts JupyterLab on a copy of the notebook, with settings of its own; its process and the notebook's address."""
    (folder / "notebooks").mkdir()
    source = (ROOT / "notebooks" / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8").replace("../figures", str(folder / "figures"))
    (folder / "notebooks" / f"{NOTEBOOK}.ipynb").write_text(source, encoding="utf-8")
    for name, content in SETTINGS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(json.dumps(content))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, base = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    own = {
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        "HF_HUB_OFFLINE": "1",
    }
    root = ["--allow-root"] if os.getuid() == 0 else []
    command = [jupyter, "lab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", *root]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={folder / 'notebooks'}"],
            env=os.environ | {name: str(value) for name, value in own.items()},
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{base}/api", timeout=5)
            return server, f"{base}/lab/tree/{NOTEBOOK}.ipynb?token={token}"
        except (urllib.error.URLError, OSError):
            if server.poll() is not None:
                break
            time.sleep(0.5)
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
    sys.exit("error: JupyterLab did not start:\n" + (folder / "server.log").read_text()[-3000:])


def check(page: Page, address: str, screenshot: Path) -> None:
    """Runs the notebook and clicks through the view; raises where something is not as it should be."""
    elsewhere: list[str] = []
    local = address[: address.index("/lab")]
    page.on("request", lambda r: r.url.startswith((local, local.replace("http", "ws"), "data:", "blob:")) or elsewhere.append(r.url))
    run_all(page, address)

    view = page.locator(".jp-OutputArea-output .widget-vbox").first
    problem, method = menu(view, "problem"), menu(view, "method")
    verdict, table = view.locator(".widget-html-content").nth(0), view.locator(".widget-html-content").nth(1)
    step = view.locator(".widget-slider .widget-readout")
    expect(table.locator("tr").nth(1)).to_be_visible()
    assert view.locator("img").evaluate("i => i.complete && i.naturalWidth > 200"), "the tree is not drawn"
    view.scroll_into_view_if_needed()

    shown = state(view)
    print("at first:", verdict.inner_text())
    method.select_option("Beam search")
    shown = changed(view, shown, "another method")
    print("beam search:", verdict.inner_text())
    for number in range(1, problem.locator("option").count()):
        problem.select_option(index=number)
        shown = changed(view, shown, "another problem")
        if "pruned at step" in verdict.inner_text():
            break
    else:
        raise AssertionError("beam search pruned the right answer of none of the problems; choose others in the notebook")
    print("another problem:", problem.locator("option:checked").inner_text(), "-", verdict.inner_text())

    expect(step).to_have_text("1")
    first = table.inner_text()
    write(step, "2")
    expect(step).to_have_text("2")
    shown = changed(view, shown, "a step on")
    write(step, "1")
    expect(step).to_have_text("1")
    shown = changed(view, shown, "a step back")
    assert table.inner_text() == first, "the table is not that of step 1 again"
    drag_to_end(page, view)
    expect(table).to_contain_text("finished")
    shown = changed(view, shown, "the slider's end")
    button(view, "where it was lost").click()
    expect(step).to_have_text(re.search(r"at step (\d+)", verdict.inner_text())[1])
    changed(view, shown, "where it was lost")
    expect(table.get_by_text("the last right step").first).to_be_visible()

    screenshot.parent.mkdir(parents=True, exist_ok=True)
    view.scroll_into_view_if_needed()
    view.screenshot(path=screenshot)
    assert not elsewhere, f"the page asked for {elsewhere}"
    print(f"the explorer works; screenshot: {screenshot}")


def run_all(page: Page, address: str) -> None:
    """Opens the notebook, runs all its cells and waits for the last one; raises where a cell failed."""
    page.goto(address)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    started, last = time.perf_counter(), page.locator(".jp-CodeCell .jp-InputArea-prompt").last
    failed = page.locator('[data-mime-type="application/vnd.jupyter.error"]')
    while not (failed.count() or re.fullmatch(r"\[\d+\]:?", last.inner_text().strip())):
        if time.perf_counter() - started > 300:
            raise AssertionError("the notebook did not end within five minutes")
        page.wait_for_timeout(500)
    assert not failed.count(), "a cell failed:\n" + failed.first.inner_text()
    print(f"{NOTEBOOK} ran in {time.perf_counter() - started:.0f} seconds")


def menu(view: Locator, name: str) -> Locator:
    return view.locator(".widget-dropdown", has_text=re.compile(f"^{name}")).locator("select")


def button(view: Locator, name: str) -> Locator:
    """By its text: the icon's glyph belongs to its accessible name."""
    return view.locator("button.widget-button", has_text=re.compile(rf"^\s*{name}\s*$"))


def write(readout: Locator, value: str) -> None:
    """Into the number beside a slider, which moves it."""
    readout.fill(value)
    readout.press("Enter")


def drag_to_end(page: Page, view: Locator) -> None:
    """With the mouse: the End key goes by the range that the slider was made with."""
    handle, slider = view.locator(".noUi-handle").bounding_box(), view.locator(".noUi-target").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] + 20, handle["y"] + handle["height"] / 2, steps=5)
    page.mouse.up()


def state(view: Locator) -> tuple[str, str, str]:
    """What the view shows: verdict, table and tree."""
    verdict, table = view.locator(".widget-html-content").all_inner_texts()
    return verdict, table, view.locator("img").get_attribute("src")


def changed(view: Locator, before: tuple[str, str, str], what: str) -> tuple[str, str, str]:
    """Waits until table and tree differ from before; what the view shows then."""
    for _ in range(300):
        now = state(view)
        if now[0] != "searching ..." and now[1] != before[1] and now[2] != before[2]:
            return now
        view.page.wait_for_timeout(100)
    raise AssertionError(f"{what}: table or tree did not change")


if __name__ == "__main__":
    main()
