"""What ran: the stored runs behind a study, with their models, tokens, FLOPs and wall time."""

import importlib.metadata
import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tts.analysis import costs, flops
from tts.analysis.accuracy import Results
from tts.common.paths import commit
from tts.policies import DEFAULT
from tts.store.chunk_file import read_chunk
from tts.store.store import Run

VERSIONS = ("torch", "transformers", "tokenizers", "datasets", "numpy", "pandas", "matplotlib", "papermill")


def runs(results: Sequence[Results]) -> pd.DataFrame:
    """Every stored run that the results read, once: what ran, what its engine could not do, tokens, and seconds of wall time.

    FLOPs are 2 x parameters x tokens, the PRM's included; the policy's prompts count as read once a problem.
    """
    stored: dict[Path, tuple[Run, dict[Path, None]]] = {}
    for one in results:
        for run in map(one.store.run, one.grid.specs()):
            paths = [run.path(c) for name in one.grid.problems for c in one.grid.chunks(name) if run.has(c)]
            stored.setdefault(run.folder, (run, {}))[1].update(dict.fromkeys(paths))
    return pd.DataFrame([_run(run, paths) for run, paths in stored.values() if paths])


def _run(run: Run, paths: Iterable[Path]) -> dict:
    spec = run.spec
    columns = ("prompt_tokens", "policy_tokens", "prm_tokens")
    tables = [read_chunk(path, columns) for path in paths]
    counts = (np.concatenate([t[name].to_numpy().astype(float) for t in tables]) for name in columns)
    prompts, written, read = (int(summed) if np.isfinite(summed := count.sum()) else summed for count in counts)  # NaN: not recorded
    policy, prm = spec.policy.name, spec.guide or ""
    spent = flops.inference(costs.shape_of(policy).parameters, prompts + written) if spec.method != "scores" else 0.0
    return {
        "method": {"pool": "samples", "scores": "PRM scores of samples"}.get(spec.method, spec.method),
        "policy": policy,
        "PRM": prm,
        "N": spec.n,
        "seed": spec.seed,
        "engine": spec.engine.name,
        "engine's limits": "; ".join(run.limits()) if spec.engine.name != DEFAULT else "",
        "PRM's limits": _unread(tables),
        "problems": sum(t.num_rows for t in tables),
        "policy tokens": written if spec.method != "scores" else 0,
        "PRM tokens": read,
        "FLOPs": spent + (flops.inference(costs.shape_of(prm).parameters, read) if prm else 0.0),
        "seconds": sum(float(t.schema.metadata[b"seconds"]) for t in tables),
    }


def _unread(tables: Sequence[pa.Table]) -> str:
    """What the PRM could not read of these chunks, in words."""
    kept = [json.loads(t.schema.metadata.get(b"unread", b"{}")) for t in tables]
    steps, unknown, tokens = (sum(counts.get(name, 0) for counts in kept) for name in ("steps", "unknown", "tokens"))
    beyond = [f"{steps:,} steps that end beyond its context scored 0"] if steps else []
    for name, told in (("solutions", "could not be asked about"), ("unjudged", "got no verdict")):
        beyond += [f"{count:,} solutions {told} and scored 0"] if (count := sum(counts.get(name, 0) for counts in kept)) else []
    return "; ".join([*beyond, f"{unknown / tokens:.2%} of its tokens are unknown to it"] if unknown else beyond)


def models(results: Sequence[Results]) -> pd.DataFrame:
    """Every policy and PRM of the results: parameters and the hash of its weights."""
    specs = [spec for one in results for spec in one.grid.specs()]
    named = {m.name: m.weights for spec in specs for m in (spec.policy, spec.prm) if m}
    sizes = [costs.shape_of(name).parameters for name in named]
    return pd.DataFrame({"model": list(named), "parameters": sizes, "weights": list(named.values())})


def environment() -> str:
    """Python, the machine, the libraries' versions and the suite's commit, in one line."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}; {versions}; commit {commit()}"


def total(table: pd.DataFrame) -> str:
    """The sums over a table of :func:`runs`, in one line."""
    if table.empty:
        return "no stored run"
    sums = table[["policy tokens", "PRM tokens", "FLOPs", "seconds"]].sum(skipna=False)
    shown = [("policy tokens", ",.0f"), ("PRM tokens", ",.0f"), ("FLOPs", ".3g")]
    counts = ", ".join(f"{format(sums[name], how) if np.isfinite(sums[name]) else 'an unknown number of'} {name}" for name, how in shown)
    return f"{len(table)} runs: {counts}, {sums['seconds'] / 60:.1f} minutes of generation"
