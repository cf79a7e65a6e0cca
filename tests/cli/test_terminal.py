"""What a terminal of 80 columns shows: a progress bar, what is printed beside it and below, and tables."""

import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from lightning.pytorch import Trainer
from rich.console import Console
from rich.text import Text

from posekit.callbacks import ProgressLine
from posekit.cli import bench
from posekit.printed import Field, print_table, table_console
from posekit.tables import render

ROOT = Path(__file__).parents[2]
COLUMNS = 80


def shown(code, *words):
    """Runs Python code in a terminal and returns what stands on its screen in the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    width = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    env = {name: value for name, value in os.environ.items() if name not in width}
    env |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, "-c", code, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 1 << 16):
            written += part
    except OSError:  # how Linux tells the end
        pass
    os.close(ours)
    lines = screen(written.decode())
    assert run.wait(60) == 0, "\n".join(lines)
    return lines


def screen(written):
    """Returns the lines that a terminal makes of what is written to it: of its sequences those that move and erase."""
    lines, x, y = [{}], 0, 0
    for sequence, sign in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|(.)", written, re.DOTALL):
        if sequence.endswith("A"):
            y -= int(sequence[:-1] or 1)
        elif sequence == "2K":
            lines[y] = {}
        elif sign == "\r":
            x = 0
        elif sign == "\n" or (sign and x == COLUMNS):
            y += 1
            x = x if sign == "\n" else 0
            lines += [{}] * (y == len(lines))
        if sign and sign not in "\r\n":
            lines[y][x] = sign
            x += 1
    return ["".join(line.get(i, " ") for i in range(COLUMNS)).rstrip() for line in lines]


COMMAND = "import sys; from posekit.cli import main; import tests.cli.toys; main(sys.argv[1:])"


@pytest.mark.parametrize("bar", [None, "RichProgressBar", "TQDMProgressBar"])
def test_a_fit_and_its_evaluation_leave_their_results_below_the_bar(config, bar):
    config.write_text(config.read_text().replace("enable_progress_bar: false, ", ""))
    own = [f"--trainer.callbacks+={bar}"] if bar else []
    lines = shown(COMMAND, "fit", "--config", str(config), *own)
    assert "best checkpoint: runs/toy/version_0/checkpoints/best.ckpt" in lines
    assert lines[-2:] == ["results: runs/toy/version_0/results.json", ""]
    assert any(line.startswith("`Trainer.fit` stopped") for line in lines)
    assert any(line.startswith("│ val/loss") for line in lines)
    if bar is not None:
        return
    (line,) = (line for line in lines if line.startswith("Epoch"))
    assert re.search(r"it/s train/loss: \d\.\d{3}$", line)
    assert "v_num" not in "".join(lines)
    lines = shown(COMMAND, "validate", "--config", "runs/toy/version_0/config.yaml",
                  "--ckpt_path=runs/toy/version_0/checkpoints/best.ckpt")  # fmt: skip
    (number,) = (number for number, line in enumerate(lines) if "it/s" in line)
    assert lines[number + 1].strip() == "Toy on ToyData"


def test_a_prediction_says_where_it_is_below_the_bar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    cv2.imwrite("one/a.png", np.full((64, 48, 3), 99, np.uint8))
    lines = shown(COMMAND, "predict", "--input", "one", "--output", "found")
    (bar,) = (number for number, line in enumerate(lines) if line.startswith("Predicting"))
    assert lines[bar + 1 :] == ["1 person: found/results.json", "overlays: found/overlays", ""]


def test_a_bar_of_many_numbers_has_one_line():
    bar = ProgressLine()
    trainer = Trainer(callbacks=[bar], logger=False, enable_checkpointing=False, accelerator="cpu")
    bar.setup(trainer, None, "fit")
    bar._init_progress(trainer)
    try:
        trainer.state.fn = "fit"
        bar.train_progress_bar_id = bar._add_task(100, "Epoch 0/9 ")
        bar._metric_component.update({f"train/part_{number}": 1.0 for number in range(8)})
        console = Console(width=COLUMNS, file=io.StringIO())
        console.print(bar.progress.get_renderable())
    finally:
        bar._stop_progress()
    (line,) = console.file.getvalue().splitlines()
    assert "0/100 0:00:00 • -:--:-- 0.00it/s train/part_0: 1.000 " in line
    assert line.endswith("…")


def printed(width, show):
    """Returns the lines that a function prints to a console of a width."""
    console = Console(width=width, file=io.StringIO())
    show(console)
    return console.file.getvalue().splitlines()


NAMES = Field("", [Text("a name of several words, folded"), Text("b")], text=True)


@pytest.mark.parametrize("width", [60, 80, 110])
def test_tables_are_as_wide_as_the_terminal_and_tear_no_number(width):
    fields = [Field(f"metric {n}\nours [paper]", [Text(f"{n}5.25 ± 1.07 [77.12]"), Text("-")]) for n in range(6)]
    lines = printed(width, lambda console: print_table(console, "title", [NAMES], fields, ["g", "h"]))
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(f" {n}5.25 ± 1.07 " in text for n in range(6))
    assert text.count(" [77.12] │") == 6
    assert text.count("│ b  ") == text.count("┏") == {60: 3, 80: 2, 110: 1}[width]


def test_further_tables_have_the_rows_and_keys_that_say_something():
    kind = Field("kind", [Text(""), Text("x")], text=True)
    long, short = (Field(name, [Text(a), Text(b)]) for name, a, b in (("n", "1" * 30, ""), ("m", "", "2" * 30)))
    lines = printed(60, lambda console: print_table(console, "title", [NAMES, kind], [long, short]))
    text = "\n".join(lines)
    first, second = text.split("└", 1)
    assert "title" in first
    assert "kind" not in first
    assert "│ b " not in first
    assert "kind" in second
    assert "a name" not in second


@pytest.mark.parametrize(("terminal", "count"), [(True, 3), (False, 1)])
def test_remarks_below_a_table_are_folded_at_words_in_a_terminal_alone(monkeypatch, terminal, count):
    monkeypatch.setattr(render, "print_table", lambda *_: None)
    monkeypatch.setattr(render, "_footer", lambda _: ["remarkable " * 20])
    results = SimpleNamespace(spec=SimpleNamespace(columns=[], name="", title=""), rows=[], missing=[])
    console = Console(width=COLUMNS, file=io.StringIO(), force_terminal=terminal)
    render.show(results, console)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == count
    assert {word for line in lines for word in line.split()} == {"remarkable"}


@pytest.mark.parametrize(("width", "there"), [(80, False), (150, True)])
def test_a_benchmark_leaves_the_percentiles_out_of_a_narrow_terminal(monkeypatch, width, there):
    row = {"what": "training step", "batch": 32, "mode": "compiled", "ms": 23.52, "p10_ms": 23.16, "p90_ms": 23.88,
           "cpu_ms": 15.56, "samples_per_s": 42.52, "peak_mb": 729.7}  # fmt: skip
    rows = [{"what": "multiply-adds of one sample, 3x128x96", "value": 59596800}, row]

    def show(console):
        monkeypatch.setattr(bench, "table_console", lambda least: console)
        bench._print("title", rows)

    lines = printed(width, show)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert ("23.16" in text) == there
    assert all(f" {number} " in text for number in ("23.52", "15.56", "42.52", "729.7", "59,596,800", "compiled"))


def test_a_paper_s_table_fits_the_terminal(tmp_path):
    shutil.copytree(ROOT / "examples/results/hdm/study_easy", tmp_path / "hdm/study_easy")
    lines = shown(COMMAND, "table", "hdm/study_easy", "--output", str(tmp_path), "--any_version")
    first, last = (next(n for n in order if lines[n][:1] == corner) for order, corner in (
        (range(len(lines)), "┏"), (range(len(lines) - 1, -1, -1), "└"),
    ))  # fmt: skip
    assert all(line[0] + line[-1] in ("┏┓", "┃┃", "┡┩", "││", "├┤", "└┘") for line in lines[first : last + 1])
    assert "error of seen joints" in " ".join(lines)


def test_a_pipe_has_no_width(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert [table_console(least).width for least in (60, 110)] == [80, 110]
