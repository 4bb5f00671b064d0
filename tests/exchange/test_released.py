"""search-and-learn's releases by name: on files of their form with known outcomes, and in place of the Hub a folder."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
import yaml
from helpers.released_files import SUFFIX, dataset, folder_name, rows, write
from helpers.small_hub import COMMIT as HUB_COMMIT
from helpers.small_hub import serving
from huggingface_hub import constants

from tts.analysis.accuracy import Results
from tts.exchange import released, summary
from tts.exchange.records import ExchangeError
from tts.exchange.summary import Choice
from tts.generate import runner
from tts.generate.grid import Grid
from tts.models.hub import ModelError
from tts.store import imported
from tts.store.store import Store
from tts.study import cli, presets

COMMIT = "0" * 39 + "1"


def told(store, sources, **options):
    choice = Choice(**{key: options.pop(key) for key in ("budgets", "seeds", "methods", "search", "listed", "pool") if key in options})
    return "\n".join(summary.import_all(Store(store), sources, choice=choice, **options))


@pytest.fixture
def three(tmp_path):
    """A folder for each method: samples of two seeds, the searches at two budgets and two seeds."""
    return [dataset(tmp_path, approach, budgets=(8,) if approach == "best_of_n" else (4, 8), seeds=(0, 1)) for approach in SUFFIX]


@pytest.fixture
def by_name(three, monkeypatch):
    """``hf:`` names of the three; the Hub's client answers from the folders."""
    fetched = []

    def info(self, repo, **asked):
        root = three[0].parent / repo.rpartition("/")[2]
        files = [SimpleNamespace(rfilename=str(p.relative_to(root)), size=p.stat().st_size) for p in sorted(root.rglob("*.parquet"))]
        return SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename=".gitattributes", size=1), *files])

    def download(repo, path, repo_type, revision):
        assert (repo_type, revision) == ("dataset", COMMIT)
        fetched.append(path)
        return str(three[0].parent / repo.rpartition("/")[2] / path)

    monkeypatch.setattr(released.HfApi, "dataset_info", info)
    monkeypatch.setattr(released, "hf_hub_download", download)
    return [f"hf:HuggingFaceH4/{folder.name}" for folder in three], fetched


def test_three_methods_stand_side_by_side_in_one_import(by_name, tmp_path):
    sources, fetched = by_name
    said = told(tmp_path / "runs", sources, name="released")
    assert len(fetched) == 2 + 4 + 4 and "10 of 10 configurations chosen" in said
    assert "released: 3 problems" in said and "not used" not in said and "different grades" not in said
    for n, count in {1: 30, 2: 30, 4: 30, 8: 18}.items():
        for vote in ("majority", "PRM-Max", "PRM-Vote"):
            assert f"{vote} at {n}: {count} of {count} agree; right among the first {n}: samples " in said
    held = [row for seed in (0, 1) for row in rows("best_of_n", 8, seed, 3)]
    shares = {n: sum(row[f"pred_weighted@{n}"] == f"\\boxed{{{row['answer']}}}" for row in held) / 6 for n in (2, 8)}
    assert all(f"right among the first {n}: samples {share:.1%}" in said for n, share in shares.items())
    [source] = imported.all_of(tmp_path / "runs")
    held = {(h.spec.method, h.spec.n, h.spec.seed) for h in source.runs}
    assert held == {
        (m, n, s) for s in (0, 1) for m, n in [("pool", 8), ("scores", 8), *((m, n) for m in ("beam_search", "dvts") for n in (4, 8))]
    }
    assert {imported.original(h.spec.prm.name) for h in source.runs if h.spec.prm} == {"RLHFlow/Llama3.1-8B-PRM-Deepseek-Data"}
    assert {imported.original(h.spec.policy.name) for h in source.runs} == {"Llama-3.2-1B-Instruct"}
    manifest = imported.manifest(source.folder / "import.json")
    assert [s["commit"] for s in manifest["sources"]] == [COMMIT] * 3 and manifest["sources"][0]["configurations"][0] == folder_name(
        "best_of_n", 8, 0
    )


