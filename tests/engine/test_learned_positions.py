"""A GPT-2 has learnt so many positions and no more: every way through the engine, up to the context's end."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tts.policies.transformers import TransformersPolicy
from tts.reward_models import open_prm
from tts.search import beam_search, dvts, sample_pool
from tts.search.base import Candidate
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks import pocket_tokenizer

CONTEXT = 48
PROBLEMS = ["7,+8=?", "(12+7)*(9-4)=?", "1" * 30, "47,+38,*3,-19=?", "9" * 40]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A folder with a random GPT-2 and a tokenizer of its own, in which a blank line is common."""
    tokenizer = pocket_tokenizer.build()
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    config = GPT2Config(n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, vocab_size=len(tokenizer), initializer_range=0.3, **ids)
    model = GPT2LMHeadModel(config)
    model.lm_head.weight.data[tokenizer("\n\n")["input_ids"][0]] *= 2
    folder = tmp_path_factory.mktemp("gpt2")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def solutions(policy, method, prm=None):
    roots = [policy.root(f"p{number}", problem) for number, problem in enumerate(PROBLEMS)]
    outcomes = Driver(policy, prm).run([(root, method(root)) for root in roots])
    return {(o.problem_id, c.path): (len(root.prompt), c) for root, o in zip(roots, outcomes) for c in o.trajectories}


METHODS = {
    "pool": lambda root: sample_pool(root, 8),
    "beam search": lambda root: beam_search(root, 8, 4, 20),
    "DVTS": lambda root: dvts(root, 8, 4, 20),
}


@pytest.mark.parametrize("method", METHODS)
def test_policies_and_implicit_prms_reach_the_end_of_the_context(gpt2, method):
    prm = open_prm(f"implicit:{gpt2}", batch=4)
    sampling = Sampling(temperature=1.0, max_tokens=400, seed=2)
    wide, narrow = (solutions(TransformersPolicy(str(gpt2), sampling, batch), METHODS[method], prm) for batch in (64, 3))
    assert {key: c.tokens for key, (_, c) in wide.items()} == {key: c.tokens for key, (_, c) in narrow.items()}
    if method == "pool":
        assert max(prompt + len(c.tokens) for prompt, c in wide.values()) == CONTEXT, "no solution reached the end"


def test_scores_are_the_models_own_up_to_the_last_position(gpt2):
    """Short and long solutions together, so that padding runs past the last position."""
    prm = open_prm(f"implicit:{gpt2}")
    tokenizer, model = prm.family.tokenizer, prm.family.model
    problem = "7,+8=?"
    room = CONTEXT - len(tokenizer(f"{problem}\n\n")["input_ids"])
    steps = [("1" * (room // 2 - 1), "2" * (room - room // 2 - 1)), ("7+8=15",), ("3" * (room - 1),)]
    for read in (steps, [steps[0][:1], *steps]):  # from the opening, and from a step that is kept, with a shorter one beside it
        scores, _ = prm.score([("a", problem)] * len(read), read)
        prm.forget("b")
    assert prm.unread == 0
    for found, solution in zip(scores[1:], steps):
        text = f"{problem}\n\n"
        for score, step in zip(found, solution):
            before, own = (tokenizer(part)["input_ids"] for part in (text, step))
            with torch.inference_mode():
                logs = model(torch.tensor([before + own])).logits[0].log_softmax(-1)
            likely = torch.stack([logs[len(before) + at - 1, token] for at, token in enumerate(own)])
            assert score == pytest.approx(likely.mean().exp().item(), abs=1e-5)
            text += f"{step}\n\n"


def test_prompts_of_any_length_are_read_together(gpt2):
    """With candidates that another search sampled, up to the last position that another token may follow."""
    policy = TransformersPolicy(str(gpt2), Sampling(temperature=1.0, seed=4), batch=64)
    roots = [policy.root(f"p{number}", problem) for number, problem in enumerate(PROBLEMS)]
    full = Candidate("full", PROBLEMS[0], prompt=roots[0].prompt, tokens=(5,) * (CONTEXT - 1 - len(roots[0].prompt)))
    policy._prefill([*roots, full])
    assert [root.state.parts[-1].stop for root in roots] == [len(root.prompt) - 1 for root in roots]
    assert full.state.parts[-1].stop == CONTEXT - 2
