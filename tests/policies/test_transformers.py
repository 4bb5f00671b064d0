"""The transformers engine against a plain loop without cache or batch."""

from __future__ import annotations

import gc
import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from tts.common.paths import DATA
from tts.engine.drawing import choose, uniforms
from tts.engine.engine import Engine
from tts.engine.slot_cache import SlotCache
from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm
from tts.policies import check_policy
from tts.policies.transformers import TransformersPolicy
from tts.reward_models import open_prm
from tts.search import beam_search, dvts, sample_pool
from tts.search.base import Sample, Score
from tts.search.driver import Driver
from tts.search.sampling import Sampling, noise_key
from tts.tasks import prompts

PROBLEMS = ["7,+8=?", "(12+7)*(9-4)=?", "47,+38,*3,-19=?", "1,+1=?", "(5+42)+(12+41)=?", "99,-98,+1=?"]
SAMPLING = Sampling(temperature=1.0, max_tokens=40, max_step_tokens=40, seed=7)
ONE = torch.tensor([0])


def noise_of(key: int, position: int) -> torch.Tensor:
    return torch.from_numpy(uniforms(np.array([key]), np.array([position])))


def plain_loop(policy, problem_id, problem, path, sampling):
    """One sample, the whole prefix through the model for every token."""
    ids = list(policy.root(problem_id, problem).prompt)
    generated, key = [], noise_key(sampling.seed, problem_id, path)
    with torch.inference_mode():
        while len(generated) < sampling.max_tokens:
            logits = policy.model(torch.tensor([ids + generated])).logits[:, -1]
            noise = noise_of(key, len(generated))
            generated.append(int(choose(logits, ONE, noise, sampling.temperature, sampling.top_p)))
            if generated[-1] == policy.tokenizer.eos_token_id:
                break
    return tuple(generated)


def pool(policy, problems, n=3):
    roots = [policy.root(f"p{PROBLEMS.index(p)}", p) for p in problems]
    return {o.problem_id: o for o in Driver(policy).run([(r, sample_pool(r, n)) for r in roots])}


@pytest.mark.parametrize("batch", [1, 4, 32])
@pytest.mark.slow
def test_batched_samples_equal_a_plain_loop(tiny_lm, batch):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING, batch=batch)
    outcomes = pool(policy, PROBLEMS)
    for number, problem in enumerate(PROBLEMS):
        for index, candidate in enumerate(outcomes[f"p{number}"].trajectories):
            assert candidate.tokens == plain_loop(policy, f"p{number}", problem, (index,), SAMPLING)
            assert candidate.status == ("finished" if candidate.tokens[-1] == policy.tokenizer.eos_token_id else "truncated")


@pytest.mark.parametrize("sampling", [Sampling(temperature=0, max_tokens=30), Sampling(temperature=0.8, top_p=0.7, max_tokens=30, seed=3)])
def test_greedy_and_nucleus_sampling_equal_a_plain_loop(tiny_lm, sampling):
    policy = TransformersPolicy(str(tiny_lm), sampling, batch=4)
    outcomes = pool(policy, PROBLEMS[:3], 1)
    for number, problem in enumerate(PROBLEMS[:3]):
        assert outcomes[f"p{number}"].trajectories[0].tokens == plain_loop(policy, f"p{number}", problem, (0,), sampling)


def test_order_of_problems_does_not_matter(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING, batch=5)
    forwards, backwards = pool(policy, PROBLEMS), pool(policy, PROBLEMS[::-1])
    for problem_id, outcome in forwards.items():
        assert [c.tokens for c in outcome.trajectories] == [c.tokens for c in backwards[problem_id].trajectories]


def test_tokens_are_billed_exactly(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING, batch=8)
    for outcome in pool(policy, PROBLEMS).values():
        assert outcome.policy_tokens == sum(len(c.tokens) for c in outcome.trajectories)


def stepwise(policy, root, rounds):
    """Follows child 0 of each step."""
    for _ in range(rounds):
        [[root]] = yield Sample([root], 1)
        if root.status != "open":
            break
    return [root]


