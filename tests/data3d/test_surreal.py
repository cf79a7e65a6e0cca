import logging

import numpy as np
import pytest
import scipy.io

from posekit.data import SURREAL
from posekit.data.body3d.surreal import INTRINSICS, MIRROR, SWAP, camera_points
from posekit.errors import UserError
from posekit.skeletons import LIMB17, SMPL24
from tests.data3d.made import brightness, handedness, points_of, project, write_video

FRAMES = 5


def write(root, name="01_01_c0001", frames=FRAMES, split="train", run=0, video=True, change=None, depth=6.0):
    """Writes a clip as the data set has it: labels of a world that the camera mirrors."""
    folder = root / "cmu" / split / f"run{run}" / name[:5]
    folder.mkdir(parents=True, exist_ok=True)
    seen = points_of(SMPL24.joints, frames, depth)  # of the person in the picture, camera frame
    place = np.array([7.0, -0.9, 1.1])
    world = (seen[:, SWAP] @ MIRROR) + place  # its inverse is its transpose; the file names the sides the other way
    joints2d = project(seen[:, SWAP], INTRINSICS)
    content = {
        "joints2D": joints2d.transpose(2, 1, 0).astype(np.float32),
        "joints3D": world.transpose(2, 1, 0).astype(np.float32),
        "camLoc": place[:, None], "pose": np.zeros((72, frames)), "shape": np.zeros((10, frames)),
        "zrot": np.zeros((frames, 1)), "gender": np.ones((frames, 1), np.uint8), "sequence": name,
        "clipNo": np.uint8(1),
    }  # fmt: skip
    if frames == 1:  # MATLAB drops the last axis
        content = {k: v[..., 0] if getattr(v, "ndim", 0) == 3 else v for k, v in content.items()}
    if change is not None:
        change(content)
    scipy.io.savemat(folder / f"{name}_info.mat", content)
    if video:
        write_video(folder / f"{name}.mp4", frames)
    return folder


def data(root, **options):
    return SURREAL(str(root), **{"skeleton": "LIMB17", "augmentation": "none", "image_size": (64, 64), **options})


def test_left_is_left_in_the_picture(tmp_path):
    write(tmp_path)
    (track,) = data(tmp_path).tracks("train")
    seen = points_of(SMPL24.joints, FRAMES, 6.0)
    np.testing.assert_allclose(
        track.joints3d[:, LIMB17.index("left_knee")], seen[:, SMPL24.index("left_knee")], atol=1e-5
    )
    assert (handedness(track.joints3d, LIMB17) > 0).all()
    # The labels as they stand would be those of a mirrored person.
    raw = camera_points(seen[:, SWAP] @ MIRROR, np.zeros(3))
    assert np.linalg.det(MIRROR) == pytest.approx(-1)
    order = [SMPL24.index(n) for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    ls, rs, lh, rh = (raw[:, k] for k in order)
    feet = raw[:, SMPL24.index("left_foot")] - raw[:, SMPL24.index("left_ankle")]
    assert ((np.cross(ls - rs + lh - rh, ls + rs - lh - rh) * feet).sum(-1) < 0).all()


def test_labels_project_onto_each_other(tmp_path):
    write(tmp_path)
    (track,) = data(tmp_path, skeleton="SMPL24").tracks("train")
    np.testing.assert_allclose(project(track.joints3d, INTRINSICS), track.joints[..., :2], atol=0.01)
    np.testing.assert_allclose(track.camera[0], INTRINSICS)
    assert (track.joints[..., 2] == 2).all()
    assert track.fps == 30
    assert track.body_pose is None


def test_clips_show_the_right_frames(tmp_path):
    write(tmp_path)
    sample = data(tmp_path, frames=3, window="chunk").dataset("train")[1]
    assert sample["frame"].tolist() == [3, 4, 4]
    assert sample["valid"].tolist() == [True, True, False]
    np.testing.assert_allclose(brightness(sample["image"]), [75, 90, 90], atol=8)
    assert (sample["joints3d_weight"][2] == 0).all()
    assert (sample["joints3d_weight"][1] == 1).all()


def test_clips_of_one_frame(tmp_path):
    write(tmp_path, frames=1)
    dataset = data(tmp_path, frames=4, window="chunk").dataset("train")
    assert len(dataset) == 1
    assert len(dataset.tracks[0]) == 1
    sample = dataset[0]
    assert sample["valid"].tolist() == [True, False, False, False]
    assert sample["image"].shape == (4, 3, 64, 64)
    assert (handedness(sample["joints3d"][:1].numpy(), LIMB17) > 0).all()
    with pytest.raises(UserError, match="nobody is left in split train"):
        data(tmp_path, min_frames=2).dataset("train")


def test_broken_videos_are_named_and_refused_or_skipped(tmp_path, caplog):
    write(tmp_path)
    folder = write(tmp_path, "01_02_c0001", video=False)
    video = folder / "01_02_c0001.mp4"
    for content, reason in (
        (None, "does not exist"),
        (b"", r"is empty \(0 bytes\)"),
        (b"x" * 99, "has no frame that can be"),
    ):
        if content is not None:
            video.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"run0/01_02_c0001: video .*01_02_c0001\.mp4 {reason}.*on_broken_image=skip"
        ):
            data(tmp_path).dataset("train")
    write_video(video, 2)
    with pytest.raises(UserError, match="has 2 frames, but labels for 5"):
        data(tmp_path).dataset("train")
    with caplog.at_level(logging.WARNING):
        assert len(data(tmp_path, on_broken_image="skip").tracks("train")) == 1
    assert "left out 1 recordings of split train without whole pictures: run0/01_02_c0001: video" in caplog.text


