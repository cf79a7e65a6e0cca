"""Finished runs of a table on disk: one JSON each, written whole, with what is needed to trust it later."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from posekit._version import __version__
from posekit.data.files import atomic_write_text
from posekit.errors import UserError
from posekit.tables.cells import Run

FORMAT = 1


class Store:
    """The results folder of a table.

    Args:
        folder: Made at the first result.
        any_version: Accept results that another version of posekit wrote.

    Raises:
        UserError: The folder holds results of another version, or is no results folder.
    """

    def __init__(self, folder: Path, any_version: bool = False) -> None:
        self.folder = folder
        self.mark = folder / "store.json"
        if self.mark.exists():
            self._check_mark(any_version)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is no results folder of posekit table (it has no store.json): give --output")

    def _check_mark(self, any_version: bool) -> None:
        try:
            mark = json.loads(self.mark.read_text(encoding="utf-8"))
            version, form = mark["posekit"], mark["format"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.mark} is broken: remove it or give another --output") from None
        if form != FORMAT:
            raise UserError(f"{self.folder} has results of format {form}, this posekit writes {FORMAT}: give --output")
        if version != __version__ and not any_version:
            raise UserError(
                f"{self.folder} has results of posekit {version}, this is {__version__}: "
                "give another --output, or --any_version to mix them"
            )

    def path(self, run: Run) -> Path:
        """Returns the file of a run's result."""
        return self.folder / "cells" / f"{run.key}.json"

    def read(self, run: Run) -> dict[str, Any] | None:
        """Returns a finished run's result, None if there is none (a broken file counts as none)."""
        try:
            content = json.loads(self.path(run).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and isinstance(content.get("metrics"), dict) else None

    def claim(self) -> None:
        """Marks the folder as this version's, before anything else is put there: a run may be stopped or fail."""
        if not self.mark.exists():
            atomic_write_text(self.mark, json.dumps({"posekit": __version__, "format": FORMAT}) + "\n")

    def write(self, run: Run, result: dict[str, Any]) -> None:
        """Keeps a result with its config, seed, versions and machine."""
        self.claim()
        entry = {
            "used_by": run.used_by,
            "job": run.job.name,
            "command": run.job.command,
            "config": run.job.config,
            "overrides": run.overrides,
            "seed": run.seed,
            "before": run.before.key if run.before else None,
            **result,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        atomic_write_text(self.path(run), json.dumps(entry, indent=1, default=str) + "\n")


def surroundings() -> dict[str, Any]:
    """Returns versions and machine, to be kept beside a result."""
    import torch

    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else (_cpu_name() or platform.processor() or platform.machine())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "versions": {"posekit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"device": device, "cores": cores, "system": platform.system()},
    }


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
