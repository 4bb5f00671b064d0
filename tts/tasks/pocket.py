"""The pocket problems as a task: answered and graded as mathematics, and every step can be checked."""

from collections.abc import Sequence

from tts.tasks import pocket_problems
from tts.tasks.base import Task
from tts.tasks.drawn import Drawn
from tts.tasks.maths import Maths
from tts.tasks.pocket_problems import SETS, PocketProblem


class Pocket(Drawn, Maths):
    """The exact checker wants the operations of the expression as it stands, and no step after the boxed answer."""

    name = "pocket"
    sets, draws = tuple(SETS), SETS
    has = Task.has

    @staticmethod
    def parse(text: str) -> PocketProblem:
        return pocket_problems.parse(text)

    @staticmethod
    def first_error(problem: PocketProblem, steps: Sequence[str]) -> tuple[int, int] | None:
        return pocket_problems.first_error(problem, steps)

    def record(self, problem: PocketProblem) -> dict:
        return {"problem": problem.text, "answer": problem.answer}


POCKET = Pocket()
