"""Prediction in 3D from pictures and videos: files, overlays, meshes, and the benchmark's counts."""

import json
import types

import cv2
import numpy as np
import pytest
import torch
import yaml

from posekit.callbacks import PredictionWriter3D
from posekit.callbacks.writer3d import about_image_center
from posekit.cli import main
from posekit.data import VideoClips
from posekit.errors import UserError
from posekit.skeletons import SPIN49
from posekit_maed import MAED


def test_moved_meshes_project_to_the_same_pixels():
    rng = np.random.default_rng(0)
    vertices = rng.normal(0, 1, (2, 5, 3)) + np.array([0, 0, 9])
    focal, center = np.array([500.0, 700.0]), np.array([[10.0, 20.0], [90.0, 5.0]])
    moved = about_image_center(vertices, focal, center, (48, 64))
    before = vertices[..., :2] / vertices[..., 2:] * focal[:, None, None] + center[:, None]
    after = moved[..., :2] / moved[..., 2:] * focal[:, None, None] + [31.5, 23.5]
    np.testing.assert_allclose(after, before, atol=1e-9)
    np.testing.assert_array_equal(moved[..., 2], vertices[..., 2])


class Source:
    """A video of black frames."""

    is_video, fps = False, None

    def __init__(self):
        self.frames = {0: "v#0", 1: "v#1"}

    def read_frame(self, image_id):
        return np.zeros((40, 50, 3), np.uint8)


def rows(count, mesh):
    answer = {
        "joints3d": torch.zeros(count, 49, 3),
        "scores": torch.ones(count),
        "frame": torch.arange(count),
        "image_id": torch.arange(count),
        "sample_id": torch.zeros(count, dtype=torch.int64),
        "keypoints": torch.rand(count, 49, 3) * 30,
    }
    if mesh:
        corners = torch.tensor([[-0.5, -0.5, 5.0], [0.5, -0.5, 5.0], [0.0, 0.5, 5.0]])
        answer |= {"vertices": corners.expand(count, 3, 3).clone(), "focal": torch.full((count,), 100.0)}
    return answer


@pytest.fixture
def write(tmp_path):
    def run(batches, skeleton=None, **options):
        writer = PredictionWriter3D(str(tmp_path / "out"), **options)
        trainer = types.SimpleNamespace(datamodule=Source(), global_rank=0, world_size=1, is_global_zero=True)
        module = types.SimpleNamespace(mesh_faces=np.array([[0, 2, 1]]), skeleton=skeleton)
        writer.on_predict_start(trainer, module)
        for batch in batches:
            writer.on_predict_batch_end(trainer, module, batch, None, 0)
        writer.on_predict_end(trainer, module)
        return tmp_path / "out"

    return run


def test_rows_overlays_and_meshes(write):
    once = rows(2, mesh=True)
    folder = write([once, {n: v.clone() for n, v in once.items()}], meshes="obj")  # windows overlap
    entries = json.loads((folder / "results.json").read_text())
    assert [entry["frame"] for entry in entries] == [0, 1]
    with np.load(folder / "results.npz") as archive:
        assert archive["joints3d"].shape == (2, 49, 3)
        assert "vertices" not in archive.files
    assert sorted(p.name for p in (folder / "meshes").iterdir()) == [
        "person_0_frame_000000.obj",
        "person_0_frame_000001.obj",
    ]
    picture = cv2.imread(str(next((folder / "overlays").glob("*.jpg"))))
    assert picture.shape == (400, 500, 3)  # a small picture is enlarged
    assert picture[195, 245].max() > 60  # the triangle
    assert picture[25, 25].max() < 20
    rows_of, columns = np.nonzero(picture.max(-1) > 60)
    assert abs(columns.min() - 150) + abs(columns.max() - 349) + abs(rows_of.min() - 100) < 9
    assert json.loads((folder / "images.json").read_text()) == {"0": "v#0", "1": "v#1"}


def test_files_name_the_joints(write):
    folder = write([rows(2, mesh=False)], skeleton=SPIN49)
    with np.load(folder / "results.npz") as archive:
        assert (str(archive["skeleton"]), tuple(archive["joints"])) == ("SPIN49", SPIN49.joints)
    assert [row["skeleton"] for row in json.loads((folder / "results.json").read_text())] == ["SPIN49"] * 2


def test_nobody_found_writes_empty_files(write):
    folder = write([], skeleton=SPIN49)
    assert json.loads((folder / "results.json").read_text()) == []


