"""Huge pages: what is moved into them, that nothing in it changes, and that a system that refuses is no error."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from tts.engine import huge_pages
from tts.engine.huge_pages import HUGE

MAPS = """\
{0:x}-{1:x} rw-p 00000000 00:00 0 {name}
Size: 0 kB
Rss:               {rss} kB
AnonHugePages:     {huge} kB
VmFlags: rd wr mr mw me ac sd
"""


def stretch(huge_pages_long=8, held=1.0, already=0, name="", head=""):
    start = 1 << 40
    size = huge_pages_long * HUGE
    text = MAPS.format(start, start + size, rss=int(held * size) // 1024, huge=already * HUGE // 1024, name=name)
    return text.replace(" rw-p 00000000 00:00 0 ", f" {head} ") if head else text


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (stretch(), True),
        (stretch(name="[heap]"), True),
        (stretch(3), False),  # small
        (stretch(held=0.7), False),  # whose other pages would be made
        (stretch(already=7), False),
        (stretch(already=5), True),
        (stretch(head="rw-p 00000000 fe:00 1234"), False),  # a file's
        (stretch(head="r-xp 00000000 00:00 0"), False),
    ],
)
def test_what_is_large_full_and_nobodys_file_is_moved(text, chosen):
    odd = b"\n\n7f00-7f10 r--p 00000000 fe:00 12   /tmp/\xff\xe2\x80\xa8\r\rname\nRss:\n"
    found = list(huge_pages._stretches(stretch(2).encode() + odd + text.encode() + odd + stretch(1).encode()))
    assert found == ([(1 << 40, (1 << 40) + 8 * HUGE)] if chosen else [])


def in_huge_pages() -> int:
    return sum(int(size) for size in re.findall(r"AnonHugePages: +(\d+)", Path("/proc/self/smaps").read_text())) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone has them")
def test_memory_is_moved_and_holds_what_it_held():
    written = torch.arange(4 * HUGE, dtype=torch.float64)
    before, moved = in_huge_pages(), huge_pages.collapse()
    assert torch.equal(written, torch.arange(4 * HUGE, dtype=torch.float64))
    if not moved:
        pytest.skip("this system refuses")
    # Less than what was asked for where a stretch begins or ends within a page.
    assert in_huge_pages() - before > 0.5 * written.nbytes


def asked_of(monkeypatch, answer) -> list[tuple[int, int, int]]:
    asked = []
    monkeypatch.setattr(huge_pages, "_madvise", lambda: lambda *given: asked.append(given) or answer(*given))
    return asked


def test_a_piece_that_fails_leaves_the_others(monkeypatch, tmp_path):
    """One page that was freed after the text was read made the first call fail, and nothing was moved."""
    maps, start = tmp_path / "smaps", 1 << 40
    maps.write_text(stretch(20))
    asked = asked_of(monkeypatch, lambda first, size, what: 0 if what == huge_pages._NOW and first != start else -1)
    assert huge_pages.collapse(maps) == 12 * HUGE
    assert asked == [
        (start, 20 * HUGE, huge_pages._WANTED),
        (start, 8 * HUGE, huge_pages._NOW),
        (start + 8 * HUGE, 8 * HUGE, huge_pages._NOW),
        (start + 16 * HUGE, 4 * HUGE, huge_pages._NOW),
    ]
    uneven = stretch(6).replace(f"{start:x}", f"{start + 4096:x}")
    maps.write_text(uneven)
    asked.clear()
    assert huge_pages.collapse(maps) == 5 * HUGE and asked[1:] == [(start + HUGE, 5 * HUGE, huge_pages._NOW)]


def test_a_system_that_refuses_or_has_none_is_no_error(monkeypatch, tmp_path):
    assert huge_pages.collapse(tmp_path / "no-such-file") == 0
    maps = tmp_path / "smaps"
    maps.write_text(stretch())
    asked = asked_of(monkeypatch, lambda *given: -1)
    assert huge_pages.collapse(maps) == 0 and len(asked) == 2
    monkeypatch.setattr(huge_pages, "_madvise", lambda: None)
    assert huge_pages.collapse(maps) == 0


def test_only_whole_pages_within_a_tensor_are_asked_for(monkeypatch):
    asked = asked_of(monkeypatch, lambda *given: 0)
    large = torch.empty(5 * HUGE + 24, dtype=torch.uint8)
    assert huge_pages.wanted(large) is large and huge_pages.wanted(torch.empty(HUGE)[:100]) is not None
    [(start, size, _)] = asked
    assert start % HUGE == size % HUGE == 0 and large.data_ptr() <= start and start + size <= large.data_ptr() + large.nbytes
    assert size in (4 * HUGE, 5 * HUGE)
