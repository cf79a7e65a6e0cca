"""Cuts the motion file that ``SyntheticPeople`` ships from CMU's joint angles (for maintainers: it needs the source).

    python docs/maintainers/build_motion.py --sequences train_120hz.npz --skeleton skeleton.npz --output cmu_motion.npz

Input: sequences [T, 117] at 120 Hz (root position in CMU units, 38 exponential maps, row-vector convention) and the
38-joint skeleton. Output: 24 SMPL-format joint rotations at 30 Hz, split by whole sequences;
``posekit.data.synthetic.motion`` documents and reads the format.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from posekit.body import load_builtin_body
from posekit.data.synthetic.motion import QUANTUM, STORED_JOINTS, encode_deltas
from posekit.geometry import axis_angle_to_matrix, matrix_to_axis_angle

# The CMU joint that drives each SMPL joint (hands 22 and 23 follow the wrists).
SOURCES = (
    "Hips", "LeftUpLeg", "RightUpLeg", "LowerBack", "LeftLeg", "RightLeg", "Spine", "LeftFoot", "RightFoot", "Spine1",
    "LeftToeBase", "RightToeBase", "Neck1", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", "LeftHand", "RightHand",
)  # fmt: skip
UNIT = 0.056444  # metres per CMU unit
STEP = 4  # 120 Hz -> 30 Hz
LONGEST = 720  # frames kept of a sequence: the long ones (traffic, referee signals) repeat themselves

# Whole sequences of every action are held out; traffic has only two, so its second one goes to test.
VAL = (
    "basketball_4",
    "basketball_signal_4",
    "jumping_4",
    "running_4",
    "soccer_4",
    *(f"walking_{i}" for i in (4, 17, 23, 30, 41, 49)),
)
TEST = (
    "basketball_5", "basketball_signal_5", "directing_traffic_4", "jumping_5", "running_5", "soccer_5",
    *(f"walking_{i}" for i in (5, 18, 24, 31, 42, 50)),
)  # fmt: skip


def world_rotations(frames: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """World rotations (T, 38, 3, 3) acting on column vectors, of frames (T, 117)."""
    # The source multiplies row vectors, G_j = R_j . G_parent; transposed, that is the usual G_parent^T R_j^T order.
    local = axis_angle_to_matrix(frames[:, 3:].reshape(len(frames), 38, 3).astype(np.float64)).transpose(0, 1, 3, 2)
    world = [local[:, 0]]
    for j in range(1, 38):
        world.append(world[parents[j]] @ local[:, j])
    return np.stack(world, 1)


def retarget(frames: np.ndarray, parents: np.ndarray, names: list[str]) -> np.ndarray:
    """Rotations (T, 24, 3) in axis-angle of the built-in body, from frames (T, 117)."""
    # Row 0 of every sequence is the rest stance (it undoes the splayed legs of the zero pose), but its arms hang 8 deg
    # below horizontal while the offsets lie exactly along x: the reference is row 0 with straight arms.
    reference = frames[:1].copy()
    for arm in ("LeftArm", "RightArm"):
        j = names.index(arm)
        reference[:, 3 + 3 * j : 6 + 3 * j] = 0
    rows = [names.index(source) for source in SOURCES]
    rest = world_rotations(reference, parents)[:, rows]
    delta = world_rotations(frames, parents)[:, rows] @ rest.transpose(0, 1, 3, 2)
    parents24 = load_builtin_body().parents
    local = np.stack(
        [delta[:, j] if p < 0 else delta[:, p].transpose(0, 2, 1) @ delta[:, j] for j, p in enumerate(parents24)], 1
    )
    return matrix_to_axis_angle(local)


def main() -> None:
    """Reads, retargets, thins out, quantises and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=Path, required=True)
    parser.add_argument("--skeleton", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    skeleton = np.load(arguments.skeleton)
    parents, names = skeleton["parents"], [str(n) for n in skeleton["names"]]
    rotations, roots, lengths, kept, splits = [], [], [], [], []
    with np.load(arguments.sequences) as archive:
        for name in sorted(archive.files):
            frames = archive[name]
            poses = retarget(frames, parents, names)[1:][::STEP][:LONGEST]  # row 0 is no motion
            root = frames[1:][::STEP][:LONGEST, :3] * UNIT
            rotations.append(np.rint(poses[:, STORED_JOINTS] / QUANTUM).astype(np.int16))
            roots.append(np.rint((root - root[0]) / QUANTUM).astype(np.int16))
            lengths.append(len(poses))
            kept.append(name)
            splits.append("val" if name in VAL else "test" if name in TEST else "train")
    values = np.concatenate([np.concatenate(rotations).reshape(sum(lengths), -1), np.concatenate(roots)], 1)
    low, high = encode_deltas(values)
    np.savez_compressed(
        arguments.output, low=low, high=high, lengths=np.array(lengths), names=np.array(kept), splits=np.array(splits)
    )
    counts = {
        split: sum(n for n, s in zip(lengths, splits, strict=True) if s == split) for split in ("train", "val", "test")
    }
    print(f"{len(kept)} sequences, frames {counts}, {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
