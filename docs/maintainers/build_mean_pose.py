"""Writes the pose at which iterative regressors start on the built-in body: the mean of the shipped motion.

    python docs/maintainers/build_mean_pose.py posekit/body/assets/mean_parameters.npz

The arrays are those of SPIN's ``smpl_mean_params.npz``: pose (144,) in interleaved 6D, the root upright before a camera
that looks at the person's front; shape (10,), zero; cam (3,), a person that fills most of the crop.
"""

from __future__ import annotations

import argparse
import io

import numpy as np
import torch

from posekit.data.synthetic.motion import load_motion, without_heading
from posekit.files import atomic_write_bytes
from posekit.geometry import axis_angle_to_matrix, matrix_to_rot6d, mirror_body_rotations
from posekit.geometry.procrustes import best_rotation

CAMERA_AXES = np.diag([1.0, -1.0, -1.0])  # y up, facing +z -> y down, facing the camera


def mean_rotations() -> np.ndarray:
    """Returns the chordal mean (24, 3, 3) of training frames and their mirror images, each action weighing alike."""
    sums: dict[str, list[np.ndarray]] = {}
    for clip in load_motion("train"):
        rotations = without_heading(axis_angle_to_matrix(clip.rotations))
        sums.setdefault(clip.action, []).append(rotations.astype(np.float64))
    mean = np.mean([np.concatenate(parts).mean(0) for parts in sums.values()], axis=0)
    mean = (mean + mirror_body_rotations(mean)) / 2
    # The rotation R nearest to M has the largest trace of R M^T.
    return best_rotation(torch.from_numpy(mean).mT).numpy()


def main() -> None:
    """Reads the motion and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    rotations = mean_rotations()
    rotations[0] = CAMERA_AXES @ rotations[0]
    pose = matrix_to_rot6d(torch.from_numpy(rotations)).reshape(144).numpy()
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        pose=pose.astype(np.float32),
        shape=np.zeros(10, np.float32),
        cam=np.array([0.9, 0, 0], np.float32),
    )
    atomic_write_bytes(parser.parse_args().output, buffer.getvalue())


if __name__ == "__main__":
    main()