def test_steps_extend_token_ids_and_reach_what_the_plain_loop_computes(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING, batch=4)
    separator = policy.tokenizer("\n\n")["input_ids"][0]
    steps = 0
    for number, problem in enumerate(PROBLEMS):
        root = policy.root(f"p{number}", problem)
        [outcome] = Driver(policy, record=True).run([(root, stepwise(policy, root, 3))])
        before = root
        for node in outcome.nodes:
            assert node.tokens[: len(before.tokens)] == before.tokens
            assert node.generated == len(node.tokens) - len(before.tokens)
            ids = [*root.prompt, *node.tokens]
            with torch.inference_mode():
                logits = policy.model(torch.tensor([ids[:-1]])).logits[0]
            for at in range(len(before.tokens), len(node.tokens)):
                noise = noise_of(noise_key(7, f"p{number}", node.path), at)
                assert int(choose(logits[len(root.prompt) + at - 1][None], ONE, noise, 1.0, 1.0)) == node.tokens[at]
            assert (node.status == "open") == (node.tokens[-1] == separator)
            before, steps = node, steps + 1
    assert steps > len(PROBLEMS), "no search took a second step"


class LengthPRM:
    """Scores by step length, so a search over random models goes on."""

    def score(self, problems, steps):
        return [tuple(1 / (1 + len(x)) for x in s) for s in steps], [0] * len(steps)

    def forget(self, problem_id):
        pass


def test_a_search_is_the_same_alone_and_among_others(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING, batch=6)
    make = lambda i: (r := policy.root(f"p{i}", PROBLEMS[i]), beam_search(r, 8, 4, 4))  # noqa: E731
    together = Driver(policy, LengthPRM(), record=True).run([make(i) for i in range(len(PROBLEMS))])
    for i, outcome in enumerate(together):
        [alone] = Driver(policy, LengthPRM(), record=True).run([make(i)])
        assert sorted((c.path, c.tokens) for c in alone.nodes) == sorted((c.path, c.tokens) for c in outcome.nodes)
        assert outcome.policy_tokens == sum(c.generated for c in outcome.nodes)


def test_continuations_of_the_same_tokens_share_what_is_parked(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), Sampling(temperature=1.0, max_step_tokens=4, seed=7), batch=16)
    separator = policy.tokenizer("\n\n")["input_ids"][0]
    policy.model.get_output_embeddings().weight.data[separator] *= 3  # many steps end
    found: list[list] = []

    def search(root):
        [children] = yield Sample([root], 60)
        found.append([(c.tokens, c.state) for c in children if c.status == "open"])
        return []

    roots = [policy.root(f"p{i}", p) for i, p in enumerate(PROBLEMS)]
    Driver(policy).run([(root, search(root)) for root in roots])
    for opened in found:
        assert all((state is other) == (tokens == others) for tokens, state in opened for others, other in opened)
    distinct = sum(len(set(tokens for tokens, _ in opened)) for opened in found)
    assert len(PROBLEMS) < distinct < sum(map(len, found)), "no two siblings were alike, or all were"


def going_on(root, found, first=60, further=3):
    """Samples steps, then goes on from each that may, equal or not; all candidates are put into ``found``."""
    [children] = yield Sample([root], first)
    found += children
    for continued in (yield Sample([c for c in children if c.status == "open"], further)):
        found += continued
    return []


def often_ending(tiny_lm, batch):
    policy = TransformersPolicy(str(tiny_lm), Sampling(temperature=1.0, max_step_tokens=4, seed=7), batch=batch)
    separator = policy.tokenizer("\n\n")["input_ids"][0]
    policy.model.get_output_embeddings().weight.data[separator] *= 3
    return policy


def test_samples_of_the_same_tokens_are_computed_once(tiny_lm):
    policy, rows, found = often_ending(tiny_lm, 512), [], []
    batch = policy.engine
    settle = batch._settle
    batch._settle = lambda drawn: (settle(drawn), rows.append(int(batch._rows["in_use"].sum())))[0]
    root = policy.root("p0", PROBLEMS[0])
    Driver(policy).run([(root, going_on(root, found))])
    distinct = {c.tokens[:length] for c in found for length in range(1, len(c.tokens) + 1)}
    assert sum(rows) == len(distinct) < sum(c.generated for c in found) / 2
    assert max(len(c.path) for c in found) == 2, "nothing went on from a first step"


@pytest.mark.slow
def test_samples_that_find_no_row_wait_and_are_the_same(tiny_lm, monkeypatch):
    waited, wait = [], Engine._wait
    monkeypatch.setattr(Engine, "_wait", lambda self, samples: (waited.append(len(samples)), wait(self, samples)))

    def samples(batch):
        policy, found = often_ending(tiny_lm, batch), []
        roots = [policy.root(f"p{i}", p) for i, p in enumerate(PROBLEMS)]
        Driver(policy).run([(root, going_on(root, found)) for root in roots])
        assert policy.engine.active == 0 and policy.starved
        return sorted((c.problem_id, c.path, c.tokens, c.status) for c in found)

    unbounded = samples(1024)
    assert not waited
    for batch in (1, 2, 7):
        assert samples(batch) == unbounded
    assert len(waited) > 100


