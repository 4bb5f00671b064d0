"""Wrong parameter sets, through the command line and through papermill: refused by name before anything runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from torture.invoke import Result, command_line, forked, in_process, overwritten, refusal, tree
from torture.report import ROOT, Tally

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
    (["store", "--export", "/no/such/folder/x.jsonl", "--preset", "smoke"], ["/no/such/folder"]),
    (["compare"], ["run_a"]),
    (["compare", "abc", "def", "--store", "/no/such/store"], ["'abc'", "/no/such/store"]),
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
    more = [f"{name}={places / name}" for name in ("store", "figures") if f"{name}=" not in given and "10_train" not in given]
    return [*arguments, *(part for place in more for part in ("-p", place))]


def refused(folder: Path, run: Callable[[Callable[[], None]], Result] = in_process) -> tuple[int, list[str]]:
    """Puts every wrong set through the command line.

    Returns:
        How many, and per set that was not refused as it should be, how it was not.
    """
    places = folder / "places"
    for name in ("store", "figures"):
        (places / name).mkdir(parents=True)
        (places / name / "earlier.json").write_text("kept")
    before, wrong, all_cases = tree(places), [], cases()
    for arguments, said in tqdm(all_cases, desc="wrong parameters", unit="set"):
        problem = refusal(run(command_line(*_somewhere(arguments, places))), *said)
        if changed := tree(places) != before:
            problem = f"{problem or ''} it wrote {sorted(set(tree(places)) - set(before))} {changed}"
        if problem:
            wrong.append(f"{arguments}: {problem}")
    return len(all_cases), wrong


BY_PAPERMILL = [
    ("00_quickstart", "n", "abc", "n must be a whole number"),
    ("00_quickstart", "answer", "", "answer"),
    ("00_quickstart", "policies", "policy-51k", "policies must be a list"),
    ("01_tts_methods", "samples", "0", "samples"),
    ("01_tts_methods", "budgets", "[6]", "budgets must be a list"),
    ("01_tts_methods", "aggregate", "mean", "unknown aggregate 'mean'"),
    ("02_reward_models", "temperature", "-1", "temperature"),
    ("03_policy_scaling", "peek", "0", "peek must be at least 1"),
    ("07_flops_comparison", "method", "mcts", "unknown method 'mcts'"),
    ("08_long_cot", "long_samples", "x", "long_samples must be a whole number"),
    ("09_findings", "weak_prm", "prm-9b", "no model 'prm-9b'"),
    ("10_train_pocket", "scratch", "", "scratch must not be empty"),
]


def campaign(folder: Path, processes: int = 12) -> Tally:
    """All wrong sets through forks of the command line, some of them through new processes and through papermill itself."""
    started = time.monotonic()
    count, wrong = refused(folder, forked)
    tally = Tally("wrong parameters", {"through the command line": count, "of them in a new process each": 0, "through papermill": 0})
    for arguments, said in tqdm(cases()[:: max(1, count // processes)], desc="new processes", unit="set"):
        done = subprocess.run(
            [sys.executable, "-m", "tts", *_somewhere(arguments, folder / "fresh")], cwd=ROOT, capture_output=True, text=True
        )
        problem = refusal(Result(done.returncode, done.stdout, done.stderr), *said)
        wrong += [f"{arguments}: {problem}"] if problem else []
        tally.counts["of them in a new process each"] += 1
    for notebook, name, value, said in tqdm(BY_PAPERMILL, desc="papermill", unit="set"):
        source = ROOT / "notebooks" / f"{notebook}.ipynb"
        command = [
            sys.executable,
            "-m",
            "papermill",
            "--cwd",
            str(source.parent),
            str(source),
            str(folder / "out.ipynb"),
            "-p",
            name,
            value,
        ]
        places = [
            part for place in ("store", "figures") for part in ("-p", place, str(folder / "fresh" / place)) if "train" not in notebook
        ]
        done = subprocess.run([*command, *places, "-k", "python3"], cwd=ROOT, capture_output=True, text=True)
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        if done.returncode == 0 or said not in last:  # papermill itself prints a traceback; the message is its last line
            wrong.append(f"papermill {notebook} {name}={value!r}: ended with {done.returncode}: {last:.300}")
        tally.counts["through papermill"] += 1
    assert not (folder / "fresh").exists(), (
        f"something was written: {overwritten({}, folder / 'fresh') or list((folder / 'fresh').rglob('*'))}"
    )
    assert not wrong, "\n".join(wrong)
    tally.seconds = time.monotonic() - started
    return tally
