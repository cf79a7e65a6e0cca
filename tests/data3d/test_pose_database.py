import pickle

import numpy as np
import pytest

from posekit.data import InstaVariety, PoseDatabase
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import LSP14, SPIN49
from tests.data3d.made import brightness, write_pictures

COUNT = 8


def arrays(**changes):
    rng = np.random.default_rng(0)
    joints2d = np.concatenate([rng.uniform(20, 80, (COUNT, 49, 2)), np.ones((COUNT, 49, 1))], -1)
    joints2d[0, 30, 2] = 0
    joints3d = np.concatenate([rng.normal(0, 0.3, (COUNT, 49, 3)), np.zeros((COUNT, 49, 1))], -1)
    joints3d[:, 25:39, 3] = 1
    pose = rng.normal(0, 0.2, (COUNT, 72))
    pose[7] = 0
    valid = np.ones(COUNT)
    valid[2] = 0
    content = {
        "img_name": np.array([f"seq{k // 5}/{k:06d}.jpg" for k in range(COUNT)]),
        "vid_name": np.array([f"seq{k // 5}" for k in range(COUNT)]),
        "frame_id": np.array([0, 1, 2, 3, 4, 0, 1, 2]),
        "joints2D": joints2d, "joints3D": joints3d, "pose": pose, "shape": rng.normal(0, 1, (COUNT, 10)),
        "bbox": np.tile([50.0, 50, 60, 60], (COUNT, 1)), "valid": valid, "cam": np.zeros((COUNT, 3)),
    }  # fmt: skip
    return {name: value for name, value in {**content, **changes}.items() if value is not None}


def write(root, kind=".npz", name="3dpw_train_db", **changes):
    root.mkdir(parents=True, exist_ok=True)
    content = arrays(**changes)
    if kind == ".npz":
        np.savez(root / f"{name}.npz", **content)
    else:
        (root / f"{name}.pt").write_bytes(pickle.dumps(content))  # what joblib writes of arrays of objects
    for number in range(COUNT):
        write_pictures(root / f"seq{number // 5}", f"{number:06d}.jpg%.0d", 0)
    for sequence, numbers in (("seq0", range(5)), ("seq1", range(5, 8))):
        write_pictures(root / sequence, "raw%d.jpg", len(numbers), (100, 100))
        for place, number in enumerate(numbers):
            (root / sequence / f"raw{place}.jpg").rename(root / sequence / f"{number:06d}.jpg")
    return root


def data(root, **options):
    return PoseDatabase(
        str(root), **{"augmentation": "none", "image_size": (64, 64), "frames": 2, "window": "chunk", **options}
    )


@pytest.mark.parametrize("kind", [".npz", ".pt"])
def test_labels_of_both_files(tmp_path, kind):
    content = arrays()
    clips = data(write(tmp_path, kind)).dataset("train")
    first, second = clips.tracks
    assert (len(first), len(second)) == (5, 3)
    assert first.frames.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(second.joints3d, content["joints3D"][5:, :, :3] * (content["joints3D"][5:, :, 3:] > 0))
    assert first.joints3d_weight[0].sum() == 14
    assert (first.joints3d_weight[2] == 0).all()
    np.testing.assert_allclose(first.body_pose, content["pose"][:5].reshape(-1, 24, 3))
    assert first.body_weight.tolist() == [1, 1, 0, 1, 1]
    assert second.body_weight.tolist() == [1, 1, 0]
    np.testing.assert_allclose(first.boxes[0], [20, 20, 60, 60])
    assert first.joints[0, 30].tolist() == [0, 0, 0]
    assert first.joints[0, 31, 2] == 2
    assert first.keys.tolist() == [True, True, False, True, True]
    sample = clips[3]
    assert sample["frame"].tolist() == [0, 1]
    np.testing.assert_allclose(brightness(sample["image"]), [30, 45], atol=4)


