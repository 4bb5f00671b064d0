"""Hub names: against the Hub client's own cache layout, a small Hub on the loopback interface, and no network at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path

import published_prms
import pytest
import torch
from helpers.small_hub import COMMIT, go_online, serving
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from shapes import SHAPE
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig

from tts import policies, reward_models
from tts.generate.grid import Grid
from tts.models import hub
from tts.models.files import fingerprint, load_config, parameters
from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm, load_tokenizer, placement
from tts.models.locate import locate
from tts.reward_models import family_of, open_prm
from tts.study import cli

OLDER = "fedcba9876543210fedcba9876543210fedcba98"
PRM = "RLHFlow/Llama3.1-8B-PRM-Mistral-Data"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Every test has an empty cache, and forgets what names were resolved to."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    forget_answers()
    yield tmp_path / "hub"
    forget_answers()


def forget_answers() -> None:
    """As a new process."""
    hub.resolve.cache_clear()
    hub.unreachable.cache_clear()


@pytest.fixture(scope="module")
def rlhflow(tmp_path_factory):
    return published_prms.build_rlhflow(tmp_path_factory.mktemp("rlhflow"))


def fill_cache(cache: Path, folder: Path, name: str, commit: str = COMMIT, branch: str | None = "main") -> Path:
    """Puts a folder into the cache as the Hub's client does: blobs, and a snapshot of links to them."""
    storage = cache / f"models--{name.replace('/', '--')}"
    snapshot = storage / "snapshots" / commit
    for directory in (storage / "blobs", storage / "refs", snapshot):
        directory.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        blob = storage / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    if branch:
        (storage / "refs" / branch).write_text(commit)
    return snapshot


def test_a_cached_model_is_used_by_its_name_without_network(own_cache, rlhflow):
    fill_cache(own_cache, rlhflow, PRM)
    assert locate(PRM) == f"{PRM}@{COMMIT}"
    assert family_of(PRM) == ("rlhflow", f"{PRM}@{COMMIT}")
    problem, steps = ("a", "1+1=?"), ("1+1=2.", "So: 2.")
    assert open_prm(PRM).score([problem], [steps])[0] == open_prm(f"rlhflow:{rlhflow}").score([problem], [steps])[0]
    assert parameters(locate(PRM)) == parameters(str(rlhflow)) > 0
    assert load_config(locate(PRM)).architectures == ["LlamaForCausalLM"]


def test_a_snapshots_folder_can_be_named_too(own_cache, rlhflow):
    snapshot = fill_cache(own_cache, rlhflow, PRM)
    assert family_of(str(snapshot)) == ("rlhflow", str(snapshot))


def test_the_commit_is_what_identifies_the_weights(own_cache, rlhflow):
    fill_cache(own_cache, rlhflow, PRM)
    fill_cache(own_cache, rlhflow, PRM, OLDER, branch=None)
    assert fingerprint(locate(PRM)) == COMMIT
    assert policies.weights_of(PRM) == reward_models.weights_of(PRM) == reward_models.weights_of(f"rlhflow:{PRM}") == COMMIT
    assert reward_models.weights_of(f"{PRM}@{OLDER}") == OLDER
    spec = Grid(problems={"pocket-main": 1}, policies=[PRM], prms=[f"{PRM}@{OLDER}"]).spec("scores", PRM, f"{PRM}@{OLDER}", 4)
    assert (spec.policy.weights, spec.prm.weights) == (COMMIT, OLDER)
    assert load_tokenizer(locate(f"{PRM}@{OLDER}")).bos_token == "<|begin_of_text|>"


