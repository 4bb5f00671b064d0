"""A PRM from rollouts: values by hand, trees that read like their sequences, scores by hand, training that resumes."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scripted import ScriptedPolicy, ScriptedPRM, root

from tts.analysis import costs, stats
from tts.models.files import read_card
from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm, load_tokenizer
from tts.policies import open_policy
from tts.reward_models import family_of, open_prm, weights_of
from tts.search.base import Candidate
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks.prompts import SolutionRenderer, render_prompt
from tts.training import loop, prm, rollouts
from tts.training.packing import Packed, collate, pack
from tts.training.prm import AdaptedHead, PRMRecipe, batched, check, example, judged, loss, save, train_prm
from tts.training.rollouts import ROLLED, RolloutRecipe, labelled, search, valued

PROBLEMS = [{"id": f"p{i}", "problem": text, "answer": "1"} for i, text in enumerate(["7,+8=?", "1,+1=?", "(5+42)+(12+41)=?", "9,-8=?"])]
ROLLOUTS = RolloutRecipe(solutions=2, rollouts=2, temperature=1.0, max_tokens=60, seed=5)
RECIPE = PRMRecipe(rank=2, inner=8, learning_rate=3e-2, language=0.3, batch=1, passes=20, held_out=0.25)
STEPS = ("47+38=85", "85*3=255", "\\boxed{255}")
OTHER = ("47+38=85", "85*3=265", "\\boxed{265}")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("tts.models.locate.CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def rows():
    """Labels of four problems, written down."""
    solutions = [{"steps": list(STEPS), "values": [0.5, 1.0, 1.0]}, {"steps": list(OTHER), "values": [0.5, 0.25, 0.0]}]
    return [problem | {"tokens": 50, "solutions": solutions} for problem in PROBLEMS]


@pytest.fixture
def trained(tiny_lm, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tts.training.prm.labelled", lambda *arguments: rows)
    return train_prm(str(tiny_lm), PROBLEMS, ROLLOUTS, RECIPE, tmp_path / "prm", tmp_path / "scratch")


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
    [outcome] = Driver(ScriptedPolicy(script)).run([(root(), search(root(), RolloutRecipe(solutions=2, rollouts=4)))])
    first, second, *rolled = valued(outcome.trajectories, [c.steps[-1] == "\\boxed{1}" for c in outcome.trajectories])
    assert first == {"steps": ["first 0", "bad", "\\boxed{2}"], "values": [0.0, 0.0, 0.0]}
    # own continuation right, and rollouts 0 and 2 of four: 3 of 5; from a good second step all
    assert second == {"steps": ["first 1", "good", "\\boxed{1}"], "values": [0.6, 1.0, 1.0]}
    # rollouts are solutions too: what they share keeps its value, what is their own is worth how it came out
    assert len(rolled) == 4 * 4 and {"steps": ["first 1", "bad", "\\boxed{2}"], "values": [0.6, 0.0, 0.0]} in rolled
    assert rolled.count({"steps": ["first 1", "good", "\\boxed{1}"], "values": [0.6, 1.0, 1.0]}) == 2 + 4
    assert outcome.policy_tokens == 2 * (2 + 2 + 1) + 2 * 4 * (2 + 1) + 2 * 4 * 1


def test_steps_that_read_the_same_share_what_came_through_them_but_not_what_began_later():
    def solution(text, *path):
        return Candidate("p", "a problem", steps=tuple(text), path=path, status="finished")

    # two solutions that begin alike, a rollout from each one's first step, and three from the second one's second step
    solutions = [solution("abx", 0, 0, 0), solution("acx", 1, 0, 0), solution("acx", 0, ROLLED, 0), solution("aby", 1, ROLLED, 0)]
    solutions += [solution(text, 1, 0, ROLLED, number) for number, text in enumerate(["acx", "acx", "acy"])]
    found = valued(solutions, [c.steps[-1] == "x" for c in solutions])
    values = {"".join(one["steps"]): one["values"] for one in found}
    first = 3 / 4  # of two solutions and two rollouts; the three that were rolled out later all go through c
    assert values["abx"] == [first, 1 / 2, 1.0] and values["aby"] == [first, 1 / 2, 0.0]
    assert values["acx"] == [first, 4 / 5, 1.0] and values["acy"] == [first, 4 / 5, 0.0]
    assert len(found) == 2 + 2 + 3


def test_rollouts_draw_anew_and_not_what_their_solution_drew(tiny_lm):
    engine = open_policy(str(tiny_lm), Sampling(temperature=1.0, max_tokens=80, max_step_tokens=80, seed=1), 8)
    start = engine.root("p", "7,+8=?")
    [outcome] = Driver(engine).run([(start, search(start, RolloutRecipe(solutions=8, rollouts=3)))])
    solutions, rollouts = ([c for c in outcome.trajectories if (ROLLED in c.path) == rolled] for rolled in (False, True))
    of_prefix = {path: list(of) for path, of in itertools.groupby(rollouts, lambda c: c.path[: c.path.index(ROLLED)])}
    long = {path: rolled for path, rolled in of_prefix.items() if min(c.generated for c in rolled) >= 10}  # short ones may coincide
    assert long, "some solution has a step to roll out from"
    for path, rolled in long.items():
        own = next(c for c in solutions if c.path[: len(path)] == path)
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


# -- trees of solutions ------------------------------------------------------------------------------------------------


def test_a_tree_holds_equal_beginnings_once_and_sees_what_went_before():
    tree = pack([[5, 6, 7], [5, 6], [5, 8, 7], [9]])
    assert tree == Packed(ids=[5, 6, 7, 8, 7, 9], parents=[-1, 0, 1, 0, 3, -1], paths=[[0, 1, 2], [0, 1], [0, 3, 4], [5]])
    batch = collate([tree])
    assert batch["positions"].tolist() == [[0, 1, 2, 1, 2, 0]]
    assert [row.nonzero()[:, 0].tolist() for row in batch["mask"][0, 0]] == [[0], [0, 1], [0, 1, 2], [0, 3], [0, 3, 4], [5]]


def test_what_a_packed_sequence_reads_is_what_it_reads_alone(tiny_lm):
    rng, starts = np.random.default_rng(0), ([4, 5, 6], [4, 5, 6], [4, 9], [])
    problems = [[[*start, *rng.integers(3, 30, size).tolist()] for start in starts for size in (1, 4, 7)] for _ in range(3)]
    problems[1] = problems[1][:4]  # shorter than the others: padded
    trees = [pack(sequences) for sequences in problems]
    model = load_causal_lm(str(tiny_lm)).model
    with torch.inference_mode():
        found = AdaptedHead(str(tiny_lm), RECIPE).hidden(collate(trees))  # a fresh adapter changes nothing
        for row, (tree, sequences) in enumerate(zip(trees, problems)):
            for path, sequence in zip(tree.paths, sequences):
                alone = model(torch.tensor([sequence])).last_hidden_state[0]
                torch.testing.assert_close(found[row, path], alone, rtol=0, atol=1e-5)


def test_packed_scores_are_those_of_the_prm_in_use(tiny_lm, rows, trained):
    """Two ways to one number: the trained module on packed trees, and the merged folder scored step by step."""
    head = AdaptedHead(str(tiny_lm), RECIPE)
    for name, tensor in load_file(trained.parent / "scratch" / "prm" / "state.safetensors").items():
        if name.startswith("model."):
            head.get_parameter(name.removeprefix("model.")).data = tensor
    with torch.inference_mode():
        packed = head(batched([example(load_tokenizer(str(tiny_lm)), row) for row in rows[:3]]))[0].sigmoid().tolist()
    for number, problem in enumerate(PROBLEMS[:3]):
        [first, second], _ = open_prm(str(trained)).score([("a", problem["problem"])] * 2, [STEPS, OTHER])
        found = packed[5 * number : 5 * number + 5]
        assert found == pytest.approx([*first, *second[1:]], abs=1e-2)  # the stored adapter is rounded to bfloat16
        assert max(found) - min(found) > 0.3


def test_each_distinct_step_is_learnt_from_once_and_right_solutions_are_read(tiny_lm, rows):
    tokenizer = load_tokenizer(str(tiny_lm))
    one = example(tokenizer, rows[0])
    assert one.values == [0.5, 1.0, 1.0, 0.25, 0.0]
    texts = [tokenizer.decode([one.tree.ids[at] for at in tokens]).replace(" ", "") for tokens in one.own]
    assert texts == [*STEPS, *OTHER[1:]]
    assert tokenizer.decode([one.tree.ids[at] for at in one.right]).replace(" ", "") == "".join(f"{step}\n\n" for step in STEPS)
    prefixes = [(PROBLEMS[0]["problem"], steps[:depth]) for steps in (STEPS, OTHER) for depth in (1, 2, 3)]
    sequences = set(map(tuple, SolutionRenderer(tokenizer)(prefixes)))
    assert len(one.tree.ids) == len({ids[:size] for ids in sequences for size in range(1, len(ids) + 1)})


def test_the_loss_is_that_of_the_values_and_of_the_right_solutions_tokens(tiny_lm, rows):
    head, tokenizer = AdaptedHead(str(tiny_lm), RECIPE), load_tokenizer(str(tiny_lm))
    batch = batched([example(tokenizer, row) for row in rows[:2]])
    with torch.inference_mode():
        scores = head(batch)[0].sigmoid()
        expected = -(batch["values"] * scores.log() + (1 - batch["values"]) * (1 - scores).log()).mean()
        logs = []
        for row in rows[:2]:
            prompt, ids = SolutionRenderer(tokenizer)([(row["problem"], steps) for steps in ((), STEPS)])
            all_logs = load_causal_lm(str(tiny_lm))(torch.tensor([ids])).logits[0].log_softmax(-1)
            logs += [all_logs[at - 1, ids[at]] for at in range(len(prompt), len(ids))]
        assert loss(head, batch).item() == pytest.approx((expected - RECIPE.language * torch.stack(logs).mean()).item(), abs=1e-5)
        wrong = batched([example(tokenizer, row | {"solutions": row["solutions"][1:]}) for row in rows[:2]])
        assert loss(head, wrong).item() > 0  # no right solution: the values alone


# -- the head ----------------------------------------------------------------------------------------------------------


def by_hand(base, folder, problem, steps):
    """Each score from a forward pass over everything up to its step, through matrices that the adapter is added to here."""
    tokenizer, model, head = load_tokenizer(base), load_causal_lm(base), load_file(folder / "step_head.safetensors")
    parts = {name.removeprefix("base_model.model."): t.float() for name, t in load_file(folder / "adapter_model.safetensors").items()}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            matrix = name.removesuffix(".weight")
            if f"{matrix}.lora_A.weight" in parts:
                weight += 2 * parts[f"{matrix}.lora_B.weight"] @ parts[f"{matrix}.lora_A.weight"]  # alpha over rank is 2
    scores, text = [], render_prompt(tokenizer, problem)
    for step in steps:
        before, own = (tokenizer(part)["input_ids"] for part in (text, step))
        with torch.inference_mode():
            logs = model(torch.tensor([before + own])).logits[0].log_softmax(-1)
        at = range(len(before) - 1, len(before) + len(own) - 1)
        likely = torch.stack([logs[i, token] for i, token in zip(at, own)])
        entropy = torch.stack([-(logs[i].exp() * logs[i]).sum() for i in at])
        inputs = torch.stack([likely.mean(), likely.min(), likely.sum(), entropy.mean(), entropy.max()])
        inner = (head["layers.0.weight"] @ inputs + head["layers.0.bias"]).relu()
        scores.append((head["layers.2.weight"] @ inner + head["layers.2.bias"]).sigmoid().item())
        text += f"{step}\n\n"
    return scores


def test_scores_equal_those_worked_out_by_hand_whole_or_step_by_step(tiny_lm, trained):
    whole, stepwise = open_prm(str(trained)), open_prm(f"step-head:{trained}", batch=2)
    solutions = [STEPS, STEPS[:1], ()]
    for found, steps in zip(whole.score([("a", "7,+8=?")] * 3, solutions)[0], solutions):
        assert found == pytest.approx(by_hand(str(tiny_lm), trained, "7,+8=?", steps), abs=1e-5)
    for depth in (1, 2, 3):
        [found], _ = stepwise.score([("a", "7,+8=?")], [STEPS[:depth]])
    assert found == pytest.approx(by_hand(str(tiny_lm), trained, "7,+8=?", STEPS), abs=1e-5)


def test_training_tells_right_steps_from_wrong_ones(tiny_lm, rows, trained):
    [right, wrong], _ = open_prm(str(trained)).score([("a", PROBLEMS[1]["problem"])] * 2, [STEPS, OTHER])
    assert right[-1] > 0.6 > 0.4 > wrong[-1]


def test_only_the_upper_layers_are_adapted_where_asked(tiny_lm, rows, tmp_path):
    head = AdaptedHead(str(tiny_lm), PRMRecipe(rank=2, inner=4, upper=1))
    learning = {name for name, p in head.named_parameters() if p.requires_grad}
    assert {name.split(".layers.")[1][0] for name in learning if "lora" in name} == {"1"}
    save(head, str(tiny_lm), {"family": "step-head"}, tmp_path / "upper")
    assert open_prm(str(tmp_path / "upper")).score([("a", "7,+8=?")], [STEPS])[0]


@pytest.mark.slow
def test_training_goes_on_where_it_was_and_ends_with_the_same_prm(trained, tiny_lm, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tts.training.prm.labelled", lambda *arguments: rows)
    monkeypatch.setattr(prm, "train", partial(loop.train, checkpoint_every=0.0))
    whole = loop.Batches.__getitem__

    def stops(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return whole(self, step)

    arguments = (str(tiny_lm), PROBLEMS, ROLLOUTS, RECIPE, tmp_path / "again", tmp_path / "other")
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr(loop.Batches, "__getitem__", stops)
        train_prm(*arguments)
    resumed = train_prm(*arguments)
    for file in ("step_head.safetensors", "adapter_model.safetensors"):
        found, unbroken = load_file(resumed / file), load_file(trained / file)
        assert found.keys() == unbroken.keys()
        for name, tensor in unbroken.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_the_folder_says_what_it_is_and_what_it_cost(trained, tiny_lm, rows):
    assert family_of(str(trained))[0] == "step-head"
    assert costs.solver_of(str(trained)) == str(tiny_lm)
    card, size = read_card(trained), costs.shape_of(str(tiny_lm)).parameters
    files = (load_file(trained / name) for name in ("step_head.safetensors", "adapter_model.safetensors"))
    head, adapter = (sum(tensor.numel() for tensor in file.values()) for file in files)
    assert (head, card["head_parameters"], card["adapter_parameters"]) == (5 * 8 + 8 + 8 + 1, head, adapter)
    assert card["parameters"] == size + head == costs.shape_of(str(trained)).parameters
    assert card["labelled_solutions"] == 8 and card["held_out_problems"] == 1 and card["held_out_steps"] == 6
    assert card["held_out_auc_within_problems"] in (0.0, 1.0) and card["problems_with_right_and_wrong"] == 1
    likely, _ = open_prm(f"implicit:{tiny_lm}").score([("p0", PROBLEMS[0]["problem"])] * 2, [STEPS, OTHER])
    assert card["held_out_auc_within_problems_of_implicit_policy"] == float(np.prod(likely[0]) > np.prod(likely[1]))
    tokenizer = load_tokenizer(str(tiny_lm))
    packed = 20 * sum(len(example(tokenizer, row).tree.ids) for row in rows[1:])
    assert card["training_tokens"] == packed
    assert card["training_flops"] == 2 * size * 200 + (4 * size + 6 * (head + adapter)) * packed
    assert weights_of(str(trained)) == weights_of(family_of(str(trained))[1])


def test_a_head_that_does_not_fit_is_refused(trained):
    tensors = load_file(trained / "step_head.safetensors")
    save_file(tensors | {"layers.0.weight": torch.zeros(8, 4)}, trained / "step_head.safetensors")
    with pytest.raises(ModelError, match="the head in .* does not fit: .*; train it again"):
        open_prm(str(trained))
    (trained / "step_head.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="the head in .* does not fit: .*; train it again"):
        open_prm(str(trained))


# -- how it is judged --------------------------------------------------------------------------------------------------


def test_the_area_under_the_curve_counts_pairs():
    assert stats.auc(np.array([0.9, 0.2, 0.5, 0.5]), np.array([True, False, True, False])) == 0.875  # 3.5 of 4 pairs
    assert stats.auc(np.array([0.9, 0.2]), np.array([True, True])) is None


def test_a_prm_is_judged_on_steps_and_within_problems():
    """One problem of whose two pairs of right and wrong solutions one is in order; one all right; their steps over both."""

    def row(number, *solutions):
        return {"id": f"p{number}", "problem": "x", "solutions": [{"steps": list(steps), "values": values} for steps, values in solutions]}

    right = [(("good", "good"), [0.5, 1.0]), (("poor", "good"), [1.0, 1.0])]
    wrong = [(("good", "poor"), [0.5, 0.0]), (("good", "fair"), [0.5, 0.0])]
    table = {"good": 0.9, "fair": 0.6, "poor": 0.2}
    found = judged(ScriptedPRM(lambda steps: table[steps[-1]]), [row(0, *right, *wrong), row(1, (("fair",), [1.0]))])
    # products 0.81 and 0.18 of the right ones, 0.18 and 0.54 of the wrong ones: 1 + 1 + 0.5 + 0 of 4 pairs
    assert found["held_out_auc_within_problems"] == 0.625 and found["problems_with_right_and_wrong"] == 1
    scores = np.array([0.9, 0.9, 0.2, 0.9, 0.9, 0.2, 0.9, 0.6, 0.6])
    values = np.array([0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.5, 0.0, 1.0])
    assert found["held_out_steps"] == 9 and found["held_out_problems"] == 2
    assert found["held_out_loss"] == pytest.approx(-np.mean(values * np.log(scores) + (1 - values) * np.log(1 - scores)), abs=1e-4)
    mean = values.mean()
    assert found["held_out_loss_of_the_mean"] == pytest.approx(-np.mean(values * np.log(mean) + (1 - values) * np.log(1 - mean)), abs=1e-4)
    pairs = [(right > wrong) + (right == wrong) / 2 for right, wrong in itertools.product(scores[values >= 0.5], scores[values < 0.5])]
    assert found["held_out_auc"] == pytest.approx(np.mean(pairs), abs=1e-4)


@pytest.mark.parametrize(("values", "message"), [([], "finished no solution"), ([1.0, 1.0], "has the value 1, which teaches nothing")])
def test_labels_that_teach_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check([{"solutions": [{"values": values}] if values else []}], "policy-x")
