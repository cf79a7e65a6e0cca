"""What all stages of Algorithm 1 have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from posekit.errors import UserError
from posekit.optim import SCHEDULES, build_schedule
from posekit_nlrd.augment import Draws
from posekit_nlrd.networks import Networks
from posekit_nlrd.stages.options import Count, Positive, checked

OPTIMIZERS = ("adam", "rmsprop")
STAGE_SCHEDULES = tuple(name for name in SCHEDULES if name != "step")
WINDOWS = {"motion": "joints3d", "target": "image"}
"""Streams of windows, and the field that shows their length."""

Logs = dict[str, Tensor]


@dataclass(frozen=True)
class StageOptions:
    """Options of every stage.

    Attributes:
        steps: Iterations; None leaves it to ``epochs``.
        epochs: Passes over the stage's data, in place of ``steps``.
        lr: Learning rate.
        optimizer: ``adam`` or ``rmsprop`` (decay 0.9, TensorFlow's).
        schedule: ``constant``, ``cosine`` or ``onecycle`` over the stage.
        clip: Largest norm of a step's gradient; None does not clip.
    """

    steps: Count | None = None
    epochs: Positive | None = None
    lr: Positive = 1e-4
    optimizer: Annotated[str, OPTIMIZERS] = "adam"
    schedule: Annotated[str, STAGE_SCHEDULES] = "constant"
    clip: Positive | None = None


@dataclass(frozen=True)
class Tools:
    """What a step gets from the trainer.

    Attributes:
        optimizers: The stage's own, in the order in which it made them.
        backward: Runs a loss's backward pass (scaled and synchronised as the trainer needs it).
        draws: The step's random numbers.
        step: Number of the step within the stage, from 0.
    """

    optimizers: Sequence[Any]
    backward: Callable[[Tensor], None]
    draws: Draws
    step: int


class Stage:
    """One stage: what it trains, with which optimisers, and what a step is.

    Args:
        networks: All networks.
        options: The stage's options.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    stream: ClassVar[str]
    options_class: ClassVar[type[StageOptions]] = StageOptions
    separate_optimizers: ClassVar[bool] = False
    """Whether each network has an optimiser of its own."""

    def __init__(self, networks: Networks, options: StageOptions) -> None:
        self.networks = networks
        self.options = options

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the data that a step takes: ``motion``, ``source``, ``target`` or ``labelled``."""
        return (self.stream,)

    def batches_at(self, step: int) -> dict[str, int]:
        """Returns what a step takes: which batch, counted from 0, of which stream."""
        return dict.fromkeys(self.streams, step)

    def trained(self) -> list[nn.Module]:
        """Returns the networks that this stage changes."""
        raise NotImplementedError

    def builds_on(self) -> list[str]:
        """Returns the names of the stages that must have run before this one."""
        return list(self.needs)

    def check(self) -> None:
        """Refuses options that do not fit the networks.

        Raises:
            UserError: They do not.
        """

    def check_length(self, steps: int) -> None:
        """Refuses options that do not fit the stage's length.

        Raises:
            UserError: They do not.
        """

    def make_optimizers(self) -> list[Optimizer]:
        """Builds the stage's optimisers: one, or one for each network."""
        modules = self.trained()
        parts = [[module] for module in modules] if self.separate_optimizers else [modules]
        return [self.make_optimizer(part) for part in parts]

    def make_optimizer(self, modules: Sequence[nn.Module], lr: float | None = None) -> Optimizer:
        """Builds one optimiser over modules."""
        parameters = [p for module in modules for p in module.parameters()]
        rate = self.options.lr if lr is None else lr
        if self.options.optimizer == "rmsprop":
            return RMSprop(parameters, lr=rate, alpha=0.9)
        return Adam(parameters, lr=rate)

    def frames(self, stream: str) -> int:
        """Returns the least length of a stream's windows."""
        return 1

    def check_batch(self, batch: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Refuses windows that are too short.

        Raises:
            UserError: They are.
        """
        for stream, rows in batch.items():
            if stream in WINDOWS:
                self.check_window(stream, rows[WINDOWS[stream]].shape[1])

    def check_window(self, stream: str, frames: int) -> None:
        """Refuses a stream whose windows are too short.

        Raises:
            UserError: They are.
        """
        if frames < self.frames(stream):
            raise UserError(
                f"data.{stream} has windows of {frames} frames, but stage {self.name} needs "
                f"{self.frames(stream)}: set data.{stream}.init_args.frames"
            )

    def check_samples(self, stream: str, count: int) -> None:
        """Refuses a stream whose batches have too few samples.

        Raises:
            UserError: They have.
        """

    def enter(self) -> None:
        """Freezes everything else and sets the modes; called before every step, so that nothing can undo it."""
        self.networks.freeze_all_but(self.trained())

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Takes one step of every optimiser whose turn it is.

        Args:
            batch: Batches by stream.
            tools: What the trainer lends.

        Returns:
            Scalars to log, ``loss`` among them.
        """
        raise NotImplementedError

    def descend(self, loss: Tensor, tools: Tools, *turns: int) -> None:
        """Runs one backward pass and steps the optimisers of these numbers (all of them when none is named)."""
        chosen = [tools.optimizers[i] for i in turns] if turns else list(tools.optimizers)
        for optimizer in chosen:
            optimizer.zero_grad()
        tools.backward(loss)
        for optimizer in chosen:
            optimizer.step()

    def clip(self, optimizer: Optimizer) -> None:
        """Limits the norm of an optimiser's gradient where the options say so; the gradient must not be scaled."""
        if self.options.clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run needs besides weights and optimisers; plain values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""


class Rates:
    """Learning rates as functions of the step alone, so that a resumed run needs no state of them.

    Args:
        optimizers: Of one stage.
        options: The stage's options.
        steps: Its length.
    """

    def __init__(self, optimizers: Sequence[Optimizer], options: StageOptions, steps: int) -> None:
        self._base = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self._optimizers = optimizers
        self.count = len(optimizers)
        scratch = Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule: Any = build_schedule(scratch, options.schedule, total_steps=steps, steps_per_epoch=1)
        self._factor = schedule.lr_lambdas[0]

    def set(self, step: int) -> None:
        """Sets the rates of a step."""
        for optimizer, rates in zip(self._optimizers, self._base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self._factor(step)


def read_options(cls: type[Stage], values: Mapping[str, Any]) -> StageOptions:
    """Makes a stage's options of plain values, its own defaults for the rest.

    Raises:
        UserError: An unknown option, or a value of another type or out of its range.
    """
    given = checked(cls.options_class, cls.name, values)
    if "epochs" in given and "steps" not in given:
        given["steps"] = None
    options = cls.options_class(**given)
    if options.steps is None and options.epochs is None:
        raise UserError(f"stage {cls.name}: set steps or epochs")
    return options
