"""GenPRM: a judge that is shown a solution step by step, in a dialogue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from tts.reward_models.judge import SampledJudge
from tts.reward_models.prefix_plan import Steps
from tts.search.base import Candidate, Sample, Search
from tts.search.driver import Driver
from tts.tasks.base import Task

_ANALYSIS = "<analyze>\nLet's analyze the Paragraph {} step by step: "
_END = "</analyze>"
_JUDGEMENT = f"{_END}\n<output>\n**Judgement**: $\\boxed"
_SAID = re.compile(r"\{(yes|no)\}", re.IGNORECASE)


class _Teaching(Task):
    """The system's turn is what GenPRM was trained with."""

    name, answer_mark = "teaching", _END
    system = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."


class DialogueJudge(SampledJudge):
    """The share of "Yes" among dialogues as GenPRM was trained to lead them (Zhao et al. 2025, section 3.3; without its code blocks).

    The first turn is the problem and the first step. The policy analyses it, judges it in a box, and is shown the next step after a Yes. A
    dialogue says Yes where every step has one. What is read in each turn is billed: the dialogue so far.
    """

    asking = _Teaching

    def verdicts(self, solutions: Mapping[str, tuple[str, str, Steps]]) -> dict[str, tuple[list[bool | None], int]]:
        """As :meth:`SampledJudge.verdicts`; a dialogue that outgrows the policy's context has none."""
        said: dict[str, list[bool | None]] = {own: [] for own in solutions}
        tokens: Counter[str] = Counter()
        names = [(own, number) for own in solutions for number in range(self.asked.verdicts)]
        live: dict[str, tuple[str, list[tuple[str, str]]]] = {f"{own}/{number}": (own, []) for own, number in names}
        while live:
            searches = []
            for name, (own, exchanges) in live.items():
                problem, _, steps = solutions[own]
                with suppress(ValueError):
                    root = self.policy.root(name, f"{problem}\n{steps[0]}", exchanges)
                    searches.append((root, critique(root, len(exchanges) + 1)))
            going_on = {}
            for outcome in Driver(self.policy).run(searches):
                own, exchanges = live[outcome.problem_id]
                tokens[own] += outcome.prompt_tokens + outcome.policy_tokens
                text, left = outcome.trajectories[0].text, solutions[own][2][len(exchanges) + 1 :]
                judged = _SAID.match(text.rpartition(_JUDGEMENT)[2])
                right = judged and judged[1].lower() == "yes"
                if right and left:
                    going_on[outcome.problem_id] = own, [*exchanges, (text, left[0])]
                else:
                    said[own].append(right)
            live = going_on
        return {own: (said[own], tokens[own]) for own in tokens}


def critique(root: Candidate, number: int) -> Search:
    """The policy's analysis of the ``number``-th step, which it begins as it was trained to, and behind it its judgement."""
    analysis = replace(root, forced=_ANALYSIS.format(number))
    [[analysed]] = yield Sample([analysis], 1, whole=True)
    written, ended, _ = analysed.text.partition(_END)
    [judged] = yield Sample([replace(root, path=(1,), forced=written + "\n" * (not ended) + _JUDGEMENT)], 1, whole=True)
    return judged
