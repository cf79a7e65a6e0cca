"""Pictures of predictions: refined people over their initial poses, and attraction maps joint by joint."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Bytes
from posekit.skeletons import Skeleton
from posekit.visualization import draw_people
from posekit.visualization.draw import SHIFT, draw_circle, draw_line, enlarge, enlargement, side_color, stroke

Picture = Bytes
Rows = Mapping[str, NDArray[np.floating]]

INITIAL = (200, 200, 200)  # light grey
_TILE, _SHARE, _LABEL = 104, 0.62, 16  # px of a tile, share of it that the mesh covers, px of its caption
_GAP = 3  # px between tiles


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
    factor = enlargement(image)
    if not shown.any():
        return enlarge(image, np.zeros((0, 2)), factor)[0] if factor > 1 else image.copy()
    _, initial = enlarge(image, rows["initial"][shown], factor)
    canvas, keypoints = enlarge(image, whole_people(rows, threshold), factor)
    thickness = stroke(canvas)
    for person in initial:
        for a, b in skeleton.edges:
            draw_line(canvas, person[a, :2], person[b, :2], (30, 30, 30), thickness + 1)
            draw_line(canvas, person[a, :2], person[b, :2], INITIAL, thickness)
    return draw_people(canvas, keypoints, skeleton)


def whole_people(rows: Rows, threshold: float) -> NDArray[np.floating]:
    """Returns the joints (M, K, 3) of the :func:`confident` people, with scores of 1: all of them are drawn."""
    people = np.array(rows["keypoints"])[confident(rows, threshold)]
    people[..., 2] = 1
    return people


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
    if not len(best):
        return picture
    columns = -(-len(skeleton) // 2)
    zoom = max(1, round(picture.shape[1] / (columns * (_TILE + _GAP))))
    strips = [_strip(image, {name: rows[name][row] for name in rows}, skeleton, zoom) for row in best]
    width = strips[0].shape[1]
    factor = max(1.0, width / picture.shape[1])
    top = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    parts = [np.pad(part, ((0, 4), (0, max(width, top.shape[1]) - part.shape[1]), (0, 0)), constant_values=255)
             for part in (top, *strips)]  # fmt: skip
    return np.concatenate(parts)


def _strip(image: Picture, person: Rows, skeleton: Skeleton, zoom: int) -> Picture:
    """Lays a person's tiles out in two lines."""
    tiles = [
        joint_tile(image, person["attraction"][k], person["mesh"][k], person["initial"][k], person["keypoints"][k],
                   skeleton.joints[k], side_color(skeleton, k), zoom)
        for k in range(len(skeleton))
    ]  # fmt: skip
    tiles += [np.full_like(tiles[0], 255)] * (len(tiles) % 2)
    padded = [np.pad(tile, ((0, 2 * zoom), (0, _GAP * zoom), (0, 0)), constant_values=255) for tile in tiles]
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
    zoom: int = 1,
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
        zoom: Whole factor of the tile's size, for large pictures.
    """
    points, tile_side = attraction.shape[0], _TILE * zoom
    low, high = (1 - _SHARE) / 2 * tile_side, (1 + _SHARE) / 2 * tile_side
    corners = np.array([mesh[0, 0], mesh[0, -1], mesh[-1, 0]], dtype=np.float32)
    affine = cv2.getAffineTransform(corners, np.array([[low, low], [high, low], [low, high]], dtype=np.float32))
    tile = cv2.warpAffine(image, affine, (tile_side, tile_side), flags=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    values = (np.clip(attraction, 0, 1) * 255).astype(np.uint8)
    cell = (high - low) / (points - 1)
    start, side = round(low - cell / 2), round(cell * points)
    heat = cv2.applyColorMap(cv2.resize(values, (side, side), interpolation=cv2.INTER_NEAREST), cv2.COLORMAP_INFERNO)
    area = tile[start : start + side, start : start + side]
    rows, columns = area.shape[:2]
    blended = cv2.addWeighted(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)[:rows, :columns], 0.6, area, 0.4, 0)
    tile[start : start + side, start : start + side] = blended
    places = np.array([initial[:2], refined[:2]]) @ affine[:, :2].T + affine[:, 2]
    draw_circle(tile, places[0], 5 * zoom << SHIFT, (255, 255, 255), zoom)
    draw_circle(tile, places[1], 4 * zoom << SHIFT, (255, 255, 255), -1)
    draw_circle(tile, places[1], 3 * zoom << SHIFT, color, -1)
    caption = np.full((_LABEL * zoom, tile_side, 3), 255, dtype=np.uint8)
    place, size = (3 * zoom, 12 * zoom), 0.36 * zoom
    cv2.putText(caption, name.replace("_", " "), place, cv2.FONT_HERSHEY_SIMPLEX, size, (40, 40, 40), zoom, cv2.LINE_AA)
    return np.concatenate([caption, tile]).astype(np.uint8)
