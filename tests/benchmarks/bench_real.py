"""``make bench-real``: sampling and search at sizes that users have, over transformers' ``generate`` and vLLM; ratios first.

In vLLM's environment. ``bench_real.py FOLDER`` runs each policy of ``real_models.py`` in a process of its own, as vLLM has one engine a
process; ``bench_real.py FOLDER POLICY SECTION`` runs one section (see ``main``) of one. ``--without-vllm`` leaves vLLM out. Sides of a
ratio alternate; ``ROUNDS`` and ``QUICK`` as of ``make bench``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

import baselines
import profiling
import pytest
import torch
from baselines import encoded, generate, plain_search, seconds
from rounds import QUICK, Report, alternate

import tts.engine.engine as decoding
from tts.engine.cached_model import CachedModel
from tts.generate import dry_run
from tts.generate.chunks import Engines, make
from tts.generate.dry_run import missing_of
from tts.generate.grid import Grid
from tts.models.loading import load_causal_lm
from tts.policies import open_policy
from tts.reward_models import open_prm
from tts.search import beam_search, best_of_n, dvts, sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.store.store import Store
from tts.tasks.grading import Grader
from tts.tasks.maths import MATHS

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from caches import peak_of_caches  # noqa: E402

POLICIES = {"policy-135m": "qwen-prm-500m", "policy-500m": "qwen-prm-500m"}
PROBLEMS, N, WIDTH, BATCH = (4, 8, 4, 32) if QUICK else (8, 16, 4, 128)
SAMPLING = Sampling(temperature=0.7, max_tokens=96 if QUICK else 160, max_step_tokens=48 if QUICK else 80)
SEARCHES = {"best-of-N": best_of_n, "beam search": partial(beam_search, width=WIDTH), "DVTS": partial(dvts, width=WIDTH)}
MIB = 1 << 20
SEARCHED = 14 if QUICK else 28  # problems of a search over best-of-N: where they fill the batch once only, it is half empty between steps
_turn = iter(range(1 << 30))


def questions(count: int = PROBLEMS) -> list[str]:
    return [f"A farm has {3 + i} cows, {5 + i} hens and {2 * i + 1} spiders. How many legs do they have together?" for i in range(count)]


def rate(policy, search: Callable, prm=None, count: int = PROBLEMS) -> float:
    """Generated tokens per second of one search of every problem, each time under other ids, so that nothing is known already."""
    turn = next(_turn)
    roots = [policy.root(f"{turn}/{number}", text) for number, text in enumerate(questions(count))]
    started = time.perf_counter()
    outcomes = Driver(policy, prm).run([(root, search(root, N)) for root in roots])
    return sum(outcome.policy_tokens for outcome in outcomes) / (time.perf_counter() - started)


def called_directly(policy, seeded: bool) -> float:
    """Generated tokens per second of vLLM's engine as its own class ``LLM`` calls it: a request a sample, or a problem's samples as one."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    turn, prompts = next(_turn), [policy.root("", text).prompt for text in questions()]
    given = {"temperature": 0.7, "max_tokens": SAMPLING.max_tokens, "output_kind": RequestOutputKind.FINAL_ONLY}
    started, tokens = time.perf_counter(), 0
    for number, prompt in enumerate(prompts):
        for sample in range(N if seeded else 1):
            parameters = SamplingParams(seed=turn * 100_000 + number * N + sample if seeded else None, n=1 if seeded else N, **given)
            policy.llm.add_request(f"{turn}/{number}/{sample}", {"prompt_token_ids": list(prompt)}, parameters)
    while policy.llm.has_unfinished_requests():
        tokens += sum(len(done.token_ids) for output in policy.llm.step() if output.finished for done in output.outputs)
    return tokens / (time.perf_counter() - started)


