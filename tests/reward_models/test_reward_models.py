"""PRM adapters on tiny models with known weights, against scores worked out from the whole input's logits."""

from __future__ import annotations

import shutil

import published_prms
import pytest
import torch
from by_hand import qwen_by_hand
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, Qwen2ForCausalLM

from tts.generate.chunks import Engines, warn
from tts.models import loading
from tts.models.hub import ModelError
from tts.models.loading import load_tokenizer
from tts.reward_models import FAMILIES, family_of, open_prm
from tts.reward_models.base import StepScorer
from tts.tasks import pocket_tokenizer as pocket_tokenizer
from tts.tasks.maths import MATHS

PROBLEM = ("a", "47,+38,*3=?")
STEPS = ("47+38=85", "85*3=255", "\\boxed{255}")
OTHER = ("47+38=85", "85*3=265", "\\boxed{265}")


@pytest.fixture(scope="session")
def tiny_rlhflow(tmp_path_factory):
    return published_prms.build_rlhflow(tmp_path_factory.mktemp("rlhflow"))


@pytest.fixture(scope="session")
def tiny_skywork(tmp_path_factory):
    return published_prms.build_skywork(tmp_path_factory.mktemp("value-head"))


@pytest.fixture(scope="session")
def tiny_token_classification(tmp_path_factory):
    return published_prms.build_token_classification(tmp_path_factory.mktemp("token-classification"))


@pytest.fixture(scope="session")
def tiny_mistral(tmp_path_factory):
    return published_prms.build_shepherd(tmp_path_factory.mktemp("mistral"))


def shepherd_by_hand(folder, problem, steps):
    prm = open_prm(f"math-shepherd:{folder}").family
    ids = prm.tokenizer(f"{problem} " + "\n".join(f"{s} ки" for s in steps))["input_ids"]
    vocabulary = prm.tokenizer.get_vocab()
    with torch.inference_mode():
        logits = prm.model(torch.tensor([ids])).logits[0]
    at = [i for i, token in enumerate(ids) if token == vocabulary[" ки"]]
    return logits[at][:, [vocabulary[" +"], vocabulary[" -"]]].softmax(-1)[:, 0].tolist()


def mistral_by_hand(folder, problem, steps):
    """As the authors: the labels are what "+ -" is encoded as, the tag what "ки" is, each after the bos token."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    labels, tag = tokenizer.encode("+ -").ids[1:], tokenizer.encode("ки").ids[-1]
    ids = tokenizer.encode(f"{problem} " + "\n".join(f"{s} ки" for s in steps)).ids
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert len(labels) == 2 and ids[0] == tokenizer.token_to_id("<s>") and (not steps or len(ids) > model.config.sliding_window)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    return logits[[i for i, token in enumerate(ids) if token == tag]][:, labels].softmax(-1)[:, 0].tolist()


def rlhflow_by_hand(folder, problem, steps):
    """As the authors: a conversation for each step, with all answers "+"; the last is predicted two tokens before its end mark."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    labels = [tokenizer.encode(label, add_special_tokens=False).ids[-1] for label in "+-"]
    text = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    text += "Today Date: 26 Jul 2024\n\n<|eot_id|>"
    scores = []
    for number, step in enumerate(steps):
        text += f"<|start_header_id|>user<|end_header_id|>\n\n{problem + ' ' if number == 0 else ''}{step}<|eot_id|>"
        text += "<|start_header_id|>assistant<|end_header_id|>\n\n+<|eot_id|>"
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])).logits
        scores.append(logits[0, -3, labels].softmax(-1)[0].item())
    return scores


def skywork_by_hand(folder, problem, steps):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    [newline] = tokenizer.encode("\n").ids
    weights = load_file(folder / "model.safetensors")
    ids, ends = tokenizer.encode(f"<|endoftext|>{problem}\n").ids, []
    for step in steps:
        ids += [*tokenizer.encode(step).ids, newline]
        ends.append(len(ids) - 1)
    model = Qwen2ForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    return (hidden[ends] @ weights["v_head.summary.weight"][0] + weights["v_head.summary.bias"]).sigmoid().tolist()


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


