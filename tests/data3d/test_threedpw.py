import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.signal import medfilt

from posekit.body import load_body, load_builtin_body
from posekit.data import ThreeDPW
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import H36M17, SPIN49
from tests.body.toys import toy_arrays
from tests.data3d.made import brightness, project, write_pictures

K = np.array([[600.0, 0, 200], [0, 600.0, 150], [0, 0, 1]])
FRAMES = 6
_OPENPOSE = [15, 12, 17, 19, 21, 16, 18, 20, 2, 5, 8, 1, 4, 7, 15, 15, 15, 15]  # SMPL's joint nearest to each of the 18


def sequence(actors=1, frames=FRAMES):
    """The content of an official file: bodies before a camera that turns."""
    rng = np.random.default_rng(0)
    body = load_builtin_body()
    camera = np.tile(np.eye(4), (frames, 1, 1))
    camera[:, :3, :3] = axis_angle_to_matrix(np.array([np.pi, 0, 0]) + rng.normal(0, 0.05, (frames, 3)))
    camera[:, :3, 3] = [0, 0, 5]
    names = ("poses", "betas", "trans", "jointPositions", "campose_valid", "poses2d", "genders")
    content = {name: [] for name in names} | {"sequence": "walk_00", "cam_poses": camera, "cam_intrinsics": K}
    for actor in range(actors):
        pose, trans = (
            rng.normal(0, 0.15, (frames, 24, 3)),
            rng.normal(0, 0.1, (frames, 3)) + np.array([0.5 * actor, 0.3, 0]),
        )
        _, joints = body.pose(np.zeros((frames, 10), np.float32), axis_angle_to_matrix(pose).astype(np.float32))
        world = joints.astype(np.float64) + trans[:, None]
        seen = np.einsum("nij,nkj->nki", camera[:, :3, :3], world) + camera[:, None, :3, 3]
        points = np.concatenate([project(seen, K)[:, _OPENPOSE], np.full((frames, 18, 1), 0.9)], -1)
        points[0, 4, 2] = 0.2  # below 0.3: not visible
        valid = np.ones(frames)
        valid[2] = 0
        values = (
            pose.reshape(frames, 72),
            np.zeros(10),
            trans,
            world.reshape(frames, 72),
            valid,
            points.swapaxes(1, 2),
            "m",
        )
        for name, value in zip(names, values, strict=True):
            content[name].append(value)
    return content


def write(root, split="train", content=None, name="walk_00"):
    content = sequence() if content is None else content
    folder = root / "sequenceFiles" / split
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=2))
    write_pictures(root / "imageFiles" / name, "image_%05d.jpg", FRAMES, (400, 300))
    return root


def test_labels_are_in_the_camera_s_frame(tmp_path):
    data = ThreeDPW(str(write(tmp_path)), frames=2, augmentation="none")
    (track,) = data.tracks("train")
    assert len(track) == FRAMES
    assert track.fps == 30
    body = load_builtin_body()
    _, joints = body.pose(np.zeros((FRAMES, 10), np.float32), axis_angle_to_matrix(track.body_pose).astype(np.float32))
    rebuilt = joints + track.body_translation[:, None]
    valid = np.array([0, 1, 3, 4, 5])
    at, smpl = SPIN49.index("left_knee"), 4
    # Pose, translation and joints speak of one body, and its projection is the 2D label.
    np.testing.assert_allclose(rebuilt[valid, smpl], track.joints3d[valid, at], atol=1e-5)
    np.testing.assert_allclose(project(track.joints3d[valid, at], K), track.joints[valid, at, :2], atol=1e-6)
    assert (track.joints3d[valid, at, 2] > 3).all()
    np.testing.assert_allclose(track.camera[0], K)


def test_weights_follow_campose_valid(tmp_path):
    (track,) = ThreeDPW(str(write(tmp_path))).tracks("train")
    assert track.keys.tolist() == [True, True, False, True, True, True]
    assert track.body_weight.tolist() == [1, 1, 0, 1, 1, 1]
    assert (track.joints3d_weight[2] == 0).all()
    known = {SPIN49.joints[k] for k in np.flatnonzero(track.joints3d_weight[0])}
    assert known == {"pelvis", "neck"} | {
        f"{s}_{j}" for s in ("left", "right") for j in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
    }
    wrist = SPIN49.index("right_wrist")
    assert track.joints[0, wrist].tolist() == [0, 0, 0]
    assert track.joints[1, wrist, 2] == 2


