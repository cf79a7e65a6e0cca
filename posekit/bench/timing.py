"""Time and memory of repeated calls: medians and spread, CUDA by its own events, CPUs by process time as well."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from posekit.resources import process_peak

WARMUP = 3
"""Calls before the first that counts: allocators, algorithms and compilers settle."""


@dataclass
class Timing:
    """What repeated calls took.

    Attributes:
        ms: Milliseconds of each call: of the wall clock, on CUDA between two events on the device.
        cpu_ms: Process CPU time of each call, all threads: what holds on a machine that is busy with other things.
        peak_mb: Most memory during the calls, 10^6 bytes: CUDA's allocator, else the resident memory of the process.
    """

    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def row(self, samples: int) -> dict[str, Any]:
        """Returns median, spread, rate and memory by name.

        Args:
            samples: Of one call.
        """
        ordered = sorted(self.ms)
        tail = len(ordered) // 10
        median = statistics.median(ordered)
        return {
            "ms": round(median, 4),
            "p10_ms": round(ordered[tail], 4),
            "p90_ms": round(ordered[-1 - tail], 4),
            "cpu_ms": round(statistics.median(self.cpu_ms), 4),
            "samples_per_s": round(1000 * samples / max(median, 1e-9), 3),
            "peak_mb": round(self.peak_mb, 1),
            "repeats": len(ordered),
        }


class Stopwatch:
    """Times one stretch after the other.

    Args:
        device: Where the work is done; a CUDA device is waited for before and after each stretch.
        warmup: Stretches that do not count.
    """

    def __init__(self, device: torch.device, warmup: int = WARMUP) -> None:
        self.device = device
        self.warmup = warmup
        self.timing = Timing()
        self._seen = 0
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None

    def start(self) -> None:
        """Begins a stretch."""
        if self._seen == self.warmup:
            reset_peak(self.device)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self._events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self._events[0].record()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Ends it."""
        if self._events is not None:
            self._events[1].record()
            torch.cuda.synchronize(self.device)
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self._seen += 1
        if self._seen > self.warmup:
            ms = 1000 * wall if self._events is None else self._events[0].elapsed_time(self._events[1])
            self.timing.ms.append(ms)
            self.timing.cpu_ms.append(1000 * cpu)
            self.timing.peak_mb = peak_memory(self.device) / 1e6


def measure(call: Callable[[], Any], device: torch.device, repeats: int, warmup: int = WARMUP) -> Timing:
    """Times a function."""
    watch = Stopwatch(device, warmup)
    for _ in range(repeats + warmup):
        watch.start()
        call()
        watch.stop()
    return watch.timing


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one CPU thread, and then as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Clock(Callback):
    """Times the training or prediction steps of a trainer, and keeps the last batch that it saw.

    Args:
        device: Where the steps run.
        warmup: Steps that do not count.
    """

    def __init__(self, device: torch.device, warmup: int = WARMUP) -> None:
        self.watch = Stopwatch(device, warmup)
        self.batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begins a step."""
        self.batch = batch
        self.watch.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends it."""
        self.watch.stop()

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Begins a step."""
        self.watch.start()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends it."""
        self.watch.stop()


def reset_peak(device: torch.device) -> None:
    """Begins a new peak of memory, where the system can (CUDA; Linux, for the process)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the peak of the whole process then holds


def peak_memory(device: torch.device) -> int:
    """Returns the peak in bytes: CUDA's allocator, else the resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return process_peak()