def test_wrong_predictions_are_one_line(write):
    with pytest.raises(UserError, match="PredictionWriter3D"):
        write([{"keypoints": torch.zeros(1, 17, 3)}])
    with pytest.raises(UserError, match="predicts no mesh"):
        write([rows(1, mesh=False)], meshes="glb")
    with pytest.raises(UserError, match="glb"):
        PredictionWriter3D(meshes="ply")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import lightning

    from tests.maed.conftest import SMALL

    torch.manual_seed(0)
    module = MAED(**{**SMALL, "max_frames": 3})
    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.strategy.connect(module)
    path = tmp_path_factory.mktemp("maed") / "a.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    return path


def test_predict_command_on_a_video_and_a_picture(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60)) for _ in range(4)]
    video = cv2.VideoWriter("v.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (80, 60))
    for frame in frames:
        video.write(frame)
    video.release()
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    main(
        ["predict", "--ckpt_path", str(checkpoint), "--input", "v.mp4", "--output", "video", "--meshes", "glb", *quiet]
    )
    with np.load("video/results.npz") as archive:
        assert archive["frame"].tolist() == [0, 1, 2, 3]
        assert archive["body_pose"].shape == (4, 24, 3)
        assert archive["body_camera"].shape == (4, 3)
    assert (tmp_path / "video/overlay.mp4").stat().st_size > 0
    assert (tmp_path / "video/meshes/person_0.glb").read_bytes()[:4] == b"glTF"
    cv2.imwrite("p.jpg", frames[0])
    main(["predict", "--ckpt_path", str(checkpoint), "--input", "p.jpg", "--output", "picture", *quiet])
    assert len(json.loads((tmp_path / "picture/results.json").read_text())) == 1
    assert list((tmp_path / "picture/overlays").glob("*.jpg"))


def test_animations_of_several_videos_run_at_their_own_rates(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for name, rate in (("a", 10), ("b", 50)):
        video = cv2.VideoWriter(f"videos/{name}.mp4", cv2.VideoWriter.fourcc(*"mp4v"), rate, (80, 60))
        for frame in range(3):
            video.write(np.full((60, 80, 3), 60 * frame, np.uint8))
        video.release()
    words = ["--input", "videos", "--output", "out", "--meshes", "glb", "--trainer.callbacks.overlays=false"]
    main(["predict", "--ckpt_path", str(checkpoint), *words, "--trainer.accelerator=cpu"])
    for person, rate in enumerate((10, 50)):
        content = (tmp_path / f"out/meshes/person_{person}.glb").read_bytes()
        scene = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
        ends = [scene["accessors"][s["input"]]["max"][0] for s in scene["animations"][0]["samplers"]]
        np.testing.assert_allclose(ends, np.arange(1, 4) / rate, atol=1e-6)
    assert "no frame rate" not in capsys.readouterr().out


def test_a_run_s_config_does_not_hide_what_its_fit_has_learned(checkpoint, tmp_path, monkeypatch):
    content = torch.load(checkpoint, weights_only=True)
    given = dict(content["hyper_parameters"])
    content["posekit"]["learned"] = {"clip_box": "window", "box_scale": 1.4}
    torch.save(content, tmp_path / "a.ckpt")
    arguments = {k: v for k, v in given.items() if not k.startswith("_")} | {"clip_box": None, "box_scale": 1.1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"class_path": "MAED", "init_args": arguments}}))
    cv2.imwrite(str(tmp_path / "p.jpg"), np.full((60, 80, 3), 90, np.uint8))
    seen = []
    monkeypatch.setattr(VideoClips, "adapt_to", lambda self, method: seen.append((method.clip_box, method.box_scale)))
    monkeypatch.chdir(tmp_path)
    main(["predict", "--config", "config.yaml", "--ckpt_path", "a.ckpt", "--input", "p.jpg", "--output", "out"])
    assert seen == [("window", 1.1)]


