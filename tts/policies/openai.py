"""The engine for servers that speak OpenAI's completions API.

Each sample is a request of its own, so that it has its own seed, and is repeated or aborted alone; the server batches. The prompt is
rendered here, where there is a tokenizer; else by the server, where it has vLLM's ``/tokenize``.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tts.models.files import load_config
from tts.models.hub import ModelError, first_line
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies.base import Asked, RequestPolicy, Told
from tts.search.base import Candidate, Status
from tts.search.driver import Ticket
from tts.search.sampling import Sampling
from tts.tasks import prompts
from tts.tasks.base import Task
from tts.tasks.maths import MATHS

KEY = "OPENAI_API_KEY"  # read from the environment, never stored or printed
PATIENCE = "TTS_REQUEST_SECONDS"  # time limit of one request with its retries
RETRIES = 5  # further tries of a request that fails, with back-off from half a second to eight
# Beyond OpenAI's own, as vLLM has them: tell the tokens, keep the stop string, and sample from the whole distribution, where a
# server would else apply the model's generation_config (Qwen2.5's has top_k 20 and a repetition penalty).
_EXTRAS = {"return_token_ids": True, "include_stop_str_in_output": True, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
JUDGES = ("verdicts", "tokens", "temperature")  # options of a judge (tts.reward_models.verdicts) that the policy serves
_AGAIN = "what is stored stays; run the same command again once the server works"
_PROBE = "1"  # no chat: what is measured is the server, and a lone digit leaves a model every freedom
_STEPS = ("1+1=2", "So it is 2.", "\\[2\\]", "1")  # steps end and begin in different characters


class ServerError(ModelError):
    """An address that is none, or a server that is not there, refuses or fails; the message says which, and what to do."""


class Refusal(ServerError):
    """A request that a server does not take as it is."""


@dataclass(frozen=True)
class Address:
    """Where a policy is served."""

    url: str  # of the API, http://localhost:8000/v1
    model: str  # name of the model there
    tokenizer: str = ""  # a folder or Hub name; empty where the model's name is to find it
    context: int = 0  # tokens that the model reads at most; 0 where the server or the model's config is to say

    @classmethod
    def parse(cls, name: str) -> Address:
        """Reads ``http(s)://HOST:PORT/v1#MODEL?tokenizer=NAME&context=TOKENS``, and leaves further options to the chat template."""
        url, _, fragment = name.partition("#")
        model, _, query = fragment.partition("?")
        parts = urlsplit(url)
        if not parts.hostname or not parts.path.strip("/") or not model:
            raise ServerError(f"{url!r}: expected http://HOST:PORT/v1#MODEL, with the model's name as the server lists it")
        if parts.username or parts.password or parts.query:
            raise ServerError(f"the address of {parts.hostname} holds a key or a query; give the key in the environment as {KEY}")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if (unknown := options.keys() - {"context", "tokenizer", *JUDGES}) and not options.get("tokenizer"):
            known = "context, tokenizer, and beside a tokenizer options of its chat template"
            raise ServerError(f"{name!r}: unknown {', '.join(sorted(unknown))} after '?'; known: {known}")
        context = options.get("context", "0")
        if not context.isdecimal():
            raise ServerError(f"{name!r}: context must be a number of tokens; given {context!r}")
        return cls(url.rstrip("/"), model, options.get("tokenizer", ""), int(context))


