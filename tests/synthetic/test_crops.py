import numpy as np
import pytest
import torch

from posekit.body import load_builtin_body
from posekit.data import SyntheticPeople
from posekit.data.synthetic.augment import Similarity, transform_labels
from posekit.data.synthetic.camera import View
from posekit.data.synthetic.figure import load_figure
from posekit.data.synthetic.look import sample_look
from posekit.data.synthetic.person import Person, hidden_by_self, render
from posekit.data.synthetic.pose import euler
from posekit.data.synthetic.shading import sample_light
from posekit.data.transforms import denormalize_image
from posekit.geometry.rasterizer import rasterize
from posekit.skeletons import COCO17, H36M17
from tests.body.toys import builtin_smplx


def standing(arms=-1.2):
    """A person who stands with lowered arms, facing +z."""
    rng = np.random.default_rng(0)
    rotations = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
    rotations[16], rotations[17] = euler(z=arms), euler(z=-arms)
    return Person(rotations, np.zeros(10, np.float32), sample_look(rng), sample_light(rng))


def seen_from(yaw, distance=5.0):
    orientation = np.diag([1, -1, -1]).astype(np.float32) @ euler(y=yaw)
    return View(orientation, distance, np.zeros(2, np.float32), "none", 3, 1.0)


def visible_names(person, yaw):
    layer = render(np.random.default_rng(1), person, seen_from(yaw), (96, 128), "COCO17")
    return {COCO17.joints[k] for k in np.flatnonzero(layer.labels["visible"] == 2)}


def test_sample_has_the_contract_s_fields(hard_crops):
    sample = hard_crops.dataset("train")[(0, 3)]
    shapes = {
        "image": (3, 128, 96), "keypoints": (17, 2), "visible": (17,), "affine": (2, 3), "box": (4,), "box_score": (),
        "image_id": (), "sample_id": (), "joints3d": (17, 3), "body_pose": (24, 3), "body_shape": (10,),
        "body_translation": (3,), "camera": (3, 3),
    }  # fmt: skip
    assert {name: tuple(value.shape) for name, value in sample.items()} == shapes
    integers = {"visible", "image_id", "sample_id"}
    assert all(v.dtype == (torch.int64 if k in integers else torch.float32) for k, v in sample.items())
    assert all(torch.isfinite(v.float()).all() for v in sample.values())


def test_batches_come_from_the_loaders(hard_crops):
    batch = next(iter(hard_crops.train_dataloader()))
    assert batch["image"].shape == (8, 3, 128, 96)
    ids = torch.cat([b["sample_id"] for b in hard_crops.val_dataloader()])
    assert ids.tolist() == list(range(24))


@pytest.mark.parametrize("skeleton", ["COCO17", "POSETRACK15", "SPIN49"])
def test_camera_and_joints_give_the_keypoints_after_augmentation(skeleton):
    module = SyntheticPeople(train_size=24, difficulty="hard", skeleton=skeleton, num_render_workers=1)
    dataset = module.dataset("train")
    for index in range(24):
        sample = dataset[(1, index)]
        points = sample["joints3d"].double() @ sample["camera"].double().T
        projected = points[:, :2] / points[:, 2:]
        near = sample["visible"] > 0
        torch.testing.assert_close(projected[near].float(), sample["keypoints"][near], atol=1e-3, rtol=0)


def test_smplx_rebuilds_the_augmented_joints(clean_crops):
    dataset, model = clean_crops.dataset("train"), builtin_smplx()
    regressor = torch.from_numpy(load_builtin_body().regressor("COCO17"))
    for index in range(12):
        sample = dataset[(0, index)]
        output = model(
            betas=sample["body_shape"][None],
            global_orient=sample["body_pose"][None, 0],
            body_pose=sample["body_pose"][None, 1:].reshape(1, -1),
            transl=sample["body_translation"][None],
        )
        torch.testing.assert_close(regressor @ output.vertices[0], sample["joints3d"], atol=2e-4, rtol=0)


def test_flip_swaps_sides_and_pixels(clean_crops):
    record = clean_crops.dataset("train").layers[0].labels
    plain = transform_labels(record, Similarity(False, 0, 1, np.zeros(2, np.float32), 96), COCO17.flip_index)
    flipped = transform_labels(record, Similarity(True, 0, 1, np.zeros(2, np.float32), 96), COCO17.flip_index)
    order = list(COCO17.flip_index)
    np.testing.assert_allclose(flipped.keypoints[:, 0], 95 - plain.keypoints[order, 0], atol=1e-4)
    np.testing.assert_allclose(flipped.joints3d, plain.joints3d[order] * [-1, 1, 1], atol=1e-6)


def test_mask_holds_the_seen_joints_and_gives_area_and_box(clean_crops):
    dataset = clean_crops.dataset("train")
    target = [dataset.target(index) for index in range(len(dataset))]
    inside = total = 0
    for index in range(len(dataset)):
        crop = dataset.crop(index)
        assert crop.area == crop.mask.sum() == float(target[index]["area"][0])
        x, y, w, h = crop.box
        rows, columns = np.nonzero(crop.mask)
        assert (x + 0.5, y + 0.5, x + w - 0.5, y + h - 0.5) == (columns.min(), rows.min(), columns.max(), rows.max())
        for (px, py), state in zip(crop.labels.keypoints, crop.visible, strict=True):
            if state == 2:
                total += 1
                # A point of the outline (ear, thin wrist) may round to the neighbouring pixel.
                window = crop.mask[
                    max(round(float(py)) - 1, 0) : round(float(py)) + 2,
                    max(round(float(px)) - 1, 0) : round(float(px)) + 2,
                ]
                inside += bool(window.any())
    assert total > 400
    assert inside / total > 0.995


