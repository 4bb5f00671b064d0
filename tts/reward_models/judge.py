"""Generative judges: a causal language model is asked whether a solution is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch

from tts.models.hub import ModelError
from tts.models.loading import load_causal_lm, load_tokenizer, token_id
from tts.policies import open_policy
from tts.reward_models import only_whole
from tts.reward_models.asked import Asked, direct, verdict
from tts.reward_models.base import label_logits, last
from tts.reward_models.prefix_plan import Steps
from tts.reward_models.whole import Conversation
from tts.search.base import Candidate
from tts.search.best_of_n import sample_pool
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks.base import Task


class DirectJudge:
    """The probability of "Yes" beside "No" as the first word of the answer (Zhang et al. 2025, GenRM, without its reasoning).

    ``template``: options of the chat template.
    """

    architectures = names = ()

    def __init__(self, location: str, **template: object):
        self.tokenizer = load_tokenizer(location)
        labels = [token_id(self.tokenizer, text, location, "judge") for text in ("Yes", "No")]
        self.model = load_causal_lm(location)
        self.backbone = self.model.base_model
        self._logits = label_logits(self.model, labels)
        self.render = Conversation(self.tokenizer, direct, add_generation_prompt=True, **template)
        thinks = "enable_thinking" in self.tokenizer.get_chat_template() and template.get("enable_thinking") is not False
        if thinks or self.render.opens_thinking:
            raise ModelError(
                f"{location} thinks before it answers, so that its first word is no verdict; "
                "say ?enable_thinking=false where its chat template knows that, or ?verdicts=8 for verdicts after its thinking"
            )

    def read(self, before: torch.Tensor, hidden: torch.Tensor, tokens: list[list[int]]) -> list[float]:
        return self._logits(last(hidden, tokens).float()).softmax(-1)[:, 0].tolist()


class _Asking(Task):
    """A question is the whole of the user's turn."""

    name, system = "judging", ""


class SampledJudge:
    """The share of "Yes" among verdicts that a policy of any engine samples, each after what it reasons (Zhang et al. 2025, GenRM-CoT).

    One without a verdict is left out; a solution that gets none at all, or does not fit into the policy's context, scores 0. Its tokens are
    the question's and all that are generated.
    """

    asking: type[Task] = _Asking  # how its policy is asked

    def __init__(self, name: str, batch: int, task: Task):
        self.name, self.task, self.asked = name, task, Asked.of(name)
        sampling = Sampling(self.asked.temperature, max_tokens=self.asked.tokens, max_step_tokens=self.asked.tokens)
        self.policy = open_policy(self.asked.policy, sampling, batch, self.asking())
        try:
            self.probe()
        except ModelError:
            raise
        except ValueError as error:
            told = "a judge has to be a language model that reads English"
            raise ModelError(f"{name} cannot be asked whether a solution is right: {error}; {told}") from None
        self._known: dict[str, dict[str, float]] = {}  # scores by problem and solution's text
        self._unread = self._unjudged = 0

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`tts.search.driver.RewardModel.score`, of whole solutions, one score each."""
        charged, texts = [0] * len(steps), [self.task.join(solution) for solution in steps]
        places: dict[str, int] = {}
        for number, ((problem_id, _), solution, text) in enumerate(zip(problems, steps, texts)):
            own = f"{problem_id}/{blake2b(text.encode(), digest_size=8).hexdigest()}"
            if solution and text not in self._known.setdefault(problem_id, {}):
                places.setdefault(own, number)
        found = self.verdicts({own: (problems[number][1], texts[number], steps[number]) for own, number in places.items()})
        for own, number in places.items():
            verdicts, charged[number] = found.get(own, ([], 0))
            said = [verdict for verdict in verdicts if verdict is not None]
            self._unread += own not in found
            self._unjudged += own in found and not said
            self._known[problems[number][0]][texts[number]] = sum(said) / len(said) if said else 0.0
        scores: list[tuple[float, ...]] = [
            (self._known[problem_id][text],) if solution else () for (problem_id, _), solution, text in zip(problems, steps, texts)
        ]
        return scores, charged

    def verdicts(self, solutions: Mapping[str, tuple[str, str, Steps]]) -> dict[str, tuple[list[bool | None], int]]:
        """Of each (problem, text, steps) whether it is right, as often as is asked, and the tokens of that; of none that does not fit."""
        searches = []
        for own, (problem, text, steps) in solutions.items():
            if root := self.fitting(own, self.asked.question(problem, text, steps)):
                searches.append((root, sample_pool(root, self.asked.verdicts)))
        return {
            outcome.problem_id: (
                [verdict(c.text, outcome.prompt, c.status == "finished") for c in outcome.trajectories],
                outcome.prompt_tokens + outcome.policy_tokens,
            )
            for outcome in Driver(self.policy).run(searches)
        }

    def probe(self) -> None:
        """Raises ``ValueError`` where the policy cannot be asked."""
        self.policy.root("1+1", self.asked.question("1+1=?", "1+1=2", ("1+1=2",)))

    def fitting(self, name: str, *asked: Any) -> Candidate | None:
        """The empty answer to a question; None where it does not fit, or holds signs that the policy does not know."""
        try:
            return self.policy.root(name, *asked)
        except ModelError:
            raise
        except ValueError:
            return None

    def score_open(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """Of none; raises ``ModelError`` for any."""
        if steps:
            raise ModelError(only_whole(self.name))
        return [], []

    def forget(self, problem_id: str) -> None:
        self._known.pop(problem_id, None)

    def report_unread(self) -> tuple[dict[str, int], str | None]:
        """As :meth:`tts.reward_models.base.Reader.report_unread`."""
        lines = []
        if self._unread:
            lines.append(f"{self.name} could not be asked about {self._unread} solutions, too long or with unknown signs, which scored 0")
        if self._unjudged:
            lines.append(
                f"{self.name} gave no verdict on {self._unjudged} solutions, which scored 0; give it more tokens, verdicts or context"
            )
        counts = {"solutions": self._unread, "unjudged": self._unjudged}
        self._unread = self._unjudged = 0
        return counts, "; ".join(lines) or None
