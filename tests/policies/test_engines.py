"""The contract of engines, for the transformers engine and for a server on loopback; and what servers may do wrong."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from contract import PROBLEMS, SAMPLING, EngineContract, LengthPRM, pools, roots, save_model
from served import KEY, Served

from tts import policies, reward_models
from tts.analysis import costs
from tts.generate.grid import Grid
from tts.generate.runner import describe, fill, missing
from tts.models.hub import ModelError
from tts.policies import openai
from tts.policies.openai import Address, OpenAIPolicy, ServerError
from tts.policies.transformers import TransformersPolicy
from tts.reward_models.qwen_prm import QwenPRM
from tts.reward_models.vllm import PassScorer
from tts.search import beam_search, sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.store.store import Store
from tts.study import presets


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("engines"))


@pytest.fixture
def serve(folder, monkeypatch):
    """Starts servers that end with the test; what fails is tried once again."""
    monkeypatch.setattr(openai, "RETRIES", 1)
    running = []

    def start(**options):
        running.append(Served(folder, **options))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def server(serve):
    return serve()


def named(server, folder):
    return f"{server.url}?tokenizer={folder}"


class TestTransformers(EngineContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder):
        self.folder = str(folder)

    def open(self, sampling=SAMPLING, batch=8):
        return TransformersPolicy(self.folder, sampling, batch)

    def under_way(self, policy):
        return len(policy._queue) + policy.engine.active


class TestServer(EngineContract):
    @pytest.fixture(autouse=True)
    def _server(self, server, folder):
        self.server, self.folder = server, folder

    def open(self, sampling=SAMPLING, batch=8):
        return policies.open_policy(named(self.server, self.folder), sampling, batch)

    def under_way(self, policy):
        tasks = len(policy._futures)
        deadline = time.monotonic() + 10  # the server ends what it began, as this one cannot see a closed connection meanwhile
        while self.server.at_once and time.monotonic() < deadline:
            time.sleep(0.01)
        return tasks + self.server.at_once

    def test_no_more_requests_at_once_than_the_batch(self):
        pools(self.open(batch=3), 8)
        assert 1 < self.server.most_at_once <= 3


def refusing(text):
    return pytest.raises(ModelError, match=text)


def opened(address, sampling=SAMPLING, batch=8):
    return OpenAIPolicy(address, sampling, batch)


# -- what servers can do ---------------------------------------------------------------------------------------------


def test_a_server_that_tells_everything_has_no_limits(server, folder):
    policy = opened(named(server, folder))
    assert policy.limits == () and policy.context == 256


def test_a_server_of_texts_still_samples_whole_solutions(serve, folder):
    server = serve(ids=False, strict=True)
    policy = opened(named(server, folder))
    sampling, text, steps = policy.limits
    assert sampling.startswith("sampling is not the asked-for one") and text.startswith("prefixes are sent as text")
    assert steps.startswith("cannot search by steps")
    assert policy.context == 256, "from the config beside the tokenizer"
    reference = TransformersPolicy(str(folder), Sampling(temperature=0, max_tokens=40))
    policy.sampling = reference.sampling
    [theirs], [ours] = (Driver(p).run([(root := p.root("p0", PROBLEMS[0]), sample_pool(root, 1))]) for p in (policy, reference))
    assert theirs.trajectories[0].text == ours.trajectories[0].text
    assert theirs.policy_tokens == ours.policy_tokens, "counted by the server"
    with refusing("does not say whether a step ended at a blank line .* leave them out of methods, or serve the model by vLLM"):
        Driver(policy, LengthPRM()).run([(root := policy.root("p0", PROBLEMS[0]), beam_search(root, 8, 4, 5))])


TEXTS = {"ids": False, "strict": True, "endings": True}


def test_a_server_of_texts_that_splits_blank_lines_alike_searches(tiny_lm):
    server = Served(tiny_lm, **TEXTS)
    try:
        policy = opened(named(server, tiny_lm))
        assert not any("cannot search" in limit for limit in policy.limits)
        Driver(policy, LengthPRM()).run([(root := policy.root("p0", PROBLEMS[0]), beam_search(root, 8, 4, 5))])
        sent = {body["prompt"] for body in server.requests if body.get("stop") == ["\n\n"]}
        assert root.rendered in sent and any(text.startswith(root.rendered) and text.endswith("\n\n") for text in sent - {root.rendered})
    finally:
        server.close()


@pytest.mark.parametrize("how", ["its own tokenizer", "the model's tokenizer", "its texts"])
def test_a_server_that_splits_blank_lines_otherwise_samples_and_does_not_search(serve, folder, tiny_lm, how):
    """The server tells its tokens; it does not, and the model's tokenizer has a token that a blank line begins; or it strips prompts."""
    if how == "its own tokenizer":
        server, tokenizer = serve(**TEXTS, splits=True, renders=True), tiny_lm
    else:
        server, tokenizer = serve(**TEXTS), tiny_lm if how == "its texts" else folder
    if how == "its texts":
        texts = {"4": "\n\n5\n\n6", "5": "6\n\n7"}  # what follows 4, and 5, where the blank line at the end is not read
        told = lambda text: {"choices": [{"index": 0, "text": text, "finish_reason": "length", "stop_reason": None}]}  # noqa: E731
        server.fault = lambda body: (
            (200, NO_CHOICES | told(texts[body["prompt"].rstrip()[-1]])) if body["prompt"].startswith("1\n\n2\n\n") else None
        )
    policy = opened(named(server, tokenizer))
    assert any(limit.startswith("cannot search by steps: the server splits a blank line") for limit in policy.limits)
    assert [len(of) for of in pools(policy, 2)] == [2] * len(PROBLEMS)
    with refusing("splits a blank line at a prompt's end otherwise than within a text, .* leave them out of methods, or serve .* by vLLM"):
        Driver(policy, LengthPRM()).run([(root := policy.root("p0", PROBLEMS[0]), beam_search(root, 8, 4, 5))])