def test_a_video_that_breaks_later(tmp_path, caplog):
    folder = write(tmp_path)
    video = folder / "01_01_c0001.mp4"
    dataset = data(tmp_path, frames=5, window="chunk", on_broken_image="skip").dataset("train")
    write_video(video, 3)  # after the start
    with caplog.at_level(logging.WARNING):
        sample = dataset[0]
    assert sample["valid"].tolist() == [True, True, True, False, False]
    assert "frame 3 cannot be decoded" in caplog.text
    strict = data(tmp_path, frames=5, window="chunk", verify_images=False).dataset("train")
    with pytest.raises(UserError, match=r"01_01_c0001\.mp4: frame 3 cannot be decoded"):
        strict[0]


def test_people_who_leave_the_picture(tmp_path):
    def leave(content):
        content["joints2D"][0, :, 3] += 300  # frame 3: far right
        content["joints2D"][1, [10, 11], 1] = 260  # frame 1: the feet, of which there are two

    write(tmp_path, change=leave)
    (track,) = data(tmp_path).tracks("train")
    assert track.frames.tolist() == [0, 1, 2, 4]
    feet = [LIMB17.index("left_foot"), LIMB17.index("right_foot")]
    assert (track.joints[1, feet, 2] == 0).all()
    assert (track.joints[0, feet, 2] == 2).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("joints3D"), "has no variable joints3D"),
        (lambda c: c.update(joints2D=np.zeros((3, 24, 5))), r"joints2D has shape \(3, 24, 5\), expected \(2, 24, T\)"),
        (lambda c: c.update(joints2D=np.zeros((2, 24, 4))), "has 4 2D and 5 3D poses"),
        (lambda c: c["joints3D"].__setitem__((0, 0, 0), np.nan), "joints3D holds numbers that are not finite"),
        (lambda c: c.update(camLoc=np.zeros(2)), "camLoc is not three finite numbers"),
        (lambda c: c.update(camLoc="abc"), "camLoc is not three finite numbers"),
    ],
)
def test_faulty_files_are_named(tmp_path, change, message):
    write(tmp_path, change=change)
    with pytest.raises(UserError, match=message) as raised:
        data(tmp_path).dataset("train")
    assert "_info.mat" in str(raised.value)


def test_runs_and_missing_folders(tmp_path):
    write(tmp_path, run=0)
    write(tmp_path, "01_02_c0001", run=2)
    assert len(data(tmp_path, runs=[2]).tracks("train")) == 1
    assert len(data(tmp_path).tracks("train")) == 2
    with pytest.raises(UserError, match="runs is 3, but can be of 0, 1, 2"):
        data(tmp_path, runs=[3])
    with pytest.raises(UserError, match=r"holds no \*/\*_info\.mat in run1"):
        data(tmp_path, runs=[1]).dataset("train")
    with pytest.raises(UserError, match=r"folder .*cmu.val does not exist; get it from https://www\.di\.ens\.fr"):
        data(tmp_path).dataset("val")
