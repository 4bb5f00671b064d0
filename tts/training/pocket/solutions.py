"""The fixed set of pocket solutions that PRMs are judged on: from all policies, half right, half wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tts.common.files import write_text
from tts.generate.labelled import SOLUTIONS
from tts.policies.transformers import TransformersPolicy
from tts.search import sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks.pocket_problems import first_error, held_out, parse

PER_POLICY = {"validation": 25, "test": 50}


def build(policies: list[str], seed: int = 0) -> list[Path]:
    """Samples solutions of development problems and keeps as many right as wrong ones of each policy where it can.

    A policy that is hardly ever right (or wrong) gives what it has; the rest is made up from the others.
    """
    found: dict[str, dict[bool, list[dict]]] = {"validation": {True: [], False: []}, "test": {True: [], False: []}}
    for policy in policies:
        for split, kinds in _sampled(policy, seed).items():
            for right, rows in kinds.items():
                found[split][right].append(rows)
    paths = []
    for split, kinds in found.items():
        wanted = PER_POLICY[split] * len(policies)
        rows = [row for right in (True, False) for row in _round_robin(kinds[right], wanted)]
        path = SOLUTIONS / f"{split}.jsonl"
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        paths.append(path)
    return paths


def _sampled(policy: str, seed: int) -> dict[str, dict[bool, list[dict]]]:
    """One solution a problem; the problems of the two splits differ."""
    engine = TransformersPolicy(policy, Sampling(temperature=0.7, max_tokens=240, seed=seed))
    texts = [p.text for p in held_out("pocket-main", "development", 1600)]
    random.Random(f"{seed}/{policy}").shuffle(texts)
    splits: dict[str, dict[bool, list[dict]]] = {"validation": {True: [], False: []}, "test": {True: [], False: []}}
    roots = [engine.root(text, text) for text in texts[:1000]]
    for outcome in Driver(engine).run([(root, sample_pool(root, 1)) for root in roots]):
        [candidate] = outcome.trajectories
        if candidate.status != "finished" or not candidate.steps:
            continue
        error = first_error(parse(outcome.problem_id), candidate.steps)
        split = "validation" if int(parse(outcome.problem_id).answer) % 3 == 0 else "test"
        row = {"problem": outcome.problem_id, "steps": candidate.steps, "first_error": -1 if error is None else error[0], "policy": policy}
        splits[split][error is None].append(row)
    return splits


def _round_robin(groups: list[list[dict]], wanted: int) -> list[dict]:
    rows, level = [], 0
    while len(rows) < wanted and any(level < len(group) for group in groups):
        rows += [group[level] for group in groups if level < len(group)]
        level += 1
    return rows[:wanted]
