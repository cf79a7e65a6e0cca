"""The command ``posekit``. Quick commands answer without importing torch."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO

from posekit._version import __version__
from posekit.cli.several import let_the_first_speak, local_rank, no_waiting_for_others
from posekit.errors import UserError, one_of

RUN_COMMANDS = ("fit", "validate", "test", "predict")

HELP = f"""posekit {__version__}: human pose estimation on PyTorch Lightning

usage: posekit COMMAND [options]

  fit       train             posekit fit --config examples/quickstart.yaml
  validate  evaluate          posekit validate --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt
  test      evaluate on the test split
  predict   find people's joints in an image, a folder or a video
                              posekit predict --ckpt_path RUN/checkpoints/best.ckpt --input photo.jpg
  evaluate  metrics of a results file, without a model
                              posekit evaluate coco GT.json RESULTS.json
  table     a paper's table or figure, ours beside the paper's numbers
                              posekit table hdm/table1
  body      convert and describe body files in SMPL format
                              posekit body convert SMPL_NEUTRAL.pkl SMPL_NEUTRAL.npz
  export    the network as a file that runs without posekit
                              posekit export --ckpt_path RUN/checkpoints/best.ckpt --format onnx
  bench     speed of the loader, the network and a step, or of a named part
                              posekit bench --config examples/quickstart.yaml
  list      methods, data modules, shipped configs, benchmarks
  doctor    what is installed, what is missing, what clashes

posekit COMMAND --help tells more; --model.help HDM and --data.help COCOKeypoints list a class's options."""


def _late(place: str, *first: str) -> Callable[[Sequence[str]], None]:
    """Returns a command that is imported when it is called: some import torch."""

    def run(argv: Sequence[str]) -> None:
        module, _, name = place.partition(":")
        getattr(import_module(module), name)(*first, list(argv))

    return run


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    **{name: _late("posekit.cli.run:run_trainer", name) for name in RUN_COMMANDS},
    "evaluate": _late("posekit.cli.evaluate:run"),
    "table": _late("posekit.cli.table:run"),
    "body": _late("posekit.cli.body:run"),
    "export": _late("posekit.cli.export:run"),
    "bench": _late("posekit.cli.bench:run"),
    "list": _late("posekit.cli.info:list_everything"),
    "doctor": _late("posekit.cli.info:doctor"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; exits with 0 after a good run, 2 after a user's mistake (one line on stderr), 130 on Ctrl-C.

    Args:
        argv: Words after the program's name; None takes the command line's.
    """
    try:
        try:
            with no_waiting_for_others():
                _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()  # here rather than at the interpreter's end, which could only complain
    except BrokenPipeError as error:
        if not _nobody_reads():
            raise
        if isinstance(error.__context__, SystemExit):  # of a command that had come to its end
            sys.exit(error.__context__.code)
        sys.exit(1)


def _main(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    if words[0] in ("--version", "-V", "version"):
        print(f"posekit {__version__}")
        return
    with exit_in_one_line():
        one_of("command", words[0], COMMANDS)
        COMMANDS[words[0]](words[1:])


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """Ends the process as :func:`main` does after a user's mistake or Ctrl-C; for a ``python -m`` of a method, too."""
    try:
        yield
    except UserError as error:
        sys.exit(_refuse(str(error)))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(_refuse(f"{_named_file(str(error.filename))}: {error.strerror or error}"))
    except KeyboardInterrupt:
        sys.exit(_stopped())
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # the trainer's way to end
            sys.exit(_stopped())
        raise


def _named_file(path: str) -> str:
    """Returns the file that an error is about: of a temporary ``.NAME.xxxx.part`` the one that it is to become."""
    name = Path(path).name
    hidden = name.startswith(".") and name.endswith(".part")
    return str(Path(path).with_name(name[1:].rsplit(".", 2)[0])) if hidden else path


def _nobody_reads() -> bool:
    """Tells whether a reader of the output (``| head``) is gone; then nothing more is written to it."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_cut_off(stream)]
    for stream in gone:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())  # takes what is still in the stream's buffer at the interpreter's end
        os.close(nothing)
    return bool(gone)


def _is_cut_off(stream: IO[str]) -> bool:
    try:
        descriptor = stream.fileno()
    except OSError:  # no file of the system, as in a notebook
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _stopped() -> int:
    if local_rank() == 0:
        print("posekit: stopped", file=sys.stderr)
    return 130


def _refuse(message: str) -> int:
    if "Original Traceback" in message:  # raised in a loader's worker, which quotes its stack
        message = message.rstrip().splitlines()[-1].partition("UserError: ")[2]
    let_the_first_speak()
    print("posekit: error: " + message, file=sys.stderr)
    return 2