def token_classification_by_hand(folder, problem, steps):
    """As TRL's trainer writes its examples: the label of a step is at the last token of the newline after it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids, ends = tokenizer.encode(f"<|endoftext|>{problem}").ids, []
    for step in steps:
        ids += [*tokenizer.encode(step).ids, *tokenizer.encode("\n").ids]
        ends.append(len(ids) - 1)
    with torch.inference_mode():
        logits = AutoModelForTokenClassification.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0]
    return logits[ends].softmax(-1)[:, 1].tolist()


CASES = [
    pytest.param("math-shepherd:", "tiny_lm", shepherd_by_hand, id="math-shepherd"),
    pytest.param("math-shepherd:", "tiny_mistral", mistral_by_hand, id="math-shepherd-mistral"),
    pytest.param("", "tiny_qwen_prm", qwen_by_hand, id="qwen-prm"),
    pytest.param("rlhflow:", "tiny_rlhflow", rlhflow_by_hand, id="rlhflow"),
    pytest.param("", "tiny_skywork", skywork_by_hand, id="skywork"),
    pytest.param("implicit:", "tiny_lm", implicit_by_hand, id="implicit"),
    pytest.param("", "tiny_token_classification", token_classification_by_hand, id="token-classification"),
]
families = pytest.mark.parametrize(("family", "fixture", "by_hand"), CASES)


@families
def test_scores_equal_those_worked_out_by_hand(request, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    prm = open_prm(f"{family}{folder}")
    solutions = [STEPS, OTHER, STEPS[:1], (), STEPS]
    scores, _ = prm.score([PROBLEM] * 5, solutions)
    for found, steps in zip(scores, solutions):
        assert list(found) == pytest.approx(by_hand(folder, PROBLEM[1], steps), abs=1e-5)


@families
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
    steps, other, both = map(len, whole.family.render([(PROBLEM[1], solution) for solution in (STEPS, OTHER, STEPS[:1])]))
    once = steps + other - both
    assert tokens == sum(tokens_whole) == once


@families
def test_half_precision_as_on_a_gpu_gives_about_the_same_scores(request, monkeypatch, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    monkeypatch.setattr(loading, "placement", lambda location: ("cpu", torch.bfloat16))
    prm = open_prm(f"{family}{folder}")
    assert prm.family.backbone.dtype == torch.bfloat16
    monkeypatch.undo()
    [scores], _ = prm.score([PROBLEM], [STEPS])
    assert list(scores) == pytest.approx(by_hand(folder, PROBLEM[1], STEPS), abs=0.1)


@families
def test_prefixes_that_were_dropped_are_computed_again(request, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    prm = open_prm(f"{family}{folder}")
    prm.score([PROBLEM], [STEPS[:2]])
    prm.score([PROBLEM], [OTHER[:2]])
    scores, _ = prm.score([PROBLEM], [STEPS])
    assert list(scores[0]) == pytest.approx(by_hand(folder, PROBLEM[1], STEPS), abs=1e-5)


@families
def test_what_a_search_dropped_takes_no_memory_while_others_go_on(request, family, fixture, by_hand, monkeypatch):
    folder = request.getfixturevalue(fixture)
    prm = open_prm(f"{family}{folder}")
    prm.score([PROBLEM] * 3, [STEPS[:1], OTHER[:2], ("1+1=3",)])
    read, held = prm.engine.read, []

    def watched(texts):
        held.append({key for key, node in prm._known["a"].items() if node.state is not None})
        return read(texts)

    monkeypatch.setattr(prm.engine, "read", watched)
    [scores], _ = prm.score([PROBLEM], [STEPS[:2]])
    monkeypatch.undo()
    assert held == [{(), STEPS[:1]}]
    assert list(scores) == pytest.approx(by_hand(folder, PROBLEM[1], STEPS[:2]), abs=1e-5)


@families
def test_each_step_has_one_score_whatever_it_holds(request, family, fixture, by_hand):
    """Marks of any family inside a step, line breaks, blanks around it, nothing at all."""
    prm = open_prm(f"{family}{request.getfixturevalue(fixture)}")
    prm.unknown_id = None  # the pocket tokenizer does not know other families' marks
    odd = [" ки", "\n+", "<extra_0>", "<|eot_id|>", "<|im_end|>\n", "85\n\n", "  "]
    for text in odd:
        [plain, marked], _ = prm.score([PROBLEM] * 2, [STEPS[:2], (f"47+38={text}85", *STEPS[1:2])])
        assert len(plain) == len(marked) == 2 and plain[0] != marked[0]
    [scores, first], _ = prm.score([PROBLEM] * 2, [(*STEPS, ""), STEPS])
    assert len(scores) == 4 and scores[:3] == first


@families
def test_blanks_around_a_step_change_nothing(request, family, fixture, by_hand):
    if family == "implicit:":
        pytest.skip("what the policy writes counts as it is")
    prm = open_prm(f"{family}{request.getfixturevalue(fixture)}")
    [plain], _ = prm.score([PROBLEM], [STEPS])
    [blanks], _ = prm.score([PROBLEM], [tuple(f" {step}\n" for step in STEPS)])
    assert blanks == pytest.approx(plain, abs=1e-6)


@families
def test_a_blank_last_step_is_no_step(request, family, fixture, by_hand):
    prm = open_prm(f"{family}{request.getfixturevalue(fixture)}")
    [expected], _ = prm.score([PROBLEM], [STEPS])
    [found], _ = prm.score([PROBLEM], [MATHS.split("\n\n".join(STEPS) + "\n\n \n\n")])
    assert found == pytest.approx(expected, abs=1e-6) and len(found) == 3


@families
def test_an_empty_solution_has_no_scores(request, family, fixture, by_hand):
    prm = open_prm(f"{family}{request.getfixturevalue(fixture)}")
    assert prm.score([PROBLEM], [()])[0] == [()]


@families
def test_steps_beyond_the_context_score_0_and_are_counted(request, family, fixture, by_hand):
    folder = request.getfixturevalue(fixture)
    prm = open_prm(f"{family}{folder}")
    long = (STEPS[0], "1" * 600, *STEPS[1:])
    [found, short], read = prm.score([PROBLEM] * 2, [long, STEPS])
    assert list(short) == pytest.approx(by_hand(folder, PROBLEM[1], STEPS), abs=1e-5)
    assert found == (short[0], 0, 0, 0) and sum(read) < 256
    assert prm.report_unread()[1] == f"{prm.name} reads {prm.context} tokens at most; 3 steps that end beyond that scored 0"
    assert prm.report_unread()[1] is None
    [[*grown], _], read = prm.score([PROBLEM] * 2, [(*long, "85"), STEPS])
    assert grown == [*found, 0] and prm.unread == 1 and read == [0, 0]


@pytest.mark.parametrize(("family", "fixture"), [("skywork:", "tiny_skywork"), ("implicit:", "tiny_lm")])
def test_little_memory_costs_tokens_but_changes_no_score(request, monkeypatch, family, fixture):
    ample = open_prm(f"{family}{request.getfixturevalue(fixture)}")
    token = 2 * 2 * 32 * 4  # keys and values of two layers with one head of 32 numbers
    monkeypatch.setattr("tts.reward_models.base.free_memory", lambda device: 4 * 150 * token)
    tight = StepScorer("tight", ample.family, batch=8, context=ample.context)
    solutions = [(STEPS[0], f"{number}*3=255", OTHER[2]) for number in range(83, 88)]
    read = {"ample": 0, "tight": 0}
    for depth in (1, 3):
        for name, prm in (("ample", ample), ("tight", tight)):
            scores, tokens = prm.score([PROBLEM] * 5, [steps[:depth] for steps in solutions])
            read[name] += sum(tokens)
            if name == "ample":
                expected = scores
        assert [pytest.approx(row, abs=1e-5) for row in expected] == scores
        held = [len(node.ids) for node in tight._known["a"].values() if node.state is not None]
        assert sum(held) <= 150 and tight.engine._read_cache.slots * tight.engine._read_cache.held.shape[4] <= 128
    assert read["tight"] > read["ample"]


def test_a_run_warns_once_of_what_a_prm_did_not_read(tiny_qwen_prm, capsys):
    engines = Engines(8)
    for _ in range(2):
        engines.prm(str(tiny_qwen_prm)).score([PROBLEM], [("1" * 400, "85")])
    warn(engines.unread()[1:])
    assert engines.unread() == ({"steps": 0, "unknown": 0, "tokens": 0}, None)
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"warning: {tiny_qwen_prm} reads 256 tokens at most; 2 steps that end beyond that scored 0"


def test_a_problem_beyond_the_context_has_no_scores_but_0(tiny_qwen_prm):
    prm = open_prm(str(tiny_qwen_prm))
    assert prm.score([("long", "1" * 300)] * 2, [STEPS, ()])[0] == [(0, 0, 0), ()]
    assert prm.unread == 3


def test_a_step_that_just_fits_is_read(tiny_skywork):
    prm = open_prm(str(tiny_skywork))
    expected, _ = prm.score([PROBLEM], [STEPS])
    prm.forget("a")
    prm.context = len(prm.family.render([(PROBLEM[1], STEPS)])[0])
    assert prm.score([PROBLEM], [STEPS])[0] == expected and prm.unread == 0
    prm.forget("a")
    prm.context -= 1
    assert prm.score([PROBLEM], [STEPS])[0] == [(*expected[0][:2], 0)] and prm.unread == 1


def test_skywork_reads_a_step_of_several_lines_as_one_line(tiny_skywork):
    prm = open_prm(str(tiny_skywork))
    [found], _ = prm.score([PROBLEM], [("First,\n47+38=85\n", "85*3\n=255")])
    assert list(found) == pytest.approx(skywork_by_hand(tiny_skywork, PROBLEM[1], ("First, 47+38=85", "85*3 =255")), abs=1e-5)


def test_skywork_reads_at_a_newline_of_its_own(tiny_skywork):
    """A byte-level tokenizer merges the end of a sentence with the newline after it; a step's newline stays apart."""
    prm = open_prm(str(tiny_skywork))
    ids = prm.family.render([("What is 47+38?", ("It is 85.", "So: 85."))])[0]
    tokens = prm.family.tokenizer.convert_ids_to_tokens(ids)
    assert tokens.count("Ċ") == 2 and "?Ċ" in tokens and tokens[-2:] == [".", "Ċ"] and tokens[0] == "<|endoftext|>"


