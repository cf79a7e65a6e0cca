import logging

import numpy as np
import pytest
import torch

from posekit.body import load_body, load_builtin_body
from posekit.data import AMASS, CMUMoCap
from posekit.data.joint_maps import source_of
from posekit.data.mocap.names import plain_names
from posekit.data.mocap.sequence import MotionSequence, check_rate, gapless, resample, to_tracks
from posekit.data.mocap.windows import turned
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import LIMB17, SMPL24
from tests.data3d.made import handedness
from tests.data3d.test_mocap_files import AMC, ASF, BVH
from tests.shared import SHARED, requires_shared

NAMES = ("Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase", "RightUpLeg", "RightLeg", "RightFoot",
         "RightToeBase",
         "Neck", "Head_end", "LeftArm", "LeftForeArm", "LeftHand", "RightArm", "RightForeArm", "RightHand")  # fmt: skip
PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 9, 11, 12, 9, 14, 15)


def write_archive(root, lengths, change=None):
    """Writes an archive of exponential maps: a body that walks along x."""
    root.mkdir(parents=True, exist_ok=True)
    offsets = np.zeros((17, 3))
    offsets[[1, 5], 0] = 100, -100
    offsets[[2, 3, 6, 7], 1] = -400
    offsets[[4, 8], 2] = 150
    offsets[[9, 10], 1] = 500, 250
    offsets[[11, 12, 13], 0], offsets[[14, 15, 16], 0] = 200, -200
    np.savez(root / "skeleton.npz", parents=np.array(PARENTS), offsets_mm=offsets, names=np.array(NAMES))
    motions = {}
    for number, length in enumerate(lengths):
        motion = np.zeros((length, 54), np.float32)
        motion[:, 0] = 0.01 / 0.056444 * np.arange(length)  # 1.2 m/s at 120
        motion[:, 1] = 16 + number
        motions[f"walking_{number + 1}"] = motion
    if change is not None:
        change(motions)
    np.savez(root / "motions.npz", **motions)
    return root


def module(root, **options):
    return CMUMoCap(str(root), **{"val_sequences": ["walking_1"], "rotate": False, "batch_size": 4, **options})


def test_windows_of_a_motion_batch(tmp_path):
    data = module(write_archive(tmp_path / "a", [240, 400, 121]), frames=30, stride=15)
    data.setup("fit")
    train, val = data.dataset("train"), data.dataset("val")
    # 400 frames at 120 are 100 at 30: windows from 0, 15, 30, 45, 60; 121 are 31, one window; 240 are 60, two for val.
    assert len(train) == 6
    assert len(val) == 2
    batch = next(iter(data.val_dataloader()))
    assert batch["joints3d"].shape == (2, 30, 17, 3)
    assert batch["joints3d"].dtype == torch.float32
    assert batch["weight"].shape == (2, 30, 17)
    assert (batch["weight"] == 1).all()
    assert batch["sample_id"].dtype == torch.int64
    assert len(set(batch["sample_id"].tolist())) == 2
    points = batch["joints3d"]
    np.testing.assert_allclose(points[0, 1:, 0, 0] - points[0, :-1, 0, 0], 0.04, atol=1e-5)  # every 4th frame
    np.testing.assert_allclose(points[1, 0, 0, 0] - points[0, 0, 0, 0], 30 * 0.04, atol=1e-5)
    height = points[..., LIMB17.index("head_top"), 2] - points[..., LIMB17.index("left_ankle"), 2]
    np.testing.assert_allclose(height, 1.55, atol=1e-4)  # up is up, in metres
    assert (handedness(points.numpy(), LIMB17) > 0).all()


def test_no_recording_is_in_two_splits(tmp_path):
    root = write_archive(tmp_path / "a", [120] * 20)
    data = CMUMoCap(str(root), val_share=0.2)
    parts = data.divided()
    names = {split: {r.name for r in part} for split, part in parts.items()}
    assert len(names["val"]) == 4
    assert not names["train"] & names["val"]
    assert names["test"] == names["val"]
    assert len(names["train"]) == 16
    assert names == {s: {r.name for r in p} for s, p in CMUMoCap(str(root), val_share=0.2).divided().items()}
    by_name = CMUMoCap(str(root), val_sequences=["walking_1*"], test_sequences=["walking_2"]).divided()
    assert len(by_name["val"]) == 11
    assert [r.name for r in by_name["test"]] == ["walking_2"]
    assert len(by_name["train"]) == 8


