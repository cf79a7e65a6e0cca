"""Output that nobody reads any more (``posekit … | head``): the command ends without a word."""

import os
import subprocess
import sys

import pytest

from posekit import cli


def posekit(*words, unbuffered=False, cut=("stdout",)):
    """Runs a command whose streams lead into a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    streams = {name: writer if name in cut else subprocess.PIPE for name in ("stdout", "stderr")}
    flags = ["-u"] if unbuffered else []
    try:
        line = [sys.executable, *flags, "-m", "posekit", *words]
        return subprocess.run(line, **streams, text=True, timeout=120, check=False)
    finally:
        os.close(writer)


@pytest.mark.parametrize(("words", "unbuffered"), [(["--help"], False), (["body", "info", "builtin"], True)])
def test_the_end_is_quiet(words, unbuffered):
    done = posekit(*words, unbuffered=unbuffered)
    assert done.returncode == 1
    assert done.stderr == ""


def test_errors_without_a_reader():
    done = posekit("nonsense", cut=("stdout", "stderr"))
    assert done.returncode in (1, 2)


def test_another_broken_pipe_is_not_hidden(monkeypatch):
    def fail(_):
        raise BrokenPipeError(32, "a worker is gone")

    monkeypatch.setitem(cli.COMMANDS, "list", fail)
    with pytest.raises(BrokenPipeError, match="a worker is gone"):
        cli.main(["list"])
