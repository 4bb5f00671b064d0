"""Prompts: each model family is asked as in the study, by its own chat template."""

from __future__ import annotations

import re

import pytest

from tts.tasks import prompts
from tts.tasks.pocket_tokenizer import build

LLAMA = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>{% endfor %}"
    "{{ date_string }}"
)
QWEN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
R1 = "{% for m in messages %}{{ '<｜User｜>' if m['role'] == 'user' else m['role'] }}{{ m['content'] }}{% endfor %}<｜Assistant｜><think>"
NO_SYSTEM = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}[{{ m['content'] }}]{% endfor %}"
COT = "Please reason step by step, and put your final answer within \\boxed{}."


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (LLAMA, "<|start_header_id|>system<|end_header_id|>\n\nSolve the following math problem .* is: \\$\\\\boxed{answer}\\$\\. I hope .*"
                "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n1\\+1<|eot_id|>26 Jul 2024"),
        (QWEN, f"<\\|im_start\\|>system\n{re.escape(COT)}<\\|im_end\\|>\n<\\|im_start\\|>user\n1\\+1<\\|im_end\\|>\n"),
        (R1, f"<｜User｜>1\\+1\n{re.escape(COT)}<｜Assistant｜><think>"),
        (NO_SYSTEM, f"\\[1\\+1\n{re.escape(COT)}\\]"),
    ],
    ids=["Llama 3", "Qwen2.5", "DeepSeek-R1", "no system turn"],
)  # fmt: skip
def test_each_family_is_asked_as_in_the_study(template, expected):
    expected = expected.replace("<|", "<\\|").replace("|>", "\\|>").replace("\\\\|", "\\|")
    assert re.fullmatch(expected, prompts.render_prompt(build(template), "1+1"), re.DOTALL)


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}{% endif %}{% endfor %}", "it leaves the problem out"),
     ("{{ raise_exception('not today') }}", "not today"), ("{{ 1 + 'a' }}", "unsupported operand .*")],
)  # fmt: skip
def test_a_template_that_shows_no_problem_is_refused(template, reason):
    with pytest.raises(ValueError, match=f"cannot be used \\({reason}\\); restore its chat_template.jinja"):
        prompts.render_prompt(build(template), "1+1")


@pytest.mark.parametrize("written", ["tojson", "replace('\\n', ' ')", "e", "trim"])
def test_a_template_may_escape_the_problem(written):
    assert "farm" in prompts.render_prompt(build("{% for m in messages %}{{ m['content'] | " + written + " }}{% endfor %}"), " a\n<farm> ")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-r1"),
        ("qwen2.5-7b", "qwen2.5"),
    ],
)
def test_a_family_is_told_by_name_where_the_template_is_not_known(name, family):
    assert prompts.style_of(None, name) is prompts.STYLES[family]
    assert prompts.style_of(None, "gpt-x") is prompts.STYLES[""]
