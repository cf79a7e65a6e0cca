import re

import numpy as np
import pytest
import torch

from posekit.data import ThreeDPW
from posekit.data.body3d.cameras import fit_pinhole
from posekit.data.body3d.frames import FrameFolder, LazyVideo, open_frames, video_fault
from posekit.data.body3d.person import IDS, Person, Protocol, at_rate, joint_boxes, to_track, usable
from posekit.data.joint_maps import source_of
from posekit.errors import UserError
from posekit.skeletons import COCO17, LIMB17, LSP14
from tests.data3d.made import INTRINSICS, brightness, points_of, project, write_pictures, write_video
from tests.data3d.test_threedpw import FRAMES, sequence, write


def person(frames, fps=50.0, **changes):
    frames = np.asarray(frames)
    points = points_of(LIMB17.joints, len(frames))
    joints = np.concatenate([project(points), np.full((len(frames), 17, 1), 2.0)], -1)
    values = {
        "name": "a", "video": "v", "read": lambda row: np.zeros((4, 4, 3), np.uint8),
        "image_rows": np.arange(len(frames)),
        "frames": frames, "joints": joints, "source": source_of(LIMB17), "joints3d": points, "fps": fps,
    }  # fmt: skip
    return Person(**{**values, **changes})


def test_thirty_of_fifty():
    found = at_rate(person(np.arange(51)), 30)
    assert found.image_rows.tolist() == [int(np.floor(k * 5 / 3 + 0.5)) for k in range(31)]
    assert found.frames.tolist() == list(range(31))
    assert found.fps == 30


def test_resampling_knows_gaps_and_late_starts():
    found = at_rate(person([10, 11, 12, 13, 20, 21]), 25)
    assert found.frames.tolist() == [5, 6, 10]
    assert found.image_rows.tolist() == [0, 2, 4]


@pytest.mark.parametrize("fps", [30.0, 29.97, 25.0])
def test_equal_or_slower_recordings_stay(fps):
    assert at_rate(person(np.arange(9), fps), 30).frames.tolist() == list(range(9))


def test_joints_outside_the_picture_are_not_visible():
    whole = person(np.arange(3))
    cut = usable(person(np.arange(3), image_size=(1000, 500)), 2)
    inside = whole.joints[..., 1] <= 499.5
    np.testing.assert_array_equal(cut.joints[..., 2] > 0, inside)
    np.testing.assert_allclose(cut.boxes, joint_boxes(cut.joints))
    assert len(usable(person(np.arange(3), image_size=(10, 10)), 2)) == 0


def test_rows_without_a_box_are_left_out_but_not_those_of_whole_pictures():
    boxes = np.array([[0, 0, 5, 5], [0, 0, 0, 5], [np.nan] * 4])
    assert usable(person(np.arange(3), boxes=boxes), 2).frames.tolist() == [0, 2]


def test_ids_tell_people_and_pictures():
    tracks = [to_track(usable(person(np.arange(3)), 2), LIMB17, number, 4) for number in (7, 8)]
    assert tracks[0].sample_ids.tolist() == [7 * IDS, 7 * IDS + 1, 7 * IDS + 2]
    np.testing.assert_array_equal(tracks[0].image_ids, tracks[1].image_ids)
    assert tracks[0].image_ids[0] == 4 * IDS


def test_labels_that_are_no_numbers_have_weight_zero():
    points = points_of(LIMB17.joints, 2)
    points[1, 3] = np.nan
    track = to_track(usable(person(np.arange(2), joints3d=points), 2), LIMB17, 0, 0)
    assert track.joints3d_weight[1, 3] == 0
    assert track.joints3d_weight.sum() == 2 * 17 - 1
    assert np.isfinite(track.joints3d).all()


def test_protocols_count_joints_wherever_they_come_from():
    source = source_of(LIMB17)
    counted = Protocol("", LSP14).counts(source, LIMB17)
    assert {LIMB17.joints[k] for k in np.flatnonzero(counted)} == set(LSP14.joints)
    counted = Protocol("", LSP14).counts(source, COCO17)
    assert counted.sum() == 12
    named = Protocol("", joints=("left_hip", "right_hip", "neck")).counts(source, LIMB17)
    assert {LIMB17.joints[k] for k in np.flatnonzero(named)} == {"left_hip", "right_hip", "neck", "pelvis"}


