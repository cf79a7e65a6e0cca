from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.body import load_builtin_body
from posekit.data import SyntheticPeople
from posekit.data.synthetic.clip_motion import WindowSampler, poses_at
from posekit.data.synthetic.clip_settings import ClipSettings
from posekit.data.synthetic.clip_stage import Stage, plan_clip, set_up
from posekit.data.synthetic.compositing import smear
from posekit.data.synthetic.options import resolve_difficulty
from posekit.geometry import axis_angle_to_matrix
from posekit.metrics import KeypointAP
from posekit.skeletons import COCO17, get_skeleton
from tests.body.toys import builtin_smplx

pytestmark = pytest.mark.usefixtures("few_backgrounds")


def clips(**options):
    sizes = {"train_size": 12, "val_size": 8, "test_size": 4}
    return SyntheticPeople(view="clips", num_render_workers=1, **{**sizes, **options})


@pytest.fixture(scope="module")
def hard(few_backgrounds):
    """Fully augmented, blurred and crossed clips of five frames, each frame cropped by its own box."""
    return clips(difficulty="video_hard", frames=5, frame_step=2, clip_box="frame", augmentation=1.0, batch_size=4)


def reprojected(sample):
    points = sample["joints3d"].double() @ sample["camera"].double().mT
    return points[..., :2] / points[..., 2:]


def test_sample_has_the_contract_s_fields(hard):
    sample = hard.dataset("train")[(0, 3)]
    shapes = {
        "image": (5, 3, 128, 96), "keypoints": (5, 17, 2), "visible": (5, 17), "affine": (5, 2, 3), "box": (5, 4),
        "box_score": (), "frame": (5,), "valid": (5,), "key": (), "image_id": (5,), "sample_id": (), "margin": (2,),
        "joints3d": (5, 17, 3), "joints3d_weight": (5, 17), "body_pose": (5, 24, 3), "body_shape": (5, 10),
        "body_weight": (5,), "body_translation": (5, 3), "camera": (5, 3, 3),
    }  # fmt: skip
    assert {name: tuple(value.shape) for name, value in sample.items()} == shapes
    integers = {"visible", "frame", "key", "image_id", "sample_id", "margin"}
    for name, value in sample.items():
        wanted = torch.int64 if name in integers else torch.bool if name == "valid" else torch.float32
        assert value.dtype == wanted, name
        assert torch.isfinite(value.float()).all(), name
    assert sample["key"] == 2
    assert sample["frame"].diff().tolist() == [2] * 4
    assert sample["margin"].tolist() == [4, 4]
    assert sample["image_id"].tolist() == [15, 16, 17, 18, 19]


def test_batches_come_from_the_loaders_and_ids_are_unique(hard):
    batch = next(iter(hard.train_dataloader()))
    assert batch["image"].shape == (4, 5, 3, 128, 96)
    ids = torch.cat([b["image_id"] for b in hard.val_dataloader()]).flatten()
    assert ids.tolist() == list(range(40))


@pytest.mark.parametrize("clip_box", ["key", "frame"])
@pytest.mark.parametrize("skeleton", ["COCO17", "POSETRACK15"])
def test_camera_and_joints_give_the_keypoints_after_augmentation(clip_box, skeleton):
    module = clips(train_size=6, clip_box=clip_box, skeleton=skeleton, augmentation=1.0, motion_blur=1.0)
    dataset = module.dataset("train")
    for epoch in range(2):
        for index in range(6):
            sample = dataset[(epoch, index)]
            torch.testing.assert_close(reprojected(sample).float(), sample["keypoints"], atol=5e-3, rtol=1e-5)