def test_rotation_is_about_the_vertical_and_of_the_epoch(tmp_path):
    data = module(write_archive(tmp_path / "a", [120, 120]), rotate=True)
    dataset = data.dataset("train")
    first, again, other = (dataset[key]["joints3d"] for key in ((0, 0), (0, 0), (1, 0)))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    np.testing.assert_allclose(first[..., 2], other[..., 2], atol=1e-6)
    np.testing.assert_allclose(first[..., :2].norm(dim=-1), other[..., :2].norm(dim=-1), atol=1e-5)
    np.testing.assert_allclose(turned(np.array([1.0, 0, 5], np.float32), np.pi / 2), [0, 1, 5], atol=1e-6)
    assert torch.equal(data.dataset("val")[(0, 0)]["joints3d"], data.dataset("val")[(3, 0)]["joints3d"])


# -- bad input --------------------------------------------------------------------------------------------------------


def test_nan_and_jumps_cut_a_recording(tmp_path, caplog):
    def change(motions):
        motions["walking_2"][200] = np.nan
        motions["walking_3"][200:, 0] += 40  # a jump of 2 m

    data = module(write_archive(tmp_path / "a", [120, 400, 400], change))
    with caplog.at_level(logging.WARNING):
        tracks = data.dataset("train").tracks
    assert [len(track.points) for track in tracks] == [50, 50, 50, 50]
    assert "cut 2 recordings of split train: " in caplog.text
    assert "10 m/s (option max_speed) or joints are no numbers: 1 frame dropped" in caplog.text
    assert all(np.isfinite(track.points).all() for track in tracks)


def test_short_recordings_are_named_and_skipped_or_refused(tmp_path, caplog):
    root = write_archive(tmp_path / "a", [120, 400, 0, 100])
    with caplog.at_level(logging.WARNING):
        data = module(root)
        assert len(data.dataset("train").tracks) == 1
    assert (
        "left out 2 recordings of split train without a window of 30 frames: walking_3 (0); walking_4 (25)"
        in caplog.text
    )
    with pytest.raises(UserError, match=r"walking_3 \(0\).*on_short_sequence=skip leaves them out"):
        module(root, on_short_sequence="error").dataset("train")
    with pytest.raises(UserError, match=r"none of the 1 recordings of split val .* holds a window of 60 frames at 30"):
        module(root, frames=60).dataset("val")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_fps": 24}, "recording walking_2 has 24 frames per second, fewer than the 30 that are asked for"),
        ({"source_fps": 0}, "recording walking_2 has a frame rate of 0 per second, which cannot be"),
        ({"rates": {"walking_22": 60}}, r"option rates names 'walking_22', but .* has walking_2,"),
        ({"rates": {"walking_2": 1e6}}, r"recording walking_2 has a frame rate of 1e\+06 per second"),
        ({"skeleton": "H36M17"}, "lacks spine, neck of joint set H36M17; missing_joints=zero_weight gives"),
        ({"skeleton": "COCO99"}, "unknown skeleton 'COCO99'"),
        ({"val_sequences": ["running_*"]}, r"val_sequences names 'running_\*'"),
        ({"frames": 0}, "frames is 0, but must be positive"),
        ({"format": "bvh"}, r"holds no \*\.bvh"),
        ({"format": "c3d"}, "unknown format of CMUMoCap 'c3d'"),
        ({"val_share": 1.5}, "val_share is 1.5"),
        ({"scale": -1}, "scale is -1"),
        ({"missing_joints": "guess"}, "unknown missing_joints of CMUMoCap"),
    ],
)
def test_wrong_options_in_one_line(tmp_path, options, message):
    root = write_archive(tmp_path / "a", [120, 240])
    with pytest.raises(UserError, match=message) as raised:
        module(root, **options).dataset("train")
    assert "\n" not in str(raised.value)


