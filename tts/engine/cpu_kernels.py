"""``cpu_kernels.c``, compiled at first use by the machine's C compiler and kept beside this file like Python's own compiled code.

Without a compiler there are none, and models run by their own modules, which are slower for a small one.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from tts.common.files import replacing

FORMATS = (torch.float32, torch.bfloat16)
SIZES = (16, 32, 64, 96, 128)  # of a head, for which attention is compiled
# From how much on threads share it: products of queries and keys, and numbers that are read; about a tenth of a millisecond of either.
_ATTENDED, _READ = 1 << 20, 1 << 16
_SOURCE = Path(__file__).with_suffix(".c")
_BESIDE = _SOURCE.parent / "__pycache__"
_FOR_CAPABILITY = {"AVX2": ("-mavx2", "-mfma"), "AVX512": ("-mavx2", "-mfma")}  # torch's names; elsewhere what the compiler assumes

log = logging.getLogger(__name__)


class _Attention(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("qkv", "angles", "positions", "keys", "values", "shared", "out")] + [
        (name, ctypes.c_int64) for name in ("rows", "layer", "added", "heads", "kv_heads", "capacity")
    ]


class _Drawing(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("logits", "of", "uniform", "places")] + [
        (name, ctypes.c_int64) for name in ("rows", "samples", "vocabulary")
    ]


class Kernels:
    """The compiled functions over tensors on the CPU: float32, or bfloat16 but for hidden states between layers, which are float32."""

    def __init__(self, library: ctypes.CDLL):
        pointer, integer = ctypes.c_void_p, ctypes.c_int64
        self._attend, self._norm, self._gate, self._draw = library.attend, library.norm, library.gate, library.draw
        self._attend.argtypes = [pointer, integer, integer, integer]
        self._norm.argtypes = [pointer, pointer, pointer, integer, integer, ctypes.c_float, integer, integer]
        self._gate.argtypes = [pointer, pointer, integer, integer, integer, integer]
        self._draw.argtypes = [pointer, ctypes.c_float, integer, integer]
        self._norm.restype = self._gate.restype = None

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Root mean square norm of ``hidden`` ``(rows, width)``, float32; in the format of ``weight``."""
        out = torch.empty_like(hidden, dtype=weight.dtype)
        addresses = _address(hidden), _address(weight, *FORMATS), out.data_ptr()
        self._norm(*addresses, *_shape(hidden, _brief(weight)), epsilon, _brief(weight), _threads(hidden.numel() >= _READ))
        return out

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of ``gate_up`` ``(rows, 2 * width)``."""
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        threads = _threads(gate_up.numel() >= _READ)
        self._gate(_address(gate_up, *FORMATS), out.data_ptr(), *_shape(out, _brief(out)), _brief(out), threads)
        return out

    def attend(
        self,
        qkv: torch.Tensor,  # (rows * new, (heads + 2 * kv_heads) * size)
        angles: torch.Tensor,  # cosines and signed sines by position, (positions, 2 * size), float32
        positions: torch.Tensor,  # (rows, new), int64, within the angles and the capacity
        held: torch.Tensor,  # the layer's cache, (2, slots, kv_heads, capacity, size), of the format of ``qkv``
        shared: int,  # address of what each row reads where it was parked, (slots,) of tts.engine.slot_cache.SHARED
        layer: int,
    ) -> torch.Tensor:
        """Rotates queries and keys, writes keys and values into ``held``, and attends to all that a row holds up to each position.

        Gives ``(rows * new, heads * size)``.
        """
        rows, new = positions.shape
        _, _, kv_heads, capacity, size = held.shape
        heads = qkv.shape[1] // size - 2 * kv_heads
        out = qkv.new_empty(rows * new, heads * size)
        keys = _address(held, qkv.dtype)
        values = keys + held.stride(0) * held.itemsize
        queries = _address(qkv, *FORMATS)
        pointers = (queries, _address(angles), _address(positions, torch.int64), keys, values, shared, out.data_ptr())
        work = _Attention(*pointers, rows, layer, new, heads, kv_heads, capacity)
        if self._attend(ctypes.addressof(work), size, _brief(qkv), _threads(out.numel() * capacity >= _ATTENDED)):
            raise MemoryError(f"attention over {capacity:,} positions with heads of {size}: no memory, or not compiled for that size")
        return out

    def draw(self, logits: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor, temperature: float) -> torch.Tensor:
        """As :func:`tts.engine.drawing.choose` of a vocabulary of a multiple of eight tokens, without ``top_p``."""
        if uniform.shape != rows.shape:
            raise TypeError(f"drawing takes a number for each sample; given {len(uniform)} for {len(rows)}")
        places = torch.full_like(rows, -1)
        addresses = (_address(logits, *FORMATS), _address(rows, torch.int64), _address(uniform, torch.float64), places.data_ptr())
        count, vocabulary = _shape(logits, by_eights=True)
        work = _Drawing(*addresses, count, len(rows), vocabulary)
        if self._draw(ctypes.addressof(work), 1 / temperature, _brief(logits), _threads(logits.numel() >= _READ)):
            raise MemoryError("no memory to draw tokens")
        return places


def takes(tensor: torch.Tensor, *formats: torch.dtype) -> bool:
    """Whether the compiled functions can read it as one of these formats, by default all that they know."""
    return tensor.dtype in (formats or FORMATS) and tensor.is_cpu and tensor.is_contiguous()


def _address(tensor: torch.Tensor, *formats: torch.dtype) -> int:
    """Checked each time, as C would read whatever is there; float32 unless said otherwise."""
    if not takes(tensor, *formats or (torch.float32,)):
        wanted = " or ".join(map(str, formats or (torch.float32,)))
        raise TypeError(f"compiled operations take contiguous {wanted} on the CPU; given {tensor.dtype} on {tensor.device}")
    return tensor.data_ptr()


def _threads(shared: bool) -> int:
    return torch.get_num_threads() if shared else 1


def _brief(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.bfloat16


def _shape(tensor: torch.Tensor, by_eights: bool) -> torch.Size:
    """The shape of rows; where C reads them by eights, of so many numbers."""
    if by_eights and tensor.shape[1] % 8:
        raise TypeError(f"this compiled operation takes rows of a multiple of eight numbers; given {tensor.shape[1]}")
    return tensor.shape


@cache
def kernels() -> Kernels | None:
    """None where the environment has ``TTS_CPU_KERNELS=0``, there is no C compiler, or it does not take the source."""
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if os.environ.get("TTS_CPU_KERNELS") == "0" or not compiler:
        return None
    with suppress(OSError, subprocess.SubprocessError):
        return Kernels(_library(compiler, "-fopenmp"))  # its threads are torch's own where both load the same library
    try:
        return Kernels(_library(compiler))  # the same on one thread, where the compiler knows no OpenMP, or its library is not there
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        log.warning("%s cannot compile %s, or the result be loaded; small models run slower on this CPU: %s", compiler, _SOURCE.name, said)
        return None


def _library(compiler: str, *options: str) -> ctypes.CDLL:
    flags = _FOR_CAPABILITY.get(torch.backends.cpu.get_cpu_capability(), ())
    command = [*shlex.split(compiler), "-O3", "-ffp-contract=fast", *flags, *options, "-shared", "-fPIC", "-o"]
    key = _digest(_SOURCE.read_bytes() + " ".join([*command, platform.machine()]).encode())
    for kept in _BESIDE.glob(f"{_SOURCE.stem}-{key}-*.so"):
        if kept.stem.endswith(_digest(kept.read_bytes())):  # a damaged library would end the process that loads it
            return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / _SOURCE.stem
        subprocess.run([*command, made, _SOURCE, "-lm"], check=True, capture_output=True, text=True, errors="replace", timeout=120)
        with suppress(OSError), replacing(_BESIDE / f"{_SOURCE.stem}-{key}-{_digest(made.read_bytes())}.so") as kept:
            shutil.copy(made, kept)  # unless the folder cannot be written
        return ctypes.CDLL(str(made))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
