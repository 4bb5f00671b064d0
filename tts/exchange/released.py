"""search-and-learn's datasets by name, ``hf:OWNER/DATASET[@REVISION]``, or folders of the same form.

A dataset holds a folder of parquet files for each configuration. The folder's name says N, M, seed and sampling; which search it is,
only the dataset's name says: ``Llama-3.2-1B-Instruct-DVTS-completions``. Where a name contradicts the rows, the rows decide or it is
refused: best-of-N counts the tokens of each completion, the searches count none, and their candidates repeat one another.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from tqdm.auto import tqdm

from tts.exchange.records import Contents, ExchangeError, copies, lines
from tts.exchange.search_and_learn import NAME, WIDTH, Configuration, describe, is_row, record
from tts.models import hub

HUB = "hf:"
PRMS = {"HuggingFaceH4": "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data"}
"""The PRM of an owner's releases, which neither names nor rows say."""
SEARCHES = ("beam_search", "dvts")

_DATASET = re.compile(r"(.+?)-(best-of-N|beam-search|DVTS)-completions", re.IGNORECASE)
_FOLDER = re.compile(r"(?=.*--n-\d+--).*--seed-\d+.*")
_AGGREGATES = {"min": "min", "prod": "product", "last": "last"}
_TELLING = 8  # rows that are looked at to tell samples and searches apart


@dataclass(frozen=True)
class Release:
    """One configuration of a source.

    Attributes:
        source: ``hf:OWNER/DATASET`` or a folder.
        name: name of the configuration, its folder.
        about: what the names say; its approach is empty where they do not.
        files: parquet files, by their path in the source, with their sizes in bytes.
        fetch: gives the local file of a path.
    """

    source: str
    name: str
    about: Configuration
    files: dict[str, int]
    fetch: Callable[[str], Path]

    @property
    def label(self) -> str:
        """Its place in messages: the names of two searches' configurations are the same."""
        return f"{self.source.rpartition('/')[2]}/{self.name}"

    @property
    def key(self) -> tuple:
        """What tells configurations apart, in the order in which they are listed."""
        return self.about.approach, self.about.n, self.about.seed


def is_release(source: str) -> bool:
    """Whether a source is a dataset on the Hub, or a folder whose folders are named as configurations."""
    return source.startswith(HUB) or Path(source).is_dir() and any(_FOLDER.fullmatch(p.name) for p in Path(source).iterdir() if p.is_dir())


def releases(source: str, prm: str = "") -> tuple[list[Release], str | None]:
    """A source's configurations, of which nothing is fetched yet, and its commit; None for a folder.

    Raises:
        ExchangeError: where it holds none, or one without parquet files.
        tts.models.hub.ModelError: where the Hub cannot be reached, or refuses.
    """
    commit = None
    if source.startswith(HUB):
        repo, _, revision = source.removeprefix(HUB).partition("@")
        if not hub.is_name(repo):
            raise ExchangeError(f"{source!r} is no dataset; give hf:OWNER/DATASET, or a folder of the same form")
        answer = hub.ask(source.removeprefix(HUB), lambda: hub.promptly(_listing(repo, revision)), "dataset")
        commit, sizes = answer.sha, {file.rfilename: file.size or 0 for file in answer.siblings}
        known = prm or PRMS.get(repo.partition("/")[0], "prm")

        def fetch(path: str) -> Path:
            return Path(hub.ask(repo, lambda: hf_hub_download(repo, path, repo_type="dataset", revision=commit), "dataset"))

        dataset = repo.rpartition("/")[2]
    else:
        root, known = Path(source).resolve(), prm or "prm"
        sizes = {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}
        fetch, dataset = root.joinpath, root.name
    folders = dict.fromkeys(path.split("/")[0] for path in sizes if "/" in path)
    if not any(map(_FOLDER.fullmatch, folders)):
        raise ExchangeError(
            f"{source} has no configuration, a folder named ...--n-16--m-4--...--seed-0--...; it has: {', '.join(sizes) or 'no files':.300}"
        )
    named = _DATASET.fullmatch(dataset)
    policy, approach = (named[1], named[2].lower().replace("-", "_")) if named else (dataset, "")
    found = []
    for folder in filter(_FOLDER.fullmatch, folders):
        files = {path: size for path, size in sizes.items() if path.startswith(f"{folder}/") and path.endswith(".parquet")}
        if not files:
            raise ExchangeError(f"{source}: the configuration {folder} has no parquet file")
        found.append(Release(source, folder, _about(folder, approach, policy, known), files, fetch))
    return sorted(found, key=lambda release: release.key), commit