def pool(report: Report, own, other, location: str) -> None:
    """A pool of N samples a problem."""
    model = load_causal_lm(location)
    requests = [ids for ids in encoded(own, [{"problem": text} for text in questions()]) for _ in range(N)]
    limits = {"max_new_tokens": SAMPLING.max_tokens, "temperature": SAMPLING.temperature}

    def generated(batch: int) -> float:
        elapsed, tokens = seconds(lambda: sum(map(len, generate(model, own.tokenizer, requests, batch, **limits))))
        return tokens / elapsed

    sizes = sorted({min(size, len(requests)) for size in (32, 128)})
    best = max(sizes, key=generated) if len(sizes) > 1 else sizes[0]
    sides: dict[str, Callable[[], float]] = {"pool": lambda: rate(own, sample_pool), "generate": lambda: generated(best)}
    if other:
        sides |= {
            "vLLM called directly": lambda: called_directly(other, False),
            "vLLM called directly, a seed a sample": lambda: called_directly(other, True),
            "vllm: pool": lambda: rate(other, sample_pool),
        }
    rates = alternate(sides)
    for side, values in rates.items():
        report.row(f"{side}: tokens per second" + f", batch {best}" * (side == "generate"), values, form=",.0f")
    for side in list(rates)[1:4]:
        report.ratio(f"pool over {side}", rates["pool"], rates[side], "")
    if other:
        report.ratio("vllm: pool over vLLM called directly", rates["vllm: pool"], rates["vLLM called directly"], "0.95 or more")


def searches(report: Report, policies: dict, prm) -> None:
    """Per generated token, over best-of-N with the same engine."""
    sides = {
        f"{engine}, {name}": partial(rate, policy, search, prm, SEARCHED)
        for engine, policy in policies.items()
        for name, search in SEARCHES.items()
    }
    rates = alternate(sides)
    for side, values in rates.items():
        report.row(f"{side}: tokens per second", values, form=",.0f")
    for engine in policies:
        for name in list(SEARCHES)[1:]:
            above, below = rates[f"{engine}, best-of-N"], rates[f"{engine}, {name}"]
            report.ratio(f"{engine}: {name} over best-of-N, time per generated token", above, below, "1.3 or less")


def where_time_goes(report: Report, policies: dict, prm) -> None:
    """Shares of the wall time of a beam search, and of grading beside it."""
    for engine, policy in policies.items():
        spent: Counter[str] = Counter()

        def timed(label: str, spent=spent) -> Callable:
            def call(original, *given, **named):
                inner, started = sum(spent.values()), time.perf_counter()
                result = original(*given, **named)
                # What is timed within belongs to it alone.
                spent[label] += time.perf_counter() - started - (sum(spent.values()) - inner)
                return result

            return call

        parts = [
            (type(policy.tokenizer), name, "tokeniser")
            for name in ("__call__", "encode", "decode", "batch_decode", "convert_ids_to_tokens")
        ]
        parts += [(type(prm), "score", "PRM, but for its forward passes"), (type(policy), "poll", "policy, but for its operations")]
        parts += [(CachedModel, "extend", "forward passes of both models"), (type(policy), "submit", "policy, but for its operations")]
        with ExitStack() as stack:
            for owner, name, label in parts:
                stack.enter_context(profiling.replaced(owner, name, timed(label)))
            if ours := getattr(policy, "engine", None):
                stack.enter_context(pytest.MonkeyPatch.context()).setattr(
                    ours, "head", partial(timed("forward passes of both models"), ours.head)
                )
                stack.enter_context(profiling.replaced(decoding, "choose", timed("drawing of tokens")))
            turn, started = next(_turn), time.perf_counter()
            roots = [policy.root(f"{turn}/{number}", text) for number, text in enumerate(questions())]
            outcomes = Driver(policy, prm).run([(root, SEARCHES["beam search"](root, N)) for root in roots])
            wall = time.perf_counter() - started
        for label, seconds_spent in (spent | {"driver and the rest": wall - sum(spent.values())}).items():
            report.row(f"{engine}, beam search: share of {label}", [seconds_spent / wall])
        trajectories, started = [c for o in outcomes for c in o.trajectories], time.perf_counter()
        with Grader() as grader:
            for candidate in trajectories:
                grader.right("16", MATHS.answer("\n\n".join(candidate.steps)))
        label = f"{engine}, beam search: time of grading its {len(trajectories)} trajectories over that of the search"
        report.row(label, [(time.perf_counter() - started) / wall])


