"""Stored samples in full: what a run's solutions of a problem say, and how the methods come from them to one answer each."""

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from tts.analysis import grades
from tts.analysis.accuracy import Graded, Results
from tts.common import names
from tts.common.thinking import thinking_steps
from tts.search.registry import Method, method_of, prm_of
from tts.store.run_spec import RunSpec
from tts.tasks.base import Task
from tts.tasks.grading import Grader
from tts.tasks.selection import MAJORITY, Rule
from tts.tasks.verdicts import Verdicts

KINDS = ("every method is right", "the methods differ", "no method is right")
CHOSEN = "The first problem on which every method is right, the first on which they differ, the first on which none is right."
WEIGHTS = {"majority": "votes", "vote": "summed score", "max": "best score"}  # what a vote goes by
MOST_STEPS = 10  # of a solution, that a row shows


def shown(spec: RunSpec, row: dict, task: Task, store: Path, count: int = 3, wrong: bool = False) -> str:
    """A problem with its reference, and the first ``count`` solutions of a row of a store, or its wrong ones, step by step."""
    candidates = row["trajectories"]
    with Grader(task, verdicts=Verdicts(store / grades.VERDICTS)) as grader:
        graded = grades.of_row(row, grader)
    statuses = ", ".join(f"{number} {status}" for status, number in Counter(graded.status).items())
    lines = [
        f"{spec}, seed {spec.seed}; problem {row['problem_id']}",
        f"problem: {row['problem']}",
        f"reference: {row['answer']}",
        f"samples: {len(candidates)}, {sum(graded.correct)} right; {statuses or 'none finished'}",
        f"tokens: {names.shown(row['policy_tokens'], ',.0f')} of the policy, {names.shown(row['prm_tokens'], ',.0f')} of the PRM",
    ]
    chosen = [number for number, right in enumerate(graded.correct) if not (wrong and right)][:count]
    for number in chosen:
        solution, status, verdict = candidates[number], graded.status[number], "right" if graded.correct[number] else "wrong"
        answer = task.found_in(solution["steps"], row.get("prompt"))[0] if solution["status"] == "finished" else None
        found = status if answer is None else f"{status}: {answer}"
        lines.append(f"\nsample {number + 1}: {verdict}, {found}; {names.shown(solution['tokens'], ',.0f')} tokens")
        thought = thinking_steps(solution["steps"], row.get("prompt") or "")
        for place, (step, score) in enumerate(_scored(solution)):
            lines += [f"{'':8}(end of thinking)"] if place == thought > 0 else []
            lines.append(f"{'' if score is None else f'{score:.2f}':>6}  " + step.replace("\n", f"\n{'':8}"))
    return names.printable("\n".join(lines if chosen else [*lines, "\nno such sample"]))


def examples(results: Results, problem_set: str, policy: str, prm: str, n: int, count: int = 3) -> list[tuple[str, pd.DataFrame]]:
    """The first problem of each of :data:`KINDS`, then the next ones of the set: what each method of the grid does at budget ``n``.

    Titles, and tables with the columns who, answer, verdict, how. Rows: of the scored pool the best solution of each of the two answers
    with most weight, and one of the right answer, with the scores of its steps; then each method's answer and the weights that chose it.
    """
    grid, cells, right = results.grid, {}, []
    for method in map(method_of, ("cot", *grid.methods)):
        asked = policy, prm_of(method.name, prm), method.name, n if method.compared else 1
        if grid.holds(*asked):
            rule = grid.rule if method.compared and method.select == "rule" else MAJORITY
            cells[method] = grid.run_of(method.name, *asked[:2], asked[3]), rule
            right += [results.accuracy(problem_set, *asked)] if method.compared else []
    kinds = np.select([np.min(right, 0) == 1, np.max(right, 0) > 0], KINDS[:2], KINDS[2]).tolist()
    order = [kinds.index(kind) for kind in KINDS if kind in kinds]
    pool, problems, found = max(cells, key=lambda method: (method.source == "pool", method.guided)), grid.chunks(problem_set), []
    for number in [*order, *(i for i in range(len(kinds)) if i not in order)][:count]:
        chunk, place = divmod(number, grid.chunk)
        rows = {m: results.store.run(spec).read(problems[chunk])[place] for m, (spec, _) in cells.items()}
        graded = {m: results.graded(problem_set, spec)[number] for m, (spec, _) in cells.items()}
        drawn = {m: min(n, m.stop(graded[m].group.tolist(), grid.settings)) if m.stop else n for m in cells}
        weights = {m: m.weigh(graded[m].confidence[:n], grid.settings) for m in cells if m.weigh}
        tallies = {m: _tally(graded[m], rule, drawn[m], weights.get(m)) for m, (_, rule) in cells.items()}
        told = _solutions(
            rows[pool],
            pd.concat([tallies[pool][:2], tallies[pool][2:].query("right > 0")]),
            grid.task,
            "the pool" if pool.source == "pool" else pool.label,
        )
        for method in [m for m in cells if m != pool and all(verdict == "wrong" for _, _, verdict, _ in told)]:
            told += _solutions(rows[method], tallies[method].query("right > 0"), grid.task, method.label)
        by = {
            m: "weight" if m.weigh else f"of {drawn[m]} samples, votes" if m.stop else WEIGHTS[rule.vote] for m, (_, rule) in cells.items()
        }
        told += [_vote(m, rows[m], tallies[m], by[m], grid.task) for m in cells]
        title = f"{_cut(rows[pool]['problem'], 300)} right answer: {_cut(rows[pool]['answer'])}; {kinds[number]}"
        found.append((title, pd.DataFrame(told, columns=["who", "answer", "verdict", "how"])))
    return found


