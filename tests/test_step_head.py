"""The step head: rollouts valued by hand, scores by hand, a PRM trained resumably."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripted import ScriptedPolicy, root
from torch import nn

from tts import derived
from tts.analysis import costs
from tts.models import ModelError, load_causal_lm, load_tokenizer, read_card
from tts.policies import open_policy
from tts.policies.sampling import Sampling
from tts.prompts import render_prompt
from tts.reward_models import family_of, open_prm, weights_of
from tts.reward_models.step_head import Head
from tts.search.driver import Driver
from tts.training import loop, prm, rollouts
from tts.training.prm import HeadRecipe, auc, check, fold, judged, train_step_head
from tts.training.rollouts import RolloutRecipe, Tree, labelled, search, valued

PROBLEMS = [{"id": f"p{i}", "problem": text, "answer": "1"} for i, text in enumerate(["7,+8=?", "1,+1=?", "(5+42)+(12+41)=?", "9,-8=?"])]
ROLLOUTS = RolloutRecipe(solutions=2, rollouts=2, temperature=1.0, max_tokens=60, seed=5)
RECIPE = HeadRecipe("hidden", inner=4, passes=3, batch=4, held_out=0.25)
STEPS = ("47+38=85", "85*3=255", "\\boxed{255}")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(derived, "CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def rows():
    """Labels of four problems, written down."""
    values = [[1.0, 0.5, 1.0], [0.25, 0.0, 0.0]]
    solutions = [{"steps": list(STEPS), "values": v} for v in values]
    return [problem | {"tokens": 50, "solutions": solutions} for problem in PROBLEMS]


@pytest.fixture
def step_head(tiny_lm, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tts.training.prm.labelled", lambda *arguments: rows)
    return train_step_head(str(tiny_lm), PROBLEMS, ROLLOUTS, RECIPE, tmp_path / "step-head", tmp_path / "scratch")


# -- rollouts ----------------------------------------------------------------------------------------------------------


def script(steps, index):
    """Two steps, then an answer: solution 0 goes wrong at its second step, solution 1 does not; of the rollouts from a first step
    the even ones come out right."""
    if not steps:
        return f"first {index}", "open", 2
    if len(steps) == 1:
        return ("bad" if steps[0] == "first 0" or index % 2 else "good"), "open", 2
    return ("\\boxed{1}" if steps[1] == "good" else "\\boxed{2}"), "finished", 1


def test_a_step_is_worth_the_share_of_its_continuations_that_come_out_right():
    tree = Tree()
    [outcome] = Driver(ScriptedPolicy(script)).run([(root(), search(root(), RolloutRecipe(solutions=2, rollouts=4), tree))])
    first, second, *rolled = valued(tree, lambda c: c.steps[-1] == "\\boxed{1}")
    assert first == {"steps": ["first 0", "bad", "\\boxed{2}"], "values": [0.0, 0.0, 0.0]}
    # own continuation right, and rollouts 0 and 2 of four: 3 of 5; from a good second step all
    assert second == {"steps": ["first 1", "good", "\\boxed{1}"], "values": [0.6, 1.0, 1.0]}
    # rollouts are solutions too: what they share keeps its value, what is their own is worth how it came out
    assert len(rolled) == 4 * 4 and {"steps": ["first 1", "bad", "\\boxed{2}"], "values": [0.6, 0.0, 0.0]} in rolled
    assert rolled.count({"steps": ["first 1", "good", "\\boxed{1}"], "values": [0.6, 1.0, 1.0]}) == 2 + 4
    assert outcome.policy_tokens == 2 * (2 + 2 + 1) + 2 * 4 * (2 + 1) + 2 * 4 * 1


def test_rollouts_draw_anew_and_not_what_their_solution_drew(tiny_lm):
    engine, tree = open_policy(str(tiny_lm), Sampling(temperature=1.0, max_tokens=80, max_step_tokens=80, seed=1), 8), Tree()
    start = engine.root("p", "7,+8=?")
    Driver(engine).run([(start, search(start, RolloutRecipe(solutions=8, rollouts=3), tree))])
    long = {path: rolled for path, rolled in tree.rollouts.items() if min(c.generated for c in rolled) >= 10}  # short ones may coincide
    assert long, "some solution has a step to roll out from"
    for path, rolled in long.items():
        own = next(c for c in tree.solutions if c.path[: len(path)] == path)
        assert all(c.tokens != own.tokens for c in rolled) and len({c.tokens for c in rolled}) == 3


def test_labels_go_on_after_a_crash_and_are_those_of_an_unbroken_run(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setattr(rollouts, "CHUNK", 1)
    unbroken = labelled(str(tiny_lm), PROBLEMS, ROLLOUTS, tmp_path / "unbroken.jsonl", 8)
    path = tmp_path / "cut.jsonl"
    lines = (tmp_path / "unbroken.jsonl").read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:20])  # the crash came in the middle of the second line
    made, label = [], rollouts._label
    monkeypatch.setattr(rollouts, "_label", lambda engine, chunk, *rest: made.append(chunk[0]["id"]) or label(engine, chunk, *rest))
    assert labelled(str(tiny_lm), PROBLEMS, ROLLOUTS, path, 8) == unbroken
    assert made == ["p1", "p2", "p3"] and path.read_text() == "".join(lines)


# -- the head ----------------------------------------------------------------------------------------------------------


def by_hand(folder, problem, steps):
    """Each score from a forward pass over everything up to its step."""
    base = json.loads((folder / "step_head.json").read_text())["base"]
    tokenizer, model, weights = load_tokenizer(base), load_causal_lm(base), load_file(folder / "step_head.safetensors")
    scores, text = [], render_prompt(tokenizer, problem)
    for step in steps:
        text += f"{step}\n\n"
        with torch.inference_mode():
            hidden = model.model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0, -1]
        inner = (weights["layers.0.weight"] @ hidden + weights["layers.0.bias"]).relu()
        scores.append((weights["layers.2.weight"] @ inner + weights["layers.2.bias"]).sigmoid().item())
    return scores


def test_scores_equal_those_worked_out_by_hand_whole_or_step_by_step(step_head):
    whole, stepwise = open_prm(str(step_head)), open_prm(f"step-head:{step_head}", batch=2)
    solutions = [STEPS, STEPS[:1], ()]
    for found, steps in zip(whole.score([("a", "7,+8=?")] * 3, solutions)[0], solutions):
        assert found == pytest.approx(by_hand(step_head, "7,+8=?", steps), abs=1e-5)
    for depth in (1, 2, 3):
        [found], _ = stepwise.score([("a", "7,+8=?")], [STEPS[:depth]])
    assert found == pytest.approx(by_hand(step_head, "7,+8=?", STEPS), abs=1e-5)


def test_confidence_is_that_of_the_steps_tokens_without_separators(tiny_lm, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tts.training.prm.labelled", lambda *arguments: rows)
    recipe = HeadRecipe("confidence", inner=4, passes=3, batch=4)
    folder = train_step_head(str(tiny_lm), PROBLEMS, ROLLOUTS, recipe, tmp_path / "sure", tmp_path / "scratch")
    model, tokenizer = load_causal_lm(str(tiny_lm)), load_tokenizer(str(tiny_lm))
    head = Head(5, 4)
    head.load_state_dict(load_file(folder / "step_head.safetensors"))
    expected, text = [], render_prompt(tokenizer, "7,+8=?")
    for step in STEPS:
        before, own = (tokenizer(part)["input_ids"] for part in (text, step))
        with torch.inference_mode():
            logs = model(torch.tensor([before + own])).logits[0].log_softmax(-1)
            at = range(len(before) - 1, len(before) + len(own) - 1)
            likely = torch.stack([logs[i, token] for i, token in zip(at, own)])
            entropy = torch.stack([-(logs[i].exp() * logs[i]).sum() for i in at])
            inputs = torch.stack([likely.mean(), likely.min(), likely.sum(), entropy.mean(), entropy.max()])
            expected.append(head(inputs).sigmoid().item())
        text += f"{step}\n\n"
    for batch in (64, 2):
        [found], _ = open_prm(str(folder), batch=batch).score([("a", "7,+8=?")], [STEPS])
        assert found == pytest.approx(expected, abs=1e-5)


def test_training_goes_on_where_it_was_and_ends_with_the_same_head(step_head, tiny_lm, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tts.training.prm.labelled", lambda *arguments: rows)
    monkeypatch.setattr(prm, "train", partial(loop.train, checkpoint_every=0.0))
    whole = prm._Shuffled.__getitem__

    def stops(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return whole(self, step)

    arguments = (str(tiny_lm), PROBLEMS, ROLLOUTS, RECIPE, tmp_path / "again", tmp_path / "other")
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(prm._Shuffled, "__getitem__", stops)
        train_step_head(*arguments)
    monkeypatch.setattr(prm, "_states", None)  # what the head reads is there already, and not computed again
    resumed = load_file(train_step_head(*arguments) / "step_head.safetensors")
    for name, tensor in load_file(step_head / "step_head.safetensors").items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_the_folder_says_what_it_is_and_what_it_cost(step_head, tiny_lm, rows):
    assert family_of(str(step_head))[0] == "step-head"
    assert costs.solver_of(str(step_head)) == str(tiny_lm)
    card, size = read_card(step_head), costs.shape_of(str(tiny_lm)).parameters
    own = 32 * 4 + 4 + 4 + 1
    assert card["parameters"] == size + own == costs.shape_of(str(step_head)).parameters
    assert card["labelled_steps"] == 24 and card["training_steps"] == 18 and card["held_out_steps"] == 6
    assert card["training_flops"] == 2 * size * 200 + 6 * own * 24 * 3
    known = weights_of(str(step_head))
    assert known == weights_of(family_of(str(step_head))[1])


def test_a_head_that_does_not_fit_its_declaration_is_refused(step_head):
    declared = json.loads((step_head / "step_head.json").read_text())
    (step_head / "step_head.json").write_text(json.dumps(declared | {"inner": 8}))
    with pytest.raises(ModelError, match="the head in .* does not fit: .*; train it again"):
        open_prm(str(step_head))


def test_inputs_that_are_unknown_are_refused(step_head):
    declared = json.loads((step_head / "step_head.json").read_text())
    (step_head / "step_head.json").write_text(json.dumps(declared | {"inputs": "feelings"}))
    with pytest.raises(ModelError, match="unknown inputs 'feelings'; known: hidden, confidence"):
        open_prm(str(step_head))


def test_folding_keeps_what_the_layer_does():
    layer, states = nn.Linear(3, 2), torch.randn(5, 3)
    mean, spread = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.1, 5.0])
    before = layer((states - mean) / spread)
    fold(layer, mean, spread)
    torch.testing.assert_close(layer(states), before)


def test_the_area_under_the_curve_counts_pairs():
    assert auc(np.array([0.9, 0.2, 0.5, 0.5]), np.array([True, False, True, False])) == 0.875  # 3.5 of 4 pairs
    assert auc(np.array([0.9, 0.2]), np.array([True, True])) is None


def test_a_head_is_judged_beside_the_mean():
    head = Head(1, 1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    found = judged(head, torch.zeros(4, 1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert found["held_out_loss"] == pytest.approx(np.log(2), abs=1e-4) and found["held_out_auc"] == 0.5
    assert found["held_out_loss_of_the_mean"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)), abs=1e-4)


@pytest.mark.parametrize(("values", "message"), [([], "finished no solution"), ([1.0, 1.0], "has the value 1, which teaches nothing")])
def test_labels_that_teach_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check([{"solutions": [{"values": values}] if values else []}], "policy-x")
