"""``make bench``: what a search costs per token against best-of-N, and sampling against ``generate``; ratios only.

Runs alternate, so that a noisy machine disturbs both sides alike; medians of the ratios are what to quote.
"""

from __future__ import annotations

import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from tts.problems import load_problems
from tts.runs.grid import Grid
from tts.runs.runner import Engines, search_of
from tts.search import best_of_n
from tts.search.driver import Driver

POLICY, PRM, N, PROBLEMS, ROUNDS = "policy-51k", "prm-qwen-54k", 64, 16, 5
GRID = Grid(problems={"pocket-main": PROBLEMS}, policies=[POLICY], prms=[PRM], samples=N, budgets=[N])


def search_seconds(engines: Engines, method: str) -> tuple[float, int]:
    """Wall time and generated tokens of one method over all problems."""
    policy, prm = engines.policy(POLICY, GRID.sampling()), engines.prm(PRM)
    searches = []
    for problem in load_problems("pocket-main", PROBLEMS, "development"):
        root = policy.root(problem["id"], problem["problem"])
        spec = GRID.spec(method, POLICY, PRM, N)
        searches.append((root, best_of_n(root, N) if method == "best_of_n" else search_of(spec, root)))
    started = time.perf_counter()
    outcomes = Driver(policy, prm).run(searches)
    return time.perf_counter() - started, sum(o.policy_tokens for o in outcomes)


def pool_seconds(engines: Engines) -> tuple[float, int]:
    """Wall time and tokens of a pool of samples, by this suite's loop."""
    policy = engines.policy(POLICY, GRID.sampling())
    problems = load_problems("pocket-main", PROBLEMS, "development")
    roots = [policy.root(p["id"], p["problem"]) for p in problems]
    spec = GRID.spec("pool", POLICY, n=N)
    started = time.perf_counter()
    outcomes = Driver(policy).run([(root, search_of(spec, root)) for root in roots])
    return time.perf_counter() - started, sum(o.policy_tokens for o in outcomes)


@torch.inference_mode()
def generate_seconds(engines: Engines) -> tuple[float, int]:
    """The same requests by transformers' ``generate``, in batches of the same size, problems sorted by length."""
    policy = engines.policy(POLICY, GRID.sampling())
    tokenizer, model = policy.tokenizer, policy.model
    texts = [p["problem"] + "\n\n" for p in load_problems("pocket-main", PROBLEMS, "development") for _ in range(N)]
    tokens = 0
    started = time.perf_counter()
    for at in range(0, len(texts), GRID.batch):
        batch = tokenizer(sorted(texts, key=len)[at : at + GRID.batch], return_tensors="pt", padding=True, padding_side="left")
        out = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=0.7,
            max_new_tokens=GRID.max_tokens,
        )
        tokens += int((out[:, batch["input_ids"].shape[1] :] != tokenizer.pad_token_id).sum())
    return time.perf_counter() - started, tokens


def differing_samples() -> tuple[int, int]:
    """Samples whose tokens change when the batch is smaller and the problems come in reverse order, and their number.

    Rounding differs between batches; a sample changes where that moves its noise across a token's boundary.
    """
    problems = list(load_problems("pocket-main", 157, "development"))
    pools = []
    for batch, order in ((GRID.batch, 1), (GRID.batch // 2 - 5, -1)):
        policy = Engines(batch).policy(POLICY, GRID.sampling())
        roots = [policy.root(p["id"], p["problem"]) for p in problems[::order]]
        outcomes = Driver(policy).run([(root, search_of(GRID.spec("pool", POLICY, n=N), root)) for root in roots])
        pools.append({(o.problem_id, c.path): c.tokens for o in outcomes for c in o.trajectories})
    return sum(pools[0][key] != pools[1][key] for key in pools[0]), len(pools[0])


def main() -> None:
    engines = Engines(GRID.batch)
    sides = {
        "best-of-N": lambda: search_seconds(engines, "best_of_n"),
        "beam search": lambda: search_seconds(engines, "beam_search"),
        "DVTS": lambda: search_seconds(engines, "dvts"),
        "pool": lambda: pool_seconds(engines),
        "generate": lambda: generate_seconds(engines),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            seconds, tokens = side()
            rates[name].append(tokens / seconds)
    table = Table("figure", "median", "lowest", "highest", title=f"{POLICY} with {PRM}, N = {N}, {PROBLEMS} problems, {ROUNDS} rounds")
    for name, values in rates.items():
        table.add_row(f"{name}: tokens per second", *(f"{v:,.0f}" for v in (statistics.median(values), min(values), max(values))))
    for label, above, below in (
        ("beam search over best-of-N, wall time per generated token", "best-of-N", "beam search"),
        ("DVTS over best-of-N, wall time per generated token", "best-of-N", "DVTS"),
        ("pool over generate, tokens per second", "pool", "generate"),
    ):
        ratios = [a / b for a, b in zip(rates[above], rates[below])]
        table.add_row(label, *(f"{v:.2f}" for v in (statistics.median(ratios), min(ratios), max(ratios))))
    differing, total = differing_samples()
    table.add_row(f"samples of {total:,} that differ with another batch size and order of problems", str(differing), "", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
