"""Budget forcing: how long a thinking model thinks is set from outside."""

from dataclasses import replace
from zlib import crc32

from tts.common.thinking import END, after_thinking
from tts.search.base import Candidate, Sample, Search
from tts.search.registry import Constant, Method

THINKING = Constant("thinking", 4096, 1, 1 << 20)
WAITS = Constant("waits", 1, 0, 64)
_FORCED = 1 << 29  # sample indices from here on tell what follows a forced text; each text has its own, as steps are known by their path
WAIT = "\n\nWait"


def budget_forcing(root: Candidate, n: int, thinking: float = THINKING.default, waits: float = WAITS.default) -> Search:
    """``n`` independent solutions of a thinking model, each with its thinking bounded from both sides (Muennighoff et al. 2025, s1).

    Where the model ends its thinking for the first ``waits`` times, that end is taken back and "Wait" put in its place. Where the solution
    has ``thinking`` tokens and still thinks, the mark that ends thinking is put behind the step. Both are looked at after each step (blank
    line). What is forced is read and not billed; what is taken back was generated, and is. A model that does not think is sampled as it is.

    Returns the solutions that ended, in the order of their samples.
    """
    [first] = yield Sample([root], n)
    waited, finished = {child.path[0]: 0 for child in first}, {}
    under_way = [(root, child) for child in first]
    while under_way:
        frontier = []
        for parent, child in under_way:
            place = child.path[0]
            written = child.text[len(parent.text) + len(parent.forced) :]
            if child.status != "truncated" and END in written and waited[place] < waits and len(child.tokens) < thinking:
                waited[place] += 1
                frontier.append(_forced(replace(parent, path=child.path), parent.forced + written.partition(END)[0].rstrip() + WAIT))
            elif child.status == "finished":
                finished[place] = child
            elif child.status == "open":
                thinks = after_thinking(child.text, root.rendered) is None
                if thinks and len(child.tokens) >= thinking:
                    frontier.append(_forced(child, f"\n{END}\n\n"))
                else:
                    frontier.append(child)
        if not frontier:
            break
        answers = yield Sample(frontier, 1)
        under_way = [(parent, child) for parent, [child] in zip(frontier, answers)]
    return [finished[place] for place in sorted(finished)]


def _forced(candidate: Candidate, text: str) -> Candidate:
    return replace(candidate, path=(*candidate.path, _FORCED + crc32(text.encode()) % _FORCED), forced=text, state=None)


BUDGET_FORCING = Method(
    "budget_forcing",
    "Budget forcing",
    "#5aae61",
    "H",
    lambda root, n, settings: budget_forcing(root, n, settings.constants["thinking"], settings.constants["waits"]),
    guided=False,
    select="majority",
    constants=(THINKING, WAITS),
)
