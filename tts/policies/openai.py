"""The engine for servers that speak OpenAI's completions API: ``http://HOST:PORT/v1#MODEL``.

Each sample is a request of its own, so that it has its own seed, and is repeated or aborted alone; the server batches. The
prompt is rendered here, by the tokenizer that the name gives (``...#MODEL?tokenizer=NAME``) or that the model's name finds;
else by the server, where it has vLLM's ``/tokenize``. What the server can do is measured when it is opened
(:mod:`tts.policies.server`), and what it cannot is in ``limits``.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from concurrent.futures import Future

from tts.common.interruptible import first_of
from tts.models.files import load_config
from tts.models.hub import ModelError
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies.base import Asked, RequestPolicy, Told, check_room, root_of
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
        name: ``http(s)://HOST:PORT/v1#MODEL``; after it, ``?tokenizer=`` a folder or Hub name, ``&context=`` in tokens.
        batch: requests under way at once.
        retries: number of further tries of a request that fails, with back-off.

    Raises:
        tts.models.hub.ModelError: where the server is not there, has no such model, or offers too little.
    """

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, task: Task = MATHS, retries: int = 5):
        self.address = Address.parse(name)
        self.tokenizer = _find_tokenizer(self.address)
        self.server = Server(self.address, retries)
        self._loop = Loop(self.server)
        abilities = self._loop.run(self.server.open(self.tokenizer))
        super().__init__(name, sampling, batch, _context(self.address, abilities.context), task)
        self.abilities, self.limits = abilities, abilities.limits
        self._answers: queue.SimpleQueue[tuple[int, Told | BaseException]] = queue.SimpleQueue()
        self._futures: dict[int, Future] = {}
        self._places = asyncio.Semaphore(batch)

    def root(self, problem_id: str, problem: str) -> Candidate:
        """As :func:`tts.policies.base.root_of`; raises :class:`tts.models.hub.ModelError` where the server does not render it."""
        if self.tokenizer is not None:
            return root_of(self.tokenizer, self.address.model, self.context, problem_id, problem, self.task)
        turns = prompts.messages(prompts.style_of(None, self.address.model), problem, self.task)
        ids, text = self._loop.run(self.server.render(turns))
        check_room(ids, self.address.model, self.context, problem_id)
        return Candidate(problem_id, problem, prompt=tuple(ids), rendered=text)

    def submit(self, ticket: Ticket, parent: Candidate, count: int, whole: bool) -> None:
        if not whole and not self.abilities.endings:
            raise ModelError(
                f"{self.address.url} does not say whether a step ended at a blank line or was the last; beam search and DVTS need "
                "that: leave them out of methods, or serve the model by vLLM"
            )
        super().submit(ticket, parent, count, whole)

    def _send(self, number: int, asked: Asked) -> None:
        self._futures[number] = self._loop.start(self._answer(number, asked, self.sampling))

    async def _answer(self, number: int, asked: Asked, sampling: Sampling) -> None:
        try:
            async with self._places:
                told = await self.server.complete(asked, sampling)
            self._answers.put((number, told))
        except Exception as error:
            self._answers.put((number, error))

    def _receive(self) -> list[tuple[int, Told]]:
        answers = [first_of(self._answers)]
        while not self._answers.empty():
            answers.append(self._answers.get())
        for number, told in answers:
            # An answer to a request that was dropped since concerns nobody.
            if self._futures.pop(number, None) is not None and isinstance(told, BaseException):
                raise told
        return answers

    def _abort(self, numbers: list[int]) -> None:
        for future in self._futures.values():
            future.cancel()
        self._futures.clear()
        self._loop.run(_settled())


def check_served(name: str) -> None:
    """Raises :class:`tts.models.hub.ModelError` where a server or its model is not there, within seconds."""
    server = Server(Address.parse(name))
    Loop(server).run(server.find_model())


async def _settled() -> None:
    """Returns when every other task of this loop has ended, cancelled ones with their connections closed."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


class Loop:
    """An event loop in a thread of its own, for a server: a notebook's own thread has one that is running already."""

    def __init__(self, server: Server):
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="requests", daemon=True).start()
        self._loop = loop
        weakref.finalize(self, _close, server.client, loop)

    def start(self, coroutine) -> Future:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine):
        return self.start(coroutine).result()


def _close(client, loop: asyncio.AbstractEventLoop) -> None:
    async def close():
        await client.close()
        loop.stop()

    asyncio.run_coroutine_threadsafe(close(), loop)


def _find_tokenizer(address: Address):
    """The tokenizer that was given, or that the served model's name finds on this machine; None where there is none."""
    if address.tokenizer:
        return load_tokenizer(locate(address.tokenizer))
    try:
        return load_tokenizer(locate(address.model))
    except ModelError:
        return None


def _context(address: Address, served: int | None) -> int:
    if address.context or served:
        return address.context or served
    try:
        config = load_config(locate(address.tokenizer or address.model)).get_text_config()
        return int(config.max_position_embeddings)
    except (ModelError, AttributeError):
        raise ModelError(
            f"{address.url} does not say how long a context {address.model} reads; add it to the name, ?context=8192"
        ) from None
