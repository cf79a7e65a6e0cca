"""Random views of a clip: one draw for all of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from posekit.arrays import Bytes, Float64
from posekit.data.transforms import PersonAugmentation, mirror, require_probabilities
from posekit.errors import UserError, one_of
from posekit.geometry.affine import crop_affine, fit_aspect
from posekit.skeletons import Skeleton

SIDES = ("top", "bottom", "left", "right")


class View(NamedTuple):
    """A draw of a clip's view, to be applied to the box of any of its frames."""

    offset: Float64  # (2,) of the centre, in shares of the framed box's sides
    scale: Float64  # (2,) factor of the framed box's sides
    rotation: float  # degrees
    flipped: bool

    def affine(self, box: Float64, output_size: Sequence[int], box_scale: float) -> Float64:
        """Returns the 2x3 map of a frame to its crop.

        Args:
            box: (4,) xywh, image px.
            output_size: (W, H) of the crop, px.
            box_scale: Enlargement of the box after the aspect ratio is met.
        """
        size = fit_aspect(box[2:], output_size[0] / output_size[1]) * box_scale
        center = box[:2] + box[2:] / 2 + self.offset * size
        affine = crop_affine(center, size * self.scale, output_size, self.rotation)
        return mirror(affine, output_size[0]) if self.flipped else affine


STILL = View(np.zeros(2), np.ones(2), 0.0, False)
"""The view without augmentation."""


@dataclass(frozen=True)
class ClipAugmentation:
    """Random views of a clip; the same draw for every frame. All is off by default.

    Attributes:
        flip: Probability of a mirror image.
        rotation: Degrees: the deviation of a normal law that is clipped at twice that.
        rotation_probability: Probability of any rotation.
        scale: The box is enlarged by 1 + N(0, scale), within 1 - scale … 1 + scale.
        half_body: Probability of a crop around the upper or the lower body of the key frame only.
        half_body_joints: Half-body crops are for people with more labelled joints than this.
        crop: Probability of a random part of the enlarged box (MAED): the enlargement is drawn from
            U(box_scale - crop_size, box_scale), the place so that the part stays within the enlarged box. Pictures that
            are taken whole, for want of a box, stay whole.
        crop_size: See ``crop``.
        color: Strength of brightness, contrast and saturation jitter and, unless ``hue`` says otherwise, of hue.
        hue: Strength of hue jitter, in turns of the colour circle; None takes ``color``.
        erase: Probability, of each frame, that a part at one side is blacked out. The side is the clip's.
        erase_part: The part is drawn from U(0, erase_part) of the picture's side.
        erase_rows: MAED's code blacks out rows where it means columns: a side of ``left`` is ``top``, ``right`` is
            ``bottom``. True does so as well.
    """

    flip: float = 0.0
    rotation: float = 0.0
    rotation_probability: float = 0.0
    scale: float = 0.0
    half_body: float = 0.0
    half_body_joints: int = 8
    crop: float = 0.0
    crop_size: float = 0.6
    color: float = 0.0
    hue: float | None = None
    erase: float = 0.0
    erase_part: float = 0.7
    erase_rows: bool = False
    _frame: PersonAugmentation = field(init=False, repr=False, compare=False)

    PRESETS: ClassVar[dict[str, dict[str, float]]] = {
        "none": {},
        # DCPose, PoseWarper and FAMI-Pose.
        "pose_track": {"flip": 0.5, "rotation": 45.0, "rotation_probability": 0.6, "scale": 0.35, "half_body": 0.3},
        # MAED's second stage; its colour jitter (0.3) is for 3D videos only.
        "maed": {"flip": 0.5, "crop": 0.2, "crop_size": 0.6, "erase": 0.3, "erase_part": 0.7},
    }

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A value is out of its range.
        """
        require_probabilities(self, "flip", "rotation_probability", "half_body", "crop", "color", "erase", "erase_part")
        if self.hue is not None and not 0 <= self.hue <= 0.5:
            raise UserError(f"augmentation: hue is {self.hue}, but must be in [0, 0.5]")
        if self.crop_size < 0:
            raise UserError(f"augmentation: crop_size is {self.crop_size}, but must not be negative")
        frame = PersonAugmentation(
            self.flip, self.rotation, self.rotation_probability, self.scale, "normal", self.half_body,
            self.half_body_joints,
        )  # fmt: skip
        object.__setattr__(self, "_frame", frame)

    @classmethod
    def preset(cls, name: str, **changes: float) -> ClipAugmentation:
        """Returns the recipe of a name (``none``, ``pose_track``, ``maed``), some values changed.

        Raises:
            UserError: There is no such recipe.
        """
        one_of("clip augmentation", name, cls.PRESETS)
        return cls(**{**cls.PRESETS[name], **changes})  # type: ignore[arg-type]

    # -- geometry -----------------------------------------------------------------------------------------------------

    def view(
        self,
        rng: np.random.Generator,
        box: Float64,
        joints: Float64,
        skeleton: Skeleton,
        output_size: Sequence[int],
        box_scale: float,
        whole: bool = False,
    ) -> View:
        """Draws a view.

        Args:
            rng: The sample's stream.
            box: (4,) xywh of the key frame, image px.
            joints: (K, 3) of the key frame: x, y in image px and visibility.
            skeleton: The joint set.
            output_size: (W, H) of the crop, px.
            box_scale: Enlargement of the box.
            whole: The box is the picture's, nobody's own: no random part (``crop``) is taken of it.
        """
        offset, scale = self._part(rng, box, joints, skeleton, output_size, box_scale)
        if rng.random() < self.crop and not whole:
            grown = rng.uniform(box_scale - self.crop_size, box_scale)
            shift = rng.uniform(-1, 1, 2) * (box_scale - grown) / 2
            offset, scale = offset + shift / box_scale, scale * max(grown / box_scale, 0.1)
        scale = scale * (1 + float(np.clip(rng.standard_normal() * self.scale, -self.scale, self.scale)))
        turned = rng.random() < self.rotation_probability
        limit = 2 * self.rotation
        rotation = float(np.clip(rng.standard_normal() * self.rotation, -limit, limit)) if turned else 0.0
        return View(offset, scale, rotation, bool(rng.random() < self.flip))

    def _part(
        self,
        rng: np.random.Generator,
        box: Float64,
        joints: Float64,
        skeleton: Skeleton,
        output_size: Sequence[int],
        box_scale: float,
    ) -> tuple[Float64, Float64]:
        """Returns offset and scale of a half-body crop, or of the whole."""
        half = self._frame._half_body(rng, joints, skeleton, output_size) if self.half_body else None
        if half is None:
            return np.zeros(2), np.ones(2)
        size = fit_aspect(box[2:], output_size[0] / output_size[1]) * box_scale
        return (half[0] - box[:2] - box[2:] / 2) / size, half[1] / size

    # -- pixels -------------------------------------------------------------------------------------------------------

    def pixels(self, rng: np.random.Generator, crops: list[Bytes]) -> list[Bytes]:
        """Changes the colours of a clip's crops (H, W, 3) and blacks out parts of them."""
        if self.color or self.hue:
            crops = _jitter(rng, crops, self.color, self.color if self.hue is None else self.hue)
        if self.erase:
            side = SIDES[int(rng.integers(4))]
            crops = [self._erase(rng, crop, side) for crop in crops]
        return crops

    def _erase(self, rng: np.random.Generator, crop: Bytes, side: str) -> Bytes:
        hit, part = rng.random() < self.erase, rng.uniform(0, self.erase_part)
        if not hit:
            return crop
        if self.erase_rows:
            side = {"left": "top", "right": "bottom"}.get(side, side)
        crop = crop.copy()
        count = int(part * crop.shape[0 if side in ("top", "bottom") else 1])
        if count:
            part_of: dict[str, Any] = {
                "top": np.s_[:count], "bottom": np.s_[-count:], "left": np.s_[:, :count], "right": np.s_[:, -count:],
            }  # fmt: skip
            crop[part_of[side]] = 0
        return crop


