"""Dynamic and transformed convolutions, suppression, centres, refinement, targets and losses, part by part."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from posekit.errors import UserError
from posekit.skeletons import COCO17
from posekit_logocap import LogoCap, losses
from posekit_logocap.decode import find_centres, initial_poses, merge_flipped
from posekit_logocap.dynamic import correlate_each
from posekit_logocap.inference import DecodeOptions
from posekit_logocap.message_passing import AttentiveNorm, MessagePassing
from posekit_logocap.network import DenseMaps, LogoCapNetwork
from posekit_logocap.nms import neighbours, pose_nms
from posekit_logocap.refine import Expansion, two_largest
from posekit_logocap.targets import Persons, centres_of, offset_targets, output_points, stack_persons
from posekit_logocap.winograd import FastMessagePassing, convolve, transform_weight
from tests.logocap.made import joined_maps


def test_correlation_and_its_gradients():
    torch.manual_seed(0)
    maps, kernels = (torch.rand(3, n, n, dtype=torch.float64, requires_grad=True) for n in (9, 5))
    expected = F.conv2d(maps[None], kernels[:, None], padding=2, groups=3)[0]
    torch.testing.assert_close(correlate_each(maps, kernels), expected)
    assert torch.autograd.gradcheck(correlate_each, (maps, kernels))
    assert correlate_each(torch.zeros(0, 9, 9), torch.zeros(0, 5, 5)).shape == (0, 9, 9)


@pytest.mark.parametrize("side", [3, 8, 11])
def test_transformed_convolution(side):
    torch.manual_seed(0)
    x, weight = torch.randn(2, side, side, 5), torch.randn(7, 5, 3, 3)
    expected = F.conv2d(x.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(convolve(x, transform_weight(weight)), expected, atol=1e-4, rtol=1e-4)


def settled(layers):
    """Message passing whose norms are not the identity."""
    for module in layers.modules():
        if isinstance(module, nn.BatchNorm2d | AttentiveNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return layers.eval()


def test_faster_message_passing_follows_its_weights():
    torch.manual_seed(0)
    layers, local = settled(MessagePassing(4, 6, (8, 8, 4))), torch.randn(3, 24, 11, 11)
    fast = FastMessagePassing(layers)
    with torch.no_grad():
        torch.testing.assert_close(fast(local), layers(local), atol=1e-5, rtol=1e-4)
        layers[0].weight.mul_(1.5)
        torch.testing.assert_close(fast(local), layers(local), atol=1e-5, rtol=1e-4)
        layers[3].weight.data = layers[3].weight.data + 1
        torch.testing.assert_close(fast(local), layers(local), atol=1e-4, rtol=1e-4)
        layers[1].running_mean.data.add_(1)  # leaves no trace but the values
        torch.testing.assert_close(fast(local), layers(local), atol=1e-4, rtol=1e-4)
        assert fast(local[:0]).shape == (0, 4, 11, 11)
    assert fast(local).requires_grad  # with gradients it is the plain network


def test_attentive_norm():
    torch.manual_seed(0)
    norm, x = AttentiveNorm(3, kernels=2), torch.randn(4, 3, 5, 5)
    y = norm(x)
    flat = x.flatten(2)
    ratio = flat.mean(2) / (flat.var(2) + 1e-3).sqrt()
    weights = F.relu6(ratio @ norm.attn_weights.attention[0].weight[:, :, 0, 0].T + 3) / 6
    normal = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = normal * (weights @ norm.weight_)[..., None, None] + (weights @ norm.bias_)[..., None, None]
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))
    assert norm.num_batches_tracked == 1
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(norm), AttentiveNorm)


def test_heads_at_each_resolution_equal_those_of_the_joined_map():
    torch.manual_seed(0)
    network = LogoCapNetwork("small", embedding=8, offset_channels=16, message_channels=(8, 8, 8)).eval()
    images = torch.randn(1, 3, 70, 101)  # no multiple of anything
    with torch.no_grad():
        joined, maps = joined_maps(network, images), network(images)
        expected = network.final_layer_reg(network.transition_reg(joined))
    assert maps.heatmaps.shape == (1, 18, 18, 26)
    torch.testing.assert_close(maps.offsets, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.embedding, network.transition_embedding(joined), atol=1e-4, rtol=1e-4)


def reference_nms(poses, scores, distance, least_joints):
    """The rule as it is told, pose by pose."""
    near = neighbours(poses[None], distance, least_joints)[0].numpy()
    ignored, kept = set(), set()
    for row in range(len(poses)):
        group = np.flatnonzero(near[row])
        if row in ignored or not len(group):
            continue
        best = group[scores[group].argmax()]
        if best not in ignored:
            kept.add(int(best))
            ignored.update(group.tolist())
    return sorted(kept)


@pytest.mark.parametrize("seed", range(8))
def test_suppression_is_the_sequential_rule(seed):
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.5, 4.0, 15.0])
    base = rng.uniform(0, 100, (4, 1, 17, 2))
    poses = torch.tensor((base + rng.normal(0, spread, (4, 5, 17, 2))).reshape(20, 17, 2)[rng.permutation(20)])
    scores = torch.tensor(rng.random(20))
    kept = pose_nms(poses[None].float(), scores[None], None, 0.1, 8)[0]
    assert kept.nonzero()[:, 0].tolist() == reference_nms(poses.float(), scores.numpy(), 0.1, 8)


def test_suppression_of_many_pictures_is_that_of_each():
    torch.manual_seed(0)
    poses = torch.rand(3, 6, 17, 2) * 20 + torch.randint(0, 2, (3, 6, 1, 1)) * 50
    scores, valid = torch.rand(3, 6), torch.rand(3, 6) > 0.3
    together = pose_nms(poses, scores, valid, 0.5)
    for row in range(3):
        alone = pose_nms(poses[row][valid[row]][None], scores[row][valid[row]][None], None, 0.5)[0]
        assert together[row][valid[row]].tolist() == alone.tolist()
        assert not together[row][~valid[row]].any()
    assert not pose_nms(torch.ones(1, 2, 17, 2), torch.rand(1, 2)).any()  # poses without extent
    assert pose_nms(torch.zeros(2, 0, 17, 2), torch.zeros(2, 0)).shape == (2, 0)


def test_centres_outside_a_picture_do_not_count():
    heatmaps = torch.zeros(1, 18, 8, 8)
    heatmaps[0, -1, 2, 2], heatmaps[0, -1, 2, 3], heatmaps[0, -1, 6, 6] = 0.5, 0.2, 0.9
    whole = find_centres(heatmaps, torch.tensor([[32, 32]]), 3)
    cut = find_centres(heatmaps, torch.tensor([[20, 20]]), 3)
    assert whole.score[0, 0] > 0.6
    assert cut.xy[0, 0].tolist() == [10, 9] or cut.xy[0, 0].tolist() == [10, 10]
    assert cut.score.max() < 0.5


def test_offsets_give_joints_back_in_both_mappings():
    joints = torch.rand(1, 1, 17, 2) * 60 + 2
    for mapping in ("legacy", "half_pixel"):
        cells = output_points(joints, torch.zeros(1, dtype=torch.bool), mapping)
        valid = torch.ones(1, 1, 17, dtype=torch.bool)
        centre = torch.full((1, 1, 2), 8.0)
        offsets, weight = offset_targets(cells, valid, centre, torch.full((1, 1), 400.0), (17, 17))
        assert weight.max() == pytest.approx(0.05)
        # Both are exact where the centre is a cell's first pixel (legacy) or anywhere in the cell (half_pixel).
        for pixel in ([32.0, 32.0],) if mapping == "legacy" else ([32.0, 32.0], [35.0, 33.0]):
            found = initial_poses(torch.tensor([[pixel]]), offsets, mapping)
            torch.testing.assert_close(found, joints, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("overlap", ["official", "smaller"])
def test_smaller_person_owns_shared_cells(overlap):
    joints = torch.zeros(1, 2, 1, 2) + torch.tensor([2.0, 9.0])[:, None, None]
    centre = torch.tensor([[[6.2, 6.0], [8.0, 6.9]]])
    area = torch.tensor([[900.0, 400.0]])
    offsets, weight = offset_targets(joints, torch.ones(1, 2, 1).bool(), centre, area, (16, 16), overlap)
    assert weight[0, 0, 6, 7] == pytest.approx(1 / 20)  # shared
    assert offsets[0, 0, 6, 7] == 7 - 9
    assert weight[0, 0, 6, 2] == pytest.approx(1 / 30)  # the larger one's alone
    assert weight[0, 0, 6, 12] == 0


def test_overlaps_differ_for_different_labels():
    """The first person's unlabelled joint lets the larger second one overwrite what follows it (official)."""
    joints, centre = torch.zeros(1, 2, 3, 2) + torch.tensor([2.0, 9.0])[:, None, None], torch.full((1, 2, 2), 6.0)
    valid = torch.tensor([[[1, 0, 1], [1, 1, 1]]]).bool()
    area = torch.tensor([[100.0, 400.0]])
    fields = {
        o: offset_targets(joints, valid, centre, area, (16, 16), o)[0][0, ::2, 6, 6] for o in ("official", "smaller")
    }
    assert fields["smaller"].tolist() == [4, -3, 4]
    assert fields["official"].tolist() == [4, -3, -3]


