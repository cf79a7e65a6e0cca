"""``posekit list`` and ``posekit doctor``: no torch import (but by ``--full``), so that they answer at once."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from posekit._version import __version__
from posekit.configs import shipped_configs
from posekit.errors import UserError
from posekit.plugins import BENCHMARKS, DATAMODULES, METHODS, load_plugins, plugins
from posekit.tables.reader import shipped_tables

_SHOWN_EXTRAS = ("tensorboard", "plot", "mat", "export")
"""Extras that add to what a user can do; the others are for working on posekit."""


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
    groups = {"methods": METHODS, "data modules": DATAMODULES, "benchmarks": BENCHMARKS}
    found = {title: plugins(group) for title, group in groups.items()}
    points = [point for group in found.values() for point in group.values()]
    name_width = max((len(point.name) for point in points), default=0)
    place_width = max((len(point.value) for point in points), default=0)
    for title, group in found.items():
        print(title)
        for name, point in group.items():
            source = f"{point.dist.name} {point.dist.version}" if point.dist else ""
            print(f"  {name:{name_width}}  {point.value:{place_width}}  {source}".rstrip())
    print("configs (posekit fit --config NAME)")
    for name in shipped_configs():
        print(f"  {name}")
    print("tables (posekit table NAME)")
    for name in shipped_tables():
        print(f"  {name}")


def doctor(argv: Sequence[str]) -> None:
    """Prints what is installed, missing or clashing; exits with 1 when something needs mending."""
    if any(word in ("-h", "--help") for word in argv):
        print("usage: posekit doctor [--full]\n\nLooks without importing anything.")
        print("--full imports the plug-ins and torch (seconds): plug-ins that fail to, and the devices torch can use.")
        return
    _no_arguments("doctor", [word for word in argv if word != "--fast"], ("--full",))  # the earlier name of no --full
    faults = []
    print(f"posekit {__version__}  python {platform.python_version()}  {platform.platform()}")
    for line in _versions():
        print("  " + line)
    faults += _missing() + _clashes() + _unwritable()
    if "--full" in argv:
        faults += load_faults()
        print("  " + _devices())
    else:
        faults += _absent_plugins()
        print("  " + _devices_by_the_driver())
    for fault in faults:
        print(f"  FAULT {fault}")
    print("nothing to mend" if not faults else f"{len(faults)} to mend")
    if faults:
        sys.exit(1)


def _requirements(extra: str | None = None) -> list[tuple[str, str]]:
    """Lists posekit's own requirements as (name, specifier text): those of an extra, or those of none."""
    rows = []
    for requirement in metadata.requires("posekit") or []:
        text, _, condition = (part.strip() for part in requirement.partition(";"))
        found = re.search(r"extra == ['\"](\w+)['\"]", condition)
        if (found.group(1) if found else None) != extra:
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
    for name in names:
        yield f"{name:24} {_version(name) or '- not installed'}"
    for extra in _SHOWN_EXTRAS:
        for name, _ in _requirements(extra):
            yield f"{name:24} {_version(name) or f'- not installed (extra {extra})'}"


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


def _absent_plugins() -> list[str]:
    """Returns a line for each plug-in whose package is not there; imports none."""
    points = [point for group in (METHODS, DATAMODULES, BENCHMARKS) for point in plugins(group).values()]
    absent = {name for name in {point.module.partition(".")[0] for point in points} if not _is_there(name)}
    return [
        f"plug-in {point.name} ({point.value}): there is no package {package}"
        for point in points
        if (package := point.module.partition(".")[0]) in absent
    ]


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def load_faults() -> list[str]:
    """Imports every plug-in and returns a line for each that fails."""
    faults: list[str] = []
    load_plugins(warn=faults.append)
    return faults


def _devices_by_the_driver() -> str:
    """Returns the NVIDIA devices that the driver lists, and whether torch was built for them."""
    names = _driver_devices()
    if not names:
        return f"no NVIDIA device listed by a driver; {os.cpu_count()} CPU cores"
    cuda = _built_for()
    build = f"torch is built for CUDA {cuda}" if cuda else "torch is a build without CUDA"
    return f"by the driver: {', '.join(names)}; {build} (posekit doctor --full asks torch)"


def _driver_devices() -> list[str]:
    try:
        files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    except OSError:
        texts = []
    found = [match[1].strip() for text in texts if (match := re.search(r"^Model:(.*)$", text, re.MULTILINE))]
    if found:
        return found
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:  # where the driver keeps no such files
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _built_for() -> str | None:
    """Returns the CUDA version that torch was built for, from the file that tells it."""
    spec = find_spec("torch")
    for folder in spec.submodule_search_locations or [] if spec is not None else []:
        try:
            text = (Path(folder) / "version.py").read_text(encoding="utf-8")
        except OSError:
            continue
        match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
        return match[1] if match else None
    return None


def _devices() -> str:
    import torch

    if not torch.cuda.is_available():
        listed = _driver_devices()
        unused = f"; the driver lists {', '.join(listed)}, which torch cannot use" if listed else ""
        return f"no CUDA device (torch {torch.__version__}); {os.cpu_count()} CPU cores{unused}"
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = [f"{p.name} ({p.total_memory / 2**30:.0f} GiB, capability {p.major}.{p.minor})" for p in found]
    return f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}: {', '.join(names)}"
