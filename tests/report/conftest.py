"""What tests of figures share."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from tts.report import style


@pytest.fixture
def as_before():
    """Figures in the default look; they are closed, and the look is the default one again."""
    style.use()
    yield
    plt.close("all")
    style.use()
    assert plt.rcParams["font.family"] == ["sans-serif"], "of the look before"
