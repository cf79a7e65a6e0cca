"""Every shipped config goes through fit, validate and predict at the smallest size."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import posekit.data
from posekit.cli import main
from posekit.cli.run import build_from_config
from posekit.configs import shipped_configs
from posekit.data.clip_transforms import ClipAugmentation
from posekit.data.clip_windows import Window
from tests.small_configs import Roots, learns_from_pictures, shrink

CONFIGS = {name: path for name, path in shipped_configs().items() if not name.startswith("tables/")}
# Networks of full size, or hundreds of frames: slow on a CPU.
BIG = ("w32", "w48", "resnet", "maed/stage", "surreal", "h36m", "official")


def params():
    marks = {True: pytest.mark.slow, False: ()}
    return [pytest.param(name, marks=marks[any(b in name for b in BIG)]) for name in CONFIGS]


@pytest.mark.parametrize("name", params())
def test_config_fits_validates_and_predicts(name, tmp_path, monkeypatch, caplog, mini_coco, mini_mpii):
    monkeypatch.chdir(tmp_path)
    config = shrink(yaml.safe_load(CONFIGS[name].read_text()), Roots(tmp_path, mini_coco, mini_mpii))
    path = tmp_path / CONFIGS[name].name
    path.write_text(yaml.safe_dump(config))
    with caplog.at_level("INFO"):
        main(["fit", "--config", str(path)])
    run = next(Path("runs").iterdir()) / "version_0"
    checkpoint = str(run / "checkpoints" / "best.ckpt")
    assert (run / "results.json").is_file()
    main(["validate", "--config", str(path), "--ckpt_path", checkpoint])
    if not learns_from_pictures(config):
        return
    previews = [str(picture) for picture in sorted((run / "previews").glob("*.png"))]
    assert previews
    if name.startswith(("hdm", "quickstart", "logocap")):
        assert f"picture of predictions: {previews[-1]}" in caplog.messages
    photo = next(mini_coco.rglob("*.jpg"))
    words = ["--input", str(photo), "--output", "out", "--trainer.enable_progress_bar=false"]
    main(["predict", "--ckpt_path", checkpoint, *words])
    assert Path("out/results.json").is_file()
    assert list(Path("out/overlays").glob("*.jpg"))


@pytest.mark.parametrize("name", [n for n in CONFIGS if any(b in n for b in BIG)])
def test_a_full_config_builds_its_data(name):
    """The constructors check their arguments; the files are looked for later."""
    small = {"hdm": {"backbone": "small"}, "logocap": {"backbone": "small"}, "tip": {"backbone": "small"}}
    family = name.split("/")[0]
    if family not in small:
        pytest.skip("its network is too large for a quick test; the slow test builds it")
    flags = [f"--model.{key}={value}" for key, value in small[family].items()]
    _, data = build_from_config(["--config", str(CONFIGS[name]), *flags])
    assert type(data).__name__ == yaml.safe_load(CONFIGS[name].read_text())["data"]["class_path"]


@pytest.mark.parametrize("name", [n for n in CONFIGS if "maed/stage" in n])
def test_maed_s_stages_cut_people_out_of_videos_as_published(name):
    content = yaml.safe_load(CONFIGS[name].read_text())["data"]["init_args"]
    for part in [*content.get("clips", {}).values(), *content.get("images", {}).values()]:
        kind, options = part["data"]["class_path"], dict(part["data"]["init_args"])
        for key in ("augmentation", "clip_augmentation"):
            if isinstance(options.get(key), dict) and kind not in ("COCOKeypoints", "MPII"):
                options[key] = ClipAugmentation(**options[key])
        window = options.get("window")
        data = getattr(posekit.data, kind)(**options | ({"window": Window(**window)} if window else {}))
        if kind in ("ThreeDPW", "MPIINF3DHP", "PennAction"):
            assert (data.boxes, data.box_scale) == ("vibe", 1.3)
        if kind == "ThreeDPW" and part["ratio"]:
            assert data.windows(train=True).hop == 8
        if kind == "PoseTrack":
            assert data.box_scale == pytest.approx(0.8 * 1.3)
            assert data.clip_augmentation == replace(ClipAugmentation.preset("maed"), crop_size=0.8 * 0.6)


def test_there_are_configs():
    assert "quickstart.yaml" in CONFIGS
