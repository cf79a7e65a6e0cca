"""``posekit evaluate`` with a joint set that a plug-in registers when it is imported."""

import json
import sys

import numpy as np
import pytest

from posekit.cli.evaluate import run
from posekit.errors import UserError
from posekit.skeletons import SKELETONS

PLUGIN = """
from posekit import PoseModule
from posekit.skeletons import SKELETONS, Skeleton

SKELETONS["STICK5"] = Skeleton("STICK5", ("head", "hip", "left_ankle", "right_ankle", "tail"), (), (0.1,) * 5)


class Stick(PoseModule):
    pass
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package as pip leaves it, not imported yet."""
    site = tmp_path / "site"
    (site / "stick_plugin-1.dist-info").mkdir(parents=True)
    (site / "stick_plugin.py").write_text(PLUGIN)
    (site / "stick_plugin-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: stick-plugin\nVersion: 1\n"
    )
    entry = "[posekit.methods]\nStick = stick_plugin:Stick\n"
    (site / "stick_plugin-1.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(site))
    yield
    SKELETONS.pop("STICK5", None)
    sys.modules.pop("stick_plugin", None)


def test_coco_takes_it_by_name(tmp_path, plugin, capsys):
    joints = [float(value) for k in range(5) for value in (10 * k, 5 * k, 2)]
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": joints, "num_keypoints": 5, "area": 900.0}
    person |= {"bbox": [0, 0, 50, 30], "iscrowd": 0}
    truth = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "person"}], "annotations": [person]}
    found = [{"image_id": 1, "category_id": 1, "keypoints": joints, "score": 1.0}]
    for name, content in (("gt", truth), ("dt", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = [str(tmp_path / "gt.json"), str(tmp_path / "dt.json"), "--json", str(tmp_path / "out.json")]
    run(["coco", *files, "--skeleton", "STICK5"])
    assert json.loads((tmp_path / "out.json").read_text())["AP"] == pytest.approx(1)
    assert "STICK5" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"unknown skeleton 'STICK6'; known: .*STICK5"):
        run(["coco", *files, "--skeleton", "STICK6"])


def test_a_prediction_in_3d_names_it(tmp_path, plugin):
    poses = np.random.default_rng(0).normal(size=(4, 5, 3))
    np.savez(tmp_path / "gt.npz", joints3d=poses, joints=np.array(["head", "hip", "left_ankle", "right_ankle", "tail"]))
    rows = [{"joints3d": p.tolist(), "image_id": k, "sample_id": k, "skeleton": "STICK5"} for k, p in enumerate(poses)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    out = tmp_path / "out.json"
    run(["h36m", str(tmp_path / "gt.npz"), str(tmp_path / "results.json"), "--json", str(out)])
    assert json.loads(out.read_text())["MPJPE"] == pytest.approx(0, abs=1e-6)
