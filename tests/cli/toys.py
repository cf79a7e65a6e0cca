"""A method and a data set small enough for tests of the command line."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback

from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError
from posekit.module import PoseModule, StepOutput


class Toy(PoseModule):
    """Fits a constant.

    Args:
        skeleton: Joint set.
        width: Inputs.
        kwargs: Arguments of PoseModule.
    """

    def __init__(self, skeleton: str | None = None, width: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.net = torch.nn.Linear(width, 1)
        self.load_initial_weights()

    def forward(self, x):
        return self.net(x)

    def step(self, batch, stage):
        return StepOutput((self.net(batch["image"]) ** 2).mean(), batch_size=len(batch["image"]))


class OtherToy(Toy):
    """Another class of the same shape."""


class _Points(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, key):
        epoch, index = key
        return {"image": torch.tensor([1.0, float(epoch), index / 16])}


class ToyData(PoseDataModule):
    """Sixteen points.

    Args:
        kwargs: Arguments of PoseDataModule.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def make_dataset(self, split):
        return _Points()


class KillAt(Callback):
    """Kills its own process, as a cluster does, at the start of a training batch (1 is the first)."""

    def __init__(self, step: int = 1):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.step - 1:
            os.kill(os.getpid(), signal.SIGKILL)


class StopAt(Callback):
    """Ends the run after a training batch (1 is the first), as a limit of time does."""

    def __init__(self, step: int = 1):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop |= trainer.fit_loop.epoch_loop.total_batch_idx == self.step - 1


class RaiseAt(Callback):
    """Raises an error at the start of a training batch (1 is the first), as a full device or disk does."""

    def __init__(self, kind: str, step: int = 1):
        self.kind, self.step = kind, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx != self.step - 1:
            return
        if self.kind == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        if self.kind == "cpu_memory":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory")
        if self.kind == "disk":
            raise OSError(28, "No space left on device")


class InterruptAt(Callback):
    """Sends its own process what Ctrl-C sends, at the start of a training batch (1 is the first), or another signal.

    Of several processes ``rank`` alone, if it is given.
    """

    def __init__(self, step: int = 1, number: int = int(signal.SIGINT), rank: int | None = None):
        self.step, self.number, self.rank = step, number, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.rank in (None, trainer.global_rank) and trainer.fit_loop.epoch_loop.total_batch_idx == self.step - 1:
            os.kill(os.getpid(), self.number)


class FailAt(Callback):
    """Meets a user's mistake in one of several processes, at the start of a training batch (1 is the first)."""

    def __init__(self, step: int = 1, rank: int | None = None):
        self.step, self.rank = step, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.rank in (None, trainer.global_rank) and trainer.fit_loop.epoch_loop.total_batch_idx == self.step - 1:
            raise UserError("image a.jpg: is cut short")


class FillDisk(Callback):
    """Fills a file system at the start of a training batch (1 is the first)."""

    def __init__(self, folder: str, step: int = 1):
        self.folder, self.step = folder, step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx != self.step - 1:
            return
        with contextlib.suppress(OSError), (Path(self.folder) / "filler").open("wb", buffering=0) as file:
            while file.write(b"0" * 512):
                pass
