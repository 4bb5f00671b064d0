"""What a notebook declares, and what the suite makes of it: grids, checks, places, and findings that are told only where they are true."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torture.invoke import command_line, in_process

import tts
from tts.generate.grid import ParameterError
from tts.strategy.compute_optimal import FOLDS
from tts.study import parameters, presets
from tts.study.experiment import experiment_of
from tts.study.parameters import NotebookError

ROOT = Path(__file__).resolve().parents[2]
WITH_A_GRID = [name for name in parameters.notebooks() if name not in ("10_train_pocket", "11_real_models")]


def planned(notebook, preset="smoke", **overrides):
    [job] = presets.plan(preset, [notebook], overrides)
    return job


def written(folder, given, needs):
    """A folder with one notebook, ``mine``, of a cell with parameters and one with needs."""
    cells = [
        {"cell_type": "code", "metadata": {"tags": [tag]}, "source": source, "outputs": [], "execution_count": None}
        for tag, source in (("parameters", given), ("needs", f"needs = {needs}"))
    ]
    (folder / "mine.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))


GIVEN = """
problems = {"pocket-main": 2}
policies = ["policy-6k", "policy-20k"]
prms = ["prm-qwen-28k"]
samples = 8
budgets = [4, 8]
others = {"policy-6k": "policy-10k"}
fewer = 4
judges = []
single = "dvts"
settings = {}
store = "../data/runs"
figures = "../figures"
"""
NEEDS = {
    "grid": {"methods": ["majority", "$single"]},
    "further": {
        "of_others": {"policies": "$others", "samples": "$fewer", "methods": ["majority"]},
        "judged": {"prms": "$judges"},
        "shared": {"policies": "$policies & $others"},
    },
    "separate": "$fewer",
    "pairs": {"judges": "others"},
}


def test_names_are_public_and_imported_when_they_are_asked_for():
    code = "import sys, tts; assert not {'numpy', 'tts.study'} & set(sys.modules); print(*dir(tts)); tts.Grid; tts.tables"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert {"notebook", "Experiment", "Grid", "Results", "Store", "best_of_n", "beam_search", "dvts", "plots"} <= set(names)
    assert all(hasattr(tts, name) for name in names)
    with pytest.raises(AttributeError, match="no_such_name"):
        tts.no_such_name  # noqa: B018


def test_a_notebook_says_itself_what_it_generates(tmp_path, monkeypatch):
    """A notebook that the package does not know, with parameters of its own."""
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    written(tmp_path, GIVEN, NEEDS)
    found = experiment_of("mine", parameters.declaration("mine").parameters)
    assert found.grid.methods == ["majority", "dvts"] and set(found.further) == {"of_others"}, "nothing for empty lists"
    other = found.further["of_others"].grid
    assert (other.policies, other.samples, other.budgets, other.prms) == (["policy-10k"], 4, [4], ["prm-qwen-28k"])
    assert [grid.policies for grid in found.grids()][:2] == [["policy-6k", "policy-20k"], ["policy-10k"]]
    assert found.separate == 4
    assert parameters.declaration("mine").kinds["others"] == "policies" and parameters.declaration("mine").kinds["judges"] == "prms"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"others": {"policy-6k": "policy-9b"}}, "policy-9b"),
        ({"others": {"policy-9b": "policy-6k"}}, "policy-9b"),
        ({"judges": ["prm-9b"]}, "prm-9b"),
        ({"judges": []}, "judges must be as many as others"),
        ({"fewer": 0}, "fewer must be at least 1"),
        ({"fewer": "x"}, "fewer must be a whole number"),
        ({"single": " "}, "single must not be empty"),
        ({"settings": {"samples": 4}}, "'samples' is a parameter of its own"),
        ({"settings": {"colour": 4}}, "'colour' is unknown; known: .*temperature"),
        ({"settings": {"temperature": "hot"}}, "temperature must be a number"),
        ({"settings": [0.7]}, "settings must be a mapping"),
    ],
)
def test_how_a_parameter_is_checked_follows_from_its_declaration(tmp_path, monkeypatch, changed, message):
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    written(tmp_path, GIVEN, NEEDS)
    with pytest.raises(ValueError, match=message):
        parameters.check("mine", parameters.declaration("mine").parameters | {"judges": ["prm-qwen-28k"]} | changed)


@pytest.mark.parametrize("needs", ["exit()", '{"further": {"a": {"policies": "$nobody"}}}', '{"kind": {}}', "[]"])
def test_needs_that_cannot_be_read_are_refused(tmp_path, monkeypatch, needs):
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)
    written(tmp_path, GIVEN, needs)
    with pytest.raises(NotebookError, match="cannot be read"):
        parameters.declaration("mine")


def test_what_the_suites_notebooks_generate():
    dialled, guided, thinking = (
        planned(name).experiment().further for name in ("02b_how_good_a_verifier", "06_small_vs_large", "08_long_cot")
    )
    assert (dialled["dialled"].grid.prms, dialled["dialled"].grid.samples) == (["dial:0.3,0.1"], 16)
    assert (guided["guided"].grid.policies, guided["guided"].grid.prms) == (["policy-6k"], ["prm-shepherd-terse"])
    assert (thinking["thinking"].grid.policies, thinking["thinking"].grid.budgets) == (["policy-51k-long"], [4])
    assert planned("06_small_vs_large", policies=["policy-20k"]).experiment().further == {}, "only policies that are compared are guided"
    held = planned("09_findings", long_cot={"policy-6k": "policy-20k"}).experiment().further
    assert set(held["searched"].grid.methods) >= {"beam_search", "dvts"} and held["thinking"].grid.samples == 1


def test_checkers_of_steps_are_left_out_for_other_problems_and_that_is_said(tmp_path):
    (tmp_path / "my.jsonl").write_text('{"problem": "What is 3 plus 4?", "answer": "7"}\n{"problem": "7,+8=?", "answer": "15"}\n')
    given = {"policies": ["policy-20k"], "dials": ["dial:0.3,0.1", "dial:0,0"]}
    mixed, own, pocket = (
        planned("02b_how_good_a_verifier", **given | changes).experiment()
        for changes in (
            {"problems": {str(tmp_path / "my.jsonl"): 2}, "dials": [*given["dials"], "prm-qwen-28k"]},
            {"problems": {str(tmp_path / "my.jsonl"): 2}},
            {"problems": {f"pocket:{tmp_path / 'my.jsonl'}": 2}},
        )
    )
    assert mixed.further["dialled"].grid.prms == ["prm-qwen-28k"] and own.further == {}
    said = f"dialled: without dial:0.3,0.1, dial:0,0, since the steps of {tmp_path / 'my.jsonl'} cannot be checked"
    assert str(own).splitlines()[-1] == str(mixed).splitlines()[-1] == said
    assert pocket.further["dialled"].grid.prms == given["dials"] and "without" not in str(pocket)


@pytest.mark.parametrize("notebook", WITH_A_GRID)
def test_every_field_of_the_grid_can_be_given_to_every_notebook_with_one(notebook):
    job = planned(notebook, temperature=0, beam_width=2, settings={"max_tokens": 99})
    grid = experiment_of(notebook, job.values).grid
    assert (grid.temperature, grid.beam_width, grid.max_tokens) == (0, 2, 99)
    assert set(job.parameters) <= set(parameters.declaration(notebook).parameters), "papermill takes what is declared only"


def test_of_two_values_the_later_wins_however_it_is_given(tmp_path):
    preset = {"common": {"temperature": 0.5, "settings": {"top_p": 0.9}}, "notebooks": {"01_tts_methods": {"temperature": 0.4}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(preset))
    given = {"settings": {"temperature": 0.3}}
    grids = [planned("01_tts_methods", str(tmp_path / "mine.yaml"), **overrides).experiment().grid for overrides in ({}, given)]
    assert [(grid.temperature, grid.top_p) for grid in grids] == [(0.4, 0.9), (0.3, 0.9)]
    with pytest.raises(presets.StudyError, match="no chosen notebook has a parameter samples"):
        planned("00_quickstart", samples=4)


@pytest.mark.parametrize("folder", [ROOT, ROOT / "notebooks"])
def test_a_notebook_writes_into_the_checkout_wherever_it_is_started(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    values = parameters.declaration("01_tts_methods").parameters | {
        "problems": {"pocket-main": 1},
        "policies": ["policy-6k"],
        "prms": ["prm-qwen-28k"],
    }
    found = tts.notebook("01_tts_methods", values)
    assert (found.store.folder, found.figures) == (ROOT / "data" / "runs", ROOT / "figures" / "by-hand")
    told = capsys.readouterr().out
    assert (
        "will run" in told
        and f"figures go to {found.figures}\n" in told
        and found.n == 64
        and found.problem_set == "pocket-main"
        and found.prm == "prm-qwen-28k"
    )
    with pytest.raises(ParameterError, match="seed"):
        tts.notebook("01_tts_methods", values | {"settings": {"seed": "x"}})
    assert tts.notebook("10_train_pocket", parameters.declaration("10_train_pocket").parameters) is None


def test_a_run_by_hand_changes_nothing_that_git_keeps(tmp_path):
    """It is of a copy that ``make lab`` makes once, and every notebook draws into a folder that is ignored."""

    def said(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    (tmp_path / "notebooks").mkdir()
    for name in ("Makefile", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    for text in ("first", "second"):
        (tmp_path / "notebooks" / "a.ipynb").write_text(text)
        said("make", "my-notebooks/a.ipynb")
    copy = tmp_path / "my-notebooks" / "a.ipynb"
    assert copy.read_text() == "first", "which the reader may have changed"
    figures = {(tmp_path / "notebooks" / parameters.declaration(name).parameters["figures"]).resolve() for name in parameters.notebooks()}
    assert figures == {tmp_path / "figures" / "by-hand"}
    said("git", "init")
    assert said("git", "check-ignore", str(copy), str(figures.pop() / "it.png")).count("\n") == 2


@pytest.mark.slow
def test_a_presets_paths_are_relative_to_its_file(tmp_path, monkeypatch):
    """Models, problems, store and figures, run through from another working directory."""
    study, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("policy-6k", "prm-qwen-28k"):
        shutil.copytree(ROOT / "data" / "models" / name, study / "models" / name)
    (study / "mine.jsonl").write_text('{"problem": "7,+8=?", "answer": 15}\n{"problem": "(12+7)-3=?", "answer": "16"}\n')
    names = {"policies": ["models/policy-6k"], "prms": ["models/prm-qwen-28k", "implicit:models/policy-6k"], "problems": {"mine.jsonl": 2}}
    common = names | {"samples": 4, "budgets": [4], "store": "runs", "figures": "pictures"}
    (study / "mine.yaml").write_text(yaml.safe_dump({"common": common, "notebooks": {"01_tts_methods": None}}))
    monkeypatch.chdir(elsewhere)
    done = in_process(command_line("run", "--preset", "../study/mine.yaml"))
    assert done.code == 0, done.out + done.err
    assert (study / "pictures" / "tts_methods_mine.png").exists() and list((study / "runs").glob("pool-*/*.parquet"))
    assert not list(elsewhere.iterdir())
    assert "What you should see*" in (told := (study / "pictures" / "notebooks" / "01_tts_methods.ipynb").read_text())
    assert "ledger's verdicts on these claims" not in told + (study / "pictures" / "report.html").read_text()


@pytest.mark.slow
def test_the_template_of_a_notebook_runs(tmp_path):
    """As if it lay among the notebooks."""
    plugin = "import pathlib\nfrom tts.common import paths\npaths.NOTEBOOKS = paths.ROOT / 'docs' / 'examples'\n"
    (tmp_path / "elsewhere.py").write_text(plugin)
    places = {"store": "runs", "figures": "figures"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"common": places, "notebooks": {"notebook": {"problems": {"pocket-main": 3}}}}))
    command = [sys.executable, "-m", "tts", "run", "--preset", str(tmp_path / "mine.yaml"), "-p", "temperature=0.5"]
    variables = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "TTS_PLUGINS": "elsewhere"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables, check=False)
    assert done.returncode == 0 and "20k: Pass@8" in done.stdout, done.stdout + done.stderr
    assert (
        json.loads(next((tmp_path / "figures" / "own").glob("temperature-*/pass_at_n.json")).read_text())["parameters"]["temperature"]
        == 0.5
    )


def test_a_further_grid_is_of_its_own_problems_and_verifier():
    programs = planned("12_when_small_beats_large").experiment().further["programs"].grid
    assert (programs.problems, programs.prms, programs.methods) == ({"pocket-code": 6}, ["tests:public"], ["majority", "best_of_n"])
    assert planned("12_when_small_beats_large", programs={}, equations={}).experiment().further == {}
    puzzles = planned("12_when_small_beats_large", programs={"pocket-puzzles": 5}, equations={}).experiment()
    assert puzzles.further == {} and "programs: without tests:public, no rule of pocket-puzzles" in str(puzzles)
    own = planned("12_when_small_beats_large", split="confirmation").experiment()
    assert (own.grid.split, own.further["programs"].grid.split) == ("confirmation", "test")
    with pytest.raises(ParameterError, match="problem sets of one kind go together"):
        planned("12_when_small_beats_large", programs={"pocket-main": 5, "pocket-code": 5}).experiment()
    with pytest.raises(ValueError, match="programs: the number of problems must be at least 1; given 0"):
        planned("12_when_small_beats_large", programs={"pocket-code": 0}).experiment()


def test_notebooks_that_choose_cross_fitted_ask_for_as_many_problems_as_folds():
    choosing = {name for name in parameters.notebooks() if parameters.declaration(name).least > 1}
    assert choosing == {"03_policy_scaling", "05_compute_optimal", "06_small_vs_large", "12_when_small_beats_large"}
    assert {parameters.declaration(name).least for name in choosing} == {FOLDS}


def test_notebooks_that_read_a_pools_scores_ask_for_them_whatever_methods_are_compared():
    for name in ("02_reward_models", "03_policy_scaling", "05_compute_optimal"):
        grid = planned(name, methods=["majority", "rebase"]).experiment().grid
        assert "scores" in [run for run, *_ in grid.runs()], name


def test_an_entry_of_a_field_that_is_no_parameter_reaches_the_grid():
    for given in (["constants.balance=5"], ["settings.constants.balance=5"], ["settings={constants: {balance: 5}}"]):
        [job] = presets.plan("smoke", ["13_more_methods"], presets.parse_overrides(given))
        assert job.experiment().grid.constants == {"balance": 5}
    together = presets.parse_overrides(["settings={constants: {window: 7}}", "constants.balance=5"])
    [job] = presets.plan("smoke", ["13_more_methods"], together)
    assert job.experiment().grid.constants == {"window": 7, "balance": 5}
    for wrong, message in (
        ("constants.balanc=5", "unknown constant 'balanc'"),
        ("temperature.x=1", "temperature has no entries to change"),
    ):
        with pytest.raises(ValueError, match=message):
            presets.plan("smoke", ["13_more_methods"], presets.parse_overrides([wrong]))


def test_findings_are_of_the_described_presets_only():
    described = planned("01_tts_methods", "pocket", store="elsewhere", look={})
    assert described.as_described and planned("01_tts_methods", "pocket-full").as_described
    for changed in ({"policies": ["policy-6k"]}, {"problems": {"pocket-main": 5}}, {"vote": "max"}, {"temperature": 0}):
        assert not planned("01_tts_methods", "pocket", **changed).as_described
    assert not planned("01_tts_methods").as_described
    assert planned("01_tts_methods", "pocket", policies=["policy-32k", "policy-51k"]).as_described, "the preset's own value"


def test_other_runs_findings_are_left_out(tmp_path):
    cells = [
        {"cell_type": "markdown", "metadata": {"tags": ["findings"]}, "source": "## What you should see\n\nMuch."},
        {"cell_type": "markdown", "metadata": {}, "source": "Kept."},
    ]
    for as_described, seen in ((True, cells[0]["source"]), (False, presets.NOT_OF_THIS_RUN)):
        (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        presets.Job("a", {}, as_described=as_described).leave_out_findings(tmp_path / "a.ipynb")
        assert [cell["source"] for cell in json.loads((tmp_path / "a.ipynb").read_text())["cells"]] == [seen, "Kept."]


@pytest.mark.parametrize("notebook", WITH_A_GRID)
def test_notebooks_mark_what_they_tell_of_the_pocket_family(notebook):
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    told = ["".join(cell["source"]) for cell in cells if presets.FINDINGS_TAG in cell["metadata"].get("tags", [])]
    assert told and (notebook == "09_findings" or told[-1].startswith("## What you should see"))


def lines_of(notebook, tag=""):
    """Lines of code of each cell, or of those with a tag."""
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and (not tag or tag in cell["metadata"].get("tags", []))]
    return [sum(bool(line.strip()) for line in "".join(cell["source"]).splitlines()) for cell in code]


def test_the_notebooks_code_is_short():
    """A study's notebook has 38 lines on average, and three that were one besides their parameters as many as one; by hand is apart."""
    names = [name for name in parameters.notebooks() if name != "00_a_search_by_hand" and lines_of(name)]
    split = ["02a_prm_failures", "02b_how_good_a_verifier"]
    allowed = 420 / 11 * (len(names) - len(split)) + sum(sum(lines_of(name, "parameters")) for name in split)
    assert sum(sum(lines_of(name)) for name in names) <= allowed


