"""Long runs: Ctrl-C, a full disk, no memory. What was learned stays, and one line says what to do."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from posekit.callbacks import AtomicCheckpointIO, CleanInterrupt, LastCheckpoint, OutOfMemoryAdvice, RecentCheckpoint
from posekit.cli import main
from posekit.cli.quiet import one_line_errors
from posekit.errors import UserError
from posekit.files import atomic_write_text
from posekit.module import read_checkpoint

from . import toys
from .test_resume import fit, posekit, same, whole_run  # noqa: F401  (a fixture)
from .test_run import refused

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
    logs = SimpleNamespace(on_batch_end=lambda: None, update_train_step_metrics=lambda: None)
    trainer = SimpleNamespace(
        accumulate_grad_batches=1, is_last_batch=False, world_size=1, _logger_connector=logs, callbacks=[clean]
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        clean._on_interrupt(2, None)
    clean.on_train_batch_start(trainer, None, None, 0)
    clean._on_interrupt(2, None)
    with pytest.raises(KeyboardInterrupt):
        clean._on_interrupt(2, None)
    with pytest.raises(KeyboardInterrupt):
        clean.on_train_batch_end(trainer, None, None, None, 0)


class _CtrlC(Callback):
    """Sends what Ctrl-C sends in the n-th batch of training or validation, and counts the batches of validations."""

    def __init__(self, stage="", batch=0, number=signal.SIGINT):
        self.stage, self.left, self.number, self.validated = stage, batch, number, []

    def on_train_batch_start(self, *_):
        self._count("train")

    def on_validation_epoch_start(self, *_):
        self.validated.append(0)

    def on_validation_batch_start(self, *_):
        self.validated[-1] += 1
        self._count("val")

    def _count(self, stage):
        self.left -= stage == self.stage
        if stage == self.stage and self.left == 0:
            os.kill(os.getpid(), self.number)


def toy_run(folder, *interrupt, checkpoint=None, **options):
    """Fits the toy; returns its weights, the steps that it made, and the batches of each validation."""
    torch.manual_seed(0)
    model, data, watch = toys.Toy(lr=0.05), toys.ToyData(batch_size=3), _CtrlC(*interrupt)
    last = LastCheckpoint()
    last.dirpath = str(folder)
    trainer = Trainer(
        accelerator="cpu", max_epochs=3, callbacks=[CleanInterrupt(), last, watch], plugins=[AtomicCheckpointIO()],
        logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) if interrupt else contextlib.nullcontext():
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    finally:
        signal.signal(signal.SIGINT, before)
    return model.net.weight.detach(), trainer.global_step, watch.validated


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("batch", "step"), [(1, 1), (2, 1), (3, 2), (5, 3), (6, 4)])
def test_a_stop_waits_for_the_gradients_of_a_step_that_takes_two_batches(tmp_path, batch, step, number):
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 5, "limit_val_batches": 0}
    whole, steps, _ = toy_run(tmp_path / "whole", **options)
    assert toy_run(tmp_path, "train", batch, number, **options)[1] == step
    resumed, total, _ = toy_run(tmp_path, checkpoint=tmp_path / "last.ckpt", **options)
    assert total == steps
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}])
@pytest.mark.parametrize("batch", [1, 5, 6])
def test_a_validation_that_is_broken_off_is_made_anew(tmp_path, batch, options):
    whole, steps, validated = toy_run(tmp_path / "whole", **options)
    broken = toy_run(tmp_path, "val", batch, **options)
    assert broken[2] == [batch]
    resumed, total, again = toy_run(tmp_path, checkpoint=tmp_path / "last.ckpt", **options)
    assert again == validated
    assert total == steps
    assert torch.equal(resumed, whole)


class _Keep(Callback):
    """Puts each recent state aside, under the number of its batch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (self.folder / "recent.ckpt").exists():
            (self.folder / "recent.ckpt").rename(self.folder / f"kept{batch_idx}.ckpt")


def test_recent_states_are_of_whole_steps(tmp_path):
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 5, "limit_val_batches": 0, "max_epochs": 1}
    model, recent = toys.Toy(lr=0.05), RecentCheckpoint(timedelta(0))
    recent.dirpath = str(tmp_path)
    trainer = Trainer(
        accelerator="cpu", callbacks=[recent, _Keep(tmp_path)], plugins=[AtomicCheckpointIO()], logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(model, datamodule=toys.ToyData(batch_size=3))
    found = [torch.load(path, weights_only=True) for path in sorted(tmp_path.glob("*.ckpt"))]
    batches = [content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] for content in found]
    assert batches == [2, 4, 5]  # the epoch's last batch ends a step by itself