def test_missing_joints_get_weight_zero_on_request(tmp_path):
    data = module(write_archive(tmp_path / "a", [120, 240]), skeleton="H36M17", missing_joints="zero_weight")
    sample = data.dataset("train")[0]
    lacking = (sample["weight"][0] == 0).nonzero().flatten().tolist()
    assert lacking == [7, 9]
    assert (sample["joints3d"][:, lacking] == 0).all()


def test_root_and_empty_folder(tmp_path):
    with pytest.raises(UserError, match=r"data root .* does not exist .*mocap\.cs\.cmu\.edu"):
        CMUMoCap(str(tmp_path / "none")).dataset("train")
    with pytest.raises(UserError, match=r"holds no \*\.amc or \*\.bvh or \*\.npz"):
        CMUMoCap(str(tmp_path)).dataset("train")
    root = write_archive(tmp_path / "a", [120])
    with pytest.raises(UserError, match=r"has 1 sequence, which leaves split val and test empty|leaves split"):
        CMUMoCap(str(root)).dataset("train")


def test_broken_archives(tmp_path):
    root = write_archive(tmp_path / "a", [120, 240], lambda m: m.update(walking_2=np.zeros((5, 7), np.float32)))
    with pytest.raises(UserError, match=r"motions\.npz: array 'walking_2' has shape \(5, 7\), expected \(T, 54\)"):
        module(root).dataset("train")
    with pytest.raises(UserError, match="none of the 1 recordings"):
        module(root, on_bad_sequence="skip").dataset("train")
    (root / "motions.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"motions\.npz is truncated or no \.npz file"):
        module(root).dataset("train")
    np.savez(root / "motions.npz", walking_1=np.array([{}], dtype=object), walking_2=np.zeros((9, 54)))
    with pytest.raises(UserError, match="'walking_1' holds Python objects, which would have to be unpickled"):
        module(root).dataset("val")


def test_bvh_needs_the_right_scale_and_names(tmp_path):
    long = BVH.replace("Frames: 2", "Frames: 40") + "1 2 3 0 0 0 0 0 0 0 0 0\n" * 38
    for name in ("a", "b"):
        (tmp_path / f"{name}.bvh").write_text(long)
    joints = {"left_ankle": "LeftLeg_end", "left_hip": "LeftUpLeg"}
    options = {"val_sequences": ["a"], "joints": joints, "missing_joints": "zero_weight", "rotate": False}
    sample = CMUMoCap(str(tmp_path), **options, scale=0.1).dataset("train")[0]
    assert sample["weight"][0].sum() == 4  # the root, and hip, knee and ankle of one leg
    knee, ankle = (sample["joints3d"][0, LIMB17.index(f"left_{j}")] for j in ("knee", "ankle"))
    np.testing.assert_allclose(ankle - knee, [0, 0, -0.3], atol=1e-6)
    with pytest.raises(UserError, match=r"b\.bvh are 7 m long with a unit of 1 m: set option scale"):
        CMUMoCap(str(tmp_path), **options, scale=1.0).dataset("train")
    with pytest.raises(UserError, match="has no joint 'LFoot'"):
        CMUMoCap(str(tmp_path), **{**options, "joints": {"left_foot": "LFoot"}}).dataset("train")


# Mixamo's skeleton: a joint's depth, name and offset in cm; the free ends lie 10 cm on.
MIXAMO = """0 Hips 0 100 0, 1 Spine 0 10 0, 2 Spine1 0 12 0, 3 Spine2 0 13 0, 4 Neck 0 15 0, 5 Head 0 10 0,
6 HeadTop_End 0 20 0, 4 LeftShoulder 6 9 0, 5 LeftArm 12 0 0, 6 LeftForeArm 28 0 0, 7 LeftHand 28 0 0,
4 RightShoulder -6 9 0, 5 RightArm -12 0 0, 6 RightForeArm -28 0 0, 7 RightHand -28 0 0, 1 LeftUpLeg 9 -5 0,
2 LeftLeg 0 -44 0, 3 LeftFoot 0 -44 0, 4 LeftToeBase 0 -10 13, 1 RightUpLeg -9 -5 0, 2 RightLeg 0 -44 0,
3 RightFoot 0 -44 0, 4 RightToeBase 0 -10 13"""


def write_bvh(path, joints=MIXAMO, prefix="mixamorig:", height=0):
    lines, width, depth = ["HIERARCHY"], 0, -1
    rows = [entry.split() for entry in joints.split(",")]
    for number, (level, name, *offset) in enumerate(rows):
        lines += ["}"] * (depth - int(level) + 1)
        depth, width = int(level), width + 6
        lines += [f"{'JOINT' if number else 'ROOT'} {prefix}{name}", "{", f"OFFSET {' '.join(offset)}"]
        lines.append("CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation")
        if number + 1 == len(rows) or int(rows[number + 1][0]) <= depth:
            lines += ["End Site", "{", "OFFSET 0 10 0", "}"]
    lines += ["}"] * (depth + 1) + ["MOTION", "Frames: 40", "Frame Time: 0.0333333"]
    frame = " ".join(f"{x} {int(y) + (height if level == '0' else 0)} {z} 0 0 0" for level, _, x, y, z in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines + [frame] * 40))
    return path


