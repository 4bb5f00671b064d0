"""The stages of ``gpu_check.sh``: each a process of its own with a time limit, and what became of it in one JSON file.

Standard library only, but for what ``--work`` runs in those processes: what could not be installed or loaded is then a stage that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "data" / "cache" / "gpu-check"
POLICY, PRM = "Qwen/Qwen2.5-0.5B-Instruct", "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B"  # the smallest of the preset paper
POCKET, POCKET_PRM = "policy-51k", "prm-qwen-54k"
TINY, TINY_PRM = "policy-6k", "prm-qwen-28k"
WORDS = "reasoning-gym:leg_counting,min_animals=2,max_animals=4"  # what laptop-policy was trained on
NEAR_TIE = 1e-2  # in logits: what rounding in float32 may turn round
TAIL = 15  # lines of a failed stage's output that are kept
VLLM = {"gpu_memory_utilization": 0.4, "enforce_eager": True}  # room for a PRM, and no minute of compiling


@dataclass
class Stage:
    """Commands that run one after the other, for so many seconds in sum."""

    name: str
    limit: float
    commands: list[list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    read: Callable[[str], dict] = lambda text: told(text)  # from their output to numbers, as far as they came


def told(text: str) -> dict:
    """What the lines that are JSON objects hold together."""
    found: dict = {}
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found |= json.loads(line)
            except ValueError:
                continue
    return found


def rows(text: str) -> dict:
    """The rows of a benchmark's report (``rounds.py``): median, lowest and highest by their label."""
    found = {}
    for line in text.splitlines():
        parts = line.split()
        try:
            figures = [float(part.replace(",", "")) for part in parts[:3]]
        except ValueError:
            continue
        if len(figures) == 3 and len(parts) > 3:
            found[line[48:].strip()] = figures
    return found


def log_of(stage: Stage) -> Path:
    return FOLDER / (stage.name.replace(" ", "-").replace(":", "") + ".log")


def run(stage: Stage, device: str) -> dict:
    """Runs a stage; gives its entry of the file."""
    began, environment = time.monotonic(), dict(os.environ) | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"} | stage.environment
    if device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "VLLM_CPU_KVCACHE_SPACE": "1"}
    status, output = "ok", ""
    with log_of(stage).open("w+", encoding="utf-8", errors="replace") as file:
        for command in stage.commands:
            left, process = stage.limit - (time.monotonic() - began), None
            try:
                process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True)
                status = "ok" if (code := process.wait(max(1, left))) == 0 else f"failed with status {code}"
            except subprocess.TimeoutExpired:
                status = "out of time"
            except OSError as error:
                status = f"failed: {error}"
            finally:
                if process:
                    _end(process)
            if status != "ok":
                break
        file.seek(0)
        output = file.read()
    numbers = stage.read(output)
    if device == "cuda" and "CUDA_VISIBLE_DEVICES" not in stage.environment and any("cpu with" in where for where in _where(numbers)):
        numbers["status"] = "ran on the CPU"
    entry = {"name": stage.name, "status": numbers.pop("status", status) if status == "ok" else status, "limit": stage.limit}
    entry |= {"seconds": round(time.monotonic() - began, 1), "numbers": numbers}
    return entry if status == "ok" else entry | {"error": output.strip().splitlines()[-TAIL:]}


def _where(numbers: dict) -> list[str]:
    return where if isinstance(where := numbers.get("where", []), list) else [where]


