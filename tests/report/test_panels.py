"""Every figure with one panel and with several: panels fill their columns, legends fit, ticks are true, intervals are shown or missed."""

from __future__ import annotations

import re
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from tts.claims import findings
from tts.report import comparison_plots, plots, real_models, search_steps, style
from tts.report.style import RULES, UNDEFINED, Percent, legend_below
from tts.search.registry import METHODS

POLICIES = [f"policy-{size}" for size in ("6k", "20k", "51k", "216k", "668k")]
PRMS = ["implicit:policy-216k", "prm-shepherd-verbose", "prm-qwen-328k"]
SIZES = {policy: 10 ** (4 + place) for place, policy in enumerate(POLICIES)}
HELD = {"accuracy": 0.4, "low": 0.3, "high": 0.55}
SPREAD = {"lowest": 0.2, "highest": 0.625}
SETS = ["MATH-500", "AIME24"]
BETWEEN = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided"}
FULL = "full run (committed): 950 problems of a problem set, 2 seeds"


pytestmark = pytest.mark.usefixtures("as_before")


def rows(held=HELD, **columns):
    """One row per combination of the columns' values."""
    return pd.DataFrame([dict(zip(columns, each)) | held for each in product(*columns.values())])


def by_size(count):
    figure, ax = plt.subplots(figsize=(4.2, 2.8))
    plots.policy_scaling(rows(policy=POLICIES[:count], method=list(METHODS)), SIZES, ax)
    return figure


def gains(count):
    ends = (("", 0.5), (" low", 0.1), (" high", 1.5))
    held = {column + end: value for column in ("relative gain", "error reduction") for end, value in ends}
    return plots.gains_against_size(rows(held, policy=POLICIES[:count]), SIZES)


def against_flops(count):
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8))
    table = rows(HELD | {"total": 1e12}, policy=POLICIES[:count], strategy=["CoT", "dvts, N = 64"])
    for ax in axes:
        plots.accuracy_against_flops(table, "total", ax)
    legend_below(figure, axes, 4)
    return figure


def quality(count):
    figure, ax = plt.subplots(figsize=(3.6, 2.6))
    table = rows(HELD | {"parameters": 3e4}, prm=PRMS[:count]).assign(f1=np.linspace(0.3, 0.8, count))
    plots.quality_against_accuracy(table, (10, 20), ax)
    return figure


def per_prm(count):
    figure, ax = plt.subplots(figsize=(4.2, 2.6))
    plots.lines_per_prm(rows(prm=PRMS[:count], n=[1, 2, 4]), "n", "accuracy", ax)
    return figure


def pathologies(count):
    figure, ax = plt.subplots(figsize=(6.4, 2.4))
    plots.pathology_bars(rows({"share": 0.4, "low": 0.3, "high": 0.5}, prm=PRMS[:count], pathology=["over-criticism", "neglect"]), ax)
    return figure


def small_and_large(count):
    figure, ax = plt.subplots(figsize=(5.2, 2.6))
    comparison_plots.accuracy_bars(rows(policy=POLICIES[:count], strategy=["CoT", "TTS"]), ax)
    return figure


def pairs(count):
    figure, ax = plt.subplots(figsize=(5.2, 3.4))
    held = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided"}
    comparison_plots.difference_map(rows(held, small=POLICIES[:count], large=POLICIES[-count:]), ax)
    return figure


def parts(count):
    figure, ax = plt.subplots(figsize=(4.2, 2.8))
    costs = rows({"prefill": 1, "decode": 2, "prm_inference": 3, "attention": 1}, policy=POLICIES[:count])
    comparison_plots.cost_shares(costs, ("prefill", "decode", "prm_inference", "attention"), ax)
    legend_below(figure, ax)
    return figure


def queries(count):
    figure, ax = plt.subplots(figsize=(4.2, 2.4))
    way = [f"{policy}, TTS (study)" for policy in POLICIES[:count]]
    comparison_plots.total_against_queries(rows({"total": 1e12}, way=way, queries=[1e3, 1e6]), ax)
    legend_below(figure, ax, 2)
    return figure


