"""The suite as its user meets it: notebooks run for real, wrong input is refused by name."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import verdicts
from processes import TELLING, errors_of
from torture.invoke import command_line, in_process

from tts.claims import findings, wording
from tts.common import names
from tts.study import execution, parameters, presets

ROOT = Path(__file__).resolve().parents[2]


def tts(*arguments):
    return subprocess.run([sys.executable, "-m", "tts", *arguments], capture_output=True, text=True, timeout=900, cwd=ROOT)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke preset, run as a user would, into a folder of its own."""
    folder = tmp_path_factory.mktemp("smoke")
    places = ["-p", f"store={folder / 'runs'}", "-p", f"figures={folder / 'figures'}"]
    return folder, places, tts("run", "--preset", "smoke", *places)


def test_every_notebook_runs(smoke):
    _, _, done = smoke
    assert done.returncode == 0, done.stdout + done.stderr
    for name in parameters.notebooks():
        assert name in done.stdout


@pytest.fixture(scope="module")
def ledger(smoke):
    """Of the committed scopes: judging them takes ten seconds, and notebook 09 has done it."""
    rows = pd.read_csv(smoke[0] / "figures" / "findings.csv")
    none = rows["rules"].notna()  # decided under no rule, which the file does not tell from not known
    rows.loc[none, ["decided above", "decided below"]] = rows.loc[none, ["decided above", "decided below"]].fillna("")
    return rows[~rows["scope"].isin(["this run", "imported"])]


def test_the_committed_ledger_has_every_claim_in_every_scope(ledger):
    counts = {scope: next(iter(rows["problems"])) for scope, rows in ledger.groupby("scope")}
    assert counts["code"] == "300 of pocket-code" and counts["laptop"].startswith("100 of ")
    assert counts["pocket"] == "300 of pocket-main, 100 of pocket-hard"
    assert all(counts[name] == f"300 of pocket-{name}, 100 of pocket-{name}-hard" for name in ("puzzles", "chemistry"))
    assert len(ledger) == 7 * len(findings.read().claims) and set(ledger["verdict"]) <= set(wording.VERDICTS)
    tested = ledger[ledger["verdict"] != "not tested"]
    assert (tested["low"] <= tested["estimate"]).all() and (tested["estimate"] <= tested["high"]).all()
    assert ((tested["verdict"] == "undecided") == (tested["p"] >= 0.05)).all()
    assert ledger.loc[(ledger["scope"] == "pocket") & (ledger["claim"] == "efficiency"), "verdict"].item() != "not tested"


def test_every_verdict_in_prose_is_the_ledgers(ledger):
    for path in verdicts.FILES:
        texts = verdicts.cells_of(path)
        assert any(verdicts.REGION.search(text) for text in texts), path
        for text in texts:
            assert verdicts.written(text, ledger) == text, f"{path}: run python tests/project/verdicts.py"


def test_figures_come_as_five_files_with_their_origin(smoke):
    folder, _, _ = smoke
    figures = folder / "figures"
    names = {p.stem for p in figures.glob("*.png")}
    assert {"quickstart_trees", "tts_methods_pocket-main", "policy_scaling", "difficulty_bins", "flops_accuracy"} <= names
    for name in names:
        assert all((figures / f"{name}.{suffix}").stat().st_size > 100 for suffix in ("pdf", "png", "csv", "json", "txt"))
        origin = json.loads((figures / f"{name}.json").read_text())
        assert {"parameters", "runs", "versions", "commit"} <= set(origin)


def test_every_caption_of_accuracies_gives_the_number_of_problems(smoke):
    captions = {path.stem: path for path in (smoke[0] / "figures").glob("*.csv") if path.with_suffix(".txt").exists()}
    held = {name: set(path.read_text().partition("\n")[0].split(",")) for name, path in captions.items()}
    of_accuracies = [name for name, columns in held.items() if columns & {"accuracy", "difference", "pass_at_1", "estimate"}]
    assert {"real_curves", "findings", "sizes", "long_cot_published", "difficulty_histogram"} <= set(of_accuracies)
    for name in of_accuracies:
        assert re.search(r"\b\d+ (of|problems)\b", captions[name].with_suffix(".txt").read_text()), name


def test_report_opens_offline(smoke):
    page = (smoke[0] / "figures" / "report.html").read_text()
    assert "data:image/png;base64" in page
    assert 'src="http' not in page and '<link rel="stylesheet" href="http' not in page
    assert "vnd.jupyter.widget" not in page, "a widget has no kernel there"


def test_report_begins_with_the_ledger_and_ends_with_what_ran(smoke):
    page = (smoke[0] / "figures" / "report.html").read_text().partition("<main")[2]
    claims, quickstart, ran = (page.index(text) for text in ('id="claims"', "Quickstart: one problem", "What ran"))
    assert claims < quickstart < ran
    assert "<summary>code</summary>" in page and re.search(r"[1-9]\d* runs: [1-9][\d,]* policy tokens", page[ran:])
    assert "prm-qwen-28k" in page[ran:] and "When each contrast was fixed stands in ledger.csv" in page[claims:quickstart]


