"""Outcomes problem by problem: those of the full run are committed, and shown beside a fresh run.

A row is one problem with one policy, PRM (empty for none), method, budget N and sampling seed: expected accuracy, and tokens; of methods
with a PRM also the accuracy under each rule, in columns that older files have not.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partialmethod
from itertools import product, takewhile
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from tts.analysis.evidence import Evidence, cells
from tts.common.files import replacing
from tts.common.paths import DATA
from tts.generate.grid import Grid
from tts.models.hub import ModelError
from tts.reward_models import weights_of
from tts.search.registry import method_of, prm_of
from tts.tasks.problems import fingerprint
from tts.tasks.selection import RULES, Rule

FOLDER = DATA / "outcomes"
CELL = ["problems", "policy", "prm", "method", "n"]
KEY = [*CELL, "seed", "problem_id"]
VALUES = ["accuracy", "policy_tokens", "prm_tokens", "prompt_tokens"]
BY_RULE = {str(rule): rule for rule in RULES}
NAMES = ["problems", "policy", "prm", "method", "problem_id"]
SETTINGS = {"split", "beam_width", "aggregate", "vote", "temperature", "top_p", "max_tokens", "max_steps"}
# Not in older files, which have what is left out here: the defaults.
LATER = {"max_step_tokens", "extract", "system", "subsets", "stop_at_answer", "constants"}


class CommittedError(ValueError):
    """Committed outcomes or counts that cannot be read; the message names the file and the remedy."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever the reading of a committed file raises becomes a :class:`CommittedError`."""
    try:
        yield
    except (ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CommittedError(f"{path} is damaged ({reason:.200}); restore it, say with git checkout, or delete it") from None


def collect(evidence: Evidence) -> pd.DataFrame:
    """Every method at every budget of a grid, one row per problem."""
    grid, parts = evidence.grid, []
    for problem_set, policy in product(grid.problems, grid.policies):
        ids, prompts = _ids(grid, problem_set), evidence.prompt_tokens(problem_set, policy)
        for prm, method, n in cells(grid, policy, grid.budgets):
            asked = (problem_set, policy, prm or None, method, n)
            values = (evidence.accuracy(*asked), evidence.policy_tokens(*asked), evidence.prm_tokens(*asked), prompts)
            cell = dict(zip(KEY, (problem_set, policy, prm, method, n, grid.seed, ids)))
            rules = evidence.rules(problem_set, policy, prm, method, n) if prm and method_of(method).select == "rule" else []
            under = {str(rule): evidence.accuracy(*asked, rule) for rule in rules}
            parts.append(pd.DataFrame(cell | dict(zip([*VALUES, *under], np.asarray([*values, *under.values()], np.float32)))))
    return pd.concat(parts, ignore_index=True)


def commit(grids: Iterable[tuple[Grid, pd.DataFrame]], path: Path) -> Path:
    """Keeps the outcomes of several grids (other seeds, other policies) in one file, with settings and weights.

    Raises ``ValueError`` where the grids differ in more than policies, PRMs, problems, methods, budgets, samples and seed.
    """
    asked, frames = zip(*grids)
    settings, *others = map(_settings, asked)
    if any(other != settings for other in others):
        raise ValueError(f"outcomes of different settings cannot be kept in one file: {[settings, *others]}")
    names = sorted({name for grid in asked for name in (*grid.policies, *grid.prms)})
    rows = pd.concat(frames, ignore_index=True).drop_duplicates(KEY).astype(dict.fromkeys(NAMES, "category"))
    counts = rows.groupby("problems", observed=True)["problem_id"].nunique().to_dict()
    rows.attrs = {
        "settings": settings,
        "weights": {name: _weights(name) for name in names},
        # An id alone does not say whether it still means the same problem.
        "problems": {name: [count, fingerprint(_problems(asked[0], name, count))] for name, count in counts.items()},
    }
    with replacing(path) as temporary:
        rows.to_parquet(temporary, index=False, compression="zstd", write_page_checksum=True)
    return path


class Committed(Evidence):
    """Committed outcomes as evidence: sampling seeds, of which there are ``seeds``, averaged within a problem.

    Its grid is the part of the asked one that the outcomes cover, with the number of problems that every cell holds.
    """

    def __init__(self, grid: Grid, rows: pd.DataFrame):
        self.grid, self.seeds = grid, int(rows["seed"].nunique())
        rules = [rule for name, rule in BY_RULE.items() if name in rows]
        averaged = rows.groupby([*CELL, "problem_id"], sort=False)[[*VALUES, *map(str, rules)]].mean().reset_index()
        places = {name: {problem: place for place, problem in enumerate(_ids(grid, name))} for name in grid.problems}
        place = np.array([places[name].get(problem, -1) for name, problem in zip(averaged["problems"], averaged["problem_id"])])
        values = {name: averaged[name].to_numpy(float) for name in (*VALUES, *map(str, rules))}
        # Arrays, and the rules of a cell once: a ledger asks for them ten thousand times.
        self._cells: dict[tuple, dict[str, np.ndarray]] = {}
        for cell, at in averaged.groupby(CELL, sort=False).indices.items():
            at = at[place[at] >= 0]
            assert len(at) == len(places[cell[0]]), f"{cell} lacks problems"
            at = at[place[at].argsort()]
            self._cells[cell] = {name: of_all[at] for name, of_all in values.items()}
        known = {cell: [rule for rule in rules if not np.isnan(held[str(rule)]).any()] for cell, held in self._cells.items()}
        self._rules = {cell: held or [grid.rule] for cell, held in known.items()}

    def accuracy(self, problem_set: str, policy: str, prm: str | None, method: str, n: int, rule: Rule | None = None) -> np.ndarray:
        asked = (problem_set, policy, prm, method, n)
        if rule in (None, self.grid.rule) or not method_of(method).guided:
            return self._values("accuracy", *asked)
        if rule not in self.rules(problem_set, policy, prm or "", method, n):
            raise ValueError(f"committed outcomes hold the rule {self.grid.rule} only; asked for {rule}")
        return self._values(str(rule), *asked)

    def rules(self, problem_set: str, policy: str, prm: str, method: str, n: int) -> list[Rule]:
        return self._rules[problem_set, policy, prm, method, n]

    def _values(self, column: str, problem_set: str, policy: str, prm: str | None, method: str, n: int) -> np.ndarray:
        return self._cells[problem_set, policy, prm_of(method, prm) or "", method, n][column]

    policy_tokens, prm_tokens = partialmethod(_values, "policy_tokens"), partialmethod(_values, "prm_tokens")
    prompt_tokens = partialmethod(_values, "prompt_tokens", prm=None, method="cot", n=1)


def committed(grid: Grid, folder: Path = FOLDER) -> Committed | None:
    """The committed outcomes of a grid, for as many of its policies as they hold in full; None for none.

    In full: every method and budget of the grid, with each PRM, on each problem set. Outcomes of other settings, other problems or
    other weights do not count. Raises :class:`CommittedError` where a file is damaged.
    """
    files = list(_holding(grid, folder))
    held = {cell for _, places in files for cell in places}
    asked = {p: {(name, p, *cell) for name in grid.problems for cell in cells(grid, p, grid.budgets)} for p in grid.policies}
    policies = [policy for policy in grid.policies if asked[policy] <= held]
    if not policies:
        return None
    wanted = set().union(*(asked[policy] for policy in policies))
    parts = [rows.take(np.sort(np.concatenate(at))) for rows, places in files if (at := [places[c] for c in places if c in wanted])]
    rows = pd.concat([part.astype(dict.fromkeys(NAMES, str)) for part in parts], ignore_index=True).drop_duplicates(KEY)
    counts = {name: _common(grid, name, rows[rows["problems"] == name]) for name in grid.problems}
    return Committed(grid.model_copy(update={"policies": policies, "problems": counts}), rows)


def beside(fresh: Evidence, full: Evidence, n: int) -> pd.DataFrame:
    """A fresh run's accuracies at budget ``n`` beside those of the committed full run, in per cent with intervals."""
    columns = {}
    for name, rows in (("this run", fresh.at_budget(n)), ("full run (committed)", full.at_budget(n))):
        text = [f"{100 * r.accuracy:.1f} [{100 * r.low:.0f}, {100 * r.high:.0f}]" for r in rows.itertuples()]
        columns[name] = pd.Series(text, index=pd.MultiIndex.from_frame(rows[["problems", "policy", "prm", "method"]]))
    return pd.DataFrame(columns).dropna().sort_index()


def _holding(grid: Grid, folder: Path) -> Iterator[tuple[pd.DataFrame, dict[tuple, np.ndarray]]]:
    """The rows of each file with the grid's settings, and the places of each cell whose problems and models are still the same.

    A file that holds every rule answers for a grid with another rule than its own.
    """
    for path in sorted(folder.glob("*.parquet")):
        rows, places = _read(path, path.stat().st_mtime_ns)
        made, asked_for = rows.attrs["settings"], _settings(grid)
        if made != asked_for:
            if made | {"aggregate": grid.aggregate, "vote": grid.vote} != asked_for or str(grid.rule) not in rows:
                continue
            rows = rows.assign(accuracy=rows[str(grid.rule)].where(rows["prm"] != "", rows["accuracy"]))  # no rule matters without a PRM
            held = rows["accuracy"].notna().to_numpy()
            places = {cell: at for cell, at in places.items() if held[at].all()}
        known = {"", *(name for name, weights in rows.attrs["weights"].items() if _weights(name) == weights)}
        asked = [(name, *about) for name, about in rows.attrs["problems"].items() if name in grid.problems]
        sets = {name for name, count, texts in asked if fingerprint(_problems(grid, name, count)) == texts}
        yield rows, {cell: at for cell, at in places.items() if cell[0] in sets and {cell[1], cell[2]} <= known}


@lru_cache(maxsize=16)  # a notebook asks for several grids
def _read(path: Path, changed: int) -> tuple[pd.DataFrame, dict[tuple, np.ndarray]]:
    """A file's rows as of a time of change, with what :func:`commit` wrote beside them in ``attrs``; and each cell's places."""
    with reading(path):
        rows = pd.read_parquet(path, page_checksum_verification=True)
        rows = rows[[*KEY, *VALUES, *(name for name in BY_RULE if name in rows)]]
        if not {"settings", "weights", "problems"} <= set(rows.attrs):
            raise ValueError("it does not say what its outcomes are of")
        return rows, dict(rows.groupby(CELL, observed=True, sort=False).indices)


def _common(grid: Grid, problem_set: str, rows: pd.DataFrame) -> int:
    """How many problems, from the first on, every cell holds."""
    holders = rows.drop_duplicates([*CELL, "problem_id"])["problem_id"].value_counts()
    return sum(1 for _ in takewhile(lambda name: holders.get(name) == holders.max(), _ids(grid, problem_set, len(holders))))


def _ids(grid: Grid, problem_set: str, count: int | None = None) -> list[str]:
    return [problem["id"] for problem in _problems(grid, problem_set, count)]


def _problems(grid: Grid, problem_set: str, count: int | None = None) -> list[dict]:
    """The first problems of a set; by default as many as the grid has."""
    counted = grid if count is None else grid.model_copy(update={"problems": {problem_set: count}})
    return [problem for chunk in counted.chunks(problem_set) for problem in chunk]


def _settings(grid: Grid) -> dict:
    return grid.model_dump(include=SETTINGS) | grid.model_dump(include=LATER, exclude_defaults=True)


def _weights(name: str) -> str | None:
    with suppress(ModelError):
        return weights_of(name)
    return None
