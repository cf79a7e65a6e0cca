"""Every shipped config goes through fit, validate and predict at the smallest size."""

from pathlib import Path

import pytest
import yaml

from posekit.cli import main
from posekit.cli.configs import shipped_configs

CONFIGS = shipped_configs()
BIG = ("w32", "w48", "resnet")  # networks of full size: slow on a CPU


def small(name, roots):
    """Flags that shrink a config's data without touching what it is about."""
    data = yaml.safe_load(CONFIGS[name].read_text())["data"]["class_path"]
    flags = ["--data.batch_size=2", "--data.num_workers=0", "--trainer.accelerator=cpu"]
    if data == "SyntheticPeople":
        return [*flags, "--data.train_size=4", "--data.val_size=2", "--data.test_size=2"]
    return [*flags, f"--data.root={roots[data]}", "--data.pin_memory=false"]


def params():
    marks = {True: pytest.mark.slow, False: ()}
    return [pytest.param(name, marks=marks[any(b in name for b in BIG)]) for name in CONFIGS if "tables/" not in name]


@pytest.mark.parametrize("name", params())
def test_config_fits_validates_and_predicts(name, tmp_path, monkeypatch, mini_coco, mini_mpii):
    monkeypatch.chdir(tmp_path)
    flags = small(name, {"COCOKeypoints": mini_coco, "MPII": mini_mpii})
    limits = ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false"]
    words = ["--config", str(CONFIGS[name]), *flags, *limits]
    main(["fit", *words, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"])
    run = next(Path("runs").iterdir()) / "version_0"
    checkpoint = str(run / "checkpoints" / "best.ckpt")
    assert (run / "results.json").is_file()
    assert list((run / "previews").glob("*.png"))
    main(["validate", *words, "--ckpt_path", checkpoint])
    photo = next(mini_coco.rglob("*.jpg"))
    main(["predict", "--ckpt_path", checkpoint, "--input", str(photo), "--output", "out", *limits[2:]])
    assert Path("out/results.json").is_file()
    assert list(Path("out/overlays").glob("*.jpg"))


def test_there_are_configs():
    assert "quickstart.yaml" in CONFIGS