def test_a_server_of_texts_whose_continuation_is_the_samples_searches(serve, folder, tiny_lm):
    server, texts = serve(**TEXTS), {"4": "5\n\n6\n\n7", "5": "6\n\n7\n\n8\n\n9"}
    told = lambda text: {"choices": [{"index": 0, "text": text, "finish_reason": "length", "stop_reason": None}]}  # noqa: E731
    server.fault = lambda body: (200, NO_CHOICES | told(texts[body["prompt"][-3]])) if body["prompt"].startswith("1\n\n2\n\n") else None
    assert not any("cannot search" in limit for limit in opened(named(server, tiny_lm)).limits)


def test_a_server_without_seeds_is_marked_in_the_store_and_said(serve, folder, tmp_path):
    server = serve(seeds=False)
    wanted = grid(named(server, folder), tmp_path)
    store = Store(tmp_path / "runs")
    fill(wanted, store)
    limit = "not reproducible: the server ignores seeds"
    assert all(store.run(spec).limits() == [limit] for spec in wanted.specs())
    assert describe(wanted, store).endswith(f"{named(server, folder)}: {limit}")
    assert all(spec.policy.weights == "as served" for spec in wanted.specs())


def test_a_server_that_renders_prompts_needs_no_tokenizer(serve, folder):
    server = serve(renders=True)
    without, with_one = opened(server.url), opened(named(server, folder))
    assert without.tokenizer is None
    assert roots(without)[0].prompt == roots(with_one)[0].prompt and roots(without)[0].rendered == roots(with_one)[0].rendered
    assert pools(without, 4) == pools(with_one, 4)


def test_neither_tokenizer_nor_rendering_is_refused(serve):
    with refusing("no tokenizer of 'tiny' on this machine, and .* does not render prompts; add \\?tokenizer="):
        opened(serve(ids=False).url)


def test_another_models_tokenizer_is_refused(server, folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    words["1"], words["2"] = words["2"], words["1"]
    file.write_text(json.dumps(content))
    with refusing("the tokenizer of .* is not the one that http://127.0.0.1:.* has for its model"):
        opened(named(server, tmp_path))


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://localhost:8000/v1", "expected http://HOST:PORT/v1#MODEL"),
        ("http://localhost:8000#m", "expected http://HOST:PORT/v1#MODEL"),
        ("http://me:sk-secret@localhost:8000/v1#m", "the address of localhost holds a key or a query; give the key in .* OPENAI_API_KEY"),
        ("http://localhost:8000/v1#m?tokeniser=x", "unknown tokeniser after '\\?'; known: context, tokenizer"),
        ("http://localhost:8000/v1#m?context=many", "context must be a number of tokens; given 'many'"),
    ],
)
def test_addresses_are_checked_before_anything_runs(name, message):
    with refusing(message) as caught:
        policies.check_policy(name)
    assert KEY not in str(caught.value)


