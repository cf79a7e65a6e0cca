"""``posekit predict`` with methods that say which source and which writer are theirs."""

import json

import cv2
import numpy as np
import pytest
import torch

from posekit.cli import main
from posekit.module import PoseModule
from tests.cli.test_run import refused


class Lift(PoseModule):
    """Puts three joints in 3D at the root."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.net = torch.nn.Linear(1, 1)

    def predict_step(self, batch, batch_idx):
        count = len(batch["image_id"])
        return {
            "joints3d": torch.zeros(count, 3, 3), "scores": torch.ones(count),
            "frame": torch.zeros(count, dtype=torch.int64),
            "image_id": batch["image_id"], "sample_id": batch["sample_id"],
        }  # fmt: skip


class DeepLift(Lift):
    prediction_writer = "PredictionWriter3D"


class Strange(Lift):
    predicts = "films"


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """Words that predict a picture with a method."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("pic.png", np.zeros((40, 30, 3), np.uint8))

    def words(method):
        module = method()
        checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": {}, "pytorch-lightning_version": "2.6.0"}
        module.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, "a.ckpt")
        return ["predict", "--ckpt_path=a.ckpt", "--input=pic.png", "--output=out", "--trainer.accelerator=cpu"]

    return words


def test_a_method_names_the_writer_of_its_poses_in_3d(predict, tmp_path):
    main(predict(DeepLift))
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["joints3d"] == [[0, 0, 0]] * 3
    assert json.loads((tmp_path / "out" / "images.json").read_text()) == {"0": "pic.png"}


def test_a_method_that_names_no_writer_of_poses_in_3d_is_told_how(predict, capsys):
    said = refused(capsys, *predict(Lift))
    assert "2D keypoints, which Lift does not predict; a method of poses in 3D has prediction_writer = 'Pred" in said


def test_an_unknown_source_of_a_method_is_refused(predict, capsys):
    assert "unknown predicts of Strange 'films'; known: clips, pictures" in refused(capsys, *predict(Strange))
