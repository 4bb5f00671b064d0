"""Damaged files of every kind: named with the remedy, nothing overwritten. It runs in a copy of the checkout, and damages that."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from torture.damaged_files import MODELS, PLACES, POLICY, PRESETS, PRM, RUN, STRATEGY, cases
from torture.invoke import command_line, forked, refusal, tree
from torture.report import Tally
from tts.common.paths import NOTEBOOKS, ROOT
from tts.models.files import fingerprint
from tts.store.chunk_file import StoreError, read_chunk


def campaign() -> Tally:
    """Damages one file after the other, looks at what is said, and puts the file back.

    Raises:
        AssertionError: where damage was not said, or something was overwritten.
    """
    started, wrong = time.monotonic(), []
    PLACES.mkdir()
    (PRESETS / "elsewhere.yaml").write_text(f"common: {{store: {PLACES / 'runs'}}}\nnotebooks: {{01_tts_methods: {{}}}}\n")
    strategy, problems = PLACES / "strategy.json", PLACES / "problems.jsonl"
    problems.write_text('{"problem": "7,+8=?", "answer": "15"}\n{"problem": "7,+9=?", "answer": "16"}\n')
    whole = forked(command_line(*RUN))
    assert whole.code == 0, whole.out + whole.err
    content = json.loads(json.dumps(STRATEGY))
    for kind, folder in (("policy", POLICY), ("prm", PRM)):
        content["strategies"][0][kind]["weights"] = fingerprint(str(folder))
    strategy.write_text(json.dumps(content))
    sound = cases(strategy, problems)
    for met_by in {id(case.met_by): case.met_by for case in sound}.values():
        with _kept():
            undamaged = forked(met_by)
        assert undamaged.code == 0, f"refused without any damage: {undamaged.err}"
    tally = Tally("damaged files", {"files damaged": 0} | _flips())
    for case in tqdm(sound, desc="damaged files", unit="file"):
        contents = {path: path.read_bytes() for path in case.path.parent.iterdir() if path.is_file()}
        with _kept():
            case.damage(case.path)
            before = tree(PLACES) | {"data": str(tree(MODELS)), "notebooks": str(tree(NOTEBOOKS))}
            problem = refusal(forked(case.met_by), *([str(case.path)] if case.names_file else []), *case.said)
            after = tree(PLACES) | {"data": str(tree(MODELS)), "notebooks": str(tree(NOTEBOOKS))}
            if changed := [name for name, digest in before.items() if after.get(name) != digest and not name.startswith("figures/")]:
                problem = f"{problem or ''} it overwrote {changed}"
            if any((PLACES / name).exists() for name in ("canary", "export.jsonl")):
                problem = f"{problem or ''} it wrote an export, or executed something"
        if problem:
            wrong.append(f"{case.name}: {problem}")
        for path, content in contents.items():
            path.write_bytes(content)
        tally.counts["files damaged"] += 1
    assert not wrong, "\n".join(wrong)
    tally.seconds = time.monotonic() - started
    return tally


@contextmanager
def _kept() -> Iterator[None]:
    """Puts the store and the figures back as they were."""
    kept = shutil.copytree(PLACES, ROOT / "data" / "kept", symlinks=True)
    try:
        yield
    finally:
        shutil.rmtree(PLACES)
        kept.rename(PLACES)


def _flips() -> dict[str, int]:
    """One bit of every byte of a stored chunk, one after the other: said to be damaged, or the rows are the same."""
    path, rng = next((PLACES / "runs").glob("pool-*/*.parquet")), random.Random(0)
    whole, rows, counts = path.read_bytes(), read_chunk(path).to_pylist(), Counter()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert read_chunk(path).to_pylist() == rows, f"a flipped bit in byte {at} of {path} changed a result silently"
            counts["flipped bits of a chunk that change nothing"] += 1
        except StoreError:
            counts["flipped bits of a chunk that are said"] += 1
    path.write_bytes(whole)
    return dict(counts)
