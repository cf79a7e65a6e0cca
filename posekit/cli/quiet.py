"""What the framework says on the command line: remarks that help nobody hidden, a user's mistakes in one line."""

from __future__ import annotations

import errno
import logging
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from posekit.callbacks.memory import is_out_of_memory
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

_FULL = "the disk is full: free some space"
_RESUME = ", then go on with --ckpt_path and the run's last checkpoint, if it has left one"


def quieten() -> None:
    """Hides remarks of the framework that tell a user of posekit nothing."""
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
        with _threads_quiet_on_full_disk():
            yield
    except ValueError as error:
        own = _users_own(error)
        if own is error and _is_of_the_framework(error):
            raise UserError(one_line(error, 300)) from None
        raise own from None
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(one_line(error, 1000)) from None
        if "loading state_dict" in str(error):
            lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
            raise UserError(f"the checkpoint does not fit the config's network: {lines[0][:200]}") from None
        raise
    except MisconfigurationException as error:
        raise UserError(one_line(error, 300)) from None
    except OSError as error:
        if _is_full_disk(error):
            where = f" ({error.filename})" if error.filename else ""
            raise UserError(_FULL + where + (_RESUME if resumes else "")) from None
        if error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from None


def _is_of_the_framework(error: BaseException) -> bool:
    """Tells whether Lightning itself raised an error: of a value, then, that it was given."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).partition(".")[0] == "lightning"


def _users_own(error: BaseException) -> BaseException:
    """Returns the UserError behind an error of the parser, which wraps what a constructor raises; else the error."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, UserError):
            return link
        link = link.__cause__ or link.__context__
    return error
