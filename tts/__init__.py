"""Test-time scaling: search methods, process reward models and their analysis.

The public names below are imported when they are first asked for: ``import tts`` alone takes no time.
"""

import os
from importlib import import_module

_MODULES = {
    "committed": "tts.analysis", "costs": "tts.analysis", "difficulty": "tts.analysis", "long_cot": "tts.analysis",
    "pathologies": "tts.analysis", "search_losses": "tts.analysis", "stats": "tts.analysis", "adviser": "tts.strategy",
    "choices": "tts.strategy", "verifier_map": "tts.strategy", "checks": "tts.claims", "comparisons": "tts.claims",
    "findings": "tts.claims", "published": "tts.claims", "comparison_plots": "tts.report",
    "explorer": "tts.report", "plots": "tts.report", "real_models": "tts.report", "search_steps": "tts.report", "search_tree": "tts.report",
    "style": "tts.report", "summaries": "tts.report", "tables": "tts.report", "labelled": "tts.generate", "recorded": "tts.generate",
}  # fmt: skip
_NAMES = {
    "notebook": "tts.study.experiment", "Experiment": "tts.study.experiment", "Grid": "tts.generate.grid", "Rule": "tts.tasks.selection",
    "Results": "tts.analysis.accuracy", "Store": "tts.store.store", "Engines": "tts.generate.chunks", "open_policy": "tts.policies",
    "open_prm": "tts.reward_models", "load_problems": "tts.tasks.problems", "best_of_n": "tts.search", "beam_search": "tts.search",
    "dvts": "tts.search", "method_of": "tts.search", "is_imported": "tts.store.imported", "pocket_models": "tts.models.files",
    "shown": "tts.common.names",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{_MODULES[name]}.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'tts' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_NAMES])


# Modules of one's own that register methods, PRM families, engines or tasks; the environment reaches kernels and workers too.
for _plugin in filter(None, os.environ.get("TTS_PLUGINS", "").split(",")):
    try:
        import_module(_plugin)
    except Exception as error:
        hint = "; is its folder on PYTHONPATH?" if isinstance(error, ModuleNotFoundError) and error.name == _plugin else ""
        raise ImportError(f"TTS_PLUGINS names {_plugin!r}: {type(error).__name__}: {error}{hint}") from error