def test_mask_follows_the_drawn_person(clean_crops):
    # The person's pixels change with its layer and nothing else does: composite with and without it.
    dataset = clean_crops.dataset("val")
    crop = dataset.crop(0)
    layer = dataset.layers[0]
    x, y = layer.origin
    covered = np.zeros((128, 96), dtype=bool)
    covered[y : y + layer.rgba.shape[0], x : x + layer.rgba.shape[1]] = layer.rgba[..., 3] > 127
    np.testing.assert_array_equal(crop.mask, covered)


def test_visibility_from_front_back_and_side():
    person = standing()
    front, back, side = visible_names(person, 0.0), visible_names(person, np.pi), visible_names(person, np.pi / 2)
    assert front == set(COCO17.joints)
    assert not back & {"nose", "left_eye", "right_eye"}
    assert {"left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee"} <= back
    # A body turned by +90 deg about y shows its right side to the camera.
    near, far = ("right", "left") if "right_ear" in side else ("left", "right")
    assert {f"{near}_shoulder", f"{near}_knee"} <= side  # the hanging arm covers the near hip
    assert not side & {f"{far}_shoulder", f"{far}_hip", f"{far}_ear", f"{far}_eye"}


def test_an_arm_in_front_hides_what_is_behind_it():
    person = standing()
    rotations = person.rotations.copy()
    # The left arm reaches forward and across: the wrist comes to lie before the right shoulder.
    rotations[16], rotations[18] = euler(y=-1.1), euler(y=-1.9)
    folded = Person(rotations, person.betas, person.look, person.light)
    assert "right_shoulder" in visible_names(person, 0.0)
    layer = render(np.random.default_rng(1), folded, seen_from(0.0), (192, 256), "COCO17")
    wrist, chest = layer.labels["joints3d"][[9, 6]]
    assert wrist[2] < chest[2] - 0.1
    hidden = {COCO17.joints[k] for k in np.flatnonzero(layer.labels["visible"] == 1)}
    assert hidden <= {"right_shoulder", "left_shoulder", "left_elbow"}


def test_visibility_rule_on_a_constructed_occlusion():
    # A wall of another part, before and behind each joint.
    figure = load_figure()
    body = load_builtin_body()
    joints = np.array([[0, 0, 3.0]] * 17, dtype=np.float32)
    keypoints = np.full((17, 2), 10, dtype=np.float32)
    wall = np.array([[-1, -1], [1, -1], [0, 2]]) * 60 + 20.0
    foot = int(np.flatnonzero(figure.part == 7)[0])  # a face of the left foot
    faces = body.faces[foot : foot + 1]
    points = np.zeros((len(body.v_template), 2))
    points[faces[0]] = wall[[0, 2, 1]]
    for depth, expected in ((2.5, True), (2.96, None), (3.5, False)):
        seen = rasterize(points, np.full(len(points), depth), faces, (60, 60))
        seen = type(seen)(seen.size, seen.inverse_depth, seen.pixel, np.full_like(seen.face, foot), seen.barycentric)
        hidden = hidden_by_self(seen, figure, keypoints, joints, "COCO17")
        ankle, wrist = hidden[15], hidden[9]
        if expected is None:  # 4 cm in front: hides the wrist, but is the ankle's own skin
            assert wrist
            assert not ankle
        else:
            assert wrist == ankle == expected


def test_pictures_change_with_the_epoch_but_val_does_not(hard_crops):
    train, val = hard_crops.dataset("train"), hard_crops.dataset("val")
    assert not torch.equal(train[(0, 1)]["image"], train[(1, 1)]["image"])
    assert torch.equal(val[(0, 1)]["image"], val[(5, 1)]["image"])


def test_ground_truth_is_what_the_samples_show(hard_crops):
    dataset = hard_crops.dataset("val")
    for index, target in enumerate(hard_crops.ground_truth("val")):
        sample = dataset[(0, index)]
        assert target["image_id"] == index == int(sample["sample_id"])
        torch.testing.assert_close(target["boxes"][0].float(), sample["box"])
        seen = sample["visible"] > 0
        torch.testing.assert_close(target["keypoints"][0, :, 2].long(), sample["visible"])
        torch.testing.assert_close(target["keypoints"][0, seen, :2].float(), sample["keypoints"][seen])
        assert target["area"][0] > 0
    assert any((t["keypoints"][0, :, 2] == 0).any() for t in hard_crops.ground_truth("val"))


def test_pictures_are_pictures(hard_crops):
    dataset = hard_crops.dataset("val")
    images = np.stack([denormalize_image(dataset[i]["image"]) for i in range(24)])
    assert images.std(axis=(1, 2, 3)).min() > 5
    assert 60 < images.mean() < 180


def test_h36m_labels_hold_the_pelvis_between_the_hips():
    module = SyntheticPeople(train_size=4, skeleton="H36M17", num_render_workers=1)
    joints = module.dataset("train")[0]["joints3d"]
    hips = (joints[H36M17.index("left_hip")] + joints[H36M17.index("right_hip")]) / 2
    assert (joints[0] - hips).norm() < 0.05


def test_long_drawing_is_mentioned_where_there_is_no_bar(monkeypatch, capsys):
    monkeypatch.setattr("posekit.data.synthetic.cache.MENTIONED", 3)
    SyntheticPeople(image_size=[32, 48], train_size=3, val_size=2, num_render_workers=1).setup("fit")
    said = capsys.readouterr().err
    assert "SyntheticPeople: drawing 3 people of split train; cache: false draws them as they are used" in said
    assert "split val" not in said
