"""Sequential revision, AB-MCTS and budget forcing: scripts worked out by hand, and small models of real templates."""

from __future__ import annotations

from dataclasses import replace

import published_prms
import pytest
import torch
from published_prms import QWEN3_TEMPLATE, byte_level
from scripted import ScriptedPolicy
from shapes import SHAPE
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tts.common.thinking import after_thinking
from tts.generate.grid import ParameterError, grid_of
from tts.policies.transformers import TransformersPolicy
from tts.search import ab_mcts, budget_forcing, sequential_revision
from tts.search.base import Candidate
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks.prompts import REVISION


class Reviser(ScriptedPolicy):
    """Answers by what it is shown: its own number, and how many attempts it has seen; odd samples of the root are cut off."""

    def poll(self):
        ticket, parent, count, whole = self.queue.pop()
        assert whole
        self.generated += 7 * count
        children = []
        for index in range(count):
            text = f"{parent.path[0] if parent.attempts else index}:{len(parent.attempts)}:{'|'.join(parent.attempts)}"
            status = "truncated" if not parent.attempts and index == 3 else "finished"
            children.append(parent.child(index, steps=(text,), text=text, status=status, generated=7))
        return [(ticket, children)]

    def revised(self, candidate):
        shown = (*candidate.attempts, candidate.text.partition(":")[0])
        return Candidate(candidate.problem_id, candidate.problem, path=(*candidate.path, 99), attempts=shown)


def revise(n, sequential):
    policy = Reviser(None)
    [outcome] = Driver(policy).run([(root := Candidate("p", "a problem"), sequential_revision(root, n, sequential))])
    return [c.text for c in outcome.trajectories], outcome, policy


def test_chains_of_attempts_see_what_came_before():
    found, outcome, policy = revise(6, 3)
    assert found == ["0:0:", "0:1:0", "0:2:0|0", "1:0:", "1:1:1", "1:2:1|1"]
    assert outcome.policy_tokens == policy.generated == 6 * 7
    assert len({c.path for c in outcome.trajectories}) == 6


def test_a_budget_below_a_chain_is_one_chain_and_of_one_it_is_the_pool():
    assert revise(2, 4)[0] == ["0:0:", "0:1:0"]
    assert revise(3, 1)[0] == ["0:0:", "1:0:", "2:0:"]
    assert len(revise(8, 2)[0]) == 7, "the fourth sample was cut off, and its revision was not"


def test_a_budget_that_chains_do_not_make_up_is_refused():
    given = {"problems": {"pocket-main": 4}, "policies": ["policy-6k"], "methods": ["revision"]}
    with pytest.raises(
        ParameterError, match="revision: the budget N must be a multiple of sequential, or less; given N = 6, sequential = 4"
    ):
        grid_of(**given, samples=6, budgets=[6])
    assert grid_of(**given, samples=6, budgets=[6], constants={"sequential": 3}).budgets == [6]


class Thinker(ScriptedPolicy):
    """Writes steps of ten tokens by what stands before: thinks for a number of steps, ends thinking, and answers."""

    def __init__(self, thoughts, opens=True):
        super().__init__(None)
        self.thoughts, self.opens, self.seen = thoughts, opens, []

    def poll(self):
        ticket, parent, count, whole = self.queue.pop()
        children = []
        for index in range(count):
            before = parent.text + parent.forced
            self.seen.append(before)
            self.generated += 10
            if "</think>" in before or not self.opens:
                text, status = "answer", "finished"
            else:
                thought = before.count("t") - before.count("Wait")  # of "Wait" one is a t
                text, status = ("t\n\n" if thought < self.thoughts else "end</think>\n\n"), "open"
            whole_text = parent.forced + text
            steps = (*parent.steps, whole_text.strip())
            tokens = (*parent.tokens, *[0] * 10)
            children.append(parent.child(index, steps=steps, text=parent.text + whole_text, tokens=tokens, status=status, generated=10))
        return [(ticket, children)]


def think(thoughts, limit, waits, n=1, opens=True):
    policy = Thinker(thoughts, opens)
    root = Candidate("p", "a problem", rendered="problem<think>\n" if opens else "problem")
    [outcome] = Driver(policy).run([(root, budget_forcing(root, n, limit, waits))])
    return ["".join(c.steps) for c in outcome.trajectories], outcome


def test_thinking_that_ends_early_is_made_to_wait():
    # Two thoughts, the end taken back once ("end" stays, and Wait), then the end, then the answer.
    [text], outcome = think(2, 1000, 1)
    assert text == "tt" + "end\n\nWaitend</think>" + "answer"
    assert outcome.policy_tokens == 5 * 10, "what was taken back was generated"
    assert think(2, 1000, 0)[0] == ["ttend</think>answer"]
    assert think(0, 1000, 2)[0] == ["end\n\nWaitend\n\nWaitend</think>answer"]


def test_thinking_that_goes_on_is_ended():
    [text], outcome = think(100, 30, 5)
    assert text == "ttt" + "</think>\n\nanswer" and outcome.policy_tokens == 4 * 10, "what was forced is not billed"


