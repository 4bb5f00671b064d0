"""Measures the pocket models, PRMs on a fixed set of pocket solutions, and writes the results into their cards."""

import itertools
import json
import random
from collections import defaultdict

from tts.analysis import pathologies
from tts.analysis.accuracy import Results
from tts.common.files import write_text
from tts.generate import labelled
from tts.generate.grid import Grid
from tts.generate.labelled import SOLUTIONS
from tts.generate.runner import fill
from tts.models.files import POCKET_FOLDER, domain_of, pocket_models, read_card, write_card
from tts.store.store import Store
from tts.training.pocket.build import sampled
from tts.training.pocket.domains import DOMAINS
from tts.training.pocket.recipes import family

PER_POLICY = {"validation": 25, "test": 50}  # solutions


def policy(name: str, store: Store) -> dict:
    """Greedy accuracy on the held-out problems, and on fewer of them Pass@1 and Pass@64 at temperature 0.7."""
    measured = DOMAINS[domain_of(name)].measured
    grid = Grid(problems=measured, policies=[name], methods=["majority"], samples=1, budgets=[1])
    pool = Grid(problems=dict(zip(measured, (100, 30))), policies=[name], methods=["majority"], samples=64, budgets=[64])
    fill(grid, store, pool)
    greedy, sampled = Results(grid, store), Results(pool, store)
    asked = {"greedy": (greedy, "cot", 1), "pass@1": (sampled, "pass", 1), "pass@64": (sampled, "pass", 64)}
    return {
        f"{problem_set} {label}": round(float(results.accuracy(problem_set, name, None, method, n).mean()), 4)
        for problem_set in measured
        for label, (results, method, n) in asked.items()
    }


def prm(name: str) -> dict:
    """Error localisation (ProcessBench's F1), with the threshold chosen on validation and with 0.5; and :func:`.pathologies.telling`."""
    task = DOMAINS[domain_of(name.removeprefix("implicit:"))].task.name
    solutions = labelled.read("test", task)
    chosen = pathologies.judge(name, solutions, task)
    half = pathologies.at_threshold(chosen.scores, solutions, 0.5)
    results = {"localisation F1": chosen.f1, "on erroneous": chosen.erroneous, "on correct": chosen.correct}
    results |= {"threshold": chosen.threshold, "localisation F1 at 0.5": half.f1}
    results["AUC"] = pathologies.telling(chosen.scores, solutions)
    return {key: round(value, 4) for key, value in results.items()}


def all_models(store: Store, domain: str) -> None:
    """Measures every committed model of a domain and adds the results to its card."""
    for name in (*pocket_models("policy", domain), *pocket_models("prm", domain)):
        if name.startswith("prm-"):
            results = prm(name)
        else:
            results = policy(name, store) | ({"as implicit PRM": prm(f"implicit:{name}")} if name in family(domain) else {})
        write_card(POCKET_FOLDER / name, read_card(POCKET_FOLDER / name) | {"results": results})


def sample_solutions(domain: str) -> None:
    """The set that PRMs of a domain are judged on: sampled solutions of development problems, of each policy as many right as wrong ones
    if possible.

    A policy that is hardly ever right (or wrong) gives what it has; the rest is made up from the others. The splits share no problem.
    """
    of_each = [_sampled(policy, domain) for policy in family(domain)]
    for split, count in PER_POLICY.items():
        chosen = []
        for right in (True, False):
            groups = [rows[split, right] for rows in of_each]
            in_turn = [row for level in itertools.zip_longest(*groups) for row in level if row]
            chosen += in_turn[: count * len(of_each)]
        write_text(SOLUTIONS / f"{DOMAINS[domain].task.name}-{split}.jsonl", "".join(json.dumps(row) + "\n" for row in chosen))


def _sampled(policy: str, domain: str) -> dict[tuple[str, bool], list[dict]]:
    """One solution a problem, with the number of its first wrong step, -1 where there is none; by split, and whether it is right."""
    of, rows = DOMAINS[domain], defaultdict(list)
    answers = {row["problem"]: row["answer"] for row in of.task.load(next(iter(of.measured)), 1600, "development", 0)[0]}
    texts = list(answers)
    random.Random(f"0/{policy}").shuffle(texts)
    for outcome in sampled(policy, 0.7, texts[:1000], 1):
        [candidate] = outcome.trajectories
        if candidate.status == "finished" and candidate.steps:
            error, _ = of.first_error(of.parse(outcome.problem_id), candidate.steps) or (-1, 0)
            row = {"problem": outcome.problem_id, "steps": candidate.steps, "first_error": error, "policy": policy}
            third = sum(map(ord, answers[outcome.problem_id])) % 3  # of a whole number: its remainder
            rows["test" if third else "validation", error == -1].append(row)
    return rows
