"""A small grid of tiny models, and what a store exports."""

from __future__ import annotations

from tts.generate.grid import Grid


def grid(policy, prm, **changes):
    values = {
        "problems": {"pocket-main": 6},
        "policies": [str(policy)],
        "prms": [f"math-shepherd:{prm}"],
        "samples": 4,
        "budgets": [4],
        "max_tokens": 40,
        "max_steps": 4,
        "chunk": 2,
        "batch": 8,
        "temperature": 1.0,
    }
    return Grid(**(values | changes))


def export(store):
    return "\n".join(store.export())