def test_votes_and_methods_have_the_accuracies_that_the_files_record(three, tmp_path):
    told(tmp_path / "runs", three, name="x", prm="P")
    [source] = imported.all_of(tmp_path / "runs")
    policy, prm = source.runs[0].spec.policy.name, next(h.spec.prm.name for h in source.runs if h.spec.prm)
    for seed in (0, 1):
        asked = {"problems": {source.problem_set: 3}, "policies": [policy], "prms": [prm], "samples": 8, "budgets": [4, 8], "seed": seed}
        for vote, name in {"max": "naive", "vote": "weighted"}.items():
            grid = Grid(**asked, methods=["majority", "best_of_n", "beam_search", "dvts"], aggregate="last", vote=vote)
            assert runner.missing(grid, Store(tmp_path / "runs")) == []
            results = Results(grid, Store(tmp_path / "runs"))
            for method, approach, n in (
                ("best_of_n", "best_of_n", 8),
                ("beam_search", "beam_search", 4),
                ("beam_search", "beam_search", 8),
            ):
                recorded = [row[f"pred_{name}@{n}"] == f"\\boxed{{{row['answer']}}}" for row in rows(approach, n, seed, 3)]
                assert results.accuracy(source.problem_set, policy, prm, method, n).tolist() == recorded, (seed, vote, method, n)


def test_a_vote_that_was_recorded_otherwise_is_listed(tmp_path):
    held = list(rows("best_of_n", 8, 0, 2))
    held[1]["pred_weighted@4"] = "\\boxed{77}"
    held[1]["answer"] = "77"
    folder = tmp_path / "P-best-of-N-completions"
    write(folder / folder_name("best_of_n", 8, 0) / "a.parquet", iter(held))
    said = told(tmp_path / "runs", [folder])
    assert "PRM-Vote at 4: 1 of 2 agree" in said and "PRM-Vote at 8: 2 of 2 agree" in said and "different grades: 1" in said
    assert "row 2: last+vote gives" in said and "at 4, recorded is '77', gold '77': wrong here, right as recorded" in said


def test_what_is_chosen_is_listed_before_anything_is_fetched(by_name, tmp_path):
    sources, fetched = by_name
    said = told(tmp_path / "runs", sources, listed=True, budgets=(8,), methods=("dvts", "best_of_n"), seeds=(1,))
    assert fetched == [] and not (tmp_path / "runs").exists() and "2 of 10 configurations chosen" in said
    [line] = [line for line in said.splitlines() if "dvts" in line and "chosen" in line]
    assert line.split()[:4] == ["Llama-3.2-1B-Instruct", "dvts", "8", "1"]
    told(tmp_path / "runs", sources, budgets=(4,), seeds=(0,))
    assert sorted(fetched) == [f"{folder_name('dvts', 4, 0)}/train-00000-of-00001.parquet"] * 2, "of both searches"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"budgets": (8, 16)}, "no configuration has --n 16; there are 4, 8"),
        ({"seeds": (7,)}, "no configuration has --seeds 7; there are 0, 1"),
        ({"methods": ("genetic",)}, "no configuration has --methods genetic; there are beam_search, best_of_n, dvts"),
        ({"methods": ("best_of_n",), "budgets": (4,)}, "no configuration has all of what was chosen"),
    ],
)
def test_a_choice_that_nothing_has(three, tmp_path, choice, said):
    with pytest.raises(ExchangeError, match=said):
        told(tmp_path / "runs", three, **choice)


def test_seeds_of_samples_make_one_pool_where_that_is_asked(three, tmp_path):
    told(tmp_path / "runs", three, pool=True, name="x")
    [source] = imported.all_of(tmp_path / "runs")
    assert {(h.spec.n, h.spec.seed) for h in source.runs if h.spec.method == "pool"} == {(16, 0)}
    assert {h.spec.seed for h in source.runs if h.spec.method == "dvts"} == {0, 1}


