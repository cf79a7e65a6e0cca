"""``posekit bench``: speed of a config's loader, network and training step, or of a named benchmark."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from rich.table import Table

from posekit.callbacks.throughput import process_memory
from posekit.cli.run import build_from_config
from posekit.data.files import atomic_write_text
from posekit.errors import UserError, unknown_name
from posekit.nn.counting import count_macs, count_parameters
from posekit.plugins import BENCHMARKS, plugins

Row = dict[str, Any]


def run(argv: list[str]) -> None:
    """Runs the command.

    Raises:
        UserError: An unknown benchmark, or a mistake in the config.
    """
    names = plugins(BENCHMARKS)
    parser = argparse.ArgumentParser(
        usage=f"posekit bench {{{','.join(names)}}} [options] | posekit bench --config FILE [options] [overrides]",
        description="Times a named benchmark, or the loader, network and step of a config. Figures are medians of "
        "repeated runs after a warm-up; CPU figures are the process's CPU time.",
    )
    parser.add_argument("--config", help="config with a model and data")
    parser.add_argument("--batches", type=int, default=20, help="timed batches (default 20)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--json", help="also write the rows to this file")
    # The name comes first or not at all: the value of an override is no name.
    name, words = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    options, rest = parser.parse_known_args(words)
    if name is not None:
        if name not in names:
            raise unknown_name("benchmark", name, names)
        rows: list[Row] = [{"what": key, "value": value} for key, value in names[name].load()().items()]
    elif options.config is not None:
        rows = bench_config(["--config", options.config, *rest], options.batches, options.device)
    else:
        raise UserError(f"posekit bench needs a name ({', '.join(names)}) or --config FILE")
    _show(rows, options.json)


def bench_config(words: list[str], batches: int, device_name: str) -> list[Row]:
    """Times the loader, inference and a training step of a config, and counts its operations."""
    seed_everything(0, verbose=False)
    module, datamodule = build_from_config(words)
    device = (
        torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device_name == "auto"
        else torch.device(device_name)
    )
    datamodule.setup("fit")
    rows = _loader_rows(datamodule, batches)
    batch = next(iter(datamodule.train_dataloader()))
    batch = module.transfer_batch_to_device(batch, device, 0)
    module.to(device)
    images = batch["image"]
    shape = tuple(images.shape[1:])
    rows.append({"what": "parameters", "value": count_parameters(module)})
    rows.append({"what": f"multiply-adds of {shape[-1]}x{shape[-2]}", "value": count_macs(module, (1, *shape))})
    rows += _network_rows(module, images, device, batches)
    rows += _step_rows(module, batch, device, batches)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_memory()
    rows.append({"what": "GPU peak memory, MB" if device.type == "cuda" else "process memory, MB", "value": peak / 1e6})
    return rows


def _loader_rows(datamodule: Any, batches: int) -> list[Row]:
    loader = datamodule.train_dataloader()
    iterator = iter(loader)
    next(iterator)  # workers start, caches fill
    began, cpu, count = time.perf_counter(), time.process_time(), 0
    for batch in islice(iterator, batches):
        count += batch["image"].shape[0]
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    if count == 0:
        return [{"what": "loader", "value": "one batch only: nothing to time"}]
    rows = [{"what": f"loader, samples/s ({loader.num_workers} workers)", "value": count / wall}]
    if loader.num_workers == 0:
        rows.append({"what": "loader, samples/s of CPU time", "value": count / max(cpu, 1e-9)})
    return rows


def _network_rows(module: Any, images: torch.Tensor, device: torch.device, repeats: int) -> list[Row]:
    module.eval()
    rows = []
    for size in sorted({1, images.shape[0]}):
        with torch.inference_mode():
            times = _times(lambda size=size: module(images[:size]), device, repeats)  # type: ignore[misc]
        rows.append(_row(f"forward, batch {size}, ms", times))
    return rows


def _step_rows(module: Any, batch: Any, device: torch.device, repeats: int) -> list[Row]:
    module.train()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        module.step(batch, "train").loss.backward()
        optimizer.step()

    times = _times(step, device, repeats)
    size = batch["image"].shape[0]
    row = _row(f"training step, batch {size}, ms", times)
    return [row, {"what": "training, samples/s", "value": 1000 * size / row["value"]}]


def _times(call: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Returns milliseconds of each call; a CUDA device is waited for."""
    times = []
    for index in range(repeats + 3):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= 3:
            times.append(1000 * (time.perf_counter() - began))
    return times


def _row(what: str, times: list[float]) -> Row:
    ordered = sorted(times)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return {"what": what, "value": statistics.median(times), "p10": low, "p90": high}


def _show(rows: list[Row], path: str | None) -> None:
    table = Table(title=f"torch {torch.__version__}, {_device_name()}, {torch.get_num_threads()} threads")
    for column in ("what", "value", "p10", "p90"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(row["what"], *(_text(row.get(key)) for key in ("value", "p10", "p90")))
    Console().print(table)
    if path:
        atomic_write_text(Path(path), json.dumps(rows, indent=2) + "\n")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
