"""A run that is killed and resumed ends as one that was never stopped, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posekit.callbacks import AtomicCheckpointIO
from posekit.cli import main
from posekit.data.loader import EpochSampler, ResumableLoader
from posekit.errors import UserError
from posekit.module import read_checkpoint

FLAGS = [
    "--data.train_size=24", "--data.val_size=2", "--data.batch_size=4", "--data.num_workers=0",
    "--data.num_render_workers=1", "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1",
    "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0",
]  # fmt: skip
STEPS = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint", "--trainer.callbacks.filename=step",
    "--trainer.callbacks.every_n_train_steps=1", "--trainer.callbacks.save_top_k=1",
    "--trainer.callbacks.enable_version_counter=false",
]  # fmt: skip


def fit(folder, *words, config="quickstart", flags=FLAGS, kill_at=None):
    folder.mkdir(exist_ok=True)
    kill = []
    if kill_at is not None:
        kill = ["--trainer.callbacks+=tests.cli.toys.KillAt", f"--trainer.callbacks.step={kill_at}"]
    done = posekit(folder, "fit", "--config", config, *flags, *STEPS, *kill, *words)
    assert done.returncode == (0 if kill_at is None else -9), done.stderr[-2000:]
    return sorted(folder.rglob("step.ckpt"), key=lambda p: p.stat().st_mtime)[-1]


def posekit(folder, *words):
    """Runs the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "posekit", *words],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip


def same(a, b):
    a, b = (read_checkpoint(path) for path in (a, b))
    assert a["global_step"] == b["global_step"]
    assert a["state_dict"].keys() == b["state_dict"].keys()
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name
    for ours, theirs in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for key, entry in ours["state"].items():
            for name, value in entry.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs["state"][key][name]))


@pytest.mark.parametrize("step", [3, 8])
def test_a_killed_run_goes_on_exactly(tmp_path, step, whole_run):
    broken = fit(tmp_path / "killed", kill_at=step)
    assert read_checkpoint(broken)["global_step"] == step - 1
    same(fit(tmp_path / "resumed", f"--ckpt_path={broken}"), whole_run)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 6, 7, 11])
def test_a_killed_run_goes_on_exactly_with_workers(tmp_path, step, whole_run):
    broken = fit(tmp_path / "killed", "--data.num_workers=2", kill_at=step)
    same(fit(tmp_path / "resumed", f"--ckpt_path={broken}", "--data.num_workers=2"), whole_run)


def loader(length=10, batch=3, shuffle=True, drop_last=False):
    sampler = EpochSampler(range(length), 1, 0, shuffle=shuffle, seed=0)
    data = [(e, i) for e in range(1) for i in range(length)]
    return ResumableLoader(_Echo(data), batch_size=batch, sampler=sampler, drop_last=drop_last, collate_fn=list)


class _Echo(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        return key


def test_the_loader_goes_on_where_its_state_was_taken():
    whole = loader()
    whole.sampler.set_epoch(5)
    batches = list(whole)
    first = loader()
    first.sampler.set_epoch(5)
    iterator = iter(first)
    assert [next(iterator), next(iterator)] == batches[:2]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert list(second) == batches[2:]
    assert second.state_dict() == {"batches": 4, "of": 4, "epoch": 5, "samples": 3}
    assert list(second) == batches  # once only
    assert len(second) == 4


def test_a_finished_pass_begins_anew():
    first = loader(drop_last=True)
    assert len(list(first)) == 3
    second = loader(drop_last=True)
    second.load_state_dict(first.state_dict())
    assert len(list(second)) == 3


def test_a_full_disk_is_one_line_and_costs_nothing(tmp_path, monkeypatch):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.ones(2)}, target)
    before = target.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("posekit.files.os.fdopen", full)
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written: No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(2)}, target)
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_truncated_checkpoint_names_the_others(tmp_path, capsys):
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    broken = tmp_path / "recent.ckpt"
    broken.write_bytes((tmp_path / "last.ckpt").read_bytes()[:100])
    with pytest.raises(SystemExit):
        main(["fit", "--config", "quickstart", f"--ckpt_path={broken}"])
    line = capsys.readouterr().err
    assert "recent.ckpt cannot be read: truncated" in line
    assert "in the same folder: last.ckpt" in line
    (tmp_path / "zeros.ckpt").write_bytes(bytes(1000))  # as after a power cut
    with pytest.raises(UserError, match=r"recent\.ckpt .*; in the same folder: last\.ckpt$"):
        read_checkpoint(broken)
    with pytest.raises(UserError, match=r"nope\.ckpt does not exist; give a file; in the same folder: last\.ckpt$"):
        read_checkpoint(tmp_path / "nope.ckpt")
    with pytest.raises(UserError, match=r"zeros\.ckpt cannot be read: truncated, or not a checkpoint; in the same"):
        read_checkpoint(tmp_path / "zeros.ckpt")
