"""Presets for imported data: which notebooks it serves, with exactly the methods, budgets and PRMs that it holds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from tts.analysis import costs
from tts.analysis.stats import FEWEST_PROBLEMS
from tts.common.paths import ROOT
from tts.generate.grid import Grid
from tts.search.registry import compared, searches
from tts.store.imported import Import
from tts.strategy.compute_optimal import FOLDS

REWARD_MODELS, FINDINGS = "02_reward_models", "09_findings"
Cells = frozenset[tuple[str, int]]  # methods and budgets of which the data says something


@dataclass(frozen=True)
class Preset:
    """A preset file for some of an import's policies and PRMs."""

    file: str
    policies: tuple[str, ...]
    prms: tuple[str, ...]
    problems: int  # number that all runs hold
    cells: Cells
    common: dict  # parameters of all notebooks
    notebooks: dict[str, dict]  # those that can run, with parameters of their own
    without: dict[str, str]  # reasons why the others cannot
    text: str


def build(source: Import, extract: Sequence[str] = ()) -> list[Preset]:
    """One preset for each group of policies and PRMs of which the data hold the same, the largest group first.

    ``extract`` has the ways in which answers are found, where the box is not the only one.
    """
    pairs = list(dict.fromkeys((h.spec.policy.name, h.spec.guide) for h in source.runs))
    guided = {policy for policy, prm in pairs if prm}
    by_cells: dict[tuple[str | None, Cells, int], list[str]] = defaultdict(list)
    for policy, prm in pairs:
        if prm or policy not in guided:
            by_cells[prm, *_held(source, policy, prm)].append(policy)
    groups: dict[tuple, list[str]] = defaultdict(list)
    for (prm, cells, problems), policies in by_cells.items():
        groups[tuple(costs.by_size(policies)), cells, problems] += [prm] if prm else []
    ordered = sorted(groups.items(), key=lambda group: (-len(group[0][0]) * max(1, len(group[1])), -group[0][2]))
    return [
        _preset(source, policies, tuple(prms), cells, problems, str(number) if number > 1 else "", extract)
        for number, ((policies, cells, problems), prms) in enumerate(ordered, 1)
        if problems and any(method in compared() for method, _ in cells)
    ]


def _held(source: Import, policy: str, prm: str | None) -> tuple[Cells, int]:
    """What the runs of two models say something of, and on how many problems all do; a run of less than half of the most has no say."""
    runs = [h for h in source.runs if h.spec.policy.name == policy and h.spec.guide in (None, prm)]
    counts, sizes = [held.problems for held in runs], {held.spec.n for held in runs}
    problems = min(count for count in counts if count >= max(counts) / 2)
    budgets = sorted({1 << i for i in range(max(sizes).bit_length())} | sizes)
    asked = [(method, n) for method in ("cot", *compared()) for n in budgets]
    return frozenset((m, n) for m, n in asked if source.holds(m, policy, prm, n, 0, problems)), problems


