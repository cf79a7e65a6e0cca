"""``posekit export``: a trained network as a file that runs without posekit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posekit.cli.arguments import ArgumentParser
from posekit.errors import UserError

_FORMATS = ("onnx", "pt2")


def run(argv: Sequence[str]) -> None:
    """Runs the command.

    Args:
        argv: Words after ``export``.

    Raises:
        UserError: No network is named, it cannot be exported, or the file does not agree with it.
    """
    options, words = _parser().parse_known_args(list(argv))
    ending = "" if options.output is None else options.output.suffix.removeprefix(".")
    if options.format in _FORMATS and ending not in ("", options.format):
        raise UserError(
            f"--output {options.output} ends in .{ending}, but --format is {options.format}: drop one of them"
        )
    if options.output is None and options.format is None:
        raise UserError("posekit export needs --format onnx or pt2, or --output FILE that ends in one of them")
    if not any(word.partition("=")[0] in ("--ckpt_path", "--config", "-c") for word in words):
        raise UserError("posekit export needs --ckpt_path FILE (or --config FILE, which may have model.init_from)")
    from posekit.cli.build import build_trained
    from posekit.cli.quiet import one_line_errors, quieten
    from posekit.export import check_exportable, check_output, export_model

    quieten()
    with one_line_errors():
        if options.output is not None:
            check_output(options.output)
        model = build_trained(words, check_exportable)
        path = options.output or Path(f"{type(model).__name__.lower()}.{options.format}")
        report = export_model(model, path, options.format)
    outputs = ", ".join(f"{name} (B, {', '.join(map(str, shape))})" for name, shape in report.outputs.items())
    print(f"images (B, {', '.join(map(str, report.input_shape))}) -> {outputs}")
    checks = ", ".join(f"{value:.1g} on a batch of {size}" for size, value in report.differences.items())
    print(f"largest difference from the network, relative: {checks}")
    print(f"written: {report.path}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="posekit export",
        usage="posekit export --ckpt_path FILE --format onnx|pt2 [--output FILE] [--config FILE] [overrides]",
        description="Writes a method's network (evaluation mode, float32, any batch size), runs the file on two "
        "batches and compares it with the network; without agreement nothing is written. HDM and TIP give heatmaps, "
        "LogoCap its dense maps, MAED bodies. Inputs are normalised RGB pictures; the file's metadata has the "
        "normalisation, the shapes and the method's arguments.",
        allow_abbrev=False,
    )
    parser.add_argument("--format", help="onnx (pip install 'posekit[export]') or pt2 (torch.export)")
    where = "default: METHOD.FORMAT in this folder; an existing file is replaced"
    parser.add_argument("--output", type=Path, metavar="FILE", help=where)
    return parser