def bvh_module(root, **options):
    return CMUMoCap(str(root), **{"scale": 0.01, "rotate": False, "val_sequences": ["b"], **options})


@pytest.mark.parametrize("prefix", ["", "mixamorig:", "mixamorig", "Armature_", "film|mixamorig:"])
def test_names_of_mixamo_behind_whatever_an_exporter_puts_before_them(tmp_path, prefix):
    for name in "ab":
        write_bvh(tmp_path / f"{name}.bvh", prefix=prefix, height=ord(name))
    sample = bvh_module(tmp_path).dataset("train")[0]
    assert (sample["weight"] == 1).all()
    points = sample["joints3d"][0] - sample["joints3d"][0, 0]
    np.testing.assert_allclose(points[LIMB17.index("head_top")], [0, 0, 0.85], atol=1e-6)
    np.testing.assert_allclose(points[LIMB17.index("left_wrist")], [0.74, 0, 0.49], atol=1e-6)
    own = {"left_wrist": f"{prefix}LeftForeArm", "right_wrist": "RightForeArm"}  # the file's name, and the plain one
    sample = bvh_module(tmp_path, joints=own).dataset("train")[0]
    for side in ("left", "right"):
        wrist, elbow = (sample["joints3d"][0, LIMB17.index(f"{side}_{joint}")] for joint in ("wrist", "elbow"))
        assert torch.equal(wrist, elbow)


def test_unknown_joints_are_named_with_the_file_s_and_the_option(tmp_path):
    for name in "ab":
        write_bvh(tmp_path / f"{name}.bvh", MIXAMO.replace("Hips", "Root").replace("Leg", "Bein"), "x:", ord(name))
    expected = (
        r"a\.bvh of recording a lacks pelvis, .*left_knee.* of joint set LIMB17; missing_joints=zero_weight gives "
        r"them weight 0; it has x:Root, x:Spine, .*x:LeftUpBein, .* \(option joints says which is which, as "
        r"\{pelvis: x:Root\}\)"
    )
    with pytest.raises(UserError, match=expected) as raised:
        bvh_module(tmp_path).dataset("train")
    assert "\n" not in str(raised.value)


def test_two_people_of_one_file_keep_their_names():
    names = ("a:Hips", "a:LeftUpLeg", "b:Hips", "b:LeftUpLeg")
    assert plain_names(names) == names
    assert plain_names(("a:Hips", "LeftUpLeg")) == ("a:Hips", "LeftUpLeg")
    assert plain_names(("Rig", "a:Hips", "a:LeftUpLeg", "a:x")) == ("Rig", "Hips", "LeftUpLeg", "x")


