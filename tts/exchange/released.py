"""search-and-learn's datasets by name, ``hf:OWNER/DATASET[@REVISION]``, or folders of the same form.

A dataset holds a folder of parquet files for each configuration. The folder's name says N, M, seed and sampling; which search it is,
only the dataset's name says: ``Llama-3.2-1B-Instruct-DVTS-completions``. Where a name contradicts the rows, the rows decide or it is
refused: best-of-N counts the tokens of each completion, the searches count none, and their candidates repeat one another.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from tqdm.auto import tqdm

from tts.exchange.reading import copies, objects
from tts.exchange.records import SAMPLES, Contents, ExchangeError, Header, expect
from tts.exchange.search_and_learn import NAME, WIDTH, describe, is_row, record
from tts.models import hub

HUB = "hf:"
PRMS = {"HuggingFaceH4": "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data"}  # of an owner's releases, which neither names nor rows say
SEARCHES = ("beam_search", "dvts")

_DATASET = re.compile(r"(.+?)-(best-of-N|beam-search|DVTS)-completions", re.IGNORECASE)
_FOLDER = re.compile(r"(?=.*--n-\d+--).*--seed-\d+.*")
_AGGREGATES = {"min": "min", "prod": "product", "last": "last"}
_TELLING = 8  # rows that are looked at to tell samples and searches apart


@dataclass(frozen=True)
class Choice:
    """What of released runs is imported."""

    budgets: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    search: str = ""  # what a search is where no name says it, or a wrong one
    listed: bool = False  # whether configurations are only listed
    pool: bool = False  # whether samples of several seeds make one larger pool


ALL = Choice()


@dataclass(frozen=True)
class Release:
    """One configuration of a source."""

    source: str  # hf:OWNER/DATASET, or a folder
    commit: str | None  # None of a folder
    name: str  # of its folder
    header: Header  # what the names say; the method is empty where they do not
    aggregate: str  # of its votes; empty where the name does not say it
    files: dict[str, int]  # parquet files, by their path in the source, with their sizes in bytes

    @property
    def label(self) -> str:
        """Its place in messages: the names of two searches' configurations are the same."""
        return f"{self.source.rpartition('/')[2]}/{self.name}"

    @property
    def size(self) -> float:
        """Megabytes of its files."""
        return sum(self.files.values()) / 1e6

    @property
    def key(self) -> tuple[str, int, int]:
        """Method, N and seed as they are chosen by and listed."""
        return self.header.method.replace(SAMPLES, "best_of_n"), self.header.n or 0, self.header.seed

    def fetched(self) -> list[Path]:
        """Its files here, downloaded where they are not."""
        if self.commit is None:
            return [Path(self.source).resolve() / path for path in self.files]
        repo = self.source.removeprefix(HUB).partition("@")[0]
        get = partial(hf_hub_download, repo, repo_type="dataset", revision=self.commit)
        return [Path(hub.ask(repo, partial(get, path), "dataset")) for path in self.files]


def is_release(source: str) -> bool:
    """Whether a source is a dataset on the Hub, or a folder whose folders are named as configurations."""
    return source.startswith(HUB) or Path(source).is_dir() and any(_FOLDER.fullmatch(p.name) for p in Path(source).iterdir() if p.is_dir())


