"""Drawing of tokens against NumPy's sums, in vocabularies of one block and of many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tts.engine import cpu_kernels
from tts.engine.drawing import BLOCK, choose

LARGEST = 1 - 2.0**-53  # of the numbers below 1
vocabularies = st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 9])


def by_numpy(weights: np.ndarray, rows: np.ndarray, uniform: np.ndarray) -> list[int]:
    sums = weights.astype(np.float64).cumsum(1)
    return [int(np.searchsorted(sums[row], u * sums[row, -1], side="right")) for row, u in zip(rows, uniform)]


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 1 << 30),
    vocabularies,
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.sampled_from([0.3, 1.0]),
    st.sampled_from(cpu_kernels.FORMATS),
)
def test_tokens_lie_where_their_numbers_fall_with_and_without_compiled_operations(seed, vocabulary, of, top_p, dtype):
    generator, rows = torch.Generator().manual_seed(seed), torch.tensor(sorted(of))
    logits = 3 * torch.randn(5, vocabulary, generator=generator)
    logits[:, :: 1 + seed % 4] = -torch.inf  # weights of nothing, some of them last
    logits[:, vocabulary // 2] = 1.0
    logits = logits.to(dtype)
    uniform = torch.rand(len(rows), generator=generator, dtype=torch.float64)
    uniform[seed % len(rows)] = [0.0, LARGEST][seed % 2]
    weights, order = (logits.float() / 0.7).softmax(-1).numpy(), np.arange(vocabulary)[None].repeat(5, 0)
    if top_p < 1:
        order = np.argsort(-weights, axis=1, kind="stable")
        weights = np.take_along_axis(weights, order, 1)
        weights = np.where(weights.cumsum(1) - weights >= top_p, 0, weights)
    expected = [int(order[row, place]) for row, place in zip(rows, by_numpy(weights, rows.numpy(), uniform.numpy()))]
    assert choose(logits, rows, uniform, 0.7, top_p).tolist() == expected
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cpu_kernels, "kernels", lambda: None)
        assert choose(logits, rows, uniform, 0.7, top_p).tolist() == expected


@pytest.mark.parametrize("vocabulary", [5, 2 * BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_logits_that_are_no_numbers_give_no_token(vocabulary, number, top_p):
    logits, uniform = torch.zeros(2, vocabulary), torch.tensor([0.0, 0.5, LARGEST], dtype=torch.float64)
    logits[1, 3] = number
    tokens = choose(logits, torch.tensor([0, 1, 1]), uniform, 1.0, top_p).tolist()
    assert tokens[0] == 0 and tokens[1:] == [-1, -1]
    assert choose(logits, torch.tensor([0, 1, 1]), uniform, 0, top_p).tolist() == [0, -1, -1]
