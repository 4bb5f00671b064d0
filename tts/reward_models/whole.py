"""Verifiers that read a solution as one turn of a conversation and give it one score: outcome reward models, and judges."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from tts.common.thinking import OPEN
from tts.models.hub import ModelError
from tts.reward_models import only_whole
from tts.reward_models.base import StepScorer
from tts.reward_models.prefix_plan import Steps
from tts.tasks.base import Task
from tts.tasks.maths import MATHS
from tts.tasks.prompts import PINNED_DATE, check_template, token_ids

PROBLEM, MARK = "the-problem-itself", "the-solution-itself"  # stand for them where the text before a solution is looked for


class WholeScorer(StepScorer):
    """A :class:`StepScorer` to which a solution is one step: each that has steps gets one score.

    Searches ask for scores of open candidates, which it refuses with ``ModelError``.
    """

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`tts.search.driver.RewardModel.score`, of whole solutions."""
        render = self.family.render
        assert isinstance(render, Conversation)
        return super().score(problems, [(render.task.join(solution),) if solution else () for solution in steps])

    def score_open(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """Of none; raises ``ModelError`` for any."""
        if steps:
            raise ModelError(only_whole(self.name))
        return [], []


class Conversation:
    """Token ids of a conversation by the tokenizer's own chat template, and of what of it stands before a solution.

    Raises ``ModelError`` where there is no template, or it lacks one of the options, or does not show the problem before the solution.
    """

    task: Task = MATHS  # whose solutions are read

    def __init__(self, tokenizer: PreTrainedTokenizerBase, turns: Callable[[str, str], list[dict[str, str]]], **template: object):
        self.tokenizer, self.turns, self.template = tokenizer, turns, template
        try:
            check_template(tokenizer, template)
            opening, found, _ = self._text(PROBLEM, MARK).partition(MARK)
        except (ValueError, TypeError, TemplateError) as error:
            raise ModelError(f"{tokenizer.name_or_path}: {error}") from None
        if not found or PROBLEM not in opening:
            missing = "the problem before the solution" if found else "the solution"
            raise ModelError(f"the chat template of {tokenizer.name_or_path!r} does not show {missing}; restore its chat_template.jinja")
        self._opening = lru_cache(1 << 12)(lambda problem: self._text(problem, MARK).partition(MARK)[0])

    def __call__(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        """Of each (problem, steps), which has one step or none."""
        return token_ids(self.tokenizer, [self._text(problem, *steps) if steps else self._opening(problem) for problem, steps in solutions])

    @property
    def opens_thinking(self) -> bool:
        """Whether the template begins the answer with thinking."""
        return self._text("", "").rstrip().endswith(OPEN)

    def _text(self, problem: str, solution: str) -> str:
        turns = self.turns(problem, solution)
        return self.tokenizer.apply_chat_template(turns, tokenize=False, date_string=PINNED_DATE, **self.template)
