"""A command's group of processes."""

import atexit

import pytest

from posekit.cli import several


class _Ended(BaseException):
    pass


@pytest.fixture
def group(monkeypatch):
    """How many processes are in the group, to be set; the end of the process is an error of its own."""
    size = {"now": 0}

    def end(code):
        raise _Ended(code)

    monkeypatch.setattr(several, "_group_size", lambda: size["now"])
    monkeypatch.setattr(several.os, "_exit", end)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: size.update(tidied=True))
    return size


def run(group, joined, error=None):
    with several.no_waiting_for_others():
        group["now"] = joined
        if error is not None:
            raise error


@pytest.mark.parametrize(("error", "code"), [(None, 0), (SystemExit(3), 3), (SystemExit(None), 0), (OSError("x"), 1)])
def test_a_process_that_has_joined_a_group_ends_at_once(group, capsys, error, code):
    with pytest.raises(_Ended) as end:
        run(group, 2, error)
    assert end.value.args == (code,)
    assert ("tidied" in group) == (error is None)
    assert ("OSError: x" in capsys.readouterr().err) == isinstance(error, OSError)


@pytest.mark.parametrize(
    ("told", "number"),
    [({}, 0), ({"LOCAL_RANK": "2"}, 2), ({"SLURM_LOCALID": "3"}, 3), ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, 1)],
)
def test_a_process_s_number(monkeypatch, told, number):
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert several.local_rank() == number


def test_others_end_as_ever(group):
    run(group, 0)
    with pytest.raises(OSError, match="x"):
        run(group, 0, OSError("x"))
    group["now"] = 2  # a program's own group, which calls the command
    run(group, 2)
