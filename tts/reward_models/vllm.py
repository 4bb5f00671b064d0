"""PRMs that vLLM runs, by itself (``vllm:NAME``) or behind its server (``FAMILY:http://HOST:PORT/v1#MODEL``)."""

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from tts.models.files import load_config
from tts.models.hub import ModelError
from tts.policies.openai import Address, Server
from tts.policies.vllm import alive, engine_arguments, starting
from tts.reward_models.base import Family, Reader
from tts.reward_models.prefix_plan import Steps

GOOD = {"qwen-prm": 1, "math-shepherd": 0, "rlhflow": 0}  # which of the two labels says that a step is right

# Inputs to rows of two logits: one row a token, or one a step tag where a server returns only those.
Read = Callable[[list[list[int]]], list[list[list[float]]]]


class PassScorer(Reader):
    """A PRM of any of these families, by an engine that reads each solution in one pass.

    vLLM classifies tokens without its prefix cache, so a step costs all before it again; the tokens are counted so. Solutions that were
    scored before are not read again. The family only renders; ``good`` is the label that says that a step is right.
    """

    def __init__(self, name: str, family: Family, good: int, read: Read, context: int):
        super().__init__(name, family, context)
        self.good, self.read = good, read

    def score(self, problems: Sequence[tuple[str, str]], steps: Sequence[Steps]) -> tuple[list[tuple[float, ...]], list[int]]:
        """As :meth:`tts.search.driver.RewardModel.score`."""
        charged = [0] * len(steps)
        inputs: list[list[int]] = []
        places: dict[tuple[str, Steps], list[tuple[int, int]]] = {}  # each step's input and position
        for number, ((problem_id, problem), solution) in enumerate(zip(problems, steps)):
            if solution in self._known[problem_id] or (problem_id, solution) in places:
                continue
            needed, places[problem_id, solution] = self._inputs(problem, solution, len(inputs))
            charged[number] = sum(map(len, needed))
            inputs += needed
        rows = self.read(inputs) if inputs else []
        for (problem_id, solution), ends in places.items():
            self.unread += len(solution) - len(ends)
            read = tuple(self._probability(inputs[i], rows[i], end) for i, end in ends)
            self._known[problem_id][solution] = (*read, *[0.0] * (len(solution) - len(ends)))
        return [self._known[problem_id][solution] for (problem_id, _), solution in zip(problems, steps)], charged

    def _inputs(self, problem: str, solution: Steps, first: int) -> tuple[list[list[int]], list[tuple[int, int]]]:
        """The longest rendering holds all the shorter ones, but where a tokenizer merges the end of one with what follows."""
        renderings = self.render([(problem, solution[: i + 1]) for i in range(len(solution))])
        fitting = takewhile(lambda ids: len(ids) <= self.context, renderings)
        needed: list[list[int]] = []
        ends: list[tuple[int, int]] = []
        for ids in reversed(list(fitting)):
            if not needed or needed[-1][: len(ids)] != ids:
                needed.append(ids)
            ends.append((first + len(needed) - 1, len(ids) - 1))
        return needed, ends[::-1]

    def _probability(self, ids: list[int], rows: list[list[float]], end: int) -> float:
        if len(rows) < len(ids):
            tag = getattr(self.family, "tag", None)
            if len(rows) != ids.count(tag):
                raise ModelError(f"{self.name}: {len(rows)} rows for {len(ids)} tokens; start the server with tok_pooling_type ALL")
            end = ids[: end + 1].count(tag) - 1
        return float(torch.tensor(rows[end]).softmax(-1)[self.good])


def started(location: str, family: str, rendering: Family) -> tuple[Read, int]:
    """vLLM as a reader of a PRM, and its context."""
    pooling = {"task": "token_classify", "tok_pooling_type": "ALL"}
    arguments: dict = engine_arguments(location) | {"runner": "pooling", "pooler_config": pooling}
    if family != "qwen-prm":
        [architecture] = load_config(location).architectures
        labels = rendering.tokenizer.convert_ids_to_tokens(rendering.labels)
        overrides = {"classifier_from_token": labels, "method": "no_post_processing", "num_labels": 2}
        overrides["architectures"] = [architecture.replace("ForCausalLM", "ForSequenceClassification")]
        arguments |= {"convert": "classify", "hf_overrides": overrides}
    with starting(location) as folder:
        from vllm import LLM, PoolingParams

        llm = LLM(model=folder, **arguments)

    def read(inputs: list[list[int]]) -> list[list[list[float]]]:
        prompts = [{"prompt_token_ids": ids} for ids in inputs]
        logits = PoolingParams(use_activation=False)
        with alive(location):
            return [o.outputs.data.tolist() for o in llm.encode(prompts, logits, pooling_task="token_classify", use_tqdm=False)]

    return read, llm.model_config.max_model_len


def served(address: Address, batch: int) -> tuple[Read, int]:
    """A vLLM server as a reader of a PRM, and its context."""
    server = Server(address)

    def read(inputs: list[list[int]]) -> list[list[list[float]]]:
        parts = (inputs[at : at + batch] for at in range(0, len(inputs), batch))
        return [rows for part in parts for rows in server.run(server.classify_tokens(part))]

    return read, server.context