def test_files_in_capitals_are_found(tmp_path):
    for name in ("a.BVH", "b.Bvh"):
        write_bvh(tmp_path / "bvh" / name, height=ord(name[0]))
    assert [r.name for r in bvh_module(tmp_path / "bvh").recordings()] == ["a", "b"]
    assert len(bvh_module(tmp_path / "bvh").dataset("train")) > 0
    (tmp_path / "asf").mkdir()
    (tmp_path / "asf" / "WALK.ASF").write_text(ASF)
    (tmp_path / "asf" / "other.asf").write_text("another skeleton")
    (tmp_path / "asf" / "walk_1.AMC").write_text(AMC)
    (recording,) = CMUMoCap(str(tmp_path / "asf")).recordings()
    assert recording.name == "walk_1"
    assert len(recording.read()) == 2


def test_files_of_one_name_go_by_their_path(tmp_path):
    for number, name in enumerate(("s0/walk", "s0/run", "s1/walk")):
        write_bvh(tmp_path / f"{name}.bvh", height=number)
    data = bvh_module(tmp_path, val_sequences=["s1/*"], rates={"s1/walk": 60, "walk": 90})
    parts = data.divided()
    assert [r.name for r in parts["train"]] == ["run", "s0/walk"]
    assert [r.name for r in parts["val"]] == ["s1/walk"]
    assert [r.read().fps for r in data.recordings()] == [pytest.approx(30, abs=1e-3), 90, 60]
    by_subject = bvh_module(tmp_path, val_sequences=["s0"], split_by="subject").divided()
    assert [r.name for r in by_subject["val"]] == ["run", "s0/walk"]
    (tmp_path / "s2").mkdir()
    (tmp_path / "s2" / "walk.bvh").write_bytes((tmp_path / "s0" / "walk.bvh").read_bytes())
    with pytest.raises(UserError, match=r"recording walk is there twice: .*s0/walk\.bvh and .*s2/walk\.bvh"):
        data.recordings()


def test_resampling_meets_times(tmp_path):
    points = np.arange(11.0)[:, None, None] * np.ones((1, 2, 3))
    np.testing.assert_allclose(resample(points, 120, 30)[:, 0, 0], [0, 4, 8])
    np.testing.assert_allclose(resample(points, 100, 30)[:, 0, 0], [0, 10 / 3, 20 / 3, 10])
    np.testing.assert_allclose(resample(points, 30, 30)[:, 0, 0], np.arange(11))
    assert len(resample(points[:0], 120, 30)) == 0
    assert check_rate(59.94, 30) is None
    assert check_rate(29.97, 30) is None
    assert "cannot be" in check_rate(float("nan"), 30)


def test_gapless_pieces():
    points = np.zeros((8, 2, 3))
    points[3, 1, 2] = np.nan
    points[6:, :, 0] = 1.0
    assert gapless(points, 30, 10) == [slice(0, 3), slice(4, 6), slice(6, 8)]
    assert gapless(np.full((3, 2, 3), np.nan), 30, 10) == []


def test_a_bad_joint_spoils_only_what_is_made_of_it():
    points = np.zeros((4, 24, 3))
    points[2, SMPL24.index("left_hand")] = np.nan  # LIMB17 does not use the hands
    tracks, dropped = to_tracks(MotionSequence("a", points, source_of(SMPL24), 30.0), LIMB17, 30.0, 10.0)
    assert len(tracks) == 1
    assert dropped == 0
    points[2, SMPL24.index("left_hip")] = np.nan  # the pelvis is the middle of the hips
    tracks, dropped = to_tracks(MotionSequence("a", points, source_of(SMPL24), 30.0), LIMB17, 30.0, 10.0)
    assert [len(t.points) for t in tracks] == [2, 1]
    assert dropped == 1


# -- AMASS ------------------------------------------------------------------------------------------------------------


