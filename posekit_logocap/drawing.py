"""Pictures of predictions: refined people over their initial poses, and attraction maps joint by joint."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Bytes
from posekit.skeletons import Skeleton
from posekit.visualization import draw_people
from posekit.visualization.draw import SHIFT, enlarge, fixed_point, side_color

Picture = Bytes
Rows = Mapping[str, NDArray[np.floating]]

INITIAL = (200, 200, 200)  # light grey
_TILE, _SHARE, _LABEL = 104, 0.62, 16  # px of a tile, share of it that the mesh covers, px of its caption
_LEAST_SIDE = 512  # px: smaller pictures are drawn enlarged, so that bones stay fine


def overlay(image: Picture, rows: Rows, skeleton: Skeleton, threshold: float) -> Picture:
    """Draws the people of a picture, each over its thin grey initial pose; small pictures are enlarged.

    Scores of this method are products of two heatmap values: what counts is a person's share of the picture's best.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        rows: ``keypoints`` (N, K, 3), ``scores`` (N,), ``initial`` (N, K, 3), px of the picture.
        skeleton: The joint set.
        threshold: Least score, relative to the best person of the picture.
    """
    shown = confident(rows, threshold)
    factor = max(1, round(_LEAST_SIDE / max(image.shape[:2])))
    if not shown.any():
        return enlarge(image, np.zeros((0, 2)), factor)[0] if factor > 1 else image.copy()
    _, initial = enlarge(image, rows["initial"][shown], factor)
    canvas, keypoints = enlarge(image, rows["keypoints"][shown], factor)
    thickness = max(1, round(max(canvas.shape[:2]) / 500))
    for person in initial:
        for a, b in skeleton.edges:
            ends = fixed_point(person[a][:2]), fixed_point(person[b][:2])
            cv2.line(canvas, *ends, (30, 30, 30), thickness + 1, cv2.LINE_AA, SHIFT)
            cv2.line(canvas, *ends, INITIAL, thickness, cv2.LINE_AA, SHIFT)
    keypoints[..., 2] = 1
    return draw_people(canvas, keypoints, skeleton)


def confident(rows: Rows, threshold: float) -> Bool:
    """Returns which people (N,) have at least a share ``threshold`` of the best one's score."""
    scores = np.asarray(rows["scores"])
    return scores >= threshold * scores.max() if len(scores) else np.zeros(0, dtype=bool)


def with_attraction(image: Picture, picture: Picture, rows: Rows, skeleton: Skeleton, people: int = 3) -> Picture:
    """Lays the attraction maps of the best people under a picture: two lines a person, a tile a joint.

    A tile shows the picture around the initial joint (white ring), the map's 11 x 11 cells over it where its mesh lies,
    and the refined joint (coloured dot).

    Args:
        image: (H, W, 3) uint8 RGB, without drawings.
        picture: The drawn one, which goes on top.
        rows: As for :func:`overlay`, with ``attraction`` (N, K, P, P) and ``mesh`` (N, K, P, P, 2) px.
        skeleton: The joint set.
        people: At most so many rows.
    """
    best = np.argsort(-np.asarray(rows["scores"]), kind="stable")[:people]
    strips = [_strip(image, {name: rows[name][row] for name in rows}, skeleton) for row in best]
    if not strips:
        return picture
    width = strips[0].shape[1]
    factor = max(1.0, width / picture.shape[1])
    top = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    parts = [np.pad(part, ((0, 4), (0, max(width, top.shape[1]) - part.shape[1]), (0, 0)), constant_values=255)
             for part in (top, *strips)]  # fmt: skip
    return np.concatenate(parts)


def _strip(image: Picture, person: Rows, skeleton: Skeleton) -> Picture:
    """Lays a person's tiles out in two lines."""
    tiles = [
        joint_tile(image, person["attraction"][k], person["mesh"][k], person["initial"][k], person["keypoints"][k],
                   skeleton.joints[k], side_color(skeleton, k))
        for k in range(len(skeleton))
    ]  # fmt: skip
    tiles += [np.full_like(tiles[0], 255)] * (len(tiles) % 2)
    padded = [np.pad(tile, ((0, 2), (0, 3), (0, 0)), constant_values=255) for tile in tiles]
    half = len(padded) // 2
    return np.concatenate([np.concatenate(line, axis=1) for line in (padded[:half], padded[half:])])


def joint_tile(
    image: Picture,
    attraction: NDArray[np.floating],
    mesh: NDArray[np.floating],
    initial: NDArray[np.floating],
    refined: NDArray[np.floating],
    name: str,
    color: tuple[int, int, int],
) -> Picture:
    """Draws one joint's attraction map over the picture around it.

    Args:
        image: (H, W, 3) uint8 RGB.
        attraction: (P, P) in [0, 1].
        mesh: (P, P, 2) px of the picture.
        initial: (2 or 3,) x, y of the initial joint.
        refined: (2 or 3,) x, y of the refined joint.
        name: Caption.
        color: Of the refined joint.
    """
    points = attraction.shape[0]
    low, high = (1 - _SHARE) / 2 * _TILE, (1 + _SHARE) / 2 * _TILE
    corners = np.array([mesh[0, 0], mesh[0, -1], mesh[-1, 0]], dtype=np.float32)
    affine = cv2.getAffineTransform(corners, np.array([[low, low], [high, low], [low, high]], dtype=np.float32))
    tile = cv2.warpAffine(image, affine, (_TILE, _TILE), flags=cv2.INTER_LINEAR)
    values = (np.clip(attraction, 0, 1) * 255).astype(np.uint8)
    cell = (high - low) / (points - 1)
    start, side = round(low - cell / 2), round(cell * points)
    heat = cv2.applyColorMap(cv2.resize(values, (side, side), interpolation=cv2.INTER_NEAREST), cv2.COLORMAP_INFERNO)
    area = tile[start : start + side, start : start + side]
    rows, columns = area.shape[:2]
    blended = cv2.addWeighted(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)[:rows, :columns], 0.6, area, 0.4, 0)
    tile[start : start + side, start : start + side] = blended
    places = np.array([initial[:2], refined[:2]]) @ affine[:, :2].T + affine[:, 2]
    cv2.circle(tile, fixed_point(places[0]), 5 << SHIFT, (255, 255, 255), 1, cv2.LINE_AA, SHIFT)
    cv2.circle(tile, fixed_point(places[1]), 4 << SHIFT, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
    cv2.circle(tile, fixed_point(places[1]), 3 << SHIFT, color, -1, cv2.LINE_AA, SHIFT)
    caption = np.full((_LABEL, _TILE, 3), 255, dtype=np.uint8)
    cv2.putText(caption, name.replace("_", " "), (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([caption, tile]).astype(np.uint8)