def test_revisions_may_be_branches_tags_and_pull_requests(own_cache, rlhflow):
    storage = fill_cache(own_cache, rlhflow, PRM).parents[1]
    for revision in ("v1.0", "refs/pr/3"):
        (storage / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (storage / "refs" / revision).write_text(OLDER)
        assert locate(f"{PRM}@{revision}") == f"{PRM}@{OLDER}"


def test_a_pinned_name_is_taken_at_its_pin(own_cache, rlhflow):
    name, pin = next(iter(hub.REVISIONS.items()))
    fill_cache(own_cache, rlhflow, name)  # whatever the cache's main branch is
    assert locate(name) == f"{name}@{pin}" and locate(f"{name}@main") == f"{name}@{COMMIT}"
    with pytest.raises(ModelError, match=f"in the cache: {name}@{COMMIT}"):
        load_config(locate(name))


def test_pins_are_commits():
    assert all(hub.is_name(name) and len(pin) == 40 and set(pin) <= set("0123456789abcdef") for name, pin in hub.REVISIONS.items())


# -- a Hub on the loopback interface -------------------------------------------------------------------------------


@pytest.fixture
def serve(monkeypatch):
    with serving(monkeypatch) as start:
        yield start


def test_a_model_is_downloaded_at_one_commit_and_stays_there(own_cache, serve, rlhflow, tmp_path, monkeypatch):
    folder = tmp_path / "published"
    shutil.copytree(rlhflow, folder)
    for unwanted in ("pytorch_model.bin", "modeling_prm.py", "consolidated.safetensors"):
        (folder / unwanted).write_bytes(b"not to be fetched")
    server = serve(folder, PRM)
    assert family_of(PRM) == ("rlhflow", f"{PRM}@{COMMIT}")
    fetched = {path.rpartition("/")[2] for _, path in server.asked if "/resolve/" in path}
    assert "config.json" in fetched and not any(name.endswith(".safetensors") for name in fetched)
    scores = open_prm(PRM).score([("a", "1+1=?")], [("2.",)])
    fetched = {path.rpartition("/")[2] for _, path in server.asked if "/resolve/" in path}
    assert fetched == {path.name for path in rlhflow.iterdir()}
    before = len(server.asked)
    forget_answers()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_prm(PRM).score([("a", "1+1=?")], [("2.",)]) == scores and len(server.asked) == before
    assert locate(PRM) == f"{PRM}@{COMMIT}"


def test_a_download_that_was_cut_off_is_completed(own_cache, serve, rlhflow):
    fill_cache(own_cache, rlhflow, PRM)
    snapshot = own_cache / f"models--{PRM.replace('/', '--')}" / "snapshots" / COMMIT
    for name in ("model-00002-of-00005.safetensors", "model.safetensors.index.json"):
        (snapshot / name).unlink()
    server = serve(rlhflow, PRM)
    assert load_causal_lm(locate(PRM)).num_parameters() == parameters(str(rlhflow))
    fetched = {path.rpartition("/")[2] for _, path in server.asked if "/resolve/" in path}
    assert fetched == {"model-00002-of-00005.safetensors", "model.safetensors.index.json"}


def test_a_data_sets_files_are_downloaded_at_one_commit(own_cache, serve, tmp_path, monkeypatch):
    folder, name = tmp_path / "published", "Qwen/ProcessBench"
    folder.mkdir()
    for file in ("gsm8k.json", "math.json", "README.md", "script.py"):
        (folder / file).write_text("[]")
    server = serve(folder, name)
    location = hub.resolve(name, "dataset")
    assert location == f"{name}@{COMMIT}"
    assert [path.name for path in hub.data_files(location, (".json",))] == ["gsm8k.json", "math.json"]
    assert {path.rpartition("/")[2] for _, path in server.asked if "/resolve/" in path} == {"gsm8k.json", "math.json"}
    forget_answers()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(hub.data_files(hub.resolve(name, "dataset"), (".json",))) == 2, "the cache needs no network"
    with pytest.raises(ModelError, match="no dataset 'nobody/nothing': neither a file nor"):
        go_online(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        hub.resolve("nobody/nothing", "dataset")


def test_without_network_a_labelled_set_is_one_line_within_seconds(monkeypatch, capsys):
    go_online(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["tts", "run", "02_reward_models", "--dry-run", "-p", "labelled=Qwen/ProcessBench:math"])
    started = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and time.monotonic() - started < 10
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: cannot get 'Qwen/ProcessBench' from the Hugging Face Hub: ")
    assert "'hf download Qwen/ProcessBench --repo-type dataset --local-dir FOLDER', and give the path of its folder instead" in line
    assert "instead, or of a file in it" in line


def test_sizes_are_known_before_the_weights_are_fetched(own_cache, serve, rlhflow):
    server = serve(rlhflow, PRM)
    assert parameters(locate(PRM)) == parameters(str(rlhflow))
    assert not list((own_cache / f"models--{PRM.replace('/', '--')}").rglob("*.safetensors"))
    assert any(path.endswith(".safetensors") for _, path in server.asked)  # their headers


def test_a_model_that_the_hub_does_not_have_is_refused(serve, rlhflow):
    serve(rlhflow, PRM)
    with pytest.raises(ModelError, match="no model 'nobody/nothing': neither a folder nor"):
        locate("nobody/nothing")


def test_a_gated_model_says_how_to_get_access(serve, rlhflow):
    serve(rlhflow, PRM).gated = True
    with pytest.raises(ModelError, match="is gated: accept its licence on https://huggingface.co/RLHFlow/.*'hf auth login'"):
        open_prm(PRM)


def test_a_pickle_is_not_fetched_but_refused(serve, rlhflow, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(rlhflow, folder)
    for path in folder.glob("model*"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    server = serve(folder, PRM)
    with pytest.raises(ModelError, match="has no safetensors weights; other formats may run code .* pull requests"):
        open_prm(PRM)
    assert not any(path.endswith(".bin") for _, path in server.asked)


def test_a_hub_that_does_not_answer_is_given_up_within_the_deadline(monkeypatch):
    monkeypatch.setattr(hub, "DEADLINE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        go_online(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(ModelError, match="cannot get 'Qwen/Qwen2.5-Math-PRM-72B' from the Hugging Face Hub: .*path of its folder"):
            locate("Qwen/Qwen2.5-Math-PRM-72B")
    assert time.monotonic() - started < 2


def test_no_network_is_one_line_within_seconds(monkeypatch, capsys):
    """As a user meets it: nothing says 'offline', and there is nothing at the other end."""
    go_online(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["tts", "run", "01_tts_methods", "--dry-run", "-p", "prms=[implicit:Qwen/Qwen2.5-7B]"])
    started = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and time.monotonic() - started < 10
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the Hugging Face Hub cannot be reached") and "PRMs implicit:Qwen/Qwen2.5-7B; give local files" in line
    with pytest.raises(ModelError, match="cannot get 'Qwen/Qwen2.5-7B' from the Hugging Face Hub: .*give the path of its folder instead"):
        open_prm("implicit:Qwen/Qwen2.5-7B")


# -- folders ---------------------------------------------------------------------------------------------------


def test_a_folder_that_lacks_a_shard_is_refused(rlhflow, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(rlhflow, folder)
    (folder / "model-00003-of-00005.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks 1 of its 5 weight files .model-00003-of-00005"):
        load_causal_lm(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="index.json is damaged"):
        load_causal_lm(str(folder))


def test_a_folder_with_a_pickle_only_is_refused(tiny_lm, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_lm, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors weights, only pytorch_model.bin; other formats may run code"):
        load_causal_lm(str(folder))


@pytest.mark.parametrize(
    "config", [CohereConfig(**SHAPE, vocab_size=50, logit_scale=0.5), GraniteConfig(**SHAPE, vocab_size=50, logits_scaling=8)]
)
def test_a_model_that_scales_its_logits_is_refused(config, tmp_path):
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"scales or caps its logits, .* say vllm:{re.escape(str(tmp_path))}"):
        load_causal_lm(str(tmp_path))


def test_the_fingerprint_covers_weights_config_and_tokenizer(tiny_lm, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_lm, folder)
    assert fingerprint(str(folder)) == fingerprint(str(tiny_lm))
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        assert fingerprint(str(folder)) != fingerprint(str(tiny_lm))
        shutil.copy(tiny_lm / name, folder / name)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(str(folder)) != fingerprint(str(tiny_lm))


def test_placement_follows_the_machine(tiny_lm, tmp_path, monkeypatch):
    half = tmp_path / "half"
    shutil.copytree(tiny_lm, half)
    published_prms.declare(half / "config.json", dtype="bfloat16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for ampere, dtype in ((True, torch.bfloat16), (False, torch.float32)):  # before Ampere bfloat16 is emulated, and float16 overflows
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, ampere=ampere: including_emulation or ampere)
        assert placement(str(half)) == ("cuda", dtype)
        assert placement(str(tiny_lm)) == ("cuda", torch.float32)  # small, and stored so
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        assert placement(str(half)) == ("cpu", dtype) and placement(str(tiny_lm)) == ("cpu", torch.float32)


def test_a_sentencepiece_file_is_read_as_sentencepiece_does(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "text.txt").write_text("\n".join(published_prms.CORPUS))
    options = {"vocab_size": 350, "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    options |= {"remove_extra_whitespaces": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(input=str(tmp_path / "text.txt"), model_prefix=str(tmp_path / "tokenizer"), **options)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mistral"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}))
    reference = sentencepiece.SentencePieceProcessor(str(tmp_path / "tokenizer.model"))
    tokenizer = load_tokenizer(str(tmp_path))
    for text in ("+ -", "First, 47 + 38 = 85.  ки\nThen", "What is\n ки", "a   b"):
        assert tokenizer(text)["input_ids"] == [reference.bos_id(), *reference.encode(text)]