def write_amass(root, name="KIT/3/walk_01_poses.npz", frames=120, **changes):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(name))
    poses = np.zeros((frames, 156))
    poses[:, 0] = np.pi / 2  # the body's y is up, AMASS' world has z up
    poses[:, 3:66] = rng.normal(0, 0.02, 63)
    arrays = {
        "poses": poses, "trans": np.tile([0.0, 0, 0.9], (frames, 1)), "betas": np.zeros(16),
        "mocap_framerate": np.array(120.0), "gender": np.array("female"), "dmpls": np.zeros((frames, 8)),
    }  # fmt: skip
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    return path


def test_amass_joints_are_the_body_s(tmp_path):
    write_amass(tmp_path, "KIT/3/a_poses.npz")
    path = write_amass(tmp_path, "KIT/4/b_poses.npz")
    np.savez(tmp_path / "KIT" / "3" / "shape.npz", betas=np.zeros(16))
    data = AMASS(str(tmp_path), val_sequences=["KIT/3"], rotate=False, skeleton="SMPL24", split_by="subject")
    assert [r.name for r in data.divided()["train"]] == ["KIT/4/b"]
    sample = data.dataset("train")[0]
    with np.load(path) as content:
        turns = np.zeros((1, 24, 3))
        turns[0, :22] = content["poses"][0, :66].reshape(22, 3)
        shift = content["trans"][0]
    body = load_builtin_body()
    _, joints = body.pose(np.zeros((1, 10), np.float32), axis_angle_to_matrix(turns).astype(np.float32))
    np.testing.assert_allclose(sample["joints3d"][0], joints[0] + shift, atol=1e-5)
    points = AMASS(str(tmp_path), val_sequences=["KIT/3*"], rotate=False).dataset("train")[0]["joints3d"].numpy()
    assert (handedness(points, LIMB17) > 0).all()
    assert (points[:, LIMB17.index("head_top"), 2] - points[:, LIMB17.index("left_foot"), 2] > 1.3).all()


def test_amass_takes_a_body_and_its_shape(tmp_path):
    for name, betas in (("A/1/a_poses.npz", np.zeros(16)), ("A/2/b_poses.npz", np.r_[2.0, np.zeros(15)])):
        write_amass(tmp_path, name, betas=betas)
    data = AMASS(str(tmp_path), body="builtin", val_sequences=["A/1/*"], rotate=False)
    tall, usual = data.dataset("train")[0]["joints3d"], data.dataset("val")[0]["joints3d"]
    thighs = [(p[0, LIMB17.index("left_hip")] - p[0, LIMB17.index("left_knee")]).norm() for p in (tall, usual)]
    assert abs(thighs[0] - thighs[1]) > 0.005


def test_amass_takes_the_body_of_the_files_gender(tmp_path, monkeypatch):
    asked = []

    def load(path, gender):
        asked.append(gender)
        return load_body()

    monkeypatch.setattr("posekit.data.mocap.amass.load_body", load)
    for name, gender in (("A/1/a_poses.npz", "female"), ("A/2/b_poses.npz", b"male"), ("A/3/c_poses.npz", "neutral")):
        write_amass(tmp_path, name, gender=np.array(gender), betas=np.r_[2.0, np.zeros(15)])
    mean = write_amass(tmp_path, "A/4/d_stageii.npz", gender=np.array("male"), betas=np.full(16, 2.0))
    data = AMASS(str(tmp_path), body="bodies", gender="own", val_sequences=["A/1/*"], rotate=False)
    found = {track.name: track.points for split in ("train", "val") for track in data.dataset(split).tracks}
    assert sorted(asked) == ["female", "male", "neutral"]
    thigh = {
        name: np.linalg.norm(p[0, LIMB17.index("left_hip")] - p[0, LIMB17.index("left_knee")])
        for name, p in found.items()
    }
    assert abs(thigh["b_poses"] - thigh[mean.stem]) > 0.005  # SMPL-X's shapes are of another space: the mean's
    assert AMASS(str(tmp_path), body="bodies", val_sequences=["A/1/*"]).dataset("train")
    assert asked[3:] == ["neutral"]
    write_amass(tmp_path, "A/5/e_poses.npz", gender=np.array("x"))
    with pytest.raises(UserError, match=r"gender is .*x.*, not male, female or neutral"):
        AMASS(str(tmp_path), body="bodies", gender="own", val_sequences=["A/1/*"]).dataset("train")
    with pytest.raises(UserError, match="unknown gender of AMASS 'men'"):
        AMASS(str(tmp_path), gender="men")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mocap_framerate": None}, "has no mocap_framerate, so its frame rate is not known"),
        ({"mocap_framerate": np.array(np.nan)}, "has a frame rate of nan per second"),
        ({"mocap_framerate": np.array(0.0)}, "has a frame rate of 0 per second"),
        ({"trans": np.zeros((7, 3))}, r"trans has shape \(7, 3\), expected \(120, 3\)"),
        ({"trans": None}, "has no array trans"),
        ({"poses": np.zeros((120, 63))}, r"poses have shape \(120, 63\), expected \(T, 66 or more\)"),
        ({"poses": np.array(["x"])}, "poses is of <U1, not of numbers"),
    ],
)
def test_faults_of_amass_files_are_named(tmp_path, changes, message):
    write_amass(tmp_path, "A/1/a_poses.npz")
    write_amass(tmp_path, "A/2/b_poses.npz", **changes)
    with pytest.raises(UserError, match=message) as raised:
        AMASS(str(tmp_path), val_sequences=["A/1*"]).dataset("train")
    assert "b" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_amass_without_files(tmp_path):
    with pytest.raises(UserError, match=r"holds no \*_poses\.npz .*amass\.is\.tue\.mpg\.de"):
        AMASS(str(tmp_path)).dataset("train")


