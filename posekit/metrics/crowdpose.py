"""CrowdPose's evaluation: OKS AP without area ranges, and AP of easy, medium and hard images by their crowd index."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from posekit.errors import UserError
from posekit.metrics.coco_files import Source, content_of, load_coco
from posekit.metrics.oks_ap import evaluate_coco, summarise
from posekit.skeletons import CROWDPOSE14

BOX_SHARE = 0.53  # CrowdPose has no masks: a person's area is this share of its box
SPLITS = ("easy", "medium", "hard")


def evaluate_crowdpose(
    gt_json: Source,
    results_json: Source,
    sigmas: Sequence[float] = CROWDPOSE14.sigmas,
    limits: tuple[float, float] = (0.2, 0.8),
) -> dict[str, float]:
    """Evaluates a results file against CrowdPose's annotations.

    Source of the rules: the data set's evaluation toolbox and xtcocotools' ``keypoints_crowd``. The toolbox prints the
    split rounded to four decimals; here it is exact.

    Args:
        gt_json: Path of the annotation file (images have ``crowdIndex``), or its content.
        results_json: Path of a COCO results file, or its content.
        sigmas: (14,) OKS standard deviations.
        limits: Crowd indices below which an image is easy, or medium. The paper says 0.1 and 0.8, the toolbox takes
            0.2 and 0.8, and so do published tables.

    Returns:
        ``AP AP50 AP75 AR AR50 AR75`` and ``APeasy APmedium APhard`` in [0, 1], -1 where nobody is annotated.

    Raises:
        UserError: As :func:`~posekit.metrics.evaluate_coco_keypoints`; or an image has no ``crowdIndex``.
    """
    loaded = load_coco(gt_json, results_json, sigmas, box_area=BOX_SHARE)
    name, gt = content_of(gt_json, "the ground truth")
    index = {}
    for i, image in enumerate(gt["images"]):
        value = image.get("crowdIndex")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{name}: images[{i}] (id {image['id']}) has no 'crowdIndex', a number")
        index[image["id"]] = float(value)
    level = np.searchsorted(limits, [index[key] for key in sorted(index)], side="right")
    total = summarise(*(evaluate_coco(det, truth, sigmas) for truth, det in loaded))
    result = {key: total[key] for key in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")}
    for number, split in enumerate(SPLITS):
        parts = [
            evaluate_coco(det.take(level[det.image] == number), truth.take(level[truth.image] == number), sigmas)
            for truth, det in loaded
        ]
        result["AP" + split] = summarise(*parts)["AP"]
    return result
