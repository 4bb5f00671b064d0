"""Parquet files of the form of search-and-learn's releases, with votes that are counted here in the plainest way."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BUDGETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SUFFIX = {"best_of_n": "best-of-N", "beam_search": "beam-search", "dvts": "DVTS"}


def folder_name(approach: str, n: int, seed: int) -> str:
    middle = "max_tokens-2048--bsz-8" if approach == "best_of_n" else "m-4--iters-40--look-0"
    return f"HuggingFaceH4_MATH-500--T-0.8--top_p-1.0--n-{n}--{middle}--seed-{seed}--agg_strategy-last"


def votes(answers: list[str], totals: list[float]) -> dict[str, str]:
    """``pred_naive@n``, ``pred_weighted@n`` and ``pred_maj@n`` for each n: the first of equals, as search-and-learn has it."""
    found = {}
    for n in (budget for budget in BUDGETS if budget <= len(answers)):
        first, sums = answers[:n], {}
        for answer, total in zip(first, totals):
            sums[answer] = sums.get(answer, 0) + total
        found[f"pred_naive@{n}"] = first[max(range(n), key=lambda i: totals[i])]
        found[f"pred_weighted@{n}"] = max(sums, key=lambda a: sums[a])
        found[f"pred_maj@{n}"] = max(dict.fromkeys(first), key=first.count)
    return {name: f"\\boxed{{{answer}}}" for name, answer in found.items()}


def rows(
    approach: str, n: int, seed: int, problems: int, distinct: int = 5, steps: int = 3, words: int = 2, surds: bool = False
) -> Iterator[dict]:
    """Rows with completions drawn by a seeded generator; problem i has the answer i, given by two of five completions.

    Where ``surds`` is set, only math-verify can tell whether two answers are the same. Of beam search a fourth of the candidates repeats
    others; of DVTS each four share all but their last step.
    """
    drawn = random.Random(f"{approach} {n} {seed}")
    for number in range(problems):
        answers, texts, scores = [], [], []
        for i in range(n):
            answer = str(number if drawn.random() < 0.4 else number + 1 + drawn.randrange(distinct - 1))
            if approach != "dvts" or i % 4 == 0:
                body = [
                    f"Step {s}: {' '.join(drawn.choices(['sum', 'root', 'x', 'half'], k=words))} {drawn.random()}" for s in range(steps - 1)
                ]
            answer = f"\\frac{{{answer}}}{{7}} + \\sqrt{{{int(answer) + 2}}}" if surds else answer
            texts.append("\n\n".join([*body, f"Therefore $\\boxed{{{answer}}}$"]))
            answers.append(answer)
            scores.append([round(drawn.random(), 6) for _ in range(steps)])
        if approach == "beam_search":
            for i in range(0, n, 4):
                texts[i + 1], answers[i + 1], scores[i + 1] = texts[i], answers[i], scores[i]
        yield {
            "problem": f"What is {number}?",
            "answer": f"\\frac{{{number}}}{{7}} + \\sqrt{{{number + 2}}}" if surds else str(number),
            "subject": "Algebra",
            "level": 1 + number % 5,
            "unique_id": f"test/algebra/{number}.json",
            "completions": texts,
            "scores": scores,
            "completion_tokens": [8 * steps] * n if approach == "best_of_n" else -1,
            **votes(answers, [s[-1] for s in scores]),
        }


def write(path: Path, held: Iterator[dict], group: int = 10) -> Path:
    """One parquet file, a row group for each ``group`` rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    while batch := list(islice(held, group)):
        table = pa.Table.from_pylist(batch)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()
    return path


def dataset(root: Path, approach: str, policy: str = "Llama-3.2-1B-Instruct", budgets=(8,), seeds=(0,), problems: int = 3, **form) -> Path:
    """A dataset's folder with a configuration for each budget and seed."""
    folder = root / f"{policy}-{SUFFIX[approach]}-completions"
    for n in budgets:
        for seed in seeds:
            write(folder / folder_name(approach, n, seed) / "train-00000-of-00001.parquet", rows(approach, n, seed, problems, **form))
    return folder