def test_clips_and_crops(tmp_path):
    write(tmp_path, content=sequence(2))
    clips = ThreeDPW(str(tmp_path), frames=3, window="chunk", augmentation="none", image_size=(64, 64)).dataset("train")
    sample = clips[1]
    assert sample["image"].shape == (3, 3, 64, 64)
    assert sample["frame"].tolist() == [3, 4, 5]
    np.testing.assert_allclose(brightness(sample["image"]), [75, 90, 105], atol=4)  # the right pictures
    assert sample["body_weight"].tolist() == [1, 1, 1]
    assert sample["joints3d_weight"].shape == (3, 49)
    ids = np.concatenate([track.sample_ids for track in clips.tracks])
    assert len(set(ids.tolist())) == 2 * FRAMES
    np.testing.assert_array_equal(clips.tracks[0].image_ids, clips.tracks[1].image_ids)  # two actors, one picture
    crops = ThreeDPW(str(tmp_path), view="crops", augmentation="none", image_size=(64, 64)).dataset("train")
    assert len(crops) == 2 * (FRAMES - 1)  # frames without a valid camera are no samples
    crop = crops[0]
    assert crop["image"].shape == (3, 64, 64)
    assert crop["joints3d"].shape == (*crop["joints3d_weight"].shape, 3)
    # Intrinsics of the crop's pixels project the 3D joints onto the 2D ones.
    hip = SPIN49.index("left_hip")
    pixel = crop["camera"] @ crop["joints3d"][hip]
    np.testing.assert_allclose(pixel[:2] / pixel[2], crop["keypoints"][hip], atol=0.05)


def test_mesh_joints_and_evaluation(tmp_path):
    for split in ("validation", "test"):
        write(tmp_path, split)
    data = ThreeDPW(str(tmp_path), body="builtin", eval_joints=14)
    (track,) = data.tracks("test")
    known = {SPIN49.joints[k] for k in np.flatnonzero(track.joints3d_weight[0])}
    assert len(known) == 14
    assert {"neck", "head_top"} <= known
    assert "pelvis" not in known
    (own,) = ThreeDPW(str(tmp_path), body="builtin", skeleton="H36M17").tracks("test")
    assert (own.joints3d_weight[0] > 0).all()
    (smpl,) = ThreeDPW(str(tmp_path), skeleton="H36M17", eval_joints=24).tracks("val")
    lacking = {H36M17.joints[k] for k in np.flatnonzero(smpl.joints3d_weight[0] == 0)}
    assert lacking == {"neck", "head_top"}
    hip = H36M17.index("left_hip")
    assert np.abs(own.joints3d[0, hip] - smpl.joints3d[0, hip]).max() < 0.1


def test_training_on_spin_s_joints_takes_those_of_the_mesh(tmp_path):
    """MAED's training labels: the model's own joints; its evaluation: Human3.6M's regressor."""
    for split in ("train", "validation"):
        write(tmp_path, split)
    data = ThreeDPW(str(tmp_path), body="builtin", eval_joints=14)
    (train,), (val,) = data.tracks("train"), data.tracks("val")
    lsp = slice(25, 39)
    for track in (train, val):
        assert np.flatnonzero(track.joints3d_weight[0]).tolist() == list(range(25, 39))
    body = load_body()
    output = body(torch.from_numpy(axis_angle_to_matrix(train.body_pose)).float(), torch.zeros(FRAMES, 10))
    own, h36m = (body.joints(output, name).numpy() for name in ("SPIN49", "H36M17"))
    hips = [SPIN49.index("right_hip"), SPIN49.index("left_hip")]
    moved = [points - points[:, hips].mean(1, keepdims=True) for points in (train.joints3d, own)]
    seen = train.keys
    np.testing.assert_allclose(moved[0][seen, lsp], moved[1][seen, lsp], atol=1e-5)
    neck = val.joints3d[:, SPIN49.index("neck")] - val.joints3d[:, hips].mean(1)
    wanted = h36m[:, H36M17.index("thorax")] - h36m[:, [H36M17.index("right_hip"), H36M17.index("left_hip")]].mean(1)
    np.testing.assert_allclose(neck[seen], wanted[seen], atol=1e-5)
    (other,) = ThreeDPW(str(tmp_path), body="builtin", skeleton="H36M17").tracks("train")
    assert (other.joints3d_weight[0] > 0).all()


