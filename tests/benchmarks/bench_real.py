"""``make bench-real``: sampling and search at sizes that users have, over transformers' ``generate`` and vLLM; ratios first.

In vLLM's environment. ``bench_real.py FOLDER`` runs each policy of ``real_models.py`` in a process of its own, as vLLM has one engine a
process; ``bench_real.py FOLDER POLICY`` runs one. Sides of a ratio alternate; ``ROUNDS`` and ``QUICK`` as of ``make bench``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from baselines import encoded, generate, seconds
from rounds import QUICK, Report, alternate

from tts.models.loading import load_causal_lm
from tts.policies import open_policy
from tts.reward_models import open_prm
from tts.search import beam_search, best_of_n, dvts, sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling

POLICIES = {"policy-135m": "qwen-prm-500m", "policy-500m": "qwen-prm-500m"}
PROBLEMS, N, WIDTH, BATCH = (4, 8, 4, 32) if QUICK else (8, 16, 4, 128)
SAMPLING = Sampling(temperature=0.7, max_tokens=160, max_step_tokens=80)
SEARCHES = {"best-of-N": best_of_n, "beam search": partial(beam_search, width=WIDTH), "DVTS": partial(dvts, width=WIDTH)}
QUESTIONS = [
    f"A farm has {3 + i} cows, {5 + i} hens and {2 * i + 1} spiders. How many legs do they have together?" for i in range(PROBLEMS)
]
_turn = iter(range(1 << 30))


def rate(policy, search: Callable, prm=None) -> float:
    """Generated tokens per second of one search of every problem, each time under other ids, so that nothing is known already."""
    turn = next(_turn)
    roots = [policy.root(f"{turn}/{number}", text) for number, text in enumerate(QUESTIONS)]
    started = time.perf_counter()
    outcomes = Driver(policy, prm).run([(root, search(root, N)) for root in roots])
    return sum(outcome.policy_tokens for outcome in outcomes) / (time.perf_counter() - started)


def called_directly(policy, seeded: bool) -> float:
    """Generated tokens per second of vLLM's engine as its own class ``LLM`` calls it: a request a sample, or a problem's samples as one."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    turn, prompts = next(_turn), [policy.root("", text).prompt for text in QUESTIONS]
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
    requests = [ids for ids in encoded(own, [{"problem": text} for text in QUESTIONS]) for _ in range(N)]
    limits = {"max_new_tokens": SAMPLING.max_tokens, "temperature": SAMPLING.temperature}

    def generated(batch: int) -> float:
        elapsed, tokens = seconds(lambda: sum(map(len, generate(model, own.tokenizer, requests, batch, **limits))))
        return tokens / elapsed

    best = max((32, 128), key=generated)
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
        f"{engine}, {name}": partial(rate, policy, search, prm) for engine, policy in policies.items() for name, search in SEARCHES.items()
    }
    rates = alternate(sides)
    for side, values in rates.items():
        report.row(f"{side}: tokens per second", values, form=",.0f")
    for engine in policies:
        for name in list(SEARCHES)[1:]:
            above, below = rates[f"{engine}, best-of-N"], rates[f"{engine}, {name}"]
            report.ratio(f"{engine}: {name} over best-of-N, time per generated token", above, below, "1.3 or less")


def main(folder: Path, name: str) -> None:
    location = str(folder / name)
    report = Report(f"{name}, {PROBLEMS} problems, N = {N}, {torch.get_num_threads()} threads")
    own, other = open_policy(location, SAMPLING, BATCH), None
    if "--without-vllm" not in sys.argv:
        other = open_policy(f"vllm:{location}", SAMPLING, BATCH)
    pool(report, own, other, location)
    searches(report, {"our engine": own} | ({"vllm:": other} if other else {}), open_prm(str(folder / POLICIES[name])))


if __name__ == "__main__":
    options = [argument for argument in sys.argv[2:] if argument.startswith("-")]
    chosen = [argument for argument in sys.argv[2:] if argument not in options]
    if len(chosen) == 1:
        main(Path(sys.argv[1]), chosen[0])
    else:
        for name in chosen or POLICIES:
            subprocess.run([sys.executable, __file__, sys.argv[1], name, *options], check=True)