@pytest.mark.parametrize("batch", [2, 12])
@pytest.mark.slow
def test_nothing_parked_stays_behind_a_search(tiny_lm, monkeypatch, batch):
    policy, park, states = TransformersPolicy(str(tiny_lm), SAMPLING, batch=batch), SlotCache.park, weakref.WeakSet()
    most = 0

    def noted(*given):
        nonlocal most
        parked = park(*given)
        states.update(filter(None, [parked]))
        most = max(most, len(states))
        return parked

    monkeypatch.setattr(SlotCache, "park", noted)
    make = lambda i: (r := policy.root(f"p{i}", PROBLEMS[i]), beam_search(r, 8, 4, 4))  # noqa: E731
    searches = [make(i) for i in range(len(PROBLEMS))]
    Driver(policy, LengthPRM()).run(searches)
    del searches
    gc.collect()
    assert most > 2 * len(PROBLEMS) and not states
    most = 0
    with pytest.raises(KeyboardInterrupt):
        Driver(policy, InterruptedPRM()).run([make(i) for i in range(len(PROBLEMS))])
    gc.collect()
    assert most > len(PROBLEMS) and not states


@pytest.mark.parametrize("record", [False, True])
def test_of_what_a_search_scored_only_the_parents_stay_parked(tiny_lm, record):
    policy, dropped, kept = TransformersPolicy(str(tiny_lm), SAMPLING, batch=4), 0, 0

    def watched(root, search):
        nonlocal dropped, kept
        request, scored = next(search), []
        while True:
            answer = yield request
            if isinstance(request, Sample):
                parents = {id(parent) for parent in request.parents}
                states = [(id(candidate) in parents, candidate.state) for candidate in scored if candidate.status == "open"]
                assert all((state is not None) == is_parent for is_parent, state in states)
                assert root.state is None or root in request.parents
                dropped, kept = dropped + sum(not is_parent for is_parent, _ in states), kept + sum(is_parent for is_parent, _ in states)
            scored = request.candidates if isinstance(request, Score) else scored
            try:
                request = search.send(answer)
            except StopIteration as stop:
                return stop.value

    roots = [policy.root(f"p{i}", problem) for i, problem in enumerate(PROBLEMS)]
    Driver(policy, LengthPRM(), record).run([(root, watched(root, beam_search(root, 8, 4, 4))) for root in roots])
    assert dropped > kept > 0 and all(root.state is None for root in roots)


@pytest.mark.parametrize(("search", "n", "width"), [(dvts, 16, 4), (dvts, 32, 2), (beam_search, 32, 2)])
def test_no_more_candidates_are_under_way_than_there_is_room_for(tiny_lm, monkeypatch, search, n, width):
    policy, room, problems = TransformersPolicy(str(tiny_lm), Sampling(temperature=0.3, max_tokens=40, seed=1), batch=16), 64, 12
    submit, finish, asked, most = Driver._submit, Driver._finish, {}, 0

    def submitted(self, running, request):
        nonlocal most
        asked[running] = len(request.parents) * request.count
        most = max(most, sum(asked.values()))
        submit(self, running, request)

    def finished(self, running, trajectories):
        del asked[running]
        finish(self, running, trajectories)

    monkeypatch.setattr(Driver, "_submit", submitted)
    monkeypatch.setattr(Driver, "_finish", finished)
    roots = [policy.root(f"p{i}", PROBLEMS[i % len(PROBLEMS)]) for i in range(problems)]
    Driver(policy, LengthPRM(), room=room).run([(root, search(root, n, width, 8)) for root in roots])
    assert room <= most <= room + n


class InterruptedPRM(LengthPRM):
    def score(self, problems, steps):
        raise KeyboardInterrupt


def test_a_prompt_longer_than_the_context_is_refused(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING)
    with pytest.raises(ValueError, match="problem long: the prompt has 302 tokens and .* reads 256 at most"):
        policy.root("long", "1" * 301)


def test_a_solution_stops_at_the_context(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), Sampling(temperature=1.0, max_tokens=10_000))
    root = policy.root("p", "1" * 240)
    [outcome] = Driver(policy).run([(root, sample_pool(root, 8))])
    assert max(len(root.prompt) + len(c.tokens) for c in outcome.trajectories) <= 256
    assert any(c.status == "truncated" for c in outcome.trajectories)


