"""What a judge is asked, how its name says so, and how its verdicts are read."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from tts.common.thinking import after_thinking
from tts.models.hub import ModelError
from tts.policies import DEFAULT, engine_of
from tts.reward_models.prefix_plan import Steps

VERDICTS = 8  # sampled by default where an engine gives no probabilities
FORMS = ("plain", "thinkprm", "genprm")
TOKENS = 2048  # of a sampled verdict at most
_SAID = re.compile(r"verdict\W*(?:is\W*)?(?:text\W*)?(yes|no)\W*$", re.IGNORECASE | re.MULTILINE)  # at the end of its line
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?(yes|no|correct|incorrect)\}", re.IGNORECASE)


class Asked(NamedTuple):
    """What a judge's name asks for: ``judge:POLICY?verdicts=8&tokens=2048&temperature=0.7&form=plain``, each with a default."""

    policy: str  # with the options that are the policy's own
    verdicts: int  # sampled for each solution; 0 for the probability of "Yes"
    tokens: int
    temperature: float
    form: str  # one of FORMS: what it was trained to be asked; by default what the last part of the policy's name says

    @classmethod
    def of(cls, name: str) -> Asked:
        """Raises ``ModelError`` for options that are no numbers, or out of range."""
        policy, _, query = name.partition(":")[2].partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        called = re.split("[/#]", policy.rstrip("/"))[-1].lower()
        form = options.pop("form", next((form for form in FORMS[1:] if form in called), FORMS[0]))
        if form not in FORMS:
            raise ModelError(f"{name}: the form must be one of {', '.join(FORMS)}; given {form!r}")
        default = 0 if engine_of(policy)[0] == DEFAULT and form == FORMS[0] else VERDICTS
        try:
            verdicts, tokens = int(options.pop("verdicts", default)), int(options.pop("tokens", TOKENS))
            temperature = float(options.pop("temperature", 0.7))
        except ValueError as error:
            raise ModelError(f"{name}: verdicts and tokens are whole numbers, temperature is a number ({error})") from None
        if not (0 <= verdicts <= 1024 and 1 <= tokens <= 1 << 20 and 0 < temperature < 10):
            raise ModelError(f"{name}: verdicts must lie in 0 to 1024, tokens in 1 to {1 << 20}, temperature between 0 and 10")
        if not verdicts and default:
            cause = "this engine tells no probabilities" if form == FORMS[0] else f"the form {form} judges after it has reasoned"
            raise ModelError(f"{name}: {cause}; ask for verdicts, ?verdicts={VERDICTS}")
        return cls(policy + (f"?{urlencode(options)}" if options else ""), verdicts, tokens, temperature, form)

    def question(self, problem: str, solution: str, steps: Steps) -> str:
        """What a verdict is asked for with."""
        return (_thinkprm if self.form == "thinkprm" else _reasoned)(problem, solution, steps)


def verdict(text: str, prompt: str = "", whole: bool = True) -> bool | None:
    """Whether a verdict calls a solution right: its last ``Verdict:``, else whether no box says No or incorrect; None without any.

    Boxes of one that was cut off, not ``whole``, can only say that it is not: those of later steps are missing.
    """
    answer = after_thinking(text, prompt)
    if said := _SAID.findall(answer or ""):
        return said[-1].lower() == "yes"
    boxes = [box.lower() for box in _BOXED.findall(text)]  # a model of step verdicts may give them while it thinks
    right = all(box in ("yes", "correct") for box in boxes) if boxes else None
    return None if right and not whole else right


def direct(problem: str, solution: str) -> list[dict[str, str]]:
    """The turns of which the first word of the answer is Yes or No."""
    asked = f"Problem:\n{problem}\n\nSolution:\n{solution}\n\nIs this solution right? Answer Yes or No."
    return [{"role": "user", "content": asked}]


def _reasoned(problem: str, solution: str, steps: Steps) -> str:
    asked = 'Check the solution step by step. Then end with one line: "Verdict: Yes" if it is right, "Verdict: No" if it is not.'
    return f"Problem:\n{problem}\n\nSolution:\n{solution}\n\n{asked}"


def _thinkprm(problem: str, solution: str, steps: Steps) -> str:
    """What ThinkPRM was trained to be asked (Khalifa et al. 2025, figure 14)."""
    numbered = "\n".join(f"Step {number}: {step}" for number, step in enumerate(steps, 1))
    line = "<critique>...The step is \\boxed{correct/incorrect}"
    form = f"Let's verify step by step:\nStep 1: {line}\nStep 2: {line}\n...\nStep n: {line}"
    return (
        "You are given a math problem and a proposed multiple-step solution (with a step on each line):\n\n"
        f"[Math Problem]\n{problem}\n\n[Solution]\n{numbered}\n\n"
        "Review and critique the proposed solution steps and determine whether each step is correct. "
        "If the solution is incomplete, only critique the steps that are provided.\n"
        f"Your output must be in the following format:\n\n{form}\n\n"
        "Once you find an incorrect step, you should stop since you don't need to analyze the remaining steps."
    )