def _end(process: subprocess.Popen) -> None:
    """Ends a process with those that it started, which hold the GPU's memory."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def stages(device: str, python: str, vllm_python: str, models: dict) -> list[Stage]:
    """What is run; ``models`` are those that were fetched. The limits come to ten minutes."""

    def work(name: str, *arguments: object, vllm: bool = False) -> list[str]:
        return [vllm_python if vllm else python, __file__, "--work", name, *map(str, arguments)]

    def tts(*arguments: str) -> list[str]:
        return [python, "-m", "tts", *arguments]

    def kept(name: str) -> list[str]:
        return ["-p", f"store={FOLDER / 'runs' / name}", "-p", f"figures={FOLDER / 'figures' / name}"]

    vllm = {"TTS_VLLM": json.dumps(VLLM | ({"block_size": 32} if device == "cpu" else {})), "VLLM_LOGGING_LEVEL": "WARNING"}
    one = {"TTS_PROCESSES": "1"}
    solve = (models["greedy"], models["greedy_set"], models["greedy_count"], models["greedy_tokens"])
    answers = {name: FOLDER / f"greedy-{name}.json" for name in ("cpu", "ours", "vllm")}
    panel = f"problems={{{models['set']}: {models['count']}}}"
    asked = ["-p", f"policy={models['policy']}", "-p", f"prm={models['prm']}", "-p", panel, "-p", "samples=8", "-p", "budgets=[4, 8]"]
    asked += ["-p", f"max_tokens={models['panel_tokens']}", *([] if models["set"] == "math500" else ["-p", "split=test"])]
    bench = [str(Path(__file__).parent / "bench_real.py"), *models["bench"]]
    return [
        Stage("doctor", 30, [tts("doctor")], read=lambda text: {"lines": text.strip().splitlines()}),
        Stage(
            "smoke, our engine",
            90,
            [tts("run", "00_quickstart", "01_tts_methods", "--preset", "smoke", *kept("smoke")), work("told", FOLDER / "runs" / "smoke")],
            one,
        ),
        Stage("smoke, vLLM", 120, [work("fill", FOLDER / "runs" / "smoke-vllm", f"vllm:{models['pocket']}", vllm=True)], vllm),
        # Both sides of the second comparison are the CPU's where there is no GPU: compiled operations and torch's own.
        Stage("greedy on the CPU", 30, [work("solve", answers["cpu"], *solve)], {"CUDA_VISIBLE_DEVICES": ""}),
        Stage("greedy on the device", 25, [work("solve", answers["ours"], *solve)], {"TTS_CPU_KERNELS": "0"}),
        Stage("greedy by vLLM", 60, [work("solve", answers["vllm"], f"vllm:{solve[0]}", *solve[1:], vllm=True)], vllm),
        Stage("greedy, device with CPU", 15, [work("compare", solve[0], answers["cpu"], answers["ours"])], {"CUDA_VISIBLE_DEVICES": ""}),
        Stage("greedy, vLLM with CPU", 15, [work("compare", solve[0], answers["cpu"], answers["vllm"])], {"CUDA_VISIBLE_DEVICES": ""}),
        Stage(
            "panel of paper",
            125,
            [tts("run", "01_tts_methods", "--preset", "paper", *asked, *kept("panel")), work("told", FOLDER / "runs" / "panel")],
            one | vllm,
        ),
        Stage(
            "bench-real",
            90,
            [[vllm_python, *bench] if models["vllm"] else [python, *bench, "--without-vllm"]],
            {"QUICK": "1", "ROUNDS": "2" if device == "cuda" else "1", "HF_HUB_OFFLINE": "1"} | vllm,
            rows,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--vllm-python", default=sys.executable)
    parser.add_argument("--installed", type=int, default=0, help="exit status of what was installed before")
    parser.add_argument("--seconds", type=float, default=0, help="that installing took")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of the time limits; at 1 they come to ten minutes")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of the stages to run")
    options = parser.parse_args()
    try:
        options.out.write_text("{}\n")
    except OSError as error:
        parser.error(f"--out {options.out}: {error}")
    names = [stage.name for stage in stages(options.device, sys.executable, options.vllm_python, QUICK | {"vllm": False})]
    if unknown := [part for part in options.only if not any(part in name for name in names)]:
        parser.error(f"--only {unknown[0]}: no stage has that in its name; there are {'; '.join(names)}")
    for old in ("runs", "figures"):  # of an earlier check, with which nothing would be left to do
        shutil.rmtree(FOLDER / old, ignore_errors=True)
    for answers in FOLDER.glob("greedy-*.json"):
        answers.unlink()
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / "install.log"
    report: dict = {"machine": machine(sys.executable, options.vllm_python), "device": options.device, "stages": []}
    if options.installed:
        said = log.read_text(errors="replace").strip().splitlines()[-TAIL:] if log.exists() else []
        report["stages"].append({"name": "install", "status": "failed", "seconds": options.seconds, "numbers": {}, "error": said})
        print("install failed", *said[-1:], sep="\n    ")

    def add(stage: Stage) -> dict:
        print(f"{stage.name} (at most {stage.limit:.0f} s) ...", end=" ", flush=True)
        entry = run(stage, options.device)
        report["stages"].append(entry)
        told = json.dumps(report, indent=1).replace(str(ROOT), ".").replace(str(Path.home()), "~")
        options.out.write_text(told + "\n")  # after each, so that nothing is lost where this is stopped
        late = [f"its output: {log_of(stage)}; --patience 2 gives each stage twice the time"] if entry["status"] == "out of time" else []
        print(f"{entry['status']}, {entry['seconds']:.0f} s", *(late or entry.get("error", [])[-1:]), sep="\n    ", flush=True)
        return entry

    fetch = [sys.executable, __file__, "--work", "fetch", options.device]
    models = QUICK | add(Stage("models", 1800, [fetch]))["numbers"]
    models["vllm"] = subprocess.run([options.vllm_python, "-c", "import vllm"], capture_output=True).returncode == 0
    began = time.monotonic()
    for stage in stages(options.device, sys.executable, options.vllm_python, models):
        stage.limit *= options.patience
        if not options.only or any(part in stage.name for part in options.only):
            add(stage)
    entries = report["stages"]
    print(f"{sum(e['status'] == 'ok' for e in entries)} of {len(entries)} stages ok, {time.monotonic() - began:.0f} s without downloads")
    print(f"paste this file into an issue: {options.out.resolve()}")
    return 0 if all(entry["status"] == "ok" for entry in entries) else 1


def machine(python: str, vllm_python: str) -> dict:
    """The GPU, its driver, the versions that compute, and the suite's commit."""
    code = (
        "import importlib.metadata as m, json; v = {d.metadata['Name']: d.version for d in m.distributions()}; "
        "print(json.dumps({n: v[n] for n in ('torch', 'transformers', 'vllm', 'vllm-cpu') if n in v}))"
    )
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.used,driver_version,compute_cap", "--format=csv,noheader"]
    found = {
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
        "gpus": [dict(zip(("name", "memory", "used", "driver", "capability"), line.split(", "))) for line in _said(*query).splitlines()],
        "cpu": {"cores": os.cpu_count(), "machine": platform.machine(), "system": platform.system()},
        "python": platform.python_version(),
        "versions": told(_said(python, "-c", code)),
    }
    return found | ({"versions of vLLM's environment": told(_said(vllm_python, "-c", code))} if vllm_python != python else {})


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


