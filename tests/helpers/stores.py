"""A small grid of tiny models, runs written by hand, and what a store exports."""

from __future__ import annotations

import json
import shutil

from tts.analysis.accuracy import Results
from tts.generate.grid import Grid
from tts.store.store import Store


def grid(policy, prm, **changes):
    values = {
        "problems": {"pocket-main": 6},
        "policies": [str(policy)],
        "prms": [f"math-shepherd:{prm}"],
        "samples": 4,
        "budgets": [4],
        "max_tokens": 40,
        "max_steps": 4,
        "chunk": 2,
        "batch": 8,
        "temperature": 1.0,
    }
    return Grid(**(values | changes))


def trajectory(answer, score, path=(0,), status="finished", tokens=10, step="a step"):
    steps = [step, f"\\boxed{{{answer}}}"] if answer is not None else [step, "no answer"]
    return {"path": list(path), "steps": steps, "scores": [1.0, score] if score is not None else [], "status": status, "tokens": tokens}


def hand_written(tiny_lm, folder, step="a step"):
    """Results of a store with one pool of four samples, its scores, and a DVTS run of two subtrees, for two problems."""
    model = folder / "policy"
    shutil.copytree(tiny_lm, model)
    (model / "card.json").write_text(json.dumps({"training_flops": 5e6}))
    file = folder / "problems.jsonl"
    file.write_text('{"id": "a", "problem": "7,+8=?", "answer": "15"}\n{"id": "b", "problem": "1,+1=?", "answer": "2"}\n')
    grid = Grid(
        problems={str(file): 2},
        policies=[str(model)],
        prms=[f"implicit:{model}"],
        samples=4,
        budgets=[2, 4],
        beam_width=2,
        aggregate="min",
        vote="max",
    )
    store, policy, prm = Store(folder / "runs"), str(model), f"implicit:{model}"
    answers = {"a": ["15", "14", "14", "15.0"], "b": ["2", None, "3", "3"]}
    scores = {"a": [0.3, 0.9, 0.1, 0.8], "b": [0.6, 0.9, 0.5, 0.2]}
    [chunk] = grid.chunks(str(file))

    def rows(make, policy_tokens, prm_tokens):
        common = {"prompt_tokens": 7, "policy_tokens": policy_tokens, "prm_tokens": prm_tokens}
        return [
            {"problem_id": p["id"], "problem": p["problem"], "answer": p["answer"], "trajectories": make(p["id"])} | common for p in chunk
        ]

    def pool(scored):
        return lambda i: [trajectory(a, s if scored else None, (n,), step=step) for n, (a, s) in enumerate(zip(answers[i], scores[i]))]

    store.open(grid.spec("cot", policy)).write(chunk, rows(lambda i: [trajectory(answers[i][0], None)], 10, 0), 1.0)
    store.open(grid.spec("pool", policy, n=4)).write(chunk, rows(pool(False), 40, 0), 1.0)
    store.open(grid.spec("scores", policy, prm, 4)).write(chunk, rows(pool(True), 40, 60), 1.0)
    trees = {"a": [trajectory("15", 0.2, (1, 0))], "b": [trajectory("3", 0.9, (0, 1)), trajectory("2", 0.4, (2, 0))]}
    store.open(grid.spec("dvts", policy, prm, 4)).write(chunk, rows(trees.get, 50, 70), 1.0)
    for n in (2, 4):
        store.open(grid.spec("beam_search", policy, prm, n)).write(chunk, rows(lambda i: trees[i][:1] if i == "a" else [], 30, 30), 1.0)
    return Results(grid, store)


def export(store):
    return "\n".join(store.export())