def test_a_missing_body_or_regressor_is_no_faulty_recording(tmp_path):
    """Leaving out what cannot be read would leave out the recordings of women."""
    root = write(tmp_path / "data")
    bodies = tmp_path / "bodies"
    bodies.mkdir()
    np.savez(bodies / "SMPL_MALE.npz", **toy_arrays())
    np.save(bodies / "J_regressor_h36m.npy", np.ones((17, 48)) / 48)
    joints = {"body_joints": "H36M17"}
    for fault in ("error", "skip"):
        with pytest.raises(UserError, match=r"ThreeDPW: data\.body .*SMPL_FEMALE") as raised:
            ThreeDPW(str(root), body=str(bodies), gender="own", on_bad_annotation=fault, **joints).dataset("train")
        assert "on_bad_annotation" not in str(raised.value)
    np.savez(bodies / "SMPL_FEMALE.npz", **toy_arrays())
    (track,) = ThreeDPW(str(root), body=str(bodies), gender="own", **joints).tracks("train")
    assert (track.joints3d_weight[0] > 0).any()
    with pytest.raises(UserError, match=r"ThreeDPW: data\.body .* J_regressor_extra\.npy"):
        ThreeDPW(str(root), body=str(bodies), gender="own").dataset("train")
    (bodies / "J_regressor_h36m.npy").unlink()
    data = ThreeDPW(str(root), body=str(bodies / "SMPL_MALE.npz"), on_bad_annotation="skip", **joints)
    with pytest.raises(UserError, match=r"need J_regressor_h36m\.npy beside the body's file") as raised:
        data.dataset("train")
    assert ".." not in str(raised.value).replace("...", "")


def test_regressors_beside_a_body_s_file_are_found(tmp_path):
    root = write(tmp_path / "data", "validation")
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **toy_arrays())
    np.save(tmp_path / "J_regressor_h36m.npy", np.ones((17, 48)) / 48)
    (track,) = ThreeDPW(str(root), body=str(tmp_path / "SMPL_NEUTRAL.npz"), eval_joints=14).tracks("val")
    assert (track.joints3d_weight[0] > 0).sum() == 14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("cam_poses"), "has no cam_poses"),
        (lambda c: c.update(poses=np.zeros(3)), "poses is no list of actors"),
        (lambda c: c["betas"].__setitem__(0, np.zeros(4)), r"betas\[0\] has 4 numbers, expected 10"),
        (lambda c: c["trans"].append(np.zeros((6, 3))), "trans is for 2 actors, poses for 1"),
        (lambda c: c["jointPositions"].__setitem__(0, np.zeros((5, 72))), r"jointPositions\[0\] has shape \(5, 72\)"),
        (
            lambda c: c["poses2d"].__setitem__(0, np.full((6, 3, 18), np.nan)),
            r"poses2d\[0\] holds numbers that are not",
        ),
        (lambda c: c.update(cam_intrinsics="K"), "cam_intrinsics is no array of numbers"),
        (lambda c: c.update(poses=[1.0]), r"poses\[0\] has shape \(\), expected \(frames, 72\)"),
        (lambda c: c.update(betas=np.array(5.0)), "betas is for 0 actors, poses for 1"),
    ],
)
def test_faulty_files_are_named(tmp_path, change, message):
    content = sequence()
    change(content)
    root = write(tmp_path, content=content)
    with pytest.raises(UserError, match=message) as raised:
        ThreeDPW(str(root)).dataset("train")
    assert "walk_00.pkl" in str(raised.value)
    assert "on_bad_annotation=skip" in str(raised.value)
    assert ".. " not in str(raised.value)
    write(tmp_path, name="walk_01")
    assert len(ThreeDPW(str(root), on_bad_annotation="skip").tracks("train")) == 1