def test_the_prompt_ends_as_it_did_in_training(tiny_lm):
    """A chat template whose last newline Jinja drops leaves a policy in the middle of its problem."""
    policy = TransformersPolicy(str(tiny_lm), SAMPLING)
    assert prompts.render_prompt(policy.tokenizer, "7,+8=?") == "7,+8=?" + "\n\n"


def test_unreadable_characters_are_refused(tiny_lm):
    with pytest.raises(ValueError, match="cannot read some of its characters: 'What is 7"):
        TransformersPolicy(str(tiny_lm), SAMPLING).root("p", "What is 7+8?")


def test_a_tokenizer_without_chat_template_is_refused(tiny_lm):
    policy = TransformersPolicy(str(tiny_lm), SAMPLING)
    policy.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        prompts.render_prompt(policy.tokenizer, "1+1")


@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("broken", [[float("nan"), 0.0], [0.0, float("nan")], [0.0, float("inf")], [-float("inf")] * 2])
def test_logits_that_are_no_numbers_are_refused(broken, top_p, tiny_lm):
    assert choose(torch.tensor([broken]), ONE, torch.tensor([0.5], dtype=torch.float64), 1.0, top_p).tolist() == [-1]
    policy = TransformersPolicy(str(tiny_lm), replace(SAMPLING, top_p=top_p))
    policy.engine.head = lambda hidden: torch.tensor([broken]).repeat(len(hidden), 1)
    with pytest.raises(ValueError, match="logits are NaN or infinite"):
        Driver(policy).run([(start := policy.root("p", "7+8=?"), sample_pool(start, 2))])


@pytest.mark.parametrize("never", [-1000.0, -float("inf")])
def test_a_token_without_weight_is_never_drawn(never):
    noise = noise_of(7046029254386353131, 0)
    assert noise.item() == 0
    assert choose(torch.tensor([[never, 0.0, 1.0]]), ONE, noise, 1.0, 1.0).tolist() == [1]


def test_noise_is_uniform_and_differs_between_samples():
    keys = np.array([noise_key(0, f"p{i}", (j,)) for i in range(50) for j in range(20)])
    values = torch.from_numpy(np.stack([uniforms(keys, np.full_like(keys, at)) for at in range(20)]))
    assert 0 <= values.min() and values.max() < 1 and len(values.unique()) == values.numel()
    assert abs(values.mean() - 0.5) < 0.01 and abs(values.var() - 1 / 12) < 0.002
    assert abs(torch.corrcoef(values)[~torch.eye(20, dtype=bool)]).max() < 0.15


def test_choice_inverts_the_cumulative_distribution():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0], [0.3, 0.2, 0.5]]))
    rows, uniform = torch.tensor([0, 0, 0, 0, 0, 2, 2]), torch.tensor([0.0, 0.19, 0.21, 0.69, 0.999999, 0.29, 0.31], dtype=torch.float64)
    assert choose(logits, rows, uniform, 1.0, 1.0).tolist() == [0, 0, 1, 1, 2, 0, 1]
    assert choose(logits, rows, uniform, 1.0, 0.6).tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert choose(logits, rows, uniform, 1.0, 0.4).tolist() == [1] * 5 + [2] * 2
    assert choose(logits, rows, uniform, 0, 1.0).tolist() == [1] * 5 + [2] * 2


def test_a_model_of_another_kind_writes_nothing(tmp_path):
    folder = tmp_path / "prm"
    shutil.copytree(DATA / "models" / "prm-qwen-28k", folder)
    for load in (check_policy, load_causal_lm):
        with pytest.raises(ModelError, match="prm is a Qwen2ForProcessRewardModel, which is no causal language model; as a PRM give it as"):
            load(str(folder))
    (folder / "card.json").unlink()  # which tells its family
    with pytest.raises(ModelError, match="which is no causal language model"):
        open_prm(f"math-shepherd:{folder}")


def test_a_prm_that_is_a_causal_model_is_no_policy(tmp_path, tiny_lm):
    """Its card tells its family, as of the PRMs that write "+" and "-"; a policy's card tells none."""
    folder = shutil.copytree(tiny_lm, tmp_path / "prm")
    for card in ('{"parameters": 1}', '{"family": ""}'):
        (folder / "card.json").write_text(card)
        check_policy(str(folder))
    (folder / "card.json").write_text('{"family": "math-shepherd"}')
    with pytest.raises(ModelError, match=f"{folder} is a PRM of the family math-shepherd, .*; give it among prms: -p prm={folder}"):
        check_policy(str(folder))
