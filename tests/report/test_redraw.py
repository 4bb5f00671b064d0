"""Figures redrawn from their files: the same drawing, in another size, font or format; tables; captions; one line for what cannot be."""

from __future__ import annotations

import os
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tts.common.paths import ROOT
from tts.report import comparison_plots, figure_files, figure_settings, plots, real_models, redraw, search_steps, search_tree, style
from tts.report.redraw import FigureError
from tts.study import cli

HELD = {"accuracy": 0.4, "low": 0.3, "high": 0.55}
BETWEEN = {"difference": 0.1, "low": -0.1, "high": 0.2, "verdict": "undecided"}
POLICIES, PRMS, METHODS = ["policy-32k", "policy-51k"], ["prm-qwen-328k", "implicit:policy-216k"], ["majority", "best_of_n", "dvts"]
SIZES = {"policy-32k": 32_000, "policy-51k": 51_000}
ORIGIN = {
    "parameters": {"problems": {"pocket-main": 100}, "policies": POLICIES, "prms": PRMS, "budgets": [4, 16], "seed": 3},
    "notebook": "01_tts_methods",
}


pytestmark = pytest.mark.usefixtures("as_before")


def rows(held, **columns):
    """One row per combination of the columns' values."""
    return pd.DataFrame([dict(zip(columns, each)) | held for each in product(*columns.values())])


BY_METHOD = rows(HELD | {"problems": "pocket-main", "count": 100}, policy=POLICIES, prm=["", *PRMS], method=METHODS, n=[4, 16])
GAINS = rows({f"{gain}{end}": 0.5 for gain in ("relative gain", "error reduction") for end in ("", " low", " high")}, policy=POLICIES)
TREE = {"tree": "Beam search", "path": ["0", "1", "0.0"], "step": ["1+2=3", "1+2=4", "\\boxed{3}"], "score": [0.9, np.nan, 1.0]}
STEPS = {"step": [1, 1, 2], "path": ["0", "1", "0.0"], "text": ["1+2=3", "1+2=4;4*5", "\\boxed{3}"], "score": [0.9, np.nan, 0.5]}
LEDGER = {"estimate": 0.03, "bound": "=", "low": 0.01, "high": 0.05, "unit": "points", "statement": "It holds", "margin": 0.0}
SYSTEMS = pd.concat([rows(HELD, problems=["A, 1B"], system=["small", "large"]), rows(BETWEEN, problems=["A, 1B"], pair=["large − small"])])
PLACE = {"best": "dvts", "decided": True, "dvts": 0.5, "false positive": 0.1, "false negative": 0.0}

