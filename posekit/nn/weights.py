"""Weight files: reading them safely, fitting their names to a module, and saying what was loaded."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from posekit.errors import UserError, as_names, unknown_name
from posekit.files import archive_fault

State = dict[str, Tensor]

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "keypoint_head.", "head.")
"""Leading parts of names that say where a network sat, not what it is: DataParallel and torch.compile (the first two),
Lightning modules, and the parts of mmpose's models."""

_COMPILED_OR_PARALLEL = PREFIXES[:2]
_WRAPPERS = ("state_dict", "model_state_dict", "gen_state_dict", "model", "network", "net")
_COUNTER = "num_batches_tracked"


class ShapeMismatch(NamedTuple):
    """A tensor that has its name in common with the module, but not its shape."""

    name: str
    in_file: tuple[int, ...]
    in_module: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} ({_shape(self.in_file)} in the file, {_shape(self.in_module)} here)"


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_weights` did; ``str()`` gives one paragraph.

    Attributes:
        source: The file, or ``"state dict"``.
        matched: Names in the module that were loaded.
        missing: Names in the module that the file lacks. Batch norms' batch counters are not listed: old files have
            none, and they change no result.
        unexpected: Names in the file that the module lacks.
        wrong_shape: Tensors of the same name and another shape; they were not loaded.
        renaming: How names of the file became names of the module, in words; empty if they agreed as they were.
    """

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: tuple[ShapeMismatch, ...]
    renaming: str = ""

    @property
    def complete(self) -> bool:
        """Tells whether the whole module was loaded (the file may hold more)."""
        return not self.missing and not self.wrong_shape

    @property
    def total(self) -> int:
        """Number of the module's tensors that a file is expected to hold."""
        return len(self.matched) + len(self.missing) + len(self.wrong_shape)

    def __str__(self) -> str:
        parts = [f"loaded {len(self.matched)} of {self.total} tensors from {self.source}"]
        if self.renaming:
            parts[0] += f" ({self.renaming})"
        if self.wrong_shape:
            parts.append(f"{len(self.wrong_shape)} have another shape and were left alone: {_some(self.wrong_shape)}")
        if self.missing:
            parts.append(f"{len(self.missing)} are not in the file: {_some(self.missing)}")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} in the file are not used: {_some(self.unexpected)}")
        return "; ".join(parts) + "."


def load_weights(
    module: nn.Module,
    source: str | PathLike[str] | Mapping[str, Any],
    *,
    convert: Callable[[State], State] | None = None,
    prefixes: Sequence[str] = PREFIXES,
    skip: Sequence[str] = (),
) -> LoadReport:
    """Loads what fits by name and shape from a weight file into a module, and reports it.

    Names are compared as they are, then with known prefixes taken off the file's names, put before them, or both; the
    way that fits most tensors wins, the plainest one on a tie. So ``network.conv1.weight`` of a LightningModule takes
    ``module.conv1.weight`` of a DataParallel file. Tensors of another shape, e.g. a head for another number of joints,
    are reported and left as they were.

    Args:
        module: Where to load; changed in place, its dtypes and devices stay.
        source: A file for :func:`read_state_dict`, or a state dict (wrapped ones are unwrapped).
        convert: Applied to the file's state dict (DataParallel and compile prefixes already taken off) before names are
            compared, e.g. a method's ``convert_official``.
        prefixes: The known prefixes, each with its dot.
        skip: Parts of the module, by name, that keep the weights they have, e.g. ``network.final_layer``.

    Raises:
        UserError: The file cannot be read, nothing in it fits, or ``skip`` names no part.
    """
    if isinstance(source, Mapping):
        label, state = "state dict", _tensors(source)
    else:
        label, state = str(source), read_state_dict(source)
    if convert is not None:
        state = convert(_strip_common(state, _COMPILED_OR_PARALLEL))
    own = _without(module.state_dict(), as_names("load_weights", "skip", skip))
    fit = _best_fit(own, state, tuple(as_names("load_weights", "prefixes", prefixes)))
    report = _report(own, state, fit, label)
    if all(_is_counter(name) for name in report.matched):
        raise _nothing_fits(own, state, report)
    # strict=False: what is left out is in the report.
    module.load_state_dict({name: state[fit.sources[name]] for name in report.matched}, strict=False)
    return report


def _without(own: State, skip: Sequence[str]) -> State:
    for part in skip:
        kept = {name: tensor for name, tensor in own.items() if name != part and not name.startswith(part + ".")}
        if len(kept) == len(own):
            parts = {".".join(name.split(".")[:depth]) for name in own for depth in (1, 2)}
            raise unknown_name("part of the model", part, parts)
        own = kept
    return own


def read_state_dict(path: str | PathLike[str]) -> State:
    """Reads the tensors of a weight file, on the CPU, without running any code that the file may hold.

    Args:
        path: A ``.safetensors`` file, or a file of ``torch.save`` (``.pth``, ``.pt``, ``.ckpt``, ``.tar``), the state
            dict itself or wrapped as ``state_dict``, ``model`` and the like.

    Raises:
        UserError: The file is missing, truncated, damaged, no checkpoint, holds pickled objects, or holds no tensors.
    """
    path = _existing(path)
    state = _tensors(_read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path))
    if not state:
        raise UserError(f"{path} holds no named tensors, so it is no weight file")
    return state


def checksum(path: str | PathLike[str]) -> str:
    """Returns the SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises:
        UserError: The file is missing.
    """
    digest = hashlib.sha256()
    with _existing(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# -- reading ----------------------------------------------------------------------------------------------------------


def _existing(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise UserError(f"no such weight file: {path}")
    if not path.is_file():
        raise UserError(f"{path} is a folder, not a weight file")
    return path


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is truncated or no safetensors file ({_one_line(error)})") from error


def _read_torch(path: Path) -> Any:
    if fault := archive_fault(path):
        raise UserError(f"{path} is {fault}")
    # Broken files raise nearly anything here (EOFError, KeyError, OSError, RuntimeError, UnpicklingError, ...), and all
    # of it means the same to the user.
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # the odd pickle protocol of a file that is about to be refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        refused = re.search(r"GLOBAL:? ([\w.]+)", str(error))
        if refused:
            message = (
                f"{path} holds pickled objects ({refused[1]}), which could run code and are not loaded; "
                "save its state dict alone with torch.save or as .safetensors"
            )
        else:
            message = f"{path} is truncated or no PyTorch checkpoint ({_one_line(error)})"
        raise UserError(message) from error


def _numpy_scalars() -> list[Any]:
    """What a checkpoint needs that keeps its best score as a numpy number, as HRNet's training code does."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since numpy 2
    dtypes = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)]
    return [*((scalar, name) for name in names), np.dtype, *dtypes]


def _tensors(loaded: Any) -> State:
    """Unwraps a loaded object down to its named tensors."""
    if not isinstance(loaded, Mapping):
        return {}
    for key in _WRAPPERS:
        if isinstance(loaded.get(key), Mapping):
            return _tensors(loaded[key])
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


# -- fitting names ----------------------------------------------------------------------------------------------------


class _Fit(NamedTuple):
    sources: dict[str, str]  # name in the module's style -> name in the file
    renaming: str


def _best_fit(own: Mapping[str, Tensor], state: State, prefixes: tuple[str, ...]) -> _Fit:
    best, best_score = _Fit({name: name for name in state}, ""), (-1, -1)
    for fit in _candidates(own, state, prefixes):
        named = [name for name in fit.sources if name in own]
        score = (sum(state[fit.sources[name]].shape == own[name].shape for name in named), len(named))
        if score > best_score:
            best, best_score = fit, score
    return best


def _candidates(own: Mapping[str, Tensor], state: State, prefixes: tuple[str, ...]) -> Iterator[_Fit]:
    """Yields the ways to name the file's tensors, the plainest first."""
    additions = _prefixes_of(own, prefixes)
    for removed in _prefixes_of(state, prefixes):
        stripped = {name[len(removed) :]: name for name in state if name.startswith(removed)}
        for added in additions:
            if added != removed or not added:
                yield _Fit({added + name: source for name, source in stripped.items()}, _in_words(removed, added))
    # A file whose parts sit under several prefixes, e.g. "backbone." and "keypoint_head.".
    stripped = {_peel(name, prefixes)[1]: name for name in state}
    if len(stripped) == len(state):
        for added in additions:
            words = _in_words("all known prefixes", added)
            yield _Fit({added + name: source for name, source in stripped.items()}, words)


def _prefixes_of(names: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> list[str]:
    """Returns the runs of known prefixes that names begin with, the empty one first, then by length."""
    found = {""}
    for name in names:
        found.update(_peel(name, prefixes)[0])
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _peel(name: str, prefixes: tuple[str, ...]) -> tuple[list[str], str]:
    """Takes known prefixes off a name, one after another; returns each run taken off so far, and the rest."""
    runs, rest = [], name
    while prefix := next((p for p in prefixes if rest.startswith(p)), ""):
        rest = rest[len(prefix) :]
        runs.append(name[: len(name) - len(rest)])
    return runs, rest


def _strip_common(state: State, prefixes: tuple[str, ...]) -> State:
    """Takes off prefixes that every name has."""
    for prefix in prefixes:
        if state and all(name.startswith(prefix) for name in state):
            state = {name[len(prefix) :]: value for name, value in state.items()}
    return state


def _in_words(removed: str, added: str) -> str:
    words = [f"{removed or ''} taken off".strip()] if removed else []
    words += [f"{added} put before"] if added else []
    return ", ".join(words)


# -- reporting --------------------------------------------------------------------------------------------------------


def _report(own: Mapping[str, Tensor], state: State, fit: _Fit, label: str) -> LoadReport:
    common = [name for name in own if name in fit.sources]
    shapes = [ShapeMismatch(name, tuple(state[fit.sources[name]].shape), tuple(own[name].shape)) for name in common]
    used = {fit.sources[name] for name in common}
    return LoadReport(
        source=label,
        matched=tuple(s.name for s in shapes if s.in_file == s.in_module),
        missing=tuple(name for name in own if name not in fit.sources and not _is_counter(name)),
        unexpected=tuple(name for name in state if name not in used),
        wrong_shape=tuple(s for s in shapes if s.in_file != s.in_module),
        renaming=fit.renaming,
    )


def _nothing_fits(own: Mapping[str, Tensor], state: State, report: LoadReport) -> UserError:
    reason = f"the file has {_some(tuple(state), 2)}; the module has {_some(tuple(own), 2)}"
    if report.wrong_shape:
        reason = f"names agree, shapes do not: {_some(report.wrong_shape, 2)}"
    return UserError(f"nothing in {report.source} fits the module: {reason}")


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == _COUNTER


def _some(items: Sequence[object], count: int = 4) -> str:
    listed = ", ".join(str(item) for item in items[:count])
    return listed + (f", ... ({len(items)} in all)" if len(items) > count else "")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _one_line(error: Exception) -> str:
    """Returns the first informative line of an error, without torch's advice to trust the file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return "it is not made of tensors alone" if text.startswith("Weights only load failed") else text[:200]