def test_images_are_clips_of_one_frame(tmp_path):
    turns = axis_angle_to_matrix(arrays()["pose"].reshape(-1, 24, 3))
    root = write(tmp_path, vid_name=None, frame_id=None, bbox=None, pose=turns, joints3D=None)
    with pytest.raises(UserError, match=r"has single pictures \(no vid_name\): frames must be 1, not 2"):
        data(root).dataset("train")
    clips = data(root, frames=1).dataset("train")
    assert len(clips) == 7
    assert len(clips.tracks) == 1
    np.testing.assert_allclose(clips.tracks[0].body_pose.reshape(-1, 72), arrays()["pose"], atol=1e-9)
    sample = clips[0]
    assert sample["image"].shape == (1, 3, 64, 64)
    assert sample["box"].tolist() == [[0, 0, 100, 100]]
    assert len(data(root, frames=1, use_valid=False).dataset("train")) == 8


def test_joints_of_another_set(tmp_path):
    (first, _) = data(write(tmp_path), skeleton="LSP14").tracks("train")
    np.testing.assert_allclose(first.joints[1], arrays()["joints2D"][1, 25:39] * [1, 1, 2])
    assert len(LSP14) == first.joints.shape[1]


def test_frame_ids_may_be_file_stems(tmp_path):
    stems = np.array([f"image_{k:05d}" for k in (3, 4, 5, 8, 9, 0, 1, 2)])
    first, _ = data(write(tmp_path, frame_id=stems)).tracks("train")
    assert first.frames.tolist() == [3, 4, 5, 8, 9]
    first, _ = data(write(tmp_path, frame_id=np.zeros(COUNT, dtype=int))).tracks("train")
    assert first.frames.tolist() == [0, 1, 2, 3, 4]