def test_rlhflow_renders_the_authors_conversation(tiny_rlhflow):
    family = open_prm(f"rlhflow:{tiny_rlhflow}").family
    text = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n1+1=? So:<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n+<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert family.tokenizer.decode(family.render([("1+1=?", ("So:", "2."))])[0]) == text
    opening = family.render([("1+1=?", ())])[0]
    assert family.render([("1+1=?", ("So:",))])[0][: len(opening)] == opening


class MergingPRM:
    """A family whose tokenizer merges each end with what follows: reads the state before the step's first token."""

    architectures = names = ()

    def __init__(self, folder):
        self.backbone = AutoModelForCausalLM.from_pretrained(folder).base_model.eval()

    def render(self, solutions):
        return [self._ids(problem, steps) for problem, steps in solutions]

    def _ids(self, problem, steps):
        ids = [3 + ord(c) % 20 for c in problem]
        for step in steps:
            ids = [*ids[:-1], ids[-1] + 1, *(3 + ord(c) % 20 for c in step)]
        return ids

    def read(self, before, hidden, tokens):
        return [(b.mean() + h[: len(t)].mean()).sigmoid().item() for b, h, t in zip(before, hidden, tokens)]


def test_merged_boundaries_are_read_from_the_token_before_them(tiny_lm):
    prm = StepScorer("merging", MergingPRM(tiny_lm))
    [found, _], read = prm.score([PROBLEM] * 2, [("abc", "de"), ("abc", "fg")])
    for depth in (1, 2):
        ids = prm.family.render([(PROBLEM[1], ("abc", "de")[:depth])])[0]
        first = len(prm.family.render([(PROBLEM[1], ("abc", "de")[: depth - 1])])[0]) - 1
        with torch.inference_mode():
            hidden = prm.family.backbone(torch.tensor([ids])).last_hidden_state[0]
        assert found[depth - 1] == pytest.approx((hidden[first - 1].mean() + hidden[first:].mean()).sigmoid().item(), abs=1e-5)
    assert read == [len(PROBLEM[1]) + 2 + 3 + 2 + 2, 2 + 2]


