"""``gpu_check.sh``: what becomes of its stages. The whole runs on a CPU with ``DEVICE=cpu VENV=.venv tests/benchmarks/gpu_check.sh``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location

import psutil
import pytest

from tts.common.paths import ROOT
from tts.models.loading import load_tokenizer

SCRIPT = ROOT / "tests" / "benchmarks" / "gpu_check.sh"


@pytest.fixture(scope="module")
def check():
    spec = spec_from_file_location("gpu_check", SCRIPT.with_suffix(".py"))
    module = sys.modules["gpu_check"] = module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_check"]


@pytest.fixture
def stage(check, tmp_path, monkeypatch):
    """Runs a stage of commands in Python."""
    monkeypatch.setattr(check, "FOLDER", tmp_path)

    def run(*codes, limit=20.0, device="cpu", **environment):
        return check.run(check.Stage("one", limit, [[sys.executable, "-c", code] for code in codes], environment), device)

    return run


def test_the_limits_come_to_ten_minutes(check):
    stages = check.stages("cuda", "python", "python", check.QUICK | {"vllm": True})
    assert sum(stage.limit for stage in stages) == 600
    assert len({stage.name for stage in stages}) == len(stages) == 10


def test_a_stage_keeps_its_numbers_and_a_failed_one_its_last_lines(stage, monkeypatch):
    entry = stage("print('said'); print('{\"tokens\": 5}')", "print('{\"more\": 6}')")
    assert (entry["status"], entry["numbers"]) == ("ok", {"tokens": 5, "more": 6}) and "error" not in entry
    entry = stage("print('{\"tokens\": 5}')", "raise ValueError('no room')", "print('{\"more\": 6}')")
    assert (entry["status"], entry["numbers"]) == ("failed with status 1", {"tokens": 5})
    assert entry["error"][-1] == "ValueError: no room"
    assert stage('print(\'{"status": "3 differ"}\')')["status"] == "3 differ"


def test_a_stage_that_was_to_use_the_gpu_and_did_not_is_told(stage):
    code = 'print(\'{"where": ["NVIDIA L4, 8 at once", "cpu with 1 threads, 8 at once"]}\')'
    assert stage(code, device="cuda")["status"] == "ran on the CPU"
    assert stage(code, device="cuda", CUDA_VISIBLE_DEVICES="")["status"] == stage(code)["status"] == "ok"
    assert stage(code.replace("cpu with 1 threads", "L4"), device="cuda")["status"] == "ok"


def test_a_stage_that_runs_out_of_time_ends_with_what_it_started(stage, tmp_path):
    note = tmp_path / "pid"
    child = "import time; time.sleep(600)"
    code = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    code += f"open({str(note)!r}, 'w').write(str(child.pid)); child.wait()"
    assert stage(code, limit=3.0)["status"] == "out of time"
    until = time.monotonic() + 60
    while psutil.pid_exists(int(note.read_text())):  # its new parent has to notice its end
        assert time.monotonic() < until
        time.sleep(0.1)


def test_rows_of_a_benchmark_are_read_by_their_label(check, capsys, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from rounds import Report

    report = Report("a title, with 3 words 4")
    report.row("pool: tokens per second", [1200.0, 900.0, 1500.0], form=",.0f")
    report.ratio("vllm: pool over vLLM called directly", [3.0, 2.0], [2.0, 2.0], "0.95 or more")
    found = check.rows(capsys.readouterr().out)
    assert found == {"pool: tokens per second": [1200.0, 900.0, 1500.0], "vllm: pool over vLLM called directly": [1.25, 1.0, 1.5]}


def test_greedy_solutions_that_part_are_listed_with_the_gap(check, tmp_path):
    tokenizer = load_tokenizer(str(ROOT / "data" / "models" / "policy-6k"))
    prompt, tokens = tokenizer("7,+8=?")["input_ids"], tokenizer("7+8=15")["input_ids"]
    sides = {"ours": tokens, "same": tokens, "other": [*tokens[:2], tokens[2] + 1, *tokens[3:]], "longer": [*tokens, tokens[0]]}
    for name, ids in sides.items():
        (tmp_path / name).write_text(json.dumps([("p", prompt, ids)]))
    found = {name: check.compare("policy-6k", str(tmp_path / "ours"), str(tmp_path / name)) for name in sides}
    assert found["same"] == {"solutions": 1, "equal": 1, "near-ties": [], "apart": []}
    [tie] = found["other"]["apart"]
    assert (tie["problem"], tie["token"], tie["CPU"]) == ("p", 2, tokenizer.decode(tokens[2:3])) and abs(tie["gap"]) > check.NEAR_TIE
    assert found["other"]["status"] == "1 solutions differ by more than rounding"
    assert found["longer"]["apart"] == [{"problem": "p", "lengths": [len(tokens), len(tokens) + 1], "gap": None}]


def test_without_a_gpu_the_script_says_so_in_one_line(tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho no devices were found\nexit 6\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "VENV": str(tmp_path / "venv")}
    done = subprocess.run([SCRIPT], capture_output=True, text=True, env=environment)
    assert done.stderr == "error: nvidia-smi finds no GPU here (no devices were found); DEVICE=cpu VENV=.venv tries the script itself\n"
    assert done.returncode == 2 and not (tmp_path / "venv").exists()
