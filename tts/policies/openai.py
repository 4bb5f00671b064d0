"""The engine for servers that speak OpenAI's completions API.

Each sample is a request of its own, so that it has its own seed, and is repeated or aborted alone; the server batches. The
prompt is rendered here, where there is a tokenizer; else by the server, where it has vLLM's ``/tokenize``. What the server can
do is measured when it is opened (:mod:`tts.policies.server`), and what it cannot is in ``limits``.
"""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import Future
from contextlib import suppress

from tts.models.hub import ModelError
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies.base import Asked, RequestPolicy, Told, check_room
from tts.policies.server import Address, Server
from tts.search.base import Candidate
from tts.search.driver import Ticket
from tts.search.sampling import Sampling
from tts.tasks import prompts
from tts.tasks.base import Task
from tts.tasks.maths import MATHS


class OpenAIPolicy(RequestPolicy):
    """A model behind an OpenAI-compatible server.

    Args:
        name: an address, as :meth:`tts.policies.server.Address.parse` reads it.
        batch: requests under way at once.
        retries: number of further tries of a request that fails.
    """

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, task: Task = MATHS, retries: int = 5):
        self.address = Address.parse(name)
        self.tokenizer = _find_tokenizer(self.address)
        self.server = Server(self.address, self.tokenizer, retries)
        self.server.run(self.server.open(task.separator))
        super().__init__(self.address.model, sampling, batch, self.server.context, task)
        self.limits = self.server.limits
        self._answers: queue.SimpleQueue[tuple[int, Future[Told]]] = queue.SimpleQueue()
        self._futures: dict[int, Future[Told]] = {}
        self._places = asyncio.Semaphore(batch)

    def root(self, problem_id: str, problem: str) -> Candidate:
        """As :func:`tts.policies.base.root_of`; raises :class:`tts.models.hub.ModelError` where the server does not render it."""
        if self.tokenizer is not None:
            return super().root(problem_id, problem)
        turns = prompts.messages(prompts.style_of(None, self.name), problem, self.task)
        ids, text = self.server.run(self.server.render(turns))
        check_room(ids, self.name, self.context, problem_id)
        return Candidate(problem_id, problem, prompt=tuple(ids), rendered=text)

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        if not whole and self.server.no_steps:
            raise ModelError(
                f"{self.address.url} {self.server.no_steps}; beam search and DVTS need that: leave them out of methods, or serve the "
                "model by vLLM"
            )
        super().submit(ticket, parent, count, whole)

    def _send(self, number: int, asked: Asked) -> None:
        future = self._futures[number] = self.server.start(self._answer(asked, self.sampling))
        future.add_done_callback(lambda done: self._answers.put((number, done)))

    async def _answer(self, asked: Asked, sampling: Sampling) -> Told:
        async with self._places:
            return await self.server.complete(asked, sampling)

    def _receive(self) -> list[tuple[int, Told]]:
        answers: list = []
        while not answers or not self._answers.empty():
            with suppress(queue.Empty):
                answers.append(self._answers.get(timeout=1))  # without an end, a signal just before would go unseen
        # An answer to a request that was dropped since concerns nobody.
        return [(number, done.result()) for number, done in answers if self._futures.pop(number, None)]

    def _abort(self, numbers: list[int]) -> None:
        for future in self._futures.values():
            future.cancel()
        self._futures.clear()
        self.server.run(_settled())


async def _settled() -> None:
    """Returns when every other task of this loop has ended, cancelled ones with their connections closed."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


def _find_tokenizer(address: Address):
    """The tokenizer that was given, or that the served model's name finds on this machine; None where there is none."""
    if address.tokenizer:
        return load_tokenizer(locate(address.tokenizer))
    try:
        return load_tokenizer(locate(address.model))
    except ModelError:
        return None
