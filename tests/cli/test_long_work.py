"""Long runs: Ctrl-C, a full disk, no memory. What was learned stays, and one line says what to do."""

import shutil
import subprocess

import pytest
import torch

from posekit.callbacks import CleanInterrupt
from posekit.cli import main
from posekit.module import read_checkpoint

from . import toys
from .test_resume import fit, posekit, same, whole_run  # noqa: F401  (a fixture)
from .test_run import config, refused  # noqa: F401  (a fixture)

RAISE = ["--trainer.callbacks+=tests.cli.toys.RaiseAt", "--trainer.callbacks.step=4"]


def test_ctrl_c_keeps_the_state_of_a_whole_step(tmp_path, whole_run):  # noqa: F811
    from .test_resume import FLAGS, STEPS

    folder = tmp_path / "stopped"
    folder.mkdir()
    stop = ["--trainer.callbacks+=tests.cli.toys.InterruptAt", "--trainer.callbacks.step=8"]
    done = posekit(folder, "fit", "--config", "quickstart", *FLAGS, *STEPS, *stop)
    assert done.returncode == 130, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "posekit: stopped" in done.stderr
    last = next(folder.rglob("last.ckpt"))
    assert read_checkpoint(last)["global_step"] == 8  # the step in which the signal came was ended
    assert "go on with --ckpt_path" in done.stderr + done.stdout
    assert str(last.relative_to(folder)) in done.stderr + done.stdout
    assert not list(folder.rglob("*.part"))
    same(fit(tmp_path / "resumed", f"--ckpt_path={last}"), whole_run)


def test_ctrl_c_between_steps_and_a_second_one_stop_at_once():
    clean = CleanInterrupt()
    with pytest.raises(KeyboardInterrupt):
        clean._on_signal(2, None)
    clean.on_train_batch_start(None, None, None, 0)
    clean._on_signal(2, None)
    with pytest.raises(KeyboardInterrupt):
        clean._on_signal(2, None)
    with pytest.raises(KeyboardInterrupt):
        clean.on_train_batch_end(None, None, None, None, 0)


def test_the_signal_is_given_back(config):  # noqa: F811
    import signal

    before = signal.getsignal(signal.SIGINT)
    main(["fit", "--config", str(config)])
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(config), *RAISE, "--trainer.callbacks.kind=memory"])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if not done or done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_checkpoint(config, tiny_disk, capsys):  # noqa: F811
    words = ["fit", "--config", str(config), f"--trainer.default_root_dir={tiny_disk}", "--trainer.max_epochs=4"]
    fill = ["--trainer.callbacks+=tests.cli.toys.FillDisk", "--trainer.callbacks.step=6"]
    line = refused(capsys, *words, *fill, f"--trainer.callbacks.folder={tiny_disk}")
    assert "No space left on device" in line or "the disk is full" in line
    last = next(tiny_disk.rglob("last.ckpt"))
    assert read_checkpoint(last)["global_step"] == 4
    assert not list(tiny_disk.rglob("*.part"))
    (tiny_disk / "filler").unlink()
    main([*words, "--ckpt_path", str(last)])


@pytest.mark.parametrize("kind", ["memory", "cpu_memory", "disk"])
def test_what_runs_out_is_one_line_with_what_to_do(config, capsys, kind):  # noqa: F811
    line = refused(capsys, "fit", "--config", str(config), *RAISE, f"--trainer.callbacks.kind={kind}")
    if kind == "disk":
        assert "the disk is full" in line
        assert "--ckpt_path" in line
    else:
        assert "out of memory in stage train" in line
        assert "--data.batch_size 4 (now 8)" in line
        assert "--trainer.accumulate_grad_batches 2" in line
    last = next(config.parent.rglob("last.ckpt"))
    assert read_checkpoint(last)["global_step"] == 3  # what was learned before stays


def test_predictions_on_a_full_disk(config, capsys, monkeypatch):  # noqa: F811
    def full(*_):
        raise OSError(28, "No space left on device")

    main(["fit", "--config", str(config), "--trainer.max_epochs=1"])
    checkpoint = next(config.parent.rglob("last.ckpt"))
    monkeypatch.setattr(toys.Toy, "predict_step", full, raising=False)
    line = refused(capsys, "predict", "--config", str(config), "--ckpt_path", str(checkpoint), "--output", "out")
    assert "the disk is full" in line


def test_out_of_memory_outside_the_command_line_says_it_too(config):  # noqa: F811
    from lightning.pytorch import Trainer

    from posekit.callbacks import OutOfMemoryAdvice

    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[toys.RaiseAt("memory", 2), OutOfMemoryAdvice()],
    )  # fmt: skip
    with pytest.raises(torch.OutOfMemoryError, match=r"--data\.batch_size 4 \(now 8\)"):
        trainer.fit(toys.Toy(), datamodule=toys.ToyData(batch_size=8))