def solvers(count):
    figure, ax = plt.subplots(figsize=(6.4, 0.19 * count + 0.8))
    held = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided", "solver": "policy-216k", "prm": PRMS[1]}
    comparison_plots.verifier_forest(rows(held, policy=POLICIES[:count]), ax)
    return figure


def claims(count):
    held = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided", "source": "Table 3", "made_by": "nobody"}
    return comparison_plots.claims_forest(rows(held, claim=["1B beats 405B", "1.5B distill beats o1"], problems=SETS[:count]))


def published_long(count):
    held = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided", "external": "a + 72B PRM"}
    return comparison_plots.differences_by_set(rows(held, internal=["Satori-7B", "rStar-7B"], problems=SETS[:count]))


def verifiers(count):
    held = {"best": "dvts", "decided": True, "dvts": 0.5}
    rates = {"false positive": [0.0, 0.125, 0.4], "false negative": [0.0, 0.1]}
    return comparison_plots.verifier_map(rows(held, policy=POLICIES[:count], **rates), dict.fromkeys(PRMS, (0.3, 0.05)))


def ledger(count):
    held = {"verdict": "supported", "estimate": 0.03, "bound": "=", "low": 0.01, "high": 0.05, "unit": "points", "statement": "It holds"}
    return comparison_plots.ledger(rows(held, claim=["depends-on-difficulty", "flops"], scope=["published", "pocket", "this run"][:count]))


def real_curves(count):
    panel = ["Llama-3.2-1B, MATH-500", "Llama-3-70B, GSM8K and MATH", "pocket 668k"][:count]
    return real_models.curve_panels(rows(panel=panel, series=list(real_models.CURVES), n=[1, 16, 256, 4096]))


def real_methods(count):
    panel = ["Llama-3.2-1B, PRM-Vote", "Llama-3.2-1B, PRM-Max", "pocket 32k, PRM-Vote"][:count]
    seeds = rows({"low": np.nan, "high": np.nan}, panel=panel[:2], method=["beam_search", "dvts"], n=[64, 256], accuracy=[0.4, 0.5])
    return real_models.method_panels(pd.concat([seeds, rows(panel=panel[2:], method=["beam_search", "dvts"], n=[16, 64])]))


def real_differences(count):
    names = ["GSM8K, 6B and 175B", "pocket, 20k and 668k", "pocket, 20k and 94k"][:count]
    held = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided"}
    accuracies, differences = rows(problems=names, system=list(real_models.ROLES)), rows(held, problems=names, pair=list(real_models.PAIRS))
    return real_models.bars_and_differences(pd.concat([accuracies, differences]))


FIGURES = {
    "methods": lambda count: plots.grid_of_panels(
        rows(policy=POLICIES[:1], prm=PRMS[:count], method=list(METHODS), n=[4, 16, 64]), FULL
    ),
    "rules": lambda count: plots.grid_of_panels(
        rows(HELD | SPREAD, policy=POLICIES[:1], prm=PRMS[:count], method=list(METHODS), n=[4, 16, 64])
    ),
    "strategies": lambda count: plots.strategies(
        rows(policy=POLICIES[:1], prm=PRMS[:count], strategy=list(plots.STRATEGIES), n=[4, 16, 64]), FULL
    ),
    "tokens": lambda count: plots.accuracy_against_tokens(
        rows(policy=POLICIES[:1], prm=PRMS[:count], strategy=[*METHODS, "adaptive"], tokens=[200, 900, 4000])
    ),
    "bins": lambda count: plots.bins_per_policy(
        rows(HELD | {"problems": 30}, policy=POLICIES[:count], bin=["easy", "medium", "hard"], method=list(METHODS)), FULL
    ),
    "histograms": lambda count: plots.pass_at_1_histograms(
        rows({}, policy=POLICIES[:count], pass_at_1=np.linspace(0, 1, 9)), (0.1, 0.5)
    ),
    "long_cot": lambda count: comparison_plots.internal_and_external(
        pd.concat(
            [
                rows(size=[size], policy=[size, f"{size}-long"], method=[m for m in METHODS if m != "pass"], tokens=[99, 999])
                for size in POLICIES[:count]
            ]
        )
    ),
    **{
        draw.__name__: draw
        for draw in (
            *(by_size, gains, against_flops, quality, per_prm, pathologies, small_and_large, pairs, parts, queries, solvers),
            *(claims, published_long, verifiers, ledger, real_curves, real_methods, real_differences),
        )
    },
}  # fmt: skip