def test_a_resumed_run_does_not_save_its_first_step_again(tmp_path):
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 6, "limit_val_batches": 0, "max_epochs": 1}

    def run(folder, checkpoint=None, **more):
        keeper = ModelCheckpoint(str(tmp_path / folder), "{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = Trainer(
            accelerator="cpu", callbacks=[CleanInterrupt(), keeper], plugins=[AtomicCheckpointIO()], logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options | more,
        )  # fmt: skip
        trainer.fit(toys.Toy(lr=0.05), datamodule=toys.ToyData(batch_size=2), ckpt_path=checkpoint, weights_only=True)
        return sorted(path.name for path in (tmp_path / folder).iterdir())

    assert run("first", max_steps=1) == ["step=1.ckpt"]
    assert run("second", tmp_path / "first" / "step=1.ckpt") == ["step=2.ckpt", "step=3.ckpt"]


def test_methods_of_manual_optimisation_have_recent_states_too(tmp_path):
    class Manual(toys.Toy):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.step(batch, "train").loss)
            optimizer.step()

    recent = RecentCheckpoint(timedelta(0))
    recent.dirpath = str(tmp_path)
    trainer = Trainer(
        accelerator="cpu", callbacks=[recent], plugins=[AtomicCheckpointIO()], logger=False, max_epochs=1,
        enable_progress_bar=False, enable_model_summary=False, limit_train_batches=2, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(Manual(), datamodule=toys.ToyData(batch_size=3))
    assert torch.load(tmp_path / "recent.ckpt", weights_only=True)["global_step"] == 2


def test_a_terminated_run_has_not_ended_by_itself(config):
    words = ["--trainer.callbacks+=tests.cli.toys.InterruptAt", "--trainer.callbacks.number=15"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(config), *words])
    assert stop.value.code == 143
    assert (config.parent / "runs/toy/version_0/checkpoints/last.ckpt").is_file()


def test_the_signal_is_given_back(config):
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


def test_a_full_disk_keeps_the_last_checkpoint(config, tiny_disk, capsys):
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
def test_what_runs_out_is_one_line_with_what_to_do(config, capsys, kind):
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


def test_predictions_on_a_full_disk(config, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    main(["fit", "--config", str(config), "--trainer.max_epochs=1"])
    checkpoint = next(config.parent.rglob("last.ckpt"))
    monkeypatch.setattr(toys.Toy, "predict_step", full, raising=False)
    line = refused(capsys, "predict", "--config", str(config), "--ckpt_path", str(checkpoint), "--output", "out")
    assert "the disk is full" in line
    assert "--ckpt_path" not in line  # nothing can be gone on with


def test_a_file_on_a_full_disk_is_named(tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            os.close(self.handle)

        def __init__(self, handle, _):
            self.handle = handle

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("posekit.files.os.fdopen", Full)
    with pytest.raises(UserError, match=r"^the disk is full: free some space \(.*results\.json\)$"), one_line_errors():
        atomic_write_text(tmp_path / "results.json", "[]")


@pytest.mark.parametrize(("error", "shown"), [(OSError(28, "No space left"), False), (OSError(5, "broken"), True)])
def test_a_thread_that_a_full_disk_ends_is_quiet(monkeypatch, error, shown):
    def write():
        raise error

    seen = []
    hook = seen.append
    monkeypatch.setattr(threading, "excepthook", hook)
    with one_line_errors():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert bool(seen) == shown
    assert threading.excepthook == hook


def test_out_of_memory_outside_the_command_line_says_it_too(config):
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[toys.RaiseAt("memory", 2), OutOfMemoryAdvice()],
    )  # fmt: skip
    with pytest.raises(torch.OutOfMemoryError, match=r"--data\.batch_size 4 \(now 8\)"):
        trainer.fit(toys.Toy(), datamodule=toys.ToyData(batch_size=8))


class _HugeArrays(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return np.zeros(1 << 50)


def _in_a_worker():
    next(iter(torch.utils.data.DataLoader(_HugeArrays(), num_workers=1)))


@pytest.mark.parametrize("fail", [lambda: np.zeros(1 << 50), lambda: torch.zeros(1 << 50), _in_a_worker])
def test_advice_reaches_the_message_of_every_kind_of_error(fail):
    data = SimpleNamespace(batch_size=8, num_workers=2)
    state = SimpleNamespace(stage=None, fn="fit")
    trainer = SimpleNamespace(state=state, datamodule=data, training=True, accumulate_grad_batches=1, precision="")
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        fail()
    OutOfMemoryAdvice().on_exception(trainer, SimpleNamespace(device=torch.device("cpu")), caught.value)
    text = r"out of memory in stage fit on the CPU: .*--data\.num_workers \(now 2\)"
    with pytest.raises(UserError, match=text), one_line_errors():
        raise caught.value
