"""Runs of other tools: read into the store, and the store written out; one file per format."""

from collections.abc import Iterator
from pathlib import Path

from tts.exchange import compute_optimal_tts, plain, search_and_learn
from tts.exchange.records import Contents, ExchangeError, lines

# Formats whose files are told apart by their lines; a new one is a file beside these with NAME, is_row and read_rows, and an entry here.
LINE_FORMATS = (search_and_learn, plain)


def read_runs(root: Path) -> tuple[list[Contents], list[Path]]:
    """What a folder, or a file, holds in any known format: one entry per problem set; and the files that none of them knows.

    Raises:
        ExchangeError: where there is nothing, or nothing is known.
    """
    if not root.exists():
        raise ExchangeError(f"no folder or file {root}")
    sets, paths = [], [root]
    if root.is_dir():
        root = root.resolve()
        runs = compute_optimal_tts.runs(root)
        sets, taken = list(compute_optimal_tts.read_folders(root, runs)), {run.folder for run in runs}
        paths = [path for path in sorted(root.rglob("*")) if path.is_file() and taken.isdisjoint(path.parents)]
    formats = {path: _format(path) for path in paths}
    for module in LINE_FORMATS:
        contents = Contents(module.NAME)
        for path in (path for path, known in formats.items() if known is module):
            name = str(path.relative_to(root)) if path != root else path.name
            module.read_rows(path, name, _rows(path, name, contents), contents)
        sets += [contents] if module in formats.values() else []
    unknown = [path for path, module in formats.items() if module is None]
    if not sets:
        named = "; ".join(str(path.relative_to(root) if root.is_dir() else path) for path in unknown[:5]) or "no files"
        raise ExchangeError(
            f"{root} holds nothing that can be imported ({named}); known are output folders of the study's code "
            "(TASK_METHOD/POLICY/PRM/DEPTH_WIDTH_SEQUENCES/question_I/record_J.jsonl), search-and-learn's *_completions.jsonl, "
            "and the plain JSON lines, or parquet, of docs/formats.md"
        )
    return sets, unknown


def _rows(path: Path, name: str, contents: Contents) -> Iterator[tuple[str, dict]]:
    """Each object of a file and the place that it is named by; a line that holds none is listed as skipped."""
    for line, row, problem in lines(path):
        source = f"{name}, line {line}"
        if row is None:
            contents.skip(source, problem)
        else:
            yield source, row


def _format(path: Path):
    """The format of a file of JSON lines, or of a parquet export, by its first line that is in one; None where there is none."""
    if path.suffix not in (".jsonl", ".json", ".parquet"):
        return None
    rows = (row for _, row, _ in lines(path) if row is not None)
    return next((module for row in rows for module in LINE_FORMATS if module.is_row(row)), None)
