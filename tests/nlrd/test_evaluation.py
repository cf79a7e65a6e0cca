"""Protocols by hand-made errors (section 8, test 14), prediction, and the link to the data module."""

import numpy as np
import pytest
import torch

from posekit.errors import UserError
from posekit_nlrd import geometry as g
from posekit_nlrd.evaluation import (
    JOINTS,
    PROTOCOLS,
    LatentSpread,
    PoseEvaluation,
    label_lengths,
    motion_mm,
    pose_errors,
)
from posekit_nlrd.streams import prediction_rows
from tests.nlrd.conftest import make_data, make_model, make_trainer
from tests.nlrd.figures import METRES, StickMotion, StickPeople, wave


def labels(count=4):
    pose = torch.stack([wave(i, 1)[0] for i in range(count)]).double()
    return pose, torch.ones(count, 17, dtype=torch.float64)


def test_right_directions_with_label_lengths_have_no_error():
    target, weight = labels()
    target = g.with_lengths(target, 0.2 + torch.rand(4, 17).double())
    found = pose_errors(g.fit_canonical(target), target, weight, "gt17")
    assert found["mpjpe_gt17"] == pytest.approx(0, abs=1e-6)
    assert found["pck_gt17"] == 100.0
    assert found["auc_gt17"] == pytest.approx(100 * 30 / 31)  # nothing is closer than 0 mm
    own = pose_errors(g.fit_canonical(target), target, weight, "predicted17")
    assert own["mpjpe_predicted17"] > 1000  # units are no metres


def test_bones_keep_their_own_lengths_or_get_the_labels():
    target, weight = labels()
    found = pose_errors(1.1 * target, target, weight, "predicted17")
    radius = torch.linalg.vector_norm(target, dim=-1).mean().item()
    assert found["mpjpe_predicted17"] == pytest.approx(100 * radius, rel=1e-4)
    assert found["n_mpjpe_predicted17"] == pytest.approx(0, abs=1e-3)
    assert found["pa_mpjpe_predicted17"] == pytest.approx(0, abs=1e-3)


def test_rotation_is_seen_by_mpjpe_but_not_after_alignment():
    target, weight = labels()
    turned = g.rotate(target, g.azimuth_matrix(torch.tensor(0.5).double()))
    found = pose_errors(turned, target, weight, "gt17")
    assert found["mpjpe_gt17"] > 10
    assert found["pa_mpjpe_gt17"] == pytest.approx(0, abs=1e-3)


def test_pck_is_strict_and_pools_fourteen_joints():
    target = torch.zeros(1, 17, 3, dtype=torch.float64)
    pred = target.clone()
    for joint, metres in ((1, 0.15), (4, 0.149), (7, 0.151), (12, 0.5)):  # 12 is a foot: not among the 14
        pred[0, joint, 0] = metres
    found = pose_errors(pred, target, torch.ones(1, 17), "predicted14")
    assert found["pck_predicted14"] == pytest.approx(100 * 12 / 14)  # exactly 150 mm does not count
    errors = np.array([150.0, 149.0, 151.0, *[0.0] * 11])
    assert found["auc_predicted14"] == pytest.approx(100 * np.mean([(errors < t).mean() for t in range(0, 151, 5)]))
    assert found["mpjpe_predicted14"] == pytest.approx(errors.mean())
    assert len(JOINTS["14"]) == 14
    assert len(PROTOCOLS) == 4


def test_unlabelled_feet_get_bones_of_the_bodys_size():
    target, weight = labels(1)
    target = g.fit_canonical(target) * 0.2
    weight[0, [12, 16]] = 0
    target[0, 12] = 99.0
    lengths = label_lengths(target, weight)
    assert torch.allclose(lengths[0], 0.2 * torch.tensor(g.CANONICAL).double(), atol=1e-6)
    assert pose_errors(g.fit_canonical(target), target, weight)["mpjpe_gt17"] == pytest.approx(0, abs=1e-6)


def test_mean_pose_and_repeated_samples():
    target, weight = labels(6)
    metric = PoseEvaluation(["gt17"])
    metric.update(target, target, weight, torch.arange(6))
    metric.update(target[:2] + 5 * torch.rand(2, 17, 3), target[:2], weight[:2], torch.arange(2))
    values = metric.compute()
    assert values["mpjpe_gt17"].item() == pytest.approx(0, abs=1e-6)
    assert values["mean_pose_mpjpe_gt17"] > values["mean_pose_pa_mpjpe_gt17"] > 10
    assert torch.isnan(PoseEvaluation(["gt17"]).compute()["mpjpe_gt17"])
    with pytest.raises(UserError, match="gt17"):
        PoseEvaluation(["gt18"])


