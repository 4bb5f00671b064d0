"""Wrong parameter sets, through the command line and through papermill: refused by name before anything runs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import papermill
from jupyter_client import KernelManager
from tqdm import tqdm

from torture.invoke import Result, command_line, forked, in_process, overwritten, refusal, tree
from torture.report import ROOT, Tally
from tts.study.parameters import declaration
from tts.study.presets import load_preset, parse_overrides

TABLE = Path(__file__).parent / "wrong_parameters.txt"

COMMANDS: list[tuple[list[str], list[str]]] = [
    (["run", "--preset", "nonsense"], ["'nonsense'", "pocket"]),
    (["run", "--preset", ""], ["''"]),
    (["run", "--preset", "../claims"], ["'../claims'"]),
    (["run", "--preset", "x" * 5000], ["no preset"]),
    (["run", "02_nonsense"], ["'02_nonsense'", "00_quickstart"]),
    (["run", "../notebooks/00_quickstart"], ["no notebook"]),
    (["run", "x" * 5000], ["no notebook"]),
    (["run", "01_tts_methods", "01_tts_methods"], ["01_tts_methods", "more than once"]),
    (["run", "--workers", "0"], ["workers"]),
    (["run", "--workers", "two"], ["workers"]),
    (["run", "--no-such-option"], ["--no-such-option"]),
    (["no-such-command"], ["no-such-command"]),
    (["store", "--preset", "nonsense"], ["'nonsense'"]),
    (["export", "/no/such/folder/x.txt", "--preset", "smoke"], ["/no/such/folder/x.txt", ".jsonl or .parquet"]),
    (["compare"], ["run_a"]),
    (["compare", "abc", "def", "--store", "/no/such/store"], ["no store /no/such/store"]),
    (["compare", "abc", "def"], ["'abc'"]),
    (["compare", "abc", "def", "--preset", "smoke", "--aggregate", "mean"], ["'mean'"]),
    (["compare", "abc", "def", "--preset", "smoke", "--vote", "loudest"], ["'loudest'"]),
    (["difficulty", "policy-9b"], ["'policy-9b'"]),
    (["difficulty", "policy-6k", "--count", "0"], ["at least 1"]),
    (["difficulty", "policy-6k", "--samples", "0"], ["samples"]),
    (["difficulty", "policy-6k", "--problems", "nowhere"], ["'nowhere'"]),
    (["difficulty", "policy-6k", "--split", "train"], ["split"]),
    (["outcomes", "--preset", "nonsense"], ["'nonsense'"]),
    (["outcomes", "--preset", "smoke", "-p", "sampels=1"], ["sampels"]),
    (["advise", "--policy", "policy-6k", "--prm", "prm-qwen-28k", "--strategy", "/no/such.json"], ["/no/such.json", "05_compute_optimal"]),
    (["advise", "--policy", "policy-6k", "--prm", "prm-qwen-28k", "--budget", "much"], ["budget"]),
    (["advise", "--policy", "policy-6k", "--prm", "prm-qwen-28k", "--unit", "dollars"], ["unit"]),
    (["advise", "--prm", "prm-qwen-28k"], ["--policy"]),
    (["solve", "1,+1=?", "--policy", "policy-6k"], ["--prm"]),
]


def cases() -> list[tuple[list[str], list[str]]]:
    """Every wrong parameter set as a command line, and what its refusal must say."""
    found = []
    for line in TABLE.read_text().splitlines()[1:]:
        notebook, parameter, *said = line.split(" | ")
        preset = [] if notebook == "01_tts_methods" else ["--preset", "smoke"]
        found.append((["run", notebook, *preset, "-p", parameter.replace("\\x1b", "\x1b")], said))
    return [*found, *COMMANDS]


def _somewhere(arguments: list[str], places: Path) -> list[str]:
    """A run that would write into ``places`` if it ran."""
    if arguments[0] not in ("run", "outcomes"):
        return arguments
    given = " ".join(arguments)
    more = [f"{name}={places / name}" for name in ("store", "figures") if f"{name}=" not in given]
    return [*arguments, *(part for place in more for part in ("-p", place))]


def refused(folder: Path, run: Callable[[Callable[[], None]], Result] = in_process, every: int = 1) -> tuple[int, list[str]]:
    """Puts wrong sets through the command line: every one, or every ``every``-th.

    Returns:
        How many, and per set that was not refused as it should be, how it was not.
    """
    places = folder / "places"
    for name in ("store", "figures"):
        (places / name).mkdir(parents=True)
        (places / name / "earlier.json").write_text("kept")
    before, wrong, all_cases = tree(places), [], cases()[::every]
    for arguments, said in tqdm(all_cases, desc="wrong parameters", unit="set"):
        problem = refusal(run(command_line(*_somewhere(arguments, places))), *said)
        if changed := tree(places) != before:
            problem = f"{problem or ''} it wrote {sorted(set(tree(places)) - set(before))} {changed}"
        if problem:
            wrong.append(f"{arguments}: {problem}")
    return len(all_cases), wrong


# Whole processes of papermill, as a user starts them, and what their last line says.
BY_PAPERMILL = [
    ("00_quickstart", "n", "abc", "n must be a whole number"),
    ("01_tts_methods", "budgets", "[6]", "budgets must be a list"),
    ("03_policy_scaling", "peek", "0", "peek must be at least 1"),
    ("07_flops_comparison", "method", "genetic", "'genetic'"),
    ("09_findings", "weak_prm", "prm-9b", "no model 'prm-9b'"),
    ("10_train_pocket", "scratch", "", "scratch must not be empty"),
]
SET_UP = 4  # code cells that may run before a refusal: parameters, injected parameters, set-up, and what says what will run
LIMIT = 120  # seconds, within which every set is refused
PLACES = ("store", "figures")


def for_papermill() -> list[tuple[str, dict, list[str]]]:
    """Notebook, parameters, and what must be said, of every wrong set that the command line is not needed for."""
    found = []
    for arguments, said in cases():
        try:
            given = parse_overrides(arguments[arguments.index("-p") + 1 :][:1]) if "-p" in arguments and arguments[0] == "run" else {}
            json.dumps(given)
        except (ValueError, TypeError, RecursionError):
            continue  # no YAML, or nothing that a notebook file can hold: papermill refuses it itself
        if given and set(given) <= (notebook := declaration(arguments[1])).takes:
            preset = load_preset("smoke")
            around = preset.common | preset.notebooks.get(arguments[1], {}) if "smoke" in arguments else {}
            values = notebook.placed({name: value for name, value in around.items() if name not in PLACES} | given)
            found.append((arguments[1], values, [text.replace("must be a folder", "must be text") for text in said]))
    return found


@contextmanager
def _kernel() -> Iterator[KernelManager]:
    """A kernel that papermill keeps for the next set: what takes time is not the refusal, but the imports."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(ROOT / "notebooks"))
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=True)


