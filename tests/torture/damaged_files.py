"""The damaged files of the campaign: which, how, who meets them, and what must be said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from torture.damages import BINARY, EMPTY, Damage, edited, flipped, removed, replaced, substituted, truncated, unrecorded
from torture.invoke import command_line
from tts.analysis import committed, difficulty
from tts.claims import findings, published
from tts.common.paths import DATA, NOTEBOOKS, ROOT
from tts.generate import labelled
from tts.generate.grid import Grid
from tts.study.cli import guarded

MODELS, PRESETS = DATA / "models", NOTEBOOKS / "presets"
POLICY, PRM = MODELS / "policy-6k", MODELS / "prm-qwen-28k"
PLACES = ROOT / "data" / "places"
RUN = [
    "run",
    "01_tts_methods",
    "--preset",
    "smoke",
    "-p",
    "policy=policy-6k",
    "-p",
    "prm=prm-qwen-28k",
    "-p",
    "problems={pocket-main: 2}",
    "-p",
    f"store={PLACES / 'runs'}",
    "-p",
    f"figures={PLACES / 'figures'}",
]
FULL = Grid(problems={"pocket-main": 4}, policies=["policy-6k"], prms=["prm-qwen-28k"], samples=64, budgets=[64])


class Case(NamedTuple):
    """A damaged file, who meets it, and what must be said beside the file's name."""

    name: str
    path: Path
    damage: Damage
    met_by: Callable[[], None]
    said: tuple[str, ...] = ()
    names_file: bool = True


# -- who meets it ------------------------------------------------------------------------------------------------


def calling(function: Callable[[], object]) -> Callable[[], None]:
    """A call of the library, its errors printed as the command line prints them."""
    return lambda: guarded(lambda: function())


