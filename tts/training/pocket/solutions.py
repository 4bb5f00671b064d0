"""The fixed set of pocket solutions that PRMs are judged on: from all policies, half right, half wrong."""

from __future__ import annotations

import itertools
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

    A policy that is hardly ever right (or wrong) gives what it has; the rest is made up from the others. The problems of the two
    splits differ.
    """
    sampled = [_sampled(policy, seed) for policy in policies]
    paths = [SOLUTIONS / f"{split}.jsonl" for split in PER_POLICY]
    for path, count in zip(paths, PER_POLICY.values()):
        chosen = []
        for right in (True, False):
            groups = [[row for row in rows if _kind(row) == (path.stem, right)] for rows in sampled]
            in_turn = [row for level in itertools.zip_longest(*groups) for row in level if row]
            chosen += in_turn[: count * len(policies)]
        write_text(path, "".join(json.dumps(row) + "\n" for row in chosen))
    return paths


def _kind(row: dict) -> tuple[str, bool]:
    """A solution's split, by its problem, and whether it is right."""
    return "validation" if int(parse(row["problem"]).answer) % 3 == 0 else "test", row["first_error"] == -1


def _sampled(policy: str, seed: int) -> list[dict]:
    """One solution a problem, with the number of its first wrong step, -1 where there is none."""
    engine = TransformersPolicy(policy, Sampling(temperature=0.7, max_tokens=240, seed=seed))
    texts = [p.text for p in held_out("pocket-main", "development", 1600)]
    random.Random(f"{seed}/{policy}").shuffle(texts)
    roots = [engine.root(text, text) for text in texts[:1000]]
    rows = []
    for outcome in Driver(engine).run([(root, sample_pool(root, 1)) for root in roots]):
        [candidate] = outcome.trajectories
        if candidate.status == "finished" and candidate.steps:
            error, _ = first_error(parse(outcome.problem_id), candidate.steps) or (-1, 0)
            rows.append({"problem": outcome.problem_id, "steps": candidate.steps, "first_error": error, "policy": policy})
    return rows
