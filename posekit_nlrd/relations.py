"""The relations: one transform of a person, stated in four spaces (section 4 of the reconstruction).

In pose space flip is F (negate x, swap left and right), in-plane rotation is R (about the depth axis); in image space
they are the mirror image and a turn of the picture about its centre; in time a relation may play backwards, or
backwards at half speed. All transforms are pure functions, and the spaces agree: what is seen in the transformed
picture is the transformed pose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from posekit.errors import UserError, in_range, one_of
from posekit.nn.constants import constants, finest, kept
from posekit.nn.precision import precise
from posekit_nlrd.geometry import FLIP, pick, rotate, turn_matrix
from posekit_nlrd.motion import LENGTH

WINDOW = 60
"""Frames of a window of which a slow-backward pair is cut, at 30 frames a second."""

_BLACK = tuple(-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))

BORDERS = {"constant": "zeros", "replicate": "border", "reflect": "reflection"}


@dataclass(frozen=True)
class Relation:
    """A transform of poses, motions, pictures and videos.

    Attributes:
        name: Its name in configs.
        flips: Mirrors, after the rotation.
        turns: Rotates in the picture's plane.
        playback: ``forward`` (a relation of single poses), ``backward``, or ``slow_backward``.
        theta: Degrees of the rotation, counter-clockwise as seen in the picture.
        border: What fills the corners of a turned picture: ``constant`` (black), ``replicate`` or ``reflect``.
    """

    name: str
    flips: bool = False
    turns: bool = False
    playback: str = "forward"
    theta: float = 50.0
    border: str = "constant"

    @property
    def is_motion(self) -> bool:
        """Tells whether it relates motions, not single poses."""
        return self.playback != "forward"

    @property
    def frames(self) -> int:
        """Frames of the window that a pair is cut from."""
        return {"forward": 1, "backward": LENGTH, "slow_backward": WINDOW}[self.playback]

    def pose(self, pose: Tensor) -> Tensor:
        """Transforms poses (..., 17, 3) in frame V."""
        if self.turns:
            pose = turn_pose(pose, self.theta)
        return flip_pose(pose) if self.flips else pose

    def image(self, image: Tensor) -> Tensor:
        """Transforms normalised pictures (..., 3, H, W)."""
        if self.turns:
            image = turn_image(image, self.theta, self.border)
        return image.flip(-1) if self.flips else image

    def motion_pair(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Cuts a pair of motions out of windows of poses (..., T, 17, 3); see :meth:`pair`."""
        return self.pair(window, axis=-3, transform=self.pose)

    def video_pair(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Cuts a pair of clips out of windows of pictures (..., T, 3, H, W); see :meth:`pair`."""
        return self.pair(window, axis=-4, transform=self.image)

    def pair(self, window: Tensor, axis: int, transform: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Returns the anchor and its transform.

        ``slow_backward`` needs windows W of 60 frames: the anchor is W[0], W[2], ... (15 frames a second), its
        transform W[44], W[43], ... W[15]: the middle half of the anchor, backwards at half speed. The others take the
        first 30 frames; relations of poses the whole window.

        Args:
            window: T frames along ``axis``.
            axis: Of time, negative.
            transform: Applied to each frame.

        Raises:
            UserError: The window is too short.
        """
        length = window.shape[axis]
        if length < self.frames:
            raise UserError(f"relation {self.name} needs windows of {self.frames} frames, these have {length}")
        axis %= window.ndim
        if self.playback == "forward":
            return window, transform(window)
        if self.playback == "backward":
            anchor = window.narrow(axis, 0, LENGTH)
            return anchor, transform(anchor.flip(axis))
        anchor = window[(slice(None),) * axis + (slice(0, WINDOW, 2),)]
        return anchor, transform(window.narrow(axis, LENGTH // 2, LENGTH).flip(axis))


_KINDS: dict[str, tuple[bool, bool, str]] = {
    "flip": (True, False, "forward"),
    "inplane": (False, True, "forward"),
    "flip_inplane": (True, True, "forward"),
    "flip_backward": (True, False, "backward"),
    "inplane_backward": (False, True, "backward"),
    "flip_inplane_backward": (True, True, "backward"),
    "slow_backward": (False, False, "slow_backward"),
}


def make_relation(name: str, theta: float = 50.0, border: str = "constant") -> Relation:
    """Builds a relation by name.

    Raises:
        UserError: Unknown name or border, or an angle beyond a full turn.
    """
    one_of("relation", name, _KINDS)
    one_of("border", border, BORDERS)
    in_range("NLRD", "theta", theta, "[-360, 360]")
    flips, turns, playback = _KINDS[name]
    return Relation(name, flips, turns, playback, float(theta), border)


def flip_pose(pose: Tensor) -> Tensor:
    """F: the mirror image of poses (..., 17, 3): x negated, left and right joints swapped."""
    mirrored = pick(pose, FLIP)
    return torch.stack([-mirrored[..., 0], mirrored[..., 1], mirrored[..., 2]], dim=-1)


def turn_pose(pose: Tensor, degrees: float) -> Tensor:
    """R: turns poses (..., J, 3) about the depth axis, counter-clockwise as seen in the picture."""
    pose = precise(pose)
    return rotate(pose, turn_matrix(degrees, pose))


def turn_image(image: Tensor, degrees: float, border: str = "constant") -> Tensor:
    """Turns normalised pictures counter-clockwise about their centre ((W - 1) / 2, (H - 1) / 2), bilinear.

    Equals ``cv2.warpAffine`` with ``cv2.getRotationMatrix2D(centre, degrees, 1)`` up to its fixed-point rounding.

    Args:
        image: (..., 3, H, W).
        degrees: Positive is counter-clockwise on the screen.
        border: ``constant`` fills with black, ``replicate`` and ``reflect`` continue the picture.
    """
    height, width = image.shape[-2:]
    flat = image.reshape(-1, *image.shape[-3:])
    grid = kept(_grid, flat, float(degrees), height, width).expand(len(flat), -1, -1, -1)
    black = constants(_BLACK, flat, flat.dtype)[:, None, None] if border == "constant" else flat.new_zeros(())
    turned = F.grid_sample(flat - black, grid, mode="bilinear", padding_mode=BORDERS[border], align_corners=True)
    return (turned + black).reshape(image.shape)


def _grid(degrees: float, height: int, width: int, device: torch.device) -> Tensor:
    """Returns where each pixel of the turned picture comes from, in grid_sample's [-1, 1], (1, H, W, 2)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=finest(device), device=device) - (height - 1) / 2,
        torch.arange(width, dtype=finest(device), device=device) - (width - 1) / 2,
        indexing="ij",
    )
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.stack([(cos * x - sin * y) * 2 / (width - 1), (sin * x + cos * y) * 2 / (height - 1)], dim=-1)[None]


def latent_distance(anchor: Tensor, transformed: Tensor) -> Tensor:
    """Returns how far a relation moves latents (..., D): the mean Euclidean distance; non-local relations move far."""
    return torch.linalg.vector_norm((anchor - transformed).float(), dim=-1).mean()
