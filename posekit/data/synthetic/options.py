"""How hard the synthetic pictures are: presets for pictures and for clips, and every option by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from posekit.errors import UserError, one_of

_SHARES = ("truncation", "closeups", "frontal", "motion_blur", "key_occlusion")


@dataclass(frozen=True)
class Difficulty:
    """Options of the generator. Probabilities lie in [0, 1]; strengths are 1 for the recipe's value and 0 for none.

    Attributes:
        truncation: Probability that the picture's border or a wide object cuts the person.
        closeups: Probability that a cut person is taken from 0.7 to 1.8 m, as in a portrait.
        occluders: Mean number of objects in front of the person (at most 3; 4 in clips).
        people: Mean number of other people in a crop, behind, beside or in front (at most 3).
        pose_variety: Strength of everything beyond the recorded frames: mixed and bent arms, sitting, joint noise.
        frontal: Probability that the person roughly faces the camera; any direction otherwise.
        clutter: Strength of background clutter.
        noise: Strength of sensor noise and JPEG.
        blur: Strength of defocus, motion blur and low resolution.
        color: Strength of the jitter of gain, contrast, tint and saturation.
        augmentation: Strength of flips (on if > 0), rotation, scale and shift of training crops.
        motion_blur: Greatest exposure of a clip's frames, as a share of the time between two frames (of 1/15 s where
            they lie farther apart); a clip's own exposure is 60 to 100 % of it.
        camera_motion: Strength of a clip's camera movement: hand tremor, drift, turning, following, zoom.
        key_occlusion: Probability that an object that passes in front of a clip's person does so at the key frame, and
            not at any frame.
        fast_motion: Preference for clips with fast limbs at the key frame: 0 = as recorded, 1 = in proportion to speed.
        occluder_speed: Speed of passing objects: at 1 they cover their own width in 0.08 to 0.18 s.
    """

    truncation: float
    closeups: float
    occluders: float
    people: float
    pose_variety: float
    frontal: float
    clutter: float
    noise: float
    blur: float
    color: float
    augmentation: float
    motion_blur: float = 0.3
    camera_motion: float = 1.0
    key_occlusion: float = 0.5
    fast_motion: float = 0.0
    occluder_speed: float = 1.0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for field in fields(self):
            value = getattr(self, field.name)
            limit = 1.0 if field.name in _SHARES else float("inf")
            if not 0 <= value <= limit:
                wanted = "between 0 and 1" if limit == 1 else "0 or more"
                raise UserError(f"SyntheticPeople: {field.name} is {value}, but must be {wanted}")


_EASY = Difficulty(
    truncation=0.03, closeups=0.0, occluders=0.1, people=0.08, pose_variety=0.2, frontal=0.9, clutter=0.5,
    noise=0.3, blur=0.2, color=0.4, augmentation=0.25,
)  # fmt: skip

PRESETS = {
    # Mostly whole people under mild disturbance: what a small net learns in a few minutes.
    "easy": _EASY,
    # COCO's framing: half of the people without legs, close-ups, crowds, objects in front.
    "hard": Difficulty(
        truncation=0.6, closeups=0.3, occluders=0.8, people=0.6, pose_variety=1.0, frontal=0.6, clutter=1.0,
        noise=1.0, blur=1.0, color=1.0, augmentation=1.0, motion_blur=0.8,
    ),
    # For temporal methods. Easy: all frames are nearly clean. Hard: the same looks, but limbs move fast, frames are
    # blurred, and something passes in front of the key frame's person, most of whom the neighbours show.
    "video_easy": replace(_EASY, occluders=0.3),
    "video_hard": replace(_EASY, occluders=2.5, people=0.2, motion_blur=1.0, key_occlusion=1.0, fast_motion=1.0),
}  # fmt: skip


_NONE: Mapping[str, float] = {}


def resolve_difficulty(name: str, overrides: Mapping[str, Any], domain: Mapping[str, float] = _NONE) -> Difficulty:
    """Returns a preset with the options that were given in place of its own.

    Args:
        name: Key of ``PRESETS``.
        overrides: Options by name; None keeps the preset's value.
        domain: What the domain sets in place of the preset, where nothing overrides it.

    Raises:
        UserError: There is no such preset, or an option is out of range.
    """
    one_of("difficulty", name, PRESETS)
    return replace(PRESETS[name], **{**domain, **{key: value for key, value in overrides.items() if value is not None}})