def test_pinhole_fit():
    points = points_of(LIMB17.joints, 4)
    np.testing.assert_allclose(fit_pinhole(points, project(points)), INTRINSICS, atol=1e-6)
    assert fit_pinhole(points[:1, :3], project(points[:1, :3])) is None
    assert fit_pinhole(-points, project(points)) is None


def test_folders_of_frames(tmp_path):
    write_pictures(tmp_path / "f", "im_%03d.jpg", 3, (32, 32), 1)
    reader = FrameFolder(tmp_path / "f", "im_%03d.jpg", 1)
    assert reader.absent(np.arange(5)).tolist() == [3, 4]
    assert abs(int(reader(2).mean()) - 60) < 3
    found = open_frames(
        "a", np.arange(3), [(tmp_path / "no", ["x%d"]), (tmp_path / "f", ["x%d.jpg", "im_%03d.jpg"])], offset=1
    )
    assert isinstance(found, FrameFolder)
    with pytest.raises(UserError, match=r"a: 1 of 4 pictures do not exist, e\.g\. .*im_004\.jpg"):
        open_frames("a", np.arange(4), [(tmp_path / "f", ["im_%03d.jpg"])], offset=1)


def test_videos_are_read_when_they_are_needed(tmp_path):
    path = tmp_path / "a.mp4"
    reader = LazyVideo(path)  # is not looked at
    write_video(path, 4, (64, 48), 25.0)
    assert video_fault(path, 4) is None
    assert "has 4 frames, but labels for 5" in video_fault(path, 5)
    for row in (2, 0, 3):
        assert abs(int(reader(row).mean()) - (30 + 15 * row)) < 6
    with pytest.raises(UserError, match=r"a\.mp4: frame 9 cannot be decoded"):
        reader(9)


def test_batches_of_the_loader(tmp_path):
    write(tmp_path, content=sequence(2))
    write(tmp_path, "validation")
    data = ThreeDPW(str(tmp_path), frames=2, image_size=(32, 32), batch_size=3, skeleton="LIMB17")
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (3, 2, 3, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert batch["joints3d"].shape == (3, 2, 17, 3)
    assert batch["body_pose"].shape == (3, 2, 24, 3)
    assert batch["camera"].shape == (3, 2, 3, 3)
    assert batch["body_weight"].shape == (3, 2)
    assert all(torch.isfinite(v).all() for v in batch.values() if v.is_floating_point())
    seen = torch.cat([b["row_ids"][b["answers"]] for b in data.val_dataloader()])
    assert sorted(seen.tolist()) == sorted(set(seen.tolist()))
    assert len(seen) == FRAMES


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"frames": 2, "window": "pool", "stride": 2}, (2, 3, 32, 32)),
        ({"frames": 3, "window": "key"}, (3, 3, 32, 32)),
        ({"frames": 2, "window": "chunk", "hop": 1}, (2, 3, 32, 32)),
        ({"frames": 1}, (1, 3, 32, 32)),
        ({"view": "crops"}, (3, 32, 32)),
    ],
)
def test_views_and_windows(tmp_path, options, shape):
    dataset = ThreeDPW(str(write(tmp_path)), image_size=(32, 32), **options).dataset("train")
    assert dataset[(1, 0)]["image"].shape == shape
    np.testing.assert_array_equal(dataset[(1, 0)]["image"], dataset[(1, 0)]["image"])


@pytest.mark.parametrize("size", [(64,), (8, 64), (64, 64, 3)])
def test_what_is_no_size_of_a_picture_is_refused(tmp_path, size):
    with pytest.raises(UserError, match=rf"ThreeDPW: image_size is {re.escape(str(list(size)))}, but must be \[W, H\]"):
        ThreeDPW(str(tmp_path), image_size=size)


def test_evaluation_shows_pictures_without_augmentation(tmp_path):
    write(tmp_path, "test")
    data = ThreeDPW(str(tmp_path), frames=1, image_size=(32, 32), augmentation="pose_track")
    dataset = data.dataset("test")
    np.testing.assert_allclose(brightness(dataset[0]["image"]), [30], atol=4)
    assert torch.equal(dataset[(0, 1)]["image"], dataset[(5, 1)]["image"])
