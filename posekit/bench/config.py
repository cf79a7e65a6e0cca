"""Speed and memory of a config: loader, forward pass, prediction and training step, whatever its method and data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from posekit.bench.feeding import BeforeSteps, RepeatedData
from posekit.bench.timing import Clock, Timing, measure
from posekit.compiling import check_compiler, compiled
from posekit.data.batch_parts import batch_parts, count_samples, part_size, picture_batch, resized
from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError, one_of
from posekit.loggers import errors_only
from posekit.module import PoseModule
from posekit.nn.counting import count_operations, count_parameters
from posekit.nn.modes import evaluating

Row = dict[str, Any]

MODES = ("eager", "compiled")
TOO_SHORT = "the stage is too short"


@dataclass(frozen=True)
class BenchOptions:
    """What is timed, and how.

    Attributes:
        repeats: Calls that count, of each kind.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the trainer: ``32-true``, ``bf16-mixed``, ...
        batch_sizes: Samples of a batch (of its first part, others in proportion); None takes 1 and the config's.
        modes: ``eager``, ``compiled`` or both.
        backend: Of ``torch.compile``.

    Raises:
        UserError: A value is out of its range.
    """

    repeats: int = 20
    device: str = "auto"
    precision: str = "32-true"
    batch_sizes: Sequence[int] | None = None
    modes: Sequence[str] = ("eager",)
    backend: str = "inductor"

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.repeats < 1 or min(self.batch_sizes or (1,)) < 1:
            raise UserError("posekit bench: the number of batches and their sizes must be at least 1")
        for mode in self.modes:
            one_of("mode of posekit bench", mode, MODES)
        if "compiled" in self.modes:
            check_compiler(self.backend)

    @property
    def torch_device(self) -> torch.device:
        """The device.

        Raises:
            UserError: There is none of that kind.
        """
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError:
            raise UserError(f"unknown device {name!r}; known: auto, cpu, cuda, cuda:N") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"device {name}: torch finds no CUDA device here")
        return device


def bench_config(module: PoseModule, datamodule: PoseDataModule, options: BenchOptions) -> Iterator[Row]:
    """Yields a row for each thing that was timed, as soon as it was.

    Training steps are a trainer's, with the config's optimiser and the precision of the options; their batch lies on
    the device already. A method with training in stages is timed in each.

    Args:
        module: The method.
        datamodule: Its data.
        options: See there.
    """
    seed_everything(0, verbose=False)
    if not module.training:
        module.train()  # a fit does not; of a module that trains, parts may be frozen in evaluation mode
    # The trainers, of which there are many, would all introduce themselves.
    with errors_only("lightning.pytorch", "lightning.fabric"):
        yield from _rows(module, datamodule, options)


def _rows(module: PoseModule, datamodule: PoseDataModule, options: BenchOptions) -> Iterator[Row]:
    if hasattr(datamodule, "adapt_to"):
        datamodule.adapt_to(module)
    yield {"what": "parameters", "value": count_parameters(module)}
    yield from _operations(module)
    shown = False  # prediction does not depend on the stage of training: it is timed once
    for phase, switch in module.training_phases().items():
        bench = _Bench(module, datamodule, options, phase, switch)
        yield from bench.loader()
        batch = bench.batch
        sizes = sorted(set(options.batch_sizes or (1, part_size(next(batch_parts(batch))))))
        inference = not shown and picture_batch(batch) is not None
        shown = shown or inference
        for mode in options.modes:
            for size in sizes:
                yield from bench.steps(resized(batch, size), size, mode, inference)


def _operations(module: PoseModule) -> Iterator[Row]:
    try:
        shape = module.input_shape()
    except NotImplementedError:
        return
    yield {
        "what": f"multiply-adds of one sample, {'x'.join(map(str, shape))}",
        "value": count_operations(module, (1, *shape)),
    }


class _Bench:
    """One kind of training step of a config."""

    def __init__(
        self,
        module: PoseModule,
        datamodule: PoseDataModule,
        options: BenchOptions,
        phase: str,
        switch: Callable[[], None],
    ) -> None:
        self.module, self.datamodule, self.options = module, datamodule, options
        self.phase, self.switch = phase, switch
        self.device = options.torch_device
        clock = Clock(self.device, warmup=0)
        self._trainer(clock, 1).fit(module, datamodule=datamodule)
        self.batch = clock.batch

    def _trainer(self, clock: Clock, steps: int) -> Trainer:
        devices: Any = 1 if self.device.index is None else [self.device.index]
        return Trainer(
            accelerator="gpu" if self.device.type == "cuda" else "cpu",
            devices=devices if self.device.type == "cuda" else 1,
            precision=self.options.precision,  # type: ignore[arg-type]
            max_epochs=1,
            limit_train_batches=steps,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[clock, BeforeSteps(self.switch)],
        )

    def _row(self, what: str, **values: Any) -> Row:
        return {"what": what, **({"phase": self.phase} if self.phase else {}), **values}

    # -- loader -------------------------------------------------------------------------------------------------------

    def loader(self) -> Iterator[Row]:
        """Times the loader alone. Its processes' own CPU time is not counted."""
        self.switch()  # the step that has caught a batch may have ended the stage
        loader: Any = self.datamodule.train_dataloader()
        left = getattr(loader, "stage_batches", None)  # those behind them are another stage's
        iterator, timing, samples = islice(loader, left), Timing(), 0
        next(iterator, None)  # processes start, caches fill
        began, cpu = time.perf_counter(), time.process_time()
        for batch in islice(iterator, self.options.repeats):
            now, now_cpu = time.perf_counter(), time.process_time()
            timing.ms.append(1000 * (now - began))
            timing.cpu_ms.append(1000 * (now_cpu - cpu))
            samples += count_samples(batch)
            began, cpu = time.perf_counter(), time.process_time()
        workers = getattr(loader, "num_workers", self.datamodule.num_workers)
        if not timing.ms:
            yield self._row("loader", note="one batch only: nothing to time" if left is None else TOO_SHORT)
            return
        count = samples / len(timing.ms)
        row = timing.row(1)
        # Processes fetch ahead: single waits are short or long, and their sum tells the rate.
        row["samples_per_s"] = round(1000 * samples / max(sum(timing.ms), 1e-9), 3)
        row.pop("peak_mb")
        yield self._row("loader", batch=round(count), workers=workers, **row)

    # -- network ------------------------------------------------------------------------------------------------------

    def steps(self, batch: Any, size: int, mode: str, inference: bool) -> Iterator[Row]:
        """Times the forward pass, prediction and a training step of a batch."""
        pictures = picture_batch(batch) if inference else None
        kinds: dict[str, tuple[Any, Callable[[int], Timing]]] = {}
        shape = self._input_shape()
        if inference and shape is not None:
            kinds["forward"] = (None, lambda repeats: self._forward((size, *shape), repeats))
        if pictures is not None:
            kinds["prediction"] = (pictures, lambda repeats: self._predict(pictures, repeats))
        kinds["training step"] = (batch, lambda repeats: self._fit(batch, repeats))
        for what, (fed, run) in kinds.items():
            samples = size if fed is None else count_samples(fed)
            named = self._row(what, batch=size, mode=mode)
            try:
                with self._mode(mode, run) as parts:
                    timing = Timing() if parts == [] else run(self.options.repeats)
                if timing.ms:
                    yield {**named, **timing.row(samples)}
                else:
                    yield {**named, "note": "calls no network to compile" if parts == [] else TOO_SHORT}
            except (torch.OutOfMemoryError, ValueError) as error:
                yield {**named, "note": _reason(error)}

    def _mode(self, mode: str, run: Callable[[int], Timing]) -> AbstractContextManager[Any]:
        if mode == "eager":
            return nullcontext()
        torch.compiler.reset()
        return compiled(self.module, lambda: run(1), backend=self.options.backend, dynamic=False)

    def _input_shape(self) -> tuple[int, ...] | None:
        try:
            return self.module.input_shape()
        except NotImplementedError:
            return None

    def _forward(self, shape: tuple[int, ...], repeats: int) -> Timing:
        self.module.to(self.device)
        images = torch.randn(shape, device=self.device)
        half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.options.precision)
        autocast = torch.autocast(self.device.type, half, enabled=half is not None)
        with evaluating(self.module), torch.inference_mode(), autocast:
            return measure(lambda: self.module(images), self.device, repeats)

    def _predict(self, batch: Any, repeats: int) -> Timing:
        clock = Clock(self.device)
        data = RepeatedData(batch, repeats + clock.watch.warmup, self.datamodule)
        with evaluating(self.module):  # the trainer puts modes back only where nothing fails
            self._trainer(clock, 1).predict(self.module, datamodule=data, return_predictions=False)
        return clock.watch.timing

    def _fit(self, batch: Any, repeats: int) -> Timing:
        clock = Clock(self.device)
        steps = repeats + clock.watch.warmup
        self._trainer(clock, steps).fit(self.module, datamodule=RepeatedData(batch, steps, self.datamodule))
        return clock.watch.timing


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, UserError) or "more than 1 value per channel" not in str(error):
        raise error
    return "batch normalisation cannot train on one value"