# -- what the stages' processes do ------------------------------------------------------------------------------

# Tiny models, where there is no GPU or nothing could be fetched.
QUICK = {
    "pocket": TINY,
    "greedy": TINY,
    "greedy_set": "pocket-main",
    "greedy_count": 20,
    "greedy_tokens": 120,
    "policy": TINY,
    "prm": TINY_PRM,
    "set": "pocket-main",
    "count": 4,
    "panel_tokens": 120,
    "bench": [str(FOLDER / "tiny"), "policy-500m"],
}


def fetch(device: str) -> dict:
    """Fetches what the stages need, and says which models they are: the Hub's, else random ones of their size, or tiny ones."""
    import real_models

    from tts.models.files import folder_of
    from tts.models.locate import locate
    from tts.tasks.problems import load_problems

    if device == "cpu":
        small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
        real_models.build(FOLDER / "tiny", real_models.QWEN | small)
        return QUICK | {"models": "tiny ones: there is no GPU"}
    real_models.build(FOLDER / "models")
    chosen = {"pocket": POCKET, "greedy": "laptop-policy", "greedy_set": WORDS, "greedy_count": 12, "greedy_tokens": 160}
    chosen |= {"bench": [str(FOLDER / "models"), "policy-135m"]}
    try:
        for name in (POLICY, PRM):
            folder_of(locate(name), weights=True)
        load_problems("math500", 20, "all")
        return chosen | {"policy": POLICY, "prm": PRM, "set": "math500", "count": 20, "panel_tokens": 1024, "models": "the Hub's"}
    except (ValueError, OSError) as error:
        models = {"policy": str(FOLDER / "models" / "policy-500m"), "prm": f"qwen-prm:{FOLDER / 'models' / 'qwen-prm-500m'}"}
        said = f"random ones of 0.5B, whose answers mean nothing: {str(error).splitlines()[0]}"
        return chosen | models | {"set": WORDS, "count": 20, "panel_tokens": 256, "models": said}


