"""InstaVariety: videos of the web with detected joints in 2D."""

from __future__ import annotations

from typing import ClassVar

from posekit.data.body3d.module import Part, Recording, View, WindowKind
from posekit.data.body3d.pose_database import PoseDatabase
from posekit.data.clip_transforms import ClipAugmentation
from posekit.data.clips import ClipBox
from posekit.data.coco_file import OnFault
from posekit.errors import UserError


class InstaVariety(PoseDatabase):
    """InstaVariety (Kanazawa et al., CVPR 2019) as clips of people with 25 joints in 2D.

    ``root`` holds the pictures and ``insta_train_db.pt`` (or ``.npz``) as MAED's or VIBE's script extracts them from
    the tfrecords; see :class:`~posekit.data.body3d.pose_database.PoseDatabase`. The tfrecords themselves are not read.
    The people fill the pictures of 300 px, so there are no boxes. The rate is not known. The scripts write no file for
    validation: ``val_share`` of the videos, chosen by a checksum of their names, are for validation and test, unless
    there is an ``insta_val_db`` or ``insta_test_db``.

    Args:
        root: Folder of the data.
        images: Folder that ``img_name`` begins in, relative to ``root``.
        strip: What to take off the beginning of every ``img_name``.
        min_confidence: Joints are visible above it.
        val_share: Share of the videos that are for validation, where no file is; with 0 there are none.
        view: See :class:`~posekit.data.body3d.module.BodyDataModule`, as for all that follows.
        skeleton: Joint set of the samples.
        frames: Frames of a clip.
        stride: Distance of a clip's frames.
        hop: Frames between the starts of windows.
        window: ``"pool"``, ``"chunk"`` or ``"key"``.
        image_size: [W, H] of the crops in px.
        box_scale: Enlargement of boxes.
        clip_box: ``"frame"``, ``"key"`` or ``"window"``.
        augmentation: Random views in training.
        fps: Frames per second to bring recordings to.
        source_fps: Frames per second of recordings whose files do not say.
        every: Use only every so-manyth frame; with ``window: key`` as a key frame amid its neighbours.
        eval_joints: No published evaluation is known here: None.
        limit: Use only the first so many recordings of each split.
        on_broken_image: ``"error"`` or ``"skip"``.
        on_bad_annotation: ``"error"`` or ``"skip"``.
        verify_images: Look at the start whether pictures are there.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of shuffling and augmentation.
        pin_memory: Page-locked batches, for CUDA.
    """

    HOME: ClassVar[str] = (
        "https://github.com/akanazawa/human_dynamics/blob/master/doc/insta_variety.md (for non-commercial research); "
        "MAED's and VIBE's scripts extract the pictures and write insta_train_db.pt"
    )

    def __init__(
        self,
        root: str = "data/insta_variety",
        images: str = ".",
        strip: str = "",
        min_confidence: float = 0.0,
        val_share: float = 0.02,
        view: View = "clips",
        skeleton: str = "SPIN49",
        frames: int = 16,
        stride: int = 1,
        hop: int | None = None,
        window: WindowKind = "pool",
        image_size: tuple[int, int] = (224, 224),
        box_scale: float = 1.25,
        clip_box: ClipBox = "frame",
        augmentation: ClipAugmentation | str | None = "maed",
        fps: float | None = None,
        source_fps: float | None = None,
        every: int = 1,
        eval_joints: int | None = None,
        limit: int | None = None,
        on_broken_image: OnFault = "error",
        on_bad_annotation: OnFault = "error",
        verify_images: bool = True,
        batch_size: int = 8,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            root, "insta", images, strip, min_confidence, True, view, skeleton, frames, stride, hop, window, image_size,
            box_scale, clip_box, augmentation, fps,
            source_fps, every, eval_joints, limit, on_broken_image, on_bad_annotation, verify_images, batch_size,
            num_workers, val_batch_size, seed, pin_memory,
        )  # fmt: skip
        if not 0 <= val_share < 1:
            raise UserError(f"InstaVariety: val_share is {val_share}, but must be in [0, 1)")
        self.val_share = val_share

    def recordings(self, split: Part) -> list[Recording]:
        """Lists the split's file.

        Raises:
            UserError: It is not there; tfrecords have to be extracted first.
        """
        if not any(self.root.glob("insta_*_db.*")) and any(self.root.rglob("*.tfrecord*")):
            raise UserError(
                f"InstaVariety: {self.root} holds tfrecords, which are not read: extract them first. {self.HOME}"
            )
        if split != "train" and not self.val_share and self._found("val", "test") is None:
            raise UserError(
                f"InstaVariety: val_share is 0, which leaves no video for split {split}: set it above 0, or evaluate "
                "another part of a Mixture"
            )
        return super().recordings(split)