def shown_ticks(figure):
    """Position and label of every tick in view, per axis that is labelled."""
    for ax in figure.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            labels = axis.get_majorticklabels()
            if labels and labels[0].get_visible():
                low, high = sorted(limits)
                yield axis, [(at, label.get_text()) for at, label in zip(axis.get_majorticklocs(), labels) if low <= at <= high]


@pytest.mark.parametrize(("name", "count"), [*product(FIGURES, (1, 3)), ("bins", 5), ("verifiers", 2)])
@pytest.mark.slow
def test_panels_fill_their_columns_and_legends_the_figure(name, count):
    figure = FIGURES[name](count)
    style.fit(figure)
    width = style.drawn(figure).width
    assert width == pytest.approx(style.width_of(figure), abs=0.1)
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    columns = len({round(ax.get_position().x0, 3) for ax in panels})
    least = 0.35 if name in ("claims", "published_long", "ledger") else 0.6  # what is compared stands beside these panels
    assert min(ax.get_position().width * figure.get_figwidth() for ax in panels) >= least * width / columns
    renderer = figure.canvas.get_renderer()
    for legend in figure.legends:
        assert legend.get_window_extent(renderer).width / figure.dpi <= width
    titles = [ax.title.get_window_extent(renderer) for ax in panels if ax.get_title()]
    assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[:i])
    for axis, ticks in shown_ticks(figure):
        assert ticks, f"{axis} has no labelled tick"
        for at, label in ticks:
            if re.fullmatch(r"[-−\d.,]+%?", label) and name != "verifiers":  # whose fields are equally wide
                said = float(label.replace("−", "-").replace(",", "").removesuffix("%")) / (100 if label.endswith("%") else 1)
                assert said == pytest.approx(float(at), abs=1e-9)


@pytest.mark.parametrize(
    "more", ["", " whatever the problems, the verifier, the vote and the number of samples that are spent on each of them"]
)
@pytest.mark.slow
def test_nothing_overlaps_in_a_ledger_of_seven_scopes(more):
    """Every claim of the study, each tested in each scope, with the widest contrasts; as they are written, and one longer."""
    claims = findings.read().claims
    held = {"verdict": "contradicted", "estimate": -0.843, "bound": "=", "low": -0.893, "high": -0.8}
    scopes = ["published", "released", "pocket", "laptop", "language models", "imported", "this run"]
    table = rows(held, claim=list(claims), scope=scopes).assign(unit="points")
    table.loc[table["claim"] == "shrinking-gain", ["estimate", "low", "high", "unit"]] = [4.71, 1.34, 24.97, "share"]
    table["statement"] = [claims[name].statement + more * (name == "title") for name in table["claim"]]
    figure = comparison_plots.ledger(table)
    style.fit(figure)
    [ax], renderer = figure.axes, figure.canvas.get_renderer()
    texts = [text for text in (*ax.texts, *ax.get_xticklabels(), ax.xaxis.label) if text.get_text()]
    assert {text.get_text() for text in texts} >= set(claims), "each identifier"
    boxes = [text.get_window_extent(renderer).padded(-1) for text in texts]  # lines may touch
    overlaps = [(texts[i].get_text(), texts[j].get_text()) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.overlaps(b)]
    assert not overlaps
    cells = ax.patches[0].get_window_extent(renderer).width
    assert max(box.width for text, box in zip(texts, boxes) if text.get_text().startswith("[")) < cells


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.875, 0.925, 0.975], ["87.5%", "92.5%", "97.5%"]),
        ([0.7, 0.8, 0.9], ["70%", "80%", "90%"]),
        ([-0.1, 0.0, 10.0], ["−10%", "0%", "1000%"]),
        ([0.0005, 0.00125], ["0.050%", "0.125%"]),
    ],
)
def test_percent_says_where_the_tick_stands(ticks, labels):
    assert Percent().format_ticks(ticks) == labels


