"""Runs of other tools: read into the store, and the store written out; one file per format."""

from pathlib import Path
from types import ModuleType

from tts.exchange import compute_optimal_tts, evaluation_logs, plain, search_and_learn
from tts.exchange.reading import copies, near
from tts.exchange.records import Contents, ExchangeError

# Formats whose files are told apart by their lines; a new one is a file beside these with NAME, is_row and read_file, and an entry here.
LINE_FORMATS = (search_and_learn, plain, evaluation_logs)


def read_runs(root: Path) -> tuple[list[Contents], list[str]]:
    """What a folder, or a file, holds in any known format: one entry per problem set; and the files that none of them knows, with reasons.

    Raises :class:`ExchangeError` where there is nothing, or nothing is known.
    """
    if not root.exists():
        raise ExchangeError(f"no folder or file {root}")
    sets, names = [], {root: root.name}
    if root.is_dir():
        root = root.resolve()
        runs = compute_optimal_tts.runs(root)
        sets, taken = list(compute_optimal_tts.read_folders(root, runs)), {run.folder for run in runs}
        paths = [path for path in sorted(root.rglob("*")) if path.is_file() and taken.isdisjoint(path.parents)]
        names = {path: str(path.relative_to(root)) for path in paths}
    formats = {path: _format(path) for path in names}
    again = copies([path for path, (module, _) in formats.items() if module])
    for module in LINE_FORMATS:
        contents, held = Contents(module.NAME), [path for path, (known, _) in formats.items() if known is module]
        for path in held:
            if path in again:
                contents.skip(names[path], f"a byte-identical copy of {names[again[path]]}")
            else:
                module.read_file(path, names[path], contents)
        sets += [contents] if held else []
    unknown = [
        names[path] + lacks
        for path, (module, lacks) in formats.items()
        if module is None and not evaluation_logs.RESULTS.fullmatch(path.name)
    ]
    if not sets:
        raise ExchangeError(
            f"{root} holds nothing that can be imported ({'; '.join(unknown[:5]) or 'no files'}); known are output folders of the "
            "study's code (TASK_METHOD/POLICY/PRM/DEPTH_WIDTH_SEQUENCES/question_I/record_J.jsonl), search-and-learn's "
            "*_completions.jsonl, its datasets (hf:OWNER/DATASET), logs of inspect_ai (*.eval, *.json) and of lm-evaluation-harness "
            "(samples_TASK_DATE.jsonl), and the plain JSON lines, or parquet, of docs/formats.md"
        )
    return sets, unknown


def _format(path: Path) -> tuple[ModuleType | None, str]:
    """The format of a file by its first line that is in one; or None and what its first object lacks, to be written after its name."""
    lacks = damage = ""
    for place, row, problem in evaluation_logs.lines(path) if path.suffix in (".jsonl", ".json", ".parquet", ".eval") else ():
        if row is None:
            damage = damage or f", {place}: {problem}"
            continue
        row, _ = near(row)
        if module := next((module for module in LINE_FORMATS if module.is_row(row)), None):
            return module, ""
        lacking = [name for name in plain.REQUIRED if name not in row] or ["list of texts or objects in completions"]
        lacks = lacks or f", {place}: no {', '.join(lacking)}; its fields are {', '.join(map(str, row)) or 'none':.120}"
    return None, lacks or damage
