"""A real HTTP server on loopback that serves a model in OpenAI's format, through the transformers engine.

It behaves as vLLM's does, and can be told to lack what other servers lack, or to fail.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from tts.policies.transformers import TransformersPolicy
from tts.search.base import Candidate, Sample
from tts.search.driver import Driver
from tts.search.sampling import Sampling
from tts.tasks import prompts

KEY = "sk-secret"


@dataclass(eq=False)
class _Job:
    """A request: how many tokens, by which temperature and top_p, from which seed, and whether it stops at a string."""

    prompt: tuple[int, ...]
    limit: int
    how: tuple[float, float]
    seed: int
    stops: bool
    result: tuple[list[int], str] | None = None


def _continue(root: Candidate, whole: bool):
    [[child]] = yield Sample([root], 1, whole)
    return [child]


class Served:
    """A running server.

    Args:
        folder: of the model.
        name: under which it is served.
        ids: tells token ids and how a completion ended, as vLLM does; without, it takes and gives text only.
        seeds: heeds them.
        strict: refuses parameters that OpenAI does not have.
        renders: has ``/tokenize`` and ``/detokenize``.
        endings: tells how a completion ended; by default where it tells token ids.
        splits: reads a blank line at a prompt's end as two ends of lines.
    """

    def __init__(
        self,
        folder,
        name: str = "tiny",
        ids: bool = True,
        seeds: bool = True,
        strict: bool = False,
        renders: bool = False,
        endings: bool | None = None,
        splits: bool = False,
    ):
        self.policy = TransformersPolicy(str(folder), Sampling())
        self.endings, self.splits = ids if endings is None else endings, splits
        self.name, self.ids, self.seeds, self.strict, self.renders = name, ids, seeds, strict, renders
        self.fault: Callable[[dict], object] | None = None  # says what to answer instead, or None
        self.requests, self.keys, self.abandoned = [], set(), threading.Event()
        self.at_once = self.most_at_once = 0
        self._generating, self._counting = threading.Lock(), threading.Lock()
        self._unseeded, self._waiting = 0, []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/v1#{self.name}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    # -- answers -----------------------------------------------------------------------------------------------

    def complete(self, body: dict) -> dict:
        prompt = body["prompt"] if isinstance(body["prompt"], list) else self.encode(body["prompt"])
        if len(prompt) + body["max_tokens"] > self.policy.context:
            return {"error": {"message": f"maximum context length is {self.policy.context}", "code": 400}}
        self._unseeded += 1
        seed = body.get("seed", -self._unseeded) if self.seeds else self._unseeded
        job = _Job(tuple(prompt), body["max_tokens"], (body["temperature"], body.get("top_p", 1.0)), seed, bool(body.get("stop")))
        self._waiting.append(job)
        with self._generating:  # whoever comes first works for all who wait
            while job.result is None:
                self._generate()
        return self._stopped(*job.result, body, prompt)

    def encode(self, text: str) -> list[int]:
        encode = lambda part: self.policy.tokenizer(part)["input_ids"]  # noqa: E731
        return [*encode(text[:-2]), *encode("\n"), *encode("\n")] if self.splits and text.endswith("\n\n") else encode(text)

    def _generate(self) -> None:
        """Samples for some requests that wait; a sample depends on its own seed and prompt alone."""
        chosen: dict[int, _Job] = {}
        for job in list(self._waiting):
            if job.how == self._waiting[0].how and job.seed not in chosen:
                chosen[job.seed] = job
        for job in chosen.values():
            self._waiting.remove(job)
        longest = max(job.limit for job in chosen.values())
        self.policy.sampling = Sampling(*job.how, longest, longest)
        roots = [Candidate(str(seed), "", prompt=job.prompt) for seed, job in chosen.items()]
        outcomes = Driver(self.policy).run([(root, _continue(root, not chosen[int(root.problem_id)].stops)) for root in roots])
        for outcome in outcomes:
            job, [candidate] = chosen[int(outcome.problem_id)], outcome.trajectories
            tokens = list(candidate.tokens[: job.limit])
            job.result = tokens, "finished" if candidate.status == "finished" and len(candidate.tokens) <= job.limit else "truncated"

    def _stopped(self, tokens: list[int], status: str, body: dict, prompt: list[int]) -> dict:
        """The completion, cut at the first stop string, which may lie within a token."""
        decode = self.policy.tokenizer.decode
        text, matched = decode(tokens, skip_special_tokens=True), None
        for stop in body.get("stop") or []:
            if stop in text:
                matched = stop
                count = next(i for i in range(1, len(tokens) + 1) if stop in decode(tokens[:i], skip_special_tokens=True))
                tokens, text = tokens[:count], text[: text.index(stop) + (len(stop) if body.get("include_stop_str_in_output") else 0)]
        reason = "stop" if matched or status == "finished" else "length"
        choice = {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
        if body.get("logprobs"):
            choice["logprobs"] = {"token_logprobs": self._logs(prompt, tokens)}
        if self.endings:
            choice |= {"stop_reason": matched}
        if self.ids and body.get("return_token_ids"):
            choice |= {"token_ids": tokens, "prompt_token_ids": prompt}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens), "total_tokens": len(prompt) + len(tokens)}
        return {"id": "1", "object": "text_completion", "created": 0, "model": self.name, "choices": [choice], "usage": usage}

    def _logs(self, prompt: list[int], tokens: list[int]) -> list[float]:
        with torch.inference_mode():
            logits = self.policy.model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
        return logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)].tolist()

    def answer(self, path: str, body: dict) -> tuple[int, dict]:
        if path == "/v1/models":
            card = {"id": self.name, "object": "model", "created": 0, "owned_by": "tests"}
            return 200, {"object": "list", "data": [card | ({"max_model_len": self.policy.context} if self.ids else {})]}
        if path == "/v1/completions":
            own = {"include_stop_str_in_output", "return_token_ids", "top_k"} & set(body)
            if self.strict and own:
                return 400, {"error": {"message": f"Unrecognized request argument supplied: {own.pop()}"}}
            if not self.ids:
                body = {k: v for k, v in body.items() if k not in ("return_token_ids", "include_stop_str_in_output")}
            told = self.complete(body)
            return (400, told) if "error" in told else (200, told)
        if path == "/tokenize" and self.renders:
            turns = body.get("messages")
            tokens = self.encode(prompts.render_prompt(self.policy.tokenizer, turns[-1]["content"]) if turns else body["prompt"])
            return 200, {"tokens": tokens, "count": len(tokens), "max_model_len": self.policy.context}
        if path == "/detokenize" and self.renders:
            return 200, {"prompt": self.policy.tokenizer.decode(body["tokens"])}
        return 404, {"error": {"message": f"no {path}"}}

    # -- HTTP --------------------------------------------------------------------------------------------------

    def _handler(served) -> type[BaseHTTPRequestHandler]:  # noqa: N805 (self is the handler's)
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self._reply(*served.answer(self.path, {}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with served._counting:
                    served.requests.append(body)
                    served.keys.add(self.headers.get("Authorization"))
                    served.at_once += 1
                    served.most_at_once = max(served.most_at_once, served.at_once)
                try:
                    fault = served.fault(body) if served.fault and self.path == "/v1/completions" else None
                    if fault == "hang":
                        self._hang()
                    elif fault is not None:
                        self._reply(*fault)
                    else:
                        self._reply(*served.answer(self.path, body))
                finally:
                    with served._counting:
                        served.at_once -= 1

            def _hang(self):
                self.connection.settimeout(0.05)
                for _ in range(600):
                    try:
                        if self.connection.recv(1) == b"":
                            break
                    except TimeoutError:
                        time.sleep(0.05)
                else:
                    return
                served.abandoned.set()
                self.close_connection = True

            def _reply(self, status: int, content: object):
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(content, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments):
                pass

        return Handler
