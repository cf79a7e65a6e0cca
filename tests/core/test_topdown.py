import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from posekit.callbacks import BestCheckpoint
from posekit.data import SyntheticPeople
from posekit.data.given_boxes import given_boxes
from posekit.errors import UserError
from posekit.heatmaps import DECODERS, MAPPINGS, DistributionCodec, GaussianCodec, shift_heatmaps
from posekit.metrics import KeypointAP
from posekit.topdown import TopDownModule
from posekit_tip.scoring import PoseTrackScoring
from tests.data.posetrack_made import make_2018


@pytest.mark.parametrize("size", [(0, 0), (30, 0), (-5, 20)])
def test_predict_refuses_a_box_without_area(size):
    picture = np.zeros((60, 80, 3), np.uint8)
    with pytest.raises(UserError, match=r"width and a height above 0: box 1 is \[10\.0, 10\.0"):
        TopDownModule().predict(picture, [[5, 5, 20, 20], [10, 10, *size]])


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ("x.jpg", r"not the file name 'x\.jpg': read it by posekit\.data\.images\.read_image"),
        (torch.zeros(3, 8, 8), r"\(H, W, 3\), not a Tensor"),
        (np.zeros((8, 8), np.uint8), r"not uint8 of shape \(8, 8\)"),
    ],
)
def test_predict_refuses_what_is_no_picture(picture, text):
    with pytest.raises(UserError, match=text):
        TopDownModule().predict(picture)


def test_data_of_another_joint_set_is_refused():
    data = SyntheticPeople(image_size=[96, 128])
    TopDownModule(skeleton="COCO17").check_data(data)
    with pytest.raises(UserError, match="TopDownModule has joints of MPII16, but SyntheticPeople gives COCO17"):
        TopDownModule(skeleton="MPII16").check_data(data)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [(None, "max"), ("val/AP50", "max"), ("val/PCKh", "max"), ("val/loss", "min"), ("val/error_median", "min")],
)
def test_errors_are_best_small(monitor, mode):
    module = TopDownModule(monitor=monitor)
    assert module.monitor_mode == mode
    own = BestCheckpoint("val/error", "min")
    own.dirpath = "x"
    strategy = SimpleNamespace(broadcast=lambda value: value)
    trainer = SimpleNamespace(datamodule=None, strategy=strategy, is_global_zero=False, loggers=[])
    own.setup(trainer, module, "fit")
    assert (own.monitor, own.mode) == ("val/error", "min")


class Oracle(TopDownModule):
    """Draws the right maps of crops, and of their mirror images, whose left column is bright."""

    def __init__(self, points, decoder, mapping, **options):
        super().__init__(image_size=[96, 128], **options)
        self.points = points
        self.mapping = mapping
        mass = decoder in ("window", "expectation")
        self.codec = (DistributionCodec if mass else GaussianCodec)((128, 96), (32, 24), decoder, mapping)

    def forward(self, images):
        bright = images[:, 0, 0, 0] > 0
        mirrored = self.points.clone()
        mirrored[..., 0] = 95 - mirrored[..., 0]
        points = torch.where(bright[:, None, None], mirrored[:, self.flip_index], self.points)
        return self.codec.encode(points, torch.ones(points.shape[:2])).heatmaps

    def decode(self, heatmaps):
        return self.codec.decode(heatmaps)


def bias(decoder, mapping, **options):
    """Returns how far right of their labels an oracle's joints lie with the flip test, less without it: mean px."""
    torch.manual_seed(0)
    points = 12 + torch.rand(64, 17, 2) * torch.tensor([72.0, 104.0])
    images = torch.zeros(64, 3, 128, 96)
    images[..., -1] = 1.0
    found = [Oracle(points, decoder, mapping, flip_test=flip, **options).infer(images)[0] for flip in (True, False)]
    torch.testing.assert_close(found[0][..., 1], found[1][..., 1], atol=0.25, rtol=0)
    return (found[0] - found[1])[..., 0].mean().item()


@pytest.mark.parametrize("decoder", sorted(DECODERS))
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_the_flip_test_moves_no_joint(mapping, decoder):
    # A quarter of a cell is 1 px; without a shift legacy maps are 1.5 px off. Decoders to whole pixels are coarser.
    assert abs(bias(decoder, mapping)) < (0.2 if decoder in ("window", "argmax") else 0.05)


def test_the_shift_of_hrnets_code_is_half_a_pixel_off():
    assert bias("parabola", "legacy", flip_shift=1.0) == pytest.approx(0.5, abs=0.05)
    assert bias("parabola", "legacy", flip_shift=0.0) == pytest.approx(-1.5, abs=0.05)
    with pytest.raises(UserError, match=r"flip_shift must be a number in \[0, 1\] \(or null\), not 2"):
        TopDownModule(flip_shift=2.0)