def test_an_address_is_read():
    assert Address.parse("https://h/v1/#owner/model?tokenizer=/a b&context=9") == Address("https://h/v1", "owner/model", "/a b", 9)
    assert policies.engine_of("https://h/v1#m")[0] == "openai" and policies.model_of("https://h/v1#owner/model") == "owner/model"


def grid(name, tmp_path, **changes):
    values = {"problems": {"pocket-main": 4}, "policies": [name], "methods": ["majority"], "samples": 4, "budgets": [4]}
    return Grid(**(values | {"max_tokens": 30, "chunk": 2, "batch": 8, "temperature": 1.0} | changes))


def test_no_server_is_said_within_seconds(server, folder, tmp_path):
    name = named(server, folder)
    server.close()
    started = time.monotonic()
    with refusing("no server at http://127.0.0.1:.*; start it, or check the address"):
        fill(grid(name, tmp_path), Store(tmp_path))
    assert time.monotonic() - started < 30 and list(tmp_path.glob("*/*.parquet")) == []


def test_an_unknown_model_is_said_with_those_that_are_served(server, tmp_path):
    with refusing("serves no model 'huge'; it has: tiny"):
        fill(grid(server.url.replace("#tiny", "#huge"), tmp_path), Store(tmp_path))


OUT_OF_MEMORY = {"error": {"message": "out of memory, said by sk-secret"}}
NO_CHOICES = {"choices": [], "id": "1", "object": "text_completion", "created": 0, "model": "tiny"}


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory):
    """A server for one failure after another, and the store of a run that met none."""
    store = Store(tmp_path_factory.mktemp("unbroken"))
    with closing(Served(folder)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        fill(grid(named(server, folder), store.folder), store)
        yield server, store


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((500, OUT_OF_MEMORY), "answered 500 2 times: .*out of memory, said by \\*\\*\\*.*command again"),
        ((200, NO_CHOICES), "returned 0 samples where 1 was asked"),
        ("hang", "did not answer within 4 s \\(TTS_REQUEST_SECONDS is the limit\\)"),
        ((401, {"error": {"message": "wrong key sk-secret"}}), "refuses the key \\(401\\); set OPENAI_API_KEY"),
        ((400, {"error": {"message": "too long"}}), "refuses a request: .*too long.*add \\?context="),
        ((404, {"error": {"message": "no completions here"}}), "has no /v1/completions: .*is the address right"),
        ((200, "<html>a proxy's page</html>"), "does not speak OpenAI's API: it answered .<html>a proxy"),
        ((200, {"cat": "meow"}), "returned 0 samples where 1 was asked"),
    ],
    ids=["500", "too few", "hang", "key", "refusal", "chat only", "page", "nonsense"],
)  # fmt: skip
def test_a_failing_server_is_an_error_in_words_and_loses_nothing(unbroken, folder, tmp_path, monkeypatch, fault, message):
    """The chunks before it stay, those under way are made by the next run, and the whole equals an unbroken run."""
    server, whole = unbroken
    monkeypatch.setattr(openai, "RETRIES", 1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("TTS_REQUEST_SECONDS", "4" if fault == "hang" else "60")
    wanted, store = grid(named(server, folder), tmp_path), Store(tmp_path / "broken")
    server.fault = lambda body: fault if list(store.folder.glob("*/*.parquet")) else None
    with refusing(message) as caught:
        fill(wanted, store)
    assert KEY not in str(caught.value) and len(missing(wanted, store)) == 2  # the pool's, which are made together
    server.fault = None
    fill(wanted, store)
    assert list(store.export()) == list(whole.export())
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert KEY.encode() not in kept and server.keys == {f"Bearer {KEY}"}


def test_a_passing_fault_is_tried_again(server, folder):
    policy = opened(named(server, folder))
    undisturbed = pools(policy, 4)
    failed = set()

    def once(body):
        if (key := json.dumps(body)) not in failed:
            failed.add(key)
            return 503, {"error": {"message": "busy"}}

    server.fault = once
    assert pools(policy, 4) == undisturbed and len(failed) > 10


def test_ctrl_c_reaches_a_run_that_waits_for_a_hanging_server(server, folder):
    policy = opened(named(server, folder))
    interrupt, first = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)), threading.Lock()

    def hang(body):
        if first.acquire(blocking=False):
            interrupt.start()
        return "hang"

    server.fault = hang
    with pytest.raises(KeyboardInterrupt):
        pools(policy, 4)
    assert server.abandoned.wait(10), "the connection was left open"
    server.fault = None
    assert len(pools(policy, 4)) == len(PROBLEMS)