def by_papermill(folder: Path) -> tuple[int, list[str]]:
    """Puts every wrong set through papermill, one kernel a notebook. Returns as :func:`refused`."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    sets, wrong = for_papermill(), []
    with tqdm(total=len(sets), desc="papermill", unit="set") as bar:
        for notebook in dict.fromkeys(notebook for notebook, _, _ in sets):
            places = {name: str(folder / name) for name in PLACES if name in declaration(notebook).parameters}
            with _kernel() as kernel:
                for given, said in [(given, said) for name, given, said in sets if name == notebook]:
                    if problem := _papermill(notebook, places | given, folder.parent / "out.ipynb", kernel, said):
                        wrong.append(f"papermill {notebook} {given}: {problem}")
                    bar.update()
    return len(sets), wrong


def _papermill(notebook: str, given: dict, target: Path, kernel: KernelManager, said: list[str]) -> str | None:
    """What is wrong with the refusal of a set; None where nothing is."""
    source = ROOT / "notebooks" / f"{notebook}.ipynb"
    options = {"kernel_name": "python3", "cwd": str(source.parent), "progress_bar": False, "execution_timeout": LIMIT, "km": kernel}
    try:
        papermill.execute_notebook(str(source), str(target), given, **options)
    except papermill.PapermillExecutionError as error:
        cells = papermill.iorw.load_notebook_node(str(target)).cells
        ran = sum(cell.cell_type == "code" and cell.execution_count is not None for cell in cells)
        refusing = Result(2, "", f"error: {error.evalue}")
        if error.ename not in ("ParameterError", "ModelError", "ProblemError"):
            return f"{error.ename}: {error.evalue:.300}"
        return f"{ran} cells had run" if ran > SET_UP else refusal(refusing, *said)
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"
    return "it was not refused"


def campaign(folder: Path, processes: int = 12) -> Tally:
    """All wrong sets through forks of the command line and through papermill, some of them through new processes of both."""
    started = time.monotonic()
    count, wrong = refused(folder, forked)
    tally = Tally("wrong parameters", {"through the command line": count, "of them in a new process each": 0})
    fresh = folder / "fresh"
    for arguments, said in tqdm(cases()[:: count // processes], desc="new processes", unit="set"):
        command = [sys.executable, "-m", "tts", *_somewhere(arguments, fresh)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        problem = refusal(Result(done.returncode, done.stdout, done.stderr), *said)
        wrong += [f"{arguments}: {problem}"] if problem else []
        tally.counts["of them in a new process each"] += 1
    tally.counts["through papermill"], found = by_papermill(fresh)
    for notebook, name, value, said in tqdm(BY_PAPERMILL, desc="papermill's processes", unit="set"):
        source, places = ROOT / "notebooks" / f"{notebook}.ipynb", [] if "train" in notebook else ["store", "figures"]
        command = [sys.executable, "-m", "papermill", "--cwd", str(source.parent), str(source), str(folder / "out.ipynb")]
        options = ["-p", name, value, *(part for place in places for part in ("-p", place, str(fresh / place))), "-k", "python3"]
        done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        if done.returncode == 0 or said not in last:  # papermill itself prints a traceback; the message is its last line
            found.append(f"papermill {notebook} {name}={value!r}: ended with {done.returncode}: {last:.300}")
    tally.counts["papermill in a new process each"] = len(BY_PAPERMILL)
    assert not fresh.exists(), f"something was written: {overwritten({}, fresh) or list(fresh.rglob('*'))}"
    assert not wrong + found, "\n".join(wrong + found)
    tally.seconds = time.monotonic() - started
    return tally
