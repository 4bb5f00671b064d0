"""Templates to copy: the least that a new search method, PRM family and engine are made of."""

from __future__ import annotations

import torch
from greedy_steps import greedy_steps
from scripted import ScriptedPolicy, ScriptedPRM
from scripted import root as new_root
from transformers import LlamaConfig, LlamaModel

from tts.policies.base import SEEDS, Asked, RequestPolicy, Told
from tts.reward_models.base import StepScorer, check_responds
from tts.search.driver import Driver
from tts.search.sampling import Sampling, noise_key


def test_method_template():
    policy = ScriptedPolicy(lambda steps, index: (str(index), "finished" if len(steps) == 2 else "open", 3))
    prm = ScriptedPRM(lambda steps: -abs(int(steps[-1]) - len(steps)))
    [outcome] = Driver(policy, prm).run([(root := new_root(), greedy_steps(root, 5))])
    assert [c.steps for c in outcome.trajectories] == [("1", "2", "3")]
    assert outcome.policy_tokens == policy.generated == 3 * 5 * 3


class NormPRM:
    """A PRM family: how a solution is rendered as token ids, and how the last step's score is read."""

    def __init__(self):
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=128, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
        self.backbone = LlamaModel(config).eval()

    def render(self, solutions: list[tuple[str, tuple[str, ...]]]) -> list[list[int]]:
        return [[ord(c) for c in problem + "\n" + "".join(step + "\n" for step in steps)] for problem, steps in solutions]

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        ends = torch.tensor([len(t) - 1 for t in tokens])
        return hidden[torch.arange(len(tokens)), ends].mean(-1).sigmoid().tolist()


def test_prm_family_template():
    scorer = check_responds(StepScorer("norm", NormPRM()))
    scores, tokens = scorer.score([("p", "1+1")] * 2, [("a", "b"), ("a", "c")])
    assert scores[0][0] == scores[1][0] and scores[0][1] != scores[1][1]
    assert tokens == [len("1+1\na\nb\n"), len("c\n")]


class Echo(RequestPolicy):
    """An engine: it takes questions, answers them in any order, and drops them when told to. Here each step repeats the seed."""

    def __init__(self):
        super().__init__("echo", Sampling(max_tokens=100, max_step_tokens=8), batch=4, context=200)
        self.asked = {}

    def _send(self, number: int, asked: Asked) -> None:
        self.asked[number] = asked

    def _receive(self) -> list[tuple[int, Told]]:
        number, asked = self.asked.popitem()
        tokens = tuple(map(int, f"{asked.seed}"))[: asked.limit]
        return [(number, Told(tokens, "".join(map(str, tokens)), "step" if len(asked.prompt) < 20 else "end", len(tokens)))]

    def _abort(self, numbers: list[int]) -> None:
        self.asked.clear()


def test_engine_template():
    policy, prm = Echo(), ScriptedPRM(lambda steps: float(steps[-1]))
    [outcome] = Driver(policy, prm).run([(root := new_root(), greedy_steps(root, 3))])
    [best] = outcome.trajectories
    seeds = [[noise_key(0, "p", (*best.path[:depth], i)) & SEEDS for i in range(3)] for depth in range(4)]
    assert best.steps == tuple(str(max(f"{seed}"[:8] for seed in level)) for level in seeds)
    assert best.path == tuple(max(range(3), key=lambda i: f"{level[i]}"[:8]) for level in seeds)
    assert len(best.tokens) == 4 * 8 and outcome.policy_tokens == 3 * len(best.tokens) and policy.starved
