"""Names on the Hugging Face Hub: a name becomes one commit, whose files lie in the Hub's own cache.

Only configs, tokenizers, safetensors and data as JSON or parquet are fetched, so neither a pickle nor code can arrive. What the cache
holds needs no network. Where the network is needed and missing, or the Hub refuses, functions raise :class:`ModelError` within seconds.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from multiprocessing import TimeoutError as NoAnswer
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import get_session

from tts.common.files import write_text

Kind = Literal["model", "dataset"]
DEADLINE = 10.0  # seconds for the request that shows whether the Hub can be reached

# The commit of a name without a revision. Of the study's other models no commit was confirmed when this was written: theirs is
# the one at first use.
REVISIONS = {
    "Qwen/Qwen2.5-0.5B-Instruct": "7ae557604adf67be50417f59c2c2f167def9a775",
    "Qwen/Qwen2.5-1.5B-Instruct": "989aa7980e4cf806f80c7fef2b1adb7bc71aa306",
    "Qwen/Qwen2.5-3B-Instruct": "aa8e72537993ba99e69dfaafa59ed015b17504d1",
    "Qwen/Qwen2.5-7B-Instruct": "a09a35458c702b33eeacc393d103063234e8bc28",
    "Qwen/Qwen2.5-14B-Instruct": "cf98f3b3bbb457ad9e2bb7baf9a0125b6b88caa8",
    "Qwen/Qwen2.5-32B-Instruct": "5ede1c97bbab6ce5cda5812749b4c0bdf79b18dd",
    "Qwen/Qwen2.5-72B-Instruct": "495f39366efef23836d0cfae4fbe635880d2be31",
    "Qwen/Qwen2.5-Math-PRM-7B": "0610740060112df12585d00a1c5f4624d2f59051",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": "ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "916b56a44061fd5cd7d6a8fb632557ed4f724f60",
    "meta-llama/Llama-3.1-8B-Instruct": "0e9e39f249a16976918f6564b8830bc894c89659",
    "meta-llama/Llama-3.2-1B-Instruct": "9213176726f574b556790deb65791e0c5aa438b6",
    "meta-llama/Llama-3.2-3B-Instruct": "0cb88a4f764b7a12671c53f0838cd831a0843b95",
}

_SMALL = ["*.json", "*.jinja", "*.model", "*.txt"]  # configs, tokenizers, the index of the weights
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@\S+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelError(ValueError):
    """A model that cannot be found or loaded; the message says what was given and what to do."""


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_name(name: str) -> bool:
    """Whether a name has the form ``owner/model`` or ``owner/model@revision``."""
    return _NAME.fullmatch(name) is not None


@cache
def unreachable() -> str | None:
    """Why the Hub cannot be reached, in a few words; None where it answers. Asked once a process."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        promptly(lambda: get_session().head(constants.ENDPOINT, timeout=DEADLINE))
    except Exception as error:  # the client's library and its errors differ between releases of huggingface_hub
        return first_line(error)
    return None


def absent(models: Iterable[str]) -> list[str]:
    """Those of the models that would have to be downloaded; each may have its engine or family before it, as in ``FAMILY:NAME``."""
    named = ((model, model.rpartition(":")[2]) for model in models)
    return [model for model, name in named if is_name(name) and not Path(name).is_dir() and not _is_cached(name)]


def _is_cached(name: str) -> bool:
    repo, revision = _parts(name)
    return isinstance(try_to_load_from_cache(repo, "config.json", revision=revision), str)


def require(problem_sets: list[str], policies: list[str], prms: list[str]) -> None:
    """Raises :class:`ModelError`, which names all that would have to be downloaded, where there is any and the Hub does not answer."""
    needed = {"problem sets": problem_sets, "policies": policies, "PRMs": prms}
    if any(needed.values()) and (reason := unreachable()):
        what = "; ".join(f"{kind} {', '.join(names)}" for kind, names in needed.items() if names)
        raise ModelError(
            f"the Hugging Face Hub cannot be reached ({reason}), and this machine does not have: {what}; "
            "give local files and folders instead (math500:path/to/problems.jsonl, path/to/model); "
            "'python -m tts estimate' says without them what a preset would take"
        )


@cache
def resolve(name: str, kind: Kind = "model") -> str:
    """The name with its commit, ``owner/model@commit``.

    A revision is a branch, a tag, a commit, or ``refs/pr/NUMBER``. Without one it is that of :data:`REVISIONS`, else the main
    branch. A branch stays at the commit that the cache knows it by, so that a study goes on with the weights it began with.
    """
    repo, revision = _parts(name)
    if _COMMIT.fullmatch(revision):
        return f"{repo}@{revision}"
    reference = _storage(repo, kind) / "refs" / revision
    if not reference.is_file():
        write_text(reference, _ask(name, lambda repo, commit: commit, kind))
    return f"{repo}@{reference.read_text().strip()}"


