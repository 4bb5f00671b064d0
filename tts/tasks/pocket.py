"""The pocket problems as a task: answered and graded as mathematics, and every step can be checked."""

from collections.abc import Sequence

from tts.tasks.base import Task
from tts.tasks.maths import Maths
from tts.tasks.pocket_problems import SETS, first_error, held_out, parse
from tts.tasks.problems import check_drawn


class Pocket(Maths):
    """The exact checker wants the operations of the expression as it stands, and no step after the boxed answer."""

    name = "pocket"
    sets = tuple(SETS)
    has = Task.has

    def load(self, name: str, count: int | None, split: str, seed: int) -> tuple[list[dict], str]:
        check_drawn(name, count, split)
        return [{"problem": p.text, "answer": p.answer} for p in held_out(name, split, count or 200)], f"{name}-{split}"

    def check_steps(self, problem: str, steps: Sequence[str]) -> int | None:
        try:
            error = first_error(parse(problem), steps)
        except ValueError:
            return None
        return len(steps) if error is None else error[0]


POCKET = Pocket()
