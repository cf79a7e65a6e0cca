"""The hand-held camera of a clip: where it stands and looks at each moment, and how the background moves with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float32, Float64
from posekit.data.synthetic.pose import euler
from posekit.data.synthetic.streams import chance

_WAVES = 3  # sine waves per trembling quantity


@dataclass(frozen=True)
class CameraPath:
    """A camera's movement around its place at the key frame; every quantity is 0 there.

    Attributes:
        drift: (7,) rates per second: pitch, yaw, roll (rad), x, y, z (m), log zoom.
        tremor: (7, waves) amplitudes of the same quantities.
        frequency: (7, waves) Hz.
        phase: (7, waves) rad.
        following: Share of the person's walk that the camera walks along.
        backdrop: Depth of the background over the person's depth.
    """

    drift: Float64
    tremor: Float64
    frequency: Float64
    phase: Float64
    following: float
    backdrop: float

    def offsets(self, seconds: Float64) -> Float64:
        """Returns (N, 7) pitch, yaw, roll, x, y, z and log zoom at times (N,) from the key frame."""
        angle = 2 * np.pi * self.frequency * seconds[:, None, None] + self.phase
        shake = (self.tremor * (np.sin(angle) - np.sin(self.phase))).sum(-1)
        return np.asarray(shake + self.drift * seconds[:, None], dtype=np.float64)


def sample_path(rng: np.random.Generator, strength: float) -> CameraPath:
    """Draws a movement; every second camera follows the person at least half of the way.

    Args:
        rng: The clip's stream.
        strength: 0 = a tripod, 1 = a hand: tremor of about 0.2 degrees and 5 mm, turning at 4 degrees and drifting at
            0.25 m a second, zooming at 10 % a second.
    """
    drift = rng.normal(0, 1, 7) * np.array([0.04, 0.07, 0.04, 0.25, 0.1, 0.25, 0.1])
    tremor = rng.normal(0, 1, (7, _WAVES)) * np.array([0.004, 0.004, 0.004, 0.005, 0.005, 0.005, 0.0])[:, None]
    frequency = rng.uniform(0.7, 4.0, (7, _WAVES))
    phase = rng.uniform(0, 2 * np.pi, (7, _WAVES))
    following = float(rng.uniform(0.5, 1.0)) if chance(rng, 0.5) else 0.0
    backdrop = float(rng.uniform(1.5, 4.0))
    return CameraPath(strength * drift, strength * tremor, frequency, phase, following if strength else 0.0, backdrop)


@dataclass(frozen=True)
class CameraPoses:
    """A camera at N moments.

    Attributes:
        orientation: (N, 3, 3) the clip's world (y up, the person faces +z at the key frame) to camera.
        position: (N, 3) metres in that world, from the person's pelvis at the key frame.
        zoom: (N,) focal length over the key frame's.
    """

    orientation: Float32
    position: Float32
    zoom: Float32


def camera_poses(
    path: CameraPath, orientation: Float32, target: Float32, seconds: Float64, walk: Float32
) -> CameraPoses:
    """Places the camera.

    Args:
        path: Its movement.
        orientation: (3, 3) world to camera at the key frame.
        target: (3,) where the pelvis lies in the camera's frame at the key frame, metres.
        seconds: (N,) from the key frame.
        walk: (N, 3) the pelvis in the world, from its place at the key frame.
    """
    offsets = path.offsets(seconds)
    turns = np.stack([euler(pitch, yaw, roll) for pitch, yaw, roll in offsets[:, :3]])
    position = orientation.T @ (offsets[:, 3:6] - target)[..., None]
    # A person who follows walks on level ground.
    along = path.following * walk * np.array([1, 0, 1], dtype=np.float32)
    return CameraPoses(
        (turns @ orientation).astype(np.float32),
        (position[..., 0] + along).astype(np.float32),
        np.exp(offsets[:, 6]).astype(np.float32),
    )


def backdrop_maps(poses: CameraPoses, key: CameraPoses, depth: float, focal: float, center: Float32) -> Float64:
    """Returns (N, 3, 3): how pixels of a flat background move from the key frame to each of N moments.

    The homography of a plane z = depth of the key camera: K' (R + t n^T / depth) K^-1 (Hartley and Zisserman, section
    13.1), n the optical axis.

    Args:
        poses: The camera at the moments.
        key: The camera at the key frame, one moment.
        depth: Metres from the key camera to the background.
        focal: The key frame's, px.
        center: (2,) principal point, px.
    """
    rotation = poses.orientation.astype(np.float64) @ key.orientation[0].T.astype(np.float64)
    shift = (poses.orientation @ (key.position - poses.position)[..., None])[..., 0].astype(np.float64)
    motion = rotation.copy()
    motion[..., 2] += shift / depth
    inverse = np.linalg.inv(intrinsics(np.array(focal), center))
    maps: Float64 = intrinsics(focal * poses.zoom, center) @ motion @ inverse
    return maps


def intrinsics(focal: NDArray[np.floating], center: NDArray[np.floating]) -> Float64:
    """Returns pinhole matrices (…, 3, 3) of focal lengths (…) and principal points (…, 2) or (2,), px."""
    matrix = np.zeros((*focal.shape, 3, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = focal
    matrix[..., :2, 2] = center
    matrix[..., 2, 2] = 1
    return matrix
