"""The Hugging Face Hub, as far as it can be told without waiting: what is on this machine already, and whether the Hub answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

PATIENCE = 4.0  # seconds; the Hub's own client goes on trying for half a minute
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class HubError(ValueError):
    """Something that only the Hub has, while the Hub cannot be reached; the message says what to give instead."""


@cache
def unreachable() -> str | None:
    """Why the Hub cannot be reached, in a few words; None where it answers. Asked once a process."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # the client's library and its errors differ between releases of huggingface_hub
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def is_cached(repository: str, file: str = "config.json", kind: str = "model", revision: str | None = None) -> bool:
    """Whether a file of a repository has been downloaded before; ``kind`` is ``model`` or ``dataset``."""
    return isinstance(try_to_load_from_cache(repository, file, repo_type=kind, revision=revision), str)


def absent(models: Iterable[str]) -> list[str]:
    """Those of the models that would have to be downloaded; each is a name, folder or Hub name, perhaps after ``FAMILY:``."""
    names = ((model, model.rpartition(":")[2]) for model in models)
    return [model for model, name in names if _HUB_NAME.fullmatch(name) and not Path(name).exists() and not is_cached(name)]


def require(problem_sets: list[str], policies: list[str], prms: list[str]) -> None:
    """Refuses what would have to be downloaded while nothing can be.

    Raises:
        HubError: where there is any of it and the Hub does not answer within seconds; it names all of it.
    """
    needed = {"problem sets": problem_sets, "policies": policies, "PRMs": prms}
    if any(needed.values()) and (reason := unreachable()):
        what = "; ".join(f"{kind} {', '.join(names)}" for kind, names in needed.items() if names)
        raise HubError(
            f"the Hugging Face Hub cannot be reached ({reason}), and this machine does not have: {what}; "
            "give local files and folders instead (math500:path/to/problems.jsonl, path/to/model); "
            "'python -m tts estimate' says without them what a preset would take"
        )