def _jitter(rng: np.random.Generator, crops: list[Bytes], strength: float, hue: float) -> list[Bytes]:
    """Changes brightness, contrast, saturation and hue by one draw, in one random order."""
    brightness, contrast, saturation = rng.uniform(max(0.0, 1 - strength), 1 + strength, 3)
    turn = rng.uniform(-hue, hue)
    for step in rng.permutation(4):
        if step == 0:
            crops = [cv2.convertScaleAbs(c, alpha=brightness) for c in crops]  # type: ignore[misc]
        elif step == 1:
            crops = [
                _blend(c, np.full_like(c, int(cv2.cvtColor(c, cv2.COLOR_RGB2GRAY).mean())), contrast) for c in crops
            ]
        elif step == 2:
            crops = [_blend(c, _grey(c), saturation) for c in crops]
        else:
            crops = [_turn_hue(c, turn) for c in crops]
    return crops


def _blend(crop: Bytes, other: Bytes, share: float) -> Bytes:
    return np.asarray(cv2.addWeighted(crop, share, other, 1 - share, 0), dtype=np.uint8)


def _grey(crop: Bytes) -> Bytes:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), dtype=np.uint8)


def _turn_hue(crop: Bytes, turn: float) -> Bytes:
    if abs(turn) < 1 / 360:
        return crop
    hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int64) + round(180 * turn)) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)


def resolve_augmentation(value: ClipAugmentation | str | None) -> ClipAugmentation | None:
    """Returns the recipe of a name, or what is given.

    Raises:
        UserError: There is no recipe of that name.
    """
    return ClipAugmentation.preset(value) if isinstance(value, str) else value
