"""What determines a run's trajectories, apart from the problems; the key of a run is a hash of it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

ELSEWHERE = "imported"  # name of the engine of runs that were made elsewhere


@dataclass(frozen=True)
class Model:
    """A policy or a PRM: the name by which it was asked for, and what identifies its behaviour (:func:`tts.policies.weights_of`)."""

    name: str
    weights: str


@dataclass(frozen=True)
class TaskKey:
    """The kind of problem: its task's name and version, and a hash of the template of its prompt for the policy."""

    name: str
    version: int
    prompt: str
    system: str | None = None  # what the policy was told instead of the task's instruction


@dataclass(frozen=True)
class RunEngine:
    """What sampled, or scored: the policy's engine, or :data:`ELSEWHERE`."""

    name: str
    batch: int | None = None  # sequences decoded at once, where that is known
    chunk: int | None = None  # problems in a chunk; None where a run is one file


@dataclass(frozen=True)
class RunSpec:
    """A run."""

    method: str  # ``cot``, ``pool``, ``scores`` or the name of a search
    policy: Model  # that wrote the solutions
    prm: Model | None  # that scored them, if any did
    n: int  # budget
    sampling: dict[str, Any]  # fields of :class:`tts.search.sampling.Sampling`; of an imported run what was recorded, and the seed
    engine: RunEngine
    task: TaskKey | None = None  # None of imported runs, whose prompts are not known
    width: int | None = None  # setting of a search, as is max_steps
    max_steps: int | None = None
    constants: dict[str, float] | None = None  # of the search, where it has any
    version: int | None = None  # of the search, where it is not the first

    @classmethod
    def of(cls, stored: dict) -> RunSpec:
        """The run that :attr:`stored` describes; raises ``ValueError`` where it describes none."""
        kinds = {"policy": Model, "prm": Model, "engine": RunEngine, "task": TaskKey}
        try:
            return cls(**stored | {name: kind(**stored[name]) for name, kind in kinds.items() if stored.get(name)})
        except (TypeError, AttributeError):
            raise ValueError(f"it does not describe a run: {json.dumps(stored)[:120]}") from None

    @property
    def stored(self) -> dict:
        """As JSON text has it, without what is None; but that there is no PRM is said."""
        return {"prm": None} | asdict(self, dict_factory=lambda items: {name: value for name, value in items if value is not None})

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.stored, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def guide(self) -> str | None:
        """Name of the PRM."""
        return self.prm.name if self.prm else None

    @property
    def seed(self) -> int:
        return self.sampling["seed"]

    @property
    def elsewhere(self) -> bool:
        """Whether it was made elsewhere; scores given here to imported samples were not."""
        return self.engine == RunEngine(ELSEWHERE)

    @property
    def sampler(self) -> tuple:
        """What determines the steps of a problem, whichever search asks for them."""
        return self.policy, sorted(self.sampling.items()), self.engine, self.task

    def __str__(self) -> str:
        return f"{self.method} of {self.policy.name}{f' with {self.prm.name}' if self.prm else ''}, N = {self.n}"

    @property
    def brief(self) -> str:
        """The run in words with its seed, of folders the last part alone: ``math-shepherd:/path/to/prm`` is ``math-shepherd:…/prm``."""
        named = [re.sub(r"(?<!:/)(^|:)/(?!/).*/", r"\1…/", model.name) for model in (self.policy, self.prm) if model]
        return f"{self.method} of {' with '.join(named)}, N = {self.n}, seed {self.seed}"
