"""The pocket models' cards as a table."""

from __future__ import annotations

import pandas as pd

from tts.models import POCKET_FOLDER, pocket_models, read_card

COLUMNS = ("family", "parameters", "training_tokens", "training_flops", "seed", "wall_seconds", "final_loss")


def table() -> pd.DataFrame:
    """One row per committed model, policies before PRMs, smallest first; a policy has no family."""
    names = [*pocket_models("policy"), *pocket_models("prm")]
    cards = [read_card(POCKET_FOLDER / name) for name in names]
    rows = [{c: card.get(c, "") for c in COLUMNS} | _headline(card.get("results", {})) for card in cards]
    return pd.DataFrame(rows, index=pd.Index(names, name="model")).fillna("")


def _headline(results: dict) -> dict:
    """A policy's greedy accuracy on the main set and its F1 as an implicit PRM; a PRM's own F1."""
    f1 = results.get("as implicit PRM", results).get("localisation F1")
    return {"greedy": results.get("pocket-main greedy"), "localisation F1": f1}


def minutes(name: str) -> str:
    """How long a model of the family took when it was last trained, in words."""
    folder = POCKET_FOLDER / name
    if not (folder / "card.json").exists():
        return "never measured; the family's models take between one and twenty minutes"
    return f"took {read_card(folder)['wall_seconds'] / 60:.0f} minutes on two cores"
