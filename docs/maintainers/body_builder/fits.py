"""The statistics of the body: shape components, and the joint regressor fitted on rest and posed meshes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from posekit.body import rigid_transforms, skin
from posekit.data.synthetic.motion import load_motion, without_heading
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import SMPL24

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEAREST = 250  # candidates of a joint
SUM_TO_ONE = 30.0  # weight of that row against rows in metres
RIDGE = 3e-4
LEAST = 1e-3  # smaller entries of a row are dropped


def shape_components(shapes: Floats, mirror: Ints, count: int = 10) -> tuple[Floats, Floats, Floats]:
    """Finds the mean and the main components of T-posed shapes, each scaled by its standard deviation.

    Args:
        shapes: (N, V, 3).
        mirror: (V,) index of each vertex's mirror image; mean and components become exactly symmetric.
        count: Components.

    Returns:
        The mean (V, 3), the components (V, 3, S), positive where the body is taller, and the share of the variance
        (S,) that each keeps.
    """
    flip = np.array([-1.0, 1, 1])
    mean = shapes.mean(0)
    mean = (mean + mean[mirror] * flip) / 2
    flat = (shapes - mean).reshape(len(shapes), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)  # N x N is smaller than 3V x 3V
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    directions = (flat.T @ vectors) / np.sqrt(values)
    scaled = (directions * np.sqrt(values / len(shapes))).reshape(*mean.shape, count)
    scaled = (scaled + scaled[mirror] * flip[:, None]) / 2
    crown, sole = mean[:, 1].argmax(), mean[:, 1].argmin()
    taller = scaled[crown, 1] - scaled[sole, 1]
    return mean, scaled * np.where(taller < 0, -1.0, 1.0), values / (flat**2).sum()


def posed_examples(
    shapes: Floats, centres: Floats, weights: Floats, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Poses shapes by frames of the shipped motion; returns vertices (P, V, 3) and true joint centres (P, 24, 3)."""
    rng = np.random.default_rng(seed)
    clips = load_motion("train")
    rotations = []
    for _ in range(count):
        clip = clips[int(rng.integers(len(clips)))].rotations
        rotations.append(without_heading(axis_angle_to_matrix(clip[int(rng.integers(len(clip)))])))
    turns = np.stack(rotations).astype(np.float64)
    chosen = rng.choice(len(shapes), count, replace=count > len(shapes))
    world, posed = rigid_transforms(turns, centres[chosen], SMPL24.parents)
    return skin(shapes[chosen], weights, world, posed, centres[chosen]), posed


def fit_regressor(vertices: Floats, centres: Floats, template: Floats, mirror: Ints) -> Floats:
    """Fits a sparse, non-negative (24, V) joint regressor whose rows sum to 1.

    Fitted on T-posed shapes alone it would combine vertices far from the joint, and be wrong by centimetres on posed
    bodies; so both kinds of examples belong in.

    Args:
        vertices: (N, V, 3) examples.
        centres: (N, 24, 3) their true joint centres.
        template: (V, 3) mean shape, which says what is near to a joint.
        mirror: (V,) index of each vertex's mirror image; right rows mirror left ones, middle rows are symmetric.
    """
    regressor = np.zeros((24, vertices.shape[1]))
    at_rest = centres[: max(len(centres) // 2, 1)].mean(0)
    for j, flipped in enumerate(SMPL24.flip_index):
        if flipped < j:  # a right joint, whose left one is done
            regressor[j] = regressor[flipped][mirror]
            continue
        near = np.argsort(((template - at_rest[j]) ** 2).sum(1), kind="stable")[:NEAREST]
        pairs = np.stack([near, mirror[near] if flipped == j else near], 1)
        pairs = np.unique(np.sort(pairs, 1), axis=0)
        row = _fit_row(vertices[:, pairs].mean(2), centres[:, j])
        np.add.at(regressor[j], pairs[:, 0], row / 2)
        np.add.at(regressor[j], pairs[:, 1], row / 2)
    return regressor


def _fit_row(points: Floats, centre: Floats) -> Floats:
    """Solves for non-negative weights (C,) of points (N, C, 3) with the mean at centre (N, 3)."""
    count = points.shape[1]
    rows = points.transpose(0, 2, 1).reshape(-1, count)
    scale = np.sqrt(len(rows))
    matrix = np.concatenate([rows, np.full((1, count), SUM_TO_ONE * scale), RIDGE * scale * np.eye(count)])
    wanted = np.concatenate([centre.reshape(-1), [SUM_TO_ONE * scale], np.zeros(count)])
    weights = nnls(matrix, wanted)[0]
    weights[weights < LEAST] = 0
    result: Floats = weights / weights.sum()
    return result
