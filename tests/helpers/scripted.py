"""A policy and a PRM that do what a script says, so that a search's outcome can be worked out by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from tts.search.base import Candidate
from tts.search.driver import Driver, Ticket

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


def run(script, score, search, record=True):
    policy, prm = ScriptedPolicy(script), ScriptedPRM(score)
    return Driver(policy, prm, record=record).run([(start := root(), search(start))])[0], policy, prm


def named(steps, index):
    """Child i of any prefix is called i; two steps deep, then finished. Ten tokens a step."""
    return str(index), "finished" if len(steps) == 1 else "open", 10


def by_digits(steps):
    """The larger the last digit, the better."""
    return int(steps[-1]) / 10


def texts(outcome):
    return ["".join(c.steps) for c in outcome.trajectories]


scripts = st.integers(0, 2**32 - 1)


def random_script(seed):
    """A deterministic, arbitrary tree: text, end and cost of a step follow from a hash of its prefix and index."""

    def script(steps, index):
        rng = random.Random(f"{seed}/{steps}/{index}")
        status = rng.choices(["open", "finished", "truncated"], [5, 3, 1])[0]
        return str(rng.randrange(4)), status, rng.randrange(1, 9)

    return script


def random_score(seed):
    return lambda steps: random.Random(f"{seed}/{steps}").choice([0.0, 0.25, 0.5, 0.75, 1.0])