def test_a_name_that_contradicts_the_rows(tmp_path):
    def import_as(name, approach, held, **options):
        folder = (
            tmp_path / name / "P-best-of-N-completions"
            if approach == "best_of_n"
            else tmp_path / name / f"P-{SUFFIX[approach]}-completions"
        )
        write(folder / folder_name(approach, 8, 0) / "a.parquet", held)
        said = told(tmp_path / f"{name}-runs", [folder], **options)
        [source] = imported.all_of(tmp_path / f"{name}-runs")
        return said, {h.spec.method for h in source.runs}

    said, methods = import_as("dvts", "best_of_n", rows("dvts", 8, 0, 3))
    assert methods == {"dvts"} and "named as best-of-N, but tokens are not counted" in said and "read as dvts" in said
    said, methods = import_as("beam", "best_of_n", rows("beam_search", 8, 0, 3), search="beam_search")
    assert methods == {"beam_search"}
    said, methods = import_as("samples", "dvts", rows("best_of_n", 8, 0, 3))
    assert methods == {"pool", "scores"} and "named as dvts, but the tokens of each completion are counted: read as best-of-N" in said
    with pytest.raises(ExchangeError, match="(?s)6 completions of 3 rows repeat others: a search, and nothing says which"):
        import_as("refused", "best_of_n", rows("beam_search", 8, 0, 3))
    with pytest.raises(ExchangeError, match="8 completions, and its name says N = 16"):
        folder = tmp_path / "n" / "P-DVTS-completions"
        write(folder / folder_name("dvts", 16, 0) / "a.parquet", rows("dvts", 8, 0, 3))
        told(tmp_path / "n-runs", [folder])


def test_a_search_without_a_name_is_asked_for(tmp_path):
    folder = dataset(tmp_path, "dvts").rename(tmp_path / "mine")
    with pytest.raises(ExchangeError, match="nothing says which search .*mine holds.*--search dvts"):
        told(tmp_path / "runs", [folder])
    assert "dvts of mine" in told(tmp_path / "runs", [folder], search="dvts")
    assert "samples of Q" in told(tmp_path / "other", [dataset(tmp_path, "best_of_n").rename(tmp_path / "Q")]), "samples name themselves"


def test_folders_without_parquet_and_damaged_files(tmp_path):
    folder = dataset(tmp_path, "dvts")
    path = folder / folder_name("dvts", 8, 0) / "train-00000-of-00001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ExchangeError, match="cannot be read from here on"):
        told(tmp_path / "runs", [folder])
    path.unlink()
    with pytest.raises(ExchangeError, match="has no configuration.*no files"):
        told(tmp_path / "runs", [folder])
    path.with_name("README.md").write_text("x")
    with pytest.raises(ExchangeError, match="has no parquet file"):
        told(tmp_path / "runs", [folder])
    with pytest.raises(ExchangeError, match="only datasets of released runs"):
        told(tmp_path / "runs", [folder, tmp_path])


def test_a_dataset_without_configurations(by_name, tmp_path, monkeypatch):
    monkeypatch.setattr(
        released.HfApi,
        "dataset_info",
        lambda *a, **k: SimpleNamespace(sha=COMMIT, siblings=[SimpleNamespace(rfilename="README.md", size=1)]),
    )
    with pytest.raises(ExchangeError, match="has no configuration.*it has: README.md"):
        told(tmp_path / "runs", ["hf:a/b"])
    with pytest.raises(ExchangeError, match="is no dataset; give hf:OWNER/DATASET"):
        told(tmp_path / "runs", ["hf:nothing"])


def test_no_network_is_one_line_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(released.hub, "DEADLINE", 0.5)
    for answer, said in ((lambda *a, **k: time.sleep(60), "no answer within"), (lambda *a, **k: 1 / 0, "division by zero")):
        monkeypatch.setattr(released.HfApi, "dataset_info", answer)
        started = time.monotonic()
        with pytest.raises(
            ModelError, match=f"{said}.*hf download a/b --repo-type dataset --local-dir FOLDER.*give the path of its folder"
        ) as error:
            told(tmp_path / "runs", ["hf:a/b@main"])
        assert time.monotonic() - started < 10 and "\n" not in str(error.value)


