"""InstaVariety: videos of the web with detected joints in 2D."""

from __future__ import annotations

from typing import Any, ClassVar

from posekit.data.body3d.module import Part, Recording
from posekit.data.body3d.pose_database import PoseDatabase
from posekit.errors import UserError


class InstaVariety(PoseDatabase):
    """InstaVariety (Kanazawa et al., CVPR 2019) as clips of people with 25 joints in 2D.

    ``root`` holds the pictures and ``insta_train_db.pt`` (or ``.npz``) as MAED's scripts extract them from the
    tfrecords; see :class:`~posekit.data.body3d.pose_database.PoseDatabase`. ``joints2D`` is (N, 25, 3) in the order of
    the tfrecords, which is that of ``get_insta_joint_names`` in MAED's ``kp_utils.py``, or (N, 49, 3). Neither the
    tfrecords themselves are read nor VIBE's ``insta_train_db.h5``, which has no pictures. People fill the pictures of
    224 px, so there are no boxes. The rate is not known. The scripts write no file for validation: ``val_share`` of the
    videos, chosen by a checksum of their names, are for validation and test, unless there is an ``insta_val_db`` or
    ``insta_test_db``.

    Args:
        root: Folder of the data.
        images: Folder that ``img_name`` begins in, relative to ``root``.
        strip: What to take off the beginning of every ``img_name``.
        min_confidence: Joints are visible above it.
        val_share: Share of the videos that are for validation, where no file is; with 0 there are none.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = (
        "https://github.com/akanazawa/human_dynamics/blob/master/doc/insta_variety.md (for non-commercial research); "
        "MAED's scripts, insta_utils_imgs.py and insta_utils.py, extract the pictures and write insta_train_db.pt"
    )

    def __init__(
        self,
        root: str = "data/insta_variety",
        images: str = ".",
        strip: str = "",
        min_confidence: float = 0.0,
        val_share: float = 0.02,
        **options: Any,
    ) -> None:
        super().__init__(
            root, dataset="insta", images=images, strip=strip, min_confidence=min_confidence, use_valid=True, **options
        )
        if not 0 <= val_share < 1:
            raise UserError(f"InstaVariety: val_share is {val_share}, but must be in [0, 1)")
        self.val_share = val_share

    def recordings(self, split: Part) -> list[Recording]:
        """Lists the split's file.

        Raises:
            UserError: It is not there; tfrecords have to be extracted first.
        """
        if self._found("train", "val", "test") is None and (features := sorted(self.root.glob("insta_*_db.h5"))):
            raise UserError(
                f"InstaVariety: {features[0]} is of VIBE's script, which keeps features and no pictures: get "
                f"{self.dataset_name}_train_db.pt from {self.HOME}"
            )
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