def cases(strategy: Path, problems: Path) -> list[Case]:
    """Every damaged file.

    Args:
        strategy: a strategy file of the policy and the PRM.
        problems: a file of problems.
    """
    run, listed = command_line(*RUN), command_line("list")
    weights, config, card, tokenizer = (POLICY / name for name in ("model.safetensors", "config.json", "card.json", "tokenizer.json"))
    fresh = command_line(*RUN, "-p", "seed=7")  # of which nothing is stored
    models = [
        Case("weights cut in half", weights, unrecorded(truncated(0.5)), fresh, ("policy-6k", "again"), False),
        Case("weights cut to nothing", weights, unrecorded(EMPTY), fresh, ("policy-6k", "again"), False),
        Case("weights without their last byte", weights, unrecorded(truncated(0.9999)), fresh, ("policy-6k", "again"), False),
        Case("weights with a flipped length", weights, unrecorded(flipped(0.0)), fresh, ("policy-6k",), False),
        Case("weights with a flipped header", weights, unrecorded(flipped(0.001)), fresh, ("policy-6k",), False),
        Case("weights with a flipped byte", weights, flipped(0.7), fresh, ("policy-6k", "card.json", "restore"), False),
        Case("weights with one flipped bit", weights, flipped(0.9, 1), fresh, ("policy-6k", "card.json", "restore"), False),
        Case("a PRM's weights with a flipped byte", PRM / "model.safetensors", flipped(0.5), fresh, ("prm-qwen-28k", "card.json"), False),
        Case("a PRM's weights cut short", PRM / "model.safetensors", unrecorded(truncated(0.9)), fresh, ("prm-qwen-28k", "again"), False),
        Case(
            "another model's weights",
            weights,
            lambda p: shutil.copy(MODELS / "policy-6k-seed1" / p.name, p),
            fresh,
            ("policy-6k", "exchanged"),
            False,
        ),
        Case("no weights", weights, removed, fresh, ("policy-6k",), False),
        Case("config cut short", config, truncated(0.5), fresh, ("policy-6k",), False),
        Case("config that is empty", config, EMPTY, fresh, ("policy-6k",), False),
        Case("config that is a list", config, replaced("[]"), fresh, ("policy-6k",), False),
        Case("config that is no text", config, BINARY, fresh, ("policy-6k",), False),
        Case("config of another width", config, edited(lambda c: c.update(hidden_size=64)), fresh, ("policy-6k",), False),
        Case("config of an unknown kind", config, edited(lambda c: c.update(model_type="nonsense")), fresh, ("policy-6k",), False),
        Case(
            "config that asks for remote code",
            config,
            edited(lambda c: c.update(model_type="x", auto_map={"AutoConfig": "evil.Evil"})),
            fresh,
            ("policy-6k",),
            False,
        ),
        Case("config of no layers", config, edited(lambda c: c.update(num_hidden_layers="two")), fresh, ("policy-6k",), False),
        Case("no config", config, removed, fresh, ("policy-6k", "config.json"), False),
        Case("card cut short, listed", card, truncated(0.5), listed, ("git checkout",)),
        Case("card cut short, run", card, truncated(0.3), fresh, ("git checkout",)),
        Case("card that is a list", card, replaced("[1]"), fresh, ("git checkout",)),
        Case("card that is no text", card, BINARY, fresh, ("git checkout",)),
        Case("a PRM's card cut short", PRM / "card.json", truncated(0.5), fresh, ("git checkout",)),
        Case("tokenizer cut short", tokenizer, truncated(0.5), fresh, ("policy-6k",), False),
        Case("tokenizer that is empty", tokenizer, EMPTY, fresh, ("policy-6k",), False),
        Case("tokenizer that is no text", tokenizer, BINARY, fresh, ("policy-6k",), False),
        Case("tokenizer without a vocabulary", tokenizer, edited(lambda c: c["model"].update(vocab={})), fresh, ("policy-6k",), False),
        Case("no tokenizer", tokenizer, removed, fresh, ("policy-6k",), False),
        Case("tokenizer's declaration cut short", POLICY / "tokenizer_config.json", truncated(0.5), fresh, ("again",)),
        Case("tokenizer's declaration that is a list", POLICY / "tokenizer_config.json", replaced("[]"), fresh, ("again",)),
        Case("no chat template", POLICY / "chat_template.jinja", removed, fresh, ("policy-6k", "chat template"), False),
        Case(
            "chat template cut short",
            POLICY / "chat_template.jinja",
            replaced("{% for message in"),
            fresh,
            ("policy-6k", "chat_template.jinja"),
            False,
        ),
    ]
    pool = next((PLACES / "runs").glob("pool-*"))
    chunk, note = next(pool.glob("*.parquet")), pool / "run.json"
    store = command_line("store", "--preset", "elsewhere")
    export = command_line("export", str(PLACES / "export.jsonl"), "--preset", "elsewhere")
    compare = command_line("compare", "pool-", "cot-", "--store", str(PLACES / "runs"))
    stores = [
        *(
            Case(f"chunk {what}, {who}", chunk, damage, met_by, ("delete it", "run the study again"))
            for what, damage in {
                "cut short": truncated(0.6),
                "that is empty": EMPTY,
                "with a flipped byte": flipped(0.3),
                "with a flipped footer": flipped(0.98),
                "that is no parquet": BINARY,
            }.items()
            for who, met_by in {"exported": export, "compared": compare}.items()
        ),
        Case("chunk of other columns", chunk, lambda p: pd.DataFrame({"a": [1]}).to_parquet(p), export, ("delete it",)),
        Case("chunk that other chunks build on", chunk, _cut_and_remove_scores, run, ("delete it",)),
        Case("run.json cut short", note, truncated(0.5), store, ("delete it",)),
        Case("run.json that is empty", note, EMPTY, store, ("delete it",)),
        Case("run.json that is no text", note, BINARY, export, ("delete it",)),
        Case("run.json of another run", note, edited(lambda c: c.update(n=3)), export, ("delete it",)),
        Case("run.json that is a list", note, replaced("[]"), store, ("delete it",)),
    ]
    preset = PRESETS / "smoke.yaml"
    canary = PLACES / "canary"
    presets = [
        Case("preset cut short", preset, truncated(0.02), run),
        Case("preset that is empty", preset, EMPTY, run),
        Case("preset that is a list", preset, replaced("[a, b]"), run),
        Case("preset that is no text", preset, BINARY, run),
        Case("preset that is not closed", preset, replaced("common: {problems: {pocket-main: 6}\nnotebooks:"), run),
        Case("preset without notebooks", preset, replaced("common: {}\n"), run, ("notebooks",)),
        Case("preset with a list of notebooks", preset, replaced("notebooks: [00_quickstart]\n"), run, ("notebooks",)),
        Case("preset with a notebook's list", preset, replaced("notebooks: {01_tts_methods: [1]}\n"), run, ("01_tts_methods",)),
        Case("preset with unknown content", preset, replaced("notebooks: {01_tts_methods: {}}\nnotebook: 3\n"), run, ("'notebook'",)),
        Case(
            "preset with an unknown parameter",
            preset,
            substituted("n: 8", "m: 8"),
            command_line("run", "00_quickstart", "--preset", "smoke"),
            ("m",),
            False,
        ),
        Case("preset with words for numbers", preset, substituted("samples: 8", "samples: eight"), run, ("samples", "'eight'"), False),
        Case("preset with code", preset, replaced(f"notebooks: !!python/object/apply:os.system ['touch {canary}']\n"), run),
        Case(
            "preset with a word for seeds",
            preset,
            replaced("notebooks: {01_tts_methods: {}}\nseeds: one\n"),
            command_line("outcomes", "--preset", "smoke"),
            ("seeds",),
        ),
    ]
    advise = command_line("advise", "--policy", "policy-6k", "--prm", "prm-qwen-28k", "--strategy", str(strategy), "--budget", "8")
    first = lambda change: edited(lambda c: change(c["strategies"][0]))  # noqa: E731
    strategies = [
        Case(f"strategy {name}", strategy, damage, advise, ("05_compute_optimal",))
        for name, damage in {
            "cut short": truncated(0.5),
            "that is empty": EMPTY,
            "that is a list": replaced("[]"),
            "that is no text": BINARY,
            "of another version": edited(lambda c: c.update(version=99)),
            "of no sampling": first(lambda s: s.pop("sampling")),
            "without a temperature": first(lambda s: s["sampling"].pop("temperature")),
            "of a negative N": first(lambda s: s["entries"][0].update(n=-4)),
            "of an unknown method": first(lambda s: s["entries"][0].update(method="genetic")),
            "of an unknown vote": first(lambda s: s["entries"][0].update(vote="x")),
            "with a number that is none": first(lambda s: s["entries"][0].update(accuracy=float("nan"))),
            "without entries": first(lambda s: s.update(entries=[])),
            "without a name": first(lambda s: s["policy"].pop("name")),
            "of other weights": first(lambda s: s["policy"].update(weights="0")),
            "nested without end": replaced("[" * 100_000),
        }.items()
    ]
    own = command_line(*RUN[:6], "-p", f"problems={{{problems}: 2}}", *RUN[10:])
    line = '{"problem": "7,+8=?", "answer": "15"}\n'
    files = [
        Case(f"problems {name}", problems, replaced(text), own, said)
        for name, (text, said) in {
            "cut short": (line + line[:20], ("line 2",)),
            "that are empty": ("", ("no problems",)),
            "that are no text": (bytes(range(256)), ("UTF-8",)),
            "in UTF-16": (line.encode("utf-16"), ("UTF-8",)),
            "nested without end": ("[" * 200_000, ("line 1",)),
            "of half a character": ('{"problem": "\\ud800", "answer": 1}', ("line 1", "half a character")),
            "of lists": ('{"problem": [1], "answer": 2}', ("line 1", "'problem'")),
            "without an answer": ('{"problem": "7,+8=?"}', ("line 1", "'answer'")),
            "with an endless number": ('{"problem": "1", "answer": ' + "9" * 9999 + "}", ("line 1",)),
            "of no objects": ("5\n", ("line 1",)),
        }.items()
    ]
    ledger, counts, held = NOTEBOOKS / "claims.yaml", DATA / "difficulty" / "pocket-main.csv", DATA / "outcomes" / "pocket-full.parquet"
    claims, count, full = (
        calling(findings.read),
        calling(lambda: difficulty.known_pass_at_1(FULL, "policy-6k", "pocket-main")),
        calling(lambda: committed.committed(FULL)),
    )
    evidence = [
        Case("claims cut short", ledger, truncated(0.5), claims),
        Case("claims that are empty", ledger, EMPTY, claims),
        Case("claims that are no text", ledger, BINARY, claims),
        Case("claims of an unknown check", ledger, substituted("check: small_over_large", "check: nonsense"), claims, ("nonsense",)),
        Case("no claims", ledger, removed, claims, ("git checkout",)),
        Case("counts cut within a line", counts, lambda p: p.write_text(p.read_text()[:150]), count, ("git checkout",)),
        Case("counts without a column", counts, substituted("weights,", "weight,"), count, ("weights", "git checkout")),
        Case("counts with a word", counts, substituted(",128,2\n", ",128,two\n"), count, ("git checkout",)),
        Case("counts of more than there are", counts, substituted(",128,2\n", ",128,200\n"), count, ("git checkout",)),
        Case("counts that are no text", counts, BINARY, count, ("git checkout",)),
        Case("outcomes cut short", held, truncated(0.5), full, ("git checkout",)),
        Case("outcomes with a flipped footer", held, flipped(0.9999), full, ("git checkout",)),
        Case("outcomes that are empty", held, EMPTY, full, ("git checkout",)),
        Case("outcomes of something else", held, lambda p: pd.DataFrame({"a": [1]}).to_parquet(p), full, ("git checkout",)),
        Case(
            "published table that is empty",
            DATA / "published" / "table5_gains_math500.csv",
            EMPTY,
            calling(lambda: published.read("table5")),
            ("git checkout",),
        ),
        Case(
            "solutions cut short",
            DATA / "localisation" / "pocket-test.jsonl",
            truncated(0.5),
            calling(lambda: labelled.read("test")),
            ("git checkout", "line"),
        ),
        Case("notebook cut short", NOTEBOOKS / "01_tts_methods.ipynb", truncated(0.5), run, ("git checkout",)),
        Case(
            "notebook whose parameters are no code",
            NOTEBOOKS / "01_tts_methods.ipynb",
            substituted("samples = 64", "samples = = 64"),
            run,
            ("git checkout",),
        ),
        Case(
            "notebook whose parameters are no literals",
            NOTEBOOKS / "01_tts_methods.ipynb",
            substituted("samples = 64", "samples = exit()"),
            run,
            ("git checkout",),
        ),
        Case("notebook that is a list", NOTEBOOKS / "01_tts_methods.ipynb", replaced("[]"), run, ("git checkout",)),
    ]
    return [*models, *stores, *presets, *strategies, *files, *evidence]