def _listing(repo: str, revision: str) -> Callable:
    return lambda: HfApi().dataset_info(repo, revision=revision or None, files_metadata=True, timeout=hub.DEADLINE)


def _about(folder: str, approach: str, policy: str, prm: str) -> Configuration:
    """What the names of a configuration and its dataset say."""
    values = {key: value for key, _, value in (part.partition("-") for part in folder.split("--"))}
    sampling = {name: float(values[key]) for key, name in (("T", "temperature"), ("top_p", "top_p")) if key in values}
    return Configuration(
        approach or ("" if "m" in values else "best_of_n"),
        policy,
        prm,
        int(values["n"]),
        int(values["seed"]),
        int(values.get("m", WIDTH)),
        sampling,
        _AGGREGATES.get(aggregate[1], "") if (aggregate := re.search(r"agg_strategy-+(\w+)", folder)) else "",
    )


def choose(
    held: Sequence[Release], budgets: Sequence[int], seeds: Sequence[int], methods: Sequence[str], search: str = ""
) -> list[Release]:
    """The configurations of some N, seeds and methods, all where none is given; ``search`` is what those are that nothing names.

    Raises:
        ExchangeError: for a value that no configuration has; and where nothing says which search one is.
    """
    if search not in ("", *SEARCHES):
        raise ExchangeError(f"--search {search}: choose from {', '.join(SEARCHES)}")
    held = [replace(release, about=replace(release.about, approach=release.about.approach or search)) for release in held]
    if unnamed := [release for release in held if not release.about.approach]:
        raise ExchangeError(
            f"nothing says which search {unnamed[0].source} holds: call the folder POLICY-beam-search-completions or "
            "POLICY-DVTS-completions, or give --search beam_search or --search dvts"
        )
    for option, given, position in (("--methods", methods, 0), ("--n", budgets, 1), ("--seeds", seeds, 2)):
        there = sorted({release.key[position] for release in held})
        if unknown := [value for value in given if value not in there]:
            raise ExchangeError(f"no configuration has {option} {unknown[0]}; there are {', '.join(map(str, there))}")
    wanted = [set(given) for given in (methods, budgets, seeds)]
    chosen = [release for release in held if all(not values or value in values for values, value in zip(wanted, release.key))]
    if not chosen:
        raise ExchangeError("no configuration has all of what was chosen; --list shows those that there are")
    return chosen