def bars_of(ax):
    """Heights of all error bars on an axes."""
    drawn = [c for container in ax.containers if (c := getattr(container, "errorbar", container)) is not None]
    return [np.ptp(path[:, 1]) for c in drawn for lines in c.lines[2] for path in lines.get_segments() if len(path)]


@pytest.mark.parametrize(
    ("draw", "key"), [(plots.grid_of_panels, "method"), (plots.strategies, "strategy"), (plots.accuracy_against_tokens, "strategy")]
)
def test_a_single_budget_shows_its_intervals_side_by_side(draw, key):
    names = {"method": ["majority", "best_of_n", "dvts"], "strategy": ["majority"]}[key]
    table = rows(policy=POLICIES[:1], prm=PRMS[:1], n=[16], **{key: names}).assign(tokens=300.0)
    [ax] = draw(table).axes
    assert bars_of(ax) == pytest.approx([0.25] * len(names))
    if key == "method":
        assert len({line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1}) == len(names)
        assert [label for _, ticks in shown_ticks(ax.figure) for _, label in ticks][0] == "16"


@pytest.mark.parametrize("interval", [{"low": 0.0, "high": 1.0}, {"low": 0.4, "high": 0.4}, {"low": np.nan, "high": np.nan}])
@pytest.mark.parametrize("name", ["methods", "strategies", "bins", "long_cot"])
def test_an_interval_of_one_problem_is_said_not_drawn(name, interval, monkeypatch):
    monkeypatch.setitem(globals(), "HELD", HELD | interval)
    of = {"policy": POLICIES[:1], "prm": PRMS[:1], "n": [4, 16]}
    figure = {
        "methods": lambda: plots.grid_of_panels(rows(HELD, **of, method=["majority", "dvts"])),
        "strategies": lambda: plots.strategies(rows(HELD, **of, strategy=list(plots.STRATEGIES))),
        "bins": lambda: plots.bins_per_policy(rows(HELD | {"problems": 1}, policy=["a"], bin=["easy"], method=["majority"])),
        "long_cot": lambda: comparison_plots.internal_and_external(
            rows(HELD, size=["a"], policy=["a"], method=["majority"], tokens=[3, 9])
        ),
    }[name]()
    assert UNDEFINED in [text.get_text() for text in figure.legends[0].get_texts()]
    bands = [path for band in figure.axes[0].collections for path in band.get_paths() if len(path.vertices) > 4]
    assert bands == [] and bars_of(figure.axes[0]) == []


@pytest.mark.parametrize(("budgets", "reach"), [([4, 16, 64], (4, 64)), ([16], (16 * 2**0.12 * 0.97, 16 * 2**0.12 * 1.03))])
def test_the_spread_over_rules_is_a_band_where_it_is_known(budgets, reach):
    of = {"policy": POLICIES[:1], "prm": PRMS[:1], "n": budgets}
    table = pd.concat([rows(**of, method=["majority", "beam_search"]), rows(HELD | SPREAD, **of, method=["dvts"])])
    figure = plots.grid_of_panels(table)
    bands = [band for band in figure.axes[0].collections if isinstance(band, PolyCollection) and band.get_linewidth()[0]]
    [corners] = [path.vertices for band in bands for path in band.get_paths() if len(path.vertices)]
    assert corners.min(0).tolist() == pytest.approx([reach[0], 0.2]) and corners.max(0).tolist() == pytest.approx([reach[1], 0.625])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Majority", "Beam search", "DVTS", RULES]
    for without in (table.drop(columns=[*SPREAD]), table.assign(**dict.fromkeys(SPREAD, np.nan))):
        assert RULES not in [text.get_text() for text in plots.grid_of_panels(without).legends[0].get_texts()]


