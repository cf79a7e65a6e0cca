"""Trains, validates and predicts with a config on the simulated device: ``python -m tests.cuda.simulated_run CONFIG``.

Prints one line of JSON for a run on the CPU and one on the device: metrics, sums of the weights and of the predictions,
whether the weights lay on the device, and where the host waited in each step.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import SingleDeviceStrategy

from posekit.cli.build import build_from_config
from tests.cuda.simulated import DEVICE, WAITED, DeviceMode, OnDevice, SimulatedAccelerator, register
from tests.small_configs import learns_from_pictures

STEPS = ("training_step", "validation_step", "predict_step")


def watched(function: Callable[..., Any], into: set[str]) -> Callable[..., Any]:
    """Returns the function; the waits of its calls are added to a set."""

    def call(*args: Any, **kwargs: Any) -> Any:
        before = len(WAITED)
        try:
            return function(*args, **kwargs)
        finally:
            into.update(WAITED[before:])

    return call


def trainer(simulated: bool) -> Trainer:
    """Returns a trainer of six steps, on the simulated device or on the CPU."""
    where: dict[str, Any] = {"accelerator": "cpu"}
    if simulated:
        device = torch.device(DEVICE)
        where = {"strategy": SingleDeviceStrategy(device=device, accelerator=SimulatedAccelerator())}
    return Trainer(
        **where, max_epochs=1, limit_train_batches=6, limit_val_batches=1, limit_predict_batches=1, logger=False,
        num_sanity_val_steps=0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        inference_mode=False,
    )  # fmt: skip


def run(config: str, simulated: bool) -> dict[str, Any]:
    """Trains, validates and predicts; returns what is printed."""
    seed_everything(1)
    module, data = build_from_config(["--config", config])
    if hasattr(data, "adapt_to"):
        data.adapt_to(module)
    waits: dict[str, set[str]] = {step: set() for step in STEPS}
    for step in STEPS:
        setattr(module, step, watched(getattr(module, step), waits[step]))
    there: list[bool] = []
    fitted = trainer(simulated)
    fitted.fit(_noting_device(module, there), datamodule=data)
    pictures = learns_from_pictures(yaml.safe_load(Path(config).read_text()))
    found = trainer(simulated).predict(module, datamodule=data) if pictures else []
    return {
        "waits": {step: sorted(places) for step, places in waits.items()},
        "metrics": {name: float(value) for name, value in fitted.callback_metrics.items()},
        "weights": sum(_sum(p) for p in module.parameters()),
        "predictions": sum(_sum(v) for part in found or [] for v in part.values() if isinstance(v, torch.Tensor)),
        "on_device": bool(there) and all(there),
    }


def _noting_device(module: LightningModule, there: list[bool]) -> LightningModule:
    step = module.training_step

    def call(*args: Any, **kwargs: Any) -> Any:
        there.extend(isinstance(p, OnDevice) for p in module.parameters())
        return step(*args, **kwargs)

    module.training_step = call
    return module


def _sum(values: torch.Tensor) -> float:
    return float(values.detach().cpu().double().abs().sum())


def main(config: str) -> None:
    """Runs on the CPU and on the simulated device."""
    register()  # before the first backward pass, which makes a thread for each device
    found = {"cpu": run(config, simulated=False)}
    with DeviceMode():
        found["device"] = run(config, simulated=True)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # the device's threads of autograd have no orderly end
