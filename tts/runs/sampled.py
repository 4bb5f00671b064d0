"""The steps that a store holds, by path: each is unpacked when a search asks for it, as most that are known are never asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tts.policies.remembering import Step, StepKey
from tts.runs.chunk import STEPS


class _Columns(NamedTuple):
    """Of one chunk's steps: token ids end to end, where each step's begin and end, and its other values."""

    ids: np.ndarray
    ends: list[int]
    texts: list[str]
    statuses: list[str]
    generated: list[int]


class SampledSteps(Mapping[StepKey, Step]):
    """Steps of some chunks; where several hold the same path, the first one's.

    Args:
        tables: of chunks, with the columns ``problem_id`` and :data:`tts.runs.chunk.STEPS`.
    """

    def __init__(self, tables: Iterable[pa.Table] = ()):
        self._chunks: list[_Columns] = []
        self._places: dict[StepKey, tuple[int, int]] = {}
        for table in tables:
            self._add(table.combine_chunks())

    def _add(self, table: pa.Table) -> None:
        of_rows = pa.concat_arrays(table.column(STEPS.name).chunks) if len(table) else pa.array([], STEPS.type)
        steps = of_rows.flatten()
        paths, ids, *others = (steps.field(name) for name in ("path", "ids", "text", "status", "generated"))
        problems = table.column("problem_id").take(pc.list_parent_indices(of_rows)).to_pylist()
        path, chunk = paths.flatten().to_pylist(), len(self._chunks)
        for place, (problem, (start, stop)) in enumerate(zip(problems, pairwise(_ends(paths)))):
            self._places.setdefault((problem, *path[start:stop]), (chunk, place))
        self._chunks.append(_Columns(ids.flatten().to_numpy(), _ends(ids), *(values.to_pylist() for values in others)))

    def __getitem__(self, key: StepKey) -> Step:
        number, place = self._places[key]
        chunk = self._chunks[number]
        return Step(
            problem_id=key[0],
            path=list(key[1:]),
            ids=array("i", chunk.ids[chunk.ends[place] : chunk.ends[place + 1]].tobytes()),
            text=chunk.texts[place],
            status=chunk.statuses[place],
            generated=chunk.generated[place],
        )

    def __iter__(self) -> Iterator[StepKey]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _ends(lists: pa.ListArray) -> list[int]:
    """Where the lists begin and end among their values, end to end."""
    return list(accumulate(pc.list_value_length(lists).to_pylist(), initial=0))
