"""PRM adapters on tiny models with known weights, against scores worked out from the whole input's logits."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tts.models import ModelError, load_tokenizer
from tts.reward_models import open_prm

PROBLEM = ("a", "47,+38,*3=?")
STEPS = ("47+38=85", "85*3=255", "\\boxed{255}")
OTHER = ("47+38=85", "85*3=265", "\\boxed{265}")


def shepherd_by_hand(folder, problem, steps):
    prm = open_prm(f"math-shepherd:{folder}").family
    ids = prm.tokenizer(f"{problem} " + "\n".join(f"{s} ки" for s in steps))["input_ids"]
    vocabulary = prm.tokenizer.get_vocab()
    with torch.inference_mode():
        logits = prm.model(torch.tensor([ids])).logits[0]
    at = [i for i, token in enumerate(ids) if token == vocabulary[" ки"]]
    return logits[at][:, [vocabulary[" +"], vocabulary[" -"]]].softmax(-1)[:, 0].tolist()


def qwen_by_hand(folder, problem, steps):
    prm = open_prm(str(folder)).family
    text = f"<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n" + "".join(f"{s}<extra_0>" for s in steps) + "<|im_end|>\n"
    ids = prm.tokenizer(text)["input_ids"]
    with torch.inference_mode():
        logits = prm.model(input_ids=torch.tensor([ids]))[0]
    separator = prm.tokenizer.convert_tokens_to_ids("<extra_0>")
    return logits[[i for i, token in enumerate(ids) if token == separator]].softmax(-1)[:, 1].tolist()


def implicit_by_hand(folder, problem, steps):
    prm = open_prm(f"implicit:{folder}").family
    scores, text = [], f"{problem}\n\n"
    for step in steps:
        before = prm.tokenizer(text)["input_ids"]
        own = prm.tokenizer(step)["input_ids"]
        with torch.inference_mode():
            logs = prm.model(torch.tensor([before + own])).logits[0].log_softmax(-1)
        scores.append(sum(logs[len(before) + i - 1, t].item() for i, t in enumerate(own)) / len(own))
        text += step + "\n\n"
    return torch.tensor(scores).exp().tolist()


CASES = [("math-shepherd:", "tiny_lm", shepherd_by_hand), ("", "tiny_qwen_prm", qwen_by_hand), ("implicit:", "tiny_lm", implicit_by_hand)]


@pytest.mark.parametrize(("family", "fixture", "by_hand"), CASES)
def test_scores_equal_those_worked_out_by_hand(request, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    prm = open_prm(f"{family}{folder}")
    solutions = [STEPS, OTHER, STEPS[:1], (), STEPS]
    scores, _ = prm.score([PROBLEM] * 5, solutions)
    for found, steps in zip(scores, solutions):
        assert found == pytest.approx(by_hand(folder, PROBLEM[1], steps), abs=1e-5)


@pytest.mark.parametrize(("family", "fixture", "by_hand"), CASES)
def test_extending_cached_prefixes_changes_no_score_and_reads_each_token_once(request, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    whole, stepwise = open_prm(f"{family}{folder}"), open_prm(f"{family}{folder}", batch=2)
    expected, tokens_whole = whole.score([PROBLEM] * 2, [STEPS, OTHER])
    tokens = 0
    for depth in (1, 2, 3):
        scores, read = stepwise.score([PROBLEM] * 2, [STEPS[:depth], OTHER[:depth]])
        tokens += sum(read)
    for a, b in zip(scores, expected):
        assert a == pytest.approx(b, abs=1e-5)
    render = whole.family.render
    once = len(render(PROBLEM[1], STEPS)) + len(render(PROBLEM[1], OTHER)) - len(render(PROBLEM[1], STEPS[:1]))
    assert tokens == sum(tokens_whole) == once


@pytest.mark.parametrize(("family", "fixture", "by_hand"), CASES)
def test_prefixes_that_were_dropped_are_computed_again(request, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    prm = open_prm(f"{family}{folder}")
    prm.score([PROBLEM], [STEPS[:2]])
    prm.score([PROBLEM], [OTHER[:2]])
    scores, _ = prm.score([PROBLEM], [STEPS])
    assert list(scores[0]) == pytest.approx(by_hand(folder, PROBLEM[1], STEPS), abs=1e-5)


def test_problems_are_kept_apart_and_forgotten(tiny_qwen_prm):
    prm = open_prm(str(tiny_qwen_prm))
    other = ("b", "7,+8=?")
    scores, _ = prm.score([PROBLEM, other], [STEPS, STEPS])
    assert scores[0] != scores[1]
    prm.forget("a")
    prm.forget("b")
    assert prm._trees == {}


def test_a_separator_inside_a_step_does_not_add_a_score(tiny_qwen_prm):
    prm = open_prm(str(tiny_qwen_prm))
    scores, _ = prm.score([PROBLEM], [("47+38=<extra_0>85", "85*3=255")])
    assert len(scores[0]) == 2


def test_more_tokens_than_the_context_are_refused(tiny_qwen_prm):
    prm = open_prm(str(tiny_qwen_prm))
    with pytest.raises(ValueError, match="has 4.. tokens in the format of .* reads 256 at most"):
        prm.score([PROBLEM], [("1" * 400,)])


def test_constant_scores_are_refused(tiny_qwen_prm, tmp_path):
    folder = tmp_path / "constant"
    shutil.copytree(tiny_qwen_prm, folder)
    weights = load_file(folder / "model.safetensors")
    weights["score.2.weight"].zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="its weights or its head did not load"):
        open_prm(str(folder))


def test_missing_weights_are_refused(tiny_qwen_prm, tmp_path):
    folder = tmp_path / "headless"
    shutil.copytree(tiny_qwen_prm, folder)
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("score.0")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack 2 tensors .score.0.bias"):
        open_prm(str(folder))


def test_truncated_weights_are_refused(tiny_qwen_prm, tmp_path):
    folder = tmp_path / "truncated"
    shutil.copytree(tiny_qwen_prm, folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="truncated .safetensors must be copied or trained again"):
        open_prm(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no model 'nonsense': not a folder"),
        ("./nowhere/model", "no model './nowhere/model'"),
        ("skywork:policy-20k", "unknown PRM family 'skywork'"),
    ],
)
def test_unknown_prms_are_refused(name, message):
    with pytest.raises(ModelError, match=message):
        open_prm(name)


def test_a_causal_lm_of_no_known_family_is_refused(tiny_lm, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(tiny_lm, folder)
    with pytest.raises(ModelError, match="say it as FAMILY:NAME with one of math-shepherd, qwen-prm, implicit"):
        open_prm(str(folder))


def test_a_qwen2_folder_keeps_its_own_tokenizer(tiny_qwen_prm):
    tokenizer = load_tokenizer(str(tiny_qwen_prm))
    assert tokenizer.decode(tokenizer("user\n\\boxed{7}")["input_ids"]) == "user\n\\boxed{7}"
