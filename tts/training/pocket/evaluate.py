"""Measures the pocket models and writes the results into their cards."""

from __future__ import annotations

from tts.analysis import pathologies
from tts.analysis.accuracy import Results
from tts.generate import labelled
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.models.files import POCKET_FOLDER, pocket_models, read_card, write_card
from tts.store.store import Store
from tts.training.pocket.recipes import FAMILY

HELD_OUT = {"pocket-main": 400, "pocket-hard": 60}


def policy(name: str, store: Store, samples: int = 64) -> dict:
    """Greedy accuracy on the held-out problems, and on fewer of them Pass@1 and Pass@64 at temperature 0.7."""
    grid = Grid(problems=HELD_OUT, policies=[name], methods=["majority"], samples=1, budgets=[1])
    pool = Grid(problems={"pocket-main": 100, "pocket-hard": 30}, policies=[name], methods=["majority"], samples=samples, budgets=[samples])
    fill(grid, store)
    fill(pool, store)
    greedy, sampled = Results(grid, store), Results(pool, store)
    results = {}
    for problem_set in HELD_OUT:
        results[f"{problem_set} greedy"] = round(float(greedy.accuracy(problem_set, name, None, "cot", 1).mean()), 4)
        for n in (1, samples):
            results[f"{problem_set} pass@{n}"] = round(float(sampled.accuracy(problem_set, name, None, "pass", n).mean()), 4)
    return results


def prm(name: str) -> dict:
    """Error localisation (ProcessBench's F1), with the threshold chosen on validation and with 0.5."""
    solutions = labelled.read("test")
    chosen = pathologies.judge(name, solutions)
    half = pathologies.at_threshold(chosen.scores, solutions, 0.5)
    return {
        "localisation F1": round(chosen.f1, 4),
        "on erroneous": round(chosen.erroneous, 4),
        "on correct": round(chosen.correct, 4),
        "threshold": round(chosen.threshold, 4),
        "localisation F1 at 0.5": round(half.f1, 4),
    }


def all_models(store: Store) -> None:
    """Measures every committed model and adds the results to its card."""
    for name in (*pocket_models("policy"), *pocket_models("prm")):
        if name.startswith("prm-"):
            results = prm(name)
        else:
            results = policy(name, store) | ({"as implicit PRM": prm(f"implicit:{name}")} if name in FAMILY else {})
        write_card(POCKET_FOLDER / name, read_card(POCKET_FOLDER / name) | {"results": results})
