"""Steps that searches of a problem share, from one to the next; a stored one is unpacked when it is asked for, since most never are."""

from array import array
from collections import UserDict
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tts.policies.step_reuse import Step, StepKey
from tts.store.chunk_file import STEPS


class ChunkSteps(UserDict[StepKey, Any]):
    """The steps that were sampled for one chunk, by path: of the ids of its problems, and its column :data:`STEPS`."""

    def __init__(self, problem_ids: Sequence[str], steps: pa.ListArray):
        self._steps = steps.flatten()
        rows, paths = pc.list_parent_indices(steps).to_pylist(), self._steps.field("path").to_pylist()
        self.data = {(problem_ids[row], *path): at for at, (row, path) in enumerate(zip(rows, paths))}  # their places in the column

    def __getitem__(self, key: StepKey) -> Step:
        step = self._steps[self.data[key]].as_py()
        return step | {"problem_id": key[0], "ids": array("i", step["ids"])}


class StepCache:
    """The steps of one chunk: opened for it, asked by the policy, told what was newly sampled, and written with the chunk."""

    def __init__(self, chunks: Iterable[ChunkSteps] = ()):
        self.chunks = list(chunks)  # that earlier searches made of its problems; the first one's step counts where several have it
        self.sampled: list[Step] = []  # anew

    def get(self, key: StepKey) -> Step | None:
        """A step of an earlier search; None where none sampled it."""
        return next((step for chunk in self.chunks if (step := chunk.get(key))), None)

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
