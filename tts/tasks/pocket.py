"""The pocket problems as a task: answered and graded as mathematics, and every step can be checked."""

from tts.tasks.base import Task
from tts.tasks.drawn import Drawn
from tts.tasks.maths import Maths
from tts.tasks.pocket_problems import SETS, PocketProblem, first_error, parse


class Pocket(Drawn, Maths):
    """The exact checker wants the operations of the expression as it stands, and no step after the boxed answer."""

    name = "pocket"
    sets, draws = tuple(SETS), SETS
    parse, first_error = staticmethod(parse), staticmethod(first_error)
    has = Task.has

    def record(self, problem: PocketProblem) -> dict:
        return {"problem": problem.text, "answer": problem.answer}


POCKET = Pocket()
