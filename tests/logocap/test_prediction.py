"""The command line's prediction: the pictures as the method itself makes inputs of them."""

import json

import cv2
import lightning
import numpy as np
import pytest
import torch

from posekit.cli import main
from posekit.data import ImageSource
from posekit.errors import UserError
from tests.cli.test_run import refused

from .test_module import lively

SIZES = ((60, 160), (90, 70), (60, 160), (50, 50))  # neither square nor alike


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "photos"
    path.mkdir()
    for number, size in enumerate(SIZES):
        cv2.imwrite(str(path / f"{number}.png"), rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    return path


def pictures(folder):
    return [cv2.imread(str(path))[..., ::-1].copy() for path in sorted(folder.iterdir())]


def trainer(folder):
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, default_root_dir=folder
    )


@pytest.mark.parametrize("mapping", ["legacy", "half_pixel"])
def test_a_source_gives_what_predict_takes(make, folder, tmp_path, mapping):
    module = lively(make(centre_threshold=0.0, image_size=[64, 64], mapping=mapping))
    expected = module.predict(pictures(folder))
    assert len(expected["scores"]) > len(SIZES)
    source = ImageSource(str(folder))
    found = trainer(tmp_path).predict(module, datamodule=source)
    assert source.view == "scenes"
    for name in ("image_id", "initial", "keypoints", "scores"):
        joined = torch.cat([batch[name] for batch in found])
        torch.testing.assert_close(joined, expected[name], atol=1e-2, rtol=1e-3)


def test_the_command_line_gives_what_predict_gives(make, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    module = lively(make(centre_threshold=0.0, image_size=[64, 64]))
    runner = trainer(tmp_path)
    runner.strategy.connect(module)
    runner.save_checkpoint("best.ckpt", weights_only=True)
    words = ["predict", "--ckpt_path", "best.ckpt", "--input", "photos", "--output", "out"]
    words += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main(words)
    expected = module.predict(pictures(folder))
    rows = json.loads((tmp_path / "out/results.json").read_text())
    assert [row["image_id"] for row in rows] == expected["image_id"].tolist()
    joints = torch.tensor([row["keypoints"] for row in rows]).view(-1, 17, 3)
    torch.testing.assert_close(joints, expected["keypoints"], atol=1e-2, rtol=1e-3)
    assert len(list((tmp_path / "out/overlays").iterdir())) == len(SIZES)
    capsys.readouterr()
    (tmp_path / "boxes.json").write_text(json.dumps([{"file_name": "0.png", "bbox": [0, 0, 9, 9]}]))
    text = refused(capsys, *words, "--boxes", "boxes.json")
    assert "LogoCap finds people in whole pictures and needs no boxes: leave out --boxes boxes.json" in text


def test_a_picture_that_breaks_during_the_run_is_left_out(make, folder):
    module = lively(make(centre_threshold=0.0, image_size=[64, 64]))
    source = ImageSource(str(folder), on_broken_image="skip", batch_size=1)
    source.adapt_to(module)
    source.setup("predict")
    (folder / "1.png").write_bytes(b"")
    with torch.inference_mode():
        counts = [len(module.predict_step(batch, 0)["image_id"].unique()) for batch in source.predict_dataloader()]
    assert counts == [1, 0, 1, 1]
    with pytest.raises(UserError, match="needs no boxes"):
        ImageSource(str(folder), boxes="boxes.json").adapt_to(module)
