"""Thinking models: options of their chat templates, and answers that count only where thinking has ended."""

from __future__ import annotations

import pytest
from published_prms import QWEN3_TEMPLATE, R1_TEMPLATE, byte_level
from shapes import SHAPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tts.analysis import grades
from tts.common.thinking import after_thinking, thinking_steps
from tts.models.hub import ModelError
from tts.policies import check_policy, model_of, open_policy, prompt_of, weights_of
from tts.report import samples
from tts.search.sampling import Sampling
from tts.store.run_spec import Model, RunEngine, RunSpec
from tts.tasks.grading import Grader
from tts.tasks.maths import MATHS

R1 = "1+1=?<｜Assistant｜><think>\n"


@pytest.mark.parametrize(
    ("text", "prompt", "expected"),
    [
        ("The answer is 2.", "", "The answer is 2."),
        ("<think>\nIt is \\boxed{3}?\n</think>\n\n\\boxed{2}", "", "\n\n\\boxed{2}"),
        ("It is \\boxed{3}?\n</think>\n\n\\boxed{2}", R1, "\n\n\\boxed{2}"),
        ("<think>\nIt is \\boxed{3}?", "", None),
        ("It is \\boxed{3}?", R1, None),
        ("It is \\boxed{3}", "<think>\n\n</think>\n\n", "It is \\boxed{3}"),
        ("a</think>b</think>c", "", "c"),
    ],
)
def test_the_answer_follows_the_end_of_thinking(text, prompt, expected):
    assert after_thinking(text, prompt) == expected


@pytest.mark.parametrize(
    ("steps", "prompt", "expected"),
    [
        (("a", "b"), "", 0),
        (("<think>a", "b</think>", "c"), "", 2),
        (("a", "b</think> c", "d"), R1, 1),
        (("<think>a", "b"), "", 2),
        (("a", "b"), R1, 2),
        ((), R1, 0),
    ],
)
def test_steps_of_thinking_are_told_apart(steps, prompt, expected):
    assert thinking_steps(steps, prompt) == expected


def trajectory(*steps):
    return {"path": [0], "steps": list(steps), "scores": [], "status": "finished", "tokens": 5}


def test_what_is_boxed_while_thinking_is_no_answer_and_unclosed_thinking_is_counted():
    solutions = [("\\boxed{2}?", "</think>", "\\boxed{3}"), ("\\boxed{2}",), ("\\boxed{3}?</think>\n\\boxed{2}",), ("hm</think>", "2")]
    row = {"problem_id": "p", "problem": "1+1=?", "answer": "2", "prompt": R1, "policy_tokens": 20, "prm_tokens": 0}
    row["trajectories"] = [trajectory(*steps) for steps in solutions]
    with Grader(MATHS) as grader:
        found = grades.of_row(row, grader)
        plain = grades.of_row(row | {"prompt": "1+1=?"}, grader)
    assert found.correct == [False, False, True, False]
    assert found.status == ["answered", "unclosed thinking", "answered", "no answer"]
    assert plain.correct == [False, True, True, False], "without an opened thinking the second is an answer"


def test_a_run_shows_where_thinking_ends(tmp_path):
    row = {"problem_id": "p", "problem": "1+1=?", "answer": "2", "prompt": R1, "policy_tokens": 9, "prm_tokens": 0}
    row["trajectories"] = [trajectory("hm", "so</think>", "\\boxed{2}"), trajectory("hm")]
    spec = RunSpec("pool", Model("m", "w"), None, 2, {"seed": 0}, RunEngine("transformers"))
    text = samples.shown(spec, row, MATHS, tmp_path)
    assert "samples: 2, 1 right; 1 answered, 1 unclosed thinking" in text
    lines = [line.strip() for line in text.splitlines()]
    assert lines[lines.index("so</think>") + 1 :][:2] == ["(end of thinking)", "\\boxed{2}"]


def thinking_model(folder, template):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(["<|im_start|>", "<|im_end|>"], ""), eos_token="<|im_end|>", chat_template=template
    )
    LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    return thinking_model(tmp_path_factory.mktemp("qwen3"), QWEN3_TEMPLATE)


def test_qwen3_thinks_unless_its_name_says_not(qwen3):
    on, off, said = (
        open_policy(qwen3 + option, Sampling(), 4).root("p", "1+1=?") for option in ("", "?enable_thinking=false", "?enable_thinking=true")
    )
    assert on.rendered == said.rendered and on.rendered.endswith("<|im_start|>assistant\n")
    assert off.rendered == on.rendered + "<think>\n\n</think>\n\n"
    assert after_thinking("\\boxed{2}", off.rendered) == "\\boxed{2}"


def test_r1s_prompt_opens_the_thinking(tmp_path):
    root = open_policy(thinking_model(tmp_path, R1_TEMPLATE), Sampling(), 4).root("p", "1+1=?")
    assert root.rendered.endswith("<｜Assistant｜><think>\n") and after_thinking("\\boxed{2}", root.rendered) is None


def test_the_option_is_part_of_the_name_and_not_of_the_weights(qwen3):
    name = f"{qwen3}?enable_thinking=false"
    assert weights_of(name) == weights_of(qwen3) and model_of(name) == qwen3 and prompt_of(name, MATHS) == prompt_of(qwen3, MATHS)
    check_policy(name)


def test_an_option_that_the_template_lacks_is_refused(qwen3):
    with pytest.raises(ModelError, match="has no option enable_thoughts; leave .enable_thoughts= out of the model's name"):
        check_policy(f"{qwen3}?enable_thoughts=false")
    with pytest.raises(ModelError, match="has no option verdicts"):
        check_policy("policy-6k?verdicts=3")
