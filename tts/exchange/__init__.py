"""Runs of other tools: read into the store, and the store written out; one file per format."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tts.exchange import compute_optimal_tts, plain, search_and_learn
from tts.exchange.records import Contents, ExchangeError, copies, lines, near

# Formats whose files are told apart by their lines; a new one is a file beside these with NAME, is_row and read_rows, and an entry here.
LINE_FORMATS = (search_and_learn, plain)


def read_runs(root: Path) -> tuple[list[Contents], list[str]]:
    """What a folder, or a file, holds in any known format: one entry per problem set; and the files that none of them knows, with reasons.

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
    names = {path: str(path.relative_to(root)) if path != root else path.name for path in paths}
    formats = {path: _format(path) for path in paths}
    again = copies(path for path, known in formats.items() if known)
    for module in LINE_FORMATS:
        contents = Contents(module.NAME)
        for path in (path for path, known in formats.items() if known is module):
            if path in again:
                contents.skip(names[path], f"a byte-identical copy of {names[again[path]]}")
            else:
                module.read_rows(path, names[path], _rows(path, names[path], contents), contents)
        sets += [contents] if module in formats.values() else []
    unknown = [names[path] + _lacks(path) for path, module in formats.items() if module is None]
    if not sets:
        raise ExchangeError(
            f"{root} holds nothing that can be imported ({'; '.join(unknown[:5]) or 'no files'}); known are output folders of the "
            "study's code (TASK_METHOD/POLICY/PRM/DEPTH_WIDTH_SEQUENCES/question_I/record_J.jsonl), search-and-learn's "
            "*_completions.jsonl, "
            "its datasets (hf:OWNER/DATASET) and the plain JSON lines, or parquet, of docs/formats.md"
        )
    return sets, unknown


def _rows(path: Path, name: str, contents: Contents) -> Iterator[tuple[str, dict]]:
    """Each object of a file and the place that it is named by; a line that holds none is listed as skipped."""
    close: Counter[str] = Counter()
    for place, row, problem in lines(path):
        source = f"{name}, {place}"
        if row is None:
            contents.skip(source, problem)
            continue
        row, made = near(row)
        close.update(made)
        yield source, row
    contents.notes += [f"{name}: {made} in {count} lines" for made, count in close.items()]


def _objects(path: Path) -> Iterator[tuple[str, dict]]:
    if path.suffix in (".jsonl", ".json", ".parquet"):
        yield from ((place, near(row)[0]) for place, row, _ in lines(path) if row is not None)


def _format(path: Path):
    """The format of a file of JSON lines, or of a parquet export, by its first line that is in one; None where there is none."""
    return next((module for _, row in _objects(path) for module in LINE_FORMATS if module.is_row(row)), None)


def _lacks(path: Path) -> str:
    """What the first object of a file in no known format lacks, to be written after its name."""
    place, row = next(_objects(path), ("", {}))
    lacking = [name for name in plain.REQUIRED if name not in row] or ["list of texts or objects in completions"]
    return f", {place}: no {', '.join(lacking)}; its fields are {', '.join(map(str, row)) or 'none':.120}" if place else ""
