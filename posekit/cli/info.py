"""``posekit list`` and ``posekit doctor``: no torch import, so that they answer at once."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from posekit._version import __version__
from posekit.cli.configs import shipped_configs
from posekit.errors import UserError
from posekit.plugins import BENCHMARKS, DATAMODULES, METHODS, load_plugins, plugins
from posekit.tables.reader import shipped_tables


def _no_arguments(command: str, argv: Sequence[str], allowed: Sequence[str] = ()) -> None:
    unknown = [word for word in argv if word not in allowed]
    if unknown:
        raise UserError(
            f"posekit {command} does not know {unknown[0]!r}; it takes {', '.join(allowed) or 'no options'}"
        )


def list_everything(argv: Sequence[str]) -> None:
    """Prints the methods, data modules, benchmarks and shipped configs."""
    if any(word in ("-h", "--help") for word in argv):
        print("usage: posekit list\n\nPrints the methods, data modules, benchmarks, shipped configs and tables.")
        return
    _no_arguments("list", argv)
    for title, group in (("methods", METHODS), ("data modules", DATAMODULES), ("benchmarks", BENCHMARKS)):
        print(title)
        for name, point in plugins(group).items():
            source = f"{point.dist.name} {point.dist.version}" if point.dist else ""
            print(f"  {name:24} {point.value:44} {source}")
    print("configs (posekit fit --config NAME)")
    for name in shipped_configs():
        print(f"  {name}")
    print("tables (posekit table NAME)")
    for name in shipped_tables():
        print(f"  {name}")


def doctor(argv: Sequence[str]) -> None:
    """Prints what is installed, missing or clashing; exits with 1 when something needs mending."""
    if any(word in ("-h", "--help") for word in argv):
        print("usage: posekit doctor [--fast]\n\n--fast does not import the plug-ins or ask torch for its devices.")
        return
    _no_arguments("doctor", argv, ("--fast",))
    faults = []
    print(f"posekit {__version__}  python {platform.python_version()}  {platform.platform()}")
    for line in _versions():
        print("  " + line)
    faults += _missing() + _clashes() + _unwritable()
    if "--fast" not in argv:
        faults += load_faults()
        print("  " + _devices())
    for fault in faults:
        print(f"  FAULT {fault}")
    print("nothing to mend" if not faults else f"{len(faults)} to mend")
    if faults:
        sys.exit(1)


def _requirements() -> list[tuple[str, str]]:
    """Lists posekit's own requirements as (name, specifier text), extras left out."""
    rows = []
    for requirement in metadata.requires("posekit") or []:
        text = requirement.split(";")[0].strip()
        if "extra ==" in requirement:
            continue
        name = text.split("[")[0]
        for mark in "<>=!~ ":
            name = name.split(mark)[0]
        rows.append((name, text))
    return rows


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> Iterator[str]:
    try:
        names = [name for name, _ in _requirements()]
    except metadata.PackageNotFoundError:
        names = []
    for name in [*names, "tensorboard", "faster-coco-eval"]:
        yield f"{name:24} {_version(name) or '- not installed'}"


def _missing() -> list[str]:
    try:
        rows = _requirements()
    except metadata.PackageNotFoundError:
        return ["posekit itself is not installed (run from a source folder): pip install -e ."]
    return [f"{text} is required and not installed: pip install '{text}'" for name, text in rows if not _version(name)]


def _clashes() -> list[str]:
    found = [name for name in ("opencv-python", "opencv-contrib-python", "opencv-python-headless") if _version(name)]
    faults = []
    if len(found) > 1:
        others = " ".join(name for name in found if name != "opencv-python-headless")
        faults.append(
            f"{' and '.join(found)} overwrite each other: pip uninstall -y {others} && "
            "pip install --force-reinstall opencv-python-headless"
        )
    if find_spec("cv2") is None:
        faults.append("cv2 cannot be found: pip install --force-reinstall opencv-python-headless")
    return faults


def _unwritable() -> list[str]:
    here = Path.cwd()
    return [] if os.access(here, os.W_OK) else [f"{here} cannot be written to, and runs are kept under it"]


def load_faults() -> list[str]:
    """Imports every plug-in and returns a line for each that fails."""
    faults: list[str] = []
    load_plugins(warn=faults.append)
    return faults


def _devices() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"no CUDA device (torch {torch.__version__}); {os.cpu_count()} CPU cores"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"CUDA {torch.version.cuda}: {', '.join(names)}"
