"""``posekit bench``: speed of a config's loader, network and training step, or of a named benchmark."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser as FunctionParser
from rich.text import Text

from posekit._version import __version__
from posekit.bench import BenchOptions, Row, bench_config
from posekit.bench.drawn import drawn_config
from posekit.bench.machine import device_name
from posekit.cli.arguments import ArgumentParser
from posekit.cli.build import build_from_config
from posekit.cli.quiet import one_line_errors, quieten
from posekit.configs import find_config, read_config
from posekit.errors import UserError, in_range, one_of
from posekit.files import atomic_write_text
from posekit.plugins import BENCHMARKS, plugins
from posekit.printed import Field, fits, print_table, table_console

_COLUMNS = {
    "what": "what", "phase": "stage", "batch": "batch", "mode": "mode", "ms": "ms", "p10_ms": "p10", "p90_ms": "p90",
    "cpu_ms": "CPU ms", "samples_per_s": "samples/s", "peak_mb": "peak MB", "value": "value", "note": "note",
}  # fmt: skip
_KEYS = ("what", "phase", "batch", "mode")
_WORDS = ("what", "phase", "mode", "note")
_SPREAD = ("p10_ms", "p90_ms")


def run(argv: list[str]) -> None:
    """Runs the command.

    Raises:
        UserError: An unknown benchmark, or a mistake in the config or the options.
    """
    names = plugins(BENCHMARKS)
    # The name comes first or not at all: the value of an override is no name.
    name, words = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    one_of("benchmark", name, names, none=True)
    parser = _parser(list(names)) if name is None else _named_parser()
    options, rest = parser.parse_known_args(words)
    if name is not None:
        call = _with_arguments(name, names[name].load(), rest)
        rows: Iterable[Row] = ({"what": key, "value": value} for key, value in call().items())
        around = _surroundings(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    elif options.config is not None:
        bench = BenchOptions(
            options.batches, options.device, options.precision, _sizes(options.batch_sizes),
            options.modes.split(","), options.backend,
        )  # fmt: skip
        around = _surroundings(bench.torch_device) | {"config": options.config, "precision": options.precision}
        quieten()
        warnings.filterwarnings("ignore", ".*(lr_scheduler.step|GPU available but not used|no `val_dataloader`).*")
        module, datamodule = build_from_config(["--config", _config(options.config, options.drawn), *rest])
        rows = bench_config(module, datamodule, bench)
    else:
        raise UserError(f"posekit bench needs a name ({', '.join(names)}) or --config FILE")
    with one_line_errors():
        _show(rows, around, options.json)


def _config(name: str, drawn: bool) -> str:
    """Returns a config's name, or its text with drawn data."""
    if not drawn:
        return name
    return yaml.safe_dump(drawn_config(read_config(find_config(name))))


def _parser(names: list[str]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="posekit bench",
        usage=f"posekit bench {{{','.join(names)}}} [options] | posekit bench --config FILE [options] [overrides]",
        description="Times a named benchmark, or the loader, the forward pass, prediction and the training step of a "
        "config. Figures are medians of repeated runs after a warm-up, with their 10th and 90th percentile; beside the "
        "clock stands the process's CPU time, which holds on a busy machine. On CUDA the device's own events are read.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="config with a model and data")
    parser.add_argument(
        "--drawn", action="store_true", help="drawn people of the same shapes in place of the data sets"
    )
    parser.add_argument("--batches", type=int, default=20, help="timed batches of each kind (default 20)")
    parser.add_argument("--batch_sizes", metavar="N,N", help="samples of a batch (default 1 and the config's)")
    parser.add_argument("--modes", default="eager", help="eager, compiled (torch.compile), or both with a comma")
    parser.add_argument("--precision", default="32-true", help="of the trainer: 32-true (default), bf16-mixed, …")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--backend", default="inductor", help="of torch.compile (default inductor)")
    _add_json(parser)
    return parser


def _named_parser() -> ArgumentParser:
    """Of a named benchmark: everything but ``--json`` is an argument of its function."""
    parser = ArgumentParser(prog="posekit bench", allow_abbrev=False, add_help=False)
    _add_json(parser)
    return parser


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="also write the rows to a file, one JSON object a line")


def _with_arguments(
    name: str, function: Callable[..., dict[str, float]], words: list[str]
) -> Callable[[], dict[str, float]]:
    """Binds a benchmark's arguments, read by its signature.

    Raises:
        UserError: An argument that the function does not have, a value of another type, or a count or size below 1.
    """
    parser = FunctionParser(prog=f"posekit bench {name}", exit_on_error=False, allow_abbrev=False)
    keys = parser.add_function_arguments(function)
    try:
        values = parser.parse_args(words).as_dict()
    except argparse.ArgumentError as error:
        known = ", ".join(f"--{key}" for key in (*keys, "json FILE"))
        raise UserError(f"posekit bench {name}: {' '.join(str(error).split())[:200]}; options: {known}") from None
    given = {key: value for key, value in values.items() if value != parser.get_default(key)}
    for key, value in given.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                in_range(f"posekit bench {name}", f"--{key}", number, "[1, inf)", whole=True)
    return lambda: function(**values)


def _sizes(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--batch_sizes must be numbers with commas between, not {text!r}") from None


def _surroundings(device: torch.device) -> Row:
    return {
        "what": "surroundings",
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "posekit": __version__,
    }


def _show(rows: Iterable[Row], around: Row, path: str | None) -> None:
    done: list[Row] = []
    for row in rows:
        done.append(row)
        if path:  # what is done stays, should the next step fail
            atomic_write_text(Path(path), "".join(json.dumps(r) + "\n" for r in (around, *done)))
    title = f"{around['device']}, {around['threads']} threads, torch {around['torch']}"
    _print(title, done)


def _print(title: str, rows: Sequence[Row]) -> None:
    """Prints rows as a table; where it is wider than the terminal, without the percentiles."""
    columns = {
        key: Field(heading, [Text(_text(row.get(key))) for row in rows], text=key in _WORDS)
        for key, heading in _COLUMNS.items()
        if any(key in row for row in rows)
    }
    console = table_console(120)
    if not fits(console, list(columns.values())):
        columns = {key: field for key, field in columns.items() if key not in _SPREAD}
    keys = [field for key, field in columns.items() if key in _KEYS]
    print_table(console, title, keys, [field for key, field in columns.items() if key not in _KEYS])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
