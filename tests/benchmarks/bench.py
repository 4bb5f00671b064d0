"""``make bench``: what search, sampling and scoring cost against their floors and against other ways; ratios first.

Sides of a ratio alternate, so that a noisy machine disturbs both alike; medians of the rounds' ratios are what to quote.
``make bench QUICK=1`` is a fast look at fewer problems and rounds, ``ROUNDS=5`` sets the rounds; names of sections (see ``main``)
as arguments run these alone. Nothing is kept.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import profiling
import torch
from baselines import encoded, forward_loop, generate, generate_batch, plain_search, seconds
from profiling import once, scored_by
from rounds import QUICK, ROUNDS, Report, alternate
from transformers import PreTrainedModel

from tts.engine.cached_model import CachedModel
from tts.engine.slot_cache import SlotCache
from tts.generate.chunks import Engines, make, room, search_of
from tts.generate.dry_run import measure, missing_of
from tts.generate.grid import Grid
from tts.generate.local_pool import Processes, side_by_side
from tts.generate.runner import fill
from tts.generate.work import Work
from tts.models.loading import load_causal_lm
from tts.models.locate import locate
from tts.search import best_of_n, registry
from tts.search.driver import Driver, Outcome
from tts.store.step_columns import ChunkSteps, StepCache
from tts.store.store import Run, Store
from tts.tasks.problems import load_problems

PROBLEMS, POOL, PLAIN = (8, 16, 1) if QUICK else (32, 200, 4)
N, SIZES, COUNTS = 64, [4, 16, 64] if QUICK else [4, 16, 64, 256], [4, 8, 16] if QUICK else [8, 16, 32, 64]
PAIRS = [("policy-51k", "prm-qwen-54k"), ("policy-668k", "prm-qwen-54k")]
PRMS = ["prm-qwen-54k", "prm-shepherd-verbose", "implicit:policy-51k"]
# Those that ask a policy to revise need one that can read the request.
METHODS = {m.name: m.label for m in registry.METHODS.values() if m.guided and m.compared and not m.rereads}
GRID = Grid(problems={"pocket-main": 1}, policies=["policy-51k"], prms=PRMS, samples=max(SIZES), budgets=SIZES)


def problems(count: int) -> list[dict]:
    return list(load_problems("pocket-main", count, "development"))


def run(
    engines: Engines, policy: str, prm: str | None, method: str, n: int, chosen: int | Sequence[dict], record: bool = False
) -> tuple[float, list[Outcome]]:
    """Wall time and outcomes of one method over that many problems, or these."""
    sampler, scorer = engines.policy(policy, GRID.sampling()), engines.prm(prm) if prm else None
    roots = [sampler.root(p["id"], p["problem"]) for p in (problems(chosen) if isinstance(chosen, int) else chosen)]
    spec = GRID.spec(method, policy, prm, n)
    searches = [(root, best_of_n(root, n) if method == "best_of_n" else search_of(spec, root)) for root in roots]
    longest = max(len(root.prompt) for root in roots) + sampler.sampling.max_tokens
    held = room(engines, sampler, longest, scorer is not None)
    started = time.perf_counter()
    outcomes = Driver(sampler, scorer, record, room=held).run(searches)
    return time.perf_counter() - started, outcomes


def together(workers: Processes, policy: str, prm: str | None, method: str, chosen: list[dict]) -> tuple[float, int]:
    """Wall time and generated tokens as a study makes them: in chunks, by processes side by side."""
    spec, size = GRID.spec(method, policy, prm, N), max(1, len(chosen) // (2 * workers.places()))
    work = [Work(spec, chosen[at : at + size]) for at in range(0, len(chosen), size)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        made = list(workers.make(work, Store(folder), lambda item: None, lambda tokens: None))
    return time.perf_counter() - started, sum(row["policy_tokens"] for m in made for row in m.rows)


def speed(engines: Engines, policy: str, prm: str | None, method: str, n: int = N, count: int = PROBLEMS) -> float:
    """Generated tokens per second."""
    elapsed, outcomes = run(engines, policy, prm, method, n, count)
    return sum(o.policy_tokens for o in outcomes) / elapsed


def operations(backbone: PreTrainedModel, tokens: int, positions: int) -> float:
    """FLOPs of forward passes: two for each weight and token, and for each number of a key and a value that is attended to."""
    config, weights = backbone.config, sum(p.numel() for p in backbone.parameters()) - backbone.get_input_embeddings().weight.numel()
    return 2 * weights * tokens + 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * positions


@contextmanager
def forwarded() -> Iterator[list[float]]:
    """FLOPs of the forward passes meanwhile, padding and gaps included."""
    spent, extend = [0.0], CachedModel.extend

    def counted(self: CachedModel, cache: SlotCache, tokens: torch.Tensor, start: torch.Tensor, longest: int) -> torch.Tensor:
        rows, new = tokens.shape
        spent[0] += operations(self.backbone, rows * new, new * int(start.sum()) + rows * new * (new + 1) // 2)
        return extend(self, cache, tokens, start, longest)

    CachedModel.extend = counted
    try:
        yield spent
    finally:
        CachedModel.extend = extend


def fewest(engines: Engines, policy: str, prm: str, outcomes: list[Outcome], scored: set[tuple[str, tuple[str, ...]]]) -> float:
    """FLOPs that any engine has to compute: each distinct beginning that another token follows, and each step's rendering, once."""
    sampled = ((o, node) for o in outcomes for node in (*o.nodes, *o.rollouts))
    beginnings = {(o.problem_id, node.tokens[:end]): o.prompt_tokens + end for o, node in sampled for end in range(len(node.tokens))}
    family = engines.prm(prm).family
    stops = dict(zip(scored, map(len, family.render(list(scored)))))
    starts = {(text, steps): stops[text, steps[:-1]] if steps else 0 for text, steps in stops}
    read = sum(stops[key] - starts[key] for key in stops)
    positions = sum((stops[key] * (stops[key] + 1) - starts[key] * (starts[key] + 1)) // 2 for key in stops)
    sampler = engines.policy(policy, GRID.sampling()).model.base_model
    return operations(sampler, len(beginnings), sum(beginnings.values())) + operations(family.backbone, read, positions)


def search_against_best_of_n(report: Report, engines: Engines, policy: str, prm: str) -> None:
    """On one thread, as each process of a study, and on all. What is computed of a generated token differs: samples share rows."""
    threads, computed, floor = torch.get_num_threads(), {}, {}
    for method in METHODS:
        with forwarded() as flops, scored_by(engines.prm(prm)) as scored:
            _, outcomes = run(engines, policy, prm, method, N, PROBLEMS, record=True)
        generated = sum(o.policy_tokens for o in outcomes)
        computed[method], floor[method] = flops[0] / generated, fewest(engines, policy, prm, outcomes, scored) / generated
    for count in dict.fromkeys((1, threads)):
        torch.set_num_threads(count)
        try:
            rates = alternate({m: lambda m=m: speed(engines, policy, prm, m) for m in METHODS})
        finally:
            torch.set_num_threads(threads)
        for method in (name for name in METHODS if registry.is_search(name)):
            label = f"{METHODS[method]} over best-of-N, wall time per generated token, threads: {count}; {policy}, {prm}"
            report.ratio(label, rates["best_of_n"], rates[method], "1.20 or less" if count == 1 else "")
            share = computed[method] / computed["best_of_n"]
            label = f"the same, FLOPs per generated token that any engine has to compute; {policy}, {prm}"
            report.row(label, [floor[method] / floor["best_of_n"]])
            report.row(f"the same, FLOPs of the forward passes per generated token; {policy}, {prm}", [share])
            report.ratio(f"the same, wall time per FLOP; {policy}, {prm}", [r / share for r in rates["best_of_n"]], rates[method], "")


def steps_shared(report: Report, engines: Engines) -> None:
    """The searches of a grid with two PRMs one after the other: each given the steps of those before it over each by itself."""
    grid = GRID.model_copy(
        update={"prms": [PRMS[0], "implicit:policy-216k"], "methods": ["dvts", "beam_search"], "budgets": [4, 16, N], "samples": N}
    )
    chosen = problems(COUNTS[0])
    for policy in ("policy-32k", "policy-51k"):
        specs = [spec for spec in grid.model_copy(update={"policies": [policy]}).specs() if spec.width]
        generated: dict[bool, int] = {}

        def searches(share: bool, specs=specs, generated=generated) -> float:
            known: list[ChunkSteps] = []
            elapsed, generated[share] = 0.0, 0
            for spec in specs:
                engines.prm(spec.prm.name)  # loading it belongs to neither side
                made = make(Work(spec, chosen), StepCache(known) if share else None, engines)
                known.append(made.sampled)
                elapsed += made.seconds
                generated[share] += made.generated
            return elapsed

        times = alternate({"steps shared": lambda f=searches: f(True), "not shared": lambda f=searches: f(False)})
        label = f"{policy}, {len(specs)} searches with 2 PRMs, steps shared over each by itself"
        report.ratio(f"{label}: wall time", times["steps shared"], times["not shared"], "")
        report.row(f"{label}: tokens sampled", [generated[True] / generated[False]])


def prm_tokens(report: Report, engines: Engines) -> None:
    """Tokens read over the tokens of each problem's and each distinct step's rendering, once; of what best-of-N and searches score."""
    for prm in PRMS:
        family, ratios = engines.prm(prm).family, []
        for method in METHODS:
            with scored_by(engines.prm(prm)) as scored:
                read = sum(o.prm_tokens for o in run(engines, "policy-51k", prm, method, N, PROBLEMS)[1])
            ratios.append(read / once(family, scored))
        report.row(
            f"tokens read by {prm} over its rendering, once; lowest and highest of {', '.join(METHODS)}", ratios, "1.05 or less", ".3f"
        )


def sampling(report: Report, engines: Engines, workers: Processes, name: str, count: int) -> None:
    """A pool of N samples a problem against transformers' ways on a model of its own, and against bare forward passes.

    By processes side by side, as a study samples, and by one process, which has all threads as the other ways have.
    """
    policy = engines.policy(name, GRID.sampling())
    prompts = encoded(policy, problems(count))
    requests = [ids for ids in prompts for _ in range(N)]
    few = requests[:: max(1, len(requests) // 64)][:64]
    limits = {"max_new_tokens": GRID.max_tokens, "temperature": GRID.temperature}
    model = load_causal_lm(locate(name))
    own = CachedModel(load_causal_lm(locate(name)).base_model)
    _, outcomes = run(engines, name, None, "pool", N, count)
    lengths = [(o.prompt_tokens, len(c.tokens)) for o in outcomes for c in o.trajectories]
    prompt = round(statistics.mean(p for p, _ in lengths))
    # As many steps as give the bare loop the mean context that the pool's tokens have.
    steps = 2 * round(sum(t * (p + t / 2) for p, t in lengths) / sum(t for _, t in lengths) - prompt)

    def rate(work: Callable[[], int]) -> float:
        elapsed, tokens = seconds(work)
        return tokens / elapsed

    def pool() -> float:
        elapsed, tokens = together(workers, name, None, "pool", problems(count))
        return tokens / elapsed

    alone = "pool by one process"
    rates = alternate(
        {
            "pool": pool,
            alone: lambda: speed(engines, name, None, "pool", N, count),
            "generate": lambda: rate(lambda: sum(map(len, generate(model, policy.tokenizer, requests, GRID.batch, **limits)))),
            "generate_batch": lambda: rate(lambda: generate_batch(model, policy.tokenizer, few, GRID.max_tokens, GRID.temperature)),
            "the module's forward passes alone": lambda: rate(lambda: forward_loop(model, GRID.batch, prompt, steps)),
            "our forward passes alone": lambda: rate(lambda: own_forward_loop(own, model, GRID.batch, prompt, steps)),
        }
    )
    for side in rates:
        report.row(f"{name}, {side}: tokens per second", rates[side], form=",.0f")
    for side, wanted in zip(list(rates)[2:], ("3 or more", "2 or more", "0.90 or more", "")):
        report.ratio(f"{name}, pool of N = {N} over {side}, tokens per second", rates["pool"], rates[side], wanted)
        report.ratio(f"{name}, {alone} over {side}, tokens per second", rates[alone], rates[side], "")


@torch.inference_mode()
def own_forward_loop(own: CachedModel, model: torch.nn.Module, batch: int, prompt: int, steps: int) -> int:
    tokens, start = torch.randint(5, 30, (batch, prompt)), torch.zeros(batch, dtype=torch.int64)
    cache, head = own.cache(batch), model.get_output_embeddings()
    for _ in range(steps):
        hidden = own.extend(cache, tokens, start, int(start[0]))
        start = start + tokens.shape[1]
        tokens = head(hidden[:, -1]).argmax(-1)[:, None]
    return batch * steps


def against_plain_search(report: Report, engines: Engines, workers: Processes, policy: str, prm: str) -> None:
    """The same problems on both sides: plainly one after the other, ours each several times under different ids, side by side."""
    sampler, scorer = engines.policy(policy, GRID.sampling()), engines.prm(prm)
    module, reader = load_causal_lm(locate(policy)), type(scorer.family)(locate(prm.split(":")[-1]))
    chosen = problems(PROBLEMS)[:: PROBLEMS // PLAIN]
    copies = [p | {"id": f"{p['id']}-{copy}"} for copy in range(PROBLEMS // PLAIN) for p in chosen]
    for method in ("beam_search", "dvts"):

        def ours(method=method) -> float:
            return len(copies) / together(workers, policy, prm, method, copies)[0]

        def plainly(prm_batch: int, method=method) -> float:
            started = time.perf_counter()
            for problem in chosen:
                plain_search(sampler, module, reader, method, problem, N, GRID.beam_width, prm_batch)
            return len(chosen) / (time.perf_counter() - started)

        rates = alternate({"ours": ours, "PRM batches of 4": lambda p=plainly: p(4), f"of {N}": lambda p=plainly: p(N)})
        label = f"{METHODS[method]} over the published tools' loop, problems per second: {policy}, {prm}"
        for side, wanted in (("PRM batches of 4", "10 or more"), (f"of {N}", "")):
            report.ratio(f"{label}, {side}", rates["ours"], rates[side], wanted)


def slopes(report: Report, engines: Engines, policy: str, prm: str) -> None:
    """Of the log of wall time over the log of N, and over the log of the number of problems."""
    for method in METHODS:
        times = alternate({f"N = {n}": lambda n=n, m=method: run(engines, policy, prm, m, n, COUNTS[0])[0] for n in SIZES})
        report.row(f"{METHODS[method]}, log-log slope of wall time over N = {SIZES[0]}..{SIZES[-1]}", _slopes(SIZES, times), "1.05 or less")
        times = alternate({f"{c} problems": lambda c=c, m=method: run(engines, policy, prm, m, 16, c)[0] for c in COUNTS})
        label = f"{METHODS[method]}, log-log slope of wall time over {COUNTS[0]}..{COUNTS[-1]} problems"
        report.row(label, _slopes(COUNTS, times), "1.05 or less")


def _slopes(sizes: Sequence[int], times: dict[str, list[float]]) -> list[float]:
    return [float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) for values in zip(*times.values())]


def memory(report: Report) -> None:
    """Peak memory of a process of its own, which must not grow with the number of problems."""
    for n, count in ((N, COUNTS[0]), (N, COUNTS[-1]), (SIZES[-1], COUNTS[0])):
        command = [sys.executable, __file__, "peak", str(n), str(count)]
        peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        report.row(f"beam search with N = {n} on {count} problems: peak memory in MiB", [peak], form=".0f")


def peak(n: int, count: int) -> None:
    run(Engines(GRID.batch), *PAIRS[0], "beam_search", n, count)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def estimates(report: Report) -> None:
    """Small studies' estimates against what they then take: of short and of long solutions, of a small and of a larger PRM."""
    grids = {
        "pocket-main": Grid(problems={"pocket-main": PROBLEMS}, policies=["policy-32k", "policy-51k"], prms=PRMS[:1], split="development"),
        "pocket-hard": Grid(
            problems={"pocket-hard": PROBLEMS}, policies=["policy-94k"], prms=["implicit:policy-216k"], split="development", chunk=8
        ),
    }
    for name, small in grids.items():
        tokens, times = [], []
        for _ in range(1 if QUICK else 3):
            with tempfile.TemporaryDirectory() as folder:
                store = Store(Path(folder))
                said = measure(missing_of([(small, store)]))
                started = time.perf_counter()
                fill(small, store)
                times.append(said.seconds / (time.perf_counter() - started))
                taken = sum(_generated(store.run(spec), chunk) for spec in small.specs() for chunk in small.chunks(name))
                tokens.append(said.tokens / taken)
        report.row(f"dry run's estimate over what it took, {name}: seconds", times, "0.70 to 1.30")
        report.row(f"dry run's estimate over what it took, {name}: tokens", tokens, "0.70 to 1.30")


def _generated(run: Run, chunk: list[dict]) -> int:
    """Tokens that the policy generated for a chunk."""
    if run.spec.method in ("cot", "pool"):
        return sum(row["policy_tokens"] for row in run.read(chunk))
    return sum(step["generated"] for step in run.steps(chunk).values())


def differing_samples(report: Report) -> None:
    """Samples whose tokens change when the batch is smaller and the problems come in reverse order.

    Rounding differs between batches; a sample changes where that moves its noise across a token's boundary.
    """
    pools = []
    for batch, order in ((GRID.batch, 1), (GRID.batch // 2 - 5, -1)):
        policy = Engines(batch).policy("policy-51k", GRID.sampling())
        roots = [policy.root(p["id"], p["problem"]) for p in problems(POOL)[::order]]
        spec = GRID.spec("pool", "policy-51k", n=N)
        outcomes = Driver(policy).run([(root, search_of(spec, root)) for root in roots])
        pools.append({(o.problem_id, c.path): c.tokens for o in outcomes for c in o.trajectories})
    differing = sum(pools[0][key] != pools[1][key] for key in pools[0])
    report.row(f"samples of {len(pools[0]):,} that differ with another batch size and order of problems", [differing], form=".0f")


def profiled(engines: Engines) -> dict[str, Callable[[], object]]:
    """What is profiled: sampling and every search of either policy of the pairs."""
    works = {"pool": (None, "pool"), **{label: (1, method) for method, label in METHODS.items()}}
    return {
        f"{label}, {policy.removeprefix('policy-')}": lambda policy=policy, prm=prm if guided else None, method=method: run(
            engines, policy, prm, method, N, PROBLEMS
        )
        for policy, prm in PAIRS
        for label, (guided, method) in works.items()
    }


def main(sections: Sequence[str]) -> None:
    engines = Engines(GRID.batch)
    report = Report(f"N = {N}, {PROBLEMS} problems, {ROUNDS} rounds, {torch.get_num_threads()} threads, batch {GRID.batch}")
    specs = [GRID.spec("beam_search", *pair, N) for pair in PAIRS]
    with Processes(*side_by_side(specs)) as workers:
        every: dict[str, Callable[[], None]] = {
            "search": lambda: [search_against_best_of_n(report, engines, *pair) for pair in PAIRS],
            "shared": lambda: steps_shared(report, engines),
            "prm": lambda: prm_tokens(report, engines),
            "sampling": lambda: [sampling(report, engines, workers, p, POOL if p == PAIRS[0][0] else PROBLEMS) for p, _ in PAIRS],
            "plain": lambda: [against_plain_search(report, engines, workers, *pair) for pair in PAIRS],
            "slopes": lambda: slopes(report, engines, *PAIRS[0]),
            "memory": lambda: memory(report),
            "estimates": lambda: estimates(report),
            "differing": lambda: differing_samples(report),
            "profile": lambda: print(profiling.table(profiled(engines), ROUNDS)),
        }
        if unknown := set(sections) - set(every):
            raise SystemExit(f"no section {', '.join(sorted(unknown))}; there are {', '.join(every)}")
        for name in sections or every:
            every[name]()


if __name__ == "__main__":
    peak(*map(int, sys.argv[2:])) if sys.argv[1:2] == ["peak"] else main(sys.argv[1:])