def test_error_rates_of_the_map_are_not_rounded():
    assert "12.5%" in [label for _, ticks in shown_ticks(verifiers(1)) for _, label in ticks]


def test_a_known_interval_is_not_called_unknown():
    for name in ("methods", "strategies", "bins", "long_cot"):
        assert all(UNDEFINED not in text.get_text() for text in FIGURES[name](2).findobj(Text))


def test_a_prm_of_very_few_or_unknown_parameters_is_drawn():
    table = pd.DataFrame({"prm": ["implicit:policy-6k", "prm-x"], "f1": [0.5, 0.6], "parameters": [6000, np.nan]} | HELD)
    figure, ax = plt.subplots()
    plots.quality_against_accuracy(table, (10, 20), ax)
    figure.canvas.draw()
    assert [float(points.get_sizes()[0]) for points in ax.collections if isinstance(points, PathCollection)] == [12, 24]


def test_the_size_curve_says_how_far_open_pairs_reach():
    ends = {"times": [2.0, 4.0, 8.0], "difference": [0.1, -0.02, 0.3], "low": [0.05, -0.1, 0.2], "high": [0.2, 0.05, 0.4]}
    rows = pd.DataFrame(ends | {"scope": "a", "problems": "set", "open": [True, True, False], "p": [0.01, 0.9, np.nan]})
    [ax] = comparison_plots.size_curve(rows).axes
    assert ax.get_title() == "a: ahead up to 2×, not behind up to 4×"
    for p, ahead in (([0.06, 0.9, np.nan], "nowhere"), ([0.01, 0.01, np.nan], "up to 2×"), ([0.01, 0.9, 0.01], "up to 8×")):
        assert comparison_plots.size_curve(rows.assign(p=p)).axes[0].get_title() == f"a: ahead {ahead}, not behind up to 4×"
    [ax] = comparison_plots.size_curve(rows.assign(open=False, p=1.0)).axes
    assert ax.get_title() == "a: ahead nowhere, not behind nowhere"
    [ax] = comparison_plots.size_curve(rows.iloc[:0]).axes
    assert "no two policies" in ax.texts[0].get_text()


def test_a_prm_has_one_colour_in_every_figure():
    figure, axes = plt.subplots(1, 2)
    plots.quality_against_accuracy(rows(HELD | {"parameters": 3e4}, prm=PRMS).assign(f1=[0.8, 0.3, 0.5]), (10, 20), axes[0])
    plots.lines_per_prm(rows(prm=PRMS[::-1], n=[1, 2]), "n", "accuracy", axes[1])
    marks = {mark.get_label(): mark.get_facecolor()[0].tolist() for mark in axes[0].collections if not mark.get_label().startswith("_")}
    lines = {line.get_label(): list(to_rgba(line.get_color())) for line in axes[1].lines}
    assert marks == lines and len(lines) == len(PRMS)


def test_legends_list_only_verdicts_that_occur_in_any_panel():
    table = rows(BETWEEN | {"source": "", "made_by": "study"}, claim=["a"], problems=SETS)
    figure = comparison_plots.claims_forest(table.assign(verdict=["supported", "undecided"]))
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["supported", "undecided"]
    assert "contradicted" not in {text.get_text() for text in figure.legends[0].get_texts()}


def test_a_step_of_a_search_is_wrapped_without_a_line_of_brackets():
    assert search_steps._lines("34+47=81;29+((81+27)+(34+47))", 95) == ["34+47=81", "29+((81+27)+(", "34+47))"]
