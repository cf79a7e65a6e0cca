"""A device of its own in the CPU's memory, which finds on any machine much of what would fail on a GPU.

A tensor of the device ``accel:0`` holds a CPU tensor, on which its operations are done. What CUDA refuses is refused:
operands on two devices, a CPU's generator for numbers drawn on the device, NumPy's view of a device's tensor. What
makes the host wait for the device is noted with the line that asked for it. Autocast is not simulated.

A device cannot be taken back from a process that has it: tests run :mod:`tests.cuda.simulated_run` in one of its own.
"""

import traceback
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten
NAME = "accel"
DEVICE = f"{NAME}:0"
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
JOINS = {aten.cat.default, aten.stack.default, aten.mm.default, aten.bmm.default, aten.addmm.default}
WAITS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default,
    aten.unique_dim.default, aten._unique2.default, aten.unique_consecutive.default, aten.bincount.default,
    aten.repeat_interleave.Tensor,
}  # fmt: skip


class DeviceError(AssertionError):
    """What a GPU would have refused."""


class Waits(list[str]):
    """Where the host waited for the device: the file from its package on, the function, and the operation."""

    def note(self, what: str) -> None:
        """Adds a wait of posekit's own code; what Lightning or torch wait for by themselves is not counted."""
        frames = [f for f in traceback.extract_stack() if "/posekit" in f.filename and "/tests/" not in f.filename]
        if frames:
            place = frames[-1].filename.split("/posekit")[-1]
            self.append(f"posekit{place}:{frames[-1].lineno} {frames[-1].name}: {what}")


WAITED = Waits()


class OnDevice(Tensor):
    """A tensor of the simulated device; ``host`` is the CPU tensor behind it."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "OnDevice":
        """Wraps a CPU tensor, whose memory it shares."""
        made = torch.Tensor._make_wrapper_subclass(
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            layout=host.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.host = host
        return made

    def tolist(self) -> Any:
        """Waits, and returns the values."""
        WAITED.note("tolist")
        return self.host.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuses, as a GPU's tensor does."""
        raise DeviceError("numpy() of a device's tensor: copy it to the CPU first")

    def __array__(self, dtype: Any = None) -> Any:
        """Refuses, as a GPU's tensor does."""
        raise DeviceError("a device's tensor as a NumPy array: copy it to the CPU first")

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.host})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_device(func, args, kwargs or {})


class DeviceMode(TorchDispatchMode):
    """Sends to the device what is made on it or copied to it, while it is on."""

    def __enter__(self) -> "DeviceMode":
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) then copies where this mode sees it
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_device(func, args, kwargs or {})


def _on_device(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func._can_decompose():  # reached in inference mode alone
        with DeviceMode():
            answer = func.decompose(*args, **kwargs)
        if answer is not NotImplemented:
            return answer
    flat, _ = tree_flatten((args, kwargs))
    inside = any(isinstance(a, OnDevice) for a in flat)
    target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if not inside and (target is None or target.type != NAME):
        return func(*args, **kwargs)
    _refuse(func, args, kwargs, flat)
    leaves = target is not None and target.type != NAME
    if _waits(func, args, kwargs, leaves):
        WAITED.note(str(func))
    plain, given = tree_map_only(OnDevice, lambda t: t.host, (args, kwargs))
    if target is not None and not leaves:
        given = {**given, "device": torch.device("cpu")}
    answer = LSTM_CELL.get(func, func)(*plain, **given)
    if func is aten.copy_.default:
        return args[0]
    if func is aten._local_scalar_dense.default:
        return answer
    if leaves:
        return answer.clone() if answer is plain[0] else answer
    wrapped = tree_map_only(Tensor, OnDevice, answer)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if inside else wrapped


def _refuse(func: Any, args: Any, kwargs: dict[str, Any], flat: list[Any]) -> None:
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != NAME:
        raise DeviceError(f"{func}: a generator of the CPU for numbers drawn on the device")
    if func in (aten._to_copy.default, aten.copy_.default):
        return
    strangers = [a for a in flat if isinstance(a, Tensor) and not isinstance(a, OnDevice)]
    if func in INDEXED:
        if not isinstance(args[0], OnDevice) and any(isinstance(i, OnDevice) for i in args[1]):
            raise DeviceError(f"{func}: a tensor of the CPU indexed by the device's")
        strangers = [a for a in args[2:3] if not isinstance(a, OnDevice)]
    for stranger in strangers:
        if stranger.ndim > 0 or func in JOINS:
            raise DeviceError(f"{func}: operands on the device and on the CPU, one of shape {tuple(stranger.shape)}")


def _waits(func: Any, args: Any, kwargs: dict[str, Any], leaves: bool) -> bool:
    """Tells whether the host waits: for values, for a size that values decide, or until its own memory is copied."""
    if func is aten._to_copy.default and not isinstance(args[0], OnDevice):
        return not kwargs.get("non_blocking")
    if func is aten.copy_.default:
        return isinstance(args[0], OnDevice) != isinstance(args[1], OnDevice)
    if func in INDEXED:
        indices = [i for i in args[1] if i is not None]
        return any(i.dtype in (torch.bool, torch.uint8) or not isinstance(i, OnDevice) for i in indices)
    return func in WAITS or leaves


def _lstm_cell(
    gates: Tensor, hidden_gates: Tensor, cx: Tensor, bias: Tensor | None = None, hidden_bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The fused cell of the devices, which a CPU lacks: next hidden and cell state, and the activated gates."""
    gates = gates + hidden_gates
    if bias is not None and hidden_bias is not None:
        gates = gates + bias + hidden_bias
    i, f, g, o = gates.chunk(4, dim=1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    return o * cy.tanh(), cy, torch.cat([i, f, g, o], dim=1)


def _lstm_cell_backward(
    grad_hy: Tensor | None, grad_cy: Tensor | None, cx: Tensor, cy: Tensor, workspace: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    i, f, g, o = workspace.chunk(4, dim=1)
    hidden = torch.zeros_like(cy) if grad_hy is None else grad_hy
    cell = hidden * o * (1 - cy.tanh() ** 2)
    if grad_cy is not None:
        cell = cell + grad_cy
    parts = [cell * g * i * (1 - i), cell * cx * f * (1 - f), cell * i * (1 - g**2), hidden * cy.tanh() * o * (1 - o)]
    gates = torch.cat(parts, dim=1)
    return gates, cell * f, gates.sum(0)


LSTM_CELL = {
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: _lstm_cell_backward,
}


class _Backend:
    """What torch asks of a device's Python module."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None: ...

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def register() -> None:
    """Makes the device known to torch, once in a process.

    Raises:
        ImportError: This version of torch has no devices written in Python.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend as set_up

    set_up(NAME, backend_module=_Backend())


class SimulatedAccelerator(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device: torch.device) -> None: ...

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        return {}

    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(DEVICE)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME
