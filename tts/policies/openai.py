"""The engine for servers that speak OpenAI's completions API.

Each sample is a request of its own, so that it has its own seed, and is repeated or aborted alone; the server batches. The
prompt is rendered here, where there is a tokenizer; else by the server, where it has vLLM's ``/tokenize``. What the server can
do is measured when it is opened (:mod:`tts.policies.server`), and what it cannot is in ``limits``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import FIRST_COMPLETED, Future, wait

from tts.models.hub import ModelError
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies.base import Asked, RequestPolicy, Told
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
        self._futures: dict[Future[Told], int] = {}
        self._places = asyncio.Semaphore(batch)

    def _render(self, problem: str) -> tuple[list[int], str]:
        if self.tokenizer is not None:
            return super()._render(problem)
        return self.server.run(self.server.render(prompts.messages(prompts.style_of(None, self.name), problem, self.task)))

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        if not whole and self.server.no_steps:
            raise ModelError(
                f"{self.address.url} {self.server.no_steps}; beam search and DVTS need that: leave them out of methods, or serve the "
                "model by vLLM"
            )
        super().submit(ticket, parent, count, whole)

    def _send(self, number: int, asked: Asked) -> None:
        self._futures[self.server.start(self._answer(asked, self.sampling))] = number

    async def _answer(self, asked: Asked, sampling: Sampling) -> Told:
        async with self._places:
            return await self.server.complete(asked, sampling)

    def _receive(self) -> list[tuple[int, Told]]:
        done: set[Future[Told]] = set()
        while not done:
            done, _ = wait(self._futures, timeout=1, return_when=FIRST_COMPLETED)  # without an end, a signal just before would go unseen
        return [(self._futures.pop(future), future.result()) for future in done]

    def _abort(self, numbers: list[int]) -> None:
        for future in self._futures:
            future.cancel()
        self._futures.clear()
        self.server.run(_settled())


async def _settled() -> None:
    """Returns when every other task of this loop has ended, cancelled ones with their connections closed."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


def _find_tokenizer(address: Address):
    """The tokenizer that was given, or that the served model's name finds on this machine; None where there is none."""
    try:
        return load_tokenizer(locate(address.tokenizer or address.model))
    except ModelError:
        if address.tokenizer:
            raise
        return None
