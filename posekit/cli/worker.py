"""Runs one job in a process of its own: ``python -m posekit.cli.worker JOB.json RESULT.json``.

A process for each run, so that one that fails, is killed or runs out of memory takes nothing else with it, and so that
every run starts from the same state whatever ran before.
"""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posekit._version import __version__
from posekit.errors import UserError
from posekit.files import atomic_write_text
from posekit.tables.options import words_of


def run_job(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs a job.

    Args:
        job: ``command``, ``config``, ``overrides`` and ``seed``.
        folder: Where a training run keeps its files.

    Returns:
        ``metrics`` by name; of a training run also ``history`` (by epoch) and ``checkpoint``.

    Raises:
        UserError: The job's config or benchmark is wrong, or gave no number.
    """
    if job["command"] == "count":
        return {"metrics": _count(job)}
    if job["command"] == "bench":
        return {"metrics": _bench(job)}
    return _train(job, folder)


def _train(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    from posekit.cli.run import run_trainer

    words = ["--config", job["config"], f"--seed_everything={job['seed']}", f"--trainer.default_root_dir={folder}"]
    run_trainer(job["command"], [*words, *words_of(job["overrides"])])
    results = sorted(folder.rglob("results.json"), key=lambda p: p.stat().st_mtime)
    if not results:
        raise UserError(f"{job['command']} of {job['config']} left no results: does it validate at all?")
    run = results[-1].parent
    metrics = json.loads(results[-1].read_text(encoding="utf-8"))
    checkpoints = [run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    found = next((str(path) for path in checkpoints if path.is_file()), None)
    return {"metrics": metrics, "history": history(run / "metrics.csv"), "checkpoint": found}


def history(path: Path) -> list[dict[str, float]]:
    """Reads the validation rows of a run's ``metrics.csv``: one dict per epoch."""
    if not path.is_file():
        return []
    rows: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            values = {k: float(v) for k, v in line.items() if k and k.startswith("val/") and v}
            if values:
                rows.setdefault(line.get("step") or str(len(rows)), {}).update(values)
    return list(rows.values())


def _count(job: dict[str, Any]) -> dict[str, float]:
    from posekit.cli.build import build_model
    from posekit.nn.counting import count_macs, count_operations, count_parameters

    model = build_model(["--config", job["config"], *words_of(job["overrides"])])
    shape = (1, *model.input_shape())
    return {
        "parameters": float(count_parameters(model)),
        "gmacs": count_operations(model, shape) / 1e9,
        "gmacs_layers": count_macs(model, shape) / 1e9,
    }


def _bench(job: dict[str, Any]) -> dict[str, float]:
    from posekit.errors import one_of
    from posekit.plugins import BENCHMARKS, plugins

    names = plugins(BENCHMARKS)
    one_of("benchmark", job["config"], names)
    values = names[job["config"]].load()(**job["overrides"])
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def main(argv: Sequence[str]) -> int:
    """Runs the job of a file and writes its result; a user's mistake is one line on stderr and exit code 2."""
    job_path, result_path = Path(argv[0]), Path(argv[1])
    job = json.loads(job_path.read_text(encoding="utf-8"))
    began, cpu = time.perf_counter(), time.process_time()
    try:
        result = run_job(job, result_path.parent)
    except UserError as error:
        print(f"posekit: error: {error}", file=sys.stderr)
        return 2
    # Null is a measure that had nothing to measure, which is not the same as one that the run does not have.
    kept = {k: v for k, v in result["metrics"].items() if v is None or isinstance(v, int | float)}
    result["metrics"] = {k: None if v is None or math.isnan(v) else v for k, v in kept.items()}
    result |= {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu, **_surroundings()}
    atomic_write_text(result_path, json.dumps(result, default=str))
    return 0


def _surroundings() -> dict[str, Any]:
    """Returns versions and machine, to be kept beside a result."""
    import torch

    from posekit.bench.machine import device_name

    device = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "versions": {"posekit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"device": device, "cores": cores, "system": platform.system()},
    }


def _end_with_parent() -> None:
    """Ends this process and its children once standard input does, so that nothing goes on behind a killed parent."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(main(sys.argv[1:]))
