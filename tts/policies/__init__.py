"""Policies: one file per engine, and the choice among them by a policy's name."""

from __future__ import annotations

from collections.abc import Callable

from tts.models import ModelError, fingerprint, locate
from tts.policies.sampling import Sampling
from tts.policies.transformers import TransformersPolicy
from tts.search.driver import Policy


def _imported(name: str, sampling: Sampling, batch: int) -> Policy:
    raise ModelError(f"{name} was imported: there are its stored solutions, and no model that could write others")


# A new engine is one file beside these and one line here; a policy asks for it by the prefix of its name, as in ``ENGINE:NAME``.
ENGINES: dict[str, Callable[..., Policy]] = {"transformers": TransformersPolicy, "imported": _imported}
DEFAULT = "transformers"


def engine_of(name: str) -> tuple[str, str]:
    """The engine that runs a policy, and the policy's name without the engine's."""
    engine, _, rest = name.partition(":")
    return (engine, rest) if rest and engine in ENGINES else (DEFAULT, name)


def open_policy(name: str, sampling: Sampling, batch: int) -> Policy:
    """Opens a policy by name.

    Args:
        name: a pocket policy, a folder, a Hub name; ``ENGINE:NAME`` runs it by another engine.
        sampling: temperature, limits and seed.
        batch: sequences decoded at once.

    Raises:
        tts.models.ModelError: where it cannot be loaded.
    """
    engine, _ = engine_of(name)
    return ENGINES[engine](name.removeprefix(f"{engine}:"), sampling, batch)


def check_policy(name: str) -> None:
    """Finds a policy without loading it.

    Raises:
        tts.models.ModelError: where it does not exist.
    """
    engine, location = engine_of(name)
    if engine != "imported":
        locate(location)


def weights_of(name: str) -> str:
    """What identifies a policy's behaviour, beside its name: a hash of its files.

    Raises:
        tts.models.ModelError: where it does not exist.
    """
    return fingerprint(locate(engine_of(name)[1]))