def test_a_preset_of_released_runs_imports_them_once_and_renders_what_they_serve(tmp_path, monkeypatch):
    sources = [dataset(tmp_path, approach, budgets=(4, 8), problems=12) for approach in ("beam_search", "dvts")]
    sources.append(dataset(tmp_path, "best_of_n", problems=12))
    content = yaml.safe_load((presets.PRESETS / "released.yaml").read_text())
    assert [s.rpartition("-Instruct-")[2] for s in content["released"]["sources"]] == [f"{s}-completions" for s in SUFFIX.values()][:1] + [
        "beam-search-completions",
        "DVTS-completions",
    ]
    content["released"]["sources"] = list(map(str, sources))
    content["common"] |= {"store": "runs", "figures": "figures"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(presets.StudyError, match="are not imported yet; 'python -m tts run --preset .*mine.yaml' fetches them first"):
        presets.plan(str(path))
    assert "12 problems" in "\n".join(presets.import_released(str(path)))
    assert list(presets.import_released(str(path))) == [], "once"
    jobs = presets.plan(str(path))
    assert [job.notebook for job in jobs] == [
        "01_tts_methods",
        "02_reward_models",
        "02a_prm_failures",
        "04_difficulty_bins",
        "05_compute_optimal",
        "09_findings",
    ]
    for job in jobs:
        grid = job.experiment().grid
        assert (grid.aggregate, grid.vote) == ("last", "vote") and job.values["figures"].endswith("figures")
        assert runner.missing(grid, job.experiment().store) == [], job.notebook


def test_the_preset_without_network_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(presets.Preset, "imported", lambda preset: None)
    monkeypatch.setattr(sys, "argv", ["tts", "run", "--preset", "released"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "give the path of its folder instead" in said


def test_a_copied_file_of_a_dataset_is_used_once(tmp_path):
    folder = dataset(tmp_path, "best_of_n", seeds=(0, 1))
    first = folder / folder_name("best_of_n", 8, 0) / "train-00000-of-00001.parquet"
    (folder / folder_name("best_of_n", 8, 1) / "train-00000-of-00001.parquet").write_bytes(first.read_bytes())
    first.with_name("copy.parquet").write_bytes(first.read_bytes())
    said = told(tmp_path / "runs", [folder], pool=True, name="x")
    assert "samples of Llama-3.2-1B-Instruct, N = 8, seed 0" in said and said.count("a byte-identical copy of ") == 2


# -- a download that breaks off ------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """best-of-N's dataset with two configurations on a Hub of its own, and the paths of their files."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # of which what has arrived is kept: 10 MB, more than these files have
    folder = dataset(tmp_path / "published", "best_of_n", seeds=(0, 1))
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))
    with serving(monkeypatch) as start:
        yield start(folder, f"HuggingFaceH4/{folder.name}"), paths


def test_a_broken_download_goes_on_where_it_was(served, tmp_path):
    hub, (first, second) = served
    hub.cuts[second] = [5000]
    assert "2 of 2 configurations chosen" in told(tmp_path / "runs", [f"hf:{hub.name}"])
    start, of, kept = hub.fetched()[2].rpartition(" from ")
    assert hub.fetched()[:2] == [first, second] and (start, of) == (second, " from ") and 4000 < int(kept) <= 5000
    [snapshot] = (tmp_path / "hub").glob(f"*/snapshots/{HUB_COMMIT}")
    assert (snapshot / second).read_bytes() == (hub.folder / second).read_bytes()


def test_an_import_that_was_given_up_fetches_only_what_is_missing(served, tmp_path, monkeypatch):
    hub, (first, second) = served
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between tries
    hub.cuts[second] = [0] * 20
    with pytest.raises(ModelError, match=f"cannot get 'HuggingFaceH4/{hub.folder.name}' from the Hugging Face Hub: .*give the path"):
        told(tmp_path / "runs", [f"hf:{hub.name}"])
    assert not list((tmp_path / "runs").rglob("*.parquet")), "nothing is imported by halves"
    hub.cuts.clear()
    before = len(hub.fetched())
    assert "2 of 2 configurations chosen" in told(tmp_path / "runs", [f"hf:{hub.name}"])
    assert hub.fetched()[before:] == [second]
