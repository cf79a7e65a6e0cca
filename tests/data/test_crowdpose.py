import json
import shutil

import lightning
import numpy as np
import pytest

from posekit.cli.evaluate import run
from posekit.cli.run import build_from_config
from posekit.data import MPII, CrowdPose, OCHuman
from posekit.errors import UserError
from posekit.metrics import KeypointAP, evaluate_crowdpose
from posekit.skeletons import CROWDPOSE14
from posekit_hdm import HDM
from posekit_logocap import LogoCap
from tests.shared import SHARED, requires_shared

SAMPLE = SHARED / "data" / "samples" / "crowdpose"
NAMES = [*CROWDPOSE14.joints[:12], "head", "neck"]  # as the files have them


def content_of(source, joints, names):
    content = json.loads(source.read_text())
    for image, index in zip(content["images"], (0.1, 0.2, 0.9), strict=True):
        image["crowdIndex"] = index
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][: 3 * joints]
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
        annotation["area"] = 5.0
    content["categories"][0]["keypoints"] = names
    return content


@pytest.fixture
def crowdpose(mini_coco, tmp_path):
    (tmp_path / "json").mkdir()
    shutil.copytree(mini_coco / "val2017", tmp_path / "images")
    content = content_of(mini_coco / "annotations/person_keypoints_val2017.json", 14, NAMES)
    for split in ("train", "val", "trainval", "test"):
        (tmp_path / "json" / f"crowdpose_{split}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def ochuman(mini_coco, tmp_path):
    shutil.copytree(mini_coco / "val2017", tmp_path / "images")
    content = content_of(mini_coco / "annotations/person_keypoints_val2017.json", 17, [str(k) for k in range(17)])
    for split in ("val", "test"):
        path = tmp_path / f"ochuman_coco_format_{split}_range_0.00_1.00.json"
        path.write_text(json.dumps(content))
    return tmp_path


def test_crowdpose_gives_crops_of_14_joints(crowdpose):
    data = CrowdPose(str(crowdpose), image_size=(48, 64), batch_size=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["keypoints"].shape == (2, 14, 2)
    assert data.files["train"].annotations.name == "crowdpose_trainval.json"
    assert data.files["val"].annotations.name == "crowdpose_test.json"


def test_areas_are_the_evaluations(crowdpose):
    targets = CrowdPose(str(crowdpose)).ground_truth("val")
    assert np.allclose(targets[0]["area"], 0.53 * 120 * 200)


def test_scenes(crowdpose):
    data = CrowdPose(str(crowdpose), view="scenes", image_size=(64, 64), batch_size=2)
    batch = next(iter(data.loader("val")))
    assert batch["image"].shape == (2, 3, 64, 64)
    assert batch["keypoints"][0].shape[1:] == (14, 2)


def test_groups_of_images_by_their_crowd_index(crowdpose):
    data = CrowdPose(str(crowdpose))
    assert data.image_groups("val") == {"easy": [0], "medium": [1], "hard": [2]}  # 0.2 is medium, as in the toolbox
    assert data.image_groups("val", (0.1, 0.95)) == {"easy": [], "medium": [0, 1, 2], "hard": []}
    path = crowdpose / "json" / "crowdpose_test.json"
    content = json.loads(path.read_text())
    del content["images"][1]["crowdIndex"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="image 1 has no crowdIndex"):
        CrowdPose(str(crowdpose)).image_groups("val")


def test_ap_agrees_with_the_toolboxs_rules(crowdpose):
    data = CrowdPose(str(crowdpose))
    rng = np.random.default_rng(0)
    targets = data.ground_truth("val")
    metric = KeypointAP(CROWDPOSE14.sigmas)
    metric.set_targets(targets)
    results = []
    for target in targets:
        points = target["keypoints"].numpy()[:1].copy()
        points[..., :2] += rng.normal(0, 12, points[..., :2].shape)
        metric.update({"keypoints": points, "scores": np.ones(1), "image_id": target["image_id"]})
        entry = {"image_id": target["image_id"], "category_id": 1, "keypoints": points.ravel().tolist(), "score": 1.0}
        results.append(entry)
    expected = evaluate_crowdpose(crowdpose / "json/crowdpose_test.json", results)
    check_crowdpose_command(crowdpose, results, expected)
    found = metric.compute()
    assert 0 < expected["AP"] < 1
    assert found["AP"] == pytest.approx(expected["AP"])
    grouped = KeypointAP(CROWDPOSE14.sigmas)
    grouped.set_targets(targets, data.image_groups("val"))
    for entry in results:
        keypoints = np.reshape(entry["keypoints"], (1, 14, 3))
        grouped.update({"keypoints": keypoints, "scores": np.ones(1), "image_id": entry["image_id"]})
    found = {name: float(value) for name, value in grouped.compute().items()}
    assert list(found) == list(expected)
    assert found == pytest.approx(expected)


def check_crowdpose_command(folder, results, expected):
    """``posekit evaluate crowdpose`` writes the nine numbers, and AP by joint."""
    (folder / "results.json").write_text(json.dumps(results))
    files = [str(folder / "json/crowdpose_test.json"), str(folder / "results.json")]
    run(["crowdpose", *files, "--json", str(folder / "numbers.json")])
    numbers = json.loads((folder / "numbers.json").read_text())
    assert list(numbers) == [*expected, *(f"AP/{joint}" for joint in CROWDPOSE14.joints)]
    assert {name: numbers[name] for name in expected} == expected
    assert numbers["AP/head_top"] > 0


@pytest.mark.parametrize("view", ["crops", "scenes"])
def test_a_validation_shows_crowdposes_nine_numbers(crowdpose, view):
    data = CrowdPose(str(crowdpose), view=view, image_size=(64, 64), batch_size=3)
    method = {"crops": HDM, "scenes": LogoCap}[view]
    module = method(skeleton="CROWDPOSE14", backbone="small", image_size=[64, 64])
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    (values,) = trainer.validate(module, data, verbose=False)
    shown = [name.removeprefix("val/") for name in values if name.startswith(("val/AP", "val/AR"))]
    nine = ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "APeasy", "APmedium", "APhard"]
    assert [name for name in shown if not name.endswith("_initial")] == nine
    path = crowdpose / "json" / "crowdpose_test.json"
    path.write_text(path.read_text().replace("crowdIndex", "index"))
    with pytest.warns(UserWarning, match=r"AP by groups of images cannot be computed: .*has no crowdIndex"):
        (values,) = trainer.validate(module, CrowdPose(**options_of(data, crowdpose)), verbose=False)
    assert "val/APM" in values


def options_of(data, root):
    return {"root": str(root), "view": data.view, "image_size": data.image_size, "batch_size": 3}


def test_the_other_usual_folder(crowdpose):
    shutil.move(crowdpose / "json", crowdpose / "annotations")
    assert len(CrowdPose(str(crowdpose), image_size=(48, 64)).dataset("val")) == 3


def test_another_view_is_named_where_there_is_one(ochuman):
    module = LogoCap(backbone="small", image_size=[64, 64])
    for data in (OCHuman(str(ochuman)), CrowdPose(str(ochuman))):
        with pytest.raises(UserError, match=r"needs scenes, but .* gives crops: set data.view to scenes"):
            module.check_data(data)
    with pytest.raises(UserError, match=r"LogoCap needs scenes, but MPII gives crops$"):
        module.check_data(MPII(str(ochuman)))


def test_ochuman_is_for_evaluation(ochuman):
    data = OCHuman(str(ochuman), image_size=(48, 64), batch_size=2)
    data.setup("validate")
    data.setup("test")
    assert data.files["test"].annotations.name.startswith("ochuman_coco_format_test")
    assert next(iter(data.val_dataloader()))["keypoints"].shape == (2, 17, 2)
    with pytest.raises(UserError, match="OCHuman is for evaluation: it has no training part"):
        data.setup("fit")
    scenes = OCHuman(str(ochuman), view="scenes", image_size=(64, 64))
    assert len(scenes.ground_truth("val")) == 3
    own = OCHuman(str(ochuman), train_annotations="ochuman_coco_format_val_range_0.00_1.00.json", image_size=(48, 64))
    own.setup("fit")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"train_split": "all"}, "unknown train_split of CrowdPose 'all'"),
        ({"val_split": "val"}, "val is part of trainval"),
        ({"view": "clips"}, "unknown view 'clips'"),
    ],
)
def test_options_are_checked(crowdpose, options, text):
    with pytest.raises(UserError, match=text):
        CrowdPose(str(crowdpose), **options)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"crowdpose_trainval.json of split train does not exist.*github.com/Jeff-sjtu"):
        CrowdPose(str(tmp_path)).setup("fit")
    with pytest.raises(UserError, match=r"val_range_0.00_1.00.json of split val does not exist.*OCHumanApi"):
        OCHuman(str(tmp_path)).setup("validate")


@pytest.mark.parametrize("name", ["CrowdPose", "OCHuman"])
def test_configs_take_cocos_options(name, tmp_path):
    config = tmp_path / "x.yaml"
    config.write_text(
        f"model: {{class_path: HDM, init_args: {{backbone: small}}}}\n"
        f"data: {{class_path: {name}, init_args: {{root: {tmp_path}, batch_size: 3, image_size: [48, 64]}}}}\n"
    )
    model, data = build_from_config(["--config", str(config), "--data.detection_threshold", "0.3"])
    assert (data.batch_size, data.detection_threshold) == (3, 0.3)
    assert model.skeleton.name == data.skeleton == ("CROWDPOSE14" if name == "CrowdPose" else "COCO17")


@requires_shared
def test_real_crowdpose_files():
    data = CrowdPose(
        str(SAMPLE), train_split="train", val_annotations="test_crowdpose.json", val_images=".",
        detections="test_crowdpose_det_AP_40.json",
    )  # fmt: skip
    assert len(data.dataset("val")) > 2
    assert sum(map(len, data.image_groups("val").values())) == 2
    annotated = CrowdPose(str(SAMPLE), val_annotations="test_crowdpose.json", val_images=".")
    assert len(annotated.dataset("val")) == 4