def test_most_cells_are_of_few_lines_and_none_is_long():
    for name in parameters.notebooks():
        assert not (lines := sorted(lines_of(name))) or (lines[len(lines) // 2] <= 6 and lines[-1] <= 20), name


def test_what_is_told_of_results_is_written_from_the_ledger():
    """Outside of the regions that a test holds to the ledger, and of names in code, cells on findings state no number."""
    for path in sorted((ROOT / "notebooks").glob("0[0-5]*.ipynb")):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if presets.FINDINGS_TAG in cell["metadata"].get("tags", [])]
        told = "".join("".join(cell["source"]) for cell in cells)
        told = re.sub(r"<!-- claims.*?end of ledger -->|`.*?`|F1|Fig [\d, and]+", "", told, flags=re.DOTALL)
        assert not re.search(r"\d", told), f"{path.stem}: {told}"


@pytest.mark.parametrize("notebook", [name for name in WITH_A_GRID if name < "06" and name != "00_a_search_by_hand"])
def test_a_notebook_shows_problems_before_averages_and_checks_its_claims_last(notebook):
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shown = [number for number, source in enumerate(code) if "experiment.show_problems(3" in source]
    averages = [number for number, source in enumerate(code) if re.search(r"tts\.tables|experiment\.show\(|tts\.explorer", source)]
    assert len(shown) == 1 and shown[0] < min(averages) and "experiment.note(" in code[-1]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert "**Formula" in text and "(glossary.ipynb)" in text


def test_training_shows_problems_solved_before_the_cards():
    source = (ROOT / "notebooks" / "10_train_pocket.ipynb").read_text()
    assert source.count("show_problems(3)") == 1 and source.index("show_problems(3)") < source.index("cards.table()")
