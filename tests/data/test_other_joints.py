"""Crops of COCO, MPII and crowds that carry another joint set than the files."""

import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from posekit.cli.run import build_from_config
from posekit.data import MPII, COCOKeypoints, CrowdPose, OCHuman
from posekit.data.joint_maps import map_people, source_of
from posekit.errors import UserError
from posekit.geometry import uncrop_points
from posekit.metrics import KeypointAP
from posekit.skeletons import COCO17, CROWDPOSE14, MPII16, SPIN49, get_skeleton
from tests.data.test_coco_crops import assert_contract, samples
from tests.data.test_crowdpose import crowdpose, ochuman  # noqa: F401
from tests.data.test_mpii import mpii  # noqa: F401
from tests.shared import SHARED, requires_shared

SETS = ["SPIN49", "H36M17", "LSP14", "POSETRACK15", "LIMB17"]


def assert_mapped(own, found, source, skeleton):
    """Samples of the same crops in two joint sets."""
    matrix = source_of(source).map_to(skeleton).matrix
    for one, other in zip(own, found, strict=True):
        assert torch.equal(one["image"], other["image"])
        for row, weights in enumerate(matrix):
            parts = np.flatnonzero(weights)
            visible = min((int(one["visible"][k]) for k in parts), default=0)
            assert int(other["visible"][row]) == visible, skeleton.joints[row]
            if visible:
                torch.testing.assert_close(other["keypoints"][row], one["keypoints"][parts].mean(0))
            else:
                assert not other["keypoints"][row].any()


@pytest.mark.parametrize("name", SETS)
def test_coco_maps_joints_by_name(coco, name):
    skeleton = get_skeleton(name)
    module = coco.module(skeleton=name, augment=False)
    module.setup("fit")
    for split in ("train", "val"):
        assert_mapped(samples(coco.module(augment=False), split), samples(module, split), COCO17, skeleton)
        assert_contract(next(iter(module.loader(split))), (96, 128), joints=len(skeleton))


@pytest.mark.parametrize("name", SETS)
def test_mpii_maps_joints_by_name(mpii, name):  # noqa: F811
    module = mpii.module(skeleton=name, augment=False)
    module.setup("fit")
    own = mpii.module(augment=False)
    assert_mapped(samples(own, "val"), samples(module, "val"), MPII16, get_skeleton(name))
    # PCKh and the annotations stay MPII's.
    ids = torch.arange(7)
    for one, other in zip(own.head_targets("val", ids), module.head_targets("val", ids), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    assert module.people("val").keypoints.shape == (7, 16, 3)
    assert MPII.linked_values({"skeleton": name})["skeleton"] == name


@requires_shared
def test_maps_to_spin_are_the_official_ones(coco, mpii):  # noqa: F811
    with np.load(SHARED / "golden" / "maed" / "data.npz") as golden:
        for folder, name in ((coco, "coco"), (mpii, "mpii")):
            rows = golden[f"map_{name}_to_spin"]
            own, found = (samples(folder.module(augment=False, **o), "val")[0] for o in ({}, {"skeleton": "SPIN49"}))
            there = rows >= 0
            torch.testing.assert_close(found["keypoints"][there], own["keypoints"][rows[there]])
            assert torch.equal(found["visible"][there], own["visible"][rows[there]])
            assert found["visible"][there].any()
            assert not found["visible"][~there].any()


def test_mirrored_crops_swap_the_sides_of_the_samples_set(coco):
    module, mirrored = coco.module(skeleton="SPIN49"), 0
    table = module.dataset("train").table
    for epoch in range(12):
        sample = module.dataset("train")[(epoch, 0)]
        flipped = bool(torch.linalg.det(sample["affine"][:, :2]) < 0)
        mirrored += flipped
        order = list(SPIN49.flip_index) if flipped else list(range(49))
        seen = sample["visible"].numpy() > 0
        back = uncrop_points(sample["keypoints"][None], sample["affine"][None])[0].numpy()
        np.testing.assert_allclose(back[seen], table.joints[0][order][:, :2][seen], atol=1e-2)
    assert 0 < mirrored < 12


def test_ground_truth_has_the_joints_of_the_samples(coco):
    def only_face(content):
        row = content["annotations"][0]
        row["keypoints"][15:] = [0] * 36
        row["num_keypoints"] = 5

    coco.edit(only_face, "val")
    own, module = coco.module(), coco.module(skeleton="LSP14")
    faceless = int(samples(own, "val")[0]["sample_id"])
    kept = {int(s["sample_id"]) for s in samples(module, "val")}
    assert kept == {int(s["sample_id"]) for s in samples(own, "val")} - {faceless}
    targets = module.ground_truth("val")
    mapped = source_of(COCO17).map_to(get_skeleton("LSP14"))
    for one, other in zip(own.ground_truth("val"), targets, strict=True):
        expected = mapped(one["keypoints"][..., :2].numpy(), one["keypoints"][..., 2].numpy())
        np.testing.assert_array_equal(other["keypoints"][..., :2], expected.points)
        np.testing.assert_array_equal(other["keypoints"][..., 2], expected.weight)
        assert other["num_keypoints"].tolist() == (expected.weight > 0).sum(-1).tolist()
        for name in ("area", "boxes", "iscrowd"):
            assert torch.equal(one[name], other[name])
    assert targets[0]["num_keypoints"][0] == 0
    metric = KeypointAP(get_skeleton("LSP14").sigmas)
    metric.set_targets(targets)
    table = module.dataset("val").table
    metric.update_rows(
        {
            "keypoints": torch.tensor(table.joints, dtype=torch.float32),
            "scores": torch.ones(len(table)),
            "boxes": torch.tensor(table.boxes, dtype=torch.float32),
            "image_id": torch.tensor(table.image_ids[table.image_rows]),
            "sample_id": torch.tensor(table.sample_ids),
        }
    )
    assert float(metric.compute()["AP"]) == pytest.approx(1)


def test_detected_boxes_have_places_for_all_joints(coco):
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]
    (coco.root / "boxes.json").write_text(json.dumps(boxes))
    (sample,) = samples(coco.module(skeleton="SPIN49", detections="boxes.json"), "val")
    assert sample["keypoints"].shape == (49, 2)
    assert not sample["visible"].any()


