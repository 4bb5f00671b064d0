"""What ``tts doctor`` says of lacks, and what it ends with."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch
from typer.testing import CliRunner

from tts.engine import cpu_kernels
from tts.study import cli, doctor
from tts.training.pocket.recipes import POLICIES


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def asked(code):
    """The checks by name, of a call that ends with a code."""
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert done.exit_code == code, done.output
    return {check["name"]: check for check in json.loads(done.output)}


def test_a_whole_checkout_is_fine(monkeypatch):
    found = asked(0)
    assert not any(check["lack"] for check in found.values() if check["needed"])
    assert found["Python"]["found"].endswith(sys.executable) and f"{len(POLICIES)} policies" in found["checkout"]["found"]
    assert found["network"]["lack"].startswith("HF_HUB_OFFLINE=1: ")
    said = CliRunner().invoke(cli.app, ["doctor"]).output.splitlines()
    assert len(said) == len(found) + 1, "one line for each check; two of them are of the network"


def test_a_lack_that_only_costs_ends_with_0(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "kernels", lambda: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = asked(0)
    assert "small models run slower" in found["C compiler"]["lack"] and "install TeX Live" in found["LaTeX"]["lack"]


def test_packages_are_held_against_the_lock_and_the_ranges(monkeypatch, tmp_path):
    (tmp_path / "requirements.lock").write_text("numpy==1.0\nno-such-package==3\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["numpy<1", "Rich", 'no-such-package>=2; extra == "gguf"'])
    found = asked(1)
    assert found["packages"]["lack"] == "missing or of another version: numpy; pip install -r requirements.lock"
    assert found["requirements.lock"]["found"] == "1 of 2 packages have another version"
    assert f"numpy {doctor.metadata.version('numpy')} for 1.0" in found["requirements.lock"]["lack"]
    assert found["extra gguf"]["lack"] == "GGUF files are no policies; pip install -e '.[gguf]'"


def test_outside_of_a_checkout_the_default_study_cannot_run(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "NOTEBOOKS", tmp_path / "notebooks")
    found = asked(1)
    assert "git clone" in found["checkout"]["lack"] and "store" not in found


def test_folders_that_cannot_be_written_or_are_full(monkeypatch):
    def refuse(dir):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as context:
        context.setattr(doctor.tempfile, "TemporaryFile", refuse)
        assert asked(1)["store"]["lack"] == "Read-only file system; mend that, or choose another: -p store=FOLDER"
    monkeypatch.setattr(doctor, "SPACE", 1e9)
    assert asked(1)["figures"]["lack"].startswith("the default study takes ")


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *given):
        pass


def test_a_server_that_refuses_is_reached_and_one_that_is_gone_is_not():
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    url = f"http://127.0.0.1:{server.server_port}/"
    Thread(target=server.serve_forever, daemon=True).start()
    refused = {}
    doctor._ask(url, refused)
    server.shutdown()
    server.server_close()
    assert refused == {url: ""}
    doctor._ask(url, refused)
    assert "refused" in refused[url]


def test_a_gpu_that_torch_cannot_use_and_one_without_bfloat16(monkeypatch, tmp_path):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(doctor, "NVIDIA", str(tmp_path / "nvidia0"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cuda, why in ((None, "a CPU build"), ("13.0", "its driver is too old, or the GPU is lost")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        assert doctor._gpu().lack.startswith(f"torch {torch.__version__} cannot use it ({why}): mend that; until then too slow")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (14 << 30, 15 << 30))
    for ampere in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, ampere=ampere: ampere)
        found = doctor._gpu()
        assert found.found == "Tesla T4, 14 GiB free" and found.lack[:11] == ("" if ampere else "no bfloat16")