FIGURES = {  # those that give a figure: rows, further arguments
    plots.grid_of_panels: (BY_METHOD, "full run (committed): 100 problems"),
    plots.pass_at_1_histograms: (rows({}, policy=POLICIES, pass_at_1=[0.0, 0.25, 1.0]), (0.5, 0.1)),
    plots.bins_per_policy: (rows(HELD | {"problems": 30}, policy=POLICIES, bin=["easy", "hard"], method=METHODS),),
    plots.strategies: (rows(HELD, policy=POLICIES, prm=PRMS, strategy=list(plots.STRATEGIES), n=[4, 16]),),
    plots.accuracy_against_tokens: (rows(HELD, policy=POLICIES, prm=PRMS, strategy=[*METHODS, "adaptive"], tokens=[200.5, 900]),),
    plots.accuracy_against_costs: (rows(HELD, strategy=METHODS, tokens=[200.5, 900], FLOPs=[1e6, 1e8]), {"tokens": "t", "FLOPs": "f"}),
    plots.gains_against_size: (pd.concat([GAINS, rows(HELD, policy=POLICIES, method=METHODS)]), SIZES, "a title"),
    plots.flops_in_both_conventions: (
        rows(HELD | {"total (study)": 1e12, "total (full)": np.nan}, policy=POLICIES, strategy=["CoT", "dvts, N = 16"]),
    ),
    comparison_plots.claims_forest: (rows(BETWEEN | {"source": "", "made_by": "nobody"}, claim=["a"], problems=["MATH-500", "AIME24"]),),
    comparison_plots.differences_by_set: (rows(BETWEEN | {"external": "a + PRM"}, internal=["b", "c"], problems=["MATH-500"]),),
    comparison_plots.internal_and_external: (
        rows(HELD, size=["policy-51k"], policy=["policy-51k", "policy-51k-long"], method=["majority", "dvts"], tokens=[99, 999]),
    ),
    comparison_plots.verifier_map: (rows(PLACE, policy=POLICIES), {"prm-qwen-28k": (0.82, 0.15)}),
    comparison_plots.ledger: (rows(LEDGER | {"verdict": "undecided"}, claim=["flops", "title"], scope=["pocket", "this run"]),),
    comparison_plots.contrast_by_rule: (rows(LEDGER, rule=["own best", "min+max"], scope=["pocket"]),),
    comparison_plots.size_curve: (rows(BETWEEN | {"open": True, "p": 0.1}, problems=["pocket-main"], scope=["pocket"], times=[2.0, 10.0]),),
    comparison_plots.reach: (
        rows({"small": "policy-6k", "large": "policy-94k", "AUC": 0.9, "gap": 2.0}, domain=["pocket", "puzzles"], times=[np.nan, 20.0]),
    ),
    real_models.curve_panels: (rows(HELD, panel=["Llama-3.2-1B, MATH-500", "pocket 20k"], series=["Pass@N", "Majority"], n=[1, 4]),),
    real_models.method_panels: (rows(HELD | {"seed": np.nan}, panel=["pocket 32k, PRM-Vote"], method=METHODS, n=[4, 16]),),
    real_models.bars_and_differences: (SYSTEMS, "pair"),
    search_tree.side_by_side: (pd.DataFrame(TREE | {"status": ["open", "open", "finished"], "selected": [True, False, True]}),),
    search_steps.draw: (
        pd.DataFrame(
            STEPS | {"state": ["kept", "merged", "finished"], "into": ["", "0", ""], "right": [True, None, False], "selected": True}
        ),
        "1+2=? by beam search",
    ),
}
ON_AXES = {  # those that draw on axes: rows, further arguments
    plots.policy_scaling: (rows(HELD, policy=POLICIES, method=METHODS), SIZES),
    plots.quality_against_accuracy: (rows(HELD | {"n": 16, "parameters": 3e4}, prm=PRMS, f1=[0.3, 0.6]), (10.0, 20.0)),
    plots.lines_per_prm: (rows(HELD, prm=PRMS, n=[1, 2, 4]), "n", "accuracy"),
    plots.pathology_bars: (rows({"share": 0.4, "low": 0.3, "high": 0.5}, prm=PRMS, pathology=["neglect"]),),
    comparison_plots.accuracy_bars: (rows(HELD, policy=POLICIES, strategy=["CoT", "TTS"]),),
    comparison_plots.difference_map: (rows(BETWEEN, small=["policy-32k"], large=["policy-51k"]),),
    comparison_plots.cost_shares: (rows({"prefill": 1.0, "decode": 3.0}, policy=POLICIES), ("prefill", "decode")),
    comparison_plots.total_against_queries: (rows({}, way=["policy-32k, CoT (study)"], queries=[1e3, 1e6], total=[1e12]),),
    comparison_plots.verifier_forest: (rows(BETWEEN | {"solver": "policy-216k", "prm": PRMS[1]}, policy=POLICIES),),
}


def contents(figure):
    """Everything that a figure shows, but for how it is drawn."""
    return [
        (
            *([line.get_xydata().tolist(), line.get_color(), line.get_label()] for line in ax.lines),
            *(patch.get_path().vertices.tolist() + [patch.get_facecolor()] for patch in ax.patches),
            *(np.ma.filled(points.get_offsets(), np.nan).tolist() for points in ax.collections),
            *(
                text.get_text()
                for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels())
            ),
            *(text.get_text() for legend in figure.legends for text in legend.get_texts()),
        )
        for ax in figure.axes
    ]


