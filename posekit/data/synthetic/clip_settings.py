"""What a clip's layers depend on, and the record of a frame's labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from posekit.data.synthetic.cache import LayerSettings
from posekit.data.synthetic.clip_motion import WindowSampler, window_sampler
from posekit.data.synthetic.person import Layer, label_dtype
from posekit.skeletons import get_skeleton

CLIP_BOXES = ("key", "frame")


@dataclass(frozen=True)
class ClipSettings(LayerSettings):
    """What a clip's layers depend on, besides its index.

    Attributes:
        frames: Frames of a clip.
        frame_step: Recorded frames (30 a second) from one to the next.
        clip_box: ``"key"``: the key frame's box crops all frames; ``"frame"``: each frame's own does.
    """

    frames: int = 3
    frame_step: int = 3
    clip_box: str = "key"

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The record of a frame's labels."""
        return clip_dtype(len(get_skeleton(self.skeleton)))

    @property
    def group(self) -> int:
        """Layers per clip."""
        return self.frames

    @property
    def middle(self) -> int:
        """Place of the key frame."""
        return self.frames // 2

    @property
    def span(self) -> int:
        """Recorded frames from a clip's first frame to its last."""
        return (self.frames - 1) * self.frame_step

    @property
    def windows(self) -> WindowSampler:
        """Where the clips are cut from the split's recordings.

        Raises:
            UserError: No recording is long enough.
        """
        return window_sampler(self.split, self.span, self.middle * self.frame_step, self.options.fast_motion)

    def check(self) -> None:
        """Looks for motion, so that not a rendering process is the first to miss it.

        Raises:
            UserError: No recording is long enough.
        """
        _ = self.windows

    def render(self, index: int) -> list[Layer]:
        """Renders a clip's layers."""
        from posekit.data.synthetic.clip_layers import render_clip  # it needs these settings

        return render_clip(self, index)


@cache
def clip_dtype(joints: int) -> np.dtype[np.void]:
    """Returns the record of a frame's labels: a picture's, and how the frame lies in its clip.

    The clip's original frames are the pixels of the key frame's crop before augmentation, without borders.
    """
    own: list[Any] = [
        ("affine", "f4", (3,)),  # scale, x, y: original frame px -> crop px
        ("backdrop", "f8", (3, 3)),  # original px of the key frame -> original px of this frame, of the background
        ("smear", "f4", (2,)),  # crop px: how far the background moves during the exposure
        ("box", "f4", (4,)),  # xywh original px, around the whole person
        ("frame", "i4"),  # number in the recording
        ("exposure", "f4"),  # seconds
    ]
    return np.dtype(label_dtype(joints).descr + own)
