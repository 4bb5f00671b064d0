"""The estimate from the FLOPs model, and the preset of the study's own size."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.testing import CliRunner

from tts.analysis import gpu_hours
from tts.analysis.flops import Shape
from tts.analysis.gpu_hours import Assumptions
from tts.common.paths import ROOT
from tts.generate.grid import Grid
from tts.models.hub import ModelError
from tts.study import cli, presets

PAGE = ROOT / "docs" / "running_at_scale.md"
BLOCK = re.compile(r"<!-- python -m tts (?P<command>estimate .*?) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
POLICY, PRM = "Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-Math-PRM-7B"


def grid(**changes):
    values = {"problems": {"math500": 10}, "policies": [POLICY], "prms": [PRM], "samples": 16, "budgets": [4, 16], "max_tokens": 8192}
    return Grid(**(values | changes))


def test_tokens_flops_and_hours_by_hand():
    """600 tokens a solution: CoT and 16 samples; beam search at 4 and 16, DVTS at 16; the PRM reads those and the samples."""
    assumed = Assumptions(prompt=0.0, peak=1e15, decoding=0.1, reading=0.5)
    alone, guided = gpu_hours.table([grid()], assumed).to_dict("records")
    assert (alone["policy"], alone["prm"], guided["prm"]) == (POLICY, "samples", PRM)
    assert alone["generated"] == 10 * 600 * (1 + 16) and alone["read"] == 0
    assert guided["generated"] == 10 * 600 * (4 + 16 + 16) and guided["read"] == 10 * 600 * (4 + 16 + 16 + 16)
    context = 601 / 2
    decode = guided["generated"] * (2 * 3e9 + 4 * 36 * 2048 * context)
    reading = guided["read"] * (2 * 7e9 + 4 * 28 * 3584 * context)
    assert guided["flops"] == pytest.approx(decode + reading)
    assert guided["hours"] == pytest.approx((decode / 0.1 + reading / 0.5) / 1e15 / 3600)


def test_runs_that_notebooks_share_count_once_and_other_sampling_anew():
    assumed = Assumptions()
    once = gpu_hours.table([grid()], assumed)["generated"].sum()
    assert gpu_hours.table([grid(), grid(budgets=[16]), grid(problems={"math500": 5})], assumed)["generated"].sum() == once
    assert gpu_hours.table([grid(), grid(temperature=0.6)], assumed)["generated"].sum() == pytest.approx(2 * once - 10 * 600)  # greedy CoT


def test_each_problem_set_has_its_length():
    found = gpu_hours.table([grid(problems={"math500:copy.jsonl": 10, "aime24": 10}, prms=[], methods=["majority"])], Assumptions())
    assert found["generated"].tolist() == [10 * 17 * (600 + 1200)]


@pytest.mark.parametrize("name", [POLICY, f"vllm:{POLICY}", f"http://localhost:8000/v1#{POLICY}", "qwen-prm:/models/Qwen2.5-3B-Instruct"])
def test_sizes_are_known_by_the_last_part_of_a_name(name):
    assert gpu_hours.size_of(name).parameters == 3e9


def test_a_local_folder_tells_its_size_and_what_nobody_knows_is_named():
    assert gpu_hours.size_of("policy-20k").parameters == 20_664
    with pytest.raises(ModelError, match="size of 'no/one' is not known; add a row for one to .*sizes.csv"):
        gpu_hours.size_of("no/one")


def test_tables_of_the_page_are_what_its_commands_print():
    """Rewritten by ``python tests/analysis/test_gpu_hours.py``."""
    page = PAGE.read_text()
    assert page == rewritten(page) and len(BLOCK.findall(page)) == 5
    assert all(name.rpartition("/")[2] in page for kind in ("policies", "prms") for name in presets.load_preset("paper").common[kind])


def test_hours_of_the_commands_are_those_of_the_tables():
    page = PAGE.read_text()
    tables = dict(zip(("8 GB", "24 GB", "80 GB"), [found["text"] for found in BLOCK.finditer(page) if "--gpu" in found["command"]]))
    for card, alone, guided, policy, prm in re.findall(
        r"^\| (\d+ GB) \| (\S+) \+ (\S+) \| .*vllm:\S+/(\S+) -p prm=\S+/(\S+)` \|$", page, re.M
    ):
        lines = [line.strip("| ").split(" | ") for line in tables.pop(card).splitlines() if line.startswith("|")]
        row = dict(zip(lines[0], next(line for line in lines if line[0] == policy)))
        assert (row["samples"].split()[0], row[prm].split()[0]) == (alone, guided)
    assert not tables


def rewritten(page):
    return BLOCK.sub(lambda found: f"<!-- python -m tts {found['command']} -->\n\n{printed(found['command'])}\n<!-- end -->", page)


def printed(command):
    return CliRunner().invoke(cli.app, shlex.split(command), catch_exceptions=False).stdout


def test_what_fits_on_a_gpu_by_hand(monkeypatch):
    """The weights' ten billion bytes leave ten; a token takes 1,000 bytes in the cache of one model, 2,000 in the other's."""
    shapes = {"a": Shape(2e9, 10, 100, kv_width=25), "b": Shape(3e9, 10, 50)}
    monkeypatch.setattr(gpu_hours, "size_of", shapes.get)
    monkeypatch.setattr(gpu_hours, "NOMINAL", 1.0)
    memory = 20e9 / gpu_hours.USABLE
    assert gpu_hours.sequences(["a"], memory, 1000) == 16_000
    assert gpu_hours.sequences(["a", "b"], memory, 1000) == gpu_hours.sequences(["b", "a"], memory, 1000) == 2500
    assert gpu_hours.sequences(["a", "b"], memory / 2, 1000) == gpu_hours.sequences(["a", "b"], memory / 3, 1000) == 0


def test_the_table_of_a_gpu_holds_the_pairs_that_fit_with_their_hours():
    found = gpu_hours.table([grid(policies=[POLICY, "Qwen/Qwen2.5-72B-Instruct"])], Assumptions())
    [_, _, head, _, *rows] = gpu_hours.fitting(found, 24, 8392).splitlines()
    assert head == "| policy | samples | Qwen2.5-Math-PRM-7B |" and len(rows) == 1
    hours = found[found.policy == POLICY].hours.tolist()
    counts = [gpu_hours.sequences(models, 24 << 30, 8392) for models in ([POLICY], [POLICY, PRM])]
    assert rows == [f"| Qwen2.5-3B-Instruct | {hours[0]:.2g} ({counts[0]}) | {hours[1]:.2g} ({counts[1]}) |"] and min(counts) > 0
    assert gpu_hours.fitting(found, 1, 8392) == "No model fits on one GPU of 1 GB."


def test_widths_of_caches_are_those_of_the_models_configs():
    assert gpu_hours.size_of("policy-20k").kv_width == gpu_hours.size_of("policy-20k").attention_width > 0
    assert {name: gpu_hours.size_of(name).kv_width for name in (POLICY, PRM)} == {POLICY: 2 * 128, PRM: 4 * 128}


def test_the_study_is_its_own_size():
    [whole] = [job.experiment().grid for job in paper("paper") if job.notebook == "01_tts_methods"]
    assert len(whole.policies) == 10 and len(whole.prms) == 7 and whole.problems == {"math500": 500, "aime24": 30} and whole.split == "all"
    assert whole.budgets == [4, 16, 64, 256] == [*whole.budgets[:-1], whole.samples] and whole.beam_width == 4
    sampling = whole.sampling()
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.max_step_tokens) == (0.7, 1.0, 8192, 2048)
    assert whole.max_steps == 40
    [long] = [job.experiment().grid.sampling() for job in paper("paper-r1") if job.notebook == "01_tts_methods"]
    assert (long.temperature, long.top_p, long.max_tokens) == (0.6, 0.95, 32768)


def test_one_panel_by_parameters():
    overrides = presets.parse_overrides([f"policy={POLICY}", f"prm={PRM}"])
    assert {(*job.experiment().grid.policies, *job.experiment().grid.prms) for job in paper("paper", overrides)} == {(POLICY, PRM)}


def paper(preset, overrides=None):
    return presets.plan(preset, overrides=overrides, look_up=False)


def test_a_step_ends_with_its_solution_where_that_is_shorter():
    """Else the keys of stored runs would change."""
    assert grid(max_tokens=320).sampling().max_step_tokens == 320
    assert grid(max_step_tokens=100).sampling().max_step_tokens == 100


def test_what_cannot_be_reached_is_said_in_one_line():
    with pytest.raises(ModelError) as raised:
        presets.plan("paper", overrides=presets.parse_overrides([f"policy={POLICY}", f"prm={PRM}"]))
    message = str(raised.value)
    assert "\n" not in message and "HF_HUB_OFFLINE is set" in message
    assert f"problem sets math500, aime24; policies {POLICY}; PRMs {PRM}; give local files and folders" in message


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