def test_smplx_rebuilds_the_augmented_and_mirrored_joints(hard):
    dataset, model = hard.dataset("train"), builtin_smplx(batch_size=5)
    regressor = torch.from_numpy(load_builtin_body().regressor("COCO17"))
    mirrored = 0
    for index in range(12):
        sample = dataset[(0, index)]
        output = model(
            betas=sample["body_shape"],
            global_orient=sample["body_pose"][:, 0],
            body_pose=sample["body_pose"][:, 1:].reshape(5, -1),
            transl=sample["body_translation"],
        )
        torch.testing.assert_close(regressor @ output.vertices, sample["joints3d"], atol=5e-4, rtol=0)
        mirrored += int(torch.linalg.det(sample["affine"][0, :, :2]) < 0)
    assert 0 < mirrored < 12


def test_one_augmentation_serves_all_frames():
    module = clips(augmentation=1.0)
    for index in range(6):
        sample = module.dataset("train")[(1, index)]
        assert torch.equal(sample["affine"], sample["affine"][:1].expand(3, 2, 3))
        assert torch.equal(sample["body_shape"], sample["body_shape"][:1].expand(3, 10))


def test_boxes_hold_the_person_and_own_boxes_fill_the_crop(hard):
    for split in ("train", "val"):
        for index in range(8):
            sample = hard.dataset(split)[(0, index)]
            linear, shift = sample["affine"][:, :, :2], sample["affine"][:, :, 2]
            original = ((sample["keypoints"] - shift[:, None]) @ torch.linalg.inv(linear).mT) - sample["box"][
                :, None, :2
            ]
            assert (original > -0.5).all()
            assert (original < sample["box"][:, None, 2:] + 0.5).all()
            corners = torch.stack([sample["box"][:, :2], sample["box"][:, :2] + sample["box"][:, 2:]], 1)
            if split == "val":
                crop = corners @ linear.mT + shift[:, None]
                share = (crop[:, 1] - crop[:, 0]) / torch.tensor([96, 128])
                assert ((share.max(-1).values > 0.65) & (share.max(-1).values < 1)).all()


def test_crops_by_the_key_box_differ_from_own_boxes_only_by_their_affine():
    options = {"val_size": 6, "frames": 3, "frame_step": 6}
    by_key, by_frame = clips(clip_box="key", **options), clips(clip_box="frame", **options)
    for index in range(6):
        a, b = by_key.dataset("val")[index], by_frame.dataset("val")[index]
        assert torch.equal(a["affine"], torch.eye(2, 3).expand(3, 2, 3))
        torch.testing.assert_close(a["box"], b["box"], atol=1e-3, rtol=1e-4)
        moved = a["keypoints"] @ b["affine"][:, :, :2].mT + b["affine"][:, None, :, 2]
        torch.testing.assert_close(moved, b["keypoints"], atol=5e-3, rtol=1e-4)
        torch.testing.assert_close(a["joints3d"], b["joints3d"])


def test_same_bytes_in_0_and_2_workers_and_from_any_renderer(tmp_path):
    def batches(workers, render=1, **options):
        module = SyntheticPeople(
            view="clips", train_size=12, difficulty="video_hard", batch_size=4, num_workers=workers,
            num_render_workers=render, image_size=(48, 64), **options,
        )  # fmt: skip
        loader = module.train_dataloader()
        loader.sampler.set_epoch(1)
        return list(loader)

    first = batches(0, cache_dir=str(tmp_path))
    for other in (batches(2, render=2), batches(0, cache_dir=str(tmp_path)), batches(0, cache=False)):
        for a, b in zip(first, other, strict=True):
            assert all(torch.equal(a[name], b[name]) for name in a)
    assert len(list(tmp_path.iterdir())) == 1


def test_splits_share_no_person_and_epochs_differ_in_training_only(hard):
    train, val = hard.dataset("train"), hard.dataset("val")
    assert not torch.equal(train[(0, 1)]["image"], train[(1, 1)]["image"])
    assert torch.equal(val[(0, 1)]["image"], val[(3, 1)]["image"])
    assert not torch.allclose(train[(0, 1)]["body_shape"], val[(0, 1)]["body_shape"])


