"""ThroughputMonitor: samples per second, the share of time spent waiting for data, and memory."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from posekit.callbacks.progress import end_progress
from posekit.data.batch_parts import count_samples
from posekit.resources import process_memory


class ThroughputMonitor(Callback):
    """Logs what bounds a run: ``perf/samples_per_s``, ``perf/data_wait`` and memory.

    On CUDA it logs ``perf/gpu_peak_gb`` (allocator's peak since the last row), ``perf/gpu_alloc_retries`` and, where
    NVML can be read, ``perf/gpu_utilization`` in percent; on a CPU ``perf/process_gb`` (resident memory of this
    process). ``perf/data_wait`` is all time between two steps: the loader, the copy to the device, other callbacks. The
    clock is read on the host and the device is never waited for, so a step is not slowed down: over
    ``every`` steps the host cannot run ahead of the device by more than a few. At the end of training a line sums up.

    Args:
        every: Training steps between rows.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._samples = 0
        self._waited = 0.0
        self._began = 0.0
        self._last_end: float | None = None
        self._total = {"samples": 0.0, "waited": 0.0, "elapsed": 0.0, "peak_gb": 0.0}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock: a run that goes on in the middle of an epoch does not start one."""
        self._restart()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._restart()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Counts the time since the last step ended as waiting for data."""
        if self._last_end is not None:
            self._waited += time.perf_counter() - self._last_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the samples, and logs every few steps."""
        self._samples += count_samples(batch)
        self._last_end = time.perf_counter()
        if (batch_idx + 1) % self.every == 0 or trainer.is_last_batch:
            # Straight to the loggers: log_dict would drop rows that fall between the trainer's own logging steps.
            values = self._values(trainer, pl_module)
            # At the step of this batch's losses: ``global_step`` counts each optimiser, and this batch as well.
            step, epoch = trainer.fit_loop.epoch_loop._batches_that_stepped, trainer.current_epoch
            for logger in trainer.loggers:
                logger.log_metrics({**values, "epoch": epoch}, step=step)
            self._sum_up(values)
            self._restart()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restarts the clock, so that validation does not count as waiting."""
        self._restart()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how fast the training was, and what it waited for."""
        total = self._total
        if total["elapsed"] > 0:
            end_progress(trainer)
            where = "GPU" if pl_module.device.type == "cuda" else "process"
            rank_zero_info(
                f"{total['samples'] * trainer.world_size / total['elapsed']:.4g} samples/s, "
                f"{100 * total['waited'] / total['elapsed']:.0f}% of the time waiting for data, "
                f"{where} memory {total['peak_gb']:.3g} GB at most"
            )

    def _sum_up(self, values: dict[str, float]) -> None:
        self._total["samples"] += self._samples
        self._total["waited"] += self._waited
        self._total["elapsed"] += time.perf_counter() - self._began
        memory = values.get("perf/gpu_peak_gb", values.get("perf/process_gb", 0.0))
        self._total["peak_gb"] = max(self._total["peak_gb"], memory)

    def _restart(self) -> None:
        self._samples, self._waited = 0, 0.0
        self._began = self._last_end = time.perf_counter()  # logging counts as no wait

    def _values(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        elapsed = max(time.perf_counter() - self._began, 1e-9)
        values = {
            "perf/samples_per_s": self._samples * trainer.world_size / elapsed,
            "perf/data_wait": self._waited / elapsed,
        }
        device = pl_module.device
        return values | (gpu_values(device) if device.type == "cuda" else {"perf/process_gb": process_memory() / 1e9})


def gpu_values(device: torch.device) -> dict[str, float]:
    """Reads the allocator's peak memory and retries, and the utilisation where NVML is at hand."""
    values = {
        "perf/gpu_peak_gb": torch.cuda.max_memory_allocated(device) / 1e9,
        "perf/gpu_alloc_retries": float(torch.cuda.memory_stats(device).get("num_alloc_retries", 0)),
    }
    torch.cuda.reset_peak_memory_stats(device)
    try:
        values["perf/gpu_utilization"] = float(torch.cuda.utilization(device))
    except Exception:  # pynvml is absent, or the driver refuses: the other figures still hold
        return values
    return values