def test_poses_without_labels_change_no_number():
    target, weight = labels(5)
    metric, fewer = PoseEvaluation(PROTOCOLS), PoseEvaluation(PROTOCOLS)
    fewer.update(0.9 * target[:4], target[:4], weight[:4], torch.arange(4))
    weight[4] = 0
    metric.update(0.9 * target, target, weight, torch.arange(5))
    assert metric.compute() == fewer.compute()


def test_motion_error_in_millimetres():
    target = wave(0, 5)
    assert motion_mm(g.fit_canonical(target), target).item() == pytest.approx(0, abs=1e-2)
    assert motion_mm(g.rotate(target, g.tilt_matrix(torch.tensor(0.2))), target) > 10


def test_prediction_is_in_the_camera_frame_and_root_relative():
    model = make_model(["pose"]).eval()
    batch = next(iter(StickPeople(batch_size=3).loader("val")))
    found = model.predict_step(batch, 0)
    assert found["joints3d"].shape == (3, 17, 3)
    assert found["joints3d"][:, 0].abs().max() == 0
    latent = model.networks.image(batch["image"])
    view = model.networks.pose_decoder.pose(latent) * model.networks.unit
    assert torch.allclose(found["joints3d"][..., 1], -view[..., 2])  # down is minus up
    assert torch.allclose(found["joints3d"][..., 2], view[..., 1])
    assert g.bone_lengths(found["joints3d"])[0, 10].item() == pytest.approx(4.2 * METRES, rel=1e-4)
    assert found["image_id"].tolist() == [0, 1, 2]


def test_clips_are_predicted_frame_by_frame_without_padding():
    batch = next(iter(StickPeople("clips", size=2, frames=4, batch_size=2).loader("val")))
    batch["valid"][1, 2:] = False
    rows = prediction_rows(batch)
    assert rows["image"].shape[0] == 6
    assert rows["sample_id"].tolist() == [0, 0, 0, 0, 1, 1]
    assert rows["frame"].tolist() == [0, 1, 2, 3, 0, 1]


def test_validation_on_the_data_module_of_a_set_alone(tmp_path):
    model = make_model(["pose"])
    found = make_trainer(tmp_path).validate(model, datamodule=StickPeople(size=8), verbose=False)[0]
    assert found["val/target_mpjpe_gt17"] > 0
    assert "val/source_mpjpe_gt17" not in found


def test_validation_of_motion_does_not_depend_on_the_batches(tmp_path):
    model, found = make_model(["pose"]), []
    model.networks.stages_done[0] = True
    for size in (1, 3, 8):
        data = make_data(motion=StickMotion(), val_batch_size=size)
        values = make_trainer(tmp_path).validate(model, datamodule=data, verbose=False)[0]
        found.append([values["val/pose_mm"], values["val/z_std"]])
    assert found[0][1] > 0.01
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)


def test_latents_deviate_as_if_all_were_of_one_batch():
    latents, spread = torch.rand(50, 32) * torch.linspace(0.01, 2, 50)[:, None], LatentSpread()
    for batch in latents.split([1, 7, 42]):
        spread.update(batch)
    assert float(spread.compute()["z_std"]) == pytest.approx(float(latents.std(0, correction=0).mean()), rel=1e-6)
    assert not spread.state_dict()


def test_picture_size_comes_from_the_parts():
    from posekit_nlrd import NLRDData

    name = "tests.nlrd.figures.StickPeople"
    arguments = {"image_size": None, "source": {"class_path": name, "init_args": {"image_size": [64, 64]}}}
    assert NLRDData.linked_values(arguments) == {"image_size": [64, 64]}
    assert NLRDData.linked_values({"source": {"class_path": name}})["image_size"] == (48, 48)
    assert NLRDData.linked_values({"image_size": [9, 9]}) == {"image_size": [9, 9]}
    people = "posekit.data.SyntheticPeople"
    assert NLRDData.linked_values({"target": {"class_path": people, "init_args": {"view": "clips"}}})["image_size"]
    assert NLRDData.linked_values({"motion": {"class_path": name}}) == {"image_size": None}
    with pytest.raises(UserError, match=r"data\.source has pictures of"):
        make_data(image_size=(64, 64)).setup("fit")
