"""What an import says of itself: what it found, what it could not read, what is not there, and the commands that come next."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tts.analysis import costs
from tts.exchange import importing, read_runs, released
from tts.exchange.importing import Done, Regraded
from tts.exchange.presets import REWARD_MODELS, Preset
from tts.exchange.records import COUNTS, expect
from tts.exchange.released import ALL, Choice
from tts.search.registry import GREEDY, POOL
from tts.store.chunk_file import read_chunk
from tts.store.imported import Import, original
from tts.store.store import Store

STUDY_BUDGETS = (4, 16, 64, 256)
LISTED = 20
COUNTED = dict(zip(COUNTS, ("prompts", "what the policy wrote", "what the PRM read")))


def import_all(
    store: Store, sources: Sequence[str | Path], name: str = "", policy: str = "", prm: str = "", scores: str = "", choice: Choice = ALL
) -> Iterator[str]:
    """Imports all that folders, files or datasets hold, and says of each problem set what :func:`lines` says.

    Several datasets of released runs make one import. Its ``name`` is the folder's by default, with the problem set's, or the format's
    where it holds several. ``policy``, ``prm`` and ``scores`` are as of :func:`importing.import_into`. Raises ``ExchangeError`` where
    there is nothing to import, ``ModelError`` where a dataset cannot be fetched.
    """
    expect(scores in ("", "sigmoid"), f"--scores {scores}: sigmoid is known, which makes probabilities of logits")
    named = list(map(str, sources))
    of_release = list(map(released.is_release, named))
    together = all(of_release) or not any(of_release) and len(named) == 1
    expect(together, "only datasets of released runs, or folders of their form, make one import; import the others one by one")
    root: str | Path
    if all(of_release):
        held = [release for source in named for release in released.releases(source, prm)]
        chosen = released.choose(held, choice)
        yield from released.table(held, chosen)
        if choice.listed:
            return
        sets, unknown = [released.read(held, chosen, choice, policy)], []
        root = " ".join(source if source.startswith(released.HUB) else str(Path(source).resolve()) for source in named)
        called = re.sub(r"@.*", "", named[0]).rstrip("/").rpartition("/")[2]
    else:
        for_release = "of released runs, of which --n, --seeds, --methods, --search, --pool and --list are"
        expect(choice == ALL, f"{named[0]} holds no configurations {for_release}")
        root = Path(named[0])
        sets, unknown = read_runs(root)
        called = root.resolve().stem if root.is_file() else root.resolve().name
    base = name or re.sub(r"[^\w.-]+", "-", called).strip("-.") or "import"
    useless = []
    for one in sets:
        several = len(sets) > 1 or (one.name and not name)
        own = f"{base}-{one.name or one.format}" if several else base
        try:
            yield from lines(importing.import_into(store, one, own, root, policy, prm, scores))
        except importing.NothingUsable as error:
            useless.append(error)
    if len(useless) == len(sets):
        raise useless[0]
    for reason in useless:
        yield from str(reason).splitlines()
    if unknown:
        yield f"{len(unknown)} file{'s' * (len(unknown) != 1)} in no known format: {'; '.join(unknown[:LISTED])}"


def lines(done: Done) -> Iterator[str]:
    """The summary, line by line."""
    source, contents = done.source, done.contents
    yield f"{source.name}: {source.count} problems, format {contents.format}, in {source.folder}"
    yield "found:"
    yield from (f"  {held}" for held in source.runs)
    for low, high in (held.outside for held in source.runs if held.outside):
        yield f"  scores from {low:.3g} to {high:.3g}, not in [0, 1]: no PRM-Vote and no product; --scores sigmoid maps logits"
    yield from _counted("notes", contents.notes, source)
    yield from _counted("not used", [f"{place}: {reason}" for place, reason in contents.skipped], source)
    yield from _counted("scores given here to what these files replace, deleted with it", done.dropped, source)
    if (regraded := done.regraded).grades:
        yield f"{regraded.grades} recorded grades recomputed, {len(regraded.differences)} differ"
        yield from _votes(regraded)
        yield from _counted("different grades", regraded.differences, source)
        yield from _counted("votes for another answer, of the same grade", regraded.others, source)
    else:
        yield "no recorded grades to compare with; all are this suite's"
    yield "not in the data:"
    yield from (f"  {sentence}" for sentence in missing(source))
    for preset in done.presets:
        yield from _commands(preset, source)


def _votes(regraded: Regraded) -> Iterator[str]:
    """For each recorded vote and n, how many agree, and the accuracy as published tables have it: of the first n, not of all subsets."""
    for vote, n in sorted({key[:2] for key in regraded.votes}):
        counts = {method: held for (of, at, method), held in regraded.votes.items() if (of, at) == (vote, n)}
        count, agree = (sum(held[i] for held in counts.values()) for i in (0, 1))
        right = ", ".join(f"{method} {held[2] / held[0]:.1%}" for method, held in counts.items() if method)
        yield f"{vote} at {n}: {agree} of {count} agree" + (f"; right among the first {n}: {right}" if right else "")


def _counted(title: str, items: Sequence[str], source: Import) -> Iterator[str]:
    """A list with its number, one line for each cause and folder; a long one in part, the whole of it in ``import.json``."""
    if items:
        yield f"{title}: {len(items)}"
    alike: dict[str, list[str]] = {}
    for item in items:
        # The cause and the folder are what is left without quoted texts, places in the folder, and numbers.
        alike.setdefault(re.sub(r"'[^']*'|/question_\d+\S*|(?<![\w.-])\d+", "#", item), []).append(item)
    for same in list(alike.values())[:LISTED]:
        yield f"  {same[0]}" + (f" ({len(same) - 1} more like this)" if len(same) > 1 else "")
    if len(alike) > LISTED:
        yield f"  ... and {sum(map(len, list(alike.values())[LISTED:]))} more in {source.folder / 'import.json'}"


def missing(source: Import) -> Iterator[str]:
    """What notebooks may ask for and the data do not hold, in sentences."""
    specs = [held.spec for held in source.runs]
    sizes = {method: sorted({spec.n for spec in specs if spec.method == method}) for method in (GREEDY, POOL, "beam_search", "dvts")}
    if not sizes[GREEDY]:
        yield "greedy CoT: Pass@1 of the samples stands in for it, under that name"
    if not sizes[POOL]:
        yield "independent samples: no majority, no Pass@n, no best-of-n, no difficulty"
    elif (most := sizes[POOL][-1]) < max(STUDY_BUDGETS):
        yield f"more than {most} samples per problem: majority, Pass@n and best-of-n up to n = {most}"
    if not any(spec.prm for spec in specs):
        yield "step scores: no best-of-n, but with a PRM that can be run"
    for method, title in (("beam_search", "beam search"), ("dvts", "DVTS")):
        budgets = sizes[method]
        absent = [n for n in STUDY_BUDGETS if n not in budgets and not (method == "dvts" and budgets and n <= budgets[-1])]
        if not budgets:
            yield f"{title}, at any budget"
        elif absent:
            yield f"{title} at N = {', '.join(map(str, absent))}; there is N = {', '.join(map(str, budgets))}"
    models = dict.fromkeys(name for spec in specs for name in (spec.policy.name, spec.guide) if name)
    if unknown := [original(name) for name in models if not np.isfinite(costs.shape_of(name).parameters)]:
        yield f"the size of {', '.join(unknown)}: FLOPs are unknown"
    store = Store(source.folder.parent.parent)
    counts = [(spec.method, read_chunk(store.run(spec).path([]), COUNTS)) for spec in specs]
    for key, what in COUNTED.items():
        if methods := {method for method, table in counts if table[key].null_count}:
            yield f"token counts of {what} ({', '.join(sorted(methods))}): unknown (NaN), not estimated"


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
        yield f"  python -m tts run {REWARD_MODELS} --preset {shown} -p prm=PRM -p 'methods=[majority, best_of_n]'"
