"""Adapters: trained resumably, merged as by hand, identified by what they and their base are."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tts.models import files, loading
from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm
from tts.models.locate import locate
from tts.policies import open_policy, weights_of
from tts.search import sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.study.train_cli import app
from tts.tasks.problems import ProblemError
from tts.training.adapter import AdapterRecipe, new_adapter, padded, solution_loss, tokenise, train_adapter
from tts.training.loop import Batches, train
from tts.training.worked_problems import load_worked

RECIPE = AdapterRecipe(rank=2, learning_rate=1e-2, batch=2, passes=2)
PAIRS = [(1, 2), (13, 4), (5, 5), (60, 7), (8, 9)]
WORKED = [{"problem": f"{a},+{b}=?", "solution": f"{a}+{b}={a + b}\n\n\\boxed{{{a + b}}}"} for a, b in PAIRS]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tts.models.locate.CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def adapter(tiny_lm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "tiny-adapter"
    return train_adapter(str(tiny_lm), WORKED, RECIPE, folder, folder.parent / "scratch", pretrained_tokens=1000)


def test_a_merged_adapter_is_its_base_plus_b_a_times_alpha_over_rank(tiny_lm, adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    before, after = (load_causal_lm(locate(str(folder))).state_dict() for folder in (tiny_lm, adapter))
    parts = {name.removeprefix("base_model.model."): t.float() for name, t in load_file(adapter / "adapter_model.safetensors").items()}
    adapted = 0
    for name, weight in before.items():
        matrix = name.removesuffix(".weight")
        if f"{matrix}.lora_A.weight" in parts:
            delta = parts[f"{matrix}.lora_B.weight"] @ parts[f"{matrix}.lora_A.weight"] * 4 / 2
            assert delta.abs().max() > 1e-4
            weight, adapted = weight + delta, adapted + 1
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    assert adapted == 2 * 7  # every matrix of both layers


def test_a_stopped_run_continues_to_the_same_adapter(tiny_lm, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("tts.training.adapter.train", partial(train, checkpoint_every=0.0))
    whole = Batches.__getitem__

    def stops(self, step):
        if step == 3:
            raise KeyboardInterrupt
        return whole(self, step)

    arguments = (str(tiny_lm), WORKED, RECIPE, tmp_path / "again", tmp_path / "scratch", 1000)
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(Batches, "__getitem__", stops)
        train_adapter(*arguments)
    resumed = load_file(train_adapter(*arguments) / "adapter_model.safetensors")
    unbroken = load_file(adapter / "adapter_model.safetensors")
    assert resumed.keys() == unbroken.keys()
    for name, tensor in unbroken.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_the_loss_is_that_of_the_solutions_tokens_alone(tiny_lm):
    location = locate(str(tiny_lm))
    model = new_adapter(location, RECIPE.rank, RECIPE.seed)  # its B is zero: the base
    examples = tokenise(loading.load_tokenizer(location), WORKED[:2])
    found = solution_loss(model, padded(examples))
    base, losses = load_causal_lm(location), []
    for ids, prompt in examples:
        logs = base(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-logs[at - 1, ids[at]] for at in range(prompt, len(ids))]
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-5)


def test_training_lowers_the_loss_and_the_card_says_what_it_cost(tiny_lm, adapter):
    tuned, base = load_causal_lm(locate(str(adapter))), load_causal_lm(str(tiny_lm))
    ids, prompt = tokenise(loading.load_tokenizer(str(tiny_lm)), WORKED)[0]
    loss = {}
    for name, model in (("tuned", tuned), ("base", base)):
        logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        loss[name] = -sum(logs[at - 1, ids[at]].item() for at in range(prompt, len(ids)))
    assert loss["tuned"] < loss["base"]
    card = files.read_card(adapter)
    size = sum(p.numel() for p in base.parameters())
    own = sum(t.numel() for t in load_file(adapter / "adapter_model.safetensors").values())
    assert card["parameters"] == size and card["adapter_parameters"] == own and card["started_from_flops"] == 6 * size * 1000
    assert card["training_flops"] == (4 * size + 6 * own) * card["training_tokens"]


def test_examples_of_a_pass_are_each_used_once_and_in_another_order_next_time():
    examples = [([number] * (number + 2), 1) for number in range(1, 41)]
    batches = Batches(examples, [len(ids) for ids, _ in examples], padded, 4, seed=0)
    passes = [[batches[step]["ids"][:, 0].tolist() for step in range(at, at + 10)] for at in (0, 10)]
    assert all(sorted(sum(one, [])) == list(range(1, 41)) for one in passes) and passes[0] != passes[1]
    with pytest.raises(ValueError, match="3 examples do not fill a batch of 4"):
        Batches(examples[:3], [3, 4, 5], padded, 4, seed=0)


def test_an_adapter_is_a_policy_like_any_other(adapter):
    policy = open_policy(str(adapter), Sampling(max_tokens=12, seed=3), batch=4)
    [outcome] = Driver(policy).run([(root := policy.root("a", "7,+8=?"), sample_pool(root, 3))])
    assert len(outcome.trajectories) == 3 and outcome.policy_tokens > 0


def test_identity_follows_from_adapter_and_base_without_making_the_model(adapter, tmp_path):
    known = weights_of(str(adapter))
    assert not list((tmp_path / "cache").glob("*")), "nothing was merged to know it"
    assert known == files.fingerprint(locate(str(adapter)))
    other = tmp_path / "other"
    other.mkdir()
    for path in adapter.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tensors = load_file(other / "adapter_model.safetensors")
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, other / "adapter_model.safetensors")
    assert weights_of(str(other)) != known


def changed(adapter, tmp_path, edit):
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    edit(folder)
    return str(folder)


def edit_json(name, **values):
    def edit(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_json("card.json", base_weights="0123"), "was trained on weights 0123 of .* give the base that it names"),
        (edit_json("adapter_config.json", base_model_name_or_path="nowhere"), "no model 'nowhere'"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors; other formats are not read"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"broken"), "cannot merge the adapter in"),
    ],
)
def test_unfit_adapters_are_refused(adapter, tmp_path, edit, message):
    with pytest.raises(ModelError, match=message):
        locate(changed(adapter, tmp_path, edit))
    assert not [p for p in (tmp_path / "cache").glob("*") if p.suffix == ""], "nothing half made is left to be taken for whole"


# -- worked problems ---------------------------------------------------------------------------------------------------


def test_leg_counting_is_worked_out_step_by_step():
    [problem] = load_worked("reasoning-gym:leg_counting,min_animals=2,max_animals=2", 1)
    first, second, boxed = problem["solution"].split("\n\n")
    legs = [int(step.split("=")[1].split(",")[0]) for step in (first, second)]
    assert first.endswith(f"total {legs[0]}") and second.endswith(f"total {sum(legs)}")
    assert boxed == f"\\boxed{{{problem['answer']}}}" and sum(legs) == int(problem["answer"])
    for step in (first, second):
        animal, product = step.split(",")[0].split(": ")
        count, rest = product.split("*")
        assert f"{count} {animal}" in problem["problem"] and int(count) * int(rest.split("=")[0]) == int(rest.split("=")[1])


def test_a_file_with_solutions_and_what_is_skipped(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"problem": f"p{i}", "answer": i, "solution": f"\\boxed{{{i}}}"}) + "\n" for i in range(4)))
    assert [row["solution"] for row in load_worked(str(path), 2, skip=1)] == ["\\boxed{1}", "\\boxed{2}"]
    with pytest.raises(ProblemError, match="has 4 problems; asked for 5"):
        load_worked(str(path), 4, skip=1)
    path.write_text(json.dumps({"problem": "p", "answer": 1}) + "\n")
    with pytest.raises(ProblemError, match="line 1: no 'solution' to train on"):
        load_worked(str(path), 1)
    with pytest.raises(ProblemError, match="no worked solutions for 'reasoning-gym:dice'; there are for leg_counting"):
        load_worked("reasoning-gym:dice", 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reasoning-gym:leg_counting,max_animals", "expected OPTION=VALUE after a comma, found 'max_animals'"),
        ("reasoning-gym:leg_counting,max_animal=3", "unexpected keyword argument 'max_animal'"),
        ("reasoning-gym:leg_counting,min_animals=9,max_animals=3", "cannot make"),
        ("reasoning-gym:legs", "cannot make 'reasoning-gym:legs'"),
    ],
)
def test_options_of_reasoning_gym_that_do_not_fit_are_refused(name, message):
    with pytest.raises(ProblemError, match=message):
        load_worked(name, 2)


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_commands_train_an_adapter_and_say_why_a_prm_would_learn_nothing(tiny_lm, tmp_path):
    problems = tmp_path / "worked.jsonl"
    problems.write_text("".join(json.dumps(row | {"answer": "a"}) + "\n" for row in WORKED))
    places = ["--problems", str(problems), "--scratch", str(tmp_path / "scratch")]
    small = ["--examples", "4", "--skip", "1", "--batch", "2", "--rank", "2"]
    done = CliRunner().invoke(app, ["policy", str(tiny_lm), *places, "--output", str(tmp_path / "mine"), *small])
    assert done.exit_code == 0 and "it is a policy like any other" in done.output, done.output
    assert files.read_card(tmp_path / "mine")["examples"] == 4
    few = ["--count", "2", "--max-tokens", "20", "--decoded", "4"]
    done = CliRunner().invoke(app, ["prm", str(tmp_path / "mine"), *places, "--output", str(tmp_path / "prm"), *few])
    assert isinstance(done.exception, ValueError), done.output
    assert re.search("finished no solution|which teaches nothing", str(done.exception))


def test_a_base_that_does_not_exist_is_named(tmp_path):
    problems = tmp_path / "worked.jsonl"
    problems.write_text(json.dumps(WORKED[0] | {"answer": "3"}) + "\n")
    done = CliRunner().invoke(app, ["policy", "nowhere", "--problems", str(problems), "--output", str(tmp_path / "x"), "--examples", "1"])
    assert isinstance(done.exception, ModelError) and "no model 'nowhere'" in str(done.exception)