def table(held: Sequence[Release], chosen: Sequence[Release]) -> Iterator[str]:
    """The configurations in lines, aligned: policy, method, N, seed, size, and whether each is chosen."""
    rows = [("policy", "method", "N", "seed", "MB", "")]
    rows += [
        (
            r.about.policy,
            r.about.approach,
            str(r.about.n),
            str(r.about.seed),
            f"{sum(r.files.values()) / 1e6:.1f}",
            "chosen" * (r in chosen),
        )
        for r in held
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
    yield f"{len(chosen)} of {len(held)} configurations chosen, {sum(sum(r.files.values()) for r in chosen) / 1e6:.1f} MB"


def read(chosen: Sequence[Release], pool: bool = False, search: str = "") -> Contents:
    """What configurations hold, fetched where they are not here; every file before the first is read.

    Args:
        pool: whether samples of several seeds make one larger pool.
        search: what a search is that has a wrong name.

    Raises:
        ExchangeError: where samples of several N would make one pool.
        tts.models.hub.ModelError: where a file cannot be fetched.
    """
    contents = Contents(NAME)
    sampled = {r.about.n for r in chosen if r.about.approach == "best_of_n"}
    if pool and len(sampled) > 1:
        raise ExchangeError(f"samples of N = {', '.join(map(str, sorted(sampled)))} make no one pool; choose one with --n")
    paths = [[release.fetch(path) for path in release.files] for release in chosen]
    if any(release.about.prm == "prm" for release in chosen):
        contents.notes.append("nothing says which PRM scored: called prm; --prm gives its name")
    again, seen = copies(path for local in paths for path in local), dict[tuple, str]()
    for release, local in zip(chosen, tqdm(paths, desc="reading", unit="configuration", delay=2)):
        for path in (path for path in local if path in again):
            contents.skip(f"{release.label}/{path.name}", f"a byte-identical copy of {'/'.join(again[path].parts[-2:])}")
        kept = [path for path in local if path not in again]
        if not kept:
            continue
        rows = ((f"{release.label}, {place}", row, problem) for path in kept for place, row, problem in lines(path))
        first = list(islice(rows, _TELLING))
        if not (telling := [row for _, row, _ in first if row and is_row(row)]):
            contents.skip(release.label, next((problem for *_, problem in first if problem), "no row with a problem and completion texts"))
            continue
        about = _checked(release, telling, search, contents)
        if about is None:
            continue
        if other := seen.get(key := (about.approach, about.policy, about.n, about.seed, about.width, str(about.sampling))):
            contents.skip(release.label, f"the same method, N, seed and sampling as {other}, which is used")
            continue
        seen[key] = release.label
        describe(release.source, about.approach, contents)
        if pool and about.approach == "best_of_n":
            about = replace(about, n=None, seed=0)
        for source, row, problem in chain(first, rows):
            if row is None:
                contents.skip(source, problem)
            elif release.about.n != len(row.get("completions") or ()):
                contents.skip(source, f"{len(row.get('completions') or ())} completions, and its name says N = {release.about.n}")
            elif one := record(row, source, about, contents):
                contents.add(one)
    contents.notes = list(dict.fromkeys(contents.notes))
    return contents


def _checked(release: Release, rows: Sequence[dict], search: str, contents: Contents) -> Configuration | None:
    """What a configuration is by its names and first rows; None, listed as skipped, where they contradict and neither is certain."""
    about = release.about
    counted = [isinstance(t := row.get("completion_tokens"), list) and all(isinstance(c, int) and c >= 0 for c in t) for row in rows]
    if all(counted) != any(counted):
        contents.skip(release.label, "some rows count the tokens of completions, as best-of-N does, and some do not, as searches")
        return None
    if counted[0] == (about.approach == "best_of_n"):
        approach = about.approach
    elif counted[0]:
        approach = "best_of_n"
        contents.notes.append(
            f"{release.name}: named as {about.approach}, but the tokens of each completion are counted: read as best-of-N"
        )
    else:
        repeats = sum(len(row["completions"]) - len(set(row["completions"])) for row in rows)
        approach = search or ("dvts" if all(_has_subtrees(row["completions"], about.width) for row in rows) else "")
        what = f"named as best-of-N, but tokens are not counted and {repeats} completions of {len(rows)} rows repeat others"
        if not approach or not (repeats or search or approach == "dvts"):
            contents.skip(release.label, f"{what}: a search, and nothing says which; --search beam_search or --search dvts says it")
            return None
        contents.notes.append(f"{release.label}: {what}: read as {approach}")
    if approach != "best_of_n" and (about.n or 0) % about.width:
        contents.skip(release.label, f"N = {about.n} is no multiple of M = {about.width}")
        return None
    return replace(about, approach=approach)


def _has_subtrees(texts: Sequence[str], width: int) -> bool:
    """Whether each ``width`` texts differ in their last step only, as the last continuations of a subtree of DVTS do, and not all do."""
    begun = [text.rstrip().rpartition("\n\n")[0] for text in texts]
    parts = [set(begun[i : i + width]) for i in range(0, len(begun), width)]
    return len(parts) > 1 and all(len(part) == 1 for part in parts) and len(set(begun)) == len(parts)