def releases(source: str, prm: str = "") -> list[Release]:
    """A source's configurations, of which nothing is fetched yet.

    Raises :class:`ExchangeError` where it holds none, or one without parquet files; ``ModelError`` where the Hub fails or refuses.
    """
    if source.startswith(HUB):
        repo, _, revision = source.removeprefix(HUB).partition("@")
        expect(hub.is_name(repo), f"{source!r} is no dataset; give hf:OWNER/DATASET, or a folder of the same form")
        asked = partial(HfApi().dataset_info, repo, revision=revision or None, files_metadata=True, timeout=hub.DEADLINE)
        answer = hub.ask(source.removeprefix(HUB), lambda: hub.promptly(asked), "dataset")
        owner, _, dataset = repo.partition("/")
        commit, sizes = answer.sha, {file.rfilename: file.size or 0 for file in answer.siblings}
    else:
        root = Path(source).resolve()
        owner, dataset, commit = "", root.name, None
        sizes = {str(path.relative_to(root)): path.stat().st_size for path in sorted(root.rglob("*")) if path.is_file()}
    folders = [folder for folder in dict.fromkeys(path.split("/")[0] for path in sizes if "/" in path) if _FOLDER.fullmatch(folder)]
    if not folders:
        raise ExchangeError(
            f"{source} has no configuration, a folder named ...--n-16--m-4--...--seed-0--...; it has: {', '.join(sizes) or 'no files':.300}"
        )
    named = _DATASET.fullmatch(dataset)
    policy, approach = (named[1], named[2].lower().replace("-", "_")) if named else (dataset, "")
    prm = prm or PRMS.get(owner, "prm")
    found = []
    for folder in folders:
        files = {path: size for path, size in sizes.items() if path.startswith(f"{folder}/") and path.endswith(".parquet")}
        expect(files, f"{source}: the configuration {folder} has no parquet file")
        values = {key: value for key, _, value in (part.partition("-") for part in folder.split("--"))}
        sampling = {name: float(values[key]) for key, name in (("T", "temperature"), ("top_p", "top_p")) if key in values}
        method = (approach or ("" if "m" in values else "best_of_n")).replace("best_of_n", SAMPLES)
        header = Header(method, policy, prm, int(values["n"]), int(values["seed"]), int(values.get("m", WIDTH)), sampling)
        aggregate = re.search(r"agg_strategy-+(\w+)", folder)
        found.append(Release(source, commit, folder, header, _AGGREGATES.get(aggregate[1], "") if aggregate else "", files))
    return sorted(found, key=lambda release: release.key)


def choose(held: Sequence[Release], choice: Choice) -> list[Release]:
    """The chosen configurations; raises :class:`ExchangeError` for a value that none has, and where nothing says which search one is."""
    search = choice.search
    expect(search in ("", *SEARCHES), f"--search {search}: choose from {', '.join(SEARCHES)}")
    held = [replace(release, header=release.header._replace(method=release.header.method or search)) for release in held]
    if unnamed := [release for release in held if not release.header.method]:
        raise ExchangeError(
            f"nothing says which search {unnamed[0].source} holds: call the folder POLICY-beam-search-completions or "
            "POLICY-DVTS-completions, or give --search beam_search or --search dvts"
        )
    wanted = {"--methods": choice.methods, "--n": choice.budgets, "--seeds": choice.seeds}
    for position, (option, given) in enumerate(wanted.items()):
        there = sorted({release.key[position] for release in held})
        if unknown := [value for value in given if value not in there]:
            raise ExchangeError(f"no configuration has {option} {unknown[0]}; there are {', '.join(map(str, there))}")
    chosen = [r for r in held if all(not given or value in given for value, given in zip(r.key, wanted.values()))]
    expect(chosen, "no configuration has all of what was chosen; --list shows those that there are")
    return chosen


def table(held: Sequence[Release], chosen: Sequence[Release]) -> Iterator[str]:
    """The configurations in lines, aligned: policy, method, N, seed, size, and whether each is chosen."""
    rows = [("policy", "method", "N", "seed", "MB", "")]
    rows += [(r.header.policy, *map(str, r.key), f"{r.size:.1f}", "chosen" * (r in chosen)) for r in held]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
    yield f"{len(chosen)} of {len(held)} configurations chosen, {sum(r.size for r in chosen):.1f} MB"


