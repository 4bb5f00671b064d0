"""Policies, one file per engine; what needs a model that does not exist, cannot be loaded or is not served raises :class:`ModelError`."""

import re
from pkgutil import resolve_name

from tts.models.files import ADAPTER, chat_template, check_writes, named_folder, read_card
from tts.models.hub import ModelError
from tts.models.locate import locate
from tts.models.locate import weights_of as hash_of
from tts.policies.base import EnginePolicy
from tts.policies.openai import Address, Server
from tts.search.sampling import Sampling
from tts.tasks.base import Task
from tts.tasks.maths import MATHS
from tts.tasks.prompts import check_options, template_hash, template_options

# A new engine is one file beside these and one line here. Imported when first used, as it may need a package that the others do not.
ENGINES = {
    "transformers": "tts.policies.transformers:TransformersPolicy",
    "openai": "tts.policies.openai:OpenAIPolicy",
    "vllm": "tts.policies.vllm:VLLMPolicy",
}
IMPORTED = "imported"  # no engine: stored solutions, and no model that could write others
DEFAULT = "transformers"
SERVER = "openai"  # whose names are addresses
# Engines and PRM families before a model's name; "pypi:" and "gguf:" are part of it.
_PREFIXES = re.compile(r"^(?:(?!pypi:|gguf:)[a-z0-9-]+:)+")


def engine_of(name: str) -> tuple[str, str]:
    """The engine that runs a policy, and the policy's name without the engine's."""
    if name.startswith(("http://", "https://")):
        return SERVER, name
    engine, _, rest = name.partition(":")
    return (engine, rest) if rest and engine in (*ENGINES, IMPORTED) else (DEFAULT, name)


def register_engine(name: str, place: str) -> None:
    """Adds an engine at ``place`` (``module:Class``) to :data:`ENGINES` for this process; raises ``ValueError`` where its name is taken."""
    if ENGINES.setdefault(name, place) != place:
        raise ValueError(f"there is an engine {name!r} already; choose another name")


def open_policy(name: str, sampling: Sampling, batch: int, task: Task = MATHS) -> EnginePolicy:
    """Opens a pocket policy, a folder or a Hub name, to decode ``batch`` sequences at once.

    ``ENGINE:NAME`` runs it by another engine, ``http(s)://HOST:PORT/v1#MODEL`` by a server.
    """
    engine, rest = engine_of(name)
    if engine == IMPORTED:
        raise ModelError(f"{name} was imported: there are its stored solutions, and no model that could write others")
    return resolve_name(ENGINES[engine])(rest, sampling, batch, task)


def check_policy(name: str) -> None:
    """Finds a policy without loading it, and refuses a PRM; a server is not asked, for what it made once can be read without it."""
    if files := _files_of(name).partition("?")[0]:
        check_writes(location := locate(files))
        if template := chat_template(location):
            try:
                check_options(template, files, template_options(engine_of(name)[1]) if engine_of(name)[0] != SERVER else {})
            except ValueError as error:
                raise ModelError(str(error)) from None
        if family := read_card(named_folder(files) or location).get("family"):
            raise ModelError(f"{name} is a PRM of the family {family}, and writes no solutions; give it among prms: -p prm={name}")


def _files_of(name: str) -> str:
    """The name by which a policy's files are found; empty for an imported one, and where a server has them and no tokenizer is named."""
    engine, rest = engine_of(name)
    if engine == IMPORTED:
        return ""
    return Address.parse(rest).tokenizer if engine == SERVER else rest


def check_ready(name: str) -> None:
    """Asks a policy's server, if it has one, whether it is there and has the model."""
    engine, rest = engine_of(name)
    if engine == SERVER:
        Server(Address.parse(rest))


def weights_of(name: str) -> str:
    """What identifies a policy's or a PRM's behaviour, beside its name: a hash of its files; of a served or imported one nothing does."""
    if name.startswith(f"{IMPORTED}:"):
        return IMPORTED
    return "as served" if address_in(name) else hash_of(model_of(name))


def address_in(name: str) -> str | None:
    """The address that a policy's or a PRM's name holds, where a server has the model."""
    found = re.search(r"https?://.*", name)
    return found[0] if found else None


def model_of(name: str) -> str:
    """The model that a policy's or a PRM's name means, by the name under which its files may be found on this machine."""
    if not (served := address_in(name)):
        return (_PREFIXES.sub("", name) or name).partition("?")[0]
    address = Address.parse(served)
    return address.tokenizer or address.model


def prompt_of(name: str, task: Task) -> str:
    """A hash of what a policy is told of a task's problem beside the problem: of its chat template, and of the turns that it gets."""
    files = _files_of(name)
    # Of an adapter only the turns are known before it is merged; its base's template is part of its weights' identity.
    is_adapter = files and (folder := named_folder(files)) and (folder / ADAPTER).exists()
    template = chat_template(locate(files)) if files and not is_adapter else None
    return template_hash(template, task, model_of(name))