def test_the_time_limit_must_be_a_number(server, folder, monkeypatch):
    monkeypatch.setenv("TTS_REQUEST_SECONDS", "soon")
    with pytest.raises(ServerError, match="TTS_REQUEST_SECONDS must be a number of seconds; given 'soon'"):
        opened(named(server, folder))


def test_a_notebooks_own_event_loop_is_not_in_the_way(server, folder):
    async def cell():
        return pools(opened(named(server, folder)), 2)

    assert asyncio.run(cell()) == pools(opened(named(server, folder)), 2)


def test_relative_folders_in_addresses_are_made_absolute(monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (
        presets.anchored_names("http://h:1/v1#m?tokenizer=mine&context=5", Path()) == f"http://h:1/v1#m?tokenizer={tmp_path}/mine&context=5"
    )
    assert presets.anchored_names("vllm:mine", Path()) == f"vllm:{tmp_path}/mine"
    for known in ("policy-6k", "implicit:policy-216k", "pocket-main"):
        (tmp_path / known.rpartition(":")[2]).mkdir()
        assert presets.anchored_names(known, Path()) == known, "a folder of the name hides none"
    assert presets.anchored_names("./policy-6k", Path()) == f"{tmp_path}/policy-6k"


def test_a_served_models_size_is_its_files_or_what_its_name_states():
    assert costs.shape_of("http://h/v1#policy-51k") == costs.shape_of("vllm:policy-51k") == costs.shape_of("policy-51k")
    assert costs.shape_of("https://h:8/v1#Qwen2.5-1.5B-Instruct").parameters == 1_500_000_000
    assert math.isnan(costs.training_flops("https://h:8/v1#Qwen2.5-1.5B-Instruct"))
    assert math.isnan(costs.shape_of("https://h:8/v1#gpt-x").parameters), "unknown, not nothing"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm:skywork:{}", "vLLM does not run PRMs of the family skywork here, only qwen-prm, math-shepherd, rlhflow"),
        ("nonsense:http://h/v1#m", "unknown PRM family 'nonsense'"),
        ("qwen-prm:http://h/v1", "expected http://HOST:PORT/v1#MODEL"),
    ],
)
def test_prms_that_no_engine_runs_are_refused(tiny_lm, name, message):
    with refusing(message):
        reward_models.open_prm(name.format(tiny_lm))


@pytest.mark.parametrize("rows", ["every token", "tags only"])
def test_a_prm_by_another_engine_scores_as_the_adapter_does(tiny_qwen_prm, rows):
    """The same weights, each solution read in one pass and the score picked by position."""
    adapter = reward_models.open_prm(f"qwen-prm:{tiny_qwen_prm}")
    family = QwenPRM(str(tiny_qwen_prm), weights=False)

    def read(inputs):
        with torch.inference_mode():
            hidden = [adapter.family.backbone(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in inputs]
            logits = [adapter.family.model.score(states) for states in hidden]
        keep = [[True] * len(ids) if rows == "every token" else [i == family.tag for i in ids] for ids in inputs]
        return [row[torch.tensor(k)].tolist() for row, k in zip(logits, keep)]

    scorer = PassScorer("other", family, 1, read, adapter.context)
    problems = [("p", "7,+8=?"), ("p", "7,+8=?"), ("q", "1,+1=?"), ("q", "1,+1=?")]
    steps = [("7+8=15", "\\boxed{15}"), ("7+8=16",), ("1+1=2", "2", "\\boxed{2}"), ()]
    (ours, tokens), (theirs, _) = scorer.score(problems, steps), adapter.score(problems, steps)
    assert all(a == pytest.approx(b, abs=1e-5) for a, b in zip(ours, theirs)) and [len(s) for s in ours] == [2, 1, 3, 0]
    assert tokens == [len(family.render([(text, s)])[0]) if s else 0 for (_, text), s in zip(problems, steps)]
    assert scorer.score(problems, steps) == (ours, [0] * 4), "what was read is read again"
    long = ("7+8=15", "1" * 300, "\\boxed{15}")
    [scores], [read_tokens] = scorer.score([("p", "7,+8=?")], [long])
    assert scores == (pytest.approx(ours[0][0], abs=1e-5), 0.0, 0.0) and read_tokens == len(family.render([("7,+8=?", long[:1])])[0])
    assert scorer.report_unread()[1] == "other reads 256 tokens at most; 2 steps that end beyond that scored 0"