class Quick(Thinker):
    """Ends its thinking and answers in one step."""

    def poll(self):
        ticket, parent, count, _ = self.queue.pop()
        self.generated += 10 * count
        text = parent.forced + "t</think>answer"
        made = {"text": parent.text + text, "steps": (*parent.steps, text), "tokens": (0,) * 10, "status": "finished", "generated": 10}
        return [(ticket, [parent.child(index, **made) for index in range(count)])]


def test_thinking_that_ends_with_its_answer_is_made_to_wait_too():
    root = Candidate("p", "a problem", rendered="problem<think>\n")
    [outcome] = Driver(Quick(0)).run([(root, budget_forcing(root, 2, 1000, 2))])
    assert [c.text for c in outcome.trajectories] == ["t\n\nWaitt\n\nWaitt</think>answer"] * 2


def test_forced_text_that_leaves_no_room_ends_the_solution(talker):
    from tts.search.base import Sample

    def forced(start):
        [children] = yield Sample([replace(start, path=(7,), forced="x" * 30)], 2, whole=True)
        return children

    policy = TransformersPolicy(talker, Sampling(max_tokens=20), 8)
    [outcome] = Driver(policy).run([(root := policy.root("p", "1+1=?"), forced(root))])
    assert {(c.status, c.generated) for c in outcome.trajectories} == {("truncated", 0)} and outcome.policy_tokens == 0


def test_a_policy_without_a_tokenizer_forces_nothing(talker):
    policy = TransformersPolicy(talker, Sampling(), 8)
    policy.tokenizer = None
    with pytest.raises(ValueError, match="to force a text the policy's tokenizer has to be here"):
        policy.forced_ids(Candidate("p", "", forced="Wait"))
    assert policy.forced_ids(Candidate("p", "")) == []


def test_each_forced_text_has_a_path_of_its_own():
    """Steps that searches share are known by their path; the same place may be forced to stop or to wait."""
    paths = {(limit, waits): think(1, limit, waits)[1].trajectories[0].path for limit, waits in ((1000, 1), (10, 1), (1000, 2))}
    assert paths[1000, 1][2] != paths[10, 1][1] and len(set(paths.values())) == 3
    assert all(index < 1 << 31 for path in paths.values() for index in path)


def test_samples_are_forced_each_by_itself_and_a_model_that_does_not_think_is_left_alone():
    assert think(1, 1000, 1, n=3)[0] == ["tend\n\nWaitend</think>answer"] * 3
    assert think(5, 10, 3, n=2, opens=False)[0] == ["answer"] * 2


class Numbered(Reviser):
    """Its solutions are numbered as they are made, so that each attempt tells which it is."""

    def poll(self):
        [(ticket, [child])] = super().poll()
        _, depth, attempts = child.text.split(":")
        text = f"{self.generated // 7 - 1}:{depth}:{attempts}"
        return [(ticket, [replace(child, steps=(text,), text=text)])]


class Rated:
    """Scores each solution by how many attempts came before it."""

    def __init__(self, of_depth):
        self.of_depth = of_depth

    def score(self, problems, steps):
        return [(self.of_depth[min(int(s[0].split(":")[1]), len(self.of_depth) - 1)],) for s in steps], [1] * len(steps)

    def forget(self, problem_id):
        pass


def branch(n, of_depth, seed=0):
    policy = Numbered(None)
    [outcome] = Driver(policy, Rated(of_depth), record=True).run([(root := Candidate("p", "a problem"), ab_mcts(root, n, seed))])
    return [int(c.text.split(":")[1]) for c in outcome.trajectories], outcome, policy


def test_ab_mcts_goes_wide_or_deep_as_the_scores_say():
    depths = {name: [branch(24, of, seed)[0] for seed in range(8)] for name, of in (("wide", (1.0, 0.0)), ("deep", (0.1, 0.5, 1.0)))}
    means = {name: sum(map(sum, found)) / (8 * 24) for name, found in depths.items()}
    assert all(len(found) == 24 and found[0] == 0 for runs in depths.values() for found in runs)
    assert means["wide"] < 0.35 and means["deep"] > 1.5, means


def test_ab_mcts_bills_each_solution_shows_its_ancestors_and_repeats_itself():
    found, outcome, policy = branch(12, (0.3, 0.6, 0.9))
    assert outcome.policy_tokens == policy.generated == 12 * 7 and outcome.prm_tokens == 12
    assert len({c.path for c in outcome.trajectories}) == 12 and branch(12, (0.3, 0.6, 0.9))[0] == found
    way = {number: attempts for number, _, attempts in (c.text.split(":") for c in outcome.trajectories)}
    assert list(way) == [str(number) for number in range(12)] and max(map(len, way.values())) > 3, "some are revisions of revisions"
    for number, attempts in way.items():
        *before, last = attempts.split("|")
        assert not last or (int(last) < int(number) and way[last] == "|".join(before)), "shown are an earlier one, and what it was shown"
    assert branch(1, (0.5,))[0] == [0]