def fill(folder: str, policy: str) -> dict:
    """A study in small by vLLM: policy and PRM, every kind of run."""
    from tts.generate.grid import Grid
    from tts.generate.runner import fill as make
    from tts.store.store import Store

    names = {"policies": [policy], "prms": [f"vllm:{POCKET_PRM}"]}
    chunks = make(Grid(problems={"pocket-main": 6}, samples=8, budgets=[4, 8], batch=16, **names), Store(folder))
    return {"chunks": chunks} | runs(folder)


def runs(folder: str) -> dict:
    """What a store's runs say of where they were made and how fast."""
    from tts.store.store import Store

    clocks = [run.clock() for run in Store(folder).runs()]
    generated, read = sum(clock.generated for clock in clocks), sum(clock.read for clock in clocks)
    policy, prm = sum(clock.policy for clock in clocks), sum(clock.prm for clock in clocks)
    return {
        "where": sorted({clock.where for clock in clocks}),
        "tokens generated": generated,
        "tokens read": read,
        "generated a second": round(generated / policy) if policy else None,
        "read a second": round(read / prm) if prm else None,
    }


def solve(out: str, name: str, problem_set: str, count: str, tokens: str) -> dict:
    """Greedy solutions of some problems, into a file."""
    from tts.generate.chunks import Engines
    from tts.policies import open_policy
    from tts.search import sample_pool
    from tts.search.driver import Driver
    from tts.search.sampling import Sampling
    from tts.tasks import task_of
    from tts.tasks.problems import load_problems

    policy = open_policy(name, Sampling(temperature=0, max_tokens=int(tokens)), 16, task_of(problem_set))
    roots = [policy.root(problem["id"], problem["problem"]) for problem in load_problems(problem_set, int(count))]
    began = time.perf_counter()
    outcomes = Driver(policy).run([(root, sample_pool(root, 1)) for root in roots])
    seconds = time.perf_counter() - began
    solutions = [(root.problem_id, list(root.prompt), list(outcome.trajectories[0].tokens)) for root, outcome in zip(roots, outcomes)]
    Path(out).write_text(json.dumps(solutions))
    written = sum(len(tokens) for *_, tokens in solutions)
    return {"policy": name, "solutions": len(solutions), "tokens a second": round(written / seconds), "where": Engines(16).where(policy)}


def compare(name: str, ours: str, theirs: str) -> dict:
    """Where greedy solutions part, and by how much the CPU's model prefers its own token there."""
    import torch

    from tts.models.loading import load_causal_lm, load_tokenizer
    from tts.models.locate import locate

    model, tokenizer, ties = load_causal_lm(locate(name)), load_tokenizer(locate(name)), []
    pairs = list(zip(json.loads(Path(ours).read_text()), json.loads(Path(theirs).read_text())))
    for (problem, prompt, a), (other, _, b) in pairs:
        assert problem == other, "the sides solved other problems"
        if a == b:
            continue
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
        if at is None:
            ties.append({"problem": problem, "lengths": [len(a), len(b)], "gap": None})
            continue
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *a[:at]]])).logits[0, -1].float()
        tie = {"problem": problem, "token": at, "CPU": tokenizer.decode([a[at]]), "other": tokenizer.decode([b[at]])}
        ties.append(tie | {"gap": float(logits[a[at]] - logits[b[at]])})
    apart = [tie for tie in ties if tie["gap"] is None or abs(tie["gap"]) > NEAR_TIE]
    status = {"status": f"{len(apart)} solutions differ by more than rounding"} if apart else {}
    return status | {
        "solutions": len(pairs),
        "equal": len(pairs) - len(ties),
        "near-ties": [t for t in ties if t not in apart],
        "apart": apart,
    }


WORK: dict[str, Callable[..., dict]] = {"fetch": fetch, "fill": fill, "told": runs, "solve": solve, "compare": compare}


def worker(name: str, arguments: Sequence[str]) -> None:
    """One piece of work; its result is a line of JSON."""
    print("\n" + json.dumps(WORK[name](*arguments)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        worker(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
