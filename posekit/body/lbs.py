"""Linear blend skinning in numpy: the fast path of the renderer (training skins with :mod:`posekit.body.model`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FloatT = TypeVar("FloatT", np.float32, np.float64)


def rigid_transforms(
    rotations: NDArray[FloatT], joints: NDArray[FloatT], parents: Sequence[int]
) -> tuple[NDArray[FloatT], NDArray[FloatT]]:
    """Forward kinematics.

    Args:
        rotations: (…, J, 3, 3) rotation of each joint relative to its parent; the root's is the global orientation.
        joints: (…, J, 3) joint centres at rest, metres.
        parents: Parent of each joint, -1 at the root; parents come before their children.

    Returns:
        World rotations (…, J, 3, 3) and posed joint centres (…, J, 3); the root stays where it rests.
    """
    world = [rotations[..., 0, :, :]]
    posed = [joints[..., 0, :]]
    for j in range(1, len(parents)):
        p = parents[j]
        offset = (joints[..., j, :] - joints[..., p, :])[..., None]
        posed.append(posed[p] + (world[p] @ offset)[..., 0])
        world.append(world[p] @ rotations[..., j, :, :])
    return np.stack(world, -3), np.stack(posed, -2)


def skin(
    vertices: NDArray[FloatT],
    weights: NDArray[FloatT],
    world: NDArray[FloatT],
    posed: NDArray[FloatT],
    rest: NDArray[FloatT],
) -> NDArray[FloatT]:
    """Moves rest vertices by the weighted sum of their joints' rigid motions.

    Args:
        vertices: (…, V, 3) at rest, metres.
        weights: (V, J), rows sum to 1.
        world: (…, J, 3, 3) world rotations of the joints.
        posed: (…, J, 3) posed joint centres.
        rest: (…, J, 3) joint centres at rest.

    Returns:
        (…, V, 3) posed vertices, metres.
    """
    shift = posed - (world @ rest[..., None])[..., 0]
    motion = np.concatenate([world, shift[..., None]], -1)
    blended = (weights @ motion.reshape(*motion.shape[:-2], 12)).reshape(*vertices.shape[:-1], 3, 4)
    moved = blended[..., 0] * vertices[..., :1]
    moved += blended[..., 1] * vertices[..., 1:2]
    moved += blended[..., 2] * vertices[..., 2:3]
    moved += blended[..., 3]
    return moved
