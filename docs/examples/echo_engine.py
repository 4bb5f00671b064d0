"""Template of a policy engine: copy it to ``tts/policies/``, and add a line to ``ENGINES`` in its ``__init__.py``."""

from __future__ import annotations

from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies.base import Asked, RequestPolicy, Told
from tts.search.sampling import Sampling
from tts.tasks.base import Task
from tts.tasks.maths import MATHS


class EchoPolicy(RequestPolicy):
    """An engine that is asked for one sample at a time: it takes questions, and answers them in any order. Here a step repeats its seed.

    Args:
        name: folder of a model, whose tokenizer renders the prompts.
        sampling: temperature, limits and seed.
        batch: questions under way at once.
        task: kind of problem, which says how it is asked and where a step ends.
    """

    def __init__(self, name: str, sampling: Sampling, batch: int = 8, task: Task = MATHS):
        super().__init__(name, sampling, batch, 256, task)
        self.tokenizer = load_tokenizer(locate(name))
        self._asked: dict[int, Asked] = {}

    def _send(self, number: int, asked: Asked) -> None:
        self._asked[number] = asked

    def _receive(self) -> list[tuple[int, Told]]:
        number, asked = self._asked.popitem()
        text = f"{asked.seed}"[: asked.limit]
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        done = asked.stop is None or asked.text.count(asked.stop) > 2
        return [(number, Told(tuple(ids), text, "finished" if done else "open", len(ids)))]

    def _abort(self, numbers: list[int]) -> None:
        self._asked.clear()
