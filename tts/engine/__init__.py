"""The engine: any causal transformer over a KV cache that sequences enter, leave and fork; ``docs/engine.md`` tells how."""

from tts.engine.engine import FORKING, Engine, Fork, Marks, Reading, Stop, Text
from tts.engine.slot_cache import State, capacity_for

__all__ = ["FORKING", "Engine", "Fork", "Marks", "Reading", "State", "Stop", "Text", "capacity_for"]
