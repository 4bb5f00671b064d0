"""A model that a GPU has no room for."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import LlamaForCausalLM

from tts.models import loading
from tts.models.hub import ModelError


def test_a_model_that_the_gpu_has_no_room_for_says_what_would_fit(tiny_lm, monkeypatch):
    held = {"mem_get_info": (3 << 30, 24 << 30), "memory_reserved": 2 << 30, "memory_allocated": 1 << 30, "get_device_name": "GPU of 24 GB"}
    for name, value in held.items():
        monkeypatch.setattr(torch.cuda, name, lambda *device, value=value: value)
    monkeypatch.setattr(loading, "placement", lambda location: ("cuda", torch.bfloat16))

    def no_room(model, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ...")

    monkeypatch.setattr(LlamaForCausalLM, "to", no_room)
    with pytest.raises(ModelError) as raised:
        loading.load_causal_lm(str(tiny_lm))
    assert re.fullmatch(
        r".* does not fit on GPU of 24 GB: its weights alone take 0.0 GiB in bfloat16, and 4.0 of 24.0 GiB are free; "
        r"choose a model of at most 2.1 billion parameters, end what else is on the GPU, or serve .*\)",
        str(raised.value),
    )
