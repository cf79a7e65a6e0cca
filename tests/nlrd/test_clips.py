"""Clips that overlap, are filled up or have broken frames: each person's frame is judged and predicted once."""

import json

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import default_collate

from posekit.callbacks import PredictionWriter3D
from posekit.data import VideoClips
from posekit.data.clip_windows import Window
from posekit.data.clips import ClipDataset, Track
from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError
from posekit.metrics.rows import first_of_each
from posekit.skeletons import LIMB17
from posekit_nlrd import geometry as g
from posekit_nlrd.evaluation import LatentSpread
from posekit_nlrd.losses import weighted_l1
from posekit_nlrd.probe import probe_motion
from posekit_nlrd.streams import labelled_batch
from tests.nlrd.conftest import make_data, make_model, make_trainer
from tests.nlrd.figures import wave

WINDOWS = [Window(3), Window.pool(16, 8), Window.pool(4, 4), Window.chunk(8, halo=2)]


def film(count, broken=()):
    """Returns a waving figure in front of grey, as a track."""

    def read(row):
        if row in broken:
            raise UserError(f"image {row}.jpg: is empty (0 bytes)")
        return np.full((64, 64, 3), 8 * row, np.uint8)

    rows, ones = np.arange(count), np.ones(count)
    joints3d = (g.view_to_camera(wave(0, count)) + torch.tensor([0.0, 0, 5])).double().numpy()
    boxes, joints = np.tile([0.0, 0, 64, 64], (count, 1)), np.full((count, 17, 3), 2.0)
    return Track("film", read, rows, rows, rows, rows, boxes, ones, joints, ones > 0, joints3d)


def clips(track, window, **options):
    return ClipDataset([track], LIMB17, (48, 48), window, on_broken_image="skip", **options)


class Film(PoseDataModule):
    """One film as all splits."""

    image_size = (48, 48)

    def __init__(self, window, count=8, broken=(), batch_size=1):
        super().__init__("LIMB17", batch_size)
        self.window, self.track = window, film(count, broken)

    def make_dataset(self, split):
        return clips(self.track, self.window, train=split == "train")


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window.kind}{window.frames}")
def test_each_frame_is_judged_once_and_with_its_labels(window):
    data = clips(film(29), window)
    parts = [labelled_batch(default_collate([data[i]]), "LIMB17") for i in range(len(data))]
    ids, weight = (torch.cat([part[name] for part in parts]) for name in ("sample_id", "weight"))
    assert sorted(ids.tolist()) == list(range(29))
    assert (weight[first_of_each(ids)] > 0).all()


def test_a_broken_frame_takes_no_others_place():
    data = clips(film(5, broken={0}), Window.chunk(5))
    rows = labelled_batch(default_collate([data[0]]), "LIMB17")
    assert rows["sample_id"].tolist() == [1, 2, 3, 4]
    assert (rows["weight"] > 0).all()


def test_batches_to_learn_from_keep_all_frames():
    data = make_data(source=Film(Window(5), count=3, batch_size=3))
    rows = data.step_batch("source", 0, 0)
    assert rows["image"].shape[0] == rows["pose"].shape[0] == 15
    assert (rows["weight"] > 0).any(1).sum() == 9
    judged = [len(batch["image"]) for batch in data.evaluation_batches("source", "val")]
    assert judged == [3]


@pytest.mark.parametrize("options", [{}, {"backbone": "small", "head": "joints"}], ids=["convs", "joints"])
def test_clips_that_answer_for_no_frame_change_no_number(tmp_path, options):
    torch.manual_seed(0)
    model, found = make_model(["pose"], **options), []
    for count, broken in ((4, ()), (8, range(4, 8)), (8, range(4))):
        data = Film(Window.chunk(4), count, broken)
        found.append(make_trainer(tmp_path).validate(model, datamodule=data, verbose=False)[0])
    assert found[1] == pytest.approx(found[0], nan_ok=True)
    assert found[0]["val/target_mpjpe_gt17"] > 0
    assert found[2]["val/target_mpjpe_gt17"] > 0


def test_nobody_at_all_is_no_number_and_no_picture(tmp_path):
    trainer = make_trainer(tmp_path, logger=CSVLogger(tmp_path, name="", version="run"))
    data = Film(Window.chunk(4), 4, range(4))
    (found,) = trainer.validate(make_model(["pose"]), datamodule=data, verbose=False)
    assert np.isnan(found["val/target_mpjpe_gt17"])
    assert not list((tmp_path / "run").glob("previews/*"))
    (rows,) = make_trainer(tmp_path).predict(make_model(["pose"]), datamodule=data)
    assert {name: len(value) for name, value in rows.items()} == dict.fromkeys(rows, 0)
    nothing = torch.zeros(0, 17, 3)
    assert weighted_l1(nothing, nothing, nothing[..., 0]) == 0


@pytest.mark.slow
def test_processes_agree_where_one_judges_no_frame(tmp_path):
    torch.manual_seed(0)
    model, data = make_model(["pose"]), Film(Window.chunk(4), 8, range(4, 8))
    (alone,) = make_trainer(tmp_path).validate(model, datamodule=data, verbose=False)
    strategy = DDPStrategy(find_unused_parameters=True, start_method="fork", process_group_backend="gloo")
    trainer = make_trainer(tmp_path, devices=2, strategy=strategy)
    (found,) = trainer.validate(model, datamodule=Film(Window.chunk(4), 8, range(4, 8)), verbose=False)
    assert found == pytest.approx(alone, nan_ok=True)


@pytest.mark.parametrize("halo", [0, 1])
def test_predictions_name_the_people_and_hold_a_frame_once(tmp_path, halo):
    folder = tmp_path / "walk"
    folder.mkdir()
    boxes = []
    for number in range(12):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.full((48, 96, 3), 9 * number, np.uint8))
        boxes += [{"frame": number, "bbox": [x, 4, 30, 40], "track": who} for x, who in ((5, "anna"), (55, "bert"))]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    data = VideoClips(
        str(folder), str(tmp_path / "boxes.json"), image_size=(48, 48), skeleton="LIMB17", frames=4, halo=halo
    )
    trainer = make_trainer(tmp_path, callbacks=[PredictionWriter3D(str(tmp_path / "out"), overlays=False)])
    batches = trainer.predict(make_model(["pose"]), datamodule=data)
    assert sum(len(batch["scores"]) for batch in batches) == 24
    with np.load(tmp_path / "out/results.npz") as archive:
        assert archive["sample_id"].tolist() == [0] * 12 + [1] * 12
        assert archive["person"].tolist() == ["anna"] * 12 + ["bert"] * 12
        assert archive["frame"].tolist() == [*range(12)] * 2
        assert set(archive["video"].tolist()) == {"walk"}


def test_the_pose_autoencoder_is_looked_at_in_any_case():
    found = probe_motion(make_model(["pose"]).networks, wave(0)[None], set(), LatentSpread())
    assert list(found) == ["pose_mm"]
