"""Prediction on a video from the command line, and its pictures: tracks and interim poses."""

import json

import cv2
import numpy as np
import pytest
import torch

from posekit.cli import main
from posekit.errors import UserError
from posekit.module import CHECKPOINT_KEY
from posekit.visualization import TrackPainter, draw_interim, interim_figure
from posekit.visualization.tracks import LINE, MARK, NEXT, PREVIOUS, track_color
from posekit_tip import TIP

SIZE = (96, 80)


def near(picture, color):
    """Whether a pixel has a colour, as far as smooth edges let it."""
    return (np.abs(picture.astype(int) - color).max(-1) < 60).any()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    module = TIP(
        backbone="small", backbone_options={"widths": [8] * 5}, group_channels=4, image_size=[48, 64], sigma=1.0
    )
    path = tmp_path_factory.mktemp("tip") / "tip.ckpt"
    torch.save(
        {
            "state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams),
            "pytorch-lightning_version": "2.6.0", CHECKPOINT_KEY: {"class_path": "posekit_tip.module.TIP"},
        },
        path,
    )  # fmt: skip
    return path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "walk.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, SIZE)
    boxes = []
    for frame in range(11):
        picture = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
        for person in range(2):
            box = [5 + 4 * frame, 10 + 20 * person, 20, 40]
            cv2.rectangle(picture, box[:2], (box[0] + 20, box[1] + 40), (200, 100, 50 * person), -1)
            boxes.append({"bbox": box, "frame": frame, "track": person, "score": 0.9})
        writer.write(picture)
    writer.release()
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    return path


