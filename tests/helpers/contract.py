"""What every engine must do alike: one set of tests, run for each of them on the same model.

An engine's own test module derives a class from :class:`EngineContract` and says how to open it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import SHAPE
from transformers import LlamaConfig, LlamaForCausalLM

from tts.policies.step_reuse import Remembering
from tts.policies.transformers import TransformersPolicy
from tts.search import beam_search, dvts, sample_pool
from tts.search.base import Sample
from tts.search.confidence import summary
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.store.step_columns import StepCache
from tts.tasks import pocket_tokenizer
from tts.tasks.maths import MATHS

PROBLEMS = ["7,+8=?", "(12+7)*(9-4)=?", "47,+38,*3,-19=?", "1,+1=?"]
SAMPLING = Sampling(temperature=1.0, max_tokens=40, max_step_tokens=30, seed=11)
INNER = [";\n\n", "\n\n1"]  # tokens with a blank line inside, as "." has one in the vocabularies of Llama 3 and Qwen2.5
NEAR_TIE = 1e-3  # in logits: what rounding may turn round


def save_model(folder):
    """A random Llama whose tokenizer has blank lines inside tokens; engines other than transformers load it too."""
    tokenizer = pocket_tokenizer.build()
    tokenizer.add_tokens(INNER)
    torch.manual_seed(3)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    LlamaForCausalLM(LlamaConfig(**SHAPE, **ids, vocab_size=len(tokenizer), initializer_range=0.3)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class LengthPRM:
    """Scores by step length, so a search over a random model goes on."""

    def score(self, problems, steps):
        return [tuple(1 / (1 + len(x)) for x in s) for s in steps], [0] * len(steps)

    def forget(self, problem_id):
        pass


def roots(policy, problems=PROBLEMS):
    return [policy.root(f"p{PROBLEMS.index(p)}", p) for p in problems]


def pools(policy, n, problems=PROBLEMS):
    """Solutions of each problem, as tuples of token ids."""
    outcomes = Driver(policy).run([(root, sample_pool(root, n)) for root in roots(policy, problems)])
    return [[c.tokens for c in outcome.trajectories] for outcome in outcomes]


def one_step(root, n):
    """The first steps, whatever their ending."""
    [children] = yield Sample([root], n)
    return children


def two_steps(root, n):
    """The first steps and what follows the open ones."""
    [children] = yield Sample([root], n)
    following = yield Sample([c for c in children if c.status == "open"], 2)
    return [*children, *(c for siblings in following for c in siblings)]


def near_ties(reference: TransformersPolicy, root, theirs, ours) -> list[str]:
    """Where two greedy solutions part, and by how little the model prefers one; empty where they are equal.

    Raises:
        AssertionError: where it prefers one by more than rounding may turn round.
    """
    if theirs == ours:
        return []
    at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), None)
    assert at is not None, f"{root.problem_id}: one solution is longer: {len(theirs)} and {len(ours)} tokens"
    with torch.inference_mode():
        logits = reference.model(torch.tensor([[*root.prompt, *ours[:at]]])).logits[0, -1]
    margin = float(logits[ours[at]] - logits[theirs[at]])
    line = f"{root.problem_id} at token {at}: margin {margin:.2e}"
    assert abs(margin) < NEAR_TIE, line
    return [line]


class EngineContract:
    """Tests of an engine; a subclass has a fixture ``folder`` (of the model) and says how to open it."""

    def open(self, sampling=SAMPLING, batch=8):
        raise NotImplementedError

    def under_way(self, policy) -> int:
        """What the engine still works on."""
        raise NotImplementedError

    @pytest.fixture
    def reference(self, folder):
        return TransformersPolicy(str(folder), SAMPLING)

    def test_a_step_ends_at_the_first_blank_line(self, reference):
        policy, decode = self.open(), reference.tokenizer.decode
        endings = set()
        for outcome in Driver(policy).run([(root, one_step(root, 24)) for root in roots(policy)]):
            for child in outcome.trajectories:
                before, text = decode(child.tokens[:-1], skip_special_tokens=True), decode(child.tokens, skip_special_tokens=True)
                if child.status == "open":
                    assert MATHS.separator in text and child.steps == (text.strip(),)
                    endings.add(decode(child.tokens[-1:]))
                elif child.status == "finished":
                    assert child.tokens[-1] == reference.tokenizer.eos_token_id
                else:
                    assert len(child.tokens) == SAMPLING.max_step_tokens
                assert MATHS.separator not in before.lstrip(), "it went on after a blank line"
        assert {"\n\n", *INNER} <= endings, "no step ended inside a token"

    def test_a_whole_solution_goes_on_after_blank_lines(self, reference):
        policy = self.open()
        [outcome] = Driver(policy).run([(root, sample_pool(root, 24)) for root in roots(policy, PROBLEMS[:1])])
        assert any(len(c.steps) > 1 for c in outcome.trajectories)
        for candidate in outcome.trajectories:
            assert candidate.steps == MATHS.split(candidate.text)
            ended = candidate.tokens[-1] == reference.tokenizer.eos_token_id
            assert candidate.status == ("finished" if ended else "truncated") and (ended or len(candidate.tokens) == 40)

    def test_token_counts_are_exact(self, reference):
        policy = self.open()
        seen = []
        driver = Driver(Remembering(policy, StepCache(), on_tokens=seen.append), record=True)
        outcomes = driver.run([(root, two_steps(root, 6)) for root in roots(policy)])
        for outcome in outcomes:
            known = {(): ()} | {c.path: c.tokens for c in outcome.nodes}
            for c in outcome.nodes:
                before = known[c.path[:-1]]
                assert c.tokens[: len(before)] == before, "a prefix was not extended but written anew"
                assert c.generated == len(c.tokens) - len(before)
                assert c.text.strip() == reference.tokenizer.decode(c.tokens, skip_special_tokens=True).strip()
            assert outcome.policy_tokens == sum(c.generated for c in outcome.nodes)
            assert outcome.prompt_tokens == len(reference.root("p", PROBLEMS[int(outcome.problem_id[1])]).prompt)
        assert sum(seen) == sum(outcome.policy_tokens for outcome in outcomes) > 0

    def test_samples_are_distinct_and_reproducible(self):
        policy = self.open()
        first = pools(policy, 8)
        assert all(len(set(pool)) >= 7 for pool in first)
        assert pools(policy, 8) == first
        assert pools(policy, 4, PROBLEMS[:2]) == [pool[:4] for pool in first[:2]], "a sample depends on what shares its batch"
        policy.sampling = Sampling(temperature=1.0, max_tokens=40, max_step_tokens=30, seed=12)
        assert all(len(set(a) & set(b)) <= 2 for a, b in zip(pools(policy, 8), first)), "another seed gives the same samples"

    def test_greedy_solutions_are_those_of_the_transformers_engine(self, reference):
        greedy = Sampling(temperature=0, max_tokens=60)
        policy, reference.sampling = self.open(greedy), greedy
        found = []
        for root, theirs, ours in zip(roots(reference), pools(policy, 1), pools(reference, 1)):
            found += near_ties(reference, root, theirs[0], ours[0])
        assert len(found) < len(PROBLEMS)

    def test_a_rollout_is_greedy_among_samples(self):
        policy = self.open()
        first = roots(policy, PROBLEMS[:2])
        greedy = [replace(root, problem_id=f"{root.problem_id}-greedy", greedy=True) for root in first]
        outcomes = Driver(policy).run([(root, sample_pool(root, 6)) for root in (*first, *greedy)])
        alone = pools(self.open(Sampling(temperature=0, max_tokens=40, max_step_tokens=30)), 1, PROBLEMS[:2])
        for sampled, rolled, expected in zip(outcomes[:2], outcomes[2:], alone):
            assert {c.tokens for c in rolled.trajectories} == {expected[0]} and len({c.tokens for c in sampled.trajectories}) > 1

    def test_log_probabilities_are_kept_where_they_are_asked_for(self, reference):
        policy = self.open(replace(SAMPLING, confidence=True))
        [outcome] = Driver(policy).run([(root := policy.root("p1", PROBLEMS[1]), sample_pool(root, 4))])
        for sample in outcome.trajectories:
            with torch.inference_mode():
                logits = reference.model(torch.tensor([[*sample.prompt, *sample.tokens]])).logits[0, len(sample.prompt) - 1 : -1]
            logs = logits.log_softmax(-1)[torch.arange(len(sample.tokens)), torch.tensor(sample.tokens)]
            assert sample.confidence[:2] == pytest.approx(summary(logs.numpy())[:2], abs=1e-3)
        policy.sampling = SAMPLING
        [plain] = Driver(policy).run([(root := policy.root("p1", PROBLEMS[1]), sample_pool(root, 4))])
        assert [c.tokens for c in plain.trajectories] == [c.tokens for c in outcome.trajectories]
        assert {c.confidence for c in plain.trajectories} == {()}

    def test_forced_text_is_read_and_not_billed(self):
        policy = self.open(Sampling(temperature=0, max_tokens=40, max_step_tokens=40))
        root, text = policy.root("p1", PROBLEMS[1]), "1+2=3"
        ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        longer = replace(root, prompt=(*root.prompt, *ids), rendered=root.rendered + text)
        [expected] = Driver(policy).run([(longer, sample_pool(longer, 1))])
        [outcome] = Driver(policy).run([(root, sample_pool(replace(root, path=(7,), forced=text), 2))])
        for child in outcome.trajectories:
            follows = child.tokens[len(ids) :]
            assert child.tokens[: len(ids)] == tuple(ids) and child.generated == len(follows) > 5
            assert follows == expected.trajectories[0].tokens[: len(follows)] and child.text.startswith(text) and child.forced == ""

    def test_greedy_steps_join_to_the_greedy_solution(self):
        policy = self.open(Sampling(temperature=0, max_tokens=40, max_step_tokens=40))

        def follow(root):
            while root.status == "open":
                [[root]] = yield Sample([root], 1)
            return [root]

        stepwise = Driver(policy).run([(root, follow(root)) for root in roots(policy)])
        assert [o.trajectories[0].tokens for o in stepwise] == [pool[0] for pool in pools(policy, 1)]

    def test_a_solution_stops_at_the_context(self):
        policy = self.open(Sampling(temperature=1.0, max_tokens=10_000, max_step_tokens=10_000))
        root = policy.root("p", "1" * 240)
        [outcome] = Driver(policy).run([(root, sample_pool(root, 8))])
        longest = max(outcome.trajectories, key=lambda c: len(c.tokens))
        assert longest.status == "truncated" and len(root.prompt) + len(longest.tokens) == 256
        full = root.child(0, tokens=longest.tokens, text=longest.text, status="open")
        [outcome] = Driver(policy).run([(full, one_step(full, 2))])
        assert all(c.status != "open" and c.generated <= 1 for c in outcome.trajectories)

    def test_a_prompt_longer_than_the_context_is_refused(self):
        with pytest.raises(ValueError, match="problem long: the prompt has 302 tokens and .* reads 256 at most"):
            self.open().root("long", "1" * 301)

    def test_an_interrupted_run_leaves_nothing_under_way(self):
        policy = self.open()
        undisturbed = pools(policy, 4)

        def interrupt(tokens):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Driver(Remembering(policy, StepCache(), on_tokens=interrupt)).run([(root, sample_pool(root, 16)) for root in roots(policy)])
        assert policy.starved and self.under_way(policy) == 0
        assert pools(policy, 4) == undisturbed

    @pytest.mark.parametrize("method", [beam_search, dvts])
    def test_searches_run_unchanged(self, method):
        policy = self.open()
        searches = [(root, method(root, 8, 4, 5)) for root in roots(policy)]
        outcomes = Driver(policy, LengthPRM(), record=True).run(searches)
        assert max(len(c.path) for o in outcomes for c in o.nodes) > 1, "no search took a second step"
        assert sum(len(o.trajectories) for o in outcomes) > 0
        [alone] = Driver(policy, LengthPRM(), record=True).run([(root := policy.root("p1", PROBLEMS[1]), method(root, 8, 4, 5))])
        assert sorted((c.path, c.tokens) for c in alone.nodes) == sorted((c.path, c.tokens) for c in outcomes[1].nodes)
        for outcome in outcomes:
            assert outcome.policy_tokens == sum(c.generated for c in outcome.nodes)
            assert outcome.prompt.startswith(PROBLEMS[int(outcome.problem_id[1])])
