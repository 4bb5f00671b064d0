"""A disk that fills up, and folders that cannot be written."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.report import Tally, complaint, tts
from tts.generate.grid import Grid
from tts.generate.runner import fill, missing
from tts.store.store import Store, StoreError


class CannotMount(Exception):
    """Mounting is not permitted here."""


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A tmpfs of a size at ``folder``, whose files are seen at their real sizes.

    Raises:
        CannotMount: where that is not permitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    _mount("-o", f"remount,size={size}", str(folder))


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """``folder`` mounted onto itself, read-only: that binds root too.

    Raises:
        CannotMount: where that is not permitted.
    """
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotMount("there is no mount command") from None
    if done.returncode:
        raise CannotMount(done.stderr.strip() or f"mount ended with status {done.returncode}")


def full_disk(grid: Grid, whole: str, folder: Path, kib: int) -> int:
    """Fills a store on a disk that is too small, then on a larger one.

    Args:
        grid: what to run.
        whole: the canonical export of an unbroken run.
        folder: where the disk is mounted.
        kib: its size at first.

    Returns:
        How many chunks the small disk took.

    Raises:
        AssertionError: where anything was lost, left behind or not said.
        CannotMount: where mounting is not permitted.
    """
    with small_disk(folder, f"{kib}k"):
        store = Store(folder / "runs")
        try:
            fill(grid, store)
        except StoreError as error:
            assert "No space left on device" in str(error) and str(store.folder) in str(error) and "another store" in str(error), error
        else:
            raise AssertionError(f"{kib} KiB were enough")
        kept = len(list(store.folder.glob("*/*.parquet")))
        assert not list(store.folder.glob("**/*.tmp")), "a half-written file was left behind"
        assert sum(1 for run in store.runs() for _ in run.rows()) >= kept, "what was stored before cannot be read"
        resize(folder, "64m")
        left = len(missing(grid, store))
        assert fill(grid, store) == left and "\n".join(store.export()) == whole, "the resumed export differs"
    return kept


def campaign(grid: Grid, whole: str, folder: Path) -> Tally:
    """Small disks of a dozen sizes; a full disk and a read-only folder under figures, store, export and outcomes."""
    started = time.monotonic()
    tally = Tally("full and read-only disks", {"small disks": 0, "chunks kept on them": 0, "commands refused": 0})
    try:
        for kib in (4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 80, 96):
            tally.counts["chunks kept on them"] += full_disk(grid, whole, folder / "disk", kib)
            tally.counts["small disks"] += 1
        tally.counts["commands refused"] += _figures_on_a_full_disk(folder) + _read_only_folders(folder)
    except CannotMount as reason:
        tally.skipped.append(f"mounting is not permitted here ({reason})")
    tally.seconds = time.monotonic() - started
    return tally


def _run(folder: Path, *more: str) -> list[str]:
    return ["run", "01_tts_methods", "--preset", "smoke", "-p", f"store={folder / 'ok-runs'}", *more]


def _figures_on_a_full_disk(folder: Path) -> int:
    """The notebook fails by name, and the report of an earlier run stays whole."""
    with small_disk(folder / "figures", "64m"):
        figures = folder / "figures"
        first = tts(*_run(folder, "-p", f"figures={figures}"))
        assert first.returncode == 0, first.stdout + first.stderr
        report = (figures / "report.html").read_text()
        (figures / "ballast").write_bytes(b"x" * (1 << 10))
        used = sum(f.stat().st_blocks * 512 for f in figures.rglob("*"))
        resize(figures, str(used + 8192))
        second = tts(*_run(folder, "-p", f"figures={figures}"))
        assert second.returncode in (1, 2) and "Traceback" not in second.stderr, second.stderr
        assert "No space left on device" in second.stdout.replace("\n", " ") + second.stderr, second.stdout + second.stderr
        assert (figures / "report.html").read_text() == report, "the earlier report was overwritten"
        assert not list(figures.rglob("*.tmp"))
    return 1


def _read_only_folders(folder: Path) -> int:
    """Nothing is written, everything is said; what is stored can still be read."""
    closed = folder / "closed"
    (closed / "runs").mkdir(parents=True)
    (closed / "figures").mkdir()
    made = tts("run", "01_tts_methods", "--preset", "smoke", "-p", f"store={closed / 'filled'}", "-p", f"figures={folder / 'open'}")
    assert made.returncode == 0, made.stderr
    with read_only(closed):
        refused = [
            ["run", "01_tts_methods", "--preset", "smoke", "-p", f"store={closed / 'runs'}", "-p", f"figures={folder / 'open'}"],
            ["run", "01_tts_methods", "--preset", "smoke", "-p", f"store={folder / 'ok-runs'}", "-p", f"figures={closed / 'figures'}"],
            ["export", str(closed / "export.jsonl"), "--preset", "smoke"],
        ]
        for arguments in refused:
            complaint(tts(*arguments), str(closed))
        again = tts("run", "01_tts_methods", "--preset", "smoke", "-p", f"store={closed / 'filled'}", "-p", f"figures={folder / 'open'}")
        assert again.returncode == 0, f"a read-only store that holds everything cannot be read: {again.stderr}"
    return len(refused)
