"""Finished runs of a table on disk: one JSON each, written whole, with what is needed to trust it later."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from posekit._version import __version__
from posekit.errors import UserError
from posekit.files import atomic_write_text
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from running cells into this folder.

        The lock is the operating system's on an open file, so that it ends with its holder, however that ends; the
        file itself tells others whose it is.

        Raises:
            UserError: Another process holds it.
        """
        self.claim()
        path = self.folder / "lock"
        with _locked_file(path) as file:
            file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def checkpoint(self, run: Run) -> Path:
        """Returns where the checkpoint of a run is kept that others start from."""
        return self.folder / "checkpoints" / f"{run.key}.ckpt"

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


def _locked_file(path: Path) -> TextIO:
    """Opens and locks a file.

    Raises:
        UserError: It is locked.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = _holder(file.read())
            file.close()
            raise UserError(f"{path.parent} is in use by {holder}: wait, or give another --output") from None
        if _is_at(file, path):
            file.truncate(0)
            return file
        file.close()  # its last holder has removed it in between


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def origin(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Says where finished runs come from: machines and versions without repetition, first and last end, and time."""
    ends = sorted(result["finished"] for result in results)
    return {
        "machines": _distinct(result.get("machine") for result in results),
        "versions": _distinct(result.get("versions") for result in results),
        "finished": [ends[0], ends[-1]] if ends else [],
        "minutes": round(sum(result.get("seconds", 0.0) for result in results) / 60, 1),
    }


def _distinct(values: Iterable[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return list({json.dumps(value, sort_keys=True): value for value in values if value is not None}.values())
