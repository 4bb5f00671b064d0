"""Verifiers of whole solutions: outcome reward models and judges, against scores worked out from the whole conversation."""

from __future__ import annotations

import re
import shutil

import published_prms
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tts.common.names import short
from tts.generate.chunks import Engines
from tts.generate.grid import Grid
from tts.generate.runner import fill
from tts.models.hub import ModelError
from tts.reward_models import family_of, judge, open_prm, scores_whole, weights_of
from tts.reward_models.asked import Asked, verdict
from tts.reward_models.dialogue import DialogueJudge
from tts.search.base import Candidate
from tts.store.store import Store
from tts.tasks.selection import aggregates

PROBLEM = ("a", "47,+38,*3=?")
STEPS = ("47+38=85", "85*3=255", "\\boxed{255}")
OTHER = ("47+38=85", "85*3=265", "\\boxed{265}")
SYSTEM = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"


def turn(role, text):
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


@pytest.fixture(scope="session", params=[1, 2])
def tiny_orm(request, tmp_path_factory):
    return published_prms.build_outcome(tmp_path_factory.mktemp(f"outcome-{request.param}"), request.param)


@pytest.fixture(scope="session")
def tiny_judge(tmp_path_factory):
    return published_prms.build_judge(tmp_path_factory.mktemp("asked"))


def orm_by_hand(folder, problem, steps):
    text = f"{SYSTEM}<|eot_id|>{turn('user', problem)}{turn('assistant', chr(10).join([steps[0], '', steps[1], '', steps[2]]))}"
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        [logits] = model(torch.tensor([ids])).logits
    return logits.sigmoid().item() if len(logits) == 1 else logits.softmax(-1)[1].item()


def test_an_outcome_reward_model_scores_the_conversation_once(tiny_orm):
    verifier = open_prm(str(tiny_orm))
    scores, read = verifier.score([PROBLEM] * 4, [STEPS, OTHER, (), STEPS])
    assert [len(found) for found in scores] == [1, 1, 0, 1] and scores[0] == scores[3]
    for found, steps in zip(scores, (STEPS, OTHER)):
        assert found[0] == pytest.approx(orm_by_hand(tiny_orm, PROBLEM[1], steps), abs=1e-5)
    assert read[0] > read[1] > 0 == read[2] == read[3], "the problem is read once"
    assert {aggregates([scores[0]], how)[0] for how in ("min", "last", "avg", "product")} == {scores[0][0]}


def test_the_family_is_told_by_the_config_or_the_name(tiny_orm, tiny_judge):
    assert family_of(str(tiny_orm))[0] == family_of(f"orm:{tiny_orm}")[0] == "orm"
    assert scores_whole(str(tiny_orm)) and scores_whole(f"judge:{tiny_judge}") and not scores_whole(str(tiny_judge))
    assert (
        short("judge:policy-6k?verdicts=4") == "judge 6k (verdicts=4)"
        and short("Qwen/Q?enable_thinking=false") == "Q (enable_thinking=false)"
    )


def test_a_judge_gives_the_probability_of_yes(tiny_judge):
    verifier = open_prm(f"judge:{tiny_judge}")
    scores, _ = verifier.score([PROBLEM] * 2, [STEPS, OTHER])
    tokenizer = Tokenizer.from_file(str(tiny_judge / "tokenizer.json"))
    labels = [tokenizer.encode(text, add_special_tokens=False).ids[-1] for text in ("Yes", "No")]
    model = AutoModelForCausalLM.from_pretrained(tiny_judge).eval()
    for found, steps in zip(scores, (STEPS, OTHER)):
        solution = "\n\n".join(steps)
        asked = f"Problem:\n{PROBLEM[1]}\n\nSolution:\n{solution}\n\nIs this solution right? Answer Yes or No."
        text = f"{SYSTEM}<|eot_id|>{turn('user', asked)}<|start_header_id|>assistant<|end_header_id|>\n\n"
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])).logits[0, -1]
        assert list(found) == pytest.approx([logits[labels].softmax(-1)[0].item()], abs=1e-5)


