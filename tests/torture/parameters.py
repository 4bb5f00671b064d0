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

# NAME=VALUE, and what the message must say beside it.
OF_GRIDS = """
samples=0 | samples | given: 0
samples=-3 | samples
samples=1.5 | samples | whole number
samples=many | samples | 'many'
samples=true | samples
samples=[64] | samples
samples=null | samples
samples=1e99 | samples
samples=99999999999 | samples | 65536
samples=.nan | samples
samples= | samples
budgets=4 | budgets | list
budgets=[] | budgets
budgets=[0] | budget | 0
budgets=[-4] | -4
budgets=[6] | N = 6
budgets=[3] | N = 3
budgets=[4, 4] | more than once | 4
budgets=[4, x] | budgets | 'x'
budgets=[4.5] | budgets | 4.5
budgets=[true] | budgets
budgets=[[4]] | budgets
budgets={a: 4} | budgets | list
budgets=[128] | N = 128
budgets=[null] | budgets
beam_width=0 | beam_width
beam_width=-1 | beam_width
beam_width=3 | M = 3
beam_width=5 | M = 5
beam_width=100 | M = 100
beam_width=wide | beam_width | 'wide'
beam_width=2.5 | beam_width
beam_width=false | beam_width
temperature=-0.1 | temperature | -0.1
temperature=hot | temperature | 'hot'
temperature=.inf | temperature
temperature=.nan | temperature
temperature=[0.7] | temperature
temperature=true | temperature
temperature=null | temperature
top_p=0 | top_p
top_p=1.1 | top_p
top_p=-1 | top_p
top_p=.nan | top_p
top_p=most | top_p
max_tokens=0 | max_tokens
max_tokens=-5 | max_tokens
max_tokens=lots | max_tokens
max_tokens=3.5 | max_tokens
max_tokens=99999999999999 | max_tokens
seed=x | seed
seed=1.5 | seed
seed=[1] | seed
seed=true | seed
seed=null | seed
aggregate=mean | aggregate | 'mean' | product
aggregate=3 | aggregate
aggregate=[min] | aggregate
aggregate= | aggregate
vote=loudest | vote | 'loudest'
vote=true | vote
vote={max: 1} | vote
methods=mcts | methods | list
methods=[mcts] | methods
methods=[dvts, dvts] | more than once | dvts
methods=[] | methods
methods=[1] | methods
methods=[[dvts]] | methods
methods=[DVTS] | methods
split=train | split | 'train'
split=1 | split
split=[test] | split
problems=pocket-main | problems | mapping
problems=[pocket-main] | problems | mapping
problems={} | problems
problems={pocket-main: 0} | at least 1
problems={pocket-main: -1} | at least 1
problems={pocket-main: many} | problems | 'many'
problems={pocket-main: 2.5} | problems
problems={pocket-main: true} | problems
problems={pocket-main: null} | problems
problems={pocket-main: 999999999999} | at most
problems={5: 3} | problems
problems={nowhere: 3} | 'nowhere' | pocket-main
problems={nowhere.jsonl: 3} | nowhere.jsonl
problems={'reasoning-gym:no_such_task': 3} | no_such_task
problems={'reasoning-gym:': 3} | reasoning-gym
problems={'': 3} | problem set
problems={pocket-main: 1 | is not a value
problems={pocket-main: [1]} | problems
policies=policy-6k | policies | list
policies=[] | policies
policies=[policy-9b] | 'policy-9b' | policy-6k
policies=[5] | policies
policies=[null] | policies
policies=[[policy-6k]] | policies
policies=[policy-6k, policy-6k] | more than once | policy-6k
policy=policy-9b | 'policy-9b'
policy=./no/such/folder | no/such/folder
policy=/no/such/folder | no/such/folder
policy=~nobody-here/model | nobody-here
policy=a/b/c | 'a/b/c'
policy= | config.json
policy=. | config.json
policy=\x1b[31mred | red
policy=${HOME} | HOME
policy=prm-qwen-9b | prm-qwen-9b
prms=prm-qwen-28k | prms | list
prms=[] | need a PRM
prms=[prm-qwen-9b] | 'prm-qwen-9b'
prms=[prm-qwen-28k, prm-qwen-28k] | more than once
prms=[7] | prms
prm=policy-20k | policy-20k | FAMILY:NAME
prm=no-family:policy-20k | 'no-family' | math-shepherd
prm=implicit: | implicit:
prm=implicit:policy-9b | 'policy-9b'
prm=math-shepherd:/no/such | /no/such
prm=qwen-prm:nothing | 'nothing'
prm=dial:2,0 | dial:2,0
prm=dial:0.1 | dial:0.1
prm=dial:a,b | dial:a,b
prm=dial:nan,nan | dial:nan,nan
prm=dial: | dial:
store=5 | store must be a folder
store= | store must be a folder
store=[a] | store must be a folder
figures=2024 | figures must be a folder
figures={a: b} | figures must be a folder
figures=null | figures must be a folder
look=5 | look
look=[3.3] | look
look={column_width: 0} | column_width
look={column_width: wide} | column_width
look={font_size: 400} | font_size
look={palette: nonsense} | palette
look={palette: 7} | palette
look={colour: red} | colour | palette
look={5: 5} | look
sampels=3 | sampels | known
samples | expected NAME=VALUE
=3 | expected NAME=VALUE
sam ples=3 | expected NAME=VALUE
1samples=3 | expected NAME=VALUE
samples=[1 | is not a value
samples=!!python/object/apply:os.system ["true"] | is not a value
samples=&a [*a] | samples
samples=2024-01-01 | samples
budgets=[4, 8, 12, 16, 24, 999] | N = 999
chunk=0 | chunk
batch=-1 | batch
"""  # a control character stands for what a terminal would obey

