import numpy as np
import pytest
import torch

from posekit.body import load_builtin_body
from posekit.data import SyntheticPeople
from posekit.data.synthetic.motion import load_continuous_motion, load_motion
from posekit.data.synthetic.motion_windows import MotionWindows, recorded_joints
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import LIMB17, SMPL24


def motion(**options):
    return SyntheticPeople(view="motion", skeleton="LIMB17", batch_size=16, **options)


def test_batch_has_the_contract_s_fields():
    batch = next(iter(motion(frames=60).train_dataloader()))
    assert set(batch) == {"joints3d", "weight", "sample_id"}
    assert batch["joints3d"].shape == (16, 60, 17, 3)
    assert batch["weight"].shape == (16, 60, 17)
    assert batch["joints3d"].dtype == batch["weight"].dtype == torch.float32
    assert batch["sample_id"].dtype == torch.int64
    assert (batch["weight"] == 1).all()
    assert motion().ground_truth("val") is None


def test_joints_are_the_body_s_with_z_up():
    body, clip = load_builtin_body(), load_motion("val")[0]
    joints = recorded_joints("val", "SMPL24")[0]
    vertices, _ = body.pose(np.zeros((3, 10), np.float32), axis_angle_to_matrix(clip.rotations[:3]))
    points = body.regressor("SMPL24") @ vertices + clip.root[:3, None]
    expected = points @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=np.float32)  # (x, -z, y)
    np.testing.assert_allclose(joints[:3], expected, atol=1e-4)
    head, foot = SMPL24.index("head"), SMPL24.index("left_foot")
    assert (joints[:, head, 2] - joints[:, foot, 2] > 0.6).all()


def test_windows_are_pieces_of_continuous_motion():
    dataset = motion(frames=30).dataset("train")
    samples = [dataset[(0, i)] for i in range(len(dataset))]
    joints = torch.stack([s["joints3d"] for s in samples])
    assert joints.diff(dim=1).norm(dim=-1).max() < 0.55  # metres in 1/30 s: the foot of a soccer kick
    assert joints.diff(dim=1).norm(dim=-1).mean() < 0.05
    assert torch.equal(dataset[(3, 5)]["joints3d"], dataset[5]["joints3d"])
    assert [int(s["sample_id"]) for s in samples] == list(range(len(dataset)))
    bones = (joints - joints[:, :, list(LIMB17.parents)]).norm(dim=-1)[..., 1:]
    assert (bones.std(dim=(0, 1))[[2, 3, 5, 6]] < 0.02).all()  # arms keep their lengths


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_motion_is_cut_at_recording_errors_and_nowhere_else(split):
    pieces, whole = load_continuous_motion(split), load_motion(split)
    assert sum(len(c.rotations) for c in pieces) == sum(len(c.rotations) for c in whole)
    assert len(whole) < len(pieces) < len(whole) + 70
    for piece in pieces:
        turns = axis_angle_to_matrix(piece.rotations[:, 0])
        step = turns[:-1].swapaxes(-1, -2) @ turns[1:]
        assert (np.trace(step, axis1=-2, axis2=-1) > 1 + 2 * np.cos(0.251)).all()
        assert (piece.root[0] == 0).all()
    assert sum(len(c.rotations) for c in pieces if len(c.rotations) >= 60) > 0.85 * sum(len(c.rotations) for c in whole)


def test_stride_and_step():
    every = MotionWindows("val", "LIMB17", 20, 2, 1)
    second = MotionWindows("val", "LIMB17", 20, 2, 2)
    np.testing.assert_array_equal(every[2], second[1])
    np.testing.assert_array_equal(every[0][1:], every[2][:-1])
    assert len(every) == sum(max(len(c.rotations) - 38, 0) for c in load_continuous_motion("val"))


def test_splits_are_disjoint_and_sizes_cap_them():
    windows = {split: motion().dataset(split) for split in ("train", "val", "test")}
    seen = {
        split: {tuple(np.round(s["joints3d"][:, 2].flatten().numpy(), 3)) for s in (d[i] for i in range(len(d)))}
        for split, d in windows.items()
    }
    assert not seen["train"] & seen["val"] | seen["train"] & seen["test"] | seen["val"] & seen["test"]
    assert len(windows["train"]) > 250
    assert len(motion(train_size=40).dataset("train")) == 40


def test_windows_longer_than_any_recording():
    with pytest.raises(UserError, match="longest recording of val has 720 frames"):
        motion(frames=800).dataset("val")