def test_missing_frames(tmp_path, caplog):
    root = write(write(tmp_path), name="walk_01")
    (root / "imageFiles" / "walk_00" / "image_00003.jpg").unlink()
    with pytest.raises(
        UserError, match=r"walk_00: 1 of 6 pictures do not exist, e\.g\. .*image_00003\.jpg.*on_broken_image"
    ):
        ThreeDPW(str(root)).dataset("train")
    assert len(ThreeDPW(str(root), on_broken_image="skip").tracks("train")) == 1
    assert "left out 1 recordings of split train without whole pictures: sequence walk_00" in caplog.text
    # A picture that turns out to be broken later is replaced by its neighbour, which is not valid.
    cut = root / "imageFiles" / "walk_01" / "image_00001.jpg"
    cut.write_bytes(cut.read_bytes()[:300])
    data = ThreeDPW(
        str(root), on_broken_image="skip", window="chunk", frames=3, augmentation="none", image_size=(32, 32)
    )
    sample = data.dataset("train")[0]
    assert sample["valid"].tolist() == [True, False, True]
    assert sample["body_weight"].tolist() == [1, 0, 0]


def test_a_malicious_file_is_refused(tmp_path):
    root = write(tmp_path)
    (root / "sequenceFiles" / "train" / "walk_00.pkl").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(UserError, match=r"refused: its pickle asks for os\.system"):
        ThreeDPW(str(root)).dataset("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gender": "x"}, "unknown gender of ThreeDPW"),
        ({"boxes": "x"}, "unknown boxes of ThreeDPW"),
        ({"eval_joints": 15}, "eval_joints is 15, but its evaluations have 14, 24 joints"),
        ({"view": "scenes"}, "unknown view of ThreeDPW"),
        ({"frames": 0}, "frames is 0, but must be positive"),
        ({"image_size": (8, 8)}, "image_size is"),
        ({"body_joints": "SMPL"}, "unknown skeleton 'SMPL'"),
        ({"window": "sliding"}, "unknown window of ThreeDPW"),
        ({"augmentation": "wild"}, "unknown clip augmentation"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        ThreeDPW(str(tmp_path), **options)


def test_boxes_of_vibe_s_label_files(tmp_path):
    content = sequence(frames=40)
    points = content["poses2d"][0]  # (frames, 3, 18)
    rng = np.random.default_rng(0)
    points[:, :2] = rng.uniform(50, 250, (40, 2, 18))
    points[[0, 20, 21], 2] = 0  # nobody is seen: no box at the end, one in between from the neighbours
    points[5, 2, 9:] = 0.3  # not above the threshold
    write(tmp_path, content=content)
    (own,) = ThreeDPW(str(tmp_path), verify_images=False).tracks("train")
    (track,) = ThreeDPW(str(tmp_path), verify_images=False, boxes="vibe").tracks("train")
    assert track.frames.tolist() == own.frames.tolist() == [*range(1, 20), *range(22, 40)]
    values = []
    for frame in own.frames:
        seen = points[frame, :2, points[frame, 2] > 0.3]
        low, high = seen.min(0), seen.max(0)
        values.append([*(low + high) / 2, 150 / np.linalg.norm(high - low)])
    paths = [np.interp(np.arange(1, 40), own.frames, path) for path in np.transpose(values)]
    x, y, scale = (gaussian_filter1d(medfilt(path, 11), 8)[own.frames - 1] for path in paths)
    side = 150 / scale * 1.1
    np.testing.assert_allclose(track.boxes, np.c_[x - side / 2, y - side / 2, side, side])
    write(tmp_path / "short")  # shorter than the median
    (short,) = ThreeDPW(str(tmp_path / "short"), boxes="vibe").tracks("train")
    assert (np.abs(short.boxes[:, :2] + short.boxes[:, 2:] / 2 - [200, 150]) < 100).all()
    assert (short.boxes[:, 2:] < 400).all()


def test_frames_with_few_of_the_limbs_joints_are_left_out(tmp_path):
    content = sequence(frames=24)
    content["poses2d"][0][10:14, 2] = 0
    content["poses2d"][0][10:12, 2, [0, 1, 2, 5, 14, 15, 16, 17]] = 0.9  # 8 of the 18, of the 12 the shoulders
    content["poses2d"][0][12:14, 2, 2:9] = 0.9  # 7 of the 12
    (track,) = ThreeDPW(str(write(tmp_path, content=content)), verify_images=False).tracks("train")
    assert track.frames.tolist() == [*range(10), *range(12, 24)]


def test_missing_folders(tmp_path):
    with pytest.raises(UserError, match=r"data root .* does not exist .*virtualhumans\.mpi-inf\.mpg\.de"):
        ThreeDPW(str(tmp_path / "no")).dataset("train")
    with pytest.raises(UserError, match=r"folder .*sequenceFiles.validation does not exist; get it from"):
        ThreeDPW(str(write(tmp_path))).dataset("val")
