"""Test-time scaling: search methods, process reward models and their analysis.

The public names below are imported when they are first asked for: ``import tts`` alone takes no time.
"""

import os
from importlib import import_module
from typing import Any

_MODULES = {
    "analysis": "committed costs difficulty gpu_hours long_cot pathologies run_comparison search_losses stats",
    "claims": "checks comparisons domains equal_cost findings published released wording",
    "exchange": "plain summary",
    "generate": "dry_run labelled ray_pool recorded",
    "report": "comparison_plots explorer plots real_models redraw samples search_steps search_tree style summaries tables",
    "store": "imported",
    "strategy": "adviser choices verifier_map",
    "study": "doctor execution parameters presets",
}
_NAMES = {
    "notebook": "study.experiment", "Experiment": "study.experiment", "Grid": "generate.grid", "grid_of": "generate.grid",
    "Rule": "tasks.selection", "select": "tasks.selection", "Results": "analysis.accuracy", "Store": "store.store",
    "open_policy": "policies", "open_prm": "reward_models", "load_problems": "tasks.problems", "task_of_key": "tasks",
    "best_of_n": "search", "beam_search": "search", "dvts": "search", "method_of": "search", "is_imported": "store.imported",
    "pocket_models": "models.files", "shown": "common.names", "Engines": "generate.chunks",
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        return import_module(f"tts.{_ROOM_OF[name]}.{name}")
    if name in _NAMES:
        return getattr(import_module(f"tts.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'tts' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOM_OF, *_NAMES])


# Modules of one's own that register methods, PRM families, engines or tasks; the environment reaches kernels and workers too.
for _plugin in filter(None, os.environ.get("TTS_PLUGINS", "").split(",")):
    try:
        import_module(_plugin)
    except Exception as error:
        hint = "; is its folder on PYTHONPATH?" if isinstance(error, ModuleNotFoundError) and error.name == _plugin else ""
        raise ImportError(f"TTS_PLUGINS names {_plugin!r}: {type(error).__name__}: {error}{hint}") from error