@pytest.mark.parametrize("template", [published_prms.QWEN3_TEMPLATE, published_prms.R1_TEMPLATE])
def test_the_first_word_of_a_thinking_model_is_no_verdict(tiny_judge, tmp_path, template):
    shutil.copytree(tiny_judge, tmp_path / "thinks")
    (tmp_path / "thinks" / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="thinks before it answers, so that its first word is no verdict"):
        open_prm(f"judge:{tmp_path / 'thinks'}")
    if template == published_prms.QWEN3_TEMPLATE:
        open_prm(f"judge:{tmp_path / 'thinks'}?enable_thinking=off").score([PROBLEM], [STEPS])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[-1]['content'] }}", "does not show the problem before the solution"),
        ("{{ messages[-1]['content'] }} solves {{ messages[0]['content'] }}", "does not show the problem before the solution"),
        ("{{ messages[0]['content'] }}", "does not show the solution"),
        ("{{ raise_exception('not today') }}", "not today"),
    ],
)
def test_a_verifier_that_is_not_shown_the_conversation_is_refused(tiny_orm, tmp_path, template, message):
    """The first had an empty opening, and ended in a TypeError."""
    shutil.copytree(tiny_orm, tmp_path / "orm")
    (tmp_path / "orm" / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=message):
        open_prm(str(tmp_path / "orm"))


class Scripted:
    """A policy of which each verdict is the next of a list, of three tokens; questions of more than 200 characters do not fit."""

    def __init__(self, texts):
        self.texts, self.questions, self.asked = iter(texts), {}, []

    def root(self, name, question):
        if len(question) > 300:
            raise ValueError("the prompt leaves no room")
        self.questions[name] = question
        return Candidate(name, question, prompt=(1, 2, 3, 4), rendered=question)

    def submit(self, ticket, parent, count, whole):
        children = [parent.child(i, text=next(self.texts), status="finished", generated=3, tokens=(1, 2, 3)) for i in range(count)]
        self.asked.append((ticket, children))

    def poll(self):
        done, self.asked = self.asked, []
        return done

    starved = True

    def reset(self):
        self.asked = []


def test_sampled_verdicts_are_averaged_and_billed(monkeypatch):
    texts = ["Verdict: Yes", "hm. verdict: **no**", "the step is fine", "\\boxed{Yes} and \\boxed{No}"]
    policy = Scripted([*texts, *["nothing"] * 4])
    monkeypatch.setattr(judge, "open_policy", lambda *given: policy)
    verifier = open_prm("judge:policy-6k?verdicts=4")
    long = ("1" * 400,)
    scores, tokens = verifier.score([PROBLEM] * 5, [STEPS, OTHER, STEPS, long, ()])
    assert scores == [(1 / 3,), (0.0,), (1 / 3,), (0.0,), ()], "of four verdicts one is none"
    assert tokens == [4 + 4 * 3, 4 + 4 * 3, 0, 0, 0]
    assert verifier.score([PROBLEM], [STEPS]) == ([(1 / 3,)], [0]), "it is asked once"
    counts, line = verifier.report_unread()
    assert counts == {"solutions": 1, "unjudged": 1} and "about 1 solutions" in line and "no verdict on 1 solutions" in line
    assert verifier.report_unread()[1] is None
    verifier.forget("a")
    assert verifier._known == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Verdict: Yes", True),
        ("Verdict: Yes, no: Verdict: No", False),
        ("<think>Verdict: No</think>\nVerdict: Yes", True),
        ("<think>Verdict: Yes", None),
        ("Step 1: fine. The step is \\boxed{correct}\nStep 2: The step is \\boxed{incorrect}", False),
        ("Step 1: The step is \\boxed{correct}\nStep 2: The step is \\boxed{\\text{correct}}", True),
        ("there is no error", None),
        ("Verdict: no errors, so it is right", None),
        ("Verdict: Yes/No", None),
        ("The verdict is Yes.", True),
        ("Verdict: \\text{No}", False),
        ("", None),
    ],
)
def test_verdicts_are_read(text, expected):
    assert verdict(text) is expected


def test_a_verdict_that_is_cut_off_can_only_say_no():
    correct, wrong = "Step 1: The step is \\boxed{correct}\nStep 2: 85*3", "Step 1: The step is \\boxed{incorrect}\nStep 2: 85"
    assert verdict(correct) is True and verdict(correct, whole=False) is None
    assert verdict(wrong, whole=False) is False and verdict("Verdict: Yes", whole=False) is True


