"""RLHFlow's PRMs: a causal LM that answers each step, one turn of a conversation, with "+" or "-" (Xiong et al. 2024)."""

from collections.abc import Sequence

from tts.models.hub import ModelError
from tts.models.loading import load_tokenizer, token_id
from tts.reward_models.math_shepherd import MathShepherd
from tts.reward_models.prefix_plan import Steps
from tts.tasks.prompts import PINNED_DATE


class RLHFlow(MathShepherd):
    """Llama's chat template; each step is a user's turn, the problem before the first, and the earlier ones were answered "+".

    The score is P("+") against "-" where the answer to the last step begins. The authors give no system message, so the template's
    own stands there, with its date, which is pinned to the one that the published template has by default.
    """

    names = ("llama3.1-8b-prm", "rlhflow-prm")

    def __init__(self, location: str, weights: bool = True):
        self.tokenizer = load_tokenizer(location)
        if not self.tokenizer.chat_template:
            raise ModelError(f"the tokenizer of {location!r} has no chat template: not a PRM of the family rlhflow")
        self.labels = [token_id(self.tokenizer, text, location, "rlhflow") for text in ("+", "-")]
        if weights:
            self._load(location)

    def render(self, solutions: Sequence[tuple[str, Steps]]) -> list[list[int]]:
        return self.tokenizer([self._text(problem, steps) for problem, steps in solutions], add_special_tokens=False)["input_ids"]

    def _text(self, problem: str, steps: Steps) -> str:
        turns = [f"{problem} {steps[0].strip()}", *(step.strip() for step in steps[1:])] if steps else [problem]
        messages = [{"role": role, "content": text} for turn in turns for role, text in (("user", turn), ("assistant", "+"))]
        text = self.tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True, date_string=PINNED_DATE)
        if not steps:  # a step follows within the same turn
            text = text[: text.rindex(problem.strip()) + len(problem.strip())]
        return text