def test_confidence_and_prefix(tmp_path):
    joints = arrays()["joints2D"]
    joints[..., 2] = 0.4
    names = np.array(["data\\3dpw\\" + n.replace("/", "\\") for n in arrays()["img_name"]])
    root = write(tmp_path, joints2D=joints, img_name=names)
    with pytest.raises(UserError, match=r"8 of 8 pictures do not exist, e\.g\. .*data.3dpw.seq0.000000\.jpg"):
        data(root).dataset("train")
    (first, _) = data(root, strip="data/3dpw").tracks("train")
    assert (first.joints[..., 2] == 2).all()
    with pytest.raises(UserError, match=r"left out 5 of 5|nobody is left"):
        data(root, strip="data/3dpw", min_confidence=0.5).dataset("train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joints2D": None}, "has no joints2D"),
        ({"img_name": np.array("a.jpg")}, "vid_name has 8 entries for 1 pictures"),
        ({"joints2D": np.zeros((COUNT, 25, 3))}, r"joints2D has shape \(8, 25, 3\), expected \(8, 49, 3\)"),
        ({"pose": np.zeros((COUNT, 144))}, r"pose has shape \(8, 144\), expected \(8, 72\)"),
        ({"shape": np.zeros((COUNT, 9))}, r"shape has shape \(8, 9\), expected \(8, 10\)"),
        ({"vid_name": np.array(["a"])}, "vid_name has 1 entries for 8 pictures"),
        ({"joints3D": np.full((COUNT, 49, 4), np.nan)}, "joints3D holds numbers that are not finite"),
        ({"img_name": np.array(["../../etc/passwd"] * COUNT)}, "img_name '../../etc/passwd' leads out of"),
        ({"img_name": np.array(["/abs.jpg"] * COUNT)}, "img_name '/abs.jpg' leads out of"),
    ],
)
def test_faulty_databases_are_named(tmp_path, changes, message):
    root = write(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as raised:
        data(root).dataset("train")
    assert "3dpw_train_db.npz" in str(raised.value)


def test_missing_files(tmp_path, caplog):
    root = write(tmp_path)
    with pytest.raises(UserError, match=r"3dpw_val_db\.pt does not exist; there are 3dpw_train_db\.npz; get it from"):
        data(root).dataset("val")
    np.savez(root / "3dpw_test_db.npz", **arrays())
    assert len(data(root).tracks("val")) == 2
    (root / "seq1" / "000006.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 8 pictures do not exist, e\.g\. .*000006\.jpg.*on_broken_image=skip"):
        data(root).dataset("train")
    assert [len(t) for t in data(root, on_broken_image="skip").tracks("train")] == [5, 2]
    assert "left out 1 pictures that do not exist" in caplog.text


def test_malicious_databases_are_refused(tmp_path):
    (tmp_path / "3dpw_train_db.pt").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(UserError, match=r"refused: its pickle asks for os\.system"):
        data(tmp_path).dataset("train")


def test_insta_variety(tmp_path):
    root = write(tmp_path / "a", name="insta_train_db", bbox=None, joints3D=None, pose=None, shape=None, valid=None)
    clips = InstaVariety(str(root), augmentation="none", frames=2, image_size=(64, 64)).dataset("train")
    sample = clips[0]
    assert sample["image"].shape == (2, 3, 64, 64)
    assert "joints3d" not in sample
    assert sample["visible"].shape == (2, len(SPIN49))
    other = tmp_path / "b"
    other.mkdir()
    (other / "train_0000_0000.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds tfrecords, which are not read: extract them first.*insta_variety"):
        InstaVariety(str(other)).dataset("train")


def insta(root, **options):
    return InstaVariety(str(root), **{"augmentation": "none", "frames": 2, "image_size": (64, 64), **options})


def test_insta_variety_keeps_videos_for_validation(tmp_path):
    """The scripts that extract it write a training file alone."""
    root = write(tmp_path, name="insta_train_db", bbox=None, joints3D=None, pose=None, shape=None, valid=None)
    names = {split: {track.name for track in insta(root).tracks(split)} for split in ("train", "val", "test")}
    assert len(names["train"]) == len(names["val"]) == 1
    assert names["train"] | names["val"] == {"seq0", "seq1"}
    assert names["val"] == names["test"]
    assert len(insta(root, val_share=0).tracks("train")) == 2
    with pytest.raises(UserError, match="val_share is 0, which leaves no video for split val"):
        insta(root, val_share=0).tracks("val")
    with pytest.raises(UserError, match="must be in"):
        insta(root, val_share=1.0)
    np.savez(root / "insta_val_db.npz", **arrays(bbox=None))
    assert len(insta(root).tracks("train")) == len(insta(root).tracks("val")) == 2
    with pytest.raises(UserError, match=r"insta_train_db\.pt does not exist"):
        insta(tmp_path / "seq0").tracks("val")


@pytest.mark.parametrize("weighed", [False, True])
def test_vibe_s_14_joints_go_to_their_places(tmp_path, weighed):
    content = arrays()
    joints2d, joints3d = content["joints2D"][:, 25:39], content["joints3D"][:, 25:39]
    if not weighed:
        joints2d, joints3d = joints2d[..., :2], joints3d[..., :3]
    first, _ = data(write(tmp_path, joints2D=joints2d, joints3D=joints3d, valid=None)).tracks("train")
    assert first.joints3d_weight[0].tolist() == [0.0] * 25 + [1.0] * 14 + [0.0] * 10
    np.testing.assert_allclose(first.joints3d[:, 25:39], content["joints3D"][:5, 25:39, :3])
    np.testing.assert_allclose(first.joints[1, 25:39, :2], content["joints2D"][1, 25:39, :2])
    assert (first.joints[1, 25:39, 2] == 2).all()
    assert (first.joints[:, :25, 2] == 0).all()
    assert first.joints[0, 30, 2] == (0 if weighed else 2)


HELD = [*range(25, 39), 39, 41, 43]  # what MPI-INF-3DHP has of the 49


def without_confidences(rows=COUNT, root=True):
    """VIBE's file of MPI-INF-3DHP: joints that it lacks are zero, and the root may be taken off them too."""
    joints = np.random.default_rng(0).normal(1, 0.3, (rows, 49, 3))
    joints[:, [at for at in range(49) if at not in HELD]] = 0
    return joints - joints[:, 39:40] if root else joints


@pytest.mark.parametrize("root", [True, False])
def test_joints_that_a_file_without_confidences_lacks(tmp_path, caplog, root):
    given = without_confidences(root=root)
    first, _ = data(write(tmp_path, joints3D=given, valid=None)).tracks("train")
    assert np.flatnonzero(first.joints3d_weight[0]).tolist() == HELD
    np.testing.assert_allclose(first.joints3d[:, HELD], given[:5, HELD])
    (line,) = caplog.messages
    assert line.endswith(
        "3dpw_train_db.npz: joints3D has no confidences, and 32 of its 49 joints lie at one place in every row: they "
        "count as absent (op_nose; op_neck; op_right_shoulder; and 29 more)"
    )


def test_joints_at_one_place_that_are_real(tmp_path, caplog):
    given = without_confidences()
    given[:] = np.random.default_rng(1).normal(0, 1, given.shape)
    given[:, [0, 1]] = given[:, [44, 37]]  # SPIN names some joints twice
    given[:3, [2, 3]] = given[:3, 4:5]  # and joints may meet
    first, _ = data(write(tmp_path, joints3D=given, valid=None)).tracks("train")
    assert (first.joints3d_weight == 1).all()
    assert caplog.messages == []


def test_one_row_and_joints_in_2d_without_confidences(tmp_path, caplog):
    content = {name: value[:1] for name, value in arrays(joints3D=without_confidences(), valid=None).items()}
    content["joints2D"] = np.where(np.isin(np.arange(49), HELD)[:, None], content["joints2D"][..., :2], 0)
    np.savez(write(tmp_path) / "mpii3d_train_db.npz", **content)
    (track,) = data(tmp_path, dataset="mpii3d", frames=1).tracks("train")
    assert np.flatnonzero(track.joints3d_weight[0]).tolist() == HELD
    assert np.flatnonzero(track.joints[0, :, 2]).tolist() == HELD
    assert ["joints2D" in line for line in caplog.messages] == [True, False]


def test_pennaction(tmp_path):
    write(tmp_path, name="pennaction_train_db", joints3D=None)
    with pytest.raises(UserError, match=r"pennaction_train_db.npz has 49 joints.* use PennAction, ") as raised:
        data(tmp_path, dataset="pennaction", on_bad_annotation="skip").dataset("train")
    assert "skip" not in str(raised.value)
    write(tmp_path, name="pennaction_train_db", joints3D=None, joints2D=arrays()["joints2D"][:, 25:39])
    assert len(data(tmp_path, dataset="pennaction").tracks("train")) == 2  # VIBE's are in order


INSTA = [  # as MAED calls them
    "RHeel", "RKnee", "RHip", "LHip", "LKnee", "LHeel", "RWrist", "RElbow", "RShoulder", "LShoulder", "LElbow",
    "LWrist", "Neck", "headtop", "Nose", "LEye", "REye", "LEar", "REar", "LBigToe", "RBigToe", "LSmallToe",
    "RSmallToe", "LAnkle", "RAnkle",
]  # fmt: skip


@pytest.mark.parametrize("kind", [".npz", ".pt"])
def test_insta_variety_as_maed_s_script_writes_it(tmp_path, kind):
    given = arrays()["joints2D"][:, :25]
    given[0, INSTA.index("LBigToe"), 2] = 0
    absent = dict.fromkeys(("frame_id", "bbox", "joints3D", "pose", "shape", "valid", "cam"))
    write(tmp_path, kind, "insta_train_db", joints2D=given, **absent)
    first, _ = insta(tmp_path, val_share=0).tracks("train")
    for name, joint in (
        ("RHeel", "op_right_heel"), ("LHip", "op_left_hip"), ("RWrist", "op_right_wrist"), ("Neck", "op_neck"),
        ("headtop", "head_top"), ("Nose", "op_nose"), ("REye", "op_right_eye"), ("LSmallToe", "op_left_small_toe"),
        ("RAnkle", "op_right_ankle"),
    ):  # fmt: skip
        np.testing.assert_allclose(first.joints[:, SPIN49.index(joint), :2], given[:5, INSTA.index(name), :2])
    assert (first.joints[1, :, 2] > 0).sum() == 25
    assert first.joints[0, SPIN49.index("op_left_big_toe"), 2] == 0
    with pytest.raises(UserError, match=r"joints2D has shape \(8, 25, 3\), expected \(8, 49, 3\)"):
        data(write(tmp_path, joints2D=given)).tracks("train")


def test_insta_variety_of_vibe_has_no_pictures(tmp_path):
    (tmp_path / "insta_train_db.h5").write_bytes(b"\x89HDF")
    with pytest.raises(UserError, match=r"insta_train_db\.h5 is of VIBE's .* get insta_train_db\.pt from"):
        insta(tmp_path).tracks("train")
    write(tmp_path, name="insta_train_db", bbox=None, joints3D=None, pose=None, shape=None, valid=None)
    assert len(insta(tmp_path, val_share=0).tracks("train")) == 2
