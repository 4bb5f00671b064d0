"""Child processes of tests."""

from __future__ import annotations

import signal


def heed_ctrl_c() -> None:
    """Undoes an ignored Ctrl-C, which a child of a background job inherits (for ``preexec_fn``)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
