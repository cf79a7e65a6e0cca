"""What the processes of a run hold, brought together."""

from __future__ import annotations

from typing import TypeVar

import torch
from lightning.pytorch import Trainer

Held = TypeVar("Held")


def from_all(trainer: Trainer, own: Held) -> list[Held]:
    """Returns what each process gives, in their order; every process has to call it.

    Args:
        trainer: The run's.
        own: What this process gives: arrays, tensors on the CPU, plain values.
    """
    if trainer.world_size == 1:
        return [own]
    parts: list[Held | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, own)
    return parts  # type: ignore[return-value]