def _cut_and_remove_scores(path: Path) -> None:
    """The pool is damaged, and what was scored from it is to be made anew."""
    truncated(0.5)(path)
    for scores in (PLACES / "runs").glob("scores-*/*.parquet"):
        scores.unlink()


STRATEGY = {
    "version": 2,
    "strategies": [
        {
            "policy": {"name": "policy-6k", "weights": ""},
            "prm": {"name": "prm-qwen-28k", "weights": ""},
            "sampling": {"temperature": 0.7, "top_p": 1.0, "max_tokens": 160, "max_steps": 40},
            "beam_width": 4,
            "peek": 4,
            "thresholds": [0.6, 0.3],
            "aggregate": "product",
            "learnt_on": {"pocket-main": 6},
            "entries": [
                {
                    "difficulty": d,
                    "method": "dvts",
                    "aggregate": "min",
                    "vote": "max",
                    "n": 8,
                    "accuracy": 0.5,
                    "low": 0.2,
                    "high": 0.8,
                    "problems": 2,
                    "policy_tokens": 100.0,
                    "prm_tokens": 100.0,
                    "flops": 1e6,
                }
                for d in ("easy", "medium", "hard")
            ],
            "predicted": ["easy", "medium", "hard"] * 2,
            "right": {"8": [1.0, 0.5, 0.0, 0.0, 0.5, 1.0]},
            "plain": [{"name": "majority voting, N = 8", "right": [0.5] * 6, "cost": {"samples": 8.0, "tokens": 90.0, "flops": None}}],
        }
    ],
}