def test_a_judge_that_is_interrupted_is_asked_again(monkeypatch):
    policy = Scripted(["Verdict: Yes"])
    poll, interrupted = policy.poll, []

    def once():
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return poll()

    policy.poll = once
    monkeypatch.setattr(judge, "open_policy", lambda *given: policy)
    verifier = open_prm("judge:policy-6k?verdicts=1")
    with pytest.raises(KeyboardInterrupt):
        verifier.score([PROBLEM], [STEPS])
    policy.texts = iter(["Verdict: Yes"])
    assert verifier.score([PROBLEM] * 2, [STEPS, ("\n\n".join(STEPS),)])[0] == [(1.0,), (1.0,)], "the same text is asked about once"


def test_thinkprm_is_asked_as_it_was_trained():
    asked = Asked.of("judge:launch/ThinkPRM-1.5B?verdicts=1").question("1+1=?", "1+1=2\n\nSo 2", ("1+1=2", "So 2"))
    assert "[Math Problem]\n1+1=?\n\n[Solution]\nStep 1: 1+1=2\nStep 2: So 2\n\nReview" in asked and "\\boxed{correct/incorrect}" in asked


class Teacher(Scripted):
    """Analyses each step, and judges it as the step's own text says; it goes on to the next steps by itself."""

    def __init__(self):
        super().__init__([])
        self.prompts, self.drawn = [], []

    def root(self, name, problem, exchanges=()):
        if sum(len(said) for said, _ in exchanges) > 500:
            raise ValueError("the prompt leaves no room")
        self.prompts.append((name, problem, list(exchanges)))
        step = exchanges[-1][1] if exchanges else problem.partition("\n")[2]
        return Candidate(name, problem, prompt=(1,) * (4 + len(exchanges)), rendered=problem, attempts=(step,))

    def forced_ids(self, candidate):
        return [9] * (6 if candidate.forced.endswith("boxed") else 3)

    def submit(self, ticket, parent, count, whole):
        assert (count, whole) == (1, True)
        self.drawn.append((parent.problem_id, parent.path))
        [step], on = parent.attempts, "\n</output>\n<analyze>\n</analyze>\n<output>\n**Judgement**: $\\boxed"
        if not parent.rendered.endswith("boxed"):
            written, tokens = "it holds.\n</analyze>\n<verify>", 5
        else:
            judged = f"{{No}}${on}{{Yes}}" if "wrong" in step else f"{{Yes}}${on}{{No}}"
            written, tokens = "Yes, I think" if "mumble" in step else judged, 2
        self.asked.append((ticket, [parent.child(0, text=written, status="finished", generated=tokens, tokens=(1,) * tokens)]))


def test_genprm_leads_a_dialogue_over_the_steps(monkeypatch):
    teacher = Teacher()
    monkeypatch.setattr(judge, "open_policy", lambda *given: teacher)
    verifier = open_prm("judge:http://h:8/v1#GenPRM-1.5B?verdicts=2")
    teacher.prompts.clear()
    right, wrong, mumbled = ("1+1=2", "So 2"), ("1+1=3", "wrong", "So 3"), ("1+1=2", "mumble")
    scores, tokens = verifier.score([PROBLEM] * 4, [right, wrong, mumbled, ()])
    assert scores == [(1.0,), (0.0,), (0.0,), ()], "what it writes after its judgement is none"
    # Two dialogues of two turns, in each of which the prompt is read for an analysis of 5 tokens and for a judgement of 2.
    assert tokens == [2 * (4 + 3 + 5 + 4 + 6 + 2 + 5 + 3 + 5 + 5 + 6 + 2)] * 3 + [0]
    assert verifier.report_unread()[0] == {"solutions": 0, "unjudged": 1}
    _, problem, exchanges = teacher.prompts[-1]
    analysed = "<analyze>\nLet's analyze the Paragraph 1 step by step: it holds.\n</analyze>\n"
    judged = "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>"
    assert problem == f"{PROBLEM[1]}\n1+1=2" and exchanges == [(analysed + judged, "mumble")]
    assert len(teacher.prompts) == 3 * 2 * 2, "nothing is asked after the first wrong step"
    assert len(set(teacher.drawn)) == len(teacher.drawn) == 3 * 2 * 2 * 2, "each turn has noise of its own"
    endless = tuple(f"step {number}" for number in range(20))
    assert verifier.score([PROBLEM], [endless])[0] == [(0.0,)] and verifier.report_unread()[0]["unjudged"] == 1