def test_running_again_generates_nothing(smoke):
    _, places, _ = smoke
    again = in_process(command_line("run", "--preset", "smoke", "--dry-run", *places))
    with_problems = [name for name in parameters.notebooks() if "problems" in parameters.declaration(name).parameters]
    left = re.findall(r"(\d+) will run", again.out)
    assert again.code == 0 and len(left) == len(with_problems) and set(left) == {"0"}, again.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "nonsense"], "no preset 'nonsense'; give a .yaml file, or one of"),
        (["02_nonsense"], "no notebook '02_nonsense'; there are 00_a_search_by_hand, 00_quickstart"),
        (["-p", "sampels=3"], "no chosen notebook has a parameter sampels; known:"),
        (["-p", "sampels"], "expected NAME=VALUE, found 'sampels'"),
        (["-p", "policy=policy-9b"], "no model 'policy-9b': not a folder"),
        (["-p", "prm=policy-20k"], "cannot tell the PRM family"),
        (["01_tts_methods", "-p", "budgets=[6]"], "the budget N must be a positive multiple of the beam width M; given N = 6, M = 4"),
        (["01_tts_methods", "-p", "budgets=[2]"], "the budget N must be a positive multiple of the beam width M; given N = 2, M = 4"),
        (["01_tts_methods", "-p", "budgets=[128]"], "budget N = 128 is not in 1..samples = 64"),
        (["01_tts_methods", "-p", "methods=[genetic]"], "unknown method 'genetic'; choose from majority, best_of_n, beam_search, dvts"),
        (["01_tts_methods", "-p", "aggregate=mean"], "unknown aggregate 'mean'; choose from min, last, avg, product"),
        (["01_tts_methods", "-p", "vote=loudest"], "unknown vote 'loudest'; choose from majority, max, vote"),
        (["01_tts_methods", "-p", "problems={nowhere: 3}"], "unknown problem set 'nowhere'; choose from pocket-main"),
        (["01_tts_methods", "-p", "problems={pocket-main: 0}"], "the number of problems must be at least 1; given 0"),
        (["01_tts_methods", "-p", "problems={pocket-main: 1"], "is not a value"),
        (["13_more_methods", "-p", "cost=euros"], "cost must be one of tokens, FLOPs, seconds; given 'euros'"),
        (["01_tts_methods", "-p", "budgets=[]"], "budgets: List should have at least 1 item"),
        (["01_tts_methods", "-p", "prms=[]"], "best_of_n, beam_search, dvts need a PRM; give prms, or leave only majority"),
        (["01_tts_methods", "-p", "figures=2024"], "figures must be a folder; given 2024"),
    ],
)
def test_wrong_input_is_refused_by_name(tmp_path, arguments, message):
    done = in_process(command_line("run", *arguments, "-p", f"store={tmp_path}"))
    assert done.code == 2 and message in done.err.replace("\n", " ")
    assert "Traceback" not in done.err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "holds no problems"),
        ('{"problem": "7,+8=?", "answer": "15"}\n{"problem": "7', "line 2: not valid JSON"),
        ('{"problem": "7,+8=?"}', "line 1: no 'answer'"),
        ('{"problem": "7,+8=?", "answer": ""}', "line 1: no 'answer'"),
        ('["7,+8=?", "15"]', "line 1: expected an object with 'problem' and 'answer', found list"),
        ('{"id": 1, "problem": "7,+8=?", "answer": 15}\n{"id": 1, "problem": "7,+9=?", "answer": 16}', "two problems share an id"),
    ],
)
def test_bad_problem_files_are_refused_with_their_line(tmp_path, lines, message):
    file = tmp_path / "problems.jsonl"
    file.write_text(lines)
    done = in_process(command_line("run", "01_tts_methods", "-p", f"problems={{{file}: 1}}", "-p", f"store={tmp_path / 'runs'}"))
    assert done.code == 2 and message in done.err.replace("\n", " ") and "Traceback" not in done.err


def test_relative_problem_files_and_model_folders_run(tmp_path, monkeypatch):
    """From the caller's folder, though notebooks run in their own."""
    shutil.copytree(ROOT / "data" / "models" / "policy-20k", tmp_path / "models" / "mine")
    (tmp_path / "models" / "mine" / "card.json").unlink()
    file = tmp_path / "mine.jsonl"
    file.write_text('{"problem": "7,+8=?", "answer": 15}\n\n{"id": "b", "problem": "(12+7)-3=?", "answer": "16"}\n')
    monkeypatch.chdir(tmp_path)
    done = in_process(command_line(
        "run", "07_flops_comparison", "--preset", "smoke", "-p", "problems={mine.jsonl: 2}",
        "-p", "policy=models/mine", "-p", "store=runs", "-p", "figures=figures",
    ))  # fmt: skip
    assert done.code == 0, done.out + done.err
    assert (tmp_path / "figures" / "flops_accuracy.png").exists()
    assert list((tmp_path / "runs").glob("pool-mine-*/*.parquet"))