def test_what_lies_between_forks_is_read_in_one_row_and_scores_as_step_by_step(tiny_lm, monkeypatch):
    problems = [PROBLEM] * 3 + [("b", "7,+8=?")]
    solutions = [(*STEPS, "1+2", "3+4+5"), (*STEPS[:2], "6+7", "8+9+10"), STEPS[:2], ("11", "12", "13")]
    prm, one_by_one = (open_prm(f"implicit:{tiny_lm}") for _ in range(2))
    rows = []
    read_all = prm._read_all
    monkeypatch.setattr(prm, "_read_all", lambda waves: (rows.extend(segment.nodes for wave in waves for segment in wave), read_all(waves)))
    scores, tokens = prm.score(problems, solutions)
    assert sorted(map(len, rows)) == [2, 3, 3, 4]  # after the fork; until it, with the opening; the whole of a lone solution
    for depth in range(6):
        stepwise, _ = one_by_one.score(problems, [solution[:depth] for solution in solutions])
    for found, expected in zip(scores, stepwise):
        assert found == pytest.approx(expected, abs=1e-5)
    longer = [(*solution, "14") for solution in solutions]
    again, more = prm.score(problems, longer)  # goes on from the states that were kept, of a solution within another too
    alone, once = one_by_one.score(problems, longer)
    assert more == once and all(a == pytest.approx(b, abs=1e-5) for a, b in zip(again, alone))


