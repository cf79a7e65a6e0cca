"""What the framework says on the command line: remarks that help nobody hidden, a user's mistakes in one line."""

from __future__ import annotations

import errno
import logging
import re
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from posekit.callbacks.memory import is_out_of_memory
from posekit.callbacks.progress import log_above_the_bar
from posekit.data.synthetic.cache import TEMPORARY
from posekit.errors import UserError, one_line

_NOISE = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*srun. command is available.*",
    ".*Discarding init_args.*",
    ".*due to class_path change.*",
    ".*LeafSpec.*",
    ".*You are using `torch.load` with `weights_only=False`.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*recommended to use `self.log.*sync_dist=True.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*in eval mode at the start of training.*",
    ".*dirpath has changed from.*",
    "(?s).*deprecated in v4.*",
    "(?s).*JSONARGPARSE_DEPRECATION.*",
)
_CHATTER = (
    "Tip:",
    "TPU available",
    "GPU available: False",
    "Seed set to",
    "Loading `train_dataloader`",
    "Restoring states from",
    "Loaded model weights",
    "Detected KeyboardInterrupt",
    " was raised with message:",
)

_OTHER_GONE = re.compile(r"[Cc]onnection (closed|reset) by peer|remote process exited|communicator was aborted")

_FULL = "the disk is full: free some space"
_ELSEWHERE = ", or name a folder on another disk by the variable TMPDIR"
_RESUME = ", then go on with --ckpt_path and the run's last checkpoint, if it has left one"


def quieten() -> None:
    """Hides remarks of the framework that tell a user of posekit nothing; others stand clear of a progress bar."""
    log_above_the_bar()
    for pattern in _NOISE:
        warnings.filterwarnings("ignore", pattern)

    def is_news(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in _CHATTER)

    names = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
    for name in (*names, "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(is_news)


def _is_full_disk(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def _threads_quiet_on_full_disk() -> Iterator[None]:
    """Hides the stack of a thread that a full disk ends (TensorBoard's writer): the run itself says so in one line."""
    earlier = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not _is_full_disk(args.exc_value):
            earlier(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = earlier


@contextmanager
def one_line_errors(*, resumes: bool = False) -> Iterator[None]:
    """Turns what parser, framework and files say of a user's mistake into one line.

    Args:
        resumes: Whether the work keeps checkpoints to go on with.

    Raises:
        UserError: In their place.
    """
    try:
        with _threads_quiet_on_full_disk(), _without_the_parser():
            yield
    except ValueError as error:
        if not isinstance(error, UserError) and _raiser(error) == "lightning":  # of a value that it was given
            raise UserError(one_line(error, 300)) from None
        raise
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(one_line(error, 1000)) from None
        if _OTHER_GONE.search(str(error)):
            raise UserError("another process of this run has ended; it said why, or was killed") from None
        if "loading state_dict" in str(error):
            lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
            raise UserError(f"the checkpoint does not fit the config's network: {lines[0][:200]}") from None
        raise
    except MisconfigurationException as error:
        raise UserError(one_line(error, 300)) from None
    except OSError as error:
        if _is_full_disk(error):
            where = f" ({error.filename})" if error.filename else ""
            elsewhere = _ELSEWHERE if TEMPORARY in where else ""
            raise UserError(_FULL + where + elsewhere + (_RESUME if resumes else "")) from None
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from None


@contextmanager
def _without_the_parser() -> Iterator[None]:
    """Takes off what the parser wraps around the error that building a class of the config ends with.

    A ValueError there is of a value that was given. Any other kind of error may be a fault: it keeps its own stack.

    Raises:
        UserError: In place of a ValueError.
    """
    try:
        yield
    except ValueError as error:
        links = list(_chain(error))
        own = next((link for link in links if isinstance(link, UserError)), None)
        if own is not None:
            raise own from None
        if _raiser(error) != "jsonargparse":
            raise
        fault = next((link for link in links if _raiser(link) != "jsonargparse"), links[-1])
        if not isinstance(fault, ValueError):
            raise fault from None
        built = re.search(r"class_path='(?:[\w.]*\.)?(\w+)'", str(error))
        raise UserError((f"{built[1]}: " if built else "") + one_line(fault, 300)) from None


def _raiser(error: BaseException) -> str:
    """Returns the package whose code raised an error."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and those that it came from; the parser wraps what a constructor raises."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