def test_ab_mcts_takes_a_verifier_of_whole_solutions(tmp_path):
    folder = published_prms.build_outcome(tmp_path / "orm")
    given = {"problems": {"pocket-main": 2}, "policies": ["policy-6k"], "prms": [str(folder)], "samples": 4, "budgets": [4]}
    assert grid_of(**given, methods=["ab_mcts", "best_of_n"]).methods == ["ab_mcts", "best_of_n"]
    with pytest.raises(ParameterError, match="scores whole solutions only; rebase needs"):
        grid_of(**given, methods=["ab_mcts", "rebase"])


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    """A random model with Qwen3's kind of template."""
    folder = tmp_path_factory.mktemp("talker")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(["<|im_start|>", "<|im_end|>"], ""), eos_token="<|im_end|>", chat_template=QWEN3_TEMPLATE
    )
    shape = SHAPE | {"max_position_embeddings": 1024}
    LlamaForCausalLM(LlamaConfig(**shape, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_revision_shows_the_attempts_in_turns(talker):
    policy = TransformersPolicy(talker, Sampling(temperature=1.0, max_tokens=20), 8)
    root = policy.root("p", "1+1=?")
    first = policy.revised(root.child(0, text="It is 3.", status="finished"))
    second = policy.revised(first.child(0, text="It is 2.", status="finished"))
    turn = f"<|im_end|>\n<|im_start|>user\n{REVISION}<|im_end|>\n<|im_start|>assistant\n"
    assert first.rendered == f"{root.rendered}It is 3.{turn}" and second.rendered == f"{root.rendered}It is 3.{turn}It is 2.{turn}"
    assert (
        first.attempts == ("It is 3.",)
        and second.attempts == ("It is 3.", "It is 2.")
        and first.tokens == ()
        and len(set(second.path)) == 2
    )
    long = policy.revised(first.child(0, text="x" * 250, status="finished"))
    assert long.attempts == ("x" * 250,), "the last attempts that leave half of the context"
    none = policy.revised(first.child(0, text="xyz " * 1000, status="finished"))
    assert none.attempts == () and none.prompt == root.prompt and none.path != root.path


def test_a_policy_that_cannot_read_the_request_says_so():
    policy = TransformersPolicy("policy-6k", Sampling(), 8)
    with pytest.raises(ValueError, match="policy-6k cannot be shown its solutions again .*; leave revision and ab_mcts out of methods"):
        policy.revised(policy.root("p", "7,+8=?").child(0, text="7+8=15", status="finished"))


@pytest.mark.parametrize("count", [1, 3])
def test_forced_text_is_read_as_the_policys_own(talker, count):
    """What follows it is what follows the same tokens; it is not billed, and stands in the solution."""
    greedy = Sampling(temperature=0, max_tokens=60, max_step_tokens=60)
    policy = TransformersPolicy(talker, greedy, 8)
    root = policy.root("p", "1+1=?")
    ids = policy.tokenizer("\n\nWait", add_special_tokens=False)["input_ids"]

    def forced(start):
        from tts.search.base import Sample

        [children] = yield Sample([replace(start, path=(7,), forced="\n\nWait")], count, whole=True)
        return children

    [outcome] = Driver(policy).run([(root, forced(root))])
    prompted = replace(root, problem_id="q", prompt=(*root.prompt, *ids))
    [expected] = Driver(TransformersPolicy(talker, replace(greedy, max_tokens=60 - len(ids)), 8)).run([(prompted, plain(prompted))])
    for child in outcome.trajectories:
        assert child.tokens == (*ids, *expected.trajectories[0].tokens) and child.generated == len(child.tokens) - len(ids)
        assert child.text == "\n\nWait" + expected.trajectories[0].text and child.forced == ""
    assert outcome.policy_tokens == sum(child.generated for child in outcome.trajectories)


def plain(root):
    from tts.search import sample_pool

    return sample_pool(root, 1)


def test_a_forced_search_runs_on_the_engine(tmp_path):
    """A random model of nine words, among them a blank line, the end of thinking and the end of a solution."""
    words = ["a", "1", "\n", "\n\n", "</think>", "Wait", "<think>", "?", "<eos>"]
    tokenizer = Tokenizer(models.WordLevel(dict(zip(words, range(9))), unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\n\n|\n|</?think>|Wait|<eos>|."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    template = "1<think>"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", chat_template=template).save_pretrained(tmp_path)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE | {"vocab_size": 9, "eos_token_id": 8, "pad_token_id": 8})).save_pretrained(tmp_path)

    policy = TransformersPolicy(str(tmp_path), Sampling(temperature=1.0, max_tokens=60, max_step_tokens=40, seed=1), 8)
    [outcome] = Driver(policy, record=True).run([(root := policy.root("p", "1"), budget_forcing(root, 40, 12, 1))])
    texts = [c.text for c in outcome.nodes]
    assert sum("\n</think>\n\n" in text for text in texts) > 2 and sum("\n\nWait" in text for text in texts) > 2
    assert len(outcome.trajectories) > 10 and all(c.status == "finished" for c in outcome.trajectories)
    assert all(after_thinking(c.text, root.rendered) is None or "Wait" in c.text or len(c.tokens) >= 12 for c in outcome.trajectories)
    assert outcome.policy_tokens == sum(c.generated for c in outcome.nodes)