def test_problems_are_kept_apart_and_forgotten(tiny_qwen_prm):
    prm = open_prm(str(tiny_qwen_prm))
    other = ("b", "7,+8=?")
    scores, _ = prm.score([PROBLEM, other], [STEPS, STEPS])
    assert scores[0] != scores[1]
    prm.forget("a")
    prm.forget("b")
    assert prm._known == {}


HEADS = {
    "math-shepherd:": ("tiny_mistral", "lm_head.weight"),
    "qwen-prm:": ("tiny_qwen_prm", "score.2.weight"),
    "skywork:": ("tiny_skywork", "v_head.summary.weight"),
    "rlhflow:": ("tiny_rlhflow", "lm_head.weight"),
    "token-classification:": ("tiny_token_classification", "score.weight"),
}


def with_changed_head(request, family, tmp_path, keep):
    """A copy of the family's tiny model whose head is zero, or not there."""
    fixture, tensor = HEADS[family]
    folder = tmp_path / "changed"
    shutil.copytree(request.getfixturevalue(fixture), folder)
    [path] = [p for p in folder.glob("*.safetensors") if tensor in load_file(p)]
    weights = load_file(path)
    head = weights.pop(tensor)
    save_file(weights | ({tensor: torch.zeros_like(head)} if keep else {}), path, metadata={"format": "pt"})
    return f"{family}{folder}"


@pytest.mark.parametrize("family", HEADS)
def test_constant_scores_are_refused(request, family, tmp_path):
    with pytest.raises(ModelError, match="its weights or its head did not load"):
        open_prm(with_changed_head(request, family, tmp_path, keep=True))


@pytest.mark.parametrize("family", HEADS)
def test_missing_weights_are_refused(request, family, tmp_path):
    with pytest.raises(ModelError, match="lack 1 tensors .*they would be random"):
        open_prm(with_changed_head(request, family, tmp_path, keep=False))