def test_blur_changes_pixels_and_no_label():
    sharp = clips(motion_blur=0.0, occluders=0, people=0, noise=0)
    blurred = clips(motion_blur=1.0, occluders=0, people=0, noise=0)
    gradients = []
    for index in range(8):
        a, b = sharp.dataset("val")[index], blurred.dataset("val")[index]
        assert not torch.equal(a["image"], b["image"])
        assert all(torch.equal(a[name], b[name]) for name in a if name != "image")
        gradients.append([float(x["image"].diff(dim=-1).abs().mean()) for x in (a, b)])
    sharpness = np.array(gradients).mean(0)
    assert sharpness[1] < 0.9 * sharpness[0]


def test_longer_exposures_smear_a_fast_hand_along_its_path():
    # The mask is what covers a pixel for most of the exposure: a moving hand's shrinks, a resting trunk's does not.
    sharp, blurred = (clips(motion_blur=m, occluders=0, people=0, val_size=20) for m in (0.0, 1.0))
    moved, kept = [], []
    for index in range(20):
        a, b = sharp.dataset("val").clip(index), blurred.dataset("val").clip(index)
        speed = np.linalg.norm(a.labels[2].keypoints - a.labels[0].keypoints, axis=-1)[[9, 10]].max()
        moved.append(speed)
        kept.append(b.masks[1].sum() / a.masks[1].sum())
    order = np.argsort(moved)
    assert np.mean(np.array(kept)[order[-5:]]) < np.mean(np.array(kept)[order[:5]])


def test_objects_that_hide_the_key_frame_s_joints_leave_them_in_a_neighbour():
    module = clips(difficulty="video_hard", val_size=40, image_size=(48, 64))
    clear = clips(difficulty="video_hard", val_size=40, image_size=(48, 64), occluders=0, people=0)
    hidden = revealed = total = touched = 0
    for index in range(40):
        states = module.dataset("val").clip(index).visible
        free = clear.dataset("val").clip(index).visible
        by_objects = (states[1] == 1) & (free[1] == 2)
        neighbour = (states[[0, 2]] == 2).any(0)
        hidden += int(by_objects.sum())
        revealed += int((by_objects & neighbour).sum())
        total += int((free[1] == 2).sum())
        touched += bool(by_objects.any())
    assert 0.15 < hidden / total < 0.6
    assert revealed / hidden > 0.6
    assert touched / 40 > 0.6


def test_clean_keys_blur_only_and_occluders_only():
    def key_states(**options):
        dataset = clips(difficulty="video_hard", people=0, **options).dataset("val")
        return np.stack([dataset.clip(i).visible[1] for i in range(8)])

    clean, blurred = key_states(occluders=0, motion_blur=0), key_states(occluders=0)
    np.testing.assert_array_equal(clean, blurred)
    assert (key_states(motion_blur=0) == 1).sum() > (clean == 1).sum()


def test_motion_is_smooth_and_people_move():
    module = clips(frames=9, frame_step=1, camera_motion=0.0, val_size=10, clip_box="frame")
    speeds = []
    for index in range(10):
        joints = module.dataset("val")[index]["joints3d"]
        speeds.append(joints.diff(dim=0).norm(dim=-1) * 30)  # m/s
        assert (joints.diff(n=2, dim=0).norm(dim=-1) < 0.2).all()
    speeds = torch.stack(speeds)
    assert speeds.max() < 15
    assert speeds.mean() > 0.1


def test_windows_lie_inside_recordings_and_fast_ones_can_be_preferred():
    rng = np.random.default_rng(0)
    speeds = []
    for fast in (0.0, 1.0):
        sampler = WindowSampler("val", 6, 3, fast)
        lengths = {id(clip): len(clip.rotations) for clip in sampler.clips}
        draws = [sampler.draw(rng) for _ in range(300)]
        assert all(0 <= start < lengths[id(clip)] - 6 for clip, start in draws)
        assert len({id(clip) for clip, _ in draws}) > 5
        turns = [np.abs(np.diff(c.rotations[s + 2 : s + 5, 16:20], axis=0)).max() for c, s in draws]
        speeds.append(np.mean(turns))
    assert speeds[1] > 1.2 * speeds[0]