def beside_floors(report: Report, policy, prm, location: str, prm_location: str) -> None:
    """What the PRM reads over its rendering; the caches' bytes over what the dry run says."""
    for name, search in SEARCHES.items():
        roots = [policy.root(f"{next(_turn)}", text) for text in questions()]
        with profiling.scored_by(prm) as scored:
            read = sum(o.prm_tokens for o in Driver(policy, prm).run([(root, search(root, N)) for root in roots]))
        report.row(
            f"{name}: tokens that the PRM reads over its rendering, once", [read / profiling.once(prm.family, scored)], "1.05 or less"
        )
    grid = Grid(
        problems={"pocket-main": PROBLEMS}, policies=[location], prms=[prm_location], methods=["beam_search"], samples=N, budgets=[N],
        batch=BATCH, beam_width=WIDTH, max_tokens=SAMPLING.max_tokens, max_step_tokens=SAMPLING.max_step_tokens,
    )  # fmt: skip
    engines = Engines(BATCH)
    with tempfile.TemporaryDirectory() as folder, peak_of_caches() as most:
        items = [item for item in missing_of([(grid, Store(Path(folder)))]) if item.work.spec.method == "beam_search"]
        said = sum(dry_run._caches(items, items[0].work.chunk, engines))
        make(items[0].work, None, engines)
    report.row(
        f"beam search: caches at their peak, MiB; the dry run says {said / MIB:,.0f}", [most[0] / MIB], f"{said / MIB:,.0f} or less", ",.0f"
    )


def against_plain_search(report: Report, policy, prm, location: str) -> None:
    """Beam search of all problems, and the published tools' loop on one of them, by the same policy and PRM: generated tokens per second.

    Random weights write solutions of any length, so that problems per second would compare lengths.
    """
    model, reader, made = load_causal_lm(location), type(prm.family)(prm.name), Counter()

    def counted(original, *given, **named):
        rows = original(*given, **named)
        made["plain"] += sum(map(len, rows))
        return rows

    def plainly() -> float:
        made.clear()
        started = time.perf_counter()
        with profiling.replaced(baselines, "generate", counted):
            plain_search(policy, model, reader, "beam_search", {"id": "0", "problem": questions()[0]}, N, WIDTH, 4)
        return made["plain"] / (time.perf_counter() - started)

    rates = alternate({"ours": lambda: rate(policy, SEARCHES["beam search"], prm), "plain": plainly})
    for side, values in rates.items():
        report.row(f"beam search, {side}: tokens per second", values, form=",.1f")
    report.ratio("beam search over the published tools' loop, tokens per second", rates["ours"], rates["plain"], "")


def main(folder: Path, name: str, sections: Sequence[str]) -> None:
    location, prm_location = str(folder / name), str(folder / POLICIES[name])
    report = Report(f"{name}, {PROBLEMS} problems, N = {N}, {torch.get_num_threads()} threads")
    own, other = open_policy(location, SAMPLING, BATCH), None
    if "--without-vllm" not in sys.argv:
        other = open_policy(f"vllm:{location}", SAMPLING, BATCH)
    policies, prm = {"our engine": own} | ({"vllm:": other} if other else {}), cache(lambda: open_prm(prm_location, BATCH))
    every: dict[str, Callable[[], None]] = {
        "pool": lambda: pool(report, own, other, location),
        "searches": lambda: searches(report, policies, prm()),
        "shares": lambda: where_time_goes(report, policies, prm()),
        "floors": lambda: beside_floors(report, own, prm(), location, prm_location),
        "plain": lambda: against_plain_search(report, own, prm(), location),
    }
    for section in sections or every:
        every[section]()


if __name__ == "__main__":
    options = [argument for argument in sys.argv[2:] if argument.startswith("-")]
    chosen = [argument for argument in sys.argv[2:] if argument not in options]
    named = [argument for argument in chosen if argument in POLICIES]
    if len(named) == 1:
        main(Path(sys.argv[1]), named[0], [argument for argument in chosen if argument not in POLICIES])
    else:
        for name in named or POLICIES:
            subprocess.run([sys.executable, __file__, sys.argv[1], name, *(a for a in chosen if a not in POLICIES), *options], check=True)