def test_genprm_runs_on_the_engine(tmp_path, monkeypatch):
    """A random model of its template: an analysis that is cut off is judged too."""
    folder = published_prms.build_judge(tmp_path / "GenPRM-tiny")
    published_prms.declare(folder / "config.json", max_position_embeddings=2048)
    verifier, turns, written = open_prm(f"judge:{folder}?verdicts=2&tokens=20"), [], DialogueJudge._written

    def seen(judging, starts, tokens):
        turns.append((starts, written(judging, starts, tokens)))
        return turns[-1][1]

    monkeypatch.setattr(DialogueJudge, "_written", seen)
    [(score,)], [tokens] = verifier.score([PROBLEM], [STEPS])
    (analyses, analysed), (judgements, judged) = turns[:2]
    assert 0 <= score <= 1 and all(analysed.values()) and all(judged.values()) and len(analysed) == len(judged) == 2
    assert all(start.rendered.endswith("step by step: ") for start in analyses)
    for start in judgements:
        assert start.rendered.endswith(f"{analysed[start.problem_id]}\n</analyze>\n<output>\n**Judgement**: $\\boxed")
    assert tokens >= sum(len(start.prompt) for start in (*analyses, *judgements)) + 4
    rendered = verifier.policy.root("a", "1+1=?\n1+1=2", [("<analyze> hm", "So 2")]).rendered
    assert rendered.index("You are a math teacher") < rendered.index("1+1=2") < rendered.index("<analyze> hm") < rendered.index("So 2")
    assert weights_of(f"judge:{folder}") == f"{weights_of(str(folder))}, asked as genprm" != weights_of(f"judge:{folder}?form=plain")
    with pytest.raises(ModelError, match="the form genprm judges after it has reasoned; ask for verdicts"):
        open_prm(f"judge:{folder}?verdicts=0")
    with pytest.raises(ModelError, match="the form must be one of plain, thinkprm, genprm; given 'dialogue'"):
        open_prm(f"judge:{folder}?form=dialogue")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("judge:policy-6k?verdicts=many", "verdicts and tokens are whole numbers"),
        ("judge:policy-6k?verdicts=-1", "verdicts must lie in 0 to 1024"),
        ("judge:policy-6k?temperature=0", "temperature between 0 and 10"),
        ("judge:http://h:8/v1#m?verdicts=0", "this engine tells no probabilities; ask for verdicts"),
        ("judge:policy-6k", "has no token 'Yes': not a PRM of the family judge"),
        ("judge:policy-6k?flavour=mint", "has no option flavour|has no token 'Yes'"),
        ("implicit:policy-6k?enable_thinking=false", "options after '.' are of policies and judges"),
        ("orm:policy-6k", "by its card it is a policy"),
    ],
)
def test_what_cannot_judge_is_refused(name, message):
    with pytest.raises(ModelError, match=message):
        open_prm(name)


def test_options_of_a_judge_have_defaults():
    assert Asked.of("judge:http://h:8/v1#m?context=99") == ("http://h:8/v1#m?context=99", 8, 2048, 0.7, "plain")
    assert Asked.of("judge:policy-6k?tokens=5&enable_thinking=false") == ("policy-6k?enable_thinking=false", 0, 5, 0.7, "plain")
    assert Asked.of("judge:a/GenPRM/b") == ("a/GenPRM/b", 0, 2048, 0.7, "plain"), "a folder around it says nothing"
    assert Asked.of("judge:a/b?form=genprm") == ("a/b", 8, 2048, 0.7, "genprm") and Asked.of("judge:x/ThinkPRM-14B").verdicts == 8


def test_searches_refuse_them_and_votes_take_them(tiny_orm, tiny_lm, tmp_path):
    sizes = {"problems": {"pocket-main": 4}, "policies": [str(tiny_lm)], "samples": 4, "budgets": [4], "max_tokens": 40}
    given = sizes | {"prms": [str(tiny_orm)]}
    with pytest.raises(ValueError, match="scores whole solutions only; beam_search, dvts need scores of steps: leave them out"):
        Grid(**given, methods=["best_of_n", "beam_search", "dvts"])
    store, grid = Store(tmp_path), Grid(**given, methods=["majority", "best_of_n"])
    fill(grid, store)
    rows = store.run(grid.spec("scores", str(tiny_lm), str(tiny_orm), 4)).read(grid.chunks("pocket-main")[0])
    assert {len(t["scores"]) for row in rows for t in row["trajectories"]} <= {0, 1} and all(row["prm_tokens"] for row in rows)
    with pytest.raises(ModelError, match=re.escape(f"{tiny_orm} scores whole solutions only; a search needs scores of steps")):
        Engines(8).prm(str(tiny_orm)).score_open([PROBLEM], [STEPS])
