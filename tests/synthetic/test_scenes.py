import numpy as np
import pytest
import torch

from posekit.data import SyntheticPeople


@pytest.fixture(scope="module")
def scenes():
    module = SyntheticPeople(
        view="scenes", train_size=24, val_size=12, image_size=(160, 160), difficulty="hard", scene_people=(2, 4),
        batch_size=6, num_render_workers=1,
    )  # fmt: skip
    module.setup("fit")
    return module


def test_batch_has_the_contract_s_fields(scenes):
    batch = next(iter(scenes.train_dataloader()))
    assert batch["image"].shape == (6, 3, 160, 160)
    assert batch["mask"].shape == (6, 160, 160)
    assert batch["mask"].dtype == torch.bool
    assert batch["affine"].shape == (6, 2, 3)
    for keypoints, visible, boxes, area in zip(
        batch["keypoints"], batch["visible"], batch["boxes"], batch["area"], strict=True
    ):
        n = len(keypoints)
        assert keypoints.shape == (n, 17, 2)
        assert visible.shape == (n, 17)
        assert boxes.shape == (n, 4)
        assert area.shape == (n,)
        assert (area <= boxes[:, 2] * boxes[:, 3]).all()


def test_people_hide_each_other(scenes):
    dataset = scenes.dataset("train")
    hidden = seen = 0
    for index in range(24):
        scene = dataset.scene((0, index))
        hidden += int((scene.visible == 1).sum())
        seen += int((scene.visible == 2).sum())
        inside = (scene.keypoints > -0.5).all(-1) & (scene.keypoints < 159.5).all(-1)
        assert not (scene.visible[~inside] > 0).any()
        assert (scene.area > 0).all()
        assert len(scene.area) <= 4
    assert seen > hidden > 0.1 * seen


def test_ground_truth_lists_everybody(scenes):
    targets = scenes.ground_truth("val")
    assert [t["image_id"] for t in targets] == list(range(12))
    assert max(len(t["area"]) for t in targets) >= 2
    for target, index in zip(targets, range(12), strict=True):
        sample = scenes.dataset("val")[(3, index)]
        np.testing.assert_allclose(target["boxes"].numpy(), sample["boxes"].numpy())
        assert (target["num_keypoints"] == (sample["visible"] > 0).sum(-1)).all()
