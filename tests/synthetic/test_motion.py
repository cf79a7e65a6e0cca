from importlib.resources import files

import numpy as np

from posekit.body import load_builtin_body
from posekit.data.synthetic.motion import FrameSampler, decode_deltas, encode_deltas, load_motion
from posekit.geometry import axis_angle_to_matrix


def test_coding_is_lossless_even_at_the_ends_of_the_range():
    rng = np.random.default_rng(0)
    values = rng.integers(-32768, 32768, (50, 7)).astype(np.int16)
    np.testing.assert_array_equal(decode_deltas(*encode_deltas(values)), values)


def test_splits_share_no_recording_and_hold_clips():
    names = {split: {clip.name for clip in load_motion(split)} for split in ("train", "val", "test")}
    assert len(set().union(*names.values())) == sum(map(len, names.values()))
    assert all(len(clip.rotations) >= 30 for split in names for clip in load_motion(split))
    actions = {clip.action for clip in load_motion("test")}
    assert actions == {clip.action for clip in load_motion("train")}


def test_asset_is_small_and_acknowledged():
    assets = files("posekit.data.synthetic") / "assets"
    assert len((assets / "cmu_motion.npz").read_bytes()) < 1_000_000
    text = (assets / "ACKNOWLEDGEMENT.md").read_text()
    assert "mocap.cs.cmu.edu" in text
    assert "EIA-0196217" in text


def test_walkers_stand_upright_and_bend_their_knees_backwards():
    body = load_builtin_body()
    clip = next(c for c in load_motion("train") if c.action == "walking")
    rotations = axis_angle_to_matrix(clip.rotations)
    _, joints = body.pose(np.zeros((len(rotations), 10), np.float32), rotations)
    assert (joints[:, 15, 1] - joints[:, [7, 8], 1].max(1) > 0.9).all()
    # The shin's flexion is a positive turn about the body's x axis.
    assert clip.rotations[:, [4, 5], 0].max() > 0.6
    assert clip.rotations[:, [4, 5], 0].min() > -0.3
    # Arms hang: the wrists stay below the shoulders.
    assert (joints[:, [20, 21], 1] < joints[:, [16, 17], 1]).mean() > 0.95
    assert np.abs(np.diff(clip.root, axis=0)).max() < 0.12  # metres a frame


def test_sampled_frames_face_forward():
    sampler = FrameSampler("val")
    rng = np.random.default_rng(0)
    frames = np.stack([sampler.frame(rng) for _ in range(50)])
    assert np.abs(frames[:, 0, 0, 2]).max() < 1e-5
    assert (frames[:, 0, 2, 2] > 0).all()
