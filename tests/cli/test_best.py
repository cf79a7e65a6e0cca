"""The best state over a run and the runs that go on with it."""

import shutil

import pytest
import torch

from posekit.cli import main
from posekit.module import read_checkpoint


@pytest.fixture
def resumed(config):
    """Returns a function that resumes a run of one epoch so that it gets worse, and the folder of runs."""
    main(["fit", "--config", str(config), "--trainer.max_epochs=1"])
    runs = config.parent / "runs" / "toy"

    def go_on(checkpoint):
        # Steps this large make the loss grow.
        state = torch.load(checkpoint, weights_only=True)
        state["optimizer_states"][0]["param_groups"][0].update(lr=30.0, initial_lr=30.0)
        state["lr_schedulers"] = [{**s, "base_lrs": [30.0]} for s in state["lr_schedulers"]]
        torch.save(state, checkpoint)
        main(["fit", "--config", str(config), "--trainer.max_epochs=3", "--model.lr=30", f"--ckpt_path={checkpoint}"])
        return runs / "version_1" / "checkpoints"

    return go_on, runs / "version_0" / "checkpoints"


def test_a_resumed_run_keeps_the_earlier_best(resumed):
    go_on, first = resumed
    best = (first / "best.ckpt").read_bytes()
    second = go_on(first / "last.ckpt")
    assert read_checkpoint(second / "last.ckpt")["global_step"] == 6
    assert (second / "best.ckpt").read_bytes() == best
    assert (first / "best.ckpt").read_bytes() == best
    assert not list(second.glob(".*"))


def test_a_moved_run_finds_its_best_beside_the_checkpoint(resumed, tmp_path):
    go_on, first = resumed
    moved = shutil.move(first, tmp_path / "moved")
    second = go_on(moved / "last.ckpt")
    assert (second / "best.ckpt").read_bytes() == (moved / "best.ckpt").read_bytes()


def test_a_lost_best_is_said(resumed, caplog, capsys):
    go_on, first = resumed
    (first / "best.ckpt").unlink()
    with caplog.at_level("INFO"):
        second = go_on(first / "last.ckpt")
    said = caplog.text + capsys.readouterr().err
    assert said.count("the best state so far is lost") == 1
    assert read_checkpoint(second / "best.ckpt")["global_step"] > 2
