"""Where the checkout's folders are."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
NOTEBOOKS = ROOT / "notebooks"


def commit() -> str:
    """The checkout's commit, or ``unknown`` outside of one."""
    said = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    return said.strip() or "unknown"
