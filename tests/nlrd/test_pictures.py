"""Predictions of pictures and videos, written and drawn; previews of a run."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from posekit.data import ImageSource
from posekit.data.images import read_image
from posekit.errors import UserError
from posekit.skeletons import LIMB17
from posekit.visualization import track_color
from posekit_nlrd import PosePanelWriter
from tests.nlrd.conftest import make_data, make_model, make_trainer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.full((60, 80, 3), 90, np.uint8))
    return path


def predict(source, out, tmp_path, **options):
    trainer = make_trainer(tmp_path, callbacks=[PosePanelWriter(str(out))])
    data = ImageSource(str(source), image_size=(48, 48), **options)
    trainer.predict(make_model(["pose"]), datamodule=data, return_predictions=False)
    return json.loads((out / "results.json").read_text())


def test_a_picture_is_drawn_beside_its_pose_from_two_sides(photo, tmp_path):
    rows = predict(photo, tmp_path / "out", tmp_path)
    assert np.array(rows[0]["joints3d"]).shape == (17, 3)
    drawn = cv2.imread(str(tmp_path / "out/overlays/photo.jpg"))
    assert drawn.shape == (360, 480 + 2 * (360 + 4), 3)  # a small picture is enlarged
    panel = drawn[:, 484:844]
    assert (panel.max(-1).astype(int) - panel.min(-1) > 60).sum() > 20  # coloured bones on a pale ground


def test_several_people_have_panels_each(photo, tmp_path):
    boxes = tmp_path / "boxes.json"
    people = [{"bbox": [5, 5, 30, 50], "file_name": "photo.png", "score": s} for s in (0.9, 0.5)]
    boxes.write_text(json.dumps(people))
    rows = predict(photo, tmp_path / "out", tmp_path, boxes=str(boxes))
    assert [row["scores"] for row in rows] == [0.9, 0.5]
    drawn = cv2.imread(str(tmp_path / "out/overlays/photo.jpg"))
    assert drawn.shape == (360, 480 + 4 * (360 + 4), 3)


class Photo:
    is_video = False

    def __init__(self, size):
        self.size = size

    def read_frame(self, image_id):
        return np.full((*self.size[::-1], 3), 90, np.uint8)


def painted(size, boxes, is_video=False):
    """A picture of people in boxes, the first one the most confident."""
    count, photo = len(boxes), Photo(size)
    photo.is_video = is_video
    poses = np.random.default_rng(0).normal(0, 0.4, (count, 17, 3))
    rows = {"image_id": np.zeros(count), "scores": -np.arange(count), "boxes": np.array(boxes), "joints3d": poses}
    return PosePanelWriter("out")._paint(photo, 0, rows, SimpleNamespace(skeleton=LIMB17))


def has(picture, color):
    return (np.abs(picture.astype(int) - color).max(-1) < 8).sum() > 20


def test_boxes_and_panels_of_several_people_belong_together():
    drawn = painted((600, 400), [[50.0 + 100 * k, 50, 80, 300] for k in range(5)])
    assert drawn.shape == (400, 600 + 6 * 404, 3)
    for person in range(3):
        color, left = track_color(person + 1), 600 + person * 808
        assert has(drawn[45:355, 45 + 100 * person : 135 + 100 * person], color)
        assert has(drawn[:30, left : left + 404], color)
        assert has(drawn[:30, left + 404 : left + 808], color)
    assert (drawn[100:300, 345:600] == 90).all()  # the others
    assert has(drawn[380:, :150], (235, 235, 235))  # says how many there are
    alone = painted((600, 400), [[0.0, 0, 600, 400]])
    assert (alone[:, :600] == 90).all()
    assert has(painted((600, 400), [[50.0, 50, 80, 300]] * 2, is_video=True)[380:, :150], (235, 235, 235))


def test_panels_beside_a_low_picture_can_be_seen():
    assert painted((600, 40), [[0.0, 0, 600, 40]]).shape == (256, 600 + 2 * 260, 3)
    assert painted((600, 40), [[0.0, 0, 600, 40]], is_video=True).shape == (40, 600 + 2 * 44, 3)


def test_a_video_becomes_a_video_of_one_size(tmp_path):
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (80, 60))
    for level in (30, 120, 200):
        writer.write(np.full((60, 80, 3), level, np.uint8))
    writer.release()
    rows = predict(path, tmp_path / "out", tmp_path)
    assert sorted(row["frame"] for row in rows) == [0, 1, 2]
    film = cv2.VideoCapture(str(tmp_path / "out/overlay.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 80 + 2 * 64
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_validations_leave_pictures(tmp_path):
    stages = [{"name": "pose", "steps": 1, "poses": 4}, {"name": "source", "steps": 1}]
    trainer = make_trainer(tmp_path, logger=CSVLogger(tmp_path, name="", version="run"))
    trainer.fit(make_model(stages), datamodule=make_data(epoch_steps=1))
    names = sorted(path.name for path in (tmp_path / "run/previews").glob("*.png"))
    last = [f"val_0000002_{stream}.png" for stream in ("motion", "source", "target")]  # the end is judged as a whole
    assert names == ["val_0000001_motion.png", *last]
    rows, columns = cv2.imread(str(tmp_path / "run/previews/val_0000002_target.png")).shape[:2]
    assert rows > 4 * 150
    assert columns > 5 * 150
    sheet = cv2.imread(str(tmp_path / "run/previews/val_0000002_target.png"))
    for tile in range(5):  # input, result and truth, each from two sides
        assert has(sheet[4:20, 4 + 164 * tile : 40 + 164 * tile], (235, 235, 235))


@pytest.mark.parametrize("page", ["docs/prediction.md", "posekit_nlrd/README.md"])
def test_the_documented_prediction_is_that_of_a_trainer(photo, page, tmp_path, monkeypatch):
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL) if "NLRD" in c]
    model, trainer = make_model(["pose"]), make_trainer(tmp_path)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    monkeypatch.chdir(tmp_path)
    space = {"image": read_image(photo), "boxes": [[5, 5, 30, 50], [20, 10, 40, 40]]}
    exec(code, space)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"bbox": box, "file_name": "photo.png"} for box in space["boxes"]]))
    data = ImageSource(str(photo), image_size=(48, 48), boxes=str(boxes))
    (found,) = trainer.predict(model, datamodule=data)
    assert space["people"].keys() == found.keys()
    for name in ("joints3d", "boxes", "scores", "image_id"):
        torch.testing.assert_close(space["people"][name], found[name])


def test_predict_takes_what_other_methods_do():
    model, picture = make_model(["pose"]), np.full((60, 80, 3), 90, np.uint8)
    model.networks.image.eval()
    modes = [part.training for part in model.modules()]
    assert model.predict(picture)["boxes"].tolist() == [[0.0, 0.0, 80.0, 60.0]]
    assert model.predict(picture, torch.tensor([5.0, 6, 7, 8]))["joints3d"].shape == (1, 17, 3)
    assert model.predict(picture, [])["joints3d"].shape == (0, 17, 3)
    assert [part.training for part in model.modules()] == modes
    with pytest.raises(UserError, match="not the file name"):
        model.predict("photo.jpg")
    with pytest.raises(UserError, match="box 0 is"):
        model.predict(picture, [[5, 5, 0, 10]])


def test_data_without_a_joint_set_are_not_judged(tmp_path):
    loader = make_data().part("test").val_dataloader()
    with pytest.raises(UserError, match="NLRD judges data whose joint set it knows"):
        make_trainer(tmp_path).validate(make_model(["pose"]), loader)
