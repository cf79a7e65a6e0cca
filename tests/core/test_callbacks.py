import json

import numpy as np
import pytest
import torch

from posekit.callbacks.throughput import process_memory
from posekit.callbacks.writer import PredictionWriter, coco_results
from posekit.data.files import atomic_write_text
from posekit.metrics.keypoint_error import KeypointError


def test_atomic_write_leaves_no_part_behind(tmp_path):
    path = tmp_path / "a" / "b.json"
    atomic_write_text(path, "1")
    atomic_write_text(path, "2")
    assert path.read_text() == "2"
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "x.json"
    atomic_write_text(path, "old")
    with pytest.raises(AttributeError):
        atomic_write_text(path, None)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_coco_results_keep_large_ids_exactly(tmp_path):
    writer = PredictionWriter(str(tmp_path))
    outputs = {
        "keypoints": torch.rand(2, 17, 3),
        "scores": torch.tensor([0.25, 0.5]),
        "boxes": torch.rand(2, 4),
        "image_id": torch.tensor([2**40 + 1, 3]),
        "sample_id": torch.tensor([7, 8]),
    }
    writer.on_predict_batch_end(None, None, outputs, None, 0)
    writer.on_predict_batch_end(None, None, outputs, None, 1)  # repeated by a distributed sampler
    rows = json.loads(json.dumps(coco_results(writer._merged())))
    assert [r["image_id"] for r in rows] == [2**40 + 1, 3]
    assert len(rows[0]["keypoints"]) == 51
    assert rows[1]["score"] == 0.5


def test_process_memory_is_plausible():
    assert 1e7 < process_memory() < 1e12


def test_keypoint_error_counts_each_sample_once_and_only_labelled_joints():
    metric = KeypointError()
    target = torch.zeros(3, 2, 2)
    points = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[9.0, 0.0], [0.0, 0.5]], [[3.0, 4.0], [0.0, 1.0]]])
    visible = torch.tensor([[1, 2], [0, 2], [1, 2]])
    metric.update(points, target, visible, torch.tensor([5, 6, 5]))
    values = metric.compute()
    assert float(values["error"]) == pytest.approx((5 + 1 + 0.5) / 3)
    assert float(values["error_seen"]) == pytest.approx(0.75)
    assert values["error_median"] == 1
    assert values["within_1"] == pytest.approx(2 / 3)


def test_keypoint_error_of_nothing_is_nan():
    values = KeypointError().compute()
    assert all(np.isnan(float(v)) for v in values.values())
