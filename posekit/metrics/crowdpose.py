"""CrowdPose's evaluation: OKS AP without area ranges, and AP of easy, medium and hard images by their crowd index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posekit.errors import UserError
from posekit.json_file import numbers
from posekit.metrics.coco_files import Source, content_of, load_coco
from posekit.metrics.oks_ap import evaluate_coco, group_ap, summarise
from posekit.skeletons import CROWDPOSE14

AREA_SHARE = 0.53  # CrowdPose has no masks: a person's area is this share of its box
LEVELS = ("easy", "medium", "hard")
LIMITS = (0.2, 0.8)


def crowd_levels(
    name: str, images: Sequence[Mapping[str, Any]], limits: tuple[float, float] = LIMITS
) -> dict[int, int]:
    """Returns the level of each image by its id, as its place in ``LEVELS``.

    Args:
        name: Of the file, for messages.
        images: Entries of an annotation file, with ``id`` and ``crowdIndex``.
        limits: Crowd indices from which on an image is medium, and hard. The paper says 0.1 and 0.8, the data set's
            toolbox takes 0.2 and 0.8, and so do published tables.

    Raises:
        UserError: An image has no crowd index.
    """
    levels = {}
    for place, image in enumerate(images):
        index = numbers([image.get("crowdIndex")], 1)
        if index is None:
            raise UserError(f"{name}: image {image['id']} has no crowdIndex, a number (images[{place}])")
        levels[image["id"]] = int(np.searchsorted(limits, index[0], side="right"))
    return levels


def evaluate_crowdpose(
    gt_json: Source,
    results_json: Source,
    sigmas: Sequence[float] = CROWDPOSE14.sigmas,
    limits: tuple[float, float] = LIMITS,
    groups: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, float]:
    """Evaluates a results file against CrowdPose's annotations.

    Source of the rules: the data set's evaluation toolbox and xtcocotools' ``keypoints_crowd``. The toolbox prints the
    split rounded to four decimals; here it is exact.

    Args:
        gt_json: Path of the annotation file (images have ``crowdIndex``), or its content.
        results_json: Path of a COCO results file, or its content.
        sigmas: (14,) OKS standard deviations.
        limits: See :func:`crowd_levels`.
        groups: Sets of joints by name; each adds ``AP/name``, as in :class:`~posekit.metrics.KeypointAP`.

    Returns:
        ``AP AP50 AP75 AR AR50 AR75`` and ``APeasy APmedium APhard`` in [0, 1], -1 where nobody is annotated.

    Raises:
        UserError: As :func:`~posekit.metrics.evaluate_coco_keypoints`; or an image has no ``crowdIndex``.
    """
    loaded = load_coco(gt_json, results_json, sigmas, box_area=AREA_SHARE)
    name, gt = content_of(gt_json, "the ground truth")
    levels = crowd_levels(name, gt["images"], limits)
    level = np.array([levels[key] for key in sorted(levels)])
    total = summarise(*(evaluate_coco(det, truth, sigmas) for truth, det in loaded))
    result = {key: total[key] for key in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")}
    for number, split in enumerate(LEVELS):
        parts = [
            evaluate_coco(det.take(level[det.image] == number), truth.take(level[truth.image] == number), sigmas)
            for truth, det in loaded
        ]
        result["AP" + split] = summarise(*parts)["AP"]
    return result | group_ap(loaded, sigmas, groups or {})
