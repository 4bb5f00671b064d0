"""The engine: a causal transformer that samples from texts, and reads them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from tts.engine.cached_model import CachedModel
from tts.engine.decoding import DecodingBatch, Marks
from tts.engine.slot_cache import State, capacity_for

_ON_CPU = 1536  # tokens read at once: what they become between two operations should stay in the processor's cache


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


class Engine(DecodingBatch):
    """A causal transformer over caches that sequences enter, leave and fork.

    :meth:`sample` decodes a token for all samples under way, :meth:`read` reads texts; what either parked, both go on from. It knows no
    tokenizer and no search.

    Args:
        backbone: model without its head (``model.base_model``).
        reading: texts read at once, at most.
        room: tokens that the cache of texts that are read may hold.
        sampling: rows that are sampled at once.
        head: layer from hidden states to logits, of an engine that samples; so are ``marks`` of its vocabulary.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        reading: int,
        room: int = 1 << 62,
        sampling: int = 0,
        head: torch.nn.Module | None = None,
        marks: Marks | None = None,
    ):
        super().__init__(CachedModel(backbone), head, marks, sampling)
        self.device, self.token_bytes = self.model.device, self.model.token_bytes
        self.reading, self.room = reading, room
        self._read_cache = self.model.cache(reading)
        self._tokens_at_once = _ON_CPU if self.device.type == "cpu" else 1 << 30

    @torch.inference_mode()
    def read(self, texts: Sequence[Text]) -> Iterator[Reading]:
        """Reads texts, those of like length together; the shortest come first."""
        lengths = [text.start + len(text.tokens) for text in texts]
        rows = self._read_at_once(max(lengths, default=0))
        batch: list[int] = []
        for number in sorted(range(len(texts)), key=lambda i: (len(texts[i].tokens), lengths[i], i)):
            width = len(texts[number].tokens)  # of the longest so far
            if len(batch) == rows or (batch and width * (len(batch) + 1) > self._tokens_at_once):
                yield self._read(texts, batch)
                batch = []
            batch.append(number)
        if batch:
            yield self._read(texts, batch)

    def _read_at_once(self, longest: int) -> int:
        """How many texts of so many tokens are read at once; the cache is made anew where that changes."""
        fitting = max(1, self.room // capacity_for(longest))
        rows = min(self.reading, 1 << (fitting.bit_length() - 1))
        if rows != self._read_cache.slots:
            self._read_cache = self.model.cache(rows)
        return rows

    def _read(self, texts: Sequence[Text], batch: list[int]) -> Reading:
        chosen, cache, device = [texts[number] for number in batch], self._read_cache, self.device
        width = max(len(text.tokens) for text in chosen)
        tokens = torch.tensor([[*text.tokens, *[0] * (width - len(text.tokens))] for text in chosen], device=device)
        cache.load(range(len(chosen)), [text.state for text in chosen], [text.start for text in chosen])
        try:
            hidden = self.model.extend(cache, tokens, torch.tensor([text.start for text in chosen], device=device))
            states = [[cache.park(row, length) for length in text.parked] for row, text in enumerate(chosen)]
        finally:
            cache.load(range(len(chosen)), [None] * len(chosen), [0] * len(chosen))  # so that nobody's state is kept by a row
        return Reading(batch, hidden, states)