def test_poses_between_frames_turn_at_a_constant_rate():
    clip = WindowSampler("val", 10).clips[0]
    rotations, root = poses_at(clip, np.array([4.0, 4.25, 4.5, 5.0, -1.0, 1e9]))
    whole = axis_angle_to_matrix(clip.rotations)
    np.testing.assert_allclose(rotations[[0, 3, 4, 5]], whole[[4, 5, 0, -1]], atol=1e-5)
    quarter = rotations[0].swapaxes(-1, -2) @ rotations[1]
    np.testing.assert_allclose(rotations[0] @ quarter @ quarter, rotations[2], atol=1e-5)
    np.testing.assert_allclose(root[2], (clip.root[4] + clip.root[5]) / 2, atol=1e-6)


def test_camera_motion_moves_the_background_and_a_tripod_does_not():
    def pictures(strength):
        module = clips(
            camera_motion=strength, occluders=0, people=0, noise=0, blur=0, color=0, motion_blur=0, frame_step=6
        )
        dataset = module.dataset("val")
        return [dataset.clip(i) for i in range(4)]

    for still, moving in zip(pictures(0.0), pictures(1.0), strict=True):

        def change(clip):
            outside = ~(clip.masks[0] | clip.masks[2])
            outside[:, 20:76] = False  # hair and cloth reach beyond the masks
            difference = np.abs(clip.images[0].astype(int) - clip.images[2]).mean(-1)
            return difference[outside].mean()

        assert change(still) < 0.5
        assert change(moving) > change(still) + 0.5


