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
    """Returns a point (x, y) px, no farther than 1e8 px away, in OpenCV's fixed-point numbers of 1/16 px."""
    x, y = np.round(np.asarray(point) * (1 << SHIFT)).astype(int)
    return int(x), int(y)


def stroke(image: Bytes, share: int = 500) -> int:
    """Returns a line width, px, that can be seen where a large picture is shown whole: a share of its longest side."""
    return max(1, round(max(image.shape[:2]) / share))


def box_stroke(image: Bytes, box: NDArray[np.floating]) -> int:
    """Returns a thin line width, px, for a box (x, y, w, h) px: it grows with the picture, but not beyond the box's."""
    side = float(np.abs(box[2:]).max())
    return int(min(stroke(image, 1000), max(1, side // 200))) if np.isfinite(side) else 1


def draw_line(
    canvas: Bytes, start: NDArray[np.floating], end: NDArray[np.floating], color: Color, width: int = 1
) -> None:
    """Draws a line between points (x, y) px, which may lie anywhere: what is far outside the picture is cut off."""
    ends = _visible_part(_reach(canvas, width), np.asarray(start, np.float64), np.asarray(end, np.float64))
    if ends is not None:
        cv2.line(canvas, fixed_point(ends[0]), fixed_point(ends[1]), color, width, cv2.LINE_AA, SHIFT)


def draw_circle(canvas: Bytes, center: NDArray[np.floating], radius: int, color: Color, width: int = 1) -> None:
    """Draws a circle about a point (x, y) px, filled where ``width`` is -1; the radius is in 1/16 px."""
    low, high = _reach(canvas, (radius >> SHIFT) + max(width, 0))
    if ((center >= low) & (center <= high)).all():
        cv2.circle(canvas, fixed_point(center), radius, color, width, cv2.LINE_AA, SHIFT)


def draw_box(canvas: Bytes, box: NDArray[np.floating], color: Color, width: int | None = None) -> None:
    """Draws a box (x, y, w, h) px, thinly where no width is given; one that is not of numbers is left out."""
    if not np.isfinite(box).all():
        return
    width = width or box_stroke(canvas, box)
    low, high = (np.clip(corner, *_reach(canvas, width)) for corner in (box[:2], box[:2] + box[2:]))
    cv2.rectangle(canvas, fixed_point(low), fixed_point(high), color, width, cv2.LINE_AA, SHIFT)


def draw_label(canvas: Bytes, text: str, corner: ArrayLike, color: Color, scale: float | None = None) -> None:
    """Writes a line above a point (x, y) px, black on a colour; inside the picture, wherever the point is.

    Args:
        canvas: (H, W, 3) uint8 RGB; it is drawn on.
        text: ASCII.
        corner: The lower left corner of the line.
        color: Of its ground.
        scale: Of OpenCV's font; None follows the picture's height.
    """
    place = np.asarray(corner, dtype=np.float64)
    if not np.isfinite(place).all():
        return
    scale = scale or max(canvas.shape[0] / 1000, 0.4)
    width = max(1, round(scale))
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
    x, y = (int(v) for v in np.clip(np.round(place), 0, [max(canvas.shape[1] - w, 0), canvas.shape[0]]))
    y = max(y, h + base)
    cv2.rectangle(canvas, (x, y - h - base), (x + w, y), color, -1)
    cv2.putText(canvas, text, (x, y - base // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), width, cv2.LINE_AA)


def _reach(canvas: Bytes, width: int) -> tuple[Float64, Float64]:
    """Returns the least and the greatest point whose line of a width can touch the picture, with its round end."""
    margin = 2.0 * width + 2
    return np.full(2, -margin), np.array([canvas.shape[1], canvas.shape[0]]) - 1 + margin


def _visible_part(reach: tuple[Float64, Float64], start: Float64, end: Float64) -> tuple[Float64, Float64] | None:
    """Cuts a line off at a rectangle (the rule of Liang and Barsky); None where nothing of it is inside."""
    low, high = reach
    if (np.minimum(start, end) >= low).all() and (np.maximum(start, end) <= high).all():
        return start, end
    if not (np.isfinite(start) & np.isfinite(end)).all():
        return None
    step = end - start
    first, last = 0.0, 1.0
    for k in range(2):
        if step[k] == 0:
            if not low[k] <= start[k] <= high[k]:
                return None
            continue
        enter, leave = sorted(((low[k] - start[k]) / step[k], (high[k] - start[k]) / step[k]))
        first, last = max(first, enter), min(last, leave)
    return (start + first * step, start + last * step) if first < last else None


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
        thickness: Line width in px; None chooses by the people's size and the picture's.

    Returns:
        A new picture of the same size.

    Raises:
        UserError: The picture is of another type or shape, or the joints are of another number.
    """
    canvas = np.ascontiguousarray(drawable(image, "draw_people")).copy()
    people = _people(keypoints, skeleton)
    for box in np.asarray(boxes if boxes is not None else [], dtype=np.float64).reshape(-1, 4):
        draw_box(canvas, box, (235, 235, 235))
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
    width = thickness or int(np.clip(round(extent / 90), 1, max(6, stroke(canvas))))
    rim = max(1, width // 6)
    for a, b in skeleton.edges:
        if shown[a] and shown[b]:
            draw_line(canvas, person[a, :2], person[b, :2], (20, 20, 20), width + 2 * rim)
            draw_line(canvas, person[a, :2], person[b, :2], side_color(skeleton, a, b), width)
    radius = max(int((width + 1) * (1 << SHIFT) * 0.75), 1 << SHIFT)
    for j in np.flatnonzero(shown).tolist():
        draw_circle(canvas, person[j, :2], radius, (255, 255, 255), -1)
        draw_circle(canvas, person[j, :2], radius, side_color(skeleton, j), rim)


def draw_heatmap(image: Bytes, heatmap: ArrayLike, opacity: float = 0.6) -> Bytes:
    """Lays a map (h, w) of any range over a picture (H, W, 3); its highest value becomes the brightest colour.

    Cells that are NaN have the colour of the lowest value.

    Raises:
        UserError: The picture or the map is of another type or shape.
    """
    image = drawable(image, "draw_heatmap")
    values: Any = np.asarray(heatmap.detach().cpu().float() if isinstance(heatmap, Tensor) else heatmap)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "fiub":
        raise UserError(f"draw_heatmap takes one map (h, w) of numbers, not {values.dtype} of shape {values.shape}")
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = ((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    resized = cv2.resize(scaled, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    colored = cv2.cvtColor(cv2.applyColorMap(resized, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(colored, opacity, image, 1 - opacity, 0).astype(np.uint8)


def enlargement(image: Bytes, least: int = 512) -> int:
    """Returns the whole factor that brings a small picture's longer side to about ``least`` px; 1 for others."""
    return max(1, round(least / max(image.shape[:2])))


def enlarge(image: Bytes, keypoints: NDArray[np.floating], factor: int) -> tuple[Bytes, NDArray[np.floating]]:
    """Enlarges a small crop and its joints (…, 2 or 3) by a whole factor, so that drawn bones stay fine.

    Raises:
        UserError: The picture is of another type or shape.
    """
    big = cv2.resize(drawable(image, "enlarge"), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    points = keypoints.copy()
    points[..., :2] = (points[..., :2] + 0.5) * factor - 0.5
    return big.astype(np.uint8), points


def enlarge_boxes(boxes: ArrayLike, factor: int) -> Float64:
    """Returns boxes (N, 4) xywh px of a picture in the pixels of the one that :func:`enlarge` makes of it."""
    given = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([(given[..., :2] + 0.5) * factor - 0.5, given[..., 2:] * factor], -1)


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