def test_a_shift_of_one_is_that_of_hrnets_code():
    maps = torch.rand(2, 3, 4, 5)
    moved = maps.clone()
    moved[..., 1:] = maps[..., :-1]
    assert torch.equal(shift_heatmaps(maps, 1.0), moved)
    assert shift_heatmaps(maps, 0.0) is maps


def test_copies_and_pickles_of_a_judged_method_hold_no_data():
    data, judged = SyntheticPeople(image_size=[96, 128], val_size=2), [TopDownModule(), PoseTrackScoring()]
    for module in judged:
        module._trainer = SimpleNamespace(limit_val_batches=1.0, datamodule=data)
        before = len(pickle.dumps(module))
        module.reset_metrics("val")
        module.keypoint_error["val_error"].update(*torch.zeros(2, 1, 17, 2), torch.ones(1, 17), torch.zeros(1))
        assert module._handed == {"val": data}
        assert len(pickle.dumps(module)) == pytest.approx(before, abs=64)  # counts of updates, not rows
        for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert copied._handed == {}
            assert copied.keypoint_ap["val_ap"].targets is None
            assert len(copied.keypoint_error["val_error"].errors) == 0
            copied._trainer = module._trainer
            copied.reset_metrics("val")
            assert copied._handed == {"val": data}
            assert len(copied.keypoint_ap["val_ap"].targets.image) == 2
        assert len(module.keypoint_ap["val_ap"].targets.image) == 2
        assert len(module.keypoint_error["val_error"].errors) == 1


def test_a_copied_method_forgets_posetracks_annotations(tmp_path):
    folder = make_2018(tmp_path)
    module = PoseTrackScoring(skeleton="POSETRACK15")
    data = SimpleNamespace(posetrack_annotations=lambda stage: folder)
    module._trainer = SimpleNamespace(limit_val_batches=1.0, datamodule=data)
    module.reset_metrics("val")
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert "val" not in copied.posetrack_ap
        copied._trainer = SimpleNamespace(limit_val_batches=1.0, datamodule=None)
        copied.reset_metrics("val")
        assert "val" not in copied.posetrack_ap
    kept = module.posetrack_ap["val"]
    module.reset_metrics("val")
    assert module.posetrack_ap["val"] is kept  # its files are read once


def test_annotations_that_could_not_be_read_are_read_again(tmp_path):
    module, data = PoseTrackScoring(skeleton="POSETRACK15"), SimpleNamespace(posetrack_annotations=lambda _: tmp_path)
    module._trainer = SimpleNamespace(limit_val_batches=1.0, datamodule=data)
    for _ in range(2):
        with pytest.raises(UserError):
            module.reset_metrics("val")


def test_a_metric_by_itself_keeps_its_data_in_copies():
    metric = KeypointAP()
    metric.set_targets([])
    metric.seen = [torch.zeros(1, 3)]
    for copied in (metric.clone(), pickle.loads(pickle.dumps(metric))):
        assert copied.targets is not None
        assert len(copied.seen) == 1
    empty = metric.emptied()
    assert empty.targets is None
    assert empty.seen == []
    assert metric.targets is not None
    assert len(metric.seen) == 1


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        ("abc", r"\(N, 4\) finite numbers xywh, not 'abc'$"),
        ([[0, 0, 5, 5], [1, 2]], r"finite numbers xywh: box 1 is \[1, 2\]$"),
        ([["a", 1, 2, 3]], r"box 0 is \['a', 1, 2, 3\]$"),
        ([[0, 0, 5, 5], [0, 0, float("nan"), 4]], r"box 1 is \[0\.0, 0\.0, nan, 4\.0\]$"),
        (np.ones((2, 2, 4)), r"xywh, not of shape \(2, 2, 4\)$"),
        ([1, 2, 3], r"not of shape \(3,\)$"),
    ],
)
def test_faulty_boxes_are_named(boxes, text):
    with pytest.raises(UserError, match=text) as caught:
        TopDownModule().predict(np.zeros((60, 80, 3), np.uint8), boxes)
    assert "\n" not in str(caught.value)


def test_boxes_are_rows_one_flat_row_or_none():
    for one in ([5, 6, 7, 8], [[5, 6, 7, 8]], torch.tensor([5.0, 6, 7, 8], requires_grad=True)):
        assert given_boxes(one).tolist() == [[5.0, 6.0, 7.0, 8.0]]
    assert given_boxes([]).shape == given_boxes(np.zeros((0, 4))).shape == (0, 4)
