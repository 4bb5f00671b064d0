"""The pocket models' cards as a table."""

import pandas as pd

from tts.models.files import POCKET_FOLDER, pocket_models, read_card


def table() -> pd.DataFrame:
    """One row per committed model, policies before PRMs, smallest first; a policy has no family.

    A policy's greedy accuracy on the main set and its F1 as an implicit PRM, a PRM's own F1; what it cost.
    """
    rows = {}
    for name in (*pocket_models("policy"), *pocket_models("prm")):
        card = read_card(POCKET_FOLDER / name)
        results = card.get("results", {})
        rows[name] = {
            "family": card.get("family", ""),
            "parameters": f"{card['parameters']:,}",
            "greedy": results.get("pocket-main greedy"),
            "localisation F1": results.get("as implicit PRM", results).get("localisation F1"),
            "training tokens": f"{card['training_tokens'] / 1e6:.1f} M",
            "training FLOPs": f"{card['training_flops']:.2e}",
            "minutes": round(card["wall_seconds"] / 60, 1),
            "final loss": round(card["final_loss"], 3),
            "seed": card["seed"],
        }
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="model")).fillna("")


def minutes(name: str) -> str:
    """How long a model of the family took when it was last trained, in words."""
    folder = POCKET_FOLDER / name
    if not (folder / "card.json").exists():
        return "never measured; the family's models take between one and twenty minutes"
    return f"took {read_card(folder)['wall_seconds'] / 60:.0f} minutes on two cores"
