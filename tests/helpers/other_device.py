"""A device that is not there: tensors that say they are on ``cuda:0``, with values that the CPU computes.

Inside of ``with OtherDevice() as other`` an operation that mixes tensors of host and device is an error, as CUDA would have it, and what
makes the host wait for the device, or copies between them, is counted with the line of the suite that asked for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tts.common.paths import ROOT

CUDA, HOST = torch.device("cuda", 0), torch.device("cpu")
TO_DEVICE, TO_HOST, WAIT = "copy to the device", "copy to the host", "wait"
FROM_NUMBERS = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)
OF_ITSELF = tuple(getattr(Tensor, name).__get__ for name in ("device", "is_cuda", "is_cpu"))
# Operations whose result, or its shape, the host has to know; the first ones are what int, bool and item come to.
WAITING = {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy", "argwhere", "masked_select"}
WAITING |= {"bincount", "one_hot", "_unique2", "unique_dim", "unique_consecutive"}


class DeviceTensor(Tensor):
    """A tensor on the device; ``held`` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(cls, held.shape, strides=held.stride(), dtype=held.dtype, device=CUDA)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func}: a tensor of the other device is used where that device is not")


class OtherDevice(TorchFunctionMode):
    """``counts`` holds how often what happened where: of ``(kind, "file:line")``."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()

    def __str__(self) -> str:
        return "\n".join(f"{count} x {kind}, {place}" for (kind, place), count in sorted(self.counts.items()))

    def total(self, kind: str) -> int:
        return sum(count for (of, _), count in self.counts.items() if of == kind)

    def count(self, kind: str) -> None:
        self.counts[kind, _place()] += 1

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = list(_tensors((args, kwargs)))
        ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        if func in OF_ITSELF and ours or func in (Tensor.__hash__, Tensor.requires_grad_) and ours:
            with torch._C.DisableTorchFunctionSubclass():
                return args[0] if func is Tensor.requires_grad_ else func(*args)
        if func is torch._has_compatible_shallow_copy_type and ours:  # by which a module replaces its parameters
            return all(isinstance(tensor, DeviceTensor) for tensor in tensors)
        if func is Tensor.pin_memory:  # there is nothing to pin
            return args[0]
        if func in (Tensor.numpy, Tensor.__array__) and ours:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(func, *args, **kwargs)
        if func is Tensor.copy_ and isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor):
            self.count(TO_DEVICE if isinstance(args[0], DeviceTensor) else TO_HOST)
        elif ours and any(tensor.ndim and not isinstance(tensor, DeviceTensor) for tensor in tensors):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two, cuda:0 and cpu ({_place()}: {func})"
            )
        if func is Tensor.tolist and ours:
            self.count(TO_HOST)
        target = kwargs.get("device")
        if target is not None and torch.device(target).type == CUDA.type:
            kwargs["device"] = HOST
        elif target is not None or not ours:
            return func(*_held(args), **_held(kwargs))
        if func in FROM_NUMBERS or func in (Tensor.__getitem__, Tensor.__setitem__) and any(map(_is_list, _parts(args[1:]))):
            self.count(TO_DEVICE)
        known = {id(tensor.held): tensor for tensor in ours}
        with _Watch(self):
            return _on_device(func(*_held(args), **_held(kwargs)), known)

    def _moved(self, func, tensor: Tensor, *args, copy: bool = False, **kwargs) -> Tensor:
        """``Tensor.to`` and its short forms."""
        if func is Tensor.to:
            with torch._C.DisableTorchFunctionSubclass():
                device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        else:
            device, dtype = HOST if func is Tensor.cpu else CUDA, None
        there = isinstance(tensor, DeviceTensor)
        to_device = there if device is None else device.type == CUDA.type
        held = tensor.held if there else tensor
        made = held.to(dtype or held.dtype, copy=copy or to_device != there)
        if to_device != there:
            self.count(TO_DEVICE if to_device else TO_HOST)
        if not to_device:
            return made
        return tensor if there and made is held else DeviceTensor(made.detach())


class _Watch(TorchDispatchMode):
    """Counts the operations on the device's values that the host has to wait for."""

    def __init__(self, other: OtherDevice) -> None:
        super().__init__()
        self.other = other

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        unknown = name == "where" and len(args) == 1 or name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAITING or masked or unknown:
            self.other.count(WAIT)
        return func(*args, **(kwargs or {}))


def _parts(values):
    """Leaves of nested lists, tuples and dictionaries; a list of numbers is a leaf."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)) and not _is_list(values):
        for value in values:
            yield from _parts(value)
    else:
        yield values


def _is_list(value: object) -> bool:
    """Whether it is made of the host's numbers, and so copied where it meets a tensor of the device."""
    return isinstance(value, np.ndarray) or isinstance(value, list) and bool(value) and isinstance(value[0], (int, float))


def _tensors(values):
    return (part for part in _parts(values) if isinstance(part, Tensor))


def _mapped(values, change):
    if isinstance(values, dict):
        return {key: _mapped(value, change) for key, value in values.items()}
    if isinstance(values, torch.Size):
        return values
    if isinstance(values, (list, tuple)):
        changed = [_mapped(value, change) for value in values]
        if isinstance(values, list):
            return changed
        if hasattr(values, "n_fields"):  # what sort and the like return
            return type(values)(changed)
        return type(values)(*changed) if hasattr(values, "_fields") else tuple(changed)
    return change(values)


def _held(values):
    return _mapped(values, lambda value: value.held if isinstance(value, DeviceTensor) else value)


def _on_device(values, known: dict[int, DeviceTensor]):
    """What an operation gave; what it changed in place is the tensor that it was given."""
    if type(values).__name__ in ("list_iterator", "tuple_iterator"):
        return iter(_on_device(list(values), known))

    def wrapped(value):
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else DeviceTensor(value)

    return _mapped(values, wrapped)


def _place() -> str:
    """The innermost line of the suite's that is running."""
    frame = sys._getframe(1)
    while frame and not frame.f_code.co_filename.startswith(str(ROOT / "tts")):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}" if frame else "elsewhere"
