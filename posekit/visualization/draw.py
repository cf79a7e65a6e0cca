"""Drawing of 2D people on pictures, with OpenCV; no window and no GL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from posekit.arrays import Bytes, Float64
from posekit.errors import UserError, in_range
from posekit.skeletons import Skeleton

Color = tuple[int, int, int]
LEFT: Color = (255, 140, 40)
RIGHT: Color = (50, 160, 255)
MIDDLE: Color = (90, 220, 110)
SHIFT = 4  # OpenCV draws at 1/16 px, so that a small crop shows sub-pixel joints


def drawable(image: ArrayLike, owner: str) -> Bytes:
    """Returns a picture (H, W, 3) uint8 RGB as an array.

    Args:
        image: The picture.
        owner: Function that draws on it, for the message.

    Raises:
        UserError: It is of another type or shape.
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise UserError(f"{owner} takes uint8 RGB pictures (H, W, 3), not {pixels.dtype} of shape {pixels.shape}")
    return pixels


def side_color(skeleton: Skeleton, *joints: int) -> Color:
    """Returns orange for the person's left side, blue for the right one, green for what has no side or both."""
    names = [skeleton.joints[j] for j in joints]
    if all("left_" in name for name in names):
        return LEFT
    if all("right_" in name for name in names):
        return RIGHT
    return MIDDLE


def fixed_point(point: NDArray[np.floating]) -> tuple[int, int]:
    """Returns a point (x, y) px in OpenCV's fixed-point numbers of 1/16 px."""
    x, y = np.round(np.clip(point, -1e4, 1e4) * (1 << SHIFT)).astype(int)
    return int(x), int(y)


def draw_people(
    image: Bytes,
    keypoints: ArrayLike,
    skeleton: Skeleton,
    boxes: ArrayLike | None = None,
    threshold: float = 0.2,
    thickness: int | None = None,
) -> Bytes:
    """Draws joints and bones of people.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        keypoints: (N, K, 3): x, y in px, and a score (or visibility); joints at or below the threshold are left out.
        skeleton: Its joint set.
        boxes: (N, 4) xywh px, drawn thinly where given.
        threshold: Least score drawn.
        thickness: Line width in px; None chooses by the people's size.

    Returns:
        A new picture of the same size.

    Raises:
        UserError: The picture is of another type or shape, or the joints are of another number.
    """
    canvas = np.ascontiguousarray(drawable(image, "draw_people")).copy()
    people = _people(keypoints, skeleton)
    for box in np.asarray(boxes if boxes is not None else [], dtype=np.float64).reshape(-1, 4):
        corner = box[:2] + box[2:]
        cv2.rectangle(canvas, fixed_point(box[:2]), fixed_point(corner), (235, 235, 235), 1, cv2.LINE_AA, SHIFT)
    for person in people:
        _draw_person(canvas, person, skeleton, threshold, thickness)
    return canvas


def _people(keypoints: ArrayLike, skeleton: Skeleton) -> Float64:
    people = np.asarray(keypoints, dtype=np.float64)
    count = len(skeleton)
    # A flat row of a person is how COCO's files hold one.
    if people.size and people.shape[-2:] != (count, 3) and people.shape[-1:] != (3 * count,):
        raise UserError(f"draw_people takes joints (N, {count}, 3) of {skeleton.name}, not of shape {people.shape}")
    return people.reshape(-1, count, 3)


def _draw_person(
    canvas: Bytes, person: NDArray[np.floating], skeleton: Skeleton, threshold: float, thickness: int | None
) -> None:
    shown = (person[:, 2] > threshold) & np.isfinite(person).all(axis=1)
    if not shown.any():
        return
    extent = np.ptp(person[shown, :2], axis=0).max()
    width = thickness or int(np.clip(round(extent / 90), 1, 6))
    for a, b in skeleton.edges:
        if shown[a] and shown[b]:
            ends = fixed_point(person[a, :2]), fixed_point(person[b, :2])
            cv2.line(canvas, *ends, (20, 20, 20), width + 2, cv2.LINE_AA, SHIFT)
            cv2.line(canvas, *ends, side_color(skeleton, a, b), width, cv2.LINE_AA, SHIFT)
    radius = max(int((width + 1) * (1 << SHIFT) * 0.75), 1 << SHIFT)
    for j in np.flatnonzero(shown).tolist():
        center = fixed_point(person[j, :2])
        cv2.circle(canvas, center, radius, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
        cv2.circle(canvas, center, radius, side_color(skeleton, j), 1, cv2.LINE_AA, SHIFT)


def draw_heatmap(image: Bytes, heatmap: ArrayLike, opacity: float = 0.6) -> Bytes:
    """Lays a map (h, w) of any range over a picture (H, W, 3); its highest value becomes the brightest colour.

    Raises:
        UserError: The picture or the map is of another type or shape.
    """
    image = drawable(image, "draw_heatmap")
    values: Any = np.asarray(heatmap.detach().cpu().float() if isinstance(heatmap, Tensor) else heatmap)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise UserError(f"draw_heatmap takes one map (h, w) of numbers, not {values.dtype} of shape {values.shape}")
    low, high = float(values.min()), float(values.max())
    scaled = ((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    resized = cv2.resize(scaled, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    colored = cv2.cvtColor(cv2.applyColorMap(resized, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(colored, opacity, image, 1 - opacity, 0).astype(np.uint8)


def enlarge(image: Bytes, keypoints: NDArray[np.floating], factor: int) -> tuple[Bytes, NDArray[np.floating]]:
    """Enlarges a small crop and its joints (…, 2 or 3) by a whole factor, so that drawn bones stay fine.

    Raises:
        UserError: The picture is of another type or shape.
    """
    big = cv2.resize(drawable(image, "enlarge"), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    points = keypoints.copy()
    points[..., :2] = (points[..., :2] + 0.5) * factor - 0.5
    return big.astype(np.uint8), points


def contact_sheet(images: Sequence[Bytes], columns: int, gap: int = 4) -> Bytes:
    """Lays pictures of one size (H, W, 3) out in rows on white.

    Raises:
        UserError: There is no picture, they differ in size, or one is of another type or shape.
    """
    pictures = [drawable(image, "contact_sheet") for image in images]
    if not pictures:
        raise UserError("a contact sheet needs at least one picture")
    sizes = list(dict.fromkeys(f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures))
    if len(sizes) > 1:
        raise UserError(f"a contact sheet needs pictures of one size, not {', '.join(sizes)}")
    in_range("contact_sheet", "columns", columns, "[1, inf)", whole=True)
    height, width = pictures[0].shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    for index, image in enumerate(pictures):
        y, x = (gap + (size + gap) * k for size, k in zip((height, width), divmod(index, columns), strict=True))
        sheet[y : y + height, x : x + width] = image
    return sheet
