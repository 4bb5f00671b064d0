"""The steps that a store holds, by path: each is unpacked when a search asks for it, as most that are known are never asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from tts.policies.step_reuse import Step, StepKey
from tts.store.chunk_file import STEPS


class ChunkSteps:
    """One chunk's steps.

    Args:
        table: of the chunk, with the columns ``problem_id`` and :data:`tts.store.chunk_file.STEPS`.
    """

    def __init__(self, table: pa.Table):
        table = table.combine_chunks()
        of_rows = pa.concat_arrays(table.column(STEPS.name).chunks) if len(table) else pa.array([], STEPS.type)
        steps = of_rows.flatten()
        paths, ids, *others = (steps.field(name) for name in ("path", "ids", "text", "status", "generated"))
        problems = table.column("problem_id").take(pc.list_parent_indices(of_rows)).to_pylist()
        path = paths.flatten().to_pylist()
        self.places = {
            (problem, *path[start:stop]): at for at, (problem, (start, stop)) in enumerate(zip(problems, pairwise(_ends(paths))))
        }
        self._ids, self._ends = ids.flatten().to_numpy(), _ends(ids)  # token ids end to end, and where each step's begin and end
        self._texts, self._statuses, self._generated = (values.to_pylist() for values in others)

    def step(self, key: StepKey) -> Step | None:
        """None for one that the chunk does not hold."""
        at = self.places.get(key)
        if at is None:
            return None
        return Step(
            problem_id=key[0],
            path=list(key[1:]),
            ids=array("i", self._ids[self._ends[at] : self._ends[at + 1]].tobytes()),
            text=self._texts[at],
            status=self._statuses[at],
            generated=self._generated[at],
        )


class SampledSteps(Mapping[StepKey, Step]):
    """Steps of some chunks; where several hold the same path, the first one's."""

    def __init__(self, chunks: Iterable[ChunkSteps] = ()):
        self._chunks = list(chunks)

    def __getitem__(self, key: StepKey) -> Step:
        for chunk in self._chunks:
            if (step := chunk.step(key)) is not None:
                return step
        raise KeyError(key)

    def __iter__(self) -> Iterator[StepKey]:
        return iter(dict.fromkeys(key for chunk in self._chunks for key in chunk.places))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _ends(lists: pa.ListArray) -> list[int]:
    """Where the lists begin and end among their values, end to end."""
    return list(accumulate(pc.list_value_length(lists).to_pylist(), initial=0))