def test_legacy_targets_of_mirrored_pictures_lie_further_left():
    points = torch.tensor([[[10.0, 20.0]]])
    plain = output_points(points, torch.tensor([False]), "legacy")
    mirrored = output_points(points, torch.tensor([True]), "legacy")
    torch.testing.assert_close(plain - mirrored, torch.tensor([[[0.75, 0.0]]]))


def test_flipped_maps_merge_to_symmetric_ones():
    torch.manual_seed(0)
    index = torch.tensor(COCO17.flip_index)
    one, other = (DenseMaps(torch.randn(1, 18, 4, 6), torch.randn(1, 34, 4, 6), torch.randn(1, 2, 4, 6)) for _ in "ab")
    a, b = merge_flipped(one, other, index), merge_flipped(other, one, index)
    swapped = b.heatmaps.flip(-1)[:, [*index.tolist(), 17]]
    torch.testing.assert_close(a.heatmaps, swapped)
    x = b.offsets.flip(-1).view(1, 17, 2, 4, 6)[:, index] * torch.tensor([-1.0, 1.0])[:, None, None]
    torch.testing.assert_close(a.offsets, x.flatten(1, 2))
    assert a.embedding is one.embedding


def test_refinement_moves_a_joint_to_its_peak():
    expansion = Expansion(COCO17.sigmas)
    goal, start = torch.tensor([100.0, 80.0]), torch.tensor([92.0, 86.0])
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    cell = goal / 4 - 0.375
    heatmaps = torch.exp(-((x - cell[0]) ** 2 + (y - cell[1]) ** 2) / 8).expand(1, 18, -1, -1)
    attraction = torch.zeros(1, 17, 11, 11)
    attraction[:, :, 5, 5] = 1
    poses, size = start.expand(1, 17, 2), torch.tensor([[192, 256]])
    image = torch.zeros(1, dtype=torch.long)
    refined = expansion.refine(attraction, heatmaps, image, poses, size)
    # The prior draws the peak a little back to the start.
    assert ((refined.xy - goal).norm(dim=-1) < 3.5).all()
    moved = torch.zeros(1, 17, 11, 11)
    moved[:, :, 5, 8] = 1  # three px to the right
    shifted = expansion.refine(moved, heatmaps, image, poses, size)
    torch.testing.assert_close(shifted.xy - refined.xy, torch.tensor([3.0, 0.0]).expand(1, 17, 2), atol=1e-3, rtol=0)
    near = expansion.nearest_attraction(moved, poses)
    torch.testing.assert_close(near.xy[0, 11] - start, torch.tensor([3 * 4.28, 0.0]), atol=1e-4, rtol=0)
    assert (expansion.unrefined(heatmaps, image, poses, size).xy == poses).all()


