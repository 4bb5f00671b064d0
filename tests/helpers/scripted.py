"""A policy and a PRM that do what a script says, so that a search's outcome can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tts.search.base import Candidate
from tts.search.driver import Ticket

# A step is (text, status, tokens); a script says what the i-th child of given steps is.
Script = Callable[[tuple[str, ...], int], tuple[str, str, int]]


class ScriptedPolicy:
    """Answers from a script, the newest request first, so that no test can depend on a barrier or an order."""

    def __init__(self, script: Script):
        self.script, self.queue, self.generated = script, [], 0
        self.starved = True

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        self.queue.append((ticket, parent, count, whole))

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        ticket, parent, count, whole = self.queue.pop()
        children = []
        for index in range(count):
            steps, status, tokens = parent.steps, "open", 0
            while status == "open":
                text, status, cost = self.script(steps, index)
                steps, tokens = (*steps, text), tokens + cost
                if not whole:
                    break
            self.generated += tokens
            children.append(parent.child(index, steps=steps, status=status, generated=tokens, text="\n\n".join(steps)))
        return [(ticket, children)]

    def reset(self) -> None:
        self.queue.clear()


class ScriptPerProblem(ScriptedPolicy):
    """A policy with a script of its own for each problem."""

    def __init__(self, scripts: dict[str, Script]):
        super().__init__(None)
        self.scripts = scripts

    def poll(self) -> list[tuple[Ticket, list[Candidate]]]:
        self.script = self.scripts[self.queue[-1][1].problem_id]
        return super().poll()


class ScriptedPRM:
    """Scores each step by a function of the steps up to it; counts one token a step."""

    def __init__(self, score: Callable[[tuple[str, ...]], float]):
        self.function, self.scored, self.read = score, [], 0

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[tuple[str, ...]]):
        self.scored += list(steps)
        self.read += sum(map(len, steps))
        return [tuple(self.function(s[: i + 1]) for i in range(len(s))) for s in steps], [len(s) for s in steps]

    def forget(self, problem_id: str) -> None:
        pass


def root(problem_id: str = "p") -> Candidate:
    return Candidate(problem_id, "a problem")