def outcome_of(folder, cells):
    """What executing notebooks of one cell each comes to; cells: notebook's name -> its source."""
    for name, source in cells.items():
        notebook = {
            "cells": [{"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
    return execution.execute([presets.Job(name, {}, folder) for name in cells], folder / "executed", workers=len(cells))


def test_a_run_with_other_parameters_leaves_the_presets_figures_alone(tmp_path):
    folders = {tuple(given): presets.plan("smoke", ["01_tts_methods"], dict(given))[0].parameters["figures"] for given in (
        (), (("store", str(tmp_path)),), (("samples", 8),), (("seed", 1),), (("seed", 1), ("figures", str(tmp_path))),
    )}  # fmt: skip
    preset, elsewhere, same_value, changed, named = folders.values()
    assert preset == elsewhere == same_value == "../figures/smoke" and named == str(tmp_path)
    assert re.fullmatch(r"\.\./figures/smoke/own/seed-[0-9a-f]{8}", changed)


def test_each_own_model_prm_and_problem_set_has_a_folder_of_its_own(tmp_path):
    for path in ("a/mine", "b/mine"):
        shutil.copytree(ROOT / "data" / "models" / "policy-6k", tmp_path / path)
    for path in ("a/my.jsonl", "b/my.jsonl"):
        (tmp_path / path).write_text('{"problem": "7,+8=?", "answer": "15"}\n')
    policy, prms, problems = ({"policies": [str(tmp_path / "a/mine")]}, {"prms": ["prm-shepherd-terse"]}, {str(tmp_path / "a/my.jsonl"): 1})
    given = [policy, {"policies": [str(tmp_path / "b/mine")]}, policy | prms, policy | {"problems": problems}, policy | {"seed": 1}]
    planned = [
        presets.plan("smoke", ["01_tts_methods", "07_flops_comparison", "11_real_models"], overrides) for overrides in (*given, policy)
    ]
    folders = [{job.parameters["figures"] for job in jobs} for jobs in planned]
    assert all(len(of_run) == 1 for of_run in folders), "one report, of the notebooks that take no model too"
    names = [of_run.pop().removeprefix("../figures/smoke/own/") for of_run in folders]
    assert names[0] == names[-1] and len(set(names)) == len(given)
    assert [name.rpartition("-")[0] for name in names[:5]] == ["mine", "mine", "mine-shepherd-terse", "mine-my.jsonl", "mine"]


def test_a_report_is_titled_by_its_models_and_problems():
    def title(notebook, **changes):
        return execution.title_of(presets.plan("smoke", [notebook], changes)[0].experiment().grids())

    assert title("01_tts_methods") == "Test-time scaling: 6k, 20k with qwen-28k on pocket-main"
    sizes = [f"policy-{size}k" for size in (6, 10, 20, 32, 51)]
    assert title("03_policy_scaling", policies=sizes, problems={"pocket-hard": 5}).endswith(": 5 policies with qwen-28k on pocket-hard")
    assert title("01_tts_methods", prms=["implicit:policy-6k"]) == "Test-time scaling: 6k, 20k with implicit 6k on pocket-main"
    assert names.short("implicit:path/to/mine") == "implicit mine" and names.short("http://h:8/v1#owner/m?context=9") == "m"
    assert execution.title_of([]) == "Test-time scaling"


def test_only_what_ran_is_printed_and_a_stale_finding_is_gone(tmp_path):
    for name in ("bad", "00_quickstart"):
        (tmp_path / f"findings-{name}.txt").write_text(f"{name}:\n- of an earlier run\n")
    outcome_of(tmp_path, {"bad": "raise ValueError('no such luck')"})
    assert [path.name for path in tmp_path.glob("findings-*.txt")] == ["findings-00_quickstart.txt"]


def test_the_report_keeps_notebooks_of_earlier_runs(smoke, tmp_path):
    figures = shutil.copytree(smoke[0] / "figures", tmp_path / "figures")
    for other in {*(figures / "notebooks").iterdir()} - {figures / "notebooks" / "00_quickstart.ipynb"}:
        other.unlink()
    findings = (figures / "findings-00_quickstart.txt").read_text()
    assert findings in smoke[2].stdout and "DVTS is right more often than Best-of-N?" in findings
    lost = figures / "notebooks" / "05_compute_optimal.ipynb"
    lost.write_text("{")  # a kill left it
    done = in_process(command_line("run", "10_train_pocket", "--preset", "smoke", *smoke[1], "-p", f"figures={figures}"))
    assert "DVTS is right more often" not in done.out and (figures / "findings-00_quickstart.txt").exists(), "only what ran is printed"
    page = (figures / "report.html").read_text()
    assert done.code == 0, done.err
    assert re.search(r"Executed by an earlier run: 00_quickstart \(20\d\d-\d\d-\d\d \d\d:\d\d\)\.", page)
    assert page.index("Quickstart: one problem") < page.index("pocket family") and "policy-6k" in page


@pytest.mark.parametrize(("deaths", "outcome"), [(1, None), (99, "RuntimeError: Kernel died before replying to kernel_info")])
def test_a_kernel_that_dies_as_it_starts_is_started_again_a_few_times(tmp_path, monkeypatch, deaths, outcome):
    spec, starts = tmp_path / "jupyter" / "kernels" / "python3", tmp_path / "starts"
    spec.mkdir(parents=True)
    script = f'echo >> {starts}; [ $(wc -l < {starts}) -gt {deaths} ] || exit 1; exec "$0" -m ipykernel_launcher -f "$1"'
    (spec / "kernel.json").write_text(json.dumps({"argv": ["sh", "-c", script, sys.executable, "{connection_file}"]}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    assert outcome_of(tmp_path, {"good": "x = 1 + 1"}) == {"good": outcome}
    assert len(starts.read_text().splitlines()) == min(deaths + 1, 3)


@pytest.mark.parametrize("moment", ["suppress", "wait"])
def test_ctrl_c_ends_all_that_was_started(tmp_path, monkeypatch, moment):
    def start(*given):
        started.append(real(*given))
        return started[-1]

    def interrupt(*given, **kept):
        raise KeyboardInterrupt

    started, real = [], execution._start
    monkeypatch.setattr(execution, "_start", start)
    monkeypatch.setattr(execution, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        outcome_of(tmp_path, {"one": "1", "two": "2"})
    assert [process.exitcode for _, process in started] == [-signal.SIGKILL] * (1 if moment == "suppress" else 2)


def test_a_notebook_that_fails_is_named_and_the_others_finish(tmp_path):
    cells = {"good": "x = 1 + 1", "bad": "raise ValueError('no such luck')", "dead": "import os; os._exit(3)"}
    outcome = outcome_of(tmp_path, cells)
    assert outcome["good"] is None and outcome["bad"] == "ValueError: no such luck" and "DeadKernelError" in outcome["dead"]


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(tmp_path):
    places = ["-p", f"store={tmp_path / 'runs'}", "-p", f"figures={tmp_path / 'figures'}"]
    command = [sys.executable, "-m", "tts", "run", "01_tts_methods", "--preset", "smoke", "-p", "problems={pocket-main: 60}", *places]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": TELLING}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    while not list((tmp_path / "runs").glob("*/*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = errors_of(process, 120)
    assert process.returncode == 130 and "the same command continues where it was" in errors and "Traceback" not in errors
    again = in_process(command_line("run", "01_tts_methods", "--preset", "smoke", "--dry-run", "-p", "problems={pocket-main: 60}", *places))
    kept = re.search(r"(\d+) of \d+ chunks are stored", again.out)
    assert again.code == 0 and int(kept[1]) >= 1


def test_lists_what_there_is():
    done = tts("list")
    for name in ("pocket", "01_tts_methods", "policy-20k", "prm-qwen-28k", "pocket-hard", "dvts"):
        assert name in done.stdout


def test_notebooks_that_take_longest_start_first(tmp_path):
    def size(name, **parameters):
        return execution._size(presets.Job(name, parameters))

    few, more = ({"problems": {"pocket-main": count}, "policies": ["policy-6k"], "settings": {"chunk": 10}} for count in (10, 200))
    assert size("04_difficulty_bins", **few) < size("04_difficulty_bins", **more)
    assert size("00_quickstart") > size("04_difficulty_bins", **few), "it generates as it runs"
    (tmp_path / "damaged.ipynb").write_text("{")
    assert execution._size(presets.Job("damaged", {}, tmp_path)) == execution._size(presets.Job("missing", {}, tmp_path)) == 0


def test_the_report_lists_the_runs_of_further_grids_too(monkeypatch, tmp_path):
    [job] = presets.plan("smoke", ["09_findings"], {"figures": str(tmp_path), "store": str(tmp_path / "runs")}, look_up=False)
    listed = []
    monkeypatch.setattr(execution, "execute", lambda jobs, output, workers: {})
    monkeypatch.setattr(execution.html, "build", lambda *given: listed.extend(given[5]))
    execution.render([job], 1)
    assert [results.grid for results in listed] == job.experiment().grids() and len(listed) == 2
