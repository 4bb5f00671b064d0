"""A causal transformer that reads texts, and samples: one token for all sequences at a time, which enter, end and leave meanwhile.

Samples of the same tokens are one row until they draw different ones (``docs/engine.md``): those of a small policy agree over most of a
step, and a search asks for many from the same place.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from tts.engine import huge_pages
from tts.engine.cached_model import CachedModel
from tts.engine.drawing import choose, confidence, uniforms
from tts.engine.packed import Packed, packs
from tts.engine.slot_cache import State, capacity_for
from tts.search.sampling import Sampling

FORKING = 0.25  # of samples that share a row, how many come to need one of their own before they end, about
_ON_CPU = 1536  # tokens read at once: what they become between two operations should stay in the processor's cache

_ROW = np.dtype([(name, np.int64) for name in ("length", "last", "done", "limit", "stepwise", "greedy", "count")] + [("in_use", np.bool_)])
"""A row: six fields of its :class:`Fork`, the number of tokens generated, and whether there are samples in it."""
_SAMPLE = np.dtype([("row", np.int64), ("key", np.int64), ("owner", object), ("said", np.float64, (2,))])


@dataclass(frozen=True)
class Marks:
    """Which tokens end solutions and steps; each array is ``(vocabulary,)``, of booleans."""

    ends: np.ndarray  # whether a token ends a solution
    holds_break: np.ndarray  # whether it holds a blank line
    starts_newline: np.ndarray
    ends_newline: np.ndarray


class Fork(NamedTuple):
    """Samples that start from the same tokens."""

    state: State | None  # cache of all these tokens but the last; None where there is just one
    length: int  # tokens that the cache holds
    last: int  # the last token, not in the cache
    done: int  # tokens that the solution had before
    limit: int  # tokens to be generated at most
    stepwise: bool  # whether a step's end is an end
    greedy: bool  # whether they are drawn at temperature 0, whatever the others are
    keys: Sequence[int]  # key of each sample's noise
    owners: Sequence[object]  # each sample's owner, given back where it ends
    generated: Sequence[int] = ()  # tokens that were generated before; of samples that waited for a row
    said: Sequence[Sequence[float]] = ()  # log-probability and self-certainty of each of these


class Stop(NamedTuple):
    """A row that came to an end; where it is not removed, it goes on."""

    row: int
    owners: list[object]  # owners of its samples
    tokens: tuple[int, ...]  # tokens that were generated
    ended: bool  # whether the solution ended
    boundary: bool  # whether a step ended
    full: bool  # whether the limit was reached
    said: np.ndarray | None  # log-probability and self-certainty of each token, ``(tokens, 2)``; None where they are not kept


class Text(NamedTuple):
    """A text to be read."""

    state: State | None  # cache of what comes before; None where nothing does
    start: int  # number of tokens before
    tokens: Sequence[int]  # token ids to be read
    parked: Sequence[int]  # lengths, those before included, at which the text's cache is parked


class Reading(NamedTuple):
    """Texts that were read together."""

    texts: list[int]  # numbers of the texts
    hidden: torch.Tensor  # last hidden states (texts, tokens, width); what is right of a text's own tokens means nothing
    states: list[list[State]]  # caches that were parked, per text


class Engine:
    """:meth:`sample` decodes a token for all samples under way, :meth:`read` reads texts; what either parked, both go on from.

    It knows no tokenizer and no search. What is counted and compared lies in numpy, whose small operations cost a fraction of torch's; a
    step takes one copy to the model's device and one back.
    """

    room = 1 << 62  # tokens that the cache of texts that are read may hold

    def __init__(
        self,
        backbone: PreTrainedModel,  # without its head (``model.base_model``)
        reading: int,  # texts read at once, at most
        sampling: int = 0,  # rows that are sampled at once
        head: nn.Module | None = None,  # from hidden states to logits, of an engine that samples
        marks: Marks | None = None,  # of its vocabulary, likewise
    ):
        weights = {id(p): p.nbytes for module in filter(None, (backbone, head)) for p in module.parameters()}
        self.weight_bytes = sum(weights.values())  # asked before they are packed
        self.model = CachedModel(backbone)
        self.device, self.token_bytes = backbone.device, self.model.token_bytes
        # Its weight is kept beside the packed one, since it may be the embeddings' too.
        self.head: nn.Module | Packed = Packed(head, kept=True) if head and type(head) is nn.Linear and packs(head.weight) else head
        self.marks: Marks = marks
        self.reading, self.slots = reading, sampling
        self.cache, self._read_cache = self.model.cache(sampling), self.model.cache(reading)
        self._tokens_at_once = _ON_CPU if self.device.type == "cpu" else 1 << 30
        if self.device.type == "cpu" and self.weight_bytes >= huge_pages.LEAST:
            Thread(target=huge_pages.collapse, daemon=True).start()  # seconds a gigabyte, in which it can be used
        self.clear()

    @torch.inference_mode()
    def read(self, texts: Sequence[Text]) -> Iterator[Reading]:
        """Reads texts, those of like length together; the shortest come first."""
        lengths = [text.start + len(text.tokens) for text in texts]
        fitting = max(1, self.room // capacity_for(max(lengths, default=0)))
        rows = min(self.reading, 1 << (fitting.bit_length() - 1))
        if rows != self._read_cache.slots:
            self._read_cache = self.model.cache(rows)
        batch: list[int] = []
        for number in sorted(range(len(texts)), key=lambda i: (len(texts[i].tokens), lengths[i], i)):
            width = len(texts[number].tokens)  # of the longest so far
            if len(batch) == rows or (batch and width * (len(batch) + 1) > self._tokens_at_once):
                yield self._read(texts, batch)
                batch = []
            batch.append(number)
        if batch:
            yield self._read(texts, batch)

    def _read(self, texts: Sequence[Text], batch: list[int]) -> Reading:
        chosen, cache, device = [texts[number] for number in batch], self._read_cache, self.device
        width = max(len(text.tokens) for text in chosen)
        numbers = torch.tensor([[text.start, *text.tokens, *[0] * (width - len(text.tokens))] for text in chosen]).to(device)
        starts = [text.start for text in chosen]
        cache.load(range(len(chosen)), [text.state for text in chosen], starts)
        try:
            hidden = self.model.extend(cache, numbers[:, 1:], numbers[:, 0], max(starts))
            states = [[cache.park(row, length) for length in text.parked] for row, text in enumerate(chosen)]
        finally:
            cache.load(range(len(chosen)), [None] * len(chosen), [0] * len(chosen))  # so that nobody's state is kept by a row
        return Reading(batch, hidden, states)

    def clear(self) -> None:
        """Drops all samples."""
        self._width = 0  # rows that are forwarded: those in use, and the gaps between them
        self._rows = np.zeros(self.slots, dtype=_ROW)
        self._generated = np.zeros((self.slots, 64), dtype=np.int64)  # each row's tokens
        self._said: np.ndarray | None = None  # of these their log-probability and self-certainty, once a sampling asks for it
        self._samples = np.zeros(0, dtype=_SAMPLE)
        self._waiting: deque[Fork] = deque()  # samples that drew another token than their row's others when no row was free
        self._empty(range(self.slots))

    def _empty(self, rows: Sequence[int]) -> None:
        """Lets go of what rows hold and share."""
        self._rows[list(rows)] = 0
        self.cache.load(rows, [None] * len(rows), [0] * len(rows))

    @property
    def active(self) -> int:
        """Samples under way."""
        return len(self._samples) + sum(len(fork.owners) for fork in self._waiting)

    @property
    def free(self) -> float:
        """Rows that samples under way will probably leave free."""
        rows = int(self._rows["in_use"].sum()) + len(self._waiting)
        return self.slots - rows - FORKING * (self.active - rows)

    @torch.inference_mode()
    def sample(self, forks: Sequence[Fork], sampling: Sampling) -> list[Stop]:
        """Adds samples, decodes one token for all, and returns the rows that came to an end by it; these go on if they do not leave.

        No more forks than there are rows free.
        """
        if sampling.confidence and self._said is None:
            self._said = np.zeros((*self._generated.shape, 2))
        if forks:
            self._enter(forks)
        if self._waiting and (gaps := self._gaps()):
            self._enter([self._waiting.popleft() for _ in gaps[: len(self._waiting)]])
        in_use = int(self._rows["in_use"].sum())
        if in_use < 0.9 * self._width:  # a gap is computed like a row
            self._close_gaps(in_use)
        tokens = self._settle(self._draw(sampling))
        rows = self._rows[: self._width]
        in_use, marks = rows["in_use"], self.marks
        breaks = marks.holds_break[tokens] | (marks.ends_newline[rows["last"]] & marks.starts_newline[tokens] & (rows["count"] > 0))
        if rows["count"].max() == self._generated.shape[1]:
            self._generated = np.concatenate([self._generated, np.zeros_like(self._generated)], 1)
            self._said = None if self._said is None else np.concatenate([self._said, np.zeros_like(self._said)], 1)
        kept = self._said if sampling.confidence else None
        if kept is not None:
            own = self._samples["row"]
            kept[own, rows["count"][own]] = self._samples["said"]
        self._generated[np.arange(len(tokens)), rows["count"]] = rows["last"] = tokens
        rows["length"] += in_use  # gaps stay where they are
        rows["count"] += in_use
        ends, boundary, full = marks.ends[tokens], breaks & rows["stepwise"], rows["count"] >= rows["limit"]
        stopped = np.flatnonzero((ends | boundary | full) & in_use)
        of, owners = self._samples["row"], self._samples["owner"]
        stops = []
        for row in stopped.tolist():
            made = tuple(self._generated[row, : rows["count"][row]].tolist())
            said = None if kept is None else kept[row, : len(made)].copy()
            stops.append(Stop(row, owners[of == row].tolist(), made, bool(ends[row]), bool(boundary[row]), bool(full[row]), said))
        return stops

    def leave(self, stops: Sequence[Stop], parked: Sequence[bool]) -> list[State | None]:
        """Takes rows out; gives the caches of those that are to be parked, to start forks from."""
        rows = [stop.row for stop in stops]
        lengths = self._rows["length"][rows].tolist()
        states = [self.cache.park(row, length) if park else None for row, length, park in zip(rows, lengths, parked)]
        self._empty(rows)
        self._samples = self._samples[self._rows["in_use"][self._samples["row"]]]
        return states

    def _enter(self, forks: Sequence[Fork]) -> None:
        """Adds samples, those of a fork in one row."""
        rows = self._gaps()[: len(forks)]
        self._rows[rows] = [(*fork[1:7], len(fork.generated), True) for fork in forks]
        for row, fork in zip(rows, forks):
            self._generated[row, : len(fork.generated)] = fork.generated
            if fork.said and self._said is not None:
                self._said[row, : len(fork.said)] = fork.said
        self.cache.load(rows, [fork.state for fork in forks], [fork.length for fork in forks])
        self._width = max(self._width, 1 + max(rows))
        samples = [(row, key, owner, (0.0, 0.0)) for row, fork in zip(rows, forks) for key, owner in zip(fork.keys, fork.owners)]
        self._samples = np.concatenate([self._samples, np.array(samples, dtype=_SAMPLE)])

    def _gaps(self) -> list[int]:
        """Rows without samples, the first ones first."""
        return np.flatnonzero(~self._rows["in_use"]).tolist()

    def _draw(self, sampling: Sampling) -> np.ndarray:
        """Each sample's next token; samples are put in the order of their rows, a row's in the order in which they came."""
        self._samples = self._samples[np.argsort(self._samples["row"], kind="stable")]
        rows, of = self._rows[: self._width], self._samples["row"]
        noise = uniforms(self._samples["key"], (rows["done"] + rows["count"])[of])
        numbers = [rows["last"], rows["length"], of, rows["greedy"][of], noise.view(np.int64)]
        packed = torch.from_numpy(np.concatenate(numbers)).to(self.model.device)
        last, length, of, greedy, noise = packed.split(list(map(len, numbers)))
        hidden = self.model.extend(self.cache, last[:, None], length, int(rows["length"].max()))
        logits = self.head(hidden[:, 0])
        drawn = choose(logits, of, noise.view(torch.float64), sampling.temperature, sampling.top_p)
        if rows["greedy"].any():
            drawn = torch.where(greedy > 0, choose(logits, of, noise, 0, 1), drawn)
        if sampling.confidence:
            said = confidence(logits, of, drawn)
            back = torch.cat([drawn[:, None].double(), said], 1).cpu().numpy()
            self._samples["said"] = back[:, 1:]
            return _checked(back[:, 0].astype(np.int64))
        return _checked(drawn.cpu().numpy())

    def _settle(self, drawn: np.ndarray) -> np.ndarray:
        """Each row's token: what its first sample drew; the samples that drew others go to rows of their own, or wait for one."""
        tokens, of = np.zeros(self.slots, dtype=np.int64), self._samples["row"]
        tokens[of[::-1]] = drawn[::-1]  # the last that is written is the first sample's
        apart = np.flatnonzero(drawn != tokens[of])
        if len(apart):
            groups: dict[tuple[int, int], list[int]] = {}  # by row and token
            for sample, row, token in zip(apart.tolist(), of[apart].tolist(), drawn[apart].tolist()):
                groups.setdefault((row, token), []).append(sample)
            placed = dict(zip(self._gaps(), groups.items()))  # by the new row
            if placed:
                self._copy([row for (row, _), _ in placed.values()], list(placed), forwarded=1)
                self._width = max(self._width, 1 + max(placed))
            for new, ((_, token), samples) in placed.items():
                of[samples], tokens[new] = new, token
            if without := [sample for group in list(groups.values())[len(placed) :] for sample in group]:
                self._wait(without)
        return tokens[: self._width]

    def _copy(self, origin: list[int], to: list[int], forwarded: int = 0) -> None:
        """Copies rows into gaps; ``forwarded``: tokens in the cache beyond the rows' lengths."""
        self.cache.copy_rows(origin, to, (self._rows["length"][origin] + forwarded).tolist())
        self._rows[to], self._generated[to] = self._rows[origin], self._generated[origin]
        if self._said is not None:
            self._said[to] = self._said[origin]

    def _wait(self, samples: list[int]) -> None:
        """Takes samples out until a row is free; as their noise is a function of the position, they draw the same token then."""
        leaving = self._samples[samples]
        for row in np.unique(leaving["row"]).tolist():
            own, at = leaving[leaving["row"] == row], self._rows[row]
            state = self.cache.park(row, int(at["length"]))
            generated = self._generated[row, : at["count"]].tolist()
            said = [] if self._said is None else self._said[row, : at["count"]].tolist()
            self._waiting.append(Fork._make((state, *at.item()[:6], own["key"].tolist(), own["owner"].tolist(), generated, said)))
        self._samples = np.delete(self._samples, samples)

    def _close_gaps(self, in_use: int) -> None:
        """Moves the last rows into the gaps before them."""
        moved = (in_use + np.flatnonzero(self._rows["in_use"][in_use:])).tolist()
        gaps = self._gaps()[: len(moved)]
        self._copy(moved, gaps)
        self._empty(moved)
        places = np.arange(self.slots)
        places[moved] = gaps
        self._samples["row"] = places[self._samples["row"]]
        self._width = in_use


def _checked(tokens: np.ndarray) -> np.ndarray:
    """Looked at here, where they have come back from the device anyway."""
    if len(tokens) and tokens.min() < 0:
        raise ValueError("the model's logits are NaN or infinite; its weights are damaged, or do not fit the number format")
    return tokens