@pytest.mark.parametrize("draw", [*FIGURES, *ON_AXES], ids=lambda draw: draw.__name__)
def test_every_drawing_is_the_same_when_it_is_redrawn_from_its_files(draw, tmp_path, monkeypatch):
    table, *arguments = (FIGURES | ON_AXES)[draw]
    alone = draw in ON_AXES
    figure = figure_files.on_axes(table, draw, *arguments, size=(3, 2), title="t") if alone else draw(table, *arguments)
    monkeypatch.setattr(figure_files, "picture", lambda *asked: None)  # which takes seconds
    figure_files.save(figure, tmp_path, "it", table, ORIGIN)
    read, origin = redraw.load(tmp_path, "it")
    assert list(read) == list(table) and len(read) == len(table)
    again = figure_files.draw_again(read, origin)
    assert repr(contents(again)) == repr(contents(figure)) and contents(figure)[0]  # repr: NaN is no NaN's equal


def test_no_drawing_is_left_out_above():
    assert set(figure_files._DRAWINGS.values()) == {*FIGURES, *ON_AXES}


def test_rows_that_were_not_drawn_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"it: the rows to be written are not those that plots.grid_of_panels drew"):
        figure_files.save(plots.grid_of_panels(BY_METHOD), tmp_path, "it", BY_METHOD.iloc[1:], ORIGIN)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with one figure of four panels, as a notebook leaves it."""
    folder = tmp_path_factory.mktemp("study")
    style.use()
    figure_files.save(plots.grid_of_panels(BY_METHOD), folder, "tts_methods_pocket-main", BY_METHOD, ORIGIN)
    return folder


def asked(study, tmp_path, *options):
    output = [] if {"--table", "--caption"} & {*options} else ["--output", str(tmp_path)]
    return CliRunner().invoke(cli.app, ["figure", *options, "--figures", str(study), *output])


@pytest.mark.slow
def test_a_figure_of_84_mm_in_another_font_with_two_panels(study, tmp_path, monkeypatch):
    drawn, fit = [], style.fit
    monkeypatch.setattr(style, "fit", lambda figure: drawn.append([ax.get_title() for ax in figure.axes]) or fit(figure))
    look = ["--width", "84mm", "--height", "2.5in", "--font", "STIXGeneral", "--font-size", "7"]
    done = asked(study, tmp_path, "tts_methods_pocket-main", *look, "--format", "pdf,svg,png", "--panels", "policy-32k")
    assert done.exit_code == 0, done.output
    assert [" ".join(title.split()) for title in drawn[0]] == [
        f"32k parameters, {prm}" for prm in ("PRM qwen-328k (F1 0.61)", "implicit PRM 216k (F1 0.85)")
    ]
    assert Image.open(tmp_path / "tts_methods_pocket-main.png").size == pytest.approx((84 / 25.4 * 200, 2.5 * 200), abs=3)
    pdf = (tmp_path / "tts_methods_pocket-main.pdf").read_bytes()
    assert b"STIXGeneral" in pdf and b"/FontFile2" in pdf and b"/Type3" not in pdf, "TrueType, embedded"
    told = (tmp_path / "tts_methods_pocket-main.txt").read_text()
    assert (
        "Policy: 32k parameters. PRMs: qwen-328k (F1 0.61), implicit PRM 216k (F1 0.85). N = 4, 16. Problems: 100 of pocket-main." in told
    )
    assert "Intervals of 95 %: a bootstrap over problems" in told and told.rstrip().endswith("Seed 3.")


@pytest.mark.parametrize("font", ["Times New Romantic", "Garamondic"])
def test_of_a_serif_font_that_is_not_there_others_are_offered(monkeypatch, font):
    monkeypatch.setattr(figure_settings, "_SERIFS", ["No Such Serif", "STIXGeneral", "DejaVu Serif"])  # of which matplotlib brings two
    with pytest.raises(ValueError, match="near it: STIXGeneral, DejaVu Serif; or give a font's file"):
        figure_settings.font_family(font)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--width", "84"], "--width 84: give a number with its unit, in, cm, mm or pt"),
        (["--width", "0mm"], "--width 0mm: give 1 to 60 inches"),
        (["--width", "3mm"], "--width 3mm: give 1 to 60 inches"),
        pytest.param(["--height", "1in"], "the figure's panels do not fit into this size", marks=pytest.mark.slow),
        pytest.param(["--width", "1in"], "tts_methods_pocket-main: its labels do not fit into this width; take ", marks=pytest.mark.slow),
        (["--font", "STIXGenerel"], "no font 'STIXGenerel' is installed; near it: STIXGeneral"),
        (["--font", "Times New Romantic"], "no font 'Times New Romantic' is installed; near it: "),
        (["--format", "gif,pdf"], "gif is unknown; give some of pdf, pgf, svg, png, eps"),
        (["--format", "pgf"], "there is no xelatex, lualatex or pdflatex"),
        (
            ["--panels", "policy-9k"],
            "no panel 'policy-9k'; there are pocket-main, policy-32k, policy-51k, prm-qwen-328k, implicit:policy-216k",
        ),
        (["--table", "latex", "--width", "84mm", "--format", "svg"], "--width, --format of a drawing, and --table"),
        (["--caption", "text", "--output", "elsewhere"], "--output of a drawing, and --table and --caption draw nothing: leave it out, or"),
        (["--table", "latex", "--columns", "methods"], "no column 'methods'; there are policy, prm, method, n, accuracy"),
    ],
)
def test_what_cannot_be_is_one_line(study, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(redraw.shutil, "which", lambda name: None)
    error = asked(study, tmp_path, "tts_methods_pocket-main", *options).exception
    assert isinstance(error, ValueError) and message in str(error) and "\n" not in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "fits"), [(60, False), (150, True)])
def test_a_table_whose_cells_overlap_does_not_fit(width, fits):
    pairs = rows(BETWEEN, small=[f"policy-{n}k" for n in (6, 10, 20, 32)], large=[f"policy-{n}k" for n in (51, 94, 216, 668)])
    origin = {"figure": {"draw": "comparison_plots.difference_map", "arguments": (), "size": (5.2, 3.4), "named": {}}}
    assert redraw.fits(pairs, origin, {"width": width / 25.4}) is fits


def test_figures_are_listed_and_near_names_said(study, tmp_path):
    assert asked(study, tmp_path).output.startswith("tts_methods_pocket-main: Accuracy of each method over the budget N")
    error = asked(study, tmp_path, "tts_methods_pocket-mian").exception
    assert isinstance(error, FigureError) and str(error).endswith("did you mean tts_methods_pocket-main?")
    (tmp_path / "own.csv").write_text("a\n1\n")
    (tmp_path / "own.json").write_text("{}")
    with pytest.raises(ValueError, match="drawn by an earlier version, or by code of its own; run its notebook once more"):
        figure_files.draw_again(*redraw.load(tmp_path, "own"))


def test_without_a_study_what_to_do_is_said_and_a_ledger_is_no_figure(tmp_path):
    said = f"no figures in {tmp_path}: run 'make reproduce' first, or give --figures FOLDER"
    assert [str(asked(tmp_path, tmp_path, *name).exception) for name in ([], ["sizes"])] == [said, said]
    (tmp_path / "ledger.csv").write_text("claim\ntitle\n")
    (tmp_path / "ledger.json").write_text("[]")
    assert "ledger is a table: give --table latex or markdown" in str(asked(tmp_path, tmp_path, "ledger").exception)
    assert asked(tmp_path, tmp_path, "ledger", "--table", "markdown").output.splitlines()[-1] == "| title |"


@pytest.mark.parametrize(("text", "length"), [("84mm", 84 / 25.4), ("3.3in", 3.3), ("2.54 cm", 1.0), ("240pt", 240 / 72), ("", None)])
def test_lengths(text, length):
    assert redraw.inches("--width", text) == (length if length is None else pytest.approx(length))


def test_panels_are_chosen_by_any_name_of_theirs():
    chosen = redraw.chosen(BY_METHOD, ["51k parameters,qwen-328k"])
    assert set(chosen["policy"]) == {"policy-51k"} and set(chosen["prm"]) == {"", "prm-qwen-328k"}
    size = FIGURES[comparison_plots.internal_and_external][0]
    assert set(redraw.chosen(size, ["policy-51k"])["policy"]) == {"policy-51k", "policy-51k-long"}, "of a panel all policies"
    real = FIGURES[real_models.curve_panels][0]
    assert set(redraw.chosen(real, ["Llama-3.2-1B, MATH-500"])["panel"]) == {"Llama-3.2-1B, MATH-500"}


TABLE = pd.DataFrame(
    {
        "policy": ["policy-32k", "a_b & c"], "method": ["best_of_n", "dvts"], "n": [4, 16], "difference": [-0.0512, np.nan],
        "total_flops": [1.5e12, 2e13], "right": [True, False], "empty": [np.nan, np.nan],
    }
)  # fmt: skip


def test_a_table_as_markdown():
    assert redraw.table(TABLE, "markdown", ["policy", "method", "difference", "right"]).splitlines() == [
        "| policy | method | difference | right |",
        "| :--- | :--- | ---: | :--- |",
        "| 32k parameters | Best-of-N | −0.051 | True |",
        "| a_b & c | DVTS |  | False |",
    ]


def test_a_table_as_latex():
    assert [line.rstrip() for line in redraw.table(TABLE, "latex", []).splitlines()] == [
        r"\begin{tabular}{llrrrl}",
        r"\toprule",
        r"policy & method & n & difference & total flops & right \\",
        r"\midrule",
        r"32k parameters & Best-of-N & 4 & $-$0.051 & 1.5e+12 & True \\",
        r"a\_b \& c & DVTS & 16 &  & 2e+13 & False \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


CLAIMS = pd.DataFrame(
    {
        "claim": ["title", "gain", "many", "none"], "verdict": ["undecided", "supported", "supported", "not tested"],
        "estimate": [0.008, 1.454, 4.0, np.nan], "low": [-0.0477, 1.2, 1.0, np.nan], "high": [0.0636, 1.7, 9.0, np.nan],
        "unit": ["points", "share", "ratio", "points"], "bound": ["=", "=", ">", "="], "margin": [0.0, 0.5, 1.0, np.nan],
    }
)  # fmt: skip


def test_a_table_of_claims_prints_each_contrast_in_its_unit_as_the_ledger_does():
    lines = redraw.table(CLAIMS, "markdown", []).splitlines()
    assert lines[0] == "| claim | verdict | contrast | margin |"
    assert lines[2:] == [
        "| title | undecided | +0.8 [−4.8, +6.4] | +0.0 |",
        "| gain | supported | 145 % [120, 170 %] | 50 % |",
        "| many | supported | >4 times [1, …] | 1 |",
        "| none | not tested |  |  |",
    ]


def test_a_table_of_a_figure_has_its_units_and_in_latex_an_escaped_caption(tmp_path):
    pairs = pd.DataFrame([{"small": "policy-32k", "TTS": 0.06, "difference": 0.04, "low": -0.03, "high": 0.1076}])
    lines = redraw.printed("small_vs_large_pairs", pairs, {}, "markdown", []).splitlines()
    assert lines[0] == "| small | TTS (%) | difference (points) | low (points) | high (points) |"
    assert lines[2] == "| 32k parameters | 6.0 | +4.0 | −3.0 | +10.8 |"
    assert "Intervals of 95 \\%: a bootstrap" in redraw.printed("small_vs_large_pairs", pairs, {}, "latex", [])
    text = redraw.printed("small_vs_large_pairs", pairs, {}, "latex", ["TTS"])
    assert (
        "\\caption{Accuracy of a smaller policy" in text
        and "Intervals" not in text
        and "\\label{tab:small_vs_large_pairs}" in text
        and "\nTTS (\\%) \\\\\n" in text
    )
    assert (
        "50% of a_b & {c} ^ 1 < 2\\x".translate(redraw.LATEX) == "50\\% of a\\_b \\& \\{c\\} \\textasciicircum{} 1 $<$ 2\\textbackslash{}x"
    )


def test_captions_of_tables_tell_of_no_drawing():
    drawing = {*"panel band bands dot dots mark marks colour coloured line dashed dotted axis hatched hollow bold left above below".split()}
    rows = pd.DataFrame({"low": [0.1], "high": [0.2]})
    for name, words in figure_files.WORDS.items():
        shows = words.get("table", words["shows"])
        told = figure_files.caption(name.partition("|")[0].replace(".*", "x"), rows, {}, ["low"])
        assert told.startswith(shows) and ("Intervals of 95 %" in told) is ("intervals" in words)
        assert not {*re.findall(r"\w+", shows.lower())} & drawing, name


@pytest.mark.parametrize(("fitting", "told"), [((45, 70, 75), 70), ((), None)])
def test_the_next_width_that_fits_is_told(tmp_path, monkeypatch, fitting, told):
    """50 mm was asked for; 45 is narrower, and between 70 and 75 mm, and above, widths may not fit again."""
    monkeypatch.setattr(figure_files, "draw_again", lambda *asked: None)
    monkeypatch.setattr(figure_files, "picture", lambda *asked: (_ for _ in ()).throw(redraw.style.TooSmall("too small")))
    monkeypatch.setattr(redraw, "fits", lambda rows, origin, look: round(25.4 * look["width"]) in fitting)
    with pytest.raises(ValueError, match=f"into this width; take {told}mm, or a smaller font" if told else "too small"):
        redraw.write(tmp_path / "sizes", pd.DataFrame(), {}, {"width": 50 / 25.4}, ["pdf"])


def test_the_index_lists_what_the_words_are_of():
    page = (ROOT / "figures" / "gallery" / "README.md").read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| [") or line.startswith("| `")]
    names = [line[0].strip("| [").split("]")[0].strip("`") for line in lines]
    assert len(names) > 40 and len(set(names)) == len(names)
    words = yaml.safe_load((ROOT / "tts" / "report" / "figures.yaml").read_text(encoding="utf-8"))
    assert [line[2] for line in lines] == [figure_files.shows(name, {})["shows"] for name in names], "make it anew: figures/gallery/make.py"
    used = {next(pattern for pattern in words if figure_files.re.fullmatch(pattern, name)) for name in names}
    assert used == set(words)


def test_a_caption_says_the_selection_rule_only_where_the_figure_is_under_one(study, tmp_path):
    by_rule = {"parameters": ORIGIN["parameters"] | {"aggregate": "min", "vote": "max"}}
    table = BY_METHOD.assign(policy="policy-32k")
    said = "Selection rule (aggregate and vote): min+max."
    assert said in figure_files.caption("tts_methods_pocket-main", table, by_rule)
    assert said in figure_files.caption("strategies_full", table, by_rule), "the candidates of a full run are methods under its rule"
    assert said not in figure_files.caption("strategies", table, by_rule), "which chooses the rule too"
    asked_for = asked(study, tmp_path, "tts_methods_pocket-main", "--caption", "latex")
    assert "Intervals of 95 \\%: a bootstrap" in asked_for.output and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "table", "told"),
    [
        ("tts_methods_x", BY_METHOD, "100 of pocket-main"),
        ("tts_methods_x", BY_METHOD.assign(count=90.0), "90 of pocket-main"),
        ("prm_quality", BY_METHOD[["policy", "accuracy"]], "100 of pocket-main"),
        ("difficulty_bins", BY_METHOD.assign(problems=30), "100 of pocket-main"),
        ("real_pass_at_1", rows({}, policy=["a, B", "c"], pass_at_1=[0.1, 0.9]).assign(count=2), "2 of a, B; 2 of c"),
        ("real_sizes", rows(HELD | {"count": 9}, problems=["A", "B"]), "9 of A, 9 of B"),
        ("sizes", rows(HELD | {"count": 9}, problems=["A", "B"], scope=["x"]), "x: 9 of A, x: 9 of B"),
        ("rules", rows(LEDGER, problems=["9 of A, 8 of B", ""], scope=["x"]), "x: 9 of A, 8 of B"),
    ],
)
def test_a_caption_gives_the_number_of_problems(name, table, told):
    assert f" Problems: {told}." in figure_files.caption(name, table, ORIGIN)


def test_results_are_what_the_notebook_wrote_at_the_largest_n(tmp_path, monkeypatch):
    """Not of another notebook, of a figure from before, or of committed outcomes; the file that was written first is shown."""
    monkeypatch.setattr(figure_files, "picture", lambda *asked: None)
    monkeypatch.setattr(redraw, "RESULTS", 4)
    table, by_prm = (rows.assign(accuracy=rows["n"] / 40) for rows in (BY_METHOD, rows(HELD, prm=PRMS, n=[4, 16])))
    given = {
        "tts_methods_old": (plots.grid_of_panels(table), table, "01_tts_methods"),
        "tts_methods_new": (plots.grid_of_panels(table), table, "01_tts_methods"),
        "prm_quality": (figure_files.on_axes(by_prm, plots.lines_per_prm, "n", "accuracy", size=(3, 2)), by_prm, "01_tts_methods"),
        "tts_methods_full_x": (plots.grid_of_panels(table, "full run (committed): 100 problems"), table, "01_tts_methods"),
        "policy_scaling": (plots.grid_of_panels(table), table, "03_policy_scaling"),
    }
    for at, (name, (figure, drawn, notebook)) in enumerate(given.items()):
        figure_files.save(figure, tmp_path, name, drawn, ORIGIN | {"notebook": notebook})
        os.utime(tmp_path / f"{name}.csv", (at, at))
    title, head, *lines = redraw.results(tmp_path, "01_tts_methods", 1).splitlines()
    assert title == "01_tts_methods, tts_methods_new.csv: Accuracy of each method over the budget N, one panel per policy and PRM"
    assert head.split() == "problems policy prm method n accuracy (%)".split() and len({line.index("40.0 [") for line in lines[:4]}) == 1
    assert [re.split("  +", line) for line in lines[:4]] == [
        ["pocket-main", "32k parameters", "Majority", "16", "40.0 [30.0, 55.0]"],
        ["pocket-main", "32k parameters", "Best-of-N", "16", "40.0 [30.0, 55.0]"],
        ["pocket-main", "32k parameters", "DVTS", "16", "40.0 [30.0, 55.0]"],
        ["pocket-main", "32k parameters", "PRM qwen-328k (F1 0.61)", "Majority", "16", "40.0 [30.0, 55.0]"],
    ]
    assert lines[4:] == ["14 more rows in tts_methods_new.csv", "more in prm_quality.csv"]
    assert redraw.results(tmp_path, "00_quickstart", 0) == redraw.results(tmp_path, "01_tts_methods", 9) == ""
    (tmp_path / "tts_methods_new.csv").unlink()
    assert re.split("  +", redraw.results(tmp_path, "01_tts_methods", 1).splitlines()[2])[:2] == ["pocket-main", "32k, 51k"]


@pytest.mark.parametrize("origin", ["[]", "null", '{"figure": null}', '{"figure": {"draw": "x"}}', "{", "[" * 5000])
def test_a_damaged_origin_is_one_line(tmp_path, origin):
    (tmp_path / "damaged.csv").write_text("a\n1\n")
    (tmp_path / "damaged.json").write_text(origin)
    for read in (lambda: redraw.load(tmp_path, "damaged"), lambda: redraw.listed(tmp_path)):
        with pytest.raises(FigureError, match=r"damaged\.csv and \.json cannot be drawn \(.*\); run the notebook once more"):
            read()
    (tmp_path / "damaged.json").write_text(
        '{"figure": {"text": [], "draw": "tts.report.plots.grid_of_panels", "arguments": [], "named": {}}}'
    )
    rows, known = redraw.load(tmp_path, "damaged")
    with pytest.raises(FigureError, match="damaged.csv and .json cannot be drawn"):
        redraw.write(tmp_path / "damaged", rows, known, {}, ["png"])


def test_a_font_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "font.ttf").write_text("none")
    with pytest.raises(ValueError, match="font.ttf is no font's file"):
        style.use(font=str(tmp_path / "font.ttf"))


def test_a_short_name_of_two_models_chooses_neither():
    rows = pd.DataFrame({"policy": ["imported:a/x/m", "imported:b/y/m"], "accuracy": [0.1, 0.2]})
    with pytest.raises(FigureError, match=r"panel 'm' is the name of several: imported:a/x/m, imported:b/y/m; give one of these"):
        redraw.chosen(rows, ["m"])
    assert redraw.chosen(rows, ["imported:b/y/m"])["accuracy"].tolist() == [0.2]


def test_strangers_names_neither_break_a_table_nor_reach_the_terminal():
    rows = pd.DataFrame({"policy": ["a|b\nc"], "m|x": ["\x1b[31mred"]})
    assert redraw.table(rows, "markdown", []).splitlines() == ["| policy | m\\|x |", "| :--- | :--- |", "| a\\|b c | \\x1b[31mred |"]
