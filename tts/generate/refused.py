"""What a device refuses while a chunk is made, in one line that says what to do; what was stored before stays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tts.models.hub import ModelError, first_line
from tts.models.loading import memory_of

if TYPE_CHECKING:
    from tts.generate.chunks import Engines
    from tts.generate.work import Work

MIB = 1 << 20
MARGIN = 2  # times the caches that rows take: of one that grows, the old and the new are there for a moment
LOGIT_BYTES = 40  # of a row and entry of the vocabulary: in the model's precision, in float32, float64, and sorted
PARKED = 0.5  # share of what models leave free, for caches that no row holds
_NO_MEMORY = re.compile("out of memory|DefaultCPUAllocator")
_NO_DEVICE = re.compile("CUDA error|CUDA driver error|CUDNN_STATUS|CUBLAS_STATUS|NVML|HIP error")
_NO_KERNEL = re.compile(r"not implemented for '(\w+)'")


@contextmanager
def explained(engines: Engines, work: Work) -> Iterator[None]:
    """Turns what torch raises for a device while a chunk is made into a ``ModelError`` of one line; every other error passes."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if said := _line(error, engines, work):
            raise ModelError(said) from error
        raise


def _line(error: Exception, engines: Engines, work: Work) -> str:
    """What to say of an error; empty for one that is not a device's."""
    import torch

    names = " and ".join(filter(None, (None if work.spec.method == "scores" else work.spec.policy.name, work.spec.guide)))
    kept = "what is stored stays, and the same command goes on"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or _NO_MEMORY.search(str(error)):
        return f"out of memory with {names}, {engines.batch} sequences at once; {_remedy(engines, work)}"
    if isinstance(error, torch.AcceleratorError) or _NO_DEVICE.search(str(error)):
        return f"the GPU stopped under {names}: {first_line(error)}; look whether nvidia-smi still shows it; {kept}"
    if lacking := _NO_KERNEL.search(str(error)):
        return f"this device cannot compute {names} in {lacking[1]}: {first_line(error)}; convert the weights to float32; {kept}"
    return ""


def _remedy(engines: Engines, work: Work) -> str:
    """Which batch would fit, as far as the models are there to be asked."""
    models = [model for model in engines.loaded if getattr(model, "engine", None)]
    if not models:
        return "choose a smaller batch: -p batch=NUMBER"
    longest = _longest(engines.loaded, work)
    free = left_by(models, engines.share)
    each = sum(model.engine.token_bytes for model in models) * longest
    told = f"one of {longest:,} tokens takes {each / MIB:,.3g} MiB, and {free / MIB:,.0f} MiB are free beside the weights"
    if not (fits := fitting(models, engines.batch // 2, longest, free)):
        return f"{told}: not even one fits; choose smaller models or max_tokens, or a larger GPU"
    return f"{told}: choose -p batch={fits}, whose runs are kept apart from those of {engines.batch}"


def _longest(models: Sequence[Any], work: Work) -> int:
    """Tokens of the longest sequence that may come: a prompt, of which a PRM alone has no more tokens than characters, and a solution."""
    policy = next((model for model in models if hasattr(model, "root")), None)
    prompts = (len(policy.root(p["id"], p["problem"]).prompt) if policy else len(p["problem"]) for p in work.chunk)
    contexts = (getattr(model, "context", 1 << 30) for model in models)
    return min(max(prompts) + work.spec.sampling.get("max_tokens", 1 << 30), *contexts)


def fitting(models: Sequence[Any], most: int, longest: int, free: float) -> int:
    """How many sequences of ``longest`` tokens fit at once into ``free`` bytes: a power of two; 0 for none."""
    from tts.engine import capacity_for

    row = MARGIN * sum(model.engine.token_bytes for model in models) * capacity_for(longest)
    for model in models:
        row += longest * _read_bytes(model) if model.engine.marks is None else LOGIT_BYTES * len(model.engine.marks.ends)
    fits = min(most, int(PARKED * free) // row)
    return 1 << (fits.bit_length() - 1) if fits > 0 else 0


def _read_bytes(model: Any) -> int:
    """Bytes that lie between two operations for each token that a PRM reads, which reads whole solutions where none is cached."""
    config = model.engine.model.backbone.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return (2 * inner + 4 * config.hidden_size) * model.engine.model.backbone.dtype.itemsize


def left_by(loaded: Sequence[Any], share: float) -> float:
    """Bytes of the device that neither weights of loaded models of our engine take nor others, whatever caches hold now."""
    import torch

    models = [model for model in loaded if getattr(model, "engine", None)]
    device = models[0].engine.device
    if device.type == "cuda":
        memory: float = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    else:
        memory = share * memory_of()
    return max(0.0, memory - sum(model.engine.weight_bytes for model in models))
