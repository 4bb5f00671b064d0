"""The command line itself: what it imports, and what it asks before it deletes."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from datetime import datetime
from types import SimpleNamespace

import pytest
from stores import grid
from typer.testing import CliRunner

from tts.analysis import run_comparison
from tts.common.paths import NOTEBOOKS, ROOT
from tts.generate.runner import fill
from tts.store.store import Store
from tts.study import cli, parameters, presets
from tts.tasks import TASKS

HEAVY = ("torch", "pandas", "pyarrow", "transformers", "huggingface_hub", "matplotlib", "numpy", "pydantic")


@pytest.mark.parametrize("module", ["tts", "tts.train"])
def test_help_waits_for_no_library(module):
    code = f"""
import runpy, sys
sys.argv = ["tts", "--help"]
try:
    runpy.run_module("{module}", run_name="__main__", alter_sys=True)
finally:
    print("imported:", *(name for name in {HEAVY} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout and done.stdout.rstrip().endswith("imported:"), done.stdout + done.stderr


def test_make_clean_leaves_data_and_figures():
    done = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv" in done.stdout and "data" not in done.stdout and "figures" not in done.stdout


def test_version():
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.exit_code == 0 and done.output.startswith("tts-notebooks ")


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_what_the_command_prints(tmp_path):
    script = tmp_path / "tts"  # as installing makes it
    script.write_text(f"#!{sys.executable}\nfrom tts.study.cli import main\nmain()\n")
    script.chmod(0o755)
    wanted = {
        "ad": "advise",
        "run 01": "01_tts_methods",
        "run --preset pocket-f": "pocket-full",
        "solve --prm prm-qwen-3": "prm-qwen-328k",
        "doctor --j": "--json",
    }
    code = 'eval "$(tts completion bash)"\n'
    for words in wanted:
        code += f'COMP_WORDS=(tts {words}); COMP_CWORD={len(words.split())}; _tts_completion tts; echo "${{COMPREPLY[*]}}"\n'
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == list(wanted.values()), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell):
    done = CliRunner().invoke(cli.app, ["completion", shell])
    assert done.exit_code == 0 and f"_TTS_COMPLETE=complete_{shell}" in done.output


@pytest.fixture
def held(tiny_lm, tmp_path, monkeypatch):
    """A store of two runs, which is every preset's."""
    store = Store(tmp_path / "runs")
    fill(grid(tiny_lm, tiny_lm, methods=["majority"]), store)
    monkeypatch.setattr(presets, "store_of", lambda preset, folder=None: store)
    return store


@pytest.mark.parametrize("what", [["--clean"], ["--delete", "pool"]])
def test_nothing_is_deleted_unasked(held, monkeypatch, capsys, what):
    monkeypatch.setattr(sys, "argv", ["tts", "store", *what])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    runs = 2 if what == ["--clean"] else 1
    assert ended.value.code == 2 and len(list(held.runs())) == 2
    said = capsys.readouterr().err
    assert f"say --yes to delete runs: {runs}, imports: 0, " in said and f" KiB, in {held.folder}" in said
    assert ("which is the store of " in said and "smoke" in said) == (what == ["--clean"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    asked = []
    monkeypatch.setattr(cli.typer, "confirm", lambda text, abort: asked.append((text, abort)))
    with pytest.raises(SystemExit):
        cli.main()
    assert asked[0][0].startswith(f"delete runs: {runs}") and asked[0][1] and len(list(held.runs())) == 2 - runs


def test_deleting_with_yes(held):
    (held.folder / "labelled").mkdir()
    (held.folder / "labelled" / "scores.json").write_text("{}")
    done = CliRunner().invoke(cli.app, ["store", "--clean", "--yes"])
    assert done.exit_code == 0 and done.output.startswith("deleted runs: 2, ") and not list(held.runs())
    assert not (held.folder / "labelled").exists(), "scores of labelled solutions"


@pytest.mark.parametrize("place", ["store", "figures"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_made(tmp_path, monkeypatch, capsys, place):
    (tmp_path / "file").write_text("in the place of a folder")
    folders = {"store": tmp_path / "runs", "figures": tmp_path / "figures"} | {place: tmp_path / "file"}
    places = [part for name, folder in folders.items() for part in ("-p", f"{name}={folder}")]
    monkeypatch.setattr(sys, "argv", ["tts", "run", "01_tts_methods", "--preset", "smoke", *places])
    monkeypatch.setattr("tts.generate.runner._made", lambda *given: pytest.fail("something was made"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "error: cannot write to " in (said := capsys.readouterr().err) and "choose another" in said


@pytest.mark.parametrize("name", ["policy", "prm"])
def test_an_empty_name_is_refused(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tts", "run", "01_tts_methods", "--preset", "smoke", "-p", f"{name}="])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and f"error: {name} is empty; give a name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["estimate", "--preset", "paper", "--peak", "0"], "--peak"),
        (["estimate", "--preset", "paper", "--decoding", "2"], "--decoding"),
        (
            ["estimate", "--preset", "paper", "--tokens", "math500=-1"],
            "--tokens math500=-1: say SET=TOKENS, a positive number for one of aime24, ",
        ),
        (
            ["estimate", "--preset", "paper", "--tokens", "mathx=10"],
            "--tokens mathx=10: say SET=TOKENS, a positive number",
        ),
        (
            ["estimate", "--preset", "paper", "--tokens", "math500=abc"],
            "--tokens math500=abc: say SET=TOKENS, a positive number",
        ),
        (
            ["estimate", "--preset", "paper", "--tokens", "math500"],
            "--tokens math500=: say SET=TOKENS, a positive number",
        ),
        (
            ["run", "01_tts_methods", "--preset", "smoke", "-p", "policy=prm-qwen-28k"],
            "is a Qwen2ForProcessRewardModel, which",
        ),
        (
            ["run", "01_tts_methods", "--preset", "smoke", "-p", "problems={foo:/nowhere/mine.jsonl: 1}"],
            f"no file foo:/nowhere/mine.jsonl; the tasks that may stand before a colon are {', '.join(TASKS)}",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments, said, monkeypatch, capsys, tmp_path):
    store = ["-p", f"store={tmp_path / 'runs'}", "-p", f"figures={tmp_path / 'figures'}"] if arguments[0] == "run" else []
    monkeypatch.setattr(sys, "argv", ["tts", *arguments, *store])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("given", "subsets"), [([], "all"), (["--first-n"], "first"), (["-p", "subsets=all", "--first-n"], "first")])
def test_the_first_n_samples_are_an_option(given, subsets, monkeypatch, tmp_path):
    planned, plan = [], presets.plan
    monkeypatch.setattr(presets, "plan", lambda *arguments: planned.extend(plan(*arguments)) or planned)
    done = CliRunner().invoke(cli.app, ["run", "01_tts_methods", "--preset", "smoke", "--dry-run", "-p", f"store={tmp_path}", *given])
    assert [job.experiment().grid.subsets for job in planned] == [subsets]
    assert done.exit_code == 0 and ("those of the first N samples" in done.output) == (subsets == "first")


def refused(monkeypatch, capsys, *arguments):
    """The error of a command line that is refused."""
    monkeypatch.setattr(sys, "argv", ["tts", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["run", "01_tts_metods"], "01_tts_methods"),
        (["run", "01", "--preset", "smok"], "smoke"),
        (["run", "01", "-p", "budgest=[4]"], "budgets"),
        (["run", "01", "-p", "policy=policy-7k"], "policy-6k"),
        (["run", "01", "-p", "methods=[majorty]"], "majority"),
        (["run", "01", "-p", "problems={pocket-mian: 4}"], "pocket-main"),
        (["run", "01", "-p", "look.fontsize=8"], "font_size"),
    ],
)
def test_the_name_that_was_meant_is_offered(arguments, meant, monkeypatch, capsys):
    assert f"did you mean {meant!r}?" in refused(monkeypatch, capsys, *arguments)


def test_notebooks_by_number_and_path(monkeypatch, capsys):
    assert parameters.named_notebook("01") == parameters.named_notebook(str(NOTEBOOKS / "01_tts_methods.ipynb")) == "01_tts_methods"
    monkeypatch.chdir(NOTEBOOKS)
    assert parameters.named_notebook("05_compute_optimal.ipynb") == "05_compute_optimal"
    assert parameters.named_notebook("01_tts") == "01_tts_methods" and parameters.named_notebook("02") == "02_reward_models"
    for text in ("01_tts_method", "0", "01_", "tts_methods"):
        assert "no notebook" in refused(monkeypatch, capsys, "run", text), text
    assert "did you mean '01_tts_methods'?" in refused(monkeypatch, capsys, "run", "01_tts_method")
    assert "'00' is the beginning of 2 notebooks: 00_a_search_by_hand, 00_quickstart" in refused(monkeypatch, capsys, "run", "00")
    assert "no notebook 'elsewhere/01_tts_methods.ipynb'; there are 00_a" in refused(
        monkeypatch, capsys, "run", "elsewhere/01_tts_methods.ipynb"
    )


def test_parameters_are_listed_with_their_meaning():
    said = CliRunner().invoke(cli.app, ["list", "01"]).output
    assert "beam_width" in said and "01_tts_methods -p NAME=VALUE" in " ".join(said.split())
    declared = parameters.declaration("01_tts_methods").parameters
    listed = parameters.described("01_tts_methods")
    assert [name for name, *_ in listed] == list(declared) and all(meaning for *_, meaning in listed)
    assert [ast.literal_eval(default) for _, default, _ in listed] == list(declared.values())


@pytest.mark.parametrize(("text", "said"), [("01", True), ("01_tts", True), ("01_tts_methods", False)])
def test_what_a_part_of_a_name_means_is_said(text, said, monkeypatch):
    job = SimpleNamespace(notebook="01_tts_methods", experiment=lambda: None)
    monkeypatch.setattr(presets, "plan", lambda *asked: [job])
    monkeypatch.setattr(cli, "_say_what_is_missing", lambda jobs, minutes: None)
    output = CliRunner().invoke(cli.app, ["run", text, "--dry-run"], catch_exceptions=False).output
    assert (f"{text}: would run 01_tts_methods\n" in output) == said


def test_one_entry_of_a_mapping_is_changed(monkeypatch, capsys):
    given = ["look.font_size=10", "problems.pocket-main=3", "settings.temperature=0"]
    [job] = presets.plan("pocket", ["01_tts_methods"], presets.parse_overrides(given), look_up=False)
    own = parameters.declaration("01_tts_methods").parameters
    assert job.values["look"] == own["look"] | {"font_size": 10} and job.values["settings"] == own["settings"] | {
        "aggregate": "product",
        "vote": "vote",
        "temperature": 0,
    }
    assert job.values["problems"] == own["problems"] | {"pocket-main": 3}
    [changed] = presets.plan("pocket", ["01_tts_methods"], presets.parse_overrides(["look.font_size=10"]), look_up=False)
    assert "own" not in changed.values["figures"] and "own" in job.values["figures"], "the look changes nothing of what is shown"
    assert "samples has no entries to change" in refused(monkeypatch, capsys, "run", "01", "-p", "samples.a=1")
    assert "expected NAME=VALUE" in refused(monkeypatch, capsys, "run", "01", "-p", "look.=1")


def test_the_store_says_what_it_holds(held, monkeypatch):
    [run, *others] = held.runs()
    assert [one.problems() for one in (run, *others)] == ["6 pocket-main"] * 2
    said = CliRunner().invoke(cli.app, ["store"]).output
    today = f"{datetime.fromtimestamp(run.files[0].stat().st_mtime):%Y-%m-%d}"
    assert run.key in said and today in said and "right" not in said
    monkeypatch.setattr(run_comparison, "right", lambda runs: [0.125, 1.0])
    graded = CliRunner().invoke(cli.app, ["store", "--accuracy"]).output
    assert "right (%)" in graded and "12.5" in graded and "100.0" in graded


def test_a_strategy_that_is_missing_says_what_to_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "strategy.json").write_text('{"strategies": []}')
    models = ["--policy", "policy-6k", "--prm", "prm-qwen-28k"]
    command = "run `python -m tts run 05_compute_optimal -p policy=policy-6k -p prm=prm-qwen-28k`"
    for given in (["advise"], ["solve", "1+1=?"]):
        assert command in refused(monkeypatch, capsys, *given, *models, "--strategy", str(tmp_path / "strategy.json"))
    assert command in refused(monkeypatch, capsys, "advise", *models, "--strategy", str(tmp_path / "none.json"))
