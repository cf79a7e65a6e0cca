"""Body poses: recorded frames, and variations of them that recordings of walking and ball games do not hold."""

from __future__ import annotations

import numpy as np

from posekit.arrays import Float32, Float64
from posekit.body import load_builtin_body, rigid_transforms
from posekit.data.synthetic.motion import FrameSampler
from posekit.data.synthetic.streams import chance
from posekit.geometry.rotations import axis_angle_to_matrix

_LEFT_ARM, _RIGHT_ARM = (13, 16, 18, 20), (14, 17, 19, 21)
NOISY_JOINTS = (3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19)


def euler(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Float32:
    """Returns Rz(z) Ry(y) Rx(x) of angles in radians, (3, 3)."""
    return np.asarray(_turn(2, z) @ _turn(1, y) @ _turn(0, x), dtype=np.float32)


def _turn(axis: int, angle: float) -> Float64:
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix[i, i] = matrix[j, j] = cosine
    matrix[i, j], matrix[j, i] = -sine, sine
    return matrix


def sample_pose(rng: np.random.Generator, sampler: FrameSampler, variety: float) -> Float32:
    """Draws a plausible pose.

    Args:
        rng: Source of randomness.
        sampler: Frames of the split.
        variety: 0 = recorded frames only, 1 = the full recipe.

    Returns:
        (24, 3, 3) local rotations; the root leans and bends but faces +z.
    """
    rotations = sampler.frame(rng)
    if chance(rng, 0.25 * variety):
        _sit(rng, rotations)
    elif chance(rng, 0.15 * variety):
        _bend_forward(rng, rotations)
    for arm in (_LEFT_ARM, _RIGHT_ARM):
        _vary_arm(rng, rotations, arm, sampler, variety)
    sigma = np.deg2rad(5.0) * min(variety, 1.0)
    noise = rng.normal(0, 1, (24, 3)).astype(np.float32) * np.float32(sigma)
    if variety > 0:
        rotations[list(NOISY_JOINTS)] = rotations[list(NOISY_JOINTS)] @ axis_angle_to_matrix(noise[list(NOISY_JOINTS)])
    rotations[15] = rotations[15] @ euler(rng.normal(0, 0.12), rng.normal(0, 0.3), rng.normal(0, 0.08))
    return rotations


def _sit(rng: np.random.Generator, rotations: Float32) -> None:
    """Folds the legs as on a chair, a bench or the ground."""
    lean = rng.normal(0.05, 0.15)
    rotations[0] = euler(lean)
    bend = rng.normal(1.45, 0.2)
    for hip, knee, side in ((1, 4, 1.0), (2, 5, -1.0)):
        spread = side * abs(rng.normal(0.12, 0.15))
        thigh = bend + rng.normal(0, 0.08)
        rotations[hip] = euler(-thigh, spread, 0)
        rotations[knee] = euler(float(np.clip(rng.normal(1.4, 0.35), 0.2, 2.2)))
        rotations[knee + 3] = euler(rng.normal(0.0, 0.15))


def _bend_forward(rng: np.random.Generator, rotations: Float32) -> None:
    """Bends the trunk, as to pick something up or to look at it."""
    bend = abs(rng.normal(0.4, 0.3))
    for joint in (3, 6, 9):
        rotations[joint] = rotations[joint] @ euler(bend / 3)
    for hip in (1, 2):
        rotations[hip] = euler(-bend * 0.4) @ rotations[hip]


def _vary_arm(
    rng: np.random.Generator, rotations: Float32, arm: tuple[int, ...], sampler: FrameSampler, variety: float
) -> None:
    """Replaces an arm by another frame's or by a freely bent one, where it stays out of the trunk."""
    joints = list(arm)
    kept = rotations[joints].copy()
    draw = rng.random()
    if draw > 0.7 * variety:
        return
    for _ in range(3):
        if draw < 0.3 * variety:
            rotations[joints] = sampler.frame(rng)[joints]
        else:
            rotations[joints[1:]] = _free_arm(rng, left=arm is _LEFT_ARM)
        if not _arm_in_trunk(rotations, arm):
            return
    rotations[joints] = kept


def _free_arm(rng: np.random.Generator, left: bool) -> Float32:
    """Draws shoulder, elbow and wrist: an upper arm in any natural direction, a hinge at the elbow."""
    drop = rng.normal(0.75, 0.55) if chance(rng, 0.8) else rng.uniform(-1.3, 0.3)  # below the horizontal
    forward = rng.normal(0.35, 0.45)
    twist = rng.normal(0.0, 0.5)
    flexion = float(np.clip(rng.gamma(2.2, 0.55), 0.0, 2.5))
    # In T-pose the left arm lies along +x: dropping turns it about z, reaching forward and the elbow's hinge about y.
    shoulder = euler(z=-drop) @ euler(y=-forward) @ euler(x=twist - 0.6 * min(flexion, 1.2))
    elbow, wrist = euler(y=-flexion), euler(rng.normal(0, 0.3), rng.normal(0, 0.15), rng.normal(0, 0.2))
    result = np.stack([shoulder, elbow, wrist])
    if not left:
        mirror = np.array([-1, 1, 1], dtype=np.float32)
        result = mirror[:, None] * result * mirror
    return result


def _arm_in_trunk(rotations: Float32, arm: tuple[int, ...]) -> bool:
    """Tells whether elbow, wrist or hand of an arm lie inside the chest or the belly."""
    body = load_builtin_body()
    world, posed = rigid_transforms(rotations, body.rest(np.zeros(10, np.float32))[1], body.parents)
    points = posed[[arm[2], arm[3], arm[3] + 2]]
    for joint, low, high in ((9, -0.15, 0.30), (0, -0.15, 0.25)):
        local = (points - posed[joint]) @ world[joint]
        inside = (
            (np.abs(local[:, 0]) < 0.15)
            & (np.abs(local[:, 2] - 0.02) < 0.14)
            & (local[:, 1] > low)
            & (local[:, 1] < high)
        )
        if inside.any():
            return True
    # The head as a ball around a point above its joint.
    centre = posed[15] + world[15] @ np.array([0, 0.06, 0.03], dtype=np.float32)
    return bool((np.linalg.norm(points - centre, axis=-1) < 0.11).any())
