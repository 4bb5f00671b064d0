"""The pocket models' cards as a table."""

from __future__ import annotations

import pandas as pd

from tts.models import POCKET_FOLDER, pocket_models, read_card

COLUMNS = ("family", "parameters", "training_tokens", "training_flops", "seed", "wall_seconds", "final_loss")


def table() -> pd.DataFrame:
    """One row per committed model, policies before PRMs, smallest first; a policy has no family."""
    names = [*pocket_models("policy"), *pocket_models("prm")]
    cards = [read_card(POCKET_FOLDER / name) for name in names]
    return pd.DataFrame([{c: card.get(c, "") for c in COLUMNS} for card in cards], index=pd.Index(names, name="model"))


def minutes(name: str) -> str:
    """How long a model of the family took when it was last trained, in words."""
    folder = POCKET_FOLDER / name
    if not (folder / "card.json").exists():
        return "never measured; the family's models take between one and twenty minutes"
    return f"took {read_card(folder)['wall_seconds'] / 60:.0f} minutes on two cores"