def _preset(
    source: Import, policies: tuple[str, ...], prms: tuple[str, ...], cells: Cells, problems: int, number: str, extract: Sequence[str]
) -> Preset:
    held = {method for method, _ in cells}
    methods = [method for method in compared() if method in held]
    budgets = sorted({n for method, n in cells if method in methods})
    budgets = [n for n in budgets if n > 1] or budgets
    level = [method for method in ("majority", "best_of_n") if method in methods] or methods
    shared = [n for n in budgets if all((method, n) in cells for method in level)] or budgets[-1:]
    level += [m for m in searches() if m in methods and m not in level and (m, shared[-1]) in cells]
    shared = [n for n in shared if all((method, n) in cells for method in level)]
    samples = max((n for method, n in cells if method == "majority"), default=max(budgets))
    unbounded = any(source.outside(policy, prm) for policy in policies for prm in prms)
    common = {
        "problems": {source.problem_set: problems},
        "policies": list(policies),
        "prms": list(prms),
        "methods": level,
        "samples": samples,
        "budgets": shared,
        "beam_width": next((h.spec.width for h in source.runs if h.spec.width), Grid.model_fields["beam_width"].default),
        "aggregate": "last" if unbounded else "product",
        "vote": "max" if unbounded else "vote",
        **({"extract": list(extract)} if extract else {}),
        "store": str(source.folder.parents[1].resolve()),
        "figures": str(ROOT / "figures" / f"{source.name}{number}"),
    }
    roles = {"searchers": list(policies), "search_prms": list(prms), "weak_prm": prms[0] if prms else "", "long_cot": {}}
    # What each notebook needs of the data, see _unmet, and its own parameters.
    notebooks = {
        "00_quickstart": ("sampling", {}),
        "01_tts_methods": ("", {"methods": methods, "budgets": budgets}),
        **dict.fromkeys(
            (REWARD_MODELS, "02a_prm_failures"), ("scores", {"policies": [*policies[:1]], "methods": ["majority", "best_of_n"]})
        ),
        "02b_how_good_a_verifier": ("sampling", {}),
        "03_policy_scaling": ("scores bounded sizes folds", {"peek": min(4, samples)}),
        "04_difficulty_bins": ("pool", {}),
        "05_compute_optimal": ("scores bounded folds", {"peek": min(4, samples)}),
        "06_small_vs_large": ("scores bounded greedy sizes folds", {"more_prms": [], "more_policies": []}),
        "07_flops_comparison": ("scores greedy sizes", {"method": level[-1]}),
        "08_long_cot": ("counterparts", {}),
        FINDINGS: ("scores bounded verdicts", roles),
        "10_train_pocket": ("training", {}),
        "13_more_methods": ("pool", {"methods": methods, "puzzles": {}}),
    }
    unmet = _unmet(policies, prms, held, problems, unbounded)
    without = {name: unmet[need] for name, (needs, _) in notebooks.items() for need in needs.split() if need in unmet}
    served = {name: parameters for name, (_, parameters) in notebooks.items() if name not in without}
    head = f"# Written by `python -m tts import` for the import {source.name}: what its data hold, and nothing else.\n"
    text = head + yaml.safe_dump({"common": common, "notebooks": served}, sort_keys=False, allow_unicode=True, width=120)
    return Preset(f"preset{number}.yaml", policies, prms, problems, cells, common, served, without, text)


def _unmet(policies: Sequence[str], prms: Sequence[str], held: set[str], problems: int, unbounded: bool) -> dict[str, str]:
    """What notebooks may need and the data of these methods does not give, with the reason that is told."""
    known = [p for p in policies if np.isfinite(costs.shape_of(p).parameters)]
    counterparts = "no name tells which policy is the long-CoT counterpart of which; give policies and long_policies yourself"
    sizes = f"policies of different, known sizes are compared; here is {len(policies)}, of known size {len(known)}"
    needs = {
        "sampling": (False, "it samples anew"),
        "counterparts": (False, counterparts),
        "training": (False, "it is about the pocket models"),
        "scores": ("best_of_n" in held and prms, "samples with step scores are needed"),
        "bounded": (not unbounded, "it compares PRM-Vote and products, which need scores in [0, 1]; --scores sigmoid maps logits"),
        "pool": ("majority" in held, "a pool of samples is needed"),
        "greedy": ("cot" in held, "CoT (greedy) is compared with, which is not in the data"),
        "sizes": (2 <= len(known) == len(policies), sizes),
        "folds": (problems >= FOLDS, f"{FOLDS} problems are needed to choose a strategy on others than it is judged on"),
        "verdicts": (problems >= FEWEST_PROBLEMS, f"there is no verdict on fewer than {FEWEST_PROBLEMS} problems"),
    }
    return {need: reason for need, (met, reason) in needs.items() if not met}
