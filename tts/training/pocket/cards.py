"""The pocket models' cards as a table, and what such models are trained on."""

import pandas as pd

from tts.models.files import POCKET_FOLDER, pocket_models, read_card
from tts.tasks.pocket_problems import first_error
from tts.tasks.pocket_traces import corrupted, self_checking_traces, solutions
from tts.training.pocket.domains import DOMAINS
from tts.training.pocket.recipes import FAMILY


def table() -> pd.DataFrame:
    """One row per committed model, policies before PRMs, smallest first; a policy has no family.

    A policy's greedy accuracy on its domain's main set and its F1 as an implicit PRM, a PRM's own F1; what it cost.
    """
    rows = {}
    for name in (*pocket_models("policy"), *pocket_models("prm")):
        card = read_card(POCKET_FOLDER / name)
        results = card.get("results", {})
        rows[name] = {
            "domain": (domain := card.get("domain", "arithmetic")),
            "family": card.get("family", ""),
            "parameters": f"{card['parameters']:,}",
            "greedy": results.get(f"{next(iter(DOMAINS[domain].measured))} greedy"),
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


def checks() -> pd.DataFrame:
    """What the cards of the policies that differ by size alone show, smallest first; columns claim, the cards show it (yes or no), by."""
    family = table().loc[list(FAMILY)]
    shown = {
        "policies of all sizes learnt from equally many tokens": ("training tokens", family["training tokens"].nunique() == 1),
        "the final loss falls with every larger policy": ("final loss", family["final loss"].is_monotonic_decreasing),
        "greedy accuracy rises with every larger policy": ("greedy", family["greedy"].is_monotonic_increasing),
    }
    rows = [(claim, "yes" if held else "no", f"{family[of].iloc[0]} to {family[of].iloc[-1]}") for claim, (of, held) in shown.items()]
    return pd.DataFrame(rows, columns=["claim", "the cards show it", "by"])


def examples(most: int = 3) -> pd.DataFrame:
    """Three training solutions of one problem, the first of at most ``most`` operations with an error after the first step for PRMs.

    One row per step: index of whom it is for, problem and step; column learnt: whether a policy is taught to write it, or a PRM's label.
    """
    errors = ((p, steps, first_error(p, steps)) for p, steps in corrupted(0) if p.operations <= most)
    problem, wrong, error = next((p, steps, at[0]) for p, steps, at in errors if at and at[0])
    rows = [("PRM", problem.text, step, f"score {int(number < error)}") for number, step in enumerate(wrong)]
    for name, corpus in (("long-CoT policy", self_checking_traces(0)), ("policy", solutions(0))):
        example = next(one for one in corpus if one.problem == problem)
        rows[:0] = [(name, problem.text, s, f"to {'write' if t else 'read'} it") for s, t in zip(example.steps, example.taught)]
    return pd.DataFrame(rows, columns=["for", "problem", "step", "learnt"]).set_index(["for", "problem", "step"])
