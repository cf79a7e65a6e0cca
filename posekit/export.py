"""Networks as files that run without posekit: ONNX and torch.export, checked against the network that they are of."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posekit._version import __version__
from posekit.errors import UserError, one_line, one_of
from posekit.files import atomic_write_bytes
from posekit.loggers import errors_only
from posekit.module import PoseModule
from posekit.nn.modes import evaluating

INPUT = "images"
METADATA = "posekit.json"
_MOST = 2**31 - 1  # pictures of a batch; exporters of older torch refuse networks without a limit
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TRACED_BATCH = 2  # a batch of one would be taken for a constant

Outputs = dict[str, Tensor]
Runner = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how well it agrees.

    Attributes:
        path: The file.
        input_shape: Shape of the input, the batch (which may be any) left out.
        outputs: Shapes of the outputs by name, the batch left out.
        differences: Largest difference of an output from the network's, relative to that output's largest value, by
            batch size.
    """

    path: Path
    input_shape: tuple[int, ...]
    outputs: dict[str, tuple[int, ...]]
    differences: dict[int, float]


def export_model(
    model: PoseModule,
    path: str | Path,
    format: str | None = None,
    batch_sizes: Sequence[int] = (1, 3),
    tolerance: float = 1e-4,
) -> ExportReport:
    """Writes a method's network, evaluation mode and float32, and checks the file by running it.

    The input ``images`` holds normalised pictures (B, 3, H, W) or clips (B, T, 3, H, W) of the method's own size, B
    free; the outputs are those of ``model.export_outputs``. The file's metadata (of ONNX under ``posekit``, of pt2 the
    extra file ``posekit.json``) has names and shapes of the input and, in their order, of the outputs, the
    normalisation and the method's arguments as JSON. Nothing is left behind when the check fails.

    Args:
        model: The method.
        path: The file; its folder is made.
        format: ``onnx`` or ``pt2``; None takes the path's suffix.
        batch_sizes: Batches of random pictures to compare on.
        tolerance: Largest relative difference allowed.

    Raises:
        UserError: Unknown format, a package is missing, the method cannot be exported, or the file's outputs differ.
    """
    path = Path(path)
    format = format or path.suffix.removeprefix(".")
    one_of("export format", format, WRITERS)
    if any(size < 1 for size in batch_sizes):
        raise UserError(f"batch sizes to compare on must be at least 1, not {list(batch_sizes)}")
    check_exportable(model)
    check_output(path)
    network = _ExportForm(model)
    with evaluating(model), torch.no_grad(), _quiet():
        shape = tuple(model.input_shape())
        expected = {size: network.named(_pictures(size, shape)) for size in batch_sizes}
        shapes = {name: tuple(value.shape[1:]) for name, value in next(iter(expected.values())).items()}
        content = WRITERS[format](network, _pictures(_TRACED_BATCH, shape), _metadata(model, shape, shapes))
        run = READERS[format](content, network.names)
        found = {n: _run(run, format, _pictures(n, shape)) for n in expected}
        differences = {n: _difference(found[n], values) for n, values in expected.items()}
    for size, difference in differences.items():
        if not difference <= tolerance:
            raise UserError(
                f"the {format} file's outputs differ from the network's by {difference:.2g} of the largest value on a "
                f"batch of {size} (allowed {tolerance:g}); {path} was not written"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, content)
    return ExportReport(path, shape, shapes, differences)


def check_exportable(model: PoseModule) -> None:
    """Refuses a method that has no form for export.

    Raises:
        UserError: It says not what its input or its outputs are.
    """
    for name in ("input_shape", "export_outputs"):
        if getattr(type(model), name) is getattr(PoseModule, name):
            raise UserError(f"{type(model).__name__} cannot be exported: it does not define {name}")


def check_output(path: Path) -> None:
    """Refuses a path that cannot be written, before the work.

    Raises:
        UserError: It is a folder, or lies below a file or where nothing may be written.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{path} cannot be written: {above} is a file")
    if not os.access(above, os.W_OK):
        raise UserError(f"{path} cannot be written: {above} allows no writing")


class _ExportForm(nn.Module):
    """A method as a network from one tensor to a tuple of tensors."""

    def __init__(self, model: PoseModule) -> None:
        super().__init__()
        self.model = model
        self.names: tuple[str, ...] = ()

    def named(self, images: Tensor) -> Outputs:
        """Returns the outputs of pictures by name, and keeps the names."""
        outputs = self.model.export_outputs(images)
        self.names = tuple(outputs)
        return outputs

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs in the order of the names."""
        return tuple(self.model.export_outputs(images).values())


