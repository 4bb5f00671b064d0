"""Runs of other tools: read into the store, and the store written out; one file per format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tts.exchange import compute_optimal_tts, plain, search_and_learn
from tts.exchange.records import ExchangeError, Found

# Formats whose files are told apart by their lines; a new one is a file beside these with NAME, is_row and read, and an entry here.
LINE_FORMATS = (search_and_learn, plain)


def read(root: Path) -> tuple[list[Found], list[Path]]:
    """What a folder, or a file, holds in any known format: one entry per problem set; and the files that none of them knows.

    Raises:
        ExchangeError: where there is nothing, or nothing is known.
    """
    if not root.exists():
        raise ExchangeError(f"no folder or file {root}")
    if not root.is_dir():
        paths = [root]
    else:
        root = root.resolve()
        taken = compute_optimal_tts.files(root)
        paths = [path for path in sorted(root.rglob("*")) if path.is_file() and path not in taken]
    by_format = {module: [p for p in paths if _format(p) is module] for module in LINE_FORMATS}
    found = [*(compute_optimal_tts.read(root) if root.is_dir() else ()), *_read_lines(by_format, root)]
    unknown = [path for path in paths if not any(path in of for of in by_format.values())]
    if not found:
        named = "; ".join(str(path.relative_to(root) if root.is_dir() else path) for path in unknown[:5]) or "no files"
        raise ExchangeError(
            f"{root} holds nothing that can be imported ({named}); known are output folders of the study's code "
            "(TASK_METHOD/POLICY/PRM/DEPTH_WIDTH_SEQUENCES/question_I/record_J.jsonl), search-and-learn's *_completions.jsonl, "
            "and the plain JSON lines, or parquet, of docs/formats.md"
        )
    return found, unknown


def _read_lines(by_format: dict, root: Path) -> Iterator[Found]:
    for module, paths in by_format.items():
        yield from module.read(paths, root)


def _format(path: Path):
    """The format of a file of JSON lines, or of a parquet export, by its first line that is in one; None where there is none."""
    if path.suffix not in (".jsonl", ".json", ".parquet"):
        return None
    rows = (row for _, row, _ in plain.lines(path) if row is not None)
    return next((module for row in rows for module in LINE_FORMATS if module.is_row(row)), None)