def test_mask_and_box_follow_the_drawn_person():
    dataset = clips(occluders=0, people=0, motion_blur=0.0, frame_step=1).dataset("val")
    for index in range(8):
        clip = dataset.clip(index)
        for t in range(3):
            x, y, w, h = clip.boxes[t]
            rows, columns = np.nonzero(clip.masks[t])
            np.testing.assert_allclose([columns.min(), rows.min()], [max(x + 0.5, 0), max(y + 0.5, 0)], atol=2.5)
            ends = [min(x + w - 0.5, 95), min(y + h - 0.5, 127)]
            np.testing.assert_allclose([columns.max(), rows.max()], ends, atol=2.5)
            seen = clip.visible[t] == 2
            cells = np.rint(clip.labels[t].keypoints[seen]).astype(int)
            inside = [clip.masks[t][max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any() for x, y in cells]
            assert np.mean(inside) > 0.9


def test_ground_truth_of_keys_and_of_all_frames():
    module, every = clips(), clips(keys="all")
    targets, frames = module.ground_truth("val"), every.ground_truth("val")
    assert [t["image_id"] for t in targets] == [3 * i + 1 for i in range(8)]
    assert [t["image_id"] for t in frames] == list(range(24))
    for index in range(8):
        sample = module.dataset("val")[(0, index)]
        target = targets[index]
        seen = sample["visible"][1] > 0
        torch.testing.assert_close(target["keypoints"][0, seen, :2].float(), sample["keypoints"][1, seen])
        torch.testing.assert_close(target["boxes"][0].float(), sample["box"][1])
        assert frames[3 * index + 1]["area"] == target["area"]
        assert 0.2 < float(target["area"][0] / target["boxes"][0, 2:].prod()) < 0.9


def test_the_truth_as_prediction_scores_100(hard):
    metric = KeypointAP(sigmas=COCO17.sigmas)
    for index, target in enumerate(hard.ground_truth("val")):
        sample = hard.dataset("val")[(0, index)]
        affine = sample["affine"][2]
        points = (sample["keypoints"][2] - affine[:, 2]) @ torch.linalg.inv(affine[:, :2]).T
        keypoints = torch.cat([points, torch.ones(17, 1)], -1)[None]
        metric.update([{"keypoints": keypoints, "scores": torch.ones(1), "image_id": target["image_id"]}], [target])
    assert metric.compute()["AP"] == pytest.approx(1.0)


def test_unlabelled_training_clips_tell_nothing_but_val_does():
    module = clips(labels=False, domain="target", val_size=2, train_size=4)
    sample, plain = module.dataset("train")[(0, 1)], clips(domain="target", train_size=4).dataset("train")[(0, 1)]
    for name in ("keypoints", "visible", "joints3d", "joints3d_weight", "body_pose", "body_shape", "body_weight"):
        assert not sample[name].any(), name
        assert plain[name].any(), name
    assert torch.equal(sample["image"], plain["image"])
    assert module.dataset("val")[0]["visible"].any()
    assert SyntheticPeople(labels=False, train_size=2, num_render_workers=1).dataset("train")[0].keys() >= {
        "image",
        "visible",
        "affine",
    }


def test_one_frame_is_a_picture_with_a_time_axis():
    sample = clips(frames=1, frame_step=16).dataset("val")[0]
    assert sample["image"].shape == (1, 3, 128, 96)
    assert sample["key"] == 0
    assert sample["margin"].tolist() == [0, 0]


def test_root_orientation_is_in_the_camera_s_frame():
    sample = clips(frontal=1.0, camera_motion=0.0).dataset("val")[0]
    root = axis_angle_to_matrix(sample["body_pose"][:, 0])
    # The body's up axis points up in the picture, that is along -y.
    assert (root[:, 1, 1] < -0.5).all()
    hips = [get_skeleton("COCO17").index(f"{side}_hip") for side in ("left", "right")]
    across = sample["joints3d"][:, hips[0]] - sample["joints3d"][:, hips[1]]
    assert ((root[:, :, 0] * across).sum(-1) > 0).all()  # the left side is the body's +x


@pytest.mark.parametrize("path", [(3.0, 1.0), (-40.0, 12.0), (200.0, 0.0)])
@pytest.mark.parametrize("corner", [(0, 0), (30, 50), (70, 90)])
def test_blur_of_a_layer_is_that_of_the_whole_picture(path, corner):
    layer = np.zeros((120, 100, 4), np.uint8)
    x, y = corner
    layer[y : y + 25, x : x + 20] = np.random.default_rng(0).integers(0, 255, layer[y : y + 25, x : x + 20].shape)
    path = np.array(path, np.float32)
    whole = smear(layer.astype(np.float32), path)
    assert np.abs(smear(layer, path) - whole).max() <= 0.51
    assert not smear(np.zeros_like(layer), path).any()


@pytest.mark.parametrize("turn", [0.2, 2.0, -4.0])
def test_a_camera_that_turns_away_is_calmed_until_the_person_is_in_front(monkeypatch, turn):
    options = resolve_difficulty("easy", {})
    settings = ClipSettings(0, "train", (96, 128), options, "COCO17", None, 5, 16, "key")
    plan = plan_clip(settings, 0)
    frames = plan.start + 16 * np.arange(5, dtype=np.float64)
    drift = plan.path.drift.copy()
    drift[1] = turn / ((frames[4] - frames[2]) / 30)  # rad a second of yaw
    planned = replace(plan, path=replace(plan.path, drift=drift))
    camera, rounds = Stage.camera, []

    def counted(stage, moments):
        rounds.append(1)
        assert len(rounds) < 500, "it never ends"
        return camera(stage, moments)

    monkeypatch.setattr(Stage, "camera", counted)
    stage = set_up(planned, frames, frames[2])
    assert stage.camera(frames)[1][:, 2].min() > 1
    assert stage.target[2] < 1000
    assert (stage.plan is planned) == (turn == 0.2)  # a camera that sees the person all the time moves as drawn
