"""A command that runs in several processes: one that fails says so and is gone, and the others do not wait for it."""

from __future__ import annotations

import atexit
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST_SPEAKS = 3.0  # seconds that other processes wait with what the first one most likely says as well


def local_rank() -> int:
    """Returns this process's number on its machine, as Lightning, torchrun or SLURM tell it."""
    number = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID", "0")
    return int(number) if number.isdecimal() else 0


def let_the_first_speak() -> None:
    """Waits a little in other processes: one that fails as the first does is ended by it, and nothing is said twice."""
    if local_rank() > 0:
        time.sleep(_FIRST_SPEAKS)


@contextmanager
def no_waiting_for_others() -> Iterator[None]:
    """Ends a process that has joined a group at once, without the interpreter's own end.

    One that fails would wait for the others there; and a thread of the group that still ran then would abort the
    process, or wait for ever, as leaving the group in order does with torch 2.6. What was registered with ``atexit``
    is done after a good run.
    """
    was_alone = _group_size() == 0
    try:
        yield
    except BaseException as error:
        if _group_size() < 2:
            raise
        code = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        _end(code if isinstance(code, int) else 0 if code is None else 1)
    if was_alone and _group_size() > 1:
        atexit._run_exitfuncs()
        _end(0)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _group_size() -> int:
    """Returns how many processes are in this one's group; 0 where it is in none."""
    if "torch" not in sys.modules:
        return 0
    from torch import distributed

    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 0
