"""What an import says of itself: what it found, what it could not read, what is not there, and the commands that come next."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tts.analysis import costs
from tts.exchange import importing, read_runs
from tts.exchange.importing import Done
from tts.exchange.presets import REWARD_MODELS, Preset
from tts.exchange.records import COUNTS, printable
from tts.store.imported import Import, original
from tts.store.store import Store

STUDY_BUDGETS = (4, 16, 64, 256)
LISTED = 20


def import_all(store: Store, folder: Path, name: str = "", policy: str = "", prm: str = "") -> Iterator[str]:
    """Imports all that a folder, or a file, holds, and says of each problem set what :func:`lines` says, ready for a terminal.

    Args:
        name: name of the import; the folder's by default, with the problem set's, or the format's where it holds several.
        policy, prm: names of the models, where the format has none.

    Raises:
        ExchangeError: where there is nothing to import.
    """
    sets, unknown = read_runs(folder)
    place, useless = folder.resolve(), []
    base = name or re.sub(r"[^\w.-]+", "-", place.stem if place.is_file() else place.name).strip("-.") or "import"
    for one in sets:
        several = len(sets) > 1 or (one.name and not name)
        try:
            done = importing.import_into(store, one, f"{base}-{one.name or one.format}" if several else base, folder, policy, prm)
        except importing.NothingUsable as error:
            useless.append(error)
            continue
        yield from map(printable, lines(done))
    if len(useless) == len(sets):
        raise useless[0]
    for error in useless:
        yield from map(printable, str(error).splitlines())
    if unknown:
        yield printable(f"{len(unknown)} files in no known format: {', '.join(path.name for path in unknown[:LISTED])}")


def lines(done: Done) -> Iterator[str]:
    """The summary, line by line."""
    source, contents = done.source, done.contents
    yield f"{source.name}: {source.count} problems, format {contents.format}, in {source.folder}"
    yield "found:"
    yield from (f"  {held}" for held in source.runs)
    yield from _counted("notes", contents.notes, source)
    yield from _counted("not used", [f"{skip.source}: {skip.reason}" for skip in contents.skipped], source)
    yield from _counted("scores given here to what these files replace, deleted with it", done.dropped, source)
    if done.grades:
        yield f"{done.grades} recorded grades recomputed, {len(done.differences)} differ"
        yield from _counted("different grades", done.differences, source)
    else:
        yield "no recorded grades to compare with; all are this suite's"
    yield "not in the data:"
    yield from (f"  {sentence}" for sentence in missing(source))
    for preset in done.presets:
        yield from _commands(preset, source)


def _counted(title: str, items: Sequence[str], source: Import) -> Iterator[str]:
    """A list with its number; a long one in part, the whole of it in ``import.json``."""
    if items:
        yield f"{title}: {len(items)}"
    yield from (f"  {item}" for item in items[:LISTED])
    if len(items) > LISTED:
        yield f"  ... and {len(items) - LISTED} more in {source.folder / 'import.json'}"


def missing(source: Import) -> list[str]:
    """What notebooks may ask for and the data do not hold, in sentences."""
    specs = [held.spec for held in source.runs]
    methods = {spec.method for spec in specs}
    sentences = []
    if "cot" not in methods:
        sentences.append("greedy CoT: Pass@1 of the samples stands in for it, under that name")
    if "pool" in methods:
        if (most := max(spec.n for spec in specs if spec.method == "pool")) < max(STUDY_BUDGETS):
            sentences.append(f"more than {most} samples per problem: majority, Pass@n and best-of-n up to n = {most}")
    else:
        sentences.append("independent samples: no majority, no Pass@n, no best-of-n, no difficulty")
    if not any(spec.prm for spec in specs):
        sentences.append("step scores: no best-of-n, but with a PRM that can be run")
    for method, title in (("beam_search", "beam search"), ("dvts", "DVTS")):
        budgets = sorted({spec.n for spec in specs if spec.method == method})
        absent = [n for n in STUDY_BUDGETS if n not in budgets and not (method == "dvts" and budgets and n <= max(budgets))]
        if not budgets:
            sentences.append(f"{title}, at any budget")
        elif absent:
            sentences.append(f"{title} at N = {', '.join(map(str, absent))}; there is N = {', '.join(map(str, budgets))}")
    models = dict.fromkeys(name for spec in specs for name in (spec.policy.name, spec.guide) if name)
    unknown = [original(name) for name in models if not np.isfinite(costs.shape_of(name).parameters)]
    if unknown:
        sentences.append(f"the size of {', '.join(unknown)}: FLOPs are unknown")
    return [*sentences, *_tokens(source)]


def _tokens(source: Import) -> Iterator[str]:
    store, absent = Store(source.folder.parent.parent), {}
    for held in source.runs:
        for row in store.run(held.spec).rows():
            for key, name in zip(COUNTS, ("prompts", "what the policy wrote", "what the PRM read")):
                if row[key] is None:
                    absent.setdefault(name, set()).add(held.spec.method)
    for name, methods in absent.items():
        yield f"token counts of {name} ({', '.join(sorted(methods))}): unknown (NaN), not estimated"


def _commands(preset: Preset, source: Import) -> Iterator[str]:
    path = source.folder / preset.file
    shown = shlex.quote(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))
    policies, prms = (", ".join(map(original, names)) for names in (preset.policies, preset.prms))
    yield f"{policies}{f' with {prms}' if prms else ''}, {preset.problems} problems; notebooks that this does not serve:"
    for reason in dict.fromkeys(preset.without.values()):
        yield f"  {', '.join(name for name, why in preset.without.items() if why == reason)}: {reason}"
    if preset.notebooks:
        yield "to render figures:"
        yield f"  python -m tts run --preset {shown}"
        yield f"  python -m tts run {next(iter(preset.notebooks))} --preset {shown}"
    if any(method == "majority" for method, _ in preset.cells):
        yield "to have the samples scored by a PRM that can be run, for best-of-n:"
        yield f"  python -m tts run {REWARD_MODELS} --preset {shown} -p prm=PRM -p 'methods=[majority, best_of_n]' -p 'dials=[]'"