def test_two_largest():
    values, index = two_largest(torch.tensor([[1.0, 5.0, 3.0], [2.0, 2.0, -1.0]]))
    assert values.tolist() == [[5, 3], [2, 2]]
    assert index[0].tolist() == [1, 2]
    assert sorted(index[1].tolist()) == [0, 1]


def test_assignment_is_the_loop_over_mesh_points():
    torch.manual_seed(0)
    expansion, sigmas = Expansion(COCO17.sigmas), torch.tensor(COCO17.sigmas)
    truth = torch.rand(1, 3, 17, 2) * 60
    persons = Persons(truth, torch.rand(1, 3, 17) > 0.4, torch.tensor([[900.0, 400.0, 2500.0]]))
    poses = truth[:, [2, 0]] + torch.randn(1, 2, 17, 2) * 2
    found = losses.assign(expansion.mesh(poses), persons, sigmas)
    assert found.person.tolist() == [[2, 0]]
    steps = torch.arange(-5.0, 6.0)
    best = 0.0
    for dy in steps:
        for dx in steps:
            points = poses[0, 0] + torch.stack([dx * expansion.scales, dy * expansion.scales], -1)
            square = ((points - truth[0, 2]) ** 2).sum(-1)
            oks = torch.exp(-square / (2 * (2 * sigmas) ** 2 * 2500.0)) * persons.visible[0, 2]
            best = max(best, (oks.sum() / persons.visible[0, 2].sum()).item())
    assert found.oks[0, 0].item() == pytest.approx(best, abs=1e-5)
    kept, counts = losses.select(found._replace(oks=torch.tensor([[0.2, 0.1]])), 0.5)
    assert kept.tolist() == [[True, False]]
    assert not counts.any()


