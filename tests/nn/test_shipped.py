"""The weights that come with the package."""

import json

import pytest
import torch

from posekit.cli import main
from posekit.errors import UserError
from posekit.nn import shipped
from posekit_hdm import HDM


def test_starter_loads_whole_and_is_small():
    record = shipped.shipped_weights("starter")
    model = HDM(**record["model"]["init_args"], init_from="starter")
    assert (shipped.ASSETS / "starter.safetensors").stat().st_size < 3e6
    assert all(torch.isfinite(p).all() for p in model.parameters())
    fresh = HDM(**record["model"]["init_args"])
    assert not torch.equal(fresh.network.final_layer.weight, model.network.final_layer.weight)


def test_starter_finds_drawn_people():
    from posekit.data import SyntheticPeople

    data = SyntheticPeople(val_size=48, val_batch_size=48, num_render_workers=1)
    batch = next(iter(data.loader("val")))
    model = HDM(**shipped.shipped_weights("starter")["model"]["init_args"], init_from="starter").eval()
    with torch.inference_mode():
        points, _ = model.infer(batch["image"])
    errors = (points - batch["keypoints"]).norm(dim=-1)[batch["visible"] == 2]
    assert errors.median() < 4  # px of a 96 x 128 crop; an untrained network has about 40


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ASSETS", tmp_path)
    (tmp_path / "starter.safetensors").write_bytes(b"damaged")
    (tmp_path / "starter.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(UserError, match="damaged"):
        shipped.weight_path("starter")
    with pytest.raises(UserError, match="starter"):
        shipped.shipped_weights("startr")


def test_predict_without_a_model_uses_it_and_says_so(mini_coco, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["predict", "--input", str(next(mini_coco.rglob("*.jpg"))), "--output", "out"])
    assert "drawn people only" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1
