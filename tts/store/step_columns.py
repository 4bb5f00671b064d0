"""Steps that searches of a problem share, from one search to the next.

A stored step is unpacked when a search asks for it, since most are never asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from tts.policies.step_reuse import Step, StepKey
from tts.store.chunk_file import STEPS


class ChunkSteps(Mapping[StepKey, Step]):
    """The steps that were sampled for one chunk, by path.

    Args:
        table: the chunk, with the columns ``problem_id`` and :data:`tts.store.chunk_file.STEPS`.
    """

    def __init__(self, table: pa.Table):
        table = table.combine_chunks()
        of_rows = pa.concat_arrays(table.column(STEPS.name).chunks) if len(table) else pa.array([], STEPS.type)
        steps = of_rows.flatten()
        paths, ids, *others = (steps.field(name) for name in ("path", "ids", "text", "status", "generated"))
        problems = table.column("problem_id").take(pc.list_parent_indices(of_rows)).to_pylist()
        path = paths.flatten().to_pylist()
        self._places = {
            (problem, *path[start:stop]): at for at, (problem, (start, stop)) in enumerate(zip(problems, pairwise(_ends(paths))))
        }
        self._ids, self._ends = ids.flatten().to_numpy(), _ends(ids)  # token ids end to end, and where each step's begin and end
        self._texts, self._statuses, self._generated = (values.to_pylist() for values in others)

    def __getitem__(self, key: StepKey) -> Step:
        at = self._places[key]
        return Step(
            problem_id=key[0],
            path=list(key[1:]),
            ids=array("i", self._ids[self._ends[at] : self._ends[at + 1]].tobytes()),
            text=self._texts[at],
            status=self._statuses[at],
            generated=self._generated[at],
        )

    def __contains__(self, key: object) -> bool:
        return key in self._places  # Mapping's own would unpack the step

    def __iter__(self) -> Iterator[StepKey]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class StepCache:
    """The steps of one chunk: opened for it, asked by the policy, told what was newly sampled, and written with the chunk.

    Args:
        chunks: steps that earlier searches sampled for the chunk's problems; where several hold the same path, the first one's step counts.

    Attributes:
        sampled: steps that were sampled anew.
    """

    def __init__(self, chunks: Iterable[ChunkSteps] = ()):
        self.chunks = list(chunks)
        self.sampled: list[Step] = []

    def get(self, key: StepKey) -> Step | None:
        """A step of an earlier search; None where none sampled it."""
        return next((chunk[key] for chunk in self.chunks if key in chunk), None)

    def add(self, step: Step) -> None:
        """Keeps a step that was sampled anew."""
        self.sampled.append(step)

    def column(self, rows: Sequence[dict]) -> pa.ListArray | None:
        """The steps that were sampled anew, as the column :data:`tts.store.chunk_file.STEPS` of the chunk's rows; None for none."""
        if not self.sampled:
            return None
        of_problem: dict[str, list[Step]] = {row["problem_id"]: [] for row in rows}
        for step in self.sampled:
            of_problem[step["problem_id"]].append(step)  # of which Arrow takes what the column's type names
        return pa.array(list(of_problem.values()), STEPS.type)


def _ends(lists: pa.ListArray) -> list[int]:
    """Where the lists begin and end among their values, end to end."""
    return list(accumulate(pc.list_value_length(lists).to_pylist(), initial=0))