def _pictures(batch: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def _metadata(model: PoseModule, shape: Sequence[int], outputs: dict[str, tuple[int, ...]]) -> str:
    from posekit.data.transforms import IMAGENET_MEAN, IMAGENET_STD

    arguments = {key: value for key, value in model.hparams.items() if not key.startswith("_")}
    content = {
        "posekit": __version__,
        "method": type(model).__name__,
        "input": {"name": INPUT, "shape": ["batch", *shape], "channels": "RGB"},
        "outputs": [{"name": name, "shape": ["batch", *size]} for name, size in outputs.items()],
        "normalisation": "(pixels / 255 - mean) / std",
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "arguments": arguments,
    }
    return json.dumps(content, default=str)


def _run(run: Runner, format: str, images: Tensor) -> Outputs:
    """Runs a file on a batch.

    Raises:
        UserError: It fails.
    """
    try:
        return run(images)
    except Exception as error:
        raise UserError(
            f"the {format} file fails on a batch of {len(images)} and was not written: {_sentences(error)}"
        ) from None


def _difference(found: Outputs, expected: Outputs) -> float:
    """Returns the largest difference of any output, relative to that output's largest value; NaN where one has NaN."""
    shares = []
    for name, value in expected.items():
        if found[name].shape != value.shape:
            raise UserError(f"output {name} of the file has shape {list(found[name].shape)}, not {list(value.shape)}")
        shares.append((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-6))
    return float(torch.stack(shares).max())


def _trace_error(format: str, model: nn.Module, error: Exception) -> UserError:
    if f"to be a constant ({_TRACED_BATCH})" in str(error):
        return _one_size_error(format, model)
    return UserError(
        f"{type(model).__name__} cannot be exported as {format} by torch {torch.__version__}: {_sentences(error)}"
    )


def _one_size_error(format: str, model: nn.Module) -> UserError:
    return UserError(
        f"{type(model).__name__} cannot be exported as {format}: the file would take batches of one size only, as "
        "the code makes the batch's size a plain number (len(images), int(), if); images.shape[0] alone does not"
    )


def _sentences(error: Exception) -> str:
    """Returns the first sentences of an exception's message, 300 characters at most."""
    text = one_line(error, 10_000)
    return text if len(text) <= 300 else (text[:300].rpartition(". ")[0] or text[:299] + "…")


def _write_pt2(network: _ExportForm, sample: Tensor, metadata: str) -> bytes:
    try:
        program = torch.export.export(
            # Not strict, as newer torch has it by default: the strict form of older ones refuses plain Python.
            network, (sample,), dynamic_shapes=({0: torch.export.Dim("batch", max=_MOST)},), strict=False,
        )  # fmt: skip
    except Exception as error:
        raise _trace_error("pt2", network.model, error) from None
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: metadata})
    return buffer.getvalue()


def _read_pt2(content: bytes, names: Sequence[str]) -> Runner:
    program = torch.export.load(io.BytesIO(content)).module()
    return lambda images: dict(zip(names, program(images), strict=True))


def _write_onnx(network: _ExportForm, sample: Tensor, metadata: str) -> bytes:
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"the format onnx needs {', '.join(missing)}: pip install 'posekit[export]'")
    try:
        program = torch.onnx.export(
            network,
            (sample,),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(network.names),
            dynamic_shapes=({0: torch.export.Dim("batch", max=_MOST)},),
            verbose=False,
        )
    except Exception as error:
        raise _trace_error("onnx", network.model, error.__cause__ or error) from None  # type: ignore[arg-type]
    assert program is not None
    proto = program.model_proto
    if proto.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value"):
        raise _one_size_error("onnx", network.model)
    entry = proto.metadata_props.add()
    entry.key, entry.value = "posekit", metadata
    if proto.ByteSize() >= 2**31:
        raise UserError(f"the network has {proto.ByteSize() / 1e9:.1f} GB, more than an ONNX file holds: take pt2")
    content: bytes = proto.SerializeToString()
    return content


def _read_onnx(content: bytes, names: Sequence[str]) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: {
        name: torch.from_numpy(value)
        for name, value in zip(names, session.run(list(names), {INPUT: images.numpy()}), strict=True)
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' own chatter away."""
    with errors_only("torch.onnx", "onnxscript", "onnx_ir", "torch.export"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


WRITERS: dict[str, Callable[[_ExportForm, Tensor, str], bytes]] = {"onnx": _write_onnx, "pt2": _write_pt2}
READERS: dict[str, Callable[[bytes, Sequence[str]], Any]] = {"onnx": _read_onnx, "pt2": _read_pt2}
