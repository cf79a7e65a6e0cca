"""A user's mistakes with data and predictions: one line on stderr, exit code not 0, nothing half-written."""

import json
import shutil
from typing import Literal

import numpy as np
import pytest

from posekit.cli import main
from posekit.cli.build import build_from_config
from posekit.configs import shipped_configs

from .test_run import refused
from .toys import Toy

TINY = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--data.batch_size=2"]


@pytest.fixture
def coco(mini_coco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(mini_coco, tmp_path / "coco")


def fit(capsys, root):
    config = str(shipped_configs()["hdm/coco_mini.yaml"])
    return refused(capsys, "fit", "--config", config, "--data.root", str(root), *TINY)


def edit(root, change):
    path = root / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_missing_root(coco, capsys):
    assert "nowhere" in fit(capsys, coco / "nowhere")


def test_missing_and_truncated_json(coco, capsys):
    path = coco / "annotations" / "person_keypoints_val2017.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert path.name in fit(capsys, coco)
    path.unlink()
    assert path.name in fit(capsys, coco)


def test_absent_and_broken_image(coco, capsys):
    image = coco / "train2017" / "000000000000.jpg"
    image.write_bytes(image.read_bytes()[:200])
    assert image.name in fit(capsys, coco)
    image.unlink()
    assert image.name in fit(capsys, coco)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: [a.pop("keypoints") for a in c["annotations"]], "no person with keypoints"),
        (lambda c: c["annotations"][0].update(keypoints=[0, 1, 2]), "51"),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 10]), "box of zero size"),
        (lambda c: c["annotations"].clear(), "no"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan")), "annotation"),
    ],
    ids=["without_keypoints", "wrong_length", "zero_box", "no_people", "nan"],
)
def test_faulty_annotations(coco, capsys, change, text):
    edit(coco, change)
    assert text in fit(capsys, coco)
    assert not list(coco.parent.glob("runs/*/*/checkpoints/*"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, mini_coco):
    folder = tmp_path_factory.mktemp("run")
    config = str(shipped_configs()["hdm/coco_mini.yaml"])
    words = [*TINY, "--trainer.default_root_dir", str(folder), "--trainer.check_val_every_n_epoch=1"]
    main(["fit", "--config", config, "--data.root", str(mini_coco), *words])
    return next(folder.rglob("best.ckpt"))


def test_predict_refuses_what_is_no_picture(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (text, empty, tmp_path / "nothing"):
        line = refused(capsys, "predict", "--ckpt_path", str(checkpoint), "--input", str(source), "--output", "out")
        assert source.name in line
        assert not (tmp_path / "out" / "results.json").exists()


def test_predict_writes_coco_results_and_overlays(checkpoint, mini_coco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes = tmp_path / "boxes.json"
    name = "000000000001.jpg"
    boxes.write_text(json.dumps([{"file_name": name, "bbox": [50, 30, 120, 200], "score": 0.5}] * 2))
    words = ["--ckpt_path", str(checkpoint), "--boxes", str(boxes), "--output", "out"]
    main(["predict", *words, "--input", str(mini_coco / "val2017")])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results) == 2
    assert np.isfinite(results[0]["keypoints"]).all()
    assert len(results[0]["keypoints"]) == 51
    assert [p.name for p in (tmp_path / "out" / "overlays").iterdir()] == [name]


def test_predict_on_a_video_writes_a_video(checkpoint, tmp_path, monkeypatch):
    import cv2

    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("film.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for level in range(0, 250, 50):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    main(["predict", "--ckpt_path", str(checkpoint), "--input", "film.mp4", "--output", "out"])
    film = cv2.VideoCapture("out/overlay.mp4")
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 5


def test_notebook_helper(checkpoint):
    from posekit_hdm import HDM

    model = HDM.load_from_checkpoint(checkpoint)
    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    found = model.predict(image, [[20, 30, 100, 150], [0, 0, 50, 50]])
    assert found["keypoints"].shape == (2, 17, 3)
    assert model.predict(image)["keypoints"].shape == (1, 17, 3)
    assert model.predict(image, np.zeros((0, 4)))["keypoints"].shape == (0, 17, 3)
    assert model.image_size == (96, 128)


@pytest.mark.parametrize(("words", "text"), [
    (["--config", "hdm/coco_mini", "--data.root", "null"], "data.root must be str, not null"),
    (["--config", "quickstart", "--data.train_size", "null"], "data.train_size must be int, not null"),
    (["--config", "quickstart", "--data.batch_size", "null"], "data.batch_size must be int, not null"),
    (["--config", "quickstart", "--data.view", "null"], "data.view must be str, not null"),
    (["--config", "quickstart", "--model.backbone", "null"], "model.backbone must be str, not null"),
    (["--model", "MAED", "--data", "Human36M", "--data.root", "null"], "data.root must be "),
    (["--config", "nlrd/synthetic_small", "--data.target", "{class_path: VideoClips, init_args: {source: null}}"],
     "data: target: source must be given"),
])  # fmt: skip
def test_a_blank_value_is_named(capsys, words, text):
    assert text in refused(capsys, "fit", *words)


def test_a_blank_value_of_a_config_is_named(tmp_path, capsys):
    path = tmp_path / "blank.yaml"
    path.write_text("model:\n  class_path: HDM\ndata:\n  class_path: COCOKeypoints\n  init_args:\n    root:\n")
    assert "data.root must be str, not null (a blank value, or ~, is null)" in refused(capsys, "fit", "-c", str(path))
    path.write_text("model:\n  class_path: HDM\n  init_args:\ndata:\n  class_path: SyntheticPeople\n")
    assert "blank.yaml: model.init_args must hold the class's options, not None" in refused(
        capsys, "fit", "-c", str(path)
    )


class Nullable(Toy):
    def __init__(self, mode: Literal["x", None] = "x", other: int | None = 1, **kwargs):
        super().__init__(**kwargs)


def make_toy(mode: str | None = "x", width: int = 3) -> Toy:
    return Toy(width=width)


@pytest.mark.parametrize("name", ["Nullable", "make_toy"])
def test_hints_of_null_are_read(name, config, capsys):
    words = ["--config", str(config), f"--model=tests.cli.test_bad_input.{name}", "--model.mode=null"]
    build_from_config(words)
    assert "model.width must be int, not null" in refused(capsys, "fit", *words, "--model.width=null")


def test_values_that_may_be_null_are_taken():
    build_from_config(["--config", "quickstart", "--data.val_batch_size", "null", "--model.init_from", "null"])
