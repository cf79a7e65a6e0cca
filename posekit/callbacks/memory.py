"""OutOfMemoryAdvice: what to change when memory does not suffice."""

from __future__ import annotations

import re
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

# The allocator's own error, that of a loader's worker, which arrives as text, and either once it has been advised on.
_WORDS = re.compile(r"DefaultCPUAllocator|Caught \w*MemoryError in DataLoader worker|\Aout of memory in stage ")


class OutOfMemory(MemoryError):
    """Lack of memory for an array, with advice; numpy's own class lets nobody change its message."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an error says that the device, or the machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None


class OutOfMemoryAdvice(Callback):
    """Puts what to change into the message of an error of memory; the error itself goes on."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Rewrites the message."""
        if not is_out_of_memory(exception):
            return
        advice = memory_advice(trainer, pl_module.device, exception)
        exception.args = (advice,)
        if str(exception) != advice and isinstance(exception, MemoryError):
            exception.__class__ = OutOfMemory


def memory_advice(trainer: Trainer, device: torch.device, error: BaseException) -> str:
    """Returns one line: where memory ran out, how much there was, and which options need less.

    Args:
        trainer: In the state it failed in.
        device: Of the method.
        error: The error.
    """
    stage = str(getattr(trainer.state.stage, "value", None) or trainer.state.fn or "run")
    lines = str(error).strip().splitlines()
    said = f" ({lines[0][:160]})" if lines else ""
    return f"out of memory in stage {stage} on {_place(device)}: {'; '.join(_ways_out(trainer, device))}{said}"


def _place(device: torch.device) -> str:
    if device.type != "cuda" or not torch.cuda.is_available():
        return "the CPU"
    total = torch.cuda.get_device_properties(device).total_memory
    peak = torch.cuda.max_memory_allocated(device)
    return f"{torch.cuda.get_device_name(device)}, {peak / 1e9:.1f} of {total / 1e9:.1f} GB used at most"


def _ways_out(trainer: Trainer, device: torch.device) -> list[str]:
    """Returns what to change, the most effective first."""
    data: Any = getattr(trainer, "datamodule", None)
    training = bool(trainer.training)
    names = ("batch_size", "clip_batch_size", "image_batch_size") if training else ("val_batch_size",)
    ways = []
    for name in names:
        size = getattr(data, name, None)
        if isinstance(size, int) and size > 1:
            ways.append(f"--data.{name} {size // 2} (now {size})")
    if training and ways:
        steps = 2 * trainer.accumulate_grad_batches
        ways[-1] += f" with --trainer.accumulate_grad_batches {steps} for as many samples a step"
    if device.type == "cuda" and trainer.precision == "32-true":
        ways.append("--trainer.precision bf16-mixed")
    if getattr(data, "frames", None) and isinstance(data.frames, int) and data.frames > 1:
        ways.append(f"fewer --data.frames (now {data.frames})")
    size = getattr(data, "image_size", None)
    if size is not None:
        ways.append(f"a smaller --data.image_size (now {list(size)})")
    if device.type != "cuda" and getattr(data, "num_workers", 0) > 0:
        ways.append(f"fewer --data.num_workers (now {data.num_workers})")
    return ["use " + ", or ".join(ways)] if ways else ["use a smaller network or smaller pictures"]
