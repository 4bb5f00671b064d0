"""Rows of solutions that nobody wrote, as long, as repetitive and as easily compressed as real ones.

60 samples of Qwen2.5-1.5B-Instruct on MATH-500, made with the study's own code, have 10.8 steps of 147 characters, and take 474 bytes each
as the store compresses them, two of a problem; 40 of Llama-3.2-3B-Instruct take 404, four of a problem. These take some 420.
"""

from __future__ import annotations

import random
import tempfile
from array import array
from collections.abc import Sequence

from tts.store.run_spec import Model, RunEngine, RunSpec, TaskKey
from tts.store.step_columns import StepCache
from tts.store.store import Store

STEPS = 11
WORDS = (
    "the of and to we have that is so then equation gives which let both sides value for since first second term sum divide multiply "
    "therefore simplify expression substitute factor root number answer find using from this these have are can be written as follows "
    r"\frac{1}{2} \sqrt{3} x y n = + - 2 3 4 12 x^2 (x+1) \[ \] \( \) \cdot \pi"
).split()


PHRASES = [" ".join(random.Random(i).choices(WORDS, k=6)) for i in range(5000)]  # of some 30 characters, five of which make a step
TOKEN = {word: number * 317 % 32000 for number, word in enumerate(WORDS)}


def rows_of(problems: Sequence[dict], n: int, seed: int = 0) -> list[dict]:
    """A chunk's rows of ``n`` samples a problem, drawn by a seeded generator; half are right, and wrong answers repeat each other."""
    drawn = random.Random(f"{seed} {problems[0]['id']}")
    rows = []
    for problem in problems:
        right, trajectories = int(problem["answer"]), []
        for number in range(n):
            phrases = drawn.choices(PHRASES, k=5 * (STEPS - 1))
            steps = [" ".join(phrases[i : i + 5]) for i in range(0, len(phrases), 5)]
            answer = right if drawn.random() < 0.5 else right + 1 + int(drawn.paretovariate(1.0)) % 15
            steps.append(f"Therefore, the answer is $\\boxed{{{answer}}}$.")
            trajectories.append({"path": [number], "steps": steps, "scores": [], "status": "finished", "tokens": 591})
        asked = {"problem_id": problem["id"], "problem": problem["problem"], "answer": problem["answer"]}
        told = {"prompt": problem["problem"], "prompt_tokens": 200, "policy_tokens": 591 * n, "prm_tokens": 0, "confidences": None}
        rows.append(asked | told | {"trajectories": trajectories})
    return rows


def stored_bytes(n: int = 64) -> tuple[float, float]:
    """Bytes of a stored solution, and of the steps that a search keeps for each of its solutions, token ids included."""
    problems = [{"id": f"p-{i}", "problem": f"What is {i}?", "answer": str(i)} for i in range(40)]
    rows, cache = rows_of(problems, n), StepCache()
    for row in rows:
        for trajectory in row["trajectories"]:
            for depth, text in enumerate(trajectory["steps"]):
                ids = array("i", (TOKEN.get(word, 5) for word in text.split()))
                step = {"path": [*trajectory["path"], *[0] * depth], "ids": ids, "text": text, "status": "open", "generated": len(ids)}
                cache.add({"problem_id": row["problem_id"]} | step)
    spec = RunSpec("pool", Model("simulated", ""), None, n, {"seed": 0}, RunEngine("vllm", 128, 40), TaskKey("maths", 1, ""))
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        for number, steps in enumerate((None, cache.column(rows))):
            run = Store(f"{folder}/{number}").open(spec)
            run.write(problems, rows, 1.0, steps=steps)
            sizes.append(run.size[1] / n / len(problems))
    return sizes[0], sizes[1] - sizes[0]