def test_newer_amass_files(tmp_path):
    for name in ("a", "b"):
        write_amass(tmp_path, f"S/1/{name}_stageii.npz", mocap_framerate=None, mocap_frame_rate=np.array(60.0))
    data = AMASS(str(tmp_path), val_sequences=["S/1/a"])
    assert len(data.dataset("train").tracks[0].points) == 60


# -- the real files ---------------------------------------------------------------------------------------------------


@requires_shared
@pytest.mark.parametrize(("folder", "walk"), [("cmu_asf_amc", "02_01"), ("cmu_mocap", "walking_13")])
def test_real_walks_are_walks(folder, walk):
    data = CMUMoCap(str(SHARED / "data" / folder), val_sequences=[walk], rotate=False, val_stride=5)
    dataset = data.dataset("val")
    assert len(dataset) > 5
    assert len(dataset.tracks) == 1
    points = dataset.tracks[0].points.astype(np.float64)
    speed = np.linalg.norm(np.diff(points[:, 0, :2], axis=0), axis=-1) * 30
    assert 0.9 < np.median(speed) < 1.7  # m/s
    parents = np.array(LIMB17.parents)
    bones = np.linalg.norm(points - points[:, np.maximum(parents, 0)], axis=-1)
    limbs = [LIMB17.index(f"{s}_{j}") for s in ("left", "right") for j in ("knee", "ankle", "foot", "elbow", "wrist")]
    assert bones[:, limbs].std(0).max() < 1e-5
    assert (handedness(points, LIMB17) > 0).all()
    up = points[:, LIMB17.index("head_top")] - points[:, 0]
    assert (up[:, 2] > 0.9 * np.linalg.norm(up, axis=-1)).all()
    feet = points[:, [LIMB17.index("left_foot"), LIMB17.index("right_foot")], 2]
    assert -0.1 < feet.min() < 0.15
    assert 1.3 < points[:, LIMB17.index("head_top"), 2].mean() < 1.8


@requires_shared
def test_real_glitches_are_cut(caplog):
    with caplog.at_level(logging.WARNING):
        data = CMUMoCap(str(SHARED / "data" / "cmu_asf_amc"), val_sequences=["02_*"])
        tracks = data.dataset("train").tracks
    assert (
        "03_02, where the body moves faster than 10 m/s" in caplog.text
    )  # 03_02 has frames at which the body leaps at 14 m/s
    for track in tracks:
        speed = np.linalg.norm(np.diff(track.points.mean(1), axis=0), axis=-1) * 30
        assert speed.max() < 10
