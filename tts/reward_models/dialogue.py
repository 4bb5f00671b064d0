"""GenPRM: a judge that is shown a solution step by step, in a dialogue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tts.reward_models.judge import SampledJudge
from tts.reward_models.prefix_plan import Steps
from tts.search.base import Candidate
from tts.search.best_of_n import sample_pool
from tts.search.driver import Driver
from tts.tasks.base import Task

_ANALYSIS = "<analyze>\nLet's analyze the Paragraph {} step by step: "
_JUDGEMENT = "</analyze>\n<output>\n**Judgement**: $\\boxed"
_SAID = re.compile(r"\{\s*(?:\\text\{)?\s*(yes|no)\b", re.IGNORECASE)
_END = "</output>"


class _Teaching(Task):
    """The system's turn is what GenPRM was trained with."""

    name = "teaching"
    system = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."


class DialogueJudge(SampledJudge):
    """The share of "Yes" among dialogues as GenPRM was trained to lead them (Zhao et al. 2025, section 3.3; without its code blocks).

    The first turn is the problem and the first step. The policy analyses it, judges it in a box, and is shown the next step after a Yes. A
    dialogue says Yes where every step has one. What is read is billed, the dialogue so far for each analysis and each judgement. A solution
    whose dialogues outgrow the policy's context has no verdict: those that said No before would be all that is left.
    """

    asking = _Teaching

    def probe(self) -> None:
        self._begun(self.policy.root("1+1", "1+1=?\n1+1=2"), _ANALYSIS.format(1), (0, 0))

    def verdicts(self, solutions: Mapping[str, tuple[str, str, Steps]]) -> dict[str, tuple[list[bool | None], int]]:
        """As :meth:`SampledJudge.verdicts`."""
        said: dict[str, list[bool | None]] = {own: [] for own in solutions}
        tokens: Counter[str] = Counter()
        outgrown = set()
        names = [(own, number) for own in solutions for number in range(self.asked.verdicts)]
        live: dict[str, tuple[str, list[tuple[str, str]]]] = {f"{own}/{number}": (own, []) for own, number in names}
        while live:
            roots = {}
            for name, (own, exchanges) in live.items():
                problem, _, steps = solutions[own]
                if root := self.fitting(name, f"{problem}\n{steps[0]}", exchanges):
                    roots[name] = root
                elif exchanges:
                    outgrown.add(own)
            turns = {name: len(live[name][1]) for name in roots}
            begun = {name: _ANALYSIS.format(turn + 1) for name, turn in turns.items()}
            analysed = self._written([self._begun(roots[name], begun[name], (turn, 0)) for name, turn in turns.items()], tokens)
            for name, text in analysed.items():
                begun[name] += text + "\n" * (not text.endswith("\n")) + _JUDGEMENT
            judged = self._written([self._begun(roots[name], begun[name], (turn, 1)) for name, turn in turns.items()], tokens)
            going_on = {}
            for name, text in judged.items():
                own, exchanges = live[name]
                left, box = solutions[own][2][turns[name] + 1 :], _SAID.match(text)
                right = box and box[1].lower() == "yes"
                if right and left:
                    going_on[name] = own, [*exchanges, (begun[name] + text.partition(_END)[0] + _END, left[0])]
                else:
                    said[own].append(right)
            live = going_on
        return {own: ([] if own in outgrown else said[own], tokens[own]) for own in tokens}

    def _begun(self, root: Candidate, text: str, path: tuple[int, int]) -> Candidate:
        """An answer that begins with a text, which is read and leaves what the policy writes its own limit; ``path``: of its noise."""
        ids = self.policy.forced_ids(replace(root, forced=text))
        return replace(root, prompt=(*root.prompt, *ids), rendered=root.rendered + text, path=path)

    def _written(self, starts: Sequence[Candidate], tokens: Counter[str]) -> dict[str, str]:
        """What the policy writes in each, up to the end of an analysis; ``tokens`` counts what each solution costs."""
        found = {}
        for outcome in Driver(self.policy).run([(start, sample_pool(start, 1)) for start in starts]):
            tokens[outcome.problem_id.rpartition("/")[0]] += outcome.prompt_tokens + outcome.policy_tokens
            found[outcome.problem_id] = outcome.trajectories[0].text.partition("</analyze>")[0]
        return found
