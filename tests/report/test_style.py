"""Figures fit a paper's columns, whatever is drawn on them."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from tts.generate.grid import ParameterError
from tts.report import style
from tts.report.style import legend_below
from tts.search.registry import METHODS
from tts.study.experiment import Experiment
from tts.study.parameters import check_look


@pytest.fixture(autouse=True)
def as_before():
    yield
    plt.close("all")
    style.use()


def drawn_width(figure):
    """Inches of the saved picture."""
    style.fit(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return Image.open(buffer).width / 200


@pytest.mark.parametrize("column", [3.3, 4.5])
@pytest.mark.parametrize(("laid_out", "columns"), [(3.6, 1), (4.9, 1), (7.0, 2), (12.0, 2)])
def test_a_figure_is_one_column_wide_or_two(column, laid_out, columns):
    style.use(column_width=column)
    figure, ax = plt.subplots(figsize=(laid_out, 2.5))
    ax.plot([1, 2], [1, 2], label="line")
    ax.set_ylabel("an axis")
    legend_below(figure, ax)
    assert drawn_width(figure) == pytest.approx(column if columns == 1 else 2 * column + 0.25, abs=0.05)


def test_what_is_shown_is_what_was_saved(tmp_path, monkeypatch):
    displayed = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    asked = {"problems": {"pocket-main": 1}, "policies": ["policy-6k"], "methods": ["majority"], "samples": 4, "budgets": [4]}
    figure, ax = plt.subplots()
    ax.plot([1, 2], [1, 2])
    Experiment(tmp_path, tmp_path, **asked).show(figure, "line", pd.DataFrame({"x": [1, 2]}))
    [image] = displayed
    assert image.data == (tmp_path / "line.png").read_bytes() and 2 * image.width == Image.open(tmp_path / "line.png").width // 2 * 2
    assert {path.suffix for path in tmp_path.glob("line.*")} == {".pdf", ".png", ".csv", ".json", ".txt"} and not plt.get_fignums()


def test_font_and_palette_reach_the_figure():
    style.use(font_size=11, palette="colorblind")
    figure, ax = plt.subplots()
    [line] = ax.plot([1, 2], [1, 2], color=METHODS["majority"].colour)
    assert ax.xaxis.label.get_size() == 11 and ax.get_xticklabels()[0].get_size() == 10
    assert line.get_color() == "C0" and plt.rcParams["axes.prop_cycle"].by_key()["color"][0] == "#0173b2"


@pytest.mark.parametrize(
    ("letters", "lines"),
    [
        (44, ["32k parameters, implicit PRM 216k (F1 0.85)"]),
        (43, ["32k parameters, implicit PRM 216k (F1 0.85)"]),
        (42, ["32k parameters,", "implicit PRM 216k (F1 0.85)"]),
        (22, ["32k parameters,", "implicit PRM 216k", "(F1 0.85)"]),
        (12, ["32k", "parameters,", "implicit PRM", "216k", "(F1 0.85)"]),
        (30, ["32k parameters,", "implicit PRM 216k (F1 0.85)"]),
    ],
)
def test_a_long_title_is_broken_after_its_commas_and_never_in_brackets(letters, lines):
    assert style.in_lines("32k parameters, implicit PRM 216k (F1 0.85)", letters).split("\n") == lines


def test_a_sentence_takes_no_line_more_for_its_commas_and_keeps_its_hyphens():
    sentence = "Small policies, all problems: DVTS beats best-of-N"
    assert style.in_lines(sentence, 30).split("\n") == ["Small policies, all problems:", "DVTS beats best-of-N"]
    assert style.in_lines(sentence, 47).split("\n") == ["Small policies,", "all problems: DVTS beats best-of-N"]


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"palette": "nonsense"}, "palette: no such palette; choose okabe-ito or one of seaborn's"),
        ({"palette": ["red", "blue"]}, "palette: Input should be a valid string"),
        ({"column_width": 0}, "column_width: Input should be greater than or equal to 1"),
        ({"fonts": 8}, "unknown parameter 'fonts'; known: column_width, font_size, palette, font, width, height"),
        (3, "look must be a mapping with column_width, font_size, palette, font, width, height; given 3"),
    ],
)
def test_a_wrong_look_is_refused(look, message):
    with pytest.raises(ParameterError) as error:
        check_look(look)
    assert message in str(error.value)
