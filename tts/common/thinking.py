"""Thinking models: what they write before the answer, up to a mark that ends it, as DeepSeek-R1 and Qwen3 do."""

from collections.abc import Sequence

OPEN, END = "<think>", "</think>"
UNCLOSED = "unclosed thinking"  # status of a solution that ended while it was thinking, and has no answer


def after_thinking(text: str, prompt: str = "") -> str | None:
    """What follows the end of thinking, the whole text where nothing was thought, None where thinking never ends.

    The rendered ``prompt`` may open the thinking, as that of DeepSeek-R1 does.
    """
    _, end, after = text.rpartition(END)
    return after if end else None if OPEN in text or _opens(prompt) else text


def thinking_steps(steps: Sequence[str], prompt: str = "") -> int:
    """How many steps, from the first on, are thinking and no part of the answer; all where it never ends."""
    for number in reversed(range(len(steps))):
        if END in steps[number]:
            return number + steps[number].rstrip().endswith(END)
    return len(steps) if _opens(prompt) or any(OPEN in step for step in steps) else 0


def _opens(prompt: str) -> bool:
    return prompt.rstrip().endswith(OPEN)