def fetch(location: str, weights: bool = False) -> Path:
    """The folder of a resolved name, downloaded where the cache lacks it; config and tokenizer only, unless ``weights`` are wanted."""
    repo, commit = _parts(location)
    folder = _storage(repo) / "snapshots" / commit
    if not (folder / "config.json").exists() or not any(folder.glob("tokenizer*")):
        _download(location, _SMALL)
    if weights and missing_weights(folder):
        _download(location, _SMALL)  # a cache that others filled may lack the index
        _download(location, weight_files(folder))
    return folder


def data_files(location: str, suffixes: Sequence[str]) -> list[Path]:
    """The files of a resolved data set, of its own folder and those below it; where the Hub does not answer, those that the cache has."""
    repo, commit = _parts(location)
    options = {"repo_type": "dataset", "allow_patterns": [f"*{suffix}" for suffix in suffixes]}
    folder = _storage(repo, "dataset") / "snapshots" / commit
    try:
        _ask(location, lambda repo, commit: snapshot_download(repo, revision=commit, **options), "dataset")
    except ModelError:
        if not folder.is_dir():
            raise
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


def sizes(location: str) -> dict[str, int]:
    """Number of entries of each of a resolved name's tensors, read from the headers of its files on the Hub."""
    files = _ask(location, lambda repo, commit: HfApi().get_safetensors_metadata(repo, revision=commit).files_metadata)
    return {name: tensor.parameter_count for file in files.values() for name, tensor in file.tensors.items()}


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files with a folder's weights: one, or those of its index; raises ModelError for a damaged index."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return ["model.safetensors"]
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        raise ModelError(f"{index} is damaged; copy or download it again") from None


def missing_weights(folder: Path) -> list[str]:
    """Those of :func:`weight_files` that are not there."""
    return [name for name in weight_files(folder) if not (folder / name).exists()]


def _parts(name: str) -> tuple[str, str]:
    """A name's repository, and its revision: by default that of :data:`REVISIONS`, else the main branch."""
    repo, _, revision = name.partition("@")
    return repo, revision or REVISIONS.get(repo, "main")


def _storage(repo: str, kind: Kind = "model") -> Path:
    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{repo.replace('/', '--')}"


def _download(location: str, patterns: list[str]) -> None:
    _ask(location, lambda repo, commit: snapshot_download(repo, revision=commit, allow_patterns=patterns, ignore_patterns=["*/*"]))


def _ask(name: str, request: Callable, kind: Kind = "model"):
    """The answer to ``request(repo, commit)``, as of :func:`ask`."""
    repo, revision = _parts(name)  # the commit is asked for by one bounded request: the Hub client's own may be repeated for minutes
    about = partial(HfApi().repo_info, repo, repo_type=kind, revision=revision, timeout=DEADLINE)
    return ask(name, lambda: request(repo, promptly(about).sha), kind)


def ask(name: str, request: Callable, kind: Kind = "model"):
    """A request's answer; its errors in one line that says what to do."""
    repo, revision = _parts(name)
    is_model = kind == "model"
    try:
        return request()
    except GatedRepoError:
        page = repo if is_model else f"datasets/{repo}"
        raise ModelError(f"{repo} is gated: accept its licence on https://huggingface.co/{page}, then run 'hf auth login'") from None
    except RevisionNotFoundError:
        raise ModelError(f"no revision {revision!r} of {repo} on the Hub") from None
    except RepositoryNotFoundError:
        local = "a folder" if is_model else "a file"
        raise ModelError(f"no {kind} {name!r}: neither {local} nor, for all that the Hub says without a login, a {kind} there") from None
    except Exception as error:  # the Hub's client raises many kinds
        option, file = ("", "") if is_model else (" --repo-type dataset", ", or of a file in it")
        cached = sorted(folder.name for folder in (_storage(repo, kind) / "snapshots").glob("*") if folder.name not in name)
        known = f"; in the cache: {', '.join(f'{repo}@{commit}' for commit in cached)}" if cached else ""
        raise ModelError(
            f"cannot get {name!r} from the Hugging Face Hub: {first_line(error)} (with no network, download the {kind} elsewhere, say by "
            f"'hf download {repo}{option} --local-dir FOLDER', and give the path of its folder instead{file}{known})"
        ) from error


def promptly(request: Callable):
    """A request's answer, or a TimeoutError: the time limits of resolving a host and of trying each of its addresses add up."""
    with ThreadPool(1) as pool:  # leaving it waits for no request: its thread is a daemon
        try:
            return pool.apply_async(request).get(DEADLINE)
        except NoAnswer:
            raise TimeoutError(f"no answer within {DEADLINE:.0f} seconds") from None