def read(held: Sequence[Release], chosen: Sequence[Release], choice: Choice, policy: str = "") -> Contents:
    """What the chosen of the held configurations hold, fetched where they are not here; every file before the first is read.

    ``policy`` is a name that its policies get. Raises :class:`ExchangeError` where samples of several N would make one pool;
    ``ModelError`` where a file cannot be fetched.
    """
    contents = Contents(NAME)
    for source, commit in {release.source: release.commit for release in held}.items():
        names = [release.name for release in chosen if release.source == source]
        contents.sources.append({"source": source, "commit": commit, "configurations": names})
    sampled = sorted({r.header.n or 0 for r in chosen if r.header.method == SAMPLES})
    several = f"samples of N = {', '.join(map(str, sampled))} make no one pool; choose one with --n"
    expect(not choice.pool or len(sampled) < 2, several)
    paths = [release.fetched() for release in chosen]
    if any(release.header.prm == "prm" for release in chosen):
        contents.notes.append("nothing says which PRM scored: called prm; --prm gives its name")
    again, seen = copies([path for local in paths for path in local]), dict[tuple, str]()
    for release, local in zip(chosen, tqdm(paths, desc="reading", unit="configuration", delay=2)):
        for path in (path for path in local if path in again):
            contents.skip(f"{release.label}/{path.name}", f"a byte-identical copy of {'/'.join(again[path].parts[-2:])}")
        if kept := [path for path in local if path not in again]:
            with contents.using(release.label):
                _read(release, kept, choice, policy, seen, contents)
    contents.notes = list(dict.fromkeys(contents.notes))
    return contents


def _read(release: Release, paths: Sequence[Path], choice: Choice, policy: str, seen: dict[tuple, str], contents: Contents) -> None:
    """Adds what the files of a configuration hold; an ExchangeError where it cannot be used, or is one of those that were seen."""
    rows = (row for path in paths for row in objects(path, release.label, contents))
    first = list(islice(rows, _TELLING))
    telling = [row for _, row in first if is_row(row)]
    expect(telling, "no row with a problem and completion texts")
    header = _checked(release, telling, choice.search, contents)
    key = header._replace(prm=None, sampling=str(header.sampling))
    expect(key not in seen, f"the same method, N, seed and sampling as {seen.get(key)}, which is used")
    seen[key] = release.label
    describe(release.source, header.method, contents)
    if choice.pool and header.method == SAMPLES:
        header = header._replace(n=None, seed=0)
    for source, row in chain(first, rows):
        with contents.using(source):
            count, n = len(row.get("completions") or ()), release.header.n
            expect(count == n, f"{count} completions, and its name says N = {n}")
            contents.records.append(record(row, source, header._replace(policy=policy or header.policy), contents, release.aggregate))


def _checked(release: Release, rows: Sequence[dict], search: str, contents: Contents) -> Header:
    """What a configuration is by its names and first rows; an ExchangeError where they contradict and neither is certain."""
    header, method = release.header, release.header.method
    counted = [isinstance(t := row.get("completion_tokens"), list) and all(isinstance(c, int) and c >= 0 for c in t) for row in rows]
    mixed = all(counted) != any(counted)
    expect(not mixed, "some rows count the tokens of completions, as best-of-N does, and some do not, as searches")
    if counted[0] and method != SAMPLES:
        contents.notes.append(f"{release.name}: named as {method}, but the tokens of each completion are counted: read as best-of-N")
        method = SAMPLES
    elif not counted[0] and method == SAMPLES:
        repeats = sum(len(row["completions"]) - len(set(row["completions"])) for row in rows)
        what = f"named as best-of-N, but tokens are not counted and {repeats} completions of {len(rows)} rows repeat others"
        method = search or ("dvts" if all(_has_subtrees(row["completions"], header.width or WIDTH) for row in rows) else "")
        expect(method, f"{what}: a search, and nothing says which; --search beam_search or --search dvts says it")
        contents.notes.append(f"{release.label}: {what}: read as {method}")
    fits = method == SAMPLES or (header.n or 0) % (header.width or WIDTH) == 0
    expect(fits, f"N = {header.n} is no multiple of M = {header.width}")
    return header._replace(method=method)


def _has_subtrees(texts: Sequence[str], width: int) -> bool:
    """Whether each ``width`` texts differ in their last step only, as the last continuations of a subtree of DVTS do, and not all do."""
    begun = [text.rstrip().rpartition("\n\n")[0] for text in texts]
    parts = [set(begun[i : i + width]) for i in range(0, len(begun), width)]
    return len(parts) > 1 and all(len(part) == 1 for part in parts) and len(set(begun)) == len(parts)
