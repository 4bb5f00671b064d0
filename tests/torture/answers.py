"""Hostile answers through extraction, grading and voting: nothing crashes, hangs, grows or is executed."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

from tqdm import tqdm

from torture.report import Tally
from tts.analysis.accuracy import graded_row
from tts.analysis.grades import of_row
from tts.tasks.extraction import boxed_answer
from tts.tasks.grading import Grader, groups
from tts.tasks.judge import PATIENCE, Judge
from tts.tasks.maths import MATHS
from tts.tasks.selection import AGGREGATES, VOTES, aggregates, select

GOLDS = ("42", "\\frac{1}{2}", "(1,2)", "x^2+2x+1", "\\sqrt{2}", "\\{1,2,3\\}", "\\text{yes}", "10^{100}")
COMMANDS = (
    r"""
\frac \sqrt \sum \int \prod \lim \binom \log \sin \left( \right) \begin{pmatrix} \end{pmatrix} \cdot \infty \pi \text \mathrm \overline
\cup \in \le \ne \to \pm \% \boxed \dots \mid \{ \} ^ _ { } ( ) [ ] & \\ $ ! | = < , ; . ' x y e i 0 1 7 12 999 - + * / % ^{ _{
""".split()
    + [" ", "\n"]
)
CONTROLS = [chr(i) for i in range(32)] + ["\x7f", "\x85", "\u2028", "\u2029", "\ufeff", "\ufffd", "\ud800", "\udfff", "\U0010ffff"]
BIDI = ["\u202a", "\u202b", "\u202d", "\u202e", "\u2066", "\u2067", "\u2069", "\u200f", "\u200b", "\u0301" * 40, "٣", "４", "²", "ﷺ"]
ANSI = ["\x1b[31m", "\x1b[2J", "\x1b]0;title\x07", "\x1b[1;1H", "\x9b31m", "\r", "\b" * 5]


def payloads(canary: Path) -> list[str]:
    """Code that would leave a file behind if anything ran it."""
    touch = f"open('{canary}','w')"
    return [
        f"__import__('os').system('touch {canary}')",
        f"__import__('pathlib').Path('{canary}').touch()",
        f'eval("{touch}")',
        f'exec("{touch}")',
        f"[{touch} for _ in [0]]",
        f"(lambda: {touch})()",
        f"{touch}.write('x')",
        f'sympify("{touch}")',
        f"1 if {touch} else 2",
        f"$(touch {canary})",
        f"`touch {canary}`",
        f"; touch {canary} #",
        f"| touch {canary}",
        f"\\write18{{touch {canary}}}",
        f"\\immediate\\write18{{touch {canary}}}",
        f'\\input{{|"touch {canary}"}}',
        f"{{{{ {touch} }}}}",
        f"{{% import os %}}{touch}",
        f"f'{{{touch}}}'",
        f"<script>fetch('file://{canary}')</script>",
        f"';import os;os.system('touch {canary}');'",
        f"\\text{{{touch}}}",
        f"\\mathrm{{{touch}}}+1",
        f"x_{{{touch}}}",
        f"1/0*{touch}",
        "().__class__.__base__.__subclasses__()",
        f"\\operatorname{{__import__('os').system('touch {canary}')}}",
    ]


def answer(rng: random.Random, canary: Path) -> str:
    """One hostile answer, as it would stand in a box."""
    kind = rng.randrange(14)
    match kind:
        case 0:  # commands in any order
            return "".join(rng.choice(COMMANDS) for _ in range(rng.randrange(1, 60)))
        case 1:  # deep nesting
            opening, closing = rng.choice(
                [("{", "}"), ("(", ")"), ("\\frac{1}{", "}"), ("\\sqrt{", "}"), ("\\left(", "\\right)"), ("-(", ")"), ("x^{", "}")]
            )
            depth = rng.choice([5, 20, 40, 80, 120, 2000])
            return opening * depth + "1" + closing * (depth - rng.choice([0, 0, 1]))
        case 2:  # numbers without end
            return rng.choice(
                [
                    "9^{9^{9}}",
                    "9^9^9^9",
                    "10^{10^{10}}",
                    "2^{999999999}",
                    "(10^{99999})^{99999}",
                    "7" * rng.choice([20, 400, 499]),
                    "0." + "3" * 480,
                    "1e999999999",
                    "\\frac{1}{10^{999999}}",
                    "99999999^{99999999} + 1",
                    "2**10**9",
                ]
            )
        case 3:  # factorials and combinatorics
            return rng.choice(
                [
                    "1000000000!",
                    "((9!)!)!",
                    "\\binom{10^{9}}{10^{8}}",
                    "100000!!",
                    "\\prod_{k=1}^{10^{9}} k",
                    "\\sum_{k=1}^{10^{12}} k^{k}",
                    "\\Gamma(10^{12})",
                    f"{rng.randrange(10**6, 10**12)}!",
                ]
            )
        case 4:  # calculus that does not end
            return rng.choice(
                [
                    "\\int_0^{\\infty} e^{x^{x^{x}}} dx",
                    "\\lim_{x\\to 0} \\sin(1/x)^{1/x}",
                    "\\sum_{n=1}^{\\infty} \\sin(n!)",
                    "\\int \\frac{x^{50}+1}{x^{49}+x^{7}+3} dx",
                    "\\frac{d}{dx}" * 20 + "x^{x^x}",
                    "\\sqrt[99999]{\\pi^{99999}}",
                ]
            )
        case 5:
            return "".join(rng.choice(CONTROLS) for _ in range(rng.randrange(1, 30))) + rng.choice(["42", "\\frac{1}{2}", ""])
        case 6:
            return "".join(rng.choice([*BIDI, "4", "2", "(1,2)"]) for _ in range(rng.randrange(1, 20)))
        case 7:
            return rng.choice(ANSI) + rng.choice(["42", "43", "\\frac{1}{2}"]) + rng.choice(ANSI)
        case 8 | 9:
            return rng.choice(payloads(canary))
        case 10:  # a payload inside of what is parsed
            return rng.choice(["\\frac{%s}{2}", "\\sqrt{%s}", "(%s,2)", "\\text{%s}", "x=%s", "\\{%s\\}", "1+%s", "%s\\%%"]) % rng.choice(
                payloads(canary)
            )
        case 11:  # mutations of what is right
            text = list(rng.choice(GOLDS))
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(text) + 1)
                text[at:at] = rng.choice([*COMMANDS, *CONTROLS])
            return "".join(text)
        case 12:  # sets, intervals and matrices of silly sizes
            many = ",".join(str(rng.randrange(100)) for _ in range(rng.randrange(2, 160)))
            return rng.choice(["\\{%s\\}", "(%s)", "[%s]", "\\begin{pmatrix}%s\\end{pmatrix}", "%s"]) % many
        case _:
            return "".join(
                chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x10000), rng.randrange(0x110000)]))
                for _ in range(rng.randrange(1, 80))
            )


def solution(rng: random.Random, boxed: str) -> str:
    """A solution that ends in the answer, in ways that a model may break it."""
    long = rng.random()
    if long < 0.002:
        boxed += rng.choice(["1", "{", "\\boxed{", " ", "(", "\n"]) * 1_000_000  # a line of megabytes
    return rng.choice(
        [
            "so \\boxed{%s}",
            "\\boxed{%s",
            "\\boxed{%s}}",
            "\\boxed{1} \\boxed{%s}",
            "\n\n\\boxed{%s}\n\n",
            "%s \\boxed{",
            "\\boxed{\\boxed{%s}}",
        ]
    ) % (boxed.replace("%", "%"))


def campaign(count: int, seed: int, folder: Path, seconds: float = 2.0, pool: int = 20) -> Tally:
    """Puts ``count`` answers, ``pool`` to a problem, through extraction, grouping, grading, every aggregate and every vote.

    Raises:
        AssertionError: where something crashed, hung, grew or was executed.
    """
    rng, canary = random.Random(seed), folder / "canary"
    tally = Tally("hostile answers", {"answers": 0, "extracted": 0, "slowest answer (s)": 0.0, "judges restarted": 0, "graded right": 0})
    judge = Counting(seconds, 1024)
    started = time.monotonic()
    with Grader(judge=judge) as grader, tqdm(total=count, desc="hostile answers", unit="answer") as bar:
        while tally.counts["answers"] < count:
            texts = [solution(rng, answer(rng, canary)) for _ in range(min(pool, count - tally.counts["answers"]))]
            answers = []
            for text in texts:
                before = time.process_time()
                MATHS.split(text)
                answers.append(boxed_answer(text))
                took = time.process_time() - before
                assert took < 2, f"extraction took {took:.1f} s of {len(text)} characters: {text[:80]!r}"
            numbers = groups(answers, grader)
            votes = [a is not None and len(a) <= 500 and grader.readable(a) for a in answers]
            assert len(numbers) == len(texts) and all(number >= 0 or not vote for number, vote in zip(numbers, votes))
            scores = [[rng.random() for _ in range(rng.randrange(1, 5))] for _ in texts]
            chosen = {select(numbers, aggregates(scores, how), vote) for how in AGGREGATES for vote in VOTES}
            assert all(-1 <= index < len(texts) for index in chosen)
            row = {
                "problem_id": "p",
                "answer": rng.choice(GOLDS),
                "prompt_tokens": 1,
                "policy_tokens": 1,
                "prm_tokens": 1,
                "trajectories": [
                    {"steps": [t], "status": "finished", "scores": s, "tokens": 1, "path": [i]}
                    for i, (t, s) in enumerate(zip(texts, scores))
                ],
            }
            graded = graded_row(row, of_row(row, grader))
            tally.counts["graded right"] += int(graded.correct.sum())
            tally.counts["answers"] += len(texts)
            tally.counts["extracted"] += sum(a is not None for a in answers)
            bar.update(len(texts))
            bar.set_postfix(restarts=judge.deaths, judged=judge.judged)
        assert grader.right("\\frac{2}{4}", "\\frac{1}{2}"), "the judge no longer judges"
    assert not canary.exists(), "an answer was executed"
    tally.counts |= {
        "pairs judged": judge.judged,
        "slowest answer (s)": round(judge.slowest, 1),
        "judges restarted": judge.deaths,
        "judge's largest memory (MiB)": judge.memory >> 10,
        "own memory (MiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    assert judge.slowest < PATIENCE * seconds + 10, f"one pair took {judge.slowest:.1f} s"
    assert judge.memory >> 10 <= 1024, "the judge outgrew its limit"
    tally.seconds = time.monotonic() - started
    return tally


class Counting(Judge):
    """A judge that notes what its process costs."""

    judged = memory = 0
    slowest = 0.0

    def verdict(self, gold: str, answer: str) -> bool | None:
        before, self.judged = time.monotonic(), self.judged + 1
        verdict = super().verdict(gold, answer)
        self.slowest = max(self.slowest, time.monotonic() - before)
        if self.judged % 50 == 0 and self.process:
            self.memory = max(self.memory, _peak(self.process.pid))
        return verdict


def _peak(pid: int) -> int:
    """A process's largest resident memory so far, in KiB; 0 where it is gone."""
    try:
        return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0