def test_nobody_with_a_joint_of_the_other_set(coco):
    def only_face(content):
        for row in content["annotations"]:
            row["keypoints"][15:] = [0] * 36

    coco.edit(only_face, "train")
    with pytest.raises(UserError, match=r"train2017\.json has nobody with a joint of LSP14 \(COCO17\)"):
        coco.module(skeleton="LSP14").setup("fit")


def test_whole_images_keep_the_files_joints(coco, crowdpose):  # noqa: F811
    for make in (coco.module, lambda **o: CrowdPose(str(crowdpose), **o), lambda **o: OCHuman(".", **o)):
        with pytest.raises(UserError, match=r"view 'scenes' has the joints of the annotations: .*, not LSP14"):
            make(view="scenes", skeleton="LSP14", image_size=(64, 64))


def test_crowdpose_in_other_joints(crowdpose):  # noqa: F811
    options = {"image_size": (48, 64), "augment": False}
    own = CrowdPose(str(crowdpose), **options)
    module = CrowdPose(str(crowdpose), skeleton="COCO17", **options)
    assert_mapped(samples(own, "val"), samples(module, "val"), CROWDPOSE14, COCO17)
    assert [t["area"].tolist() for t in module.ground_truth("val")] == [
        t["area"].tolist() for t in own.ground_truth("val")
    ]
    assert module.image_groups("val") == own.image_groups("val")
    assert CrowdPose.linked_values({"skeleton": "COCO17", "view": "crops"})["skeleton"] == "COCO17"


def test_ochuman_in_other_joints(ochuman):  # noqa: F811
    options = {"image_size": (48, 64)}
    own, module = OCHuman(str(ochuman), **options), OCHuman(str(ochuman), skeleton="POSETRACK15", **options)
    assert_mapped(samples(own, "test"), samples(module, "test"), COCO17, get_skeleton("POSETRACK15"))


def test_data_in_cocos_format_with_joints_of_their_own(crowdpose):  # noqa: F811
    file = crowdpose / "json/crowdpose_val.json"
    content = json.loads(file.read_text())
    content["categories"][0].pop("keypoints")
    file.write_text(json.dumps(content))
    places = {f"{part}_{what}": value for part in ("train", "val") for what, value in (
        ("annotations", "json/crowdpose_val.json"), ("images", "images"))}  # fmt: skip
    options = {**places, "image_size": (48, 64), "annotated_skeleton": "CROWDPOSE14"}
    own = COCOKeypoints(str(crowdpose), skeleton="CROWDPOSE14", **options)
    assert samples(own, "val")[0]["keypoints"].shape == (14, 2)
    assert_mapped(samples(own, "val"), samples(COCOKeypoints(str(crowdpose), **options), "val"), CROWDPOSE14, COCO17)
    with pytest.raises(UserError, match="CROWDPOSE"):
        COCOKeypoints(str(crowdpose), annotated_skeleton="CROWDPOSE15")


def test_many_people_are_mapped_in_parts(coco, monkeypatch):
    people = coco.module().people("train")
    whole = map_people(people, COCO17, SPIN49)
    monkeypatch.setattr("posekit.data.joint_maps._CHUNK", 2)
    np.testing.assert_array_equal(map_people(people, COCO17, SPIN49).keypoints, whole.keypoints)
    assert whole.keypoints.shape[1:] == (49, 3)
    np.testing.assert_array_equal(whole.ids, people.ids)


@pytest.mark.parametrize(
    ("data", "own"), [("COCOKeypoints", "COCO17"), ("MPII", "MPII16"), ("CrowdPose", "CROWDPOSE14")]
)
def test_methods_take_the_joint_set_over(data, own):
    words = ["--model", "HDM", "--model.backbone", "small", "--data", data]
    for more, name in (([], own), (["--data.skeleton", "LSP14"], "LSP14")):
        model, module = build_from_config([*words, *more])
        assert model.skeleton.name == module.skeleton == name
        assert module.annotated_skeleton == own


def test_a_run_is_judged_in_the_samples_joints(coco, tmp_path):
    words = ["--model", "HDM", "--model.backbone", "small", "--data", "COCOKeypoints", "--data.root", str(coco.root)]
    words += ["--data.skeleton", "LSP14", "--data.image_size", "[48, 64]", "--data.batch_size", "2"]
    model, module = build_from_config(words)
    trainer = Trainer(
        max_epochs=1, limit_train_batches=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, module)
    assert np.isfinite(float(trainer.callback_metrics["val/AP"]))
    assert not any(name.startswith("val/PCKh") for name in trainer.callback_metrics)