def test_assignment_is_as_exact_under_autocast():
    """In bfloat16 the OKS would be off by some thousandths, and other poses would be trained on."""
    torch.manual_seed(0)
    expansion, sigmas = Expansion(COCO17.sigmas), torch.tensor(COCO17.sigmas)
    truth = torch.rand(1, 3, 17, 2) * 60
    persons = Persons(truth, torch.rand(1, 3, 17) > 0.4, torch.full((1, 3), 900.0))
    mesh = expansion.mesh(truth.repeat(1, 10, 1, 1) + torch.randn(1, 30, 17, 2) * 4)
    plain = losses.assign(mesh, persons, sigmas)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = losses.assign(mesh, persons, sigmas)
    assert all(torch.equal(one, other) for one, other in zip(plain, rounded, strict=True))


def test_people_are_padded_and_centred():
    persons = stack_persons([torch.ones(2, 17, 2), torch.zeros(0, 17, 2)], [torch.ones(2, 17), torch.zeros(0, 17)],
                            [torch.ones(2), torch.zeros(0)])  # fmt: skip
    assert persons.keypoints.shape == (2, 2, 17, 2)
    assert not persons.visible[1].any()
    empty = stack_persons([torch.zeros(0, 17, 2)], [torch.zeros(0, 17)], [torch.zeros(0)])
    assert empty.keypoints.shape == (1, 1, 17, 2)
    visible = torch.zeros(1, 1, 17).bool()
    visible[..., :2] = True
    points = torch.zeros(1, 1, 17, 2)
    points[..., 1, :] = 4.0
    centre, present = centres_of(points, visible)
    assert centre.tolist() == [[[2.0, 2.0]]]
    assert present.all()
    assert not centres_of(points, torch.zeros_like(visible))[1].any()


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="adaptation level"):
        DecodeOptions(level="half")
    with pytest.raises(UserError, match="top_k"):
        DecodeOptions(top_k=0)
    with pytest.raises(UserError, match="message_channels"):
        MessagePassing(17, 8, (8, 8))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"offset_factor": -1}, "offset_factor must be a number of at least 0, not -1"),
        ({"nms_joints": -1}, r"nms_joints must be a whole number of at least 0 \(or null\), not -1"),
        ({"embedding": 0}, "embedding must be a whole number of at least 1, not 0"),
        ({"least_area": -5}, "least_area must be a number of at least 0, not -5"),
        ({"centre_threshold": "a"}, r"centre_threshold must be a number in \[0, 1\], not 'a'"),
        ({"heatmap_channels": 0}, "heatmap_channels must be a whole number"),
        ({"offset_channels": 2.5}, "offset_channels must be a whole number"),
        ({"message_channels": [8, 8, 0]}, "message_channels must be a whole number"),
        ({"attention_kernels": 0}, "attention_kernels must be a whole number"),
        ({"radius": 0}, "radius must be a whole number of at least 1, not 0"),
        ({"window": 9}, "window must be even, not 9"),
        ({"prior_sigma": 0}, "prior_sigma must be a number above 0, not 0"),
        ({"max_people": 0}, "max_people must be a whole number"),
        ({"oks_threshold": 1.5}, r"oks_threshold must be a number in \(0, 1\], not 1\.5"),
        ({"test_scales": [1, "a"]}, "test_scales must be a number above 0, not 'a'"),
    ],
)
def test_values_out_of_range_are_refused(options, text):
    with pytest.raises(UserError, match=f"^LogoCap: {text}") as caught:
        LogoCap(**{"backbone": "small"} | options)
    assert "\n" not in str(caught.value)


def test_heatmaps_are_float32_under_autocast():
    """In bfloat16 neighbouring cells tie: each person would take several of the slots, and others get none."""
    torch.manual_seed(0)
    network = LogoCapNetwork("small", embedding=8, offset_channels=16, message_channels=(8, 8, 8)).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        maps = network(images)
    assert maps.heatmaps.dtype == torch.float32
    assert maps.offsets.dtype == torch.bfloat16
    centre = maps.heatmaps[0, -1].flatten()
    assert len(centre.unique()) > 0.99 * len(centre)


@pytest.mark.parametrize("inference", [False, True])
def test_a_network_made_in_inference_mode_predicts(inference):
    with torch.inference_mode(inference):
        layers = MessagePassing(4, 6, (8, 8, 4)).eval()
    fast = FastMessagePassing(layers)
    with torch.inference_mode():
        assert fast(torch.zeros(3, 24, 11, 11)).shape == (3, 4, 11, 11)