def test_truncated_weights_are_refused(tiny_qwen_prm, tmp_path):
    folder = tmp_path / "truncated"
    shutil.copytree(tiny_qwen_prm, folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="check the files in .*a truncated .safetensors must be replaced"):
        open_prm(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no model 'nonsense': not a folder"),
        ("./nowhere/model", "no model './nowhere/model'"),
        ("orw:policy-20k", "unknown PRM family 'orw'"),
        (
            "math-shepherd:policy-20k",
            "policy-20k is no PRM of the family math-shepherd; by its card it is a policy: give implicit:policy-20k",
        ),
        ("qwen-prm:prm-shepherd-terse", "by its card it is a PRM of the family math-shepherd: give prm-shepherd-terse"),
    ],
)
def test_unknown_prms_are_refused(name, message):
    with pytest.raises(ModelError, match=message):
        open_prm(name)


def test_a_causal_lm_of_no_known_family_is_refused(tiny_lm, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(tiny_lm, folder)
    with pytest.raises(ModelError, match=f"say it as FAMILY:NAME with one of {', '.join(FAMILIES)}"):
        open_prm(str(folder))


@pytest.mark.parametrize(
    ("family", "fixture", "message"),
    [
        ("math-shepherd", "tiny_rlhflow", "no token ' ки': not a PRM of the family math-shepherd"),
        ("qwen-prm", "tiny_skywork", "no token '<extra_0>': not a PRM of the family qwen-prm"),
        ("rlhflow", "tiny_mistral", "no chat template: not a PRM of the family rlhflow"),
        ("skywork", "tiny_lm", "no bos token: not a PRM of the family skywork"),
    ],
)
def test_a_tokenizer_without_the_familys_marks_is_refused(request, family, fixture, message):
    with pytest.raises(ModelError, match=message):
        open_prm(f"{family}:{request.getfixturevalue(fixture)}")


@pytest.mark.parametrize(
    ("called", "family"),
    [
        ("math-shepherd-mistral-7b-prm", "math-shepherd"),
        ("Llama3.1-8B-PRM-Mistral-Data", "rlhflow"),
        ("models--RLHFlow--Llama3.1-8B-PRM-Deepseek-Data/snapshots/abc", "rlhflow"),
        ("Skywork-o1-Open-PRM-Qwen-2.5-1.5B", "skywork"),
    ],
)
def test_the_family_is_told_by_the_models_name(tiny_lm, tmp_path, called, family):
    folder = tmp_path / "shepherd" / called  # only the model's own name counts
    shutil.copytree(tiny_lm, folder)
    assert family_of(str(folder)) == (family, str(folder))


def test_an_architecture_outweighs_a_name(tiny_qwen_prm, tmp_path):
    folder = tmp_path / "better-than-math-shepherd"
    shutil.copytree(tiny_qwen_prm, folder)
    assert family_of(str(folder))[0] == "qwen-prm"


def test_a_qwen2_folder_keeps_its_own_tokenizer(tiny_qwen_prm):
    tokenizer = load_tokenizer(str(tiny_qwen_prm))
    assert tokenizer.decode(tokenizer("user\n\\boxed{7}")["input_ids"]) == "user\n\\boxed{7}"


def test_qwens_own_default_system_prompt_does_not_appear(tiny_qwen_prm, tmp_path):
    """A template that puts a system prompt where none is given is given the study's."""
    folder = tmp_path / "qwen"
    shutil.copytree(tiny_qwen_prm, folder)
    default = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nok<|im_end|>\n' }}{% endif %}"
    template = default + "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    pocket_tokenizer.build(template).save_pretrained(folder)
    family = open_prm(f"qwen-prm:{folder}").family
    ids = family.render([(PROBLEM[1], STEPS)])[0]
    system, user = (family.tokenizer.convert_tokens_to_ids(role) for role in ("system", "user"))
    ok = family.tokenizer(" ok")["input_ids"][0]
    assert ids.count(system) == ids.count(user) == 1 and ok not in ids