OF_ONE = """
00_quickstart | n=0 | n must be at least 1
00_quickstart | n=6 | N = 6
00_quickstart | n=abc | n must be a whole number
00_quickstart | n=[16] | n must be a whole number
00_quickstart | n=16.5 | n must be a whole number
00_quickstart | n=true | n must be a whole number
00_quickstart | beam_width=5 | M = 5
00_quickstart | policy=policy-9b | 'policy-9b'
00_quickstart | prm=prm-9b | 'prm-9b'
00_quickstart | prms=[] | need a PRM
00_quickstart | problem= | problem
00_quickstart | answer= | answer
00_quickstart | answer="  " | answer
00_quickstart | explored=[pocket-main] | explored must be a mapping
00_quickstart | explored={pocket-main: x} | explored
00_quickstart | explored={nowhere: 1} | 'nowhere'
00_quickstart | explored={pocket-main: 0} | at least 1
00_quickstart | aggregate=mean | aggregate
00_quickstart | samples=4 | samples
02_reward_models | dials=dial:0,0 | dials must be a list
02_reward_models | dials=["dial:7,0"] | dial:7,0
02_reward_models | dials=[prm-9b] | 'prm-9b'
02_reward_models | dials=[0.1] | dials
03_policy_scaling | peek=0 | peek must be at least 1
03_policy_scaling | peek=few | peek must be a whole number
04_difficulty_bins | difficulty_samples=0 | difficulty_samples must be at least 1
04_difficulty_bins | difficulty_samples=x | difficulty_samples
04_difficulty_bins | peek=4 | peek
05_compute_optimal | peek=-1 | peek
05_compute_optimal | peek=1.5 | peek
05_compute_optimal | difficulty_samples=[] | difficulty_samples
06_small_vs_large | more_prms=[prm-9b] | 'prm-9b'
06_small_vs_large | more_prms=prm-qwen-28k | more_prms must be a list
06_small_vs_large | more_policies=[policy-9b] | 'policy-9b'
06_small_vs_large | more_policies=[1] | more_policies
07_flops_comparison | method=mcts | 'mcts'
07_flops_comparison | method=[dvts] | method must be text
07_flops_comparison | method=7 | method must be text
08_long_cot | long_policies=[] | long_policies
08_long_cot | long_policies=[policy-9b] | 'policy-9b'
08_long_cot | long_policies=[policy-51k-long, policy-94k-long] | as many as policies
08_long_cot | long_samples=0 | long_samples
08_long_cot | long_samples=x | long_samples
08_long_cot | method=mcts | 'mcts'
09_findings | searchers=[policy-9b] | 'policy-9b'
09_findings | searchers=policy-6k | searchers must be a list
09_findings | search_prms=[prm-9b] | 'prm-9b'
09_findings | weak_prm=prm-9b | 'prm-9b'
09_findings | weak_prm=[prm-qwen-28k] | weak_prm must be text
09_findings | long_cot=[policy-51k] | long_cot must be a mapping
09_findings | long_cot={policy-9b: policy-51k-long} | 'policy-9b'
09_findings | long_cot={policy-51k: 3} | long_cot
10_train_pocket | names=[policy-9b] | policy-9b
10_train_pocket | names=policy-6k | names must be a list
10_train_pocket | names=[3] | names
10_train_pocket | output= | output
10_train_pocket | scratch=[x] | scratch
"""

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
    for line in OF_GRIDS.strip().splitlines():
        parameter, *said = line.split(" | ")
        found.append((["run", "01_tts_methods", "-p", parameter.encode().decode("unicode_escape")], said))
    for line in OF_ONE.strip().splitlines():
        notebook, parameter, *said = line.split(" | ")
        found.append((["run", notebook, "--preset", "smoke", "-p", parameter], said))
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
