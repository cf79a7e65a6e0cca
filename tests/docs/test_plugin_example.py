"""The tutorial's package, found by its metadata, trains and predicts through the command line."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.errors import UserError
from tests.mutations import damaged

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin_example"
PAGE = ROOT / "docs" / "adding-a-method.md"
NAMES = ("Centroid", "LabelledFolder")


def entry_points():
    """Entry points of the example's pyproject.toml, in the form that installers write."""
    text = (EXAMPLE / "pyproject.toml").read_text()
    found = re.findall(r'^\[project\.entry-points\."(.+)"\]\n(\w+) = "(.+)"$', text, re.MULTILINE)
    assert {name for _, name, _ in found} == set(NAMES)
    parser = configparser.ConfigParser()
    parser.optionxform = str
    for group, name, value in found:
        parser[group] = {name: value}
    return parser


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package and its metadata, as ``pip install --target`` leaves it."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE / "pose_plugin", site / "pose_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / "pose_plugin-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pose-plugin\nVersion: 0.1.0\n")
    with (info / "entry_points.txt").open("w") as file:
        entry_points().write(file)
    return site


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Six pictures of noise, with labels."""
    root = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    rows = []
    for k in range(6):
        cv2.imwrite(str(root / f"{k}.jpg"), rng.integers(0, 255, (128, 96, 3), dtype=np.uint8))
        joints = np.c_[rng.uniform((10, 10), (86, 118), (17, 2)).round(1), np.full(17, 2)]
        rows.append({"file": f"{k}.jpg", "box": [5.0, 5.0, 86.0, 118.0], "keypoints": joints.tolist()})
    (root / "people.json").write_text(json.dumps({"train": rows[:4], "val": rows[4:]}))
    return root


def posekit(folder, site, *words):
    done = subprocess.run(
        [sys.executable, "-m", "posekit", *words], cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done


def test_it_is_listed(installed, tmp_path):
    listed = posekit(tmp_path, installed, "list").stdout
    assert all(f"  {name} " in listed for name in NAMES)
    assert "pose-plugin 0.1.0" in listed


@pytest.fixture(scope="module")
def trained(installed, people, tmp_path_factory):
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("work")
    done = posekit(
        folder, installed, "fit", "--config", str(EXAMPLE / "centroid.yml"), f"--data.root={people}",
        "--data.batch_size=2", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false",
        "--trainer.accelerator=cpu", "--trainer.num_sanity_val_steps=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "runs" / "centroid" / "version_0"


def test_it_trains(trained):
    assert "val/AP" in (trained / "results.json").read_text()
    assert (trained / "checkpoints" / "best.ckpt").is_file()
    assert list((trained / "previews").glob("*.png"))


@pytest.mark.slow
def test_it_predicts(trained, installed, people, tmp_path):
    checkpoint = trained / "checkpoints" / "best.ckpt"
    done = posekit(
        tmp_path, installed, "predict", "--ckpt_path", str(checkpoint), "--input", str(people / "0.jpg"),
        "--output", "found", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (person,) = json.loads((tmp_path / "found" / "results.json").read_text())
    assert len(person["keypoints"]) == 3 * 17


def test_missing_files_are_one_line(people, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from pose_plugin import LabelledFolder

    with pytest.raises(UserError, match=r"nowhere/people\.json does not exist"):
        LabelledFolder("nowhere").setup("fit")
    (tmp_path / "people.json").write_text((people / "people.json").read_text())
    with pytest.raises(UserError, match=r"4 pictures are missing, the first is '0\.jpg'"):
        LabelledFolder(str(tmp_path)).setup("fit")


PERSON = {"file": "0.jpg", "box": [5.0, 5.0, 86.0, 118.0], "keypoints": [[1.0, 2.0, 2]] * 17}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"people\.json is truncated or no JSON"),
        ([], r"people\.json must hold a list of people under 'train'"),
        ({"train": [], "val": [PERSON]}, r"must hold a list of people under 'train'"),
        ({"train": [PERSON, {"file": "0.jpg"}]}, r"people\.json: train\[1\] has no 'box'"),
        ({"train": [PERSON | {"file": 3}]}, r"train\[0\]: file must be a name, not 3"),
        ({"train": [PERSON | {"box": [1, 2, 0, 3]}]}, r"train\[0\]: box must have a width and a height, not \[1"),
        ({"train": [PERSON | {"box": ["1", 2, 3, 4]}]}, r"box must be 4 numbers, not \['1', 2, 3, 4\]"),
        ({"train": [PERSON | {"keypoints": [[1, 2, 2]] * 16}]}, r"keypoints must be 17 x 3 numbers, not \[\[1"),
        ({"train": [PERSON | {"keypoints": [[1, 2]] + [[1, 2, 2]] * 16}]}, r"keypoints must be 17 x 3 numbers"),
    ],
)
def test_broken_labels_are_one_line(content, said, people, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from pose_plugin import LabelledFolder

    shutil.copy(people / "0.jpg", tmp_path)
    (tmp_path / "people.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=said) as error:
        LabelledFolder(str(tmp_path)).setup("fit")
    assert str(error.value).startswith("LabelledFolder: ")
    assert "\n" not in str(error.value)


def test_damaged_labels_are_read_or_refused_in_one_line(people, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from pose_plugin import LabelledFolder

    root = shutil.copytree(people, tmp_path / "people")
    content = json.loads((people / "people.json").read_text())
    refused = []
    for done, whole in damaged(content, 60, "labels"):
        (root / "people.json").write_bytes(whole)
        data = LabelledFolder(str(root))
        try:
            assert all(len(data.make_dataset(split)) == len(data.ground_truth(split)) for split in ("train", "val"))
        except UserError as error:
            refused.append((done, str(error)))
    assert len(refused) > 20
    assert not [case for case in refused if "\n" in case[1] or not case[1].isprintable()]


@pytest.mark.parametrize("name", ["pyproject.toml", "centroid.yml", "pose_plugin/method.py", "pose_plugin/data.py"])
def test_the_page_shows_the_files(name):
    assert f"\n{(EXAMPLE / name).read_text().rstrip()}\n```\n" in PAGE.read_text()


@pytest.mark.slow
def test_pip_installs_it(tmp_path):
    pytest.importorskip("setuptools")
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    target = tmp_path / "target"
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *words], capture_output=True, text=True, timeout=300)
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not installed")
    assert done.returncode == 0, done.stderr[-2000:]
    listed = posekit(tmp_path, target, "list").stdout
    assert all(f"  {name} " in listed for name in NAMES)