class Server:
    """Requests to one server, by an event loop in a thread of its own: a notebook's own thread has one that is running already.

    It is there and has the model, or :class:`ServerError` is raised. What it can do is known once :meth:`open` has measured it.
    """

    def __init__(self, address: Address, tokenizer=None):
        try:
            import openai
        except ImportError:
            raise ServerError("a policy behind a server needs the package openai: pip install openai") from None
        self.address, self.tokenizer, self.errors = address, tokenizer, openai
        self._key = os.environ.get(KEY)
        try:
            self.patience = float(os.environ.get(PATIENCE) or 600)
        except ValueError:
            raise ServerError(f"{PATIENCE} must be a number of seconds; given {os.environ[PATIENCE]!r}") from None
        timeout = openai.Timeout(self.patience, connect=10)
        self.client = openai.AsyncOpenAI(base_url=address.url, api_key=self._key or "none", max_retries=RETRIES, timeout=timeout)
        self.no_steps = ""  # why searches by steps cannot be made of what it answers, where they cannot
        self.extras = _EXTRAS  # empty where it refuses them, and may add something of its own to the sampling
        self._seeded = True  # until it refuses a seed
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="requests", daemon=True).start()
        weakref.finalize(self, _close, self.client, self._loop)
        self._served_context = self.run(self._find_model())

    def start(self, coroutine: Coroutine) -> Future:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine) -> Any:
        return self.start(coroutine).result()

    @property
    def context(self) -> int:
        """Tokens that the model reads at most: as the name says, else the server that was asked for it, else the model's config."""
        address = self.address
        if told := address.context or self._served_context:
            return told
        try:
            return int(load_config(locate(address.tokenizer or address.model)).get_text_config().max_position_embeddings)
        except (ModelError, AttributeError):
            raise ServerError(
                f"{address.url} does not say how long a context {address.model} reads; add it to the name, ?context=8192"
            ) from None

    async def open(self, separator: str) -> None:
        """Measures what the server can do, by some six short requests; ``separator`` is what ends a step."""
        try:
            answer = await self._completion(_PROBE, 8, temperature=0)
        except Refusal:
            self.extras = {}
            answer = await self._completion(_PROBE, 8, temperature=0)
        choice = answer.choices[0]
        self.ids = bool(getattr(choice, "token_ids", None))  # whether it takes and tells these
        if self.tokenizer is None and not self.ids:
            raise ServerError(
                f"no tokenizer of {self.address.model!r} on this machine, and {self.address.url} does not render prompts; "
                "add ?tokenizer= and a folder or Hub name to the policy's name"
            )
        served = getattr(choice, "prompt_token_ids", None)
        if self.tokenizer is not None and served and served != self.tokenizer(_PROBE)["input_ids"]:
            raise ServerError(f"the tokenizer of {self.tokenizer.name_or_path!r} is not the one that {self.address.url} has for its model")
        if not await self._tells_endings(choice):
            self.no_steps = "does not say whether a step ended at a blank line or was the last"
        elif not self.ids and not await self._goes_on(separator):
            self.no_steps = (
                "splits a blank line at a prompt's end otherwise than within a text, so that it would not go on from its own steps"
            )
        cannot = {
            "not reproducible: the server ignores seeds": not await self._heeds_seeds(),
            "sampling is not the asked-for one where the server has a top_k or penalties of its own": not self.extras,
            "prefixes are sent as text, which the server encodes again; tokens of single solutions are estimated": not self.ids,
            f"cannot search by steps: the server {self.no_steps}": self.no_steps,
        }
        self.limits = tuple(text for text, holds in cannot.items() if holds)  # what it cannot do, in words

    async def _find_model(self) -> int | None:
        """Asks, within seconds, whether the server is there and has the model; gives the context that it tells."""
        impatient = self.client.with_options(max_retries=1, timeout=10)
        cards = {card.id: card for card in (await self._guarded(impatient.models.list())).data}
        if cards and self.address.model not in cards:
            raise ServerError(f"{self.address.url} serves no model {self.address.model!r}; it has: {', '.join(sorted(cards))}")
        return getattr(cards.get(self.address.model), "max_model_len", None)

    async def _tells_endings(self, choice) -> bool:
        """Whether a completion that is stopped within a known text says so."""
        mark = next(filter(str.isalnum, choice.text), None)
        if mark is None:
            return bool({"stop_reason", "matched_stop"} & set(choice.model_extra or {}))
        return _stopped((await self._completion(_PROBE, 8, temperature=0, stop=[mark])).choices[0], mark)

    async def _goes_on(self, separator: str) -> bool:
        """Whether a text that ends with a step is read as it is within a longer one: else the model continues what it never writes."""
        texts = [separator.join(_STEPS[:count]) + separator * (count < len(_STEPS)) for count in range(1, len(_STEPS) + 1)]
        told = True
        try:
            *parts, whole = [(await self._post("tokenize", prompt=text, content=text))["tokens"] for text in texts]  # as vLLM, as llama.cpp
        except (ServerError, KeyError, TypeError):
            told, (*parts, whole) = False, prompts.token_ids(self.tokenizer, texts)
        alike = all(part == whole[: len(part)] for part in parts)
        if told or not alike:
            return alike
        # Where only our tokenizer says so, what is sampled at temperature 0 must also be the same in one request and in two. The text
        # counts lines up, which any language model goes on with.
        counting = "".join(f"{number}{separator}" for number in range(1, 5))
        sampled = (await self._completion(counting, 24, temperature=0)).choices[0].text
        step, ended, rest = sampled.partition(separator)
        again = (await self._completion(counting + step + ended, 8, temperature=0)).choices[0].text
        return not ended or rest.startswith(again[: len(rest)])

    async def _heeds_seeds(self) -> bool:
        """Whether the same seed gives the same sample, and another seed another."""
        try:
            answers = [await self._completion(_PROBE, 24, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
        except Refusal:
            self._seeded = False
            return False
        first, again, other = (answer.choices[0].text for answer in answers)
        return first == again != other

    async def classify_tokens(self, inputs: list[list[int]]) -> list[list[list[float]]]:
        """The logits of a served PRM, a row a token or a step tag (vLLM's ``/pooling``)."""
        answer = await self._post("pooling", input=inputs, task="token_classify", use_activation=False)
        return [item["data"] for item in sorted(answer["data"], key=lambda item: item["index"])]

    async def render(self, turns: list[dict[str, str]]) -> tuple[list[int], str]:
        """Token ids and text of a prompt by the server's own chat template (vLLM's ``/tokenize``)."""
        date = {"date_string": prompts.PINNED_DATE}
        ids = (await self._post("tokenize", messages=turns, add_generation_prompt=True, chat_template_kwargs=date))["tokens"]
        return ids, (await self._post("detokenize", tokens=ids))["prompt"]

    async def _post(self, path: str, **body):
        """What vLLM answers beside OpenAI's API."""
        root = self.address.url.rsplit("/", 1)[0]
        return await self._guarded(self.client.post(f"{root}/{path}", cast_to=object, body=body | {"model": self.address.model}))

    async def complete(self, asked: Asked, sampling: Sampling) -> Told:
        """One continuation."""
        # A server that takes text puts the beginning-of-sequence token before it by itself.
        prompt = list(asked.prompt) if self.ids else asked.text.removeprefix(self.tokenizer.bos_token or "")
        options = {"temperature": 0.0 if asked.greedy else sampling.temperature, "top_p": sampling.top_p}
        if self._seeded:
            options["seed"] = asked.seed
        if asked.stop:
            options["stop"] = [asked.stop]
        if sampling.confidence:
            options["logprobs"] = 1
        answer = await self._completion(prompt, asked.limit, **options)
        choice = answer.choices[0]
        text = choice.text
        status: Status = "truncated" if choice.finish_reason == "length" else "finished"
        if asked.stop and status == "finished" and _stopped(choice, asked.stop):
            status = "open"
            text = text if asked.stop in text else text + asked.stop
        tokens = choice.token_ids if self.ids else self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.ids and self.tokenizer is not None:
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        generated = answer.usage.completion_tokens if answer.usage and not self.ids else len(tokens)
        told = getattr(choice, "logprobs", None)
        logs = [log for log in getattr(told, "token_logprobs", None) or () if log is not None] if sampling.confidence else ()
        return Told(tuple(tokens), text, status, generated, logs)

    async def _completion(self, prompt: list[int] | str, limit: int, **options):
        """One sample; asked for again where the server returns none."""
        request = {"model": self.address.model, "prompt": prompt, "max_tokens": limit, "extra_body": self.extras} | options
        for _ in range(RETRIES + 1):
            answer = await self._guarded(self.client.completions.create(**request))
            count = len(answer.choices or [])
            if count == 1:
                return answer
            await asyncio.sleep(0.5)
        raise ServerError(f"{self.address.url} returned {count} samples where 1 was asked for; {_AGAIN}")

    async def _guarded(self, call):
        """A call whose errors are put into words."""
        url, errors = self.address.url, self.errors
        try:
            async with asyncio.timeout(self.patience):
                answer = await call
            if isinstance(answer, str):  # whatever is not declared as JSON, a proxy's page for instance
                raise ValueError(f"it answered {answer[:80]!r}")
            return answer
        except errors.BadRequestError as error:
            hint = "where it is too long, add ?context= and the server's limit to the policy's name"
            raise Refusal(f"{url} refuses a request: {self._words(error)}; {hint}") from None
        except (errors.AuthenticationError, errors.PermissionDeniedError) as error:
            raise ServerError(f"{url} refuses the key ({error.status_code}); set {KEY} in the environment") from None
        except errors.NotFoundError as error:
            raise ServerError(f"{url} has no {error.request.url.path}: {self._words(error)}; is the address right, up to /v1?") from None
        except (errors.APITimeoutError, TimeoutError):
            raise ServerError(f"{url} did not answer within {self.patience:g} s ({PATIENCE} is the limit); {_AGAIN}") from None
        except errors.APIConnectionError as error:
            cause = error.__cause__ or error
            raise ServerError(f"no server at {url} ({self._words(cause)}); start it, or check the address; {_AGAIN}") from None
        except errors.APIStatusError as error:
            raise ServerError(f"{url} answered {error.status_code} {RETRIES + 1} times: {self._words(error)}; {_AGAIN}") from None
        except (errors.OpenAIError, ValueError) as error:  # an answer that is no JSON, or another
            raise ServerError(f"{url} does not speak OpenAI's API: {self._words(error)}") from None

    def _words(self, error: Exception) -> str:
        """An error's message in one line, without the key, whatever a server puts into it."""
        words = first_line(error)
        return (words.replace(self._key, "***") if self._key else words)[:300]


class OpenAIPolicy(RequestPolicy):
    """A model at an address, as :meth:`Address.parse` reads it; ``batch`` requests are under way at once."""

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, task: Task = MATHS):
        self.address = Address.parse(name)
        self.tokenizer = _find_tokenizer(self.address)
        self.server = Server(self.address, self.tokenizer)
        self.server.run(self.server.open(task.separator))
        super().__init__(self.address.model, sampling, batch, self.server.context, task)
        self.template = {key: value for key, value in prompts.template_options(name).items() if key not in ("context", "tokenizer")}
        if self.template and self.tokenizer is None:
            raise ServerError(f"{name!r}: {', '.join(self.template)} after '?' is an option of the chat template: give its tokenizer too")
        self.limits = self.server.limits
        self._futures: dict[Future[Told], int] = {}
        self._places = asyncio.Semaphore(batch)

    def _render(self, problem: str, exchanges: prompts.Exchanges = ()) -> tuple[list[int], str]:
        if self.tokenizer is not None:
            return super()._render(problem, exchanges)
        turns = prompts.with_exchanges(prompts.messages(prompts.style_of(None, self.name), problem, self.task), exchanges)
        return self.server.run(self.server.render(turns))

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


def _stopped(choice, stop: str) -> bool:
    """Whether a completion ended at its stop string, as vLLM (``stop_reason``) and SGLang (``matched_stop``) tell it, or its text."""
    told = getattr(choice, "stop_reason", None), getattr(choice, "matched_stop", None)
    return any(isinstance(reason, str) for reason in told) or choice.text.endswith(stop)


def _close(client, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(client.close(), loop).add_done_callback(lambda closed: loop.stop())
