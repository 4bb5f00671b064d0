"""What an import says of itself: what it found, what it could not read, what is not there, and the commands that come next."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tts.analysis import costs
from tts.exchange import importing, read
from tts.exchange.importing import Done
from tts.exchange.presets import Preset
from tts.exchange.records import printable
from tts.store.imported import Import, original
from tts.store.store import Store

STUDY_BUDGETS = (4, 16, 64, 256)
LISTED = 20
RESCORED = "02_reward_models"


def import_all(store: Store, folder: Path, name: str = "", policy: str = "", prm: str = "") -> Iterator[str]:
    """Imports all that a folder, or a file, holds, and says of each problem set what :func:`lines` says, ready for a terminal.

    Args:
        name: of the import; the folder's by default, with the problem set's, or the format's where it holds several.
        policy, prm: names of the models, where the format has none.

    Raises:
        ExchangeError: where there is nothing to import.
    """
    found, unknown = read(folder)
    place, useless = folder.resolve(), []
    base = name or re.sub(r"[^\w.-]+", "-", place.stem if place.is_file() else place.name).strip("-.") or "import"
    for one in found:
        several = len(found) > 1 or (one.name and not name)
        try:
            done = importing.import_into(store, one, f"{base}-{one.name or one.format}" if several else base, folder, policy, prm)
        except importing.NothingUsable as error:
            useless.append(error)
            continue
        yield from map(printable, lines(done))
    if len(useless) == len(found):
        raise useless[0]
    for error in useless:
        yield from map(printable, str(error).splitlines())
    if unknown:
        yield printable(f"{len(unknown)} files in no known format: {', '.join(path.name for path in unknown[:LISTED])}")


def lines(done: Done) -> Iterator[str]:
    """The summary, line by line."""
    source, found = done.source, done.found
    yield f"{source.name}: {source.count} problems, format {found.format}, in {source.folder}"
    yield "found:"
    for held in source.runs:
        yield f"  {held}"
    yield from _counted("notes", found.notes, source)
    yield from _counted("not used", [f"{skip.source}: {skip.reason}" for skip in found.skipped], source)
    yield from _counted("scores given here to what these files replace, deleted with it", done.dropped, source)
    if done.grades:
        yield f"{done.grades} recorded grades recomputed, {len(done.differences)} differ"
        yield from _counted("different grades", list(map(str, done.differences)), source)
    else:
        yield "no recorded grades to compare with; all are this suite's"
    yield "not in the data:"
    for absent in missing(source):
        yield f"  {absent}"
    for number, preset in enumerate(done.presets, 1):
        yield from _commands(preset, source, number)


def _counted(title: str, items: Sequence[str], source: Import) -> Iterator[str]:
    """A list with its number; a long one in part, the whole of it in ``import.json``."""
    if not items:
        return
    yield f"{title}: {len(items)}"
    for item in items[:LISTED]:
        yield f"  {item}"
    if len(items) > LISTED:
        yield f"  ... and {len(items) - LISTED} more in {source.folder / 'import.json'}"


def missing(source: Import) -> list[str]:
    """What notebooks may ask for and the data do not hold, in sentences."""
    specs = [held.spec for held in source.runs]
    methods = {spec["method"] for spec in specs}
    found = []
    if "cot" not in methods:
        found.append("greedy CoT: Pass@1 of the samples stands in for it, under that name")
    if "pool" in methods:
        most = max(spec["n"] for spec in specs if spec["method"] == "pool")
        if most < max(STUDY_BUDGETS):
            found.append(f"more than {most} samples per problem: majority, Pass@n and best-of-n up to n = {most}")
    else:
        found.append("independent samples: no majority, no Pass@n, no best-of-n, no difficulty")
    if not any(spec["prm"] for spec in specs):
        found.append("step scores: no best-of-n, but with a PRM that can be run")
    for method, title in (("beam_search", "beam search"), ("dvts", "DVTS")):
        budgets = sorted({spec["n"] for spec in specs if spec["method"] == method})
        absent = [n for n in STUDY_BUDGETS if n not in budgets and not (method == "dvts" and budgets and n <= max(budgets))]
        if not budgets:
            found.append(f"{title}, at any budget")
        elif absent:
            found.append(f"{title} at N = {', '.join(map(str, absent))}; there is N = {', '.join(map(str, budgets))}")
    models = dict.fromkeys(name for spec in specs for name in (spec["policy"]["name"], (spec["prm"] or {}).get("name")) if name)
    unknown = [original(name) for name in models if not np.isfinite(costs.shape_of(name).parameters)]
    if unknown:
        found.append(f"the size of {', '.join(unknown)}: FLOPs are unknown")
    return [*found, *_tokens(source)]


def _tokens(source: Import) -> Iterator[str]:
    store, absent = Store(source.folder.parent.parent), {}
    for held in source.runs:
        for row in store.run(held.spec).rows():
            for key in ("prompt_tokens", "policy_tokens", "prm_tokens"):
                if row[key] is None:
                    absent.setdefault(key, set()).add(held.spec["method"])
    names = {"prompt_tokens": "prompts", "policy_tokens": "what the policy wrote", "prm_tokens": "what the PRM read"}
    for key, methods in absent.items():
        yield f"token counts of {names[key]} ({', '.join(sorted(methods))}): unknown (NaN), not estimated"


def _commands(preset: Preset, source: Import, number: int) -> Iterator[str]:
    path = source.folder / f"preset{number if number > 1 else ''}.yaml"
    shown = os.path.relpath(path) if not os.path.relpath(path).startswith("..") else str(path)
    policies, prms = (", ".join(map(original, names)) for names in (preset.policies, preset.prms))
    yield f"{policies}{f' with {prms}' if prms else ''}, {preset.problems} problems; notebooks that this does not serve:"
    for reason in dict.fromkeys(preset.without.values()):
        yield f"  {', '.join(name for name, why in preset.without.items() if why == reason)}: {reason}"
    if preset.notebooks:
        yield "to render figures:"
        yield f"  python -m tts run --preset {_quoted(shown)}"
        yield f"  python -m tts run {next(iter(preset.notebooks))} --preset {_quoted(shown)}"
    if any(method == "majority" for method, _ in preset.cells):
        yield "to have the samples scored by a PRM that can be run, for best-of-n:"
        yield f"  python -m tts run {RESCORED} --preset {_quoted(shown)} -p prm=PRM -p 'methods=[majority, best_of_n]' -p 'dials=[]'"


def _quoted(path: str | Path) -> str:
    return f"'{path}'" if " " in str(path) else str(path)
