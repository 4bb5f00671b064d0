"""Tests are offline; tiny models with random but known weights stand in for the trained ones.

What a fixture needs it imports itself: pytest-xdist's first process reads this file too, before it starts those that run tests.
"""

from __future__ import annotations

import gc
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TTS_PROCESSES", "1")  # starting processes for a handful of tiny chunks takes longer than making them

import pytest

from tts.common import quick_imports  # noqa: F401

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C, and so would its children

LONGEST = (
    *("test_study.py", "test_engines.py", "test_ray_pool.py", "test_store.py", "test_torture.py", "test_local_pool.py"),
    *("test_step_reuse.py", "test_grades.py", "test_dry_run.py", "test_rescoring.py", "test_fork_server.py"),
)
"""Files most of whose tests start processes, servers or notebooks, or generate for seconds, the longest first.

Those that wait most, for servers, come while the first runs all notebooks in processes of its own.
"""


def pytest_collection_modifyitems(items):
    """Files that take long are slow, and start first: started last, one would keep one process busy long after the other has ended."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        if item.path.name in LONGEST:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """What was imported stays: a garbage collection need not look at it, a quarter of a second each time."""
    gc.collect()
    gc.freeze()


def _vocabulary() -> dict:
    from tts.tasks import pocket_tokenizer

    built = pocket_tokenizer.build()
    return {"vocab_size": len(built), "eos_token_id": built.eos_token_id, "pad_token_id": built.pad_token_id, "bos_token_id": None}


@pytest.fixture(scope="session")
def tiny_lm(tmp_path_factory):
    """A folder with a random Llama (grouped-query attention) and the pocket tokenizer."""
    import torch
    from shapes import SHAPE
    from transformers import LlamaConfig, LlamaForCausalLM

    from tts.tasks import pocket_tokenizer

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **_vocabulary(), initializer_range=0.3))
    folder = tmp_path_factory.mktemp("tiny-shepherd")
    model.save_pretrained(folder)
    pocket_tokenizer.build().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_qwen_prm(tmp_path_factory):
    """A folder with a random Qwen2.5-Math-PRM and a ChatML tokenizer."""
    import torch
    from shapes import SHAPE
    from transformers import Qwen2Config

    from tts.reward_models.qwen_prm import Qwen2ForProcessRewardModel
    from tts.tasks import pocket_tokenizer

    torch.manual_seed(1)
    model = Qwen2ForProcessRewardModel(Qwen2Config(**SHAPE, **_vocabulary(), initializer_range=0.3))
    folder = tmp_path_factory.mktemp("tiny-qwen-prm")
    model.save_pretrained(folder)
    pocket_tokenizer.build(pocket_tokenizer.CHATML_TEMPLATE).save_pretrained(folder)
    return folder