def _tally(graded: Graded, rule: Rule, n: int, weights: np.ndarray | None = None) -> pd.DataFrame:
    """Each answer of what comes from the first ``n`` samples, by weight: how many gave it, best of these, share right, verdict.

    ``weights``: of the first samples, where they are not the rule's.

    Of an answer whose samples a vote does not tell apart, of which some are wrong, accuracy counts the share that is right.
    """
    own = 1.0 if rule.vote == "majority" else graded.scores.get(rule.aggregate, 1.0)  # a run may have no candidate
    own = own if weights is None else np.pad(weights, (0, len(graded.group) - len(weights)))
    candidates = pd.DataFrame({"own": own, "group": graded.group, "right": graded.correct})
    by = candidates[(graded.subtree < n) & (graded.group >= 0)].groupby("group", sort=False)
    columns = {"weight": by["own"].agg("max" if rule.vote == "max" else "sum"), "count": by.size(), "best": by["own"].idxmax()}
    shares = by["right"].mean()
    verdicts = [_verdict(share, f"mixed: {share * count:.0f} of {count} right") for share, count in zip(shares, columns["count"])]
    return pd.DataFrame(columns | {"right": shares, "verdict": verdicts}).sort_values("weight", ascending=False, kind="stable")


def _solutions(row: dict, tally: pd.DataFrame, task: Task, whose: str) -> list[tuple[str, ...]]:
    """The best solution of each answer of a tally, its steps with their scores."""
    told: list[tuple[str, ...]] = []
    for answer in tally.itertuples():
        solution = row["trajectories"][answer.best]
        thought = thinking_steps(solution["steps"], row.get("prompt") or "")
        steps = [f"{_cut(s)} ({names.shown(p, '.2f')})" for s, p in [*_scored(solution)][thought:]]
        steps = [f"... {thought} steps of thinking ...", *steps] if thought else steps
        if (left := len(steps) - MOST_STEPS) > 0:
            steps[MOST_STEPS - 1 : -1] = [f"... {left} more ..."]
        told.append((f"{answer.count} of {whose}", _said(row, answer.best, task), answer.verdict, " | ".join(steps)))
    return told


def _scored(solution: dict) -> Iterator[tuple[str, float | None]]:
    """Each step with its score, None where it has none; the one score of a whole solution stands at its end."""
    steps, scores = solution["steps"], list(solution["scores"] or ())
    return zip_longest(steps, [None] * (len(steps) - 1) + scores if len(scores) == 1 else scores)


def _verdict(share: float, between: str) -> str:
    return "right" if share == 1 else between if share > 0 else "wrong"


def _said(row: dict, number: int, task: Task) -> str:
    return _cut(task.found_in(row["trajectories"][number]["steps"], row.get("prompt"))[0] or "none")


def _vote(method: Method, row: dict, tally: pd.DataFrame, weighed: str, task: Task) -> tuple[str, ...]:
    """What a method answers, and the weights of that answer and of the next one."""
    answers = [(f"{weight:.3g}", _said(row, best, task)) for weight, best in zip(tally["weight"][:2], tally["best"])]
    against = " against {} for {}".format(*answers[1]) if len(answers) > 1 else ", no other answer"
    why = f"{weighed} {answers[0][0]}{against}" if answers else "no candidate has an answer"
    leading = tally[tally["weight"] >= tally["weight"].max() * (1 - 1e-12)]  # sums of equal weights may differ in a last digit
    share = leading["right"].mean()
    verdict = _verdict(share, f"tie, {share:.0%} right") if len(leading) > 1 else "".join(leading["verdict"]) or "wrong"
    return method.label, answers[0][1] if answers else "none", verdict, why if method.compared else "one solution"


def _cut(text: str, most: int = 60) -> str:
    """A text on one line, without control characters, cut."""
    line = names.printable(" ".join(text.split()))
    return line if len(line) <= most else f"{line[:most]}..."
