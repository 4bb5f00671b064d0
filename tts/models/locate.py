"""From a model's name to its location: a folder, or a Hub name with its commit."""

from __future__ import annotations

from tts.models import hub
from tts.models.converted import derived
from tts.models.files import expected_identity, fingerprint, named_folder, pocket_models
from tts.models.hub import ModelError


def locate(name: str) -> str:
    """A model's location: its folder, where ``name`` is a folder or a pocket model's name, else the Hub name with its commit.

    What is no model folder itself (a GGUF file, a package that holds one, an adapter) is made into one, once.

    Raises:
        ModelError: where it is neither a folder nor a pocket model and has not the form of a Hub name, or the Hub does not tell
            its commit.
    """
    folder = named_folder(name)
    if made := derived(str(folder or name), locate):
        return made
    if folder:
        if not (folder / "config.json").exists():
            raise ModelError(f"{folder} is a folder without a config.json; expected a save_pretrained folder, or an adapter's")
        return str(folder)
    if name.startswith((".", "/", "~")) or not hub.is_name(name):
        known = ", ".join([*pocket_models("policy"), *pocket_models("prm")]) or "none"
        raise ModelError(f"no model {name!r}: not a folder, not a Hub name (owner/model), not a pocket model ({known})")
    return hub.resolve(name)


def weights_of(name: str) -> str:
    """:func:`fingerprint` of what a name means; an adapter's without its base, whose hash its card holds.

    Raises:
        ModelError: where it does not exist.
    """
    folder = named_folder(name)
    return (expected_identity(folder) if folder else None) or fingerprint(locate(name))
