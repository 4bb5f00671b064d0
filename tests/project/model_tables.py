"""Tables of prose that state what was measured of models: from their cards, and from committed outcomes. :mod:`verdicts` writes them."""

from functools import cache, partial

from tts.analysis import committed
from tts.claims import domains, findings
from tts.claims.comparisons import CLAIMS, points
from tts.common.names import short
from tts.generate import labelled
from tts.generate.grid import Grid
from tts.models.files import POCKET_FOLDER, pocket_models, read_card
from tts.report import tables
from tts.search.registry import method_of
from tts.study import presets
from tts.tasks import task_of
from tts.training.pocket.domains import DOMAINS
from tts.training.pocket.recipes import PRMS


def policies(domain: str = "arithmetic") -> list[list[str]]:
    """A domain's policies by their cards: names of the columns, then a row for each."""
    rows, (main, hard) = (
        [["policy", "parameters", "greedy", "Pass@64", "greedy, hard", "F1 as implicit PRM", "training"]],
        DOMAINS[domain].measured,
    )
    for name in pocket_models("policy", domain):
        results = (card := read_card(POCKET_FOLDER / name))["results"]
        shares = (f"{100 * results[measured]:.1f} %" for measured in (f"{main} greedy", f"{main} pass@64", f"{hard} greedy"))
        f1 = results.get("as implicit PRM", {}).get("localisation F1")
        rows.append([f"`{name}`", f"{card['parameters']:,}", *shares, "" if f1 is None else f"{f1:.2f}", _minutes(card)])
    return rows


def prms(domain: str = "arithmetic") -> list[list[str]]:
    """A domain's PRMs by their cards, likewise."""
    rows = [["PRM", "parameters", "F1", "F1 at 0.5", "started from", "steps", "training"]]
    for name in pocket_models("prm", domain):
        results = (card := read_card(POCKET_FOLDER / name))["results"]
        scores = (f"{results[measured]:.2f}" for measured in ("localisation F1", "localisation F1 at 0.5"))
        made_of = (f"`{card['started_from']}`", PRMS[name].style or "both", _minutes(card))
        rows.append([f"`{name}`", f"{card['parameters']:,}", *scores, *made_of])
    return rows


def _minutes(card: dict) -> str:
    return f"{card['wall_seconds'] / 60:.0f} min"


def laptop() -> list[list[str]]:
    """Committed accuracies of the preset laptop by budget, in per cent with intervals, and the contrasts that these decide, in points."""
    given = presets.load_preset("laptop").common
    evidence = committed.committed(Grid(**{field: given[field] for field in Grid.model_fields.keys() & given}))
    rows = [["N", "CoT", "majority", "best-of-N", "beam search", "DVTS", "Pass@N", "decided contrasts"]]
    for n in evidence.grid.budgets:
        [accuracies] = tables.at_budget(evidence.table, n).to_numpy().tolist()
        decided = tables.method_contrasts(evidence, n).query("verdict != 'undecided'")
        pairs = [" less ".join(method_of(name).label for name in claim.split(" (")[0].split(" > ")) for claim in decided["claim"]]
        told = "; ".join(f"{pair} {by}" for pair, by in zip(pairs, decided["difference (points)"]))
        rows.append([str(n), *accuracies, told or "none"])
    return rows


def held_out() -> list[list[str]]:
    """How well the laptop's PRM and its policy's likelihood tell right steps from wrong ones on held-out problems, by the PRM's card."""
    rows, card = [["AUC", "the PRM", "the policy's likelihood"]], read_card(POCKET_FOLDER / "laptop-prm")
    for name, key in (("over all steps", "held_out_auc"), ("within problems", "held_out_auc_within_problems")):
        rows.append([name, f"{card[key]:.2f}", f"{card[f'{key}_of_implicit_policy']:.2f}"])
    return rows


@cache  # several pages state it, and it judges every pair
def furthest() -> list[list[str]]:
    """The furthest pair of each domain with its good PRM, and with each rule, and what it costs, from the committed outcomes."""
    rows = [["domain", "verifier", "policy with TTS", "larger policy alone", "times the size", "points", "parameters, large / small"]]
    rows[0] += ["total FLOPs, large / small", "inference FLOPs, large / small"]
    grid = Grid(problems={"pocket-main": 1}, policies=["policy-6k"], prms=["implicit:policy-216k"])
    for domain, scope in findings.committed_scopes(findings.read(), grid).items():
        if scope and task_of(scope.problem_sets[0]).name in labelled.own():
            for verifier in (scope.good_prm, *scope.rules):
                row = domains.reach(scope.changed(good_prm=verifier), "best_of_n" if verifier in scope.rules else "")
                sides = (f"{short(row[side])}, {100 * row[way]:.1f} %" for side, way in (("small", "TTS"), ("large", "CoT")))
                total, inference, deployed = (f"{row[name]:.2g}" for name in CLAIMS)
                rows.append([domain, f"`{verifier}`", *sides, f"{row['times']:.3g}", points(row), deployed, total, inference])
    return rows


def reached() -> list[list[str]]:
    """The same in short: a column per domain, a row for its good PRM and one for its rule."""
    shown: dict[str, list[str]] = {}
    for domain, _, small, large, times, difference, *_ in furthest()[1:]:
        shown.setdefault(domain, []).append(f"{small.split(',')[0]} over {large.split(',')[0]}, {times} times: {difference}")
    cells = [[told[number] if number < len(told) else "" for told in shown.values()] for number in range(2)]
    return [["verifier", *shown], ["good PRM", *cells[0]], ["rule", *cells[1]]]


MEASURED = {
    "policies": policies,
    "prms": prms,
    "puzzles-policies": partial(policies, "puzzles"),
    "puzzles-prms": partial(prms, "puzzles"),
    "code-policies": partial(policies, "code"),
    "code-prms": partial(prms, "code"),
    "chemistry-policies": partial(policies, "chemistry"),
    "chemistry-prms": partial(prms, "chemistry"),
    "laptop": laptop,
    "held-out": held_out,
    "furthest": furthest,
    "reached": reached,
}