def test_predict_on_a_video_draws_tracks_and_interim_poses(checkpoint, video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["predict", "--ckpt_path", str(checkpoint), "--input", str(video), "--boxes", "boxes.json"]
    main([*words, "--output", "out", "--model.interim=true", "--trainer.enable_progress_bar=false"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert len(results) == 22
    assert {r["image_id"] for r in results} == set(range(11))
    for name in ("overlay", "interim"):
        capture = cv2.VideoCapture(str(tmp_path / f"out/{name}.mp4"))
        assert sum(capture.read()[0] for _ in range(12)) == 11
    main([*words, "--output", "plain", "--trainer.enable_progress_bar=false"])
    assert not (tmp_path / "plain/interim.mp4").exists()


def test_predict_in_python_answers_as_the_command_does(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), SIZE) for _ in range(5)]
    (tmp_path / "video").mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(f"video/{number:03d}.png", frame[..., ::-1])
    boxes = [[5.0 + 3 * k, 4, 30, 50] for k in range(5)]
    entries = [{"frame": k, "bbox": box, "track": 1} for k, box in enumerate(boxes)]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    words = ["--input", "video", "--boxes", "boxes.json", "--output", "out", "--trainer.callbacks.overlays=false"]
    main(["predict", "--ckpt_path", str(checkpoint), *words, "--trainer.enable_progress_bar=false"])
    model = TIP.load_from_checkpoint(checkpoint).train()
    found = model.predict(np.stack(frames), boxes)
    assert model.training
    assert found["image_id"].tolist() == found["sample_id"].tolist() == [0, 1, 2, 3, 4]
    rows = sorted(json.loads((tmp_path / "out/results.json").read_text()), key=lambda row: row["image_id"])
    written = np.array([row["keypoints"] for row in rows]).reshape(5, -1, 3)
    np.testing.assert_allclose(found["keypoints"][..., :2].numpy(), written[..., :2], atol=0.02)
    alone = model.predict(frames[2:3], boxes[2:3])["keypoints"]
    assert not torch.allclose(alone[0], found["keypoints"][2], atol=1e-3)  # neighbours count
    with pytest.raises(UserError, match=r"boxes must be \(5, 4\)"):
        model.predict(frames, boxes[:2])


def test_tracks_keep_their_colours_and_paths():
    boxes = np.array([[10.0, 10, 20, 40], [34, 10, 20, 50], [60, 5, 20, 40]])
    rows = {"track_id": np.array([3, 3, 8]), "image_id": np.array([5, 6, 6]), "boxes": boxes}
    black = np.zeros((80, 96, 3), np.uint8)
    painter = TrackPainter(rows, [5, 6, 7])
    first, second, empty = (painter.paint(black, image) for image in (5, 6, 7))
    assert not black.any()
    assert not empty.any()

    def colors(picture):
        return {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}

    assert track_color(3) in colors(first)
    assert track_color(8) not in colors(first)
    assert {track_color(3), track_color(8)} <= colors(second)
    # The path leads from the foot of the first box, (20, 50), to that of the next, (44, 60).
    assert near(second[53:58, 29:33], track_color(3))
    assert not first[53:58, 29:33].any()


def test_tracks_and_arrows_are_drawn_where_they_are_in_very_wide_frames():
    black = np.zeros((80, 12000, 3), np.uint8)
    boxes = np.array([[11700.0, 10, 40, 50], [11740, 10, 40, 50]])
    rows = {"track_id": np.array([3, 3]), "image_id": np.array([5, 6]), "boxes": boxes}
    columns = np.argwhere(TrackPainter(rows, [5, 6]).paint(black, 6).any(-1))[:, 1]
    assert columns.min() > 11700
    assert columns.max() < 11800
    drawn = draw_interim(black, [[[11700, 40], [11760, 40]]], [[[11730.0, 40]]], zoom=2)
    columns = np.argwhere(drawn.any(-1))[:, 1]
    assert columns.min() > 11680
    assert columns.max() < 11780
    for x in (11712, 11730, 11750):
        assert near(drawn[38:43, x - 1 : x + 2], LINE)
    assert near(drawn[33:37, 11750:11760], LINE)  # the arrow's tip


def test_tracks_follow_an_enlarged_picture():
    rows = {"track_id": np.array([3]), "image_id": np.array([5]), "boxes": np.array([[10.0, 10, 5, 6]])}
    places = np.argwhere(TrackPainter(rows, [5]).paint(np.zeros((200, 200, 3), np.uint8), 5, 4).any(-1))
    assert abs(places.max(0) - [65.5, 61.5]).max() < 3


def test_interim_poses_have_the_figures_colours():
    black = np.zeros((100, 100, 3), np.uint8)
    ends = np.array([[[20.0, 50], [80, 50]], [[30.0, 20], [30.2, 20]]])
    interim = np.array([[[35.0, 50], [50, 50], [65, 50]], [[30.0, 20]] * 3])
    drawn = draw_interim(black, ends, interim, zoom=2)
    assert drawn.shape == black.shape
    assert not black.any()
    for point in ((35, 50), (50, 50), (65, 50)):
        assert tuple(drawn[point[1], point[0]].tolist()) == LINE
    assert near(drawn[43:58, 12:28], PREVIOUS)
    assert near(drawn[43:58, 72:88], NEXT)
    assert not drawn[10:31].any()  # a joint that does not move has no arrow


def test_the_figure_enlarges_what_moves_most():
    grey = np.full((120, 160, 3), 40, np.uint8)
    ends = np.zeros((1, 3, 2, 2))
    ends[0, :, 0] = [[30, 30], [100, 60], [140, 100]]
    ends[0, :, 1] = [[42, 30], [100, 61], [140, 110]]
    interim = ends.mean(2, keepdims=True).repeat(3, 2)
    figure = interim_figure(grey, ends, interim, boxes=2)
    assert figure.shape == (120, 160 + 60, 3)
    assert (figure[:, :160] == MARK).all(-1).any()
    assert near(figure[:60, 160:], LINE)
    assert near(figure[60:, 160:], LINE)
    nobody = interim_figure(grey, np.zeros((0, 3, 2, 2)), np.zeros((0, 3, 3, 2)))
    assert (nobody[:, :160] == 40).all()