def test_predict_in_python_answers_as_the_command_does(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (80, 60)) for _ in range(5)]
    (tmp_path / "video").mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(f"video/{number:03d}.png", frame[..., ::-1])
    boxes = [[5.0 + k, 4, 30, 50] for k in range(5)]
    (tmp_path / "boxes.json").write_text(
        json.dumps([{"frame": k, "bbox": box, "track": 1} for k, box in enumerate(boxes)])
    )
    words = ["--input", "video", "--boxes", "boxes.json", "--output", "out", "--trainer.callbacks.overlays=false"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    main(["predict", "--ckpt_path", str(checkpoint), *words, *quiet])
    model = MAED.load_from_checkpoint(checkpoint).train()
    found = model.predict(np.stack(frames), boxes)
    assert model.training
    assert found["frame"].tolist() == [0, 1, 2, 3, 4]
    assert not found["vertices"].requires_grad
    with np.load(tmp_path / "out/results.npz") as archive:
        for name in ("body_pose", "joints3d", "keypoints", "focal"):
            np.testing.assert_allclose(found[name].numpy(), archive[name], rtol=1e-4, atol=1e-3, err_msg=name)
    assert len(model.predict(frames[:1])["scores"]) == 1
    for mistake, text in (
        ((frames, boxes[:2]), r"boxes must be \(5, 4\)"),
        (([frames[0], frames[1][:-2]], None), "frames must be of one size, as those of a video are, not "),
        ((frames, [[0, 0, 0, 5]] * 5), "above 0"),
        (([],), "there is none"),
        ((["a.jpg"],), "picture"),
        ((frames, [*boxes[:4], [1, 2]]), r"boxes must be .*: box 4 is \[1, 2\]"),
        ((frames, [*boxes[:4], [1, 2, np.inf, 4]]), r"box 4 is \[1\.0, 2\.0, inf, 4\.0\]"),
        ((frames[0],), r"frames \(T, H, W, 3\) .*, not uint8 of shape \(60, 80, 3\): give a list of this one"),
    ):
        with pytest.raises(UserError, match=text):
            model.predict(*mistake)


def test_a_moving_person_is_cut_out_by_each_frame_s_own_box(checkpoint, monkeypatch):
    model = MAED.load_from_checkpoint(checkpoint)
    seen = []
    step = model.predict_step
    monkeypatch.setattr(model, "predict_step", lambda batch, number: seen.append(batch) or step(batch, number))
    frames = [np.zeros((60, 400, 3), np.uint8)] * 3
    boxes = np.array([[10.0 + 100 * k, 5, 30, 50] for k in range(3)])
    monkeypatch.setattr("posekit.data.one_person.SMOOTH", 1)
    found = model.predict(frames, boxes)
    (batch,) = seen
    width, height = model.image_size
    middle = torch.from_numpy(boxes[:, :2] + boxes[:, 2:] / 2).float()
    in_crop = torch.einsum("nij,nj->ni", batch["affine"][0], torch.cat([middle, torch.ones(3, 1)], 1))
    torch.testing.assert_close(in_crop, torch.tensor([(width - 1) / 2, (height - 1) / 2]).expand(3, 2))
    # Joints of the placed mesh, seen by each frame's camera, are the joints in its picture.
    torch.testing.assert_close(found["center"], middle, atol=1e-3, rtol=0)
    regressor = dict(model.body.named_buffers())["_regressor_SPIN49"]
    placed = regressor @ found["vertices"]
    pixels = placed[..., :2] / placed[..., 2:] * found["focal"][:, None, None] + found["center"][:, None]
    torch.testing.assert_close(pixels[:, 25:37], found["keypoints"][:, 25:37, :2], atol=0.1, rtol=0)


def test_rows_name_the_given_tracks_and_videos(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes = []
    for video, people in (("a", ("anna", "ben")), ("b", (7,))):
        (tmp_path / "videos" / video).mkdir(parents=True)
        for frame in range(3):
            cv2.imwrite(f"videos/{video}/{frame:03d}.png", np.full((60, 80, 3), 40 * frame, np.uint8))
            boxes += [
                {"video": video, "frame": frame, "bbox": [5 + 30 * place, 5, 30, 50], "track": person}
                for place, person in enumerate(people)
            ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = ["--input", "videos", "--boxes", "boxes.json", "--output", "out", "--trainer.callbacks.overlays=false"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    main(["predict", "--ckpt_path", str(checkpoint), *words, *quiet])
    entries = json.loads((tmp_path / "out/results.json").read_text())
    found = {(entry["sample_id"], entry["video"], entry["person"]) for entry in entries}
    assert {who[1:] for who in found} == {("a", "anna"), ("a", "ben"), ("b", "7")}
    assert len(found) == 3
    assert len(entries) == 9
    with np.load(tmp_path / "out/results.npz") as archive:
        assert archive["person"].tolist() == [entry["person"] for entry in entries]
    tracks = json.loads((tmp_path / "out/tracks.json").read_text())
    assert {(int(key), who["video"], who["person"]) for key, who in tracks.items()} == found
