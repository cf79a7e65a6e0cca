"""Optimisers and learning-rate schedules by name, with plain values that YAML and checkpoints can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from posekit.errors import UserError, one_of

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "step", "cosine", "onecycle")

Parameters = Iterable[Parameter] | Iterable[Tensor] | Sequence[dict[str, Any]]


def build_optimizer(parameters: Parameters, name: str, lr: float, weight_decay: float = 0.0) -> Optimizer:
    """Makes an optimiser over parameters or parameter groups.

    Raises:
        UserError: The name is unknown or the learning rate is not positive.
    """
    if lr <= 0:
        raise UserError(f"lr must be positive, not {lr}")
    one_of("optimizer", name, OPTIMIZERS)
    if name == "sgd":
        return SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9, nesterov=True)
    return (AdamW if name == "adamw" else Adam)(parameters, lr=lr, weight_decay=weight_decay)


def build_schedule(
    optimizer: Optimizer,
    name: str,
    *,
    total_steps: int | None,
    steps_per_epoch: int,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
    warmup_steps: int = 0,
    peak: float = 0.2,
) -> LambdaLR:
    """Makes a schedule that is stepped after every optimiser step.

    Args:
        optimizer: Its learning rates are the base (of ``onecycle``: the highest) values.
        name: ``constant``; ``step``: times ``gamma`` at each milestone; ``cosine``: half a cosine down to 0;
            ``onecycle``: from a 25th up to the learning rate at the share ``peak`` of the run, then down to a
            250,000th, along cosines (Smith & Topin, 2018; the factors are torch's defaults, but torch reaches the peak
            one step earlier, and momentum is left as it is).
        total_steps: Optimiser steps of the whole run; None where it has no end.
        steps_per_epoch: Optimiser steps of an epoch.
        milestones: Epochs at which ``step`` decays.
        gamma: Factor of ``step``.
        warmup_steps: Steps of linear increase from a thousandth of the rate (not for ``onecycle``).
        peak: See ``onecycle``.

    Raises:
        UserError: The name is unknown, or a run without end has a schedule that needs one.
    """
    one_of("schedule", name, SCHEDULES)
    if name in ("cosine", "onecycle") and total_steps is None:
        raise UserError(f"schedule {name!r} needs an end: set trainer.max_epochs or trainer.max_steps")
    end = max(total_steps or 1, 2)
    # Functions of the step alone: a run that is resumed, or resumed with more epochs, needs no state of them. None is
    # local, so that a model with its schedule can be pickled.
    shapes: dict[str, Callable[[int], float]] = {
        "constant": _constant,
        "step": partial(_stairs, gamma, [epoch * steps_per_epoch for epoch in milestones]),
        "cosine": partial(_half_cosine, end),
        "onecycle": partial(_one_cycle, end - 1, peak),
    }
    warms_up = warmup_steps if name != "onecycle" else 0  # which has an increase of its own
    return LambdaLR(optimizer, partial(_factor, shapes[name], warms_up))


def group_options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Returns the options of a new optimiser's groups, e.g. ``lr`` and ``betas``; a schedule adds its own to them."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def scaled_rates(options: Sequence[dict[str, Any]], before: float, now: float) -> list[dict[str, Any]]:
    """Returns options for another learning rate, to which each group's keeps its ratio.

    Args:
        options: Of :func:`group_options`.
        before: Learning rate that the optimiser was built with.
        now: The one to take its place.
    """
    return [{**group, "lr": group["lr"] / before * now} for group in options]


def impose_options(optimizer: Optimizer, schedule: LambdaLR, options: Sequence[dict[str, Any]]) -> list[str]:
    """Gives an optimiser its options back, where the state of a checkpoint has replaced them.

    Args:
        optimizer: With the state of the checkpoint.
        schedule: Its schedule from :func:`build_schedule`, at the checkpoint's step.
        options: What :func:`group_options` returned when the optimiser was new.

    Returns:
        What differed, by name, e.g. ``"lr 1e-05 (the checkpoint had 0.001)"``.

    Raises:
        UserError: The checkpoint's optimiser is of another kind: its state is of no use.
    """
    changed: dict[str, None] = {}
    for group, wanted in zip(optimizer.param_groups, options, strict=True):
        if ("betas" in wanted) != ("betas" in group):
            raise UserError(
                "the checkpoint was trained by another kind of optimizer: set model.optimizer as it was, or start anew "
                "from its weights with --model.init_from instead of --ckpt_path"
            )
        before = {**group, "lr": group.get("initial_lr", group["lr"])}
        for name, value in wanted.items():
            if name in before and before[name] != value:
                changed[f"{name} {value} (the checkpoint had {before[name]})"] = None
        group.update(wanted, lr=group["lr"], initial_lr=wanted["lr"])
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
        now = group["initial_lr"] * factor(schedule.last_epoch)  # to the bit what the schedule itself has set
        if now != group["lr"]:
            changed[f"a rate of {now:.3g} at step {schedule.last_epoch} (the checkpoint had {group['lr']:.3g})"] = None
        group["lr"] = now
    return list(changed)


def _cosine(start: float, end: float, share: float) -> float:
    """Goes from start to end along half a cosine; share is clamped to [0, 1]."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))


def _factor(shape: Callable[[int], float], warmup_steps: int, step: int) -> float:
    ramp = min(1.0, 0.001 + 0.999 * step / warmup_steps) if warmup_steps > 0 else 1.0
    return ramp * shape(step)


def _constant(step: int) -> float:
    return 1.0


def _stairs(gamma: float, starts: Sequence[int], step: int) -> float:
    return float(gamma ** sum(step >= start for start in starts))


def _half_cosine(end: int, step: int) -> float:
    return _cosine(1.0, 0.0, step / end)


def _one_cycle(end: int, peak: float, step: int) -> float:
    share = step / end
    if share < peak:
        return _cosine(1 / 25, 1.0, share / peak)
    return _cosine(1.0, 1 / 250_000, (share - peak) / max(1 - peak, 1e-9))
