"""LOGO-CAP against recorded numbers of the official code: network, decoding, refinement, losses, targets."""

import json
import zlib

import numpy as np
import pytest
import torch

from posekit.data.coco_file import read_coco
from posekit.data.scenes import ignore_mask
from posekit.data.transforms import warp
from posekit.nn.weights import load_weights
from posekit.skeletons import COCO17
from posekit_logocap import LogoCap, losses
from posekit_logocap.decode import find_centres, initial_poses, merge_flipped
from posekit_logocap.inference import DecodeOptions, attraction_maps, decode_people
from posekit_logocap.network import DenseMaps, LogoCapNetwork
from posekit_logocap.nms import pose_nms
from posekit_logocap.pictures import official_affine, official_test_view
from posekit_logocap.refine import Expansion
from posekit_logocap.targets import DenseTargets, dense_targets, stack_persons
from posekit_logocap.training import TrainOptions, train_losses
from posekit_logocap.upper_bound import assign_person, best_mesh_pose
from posekit_logocap.weights import convert_official
from tests.logocap.made import joined_maps
from tests.shared import SHARED, requires_shared

GOLDEN = SHARED / "golden" / "logocap"
pytestmark = requires_shared
EXPANSION = Expansion(COCO17.sigmas)
FLIP = torch.tensor(COCO17.flip_index)
SCALES = {"final_layer_cls.weight": 2, "final_layer_reg.weight": 16, "joints_mlp.9.weight": 4}
SHIFTS = {"final_layer_cls.bias": 2, "joints_mlp.9.bias": 0.5}


def entries(name):
    return json.loads((GOLDEN / "state_dict.json").read_text())[name]["entries"]


def drawn(name, shape):
    """The fixtures' rule: values from the name and the shape alone."""
    rng, last = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))), name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        values = 0.5 + rng.random(shape)
    else:
        values = rng.standard_normal(shape)
        if last == "weight":
            values *= SCALES.get(name, 1) * np.sqrt(0.25 / np.prod(shape[1:]))
        elif last in ("running_mean", "bias"):
            values = SHIFTS.get(name, 0) + 0.1 * values
        else:  # weight_ and bias_ of the attentive norm
            values = ((last == "weight_") + 0.1 * values) * 2 / shape[0]
    return torch.tensor(values.astype(np.float32))


@pytest.fixture(scope="module")
def state():
    return {name: drawn(name, shape) for name, shape, _ in entries("w32")}


@pytest.fixture(scope="module")
def network(state):
    network = LogoCapNetwork("hrnet_w32").eval()
    network.load_state_dict(state)
    return network


def load(name):
    return np.load(GOLDEN / f"{name}.npz")


def off(values, expected):
    return float(np.abs(np.asarray(values) - expected).max()) if len(expected) else 0.0


@pytest.mark.parametrize(("name", "count"), [("w32", 35_991_429), ("w48", 72_107_333)])
def test_names_shapes_and_number_of_parameters(name, count):
    with torch.device("meta"):
        network = LogoCapNetwork(f"hrnet_{name}")
    own = [[key, list(value.shape)] for key, value in network.state_dict().items()]
    assert sorted(own) == sorted([key, shape] for key, shape, _ in entries(name))
    assert sum(p.numel() for p in network.parameters()) == count


def test_official_file_loads_by_init_from(state, tmp_path):
    module = LogoCap()
    report = load_weights(module, state, convert=module.convert_weights)
    assert report.complete
    assert not report.unexpected
    imagenet = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    imagenet["classifier.weight"] = torch.zeros(2, 2)
    report = load_weights(LogoCap(), imagenet, convert=convert_official)
    assert len(report.matched) == sum(name.startswith("backbone.") for name in state)
    assert not report.unexpected


@pytest.mark.parametrize("name", ["A", "B"])
def test_whole_inference(network, name):
    z = load(f"model_{name}")
    flip, image = bool(z["flip"]), torch.tensor(z["input"])
    with torch.no_grad():
        image = torch.cat([image, image.flip(-1)]) if flip else image
        features, raw = joined_maps(network, image), network(image)
    assert off(features[:1, z["backbone_channels"]], z["backbone"]) < 1e-4
    assert off(features.mean((0, 2, 3)), z["backbone_mean"]) < 1e-4
    assert off(raw.heatmaps, z["heat_raw"]) < 1e-4
    assert off(raw.offsets[:, : z["off_raw"].shape[1]], z["off_raw"]) < 1e-4
    channels = z["embedding_channels"] if flip else slice(None)
    assert off(raw.embedding[:1, channels], z["embedding"]) < 1e-4
    maps = DenseMaps(*(x[:1] for x in raw))
    if flip:
        maps = merge_flipped(maps, DenseMaps(*(x[1:] for x in raw)), FLIP)
    assert off(maps.offsets, z["offsets_merged"]) < 1e-4
    check_decoding(network, maps, z, torch.tensor(z["input"].shape[2:])[None])
    check_levels(network, maps, z, load(f"model_{name}_levels"))


def check_decoding(network, maps, z, size):
    centres = find_centres(maps.heatmaps, size, 30)
    found = torch.cat([centres.xy, centres.score[..., None]], -1)[0].numpy()
    order = [np.lexsort(rows[:, :2].T) for rows in (found, z["centers"])]  # equal scores come in any order
    assert off(found[order[0]], z["centers"][order[1]]) < 1e-4
    given = torch.tensor(z["centers"])
    poses = initial_poses(given[None, :, :2], maps.offsets, "legacy")[0]
    assert off(poses, z["center_poses"]) < 1e-3
    poses, image, sizes = torch.tensor(z["center_poses"]), torch.zeros(30, dtype=torch.long), size.expand(30, 2)
    mesh = EXPANSION.mesh(poses[0])
    assert off(mesh[:, 0].T[None].expand(11, -1, -1), z["expansion_person0"][..., 0]) < 1e-4
    assert off(mesh[:, 1].T[:, None].expand(-1, 11, -1), z["expansion_person0"][..., 1]) < 1e-4
    with torch.no_grad():
        local = EXPANSION.local_maps(maps.embedding, image, poses, sizes)
        attraction = network.joints_mlp(local)
        window = EXPANSION.global_maps(maps.heatmaps, image, poses, sizes)
        refined = EXPANSION.adapt(attraction.clamp(0, 1), window)
    assert off(local[0, z["kem_channels"]], z["kem_person0"]) < 1e-4
    assert off(local.mean((2, 3)), z["kem_mean"]) < 1e-4
    assert off(attraction, z["kam_raw"]) < 1e-4
    assert off(window[:1, z["sel_joints"]], z["global_kem_sel"]) < 1e-4
    assert off(refined[:1, z["sel_joints"]], z["refined_hm_sel"]) < 1e-4
    assert off(refined.amax((2, 3)), z["refined_hm_max"]) < 1e-4
    picked = EXPANSION.pick(refined, poses)
    best = z["top2_values"]
    clear = ((best[..., :2] - best[..., 1:]) > 1e-5 * np.abs(best[..., :2])).all(-1)
    assert clear.mean() > 0.95
    assert off(picked.xy.numpy()[clear], z["poses"][..., :2][clear]) < 1e-3
    score = picked.value * given[:, 2:]
    assert off(score, z["poses"][..., 2]) < 1e-4
    assert off(score.mean(1), z["scores"]) < 1e-4


def check_levels(network, maps, z, levels):
    poses, centre = torch.tensor(z["center_poses"]), torch.tensor(z["centers"][:, 2:])
    size = torch.tensor(z["input"].shape[2:])[None].expand(30, 2)
    image = torch.zeros(30, dtype=torch.long)
    with torch.no_grad():
        attraction = attraction_maps(maps.embedding, image, poses, size, EXPANSION, network.joints_mlp).clamp(0, 1)
    for name, result in {
        "none": EXPANSION.unrefined(maps.heatmaps, image, poses, size),
        "partial": EXPANSION.nearest_attraction(attraction, poses),
    }.items():
        assert off(result.xy, levels[f"{name}_poses"][..., :2]) < 1e-3
        assert off(result.value * centre, levels[f"{name}_poses"][..., 2]) < 1e-4
        assert off((result.value * centre).mean(1), levels[f"{name}_scores"]) < 1e-4


def test_module_in_the_official_order(state):
    """The entry point as users call it: flip test, faster convolutions, suppression after refinement."""
    z = load("model_B")
    module = LogoCap(early_nms=False, image_size=[128, 192]).eval()
    load_weights(module, state)
    with torch.inference_mode():
        people = module.infer(torch.tensor(z["input"]))
    kept = pose_nms(torch.tensor(z["poses"][None, ..., :2]), torch.tensor(z["scores"])[None])[0].numpy()
    expected, scores = z["poses"][kept], z["scores"][kept]
    rows = [int(np.abs(scores - score).argmin()) for score in people.scores.numpy()]
    assert sorted(rows) == list(range(len(scores)))
    best = z["top2_values"][kept][rows]
    clear = ((best[..., :2] - best[..., 1:]) > 1e-5 * np.abs(best[..., :2])).all(-1)
    assert off(people.keypoints[..., :2].numpy()[clear], expected[rows][..., :2][clear]) < 1e-3
    assert off(people.scores, scores[rows]) < 1e-4


@pytest.mark.parametrize("level", ["full", "none", "partial"])
def test_decoding_of_given_maps(network, level):
    z = load("stage_decode")
    maps = DenseMaps(*(torch.tensor(z[name].astype(np.float32)) for name in ("heatmaps_hr", "offsets", "embedding")))
    maps = DenseMaps(maps.heatmaps[None], maps.offsets[None], maps.embedding)
    options, expansion = DecodeOptions(level=level, early_nms=False), Expansion(COCO17.sigmas)
    expansion.heatmap_stride = 1
    with torch.no_grad():
        people = decode_people(maps, torch.tensor([[128, 160]]), expansion, network.joints_mlp, options)
    expected = z[f"refine_{level}"].copy()
    expected[..., 2] *= z["centers"][: len(expected), 2:]
    assert len(people.scores) == z["mask"].sum()
    assert off(people.keypoints[..., :2], expected[..., :2]) < 1e-3
    assert off(people.keypoints[..., 2], expected[..., 2]) < 1e-4
    if level == "full":
        assert off(people.keypoints, z["final_poses"]) < 1e-3
        assert off(people.scores, z["final_scores"]) < 1e-4


def persons_of(z):
    """The fixtures' ground truth in px of the network's input, as a SceneBatch has it."""
    keypoints, visible, area = [], [], []
    for b in range(len(z["input"])):
        joints, matrix = z[f"kpts_{b}"].astype(np.float64), z[f"transform_{b}"].astype(np.float64)
        points = joints[..., :2] @ matrix[:2, :2].T + matrix[:2, 2]
        if z[f"hflip_{b}"]:
            points[..., 0] = z["input"].shape[-1] - 1 - points[..., 0]
        keypoints.append(torch.tensor(points))
        visible.append(torch.tensor(joints[..., 2]).long())
        area.append(torch.tensor(z[f"areas_{b}"]).double() * abs(np.linalg.det(matrix[:2, :2])))
    return stack_persons(keypoints, visible, area)


def train_step(network, z):
    maps = network(torch.tensor(z["input"]))
    targets = DenseTargets(*(torch.tensor(z[f"{n}_{k}"]) for n in ("heatmaps", "offsets") for k in "tw"))
    sigmas = torch.tensor(COCO17.sigmas)
    everywhere = torch.ones(1)  # the recorded weights hold the mask already
    return train_losses(
        maps, targets, everywhere, persons_of(z), EXPANSION, network.joints_mlp, sigmas, TrainOptions()
    ), maps


def check_losses(trained, record):
    for value, expected in zip(trained.terms, record["losses"].values(), strict=True):
        assert value.item() == pytest.approx(expected, rel=1e-5)
    assert trained.terms.total().item() == pytest.approx(record["total"], rel=1e-5)


def test_losses_and_gradients_with_fixed_norms(network):
    z, record = load("train_frozen"), json.loads((GOLDEN / "train_frozen.json").read_text())
    trained, maps = train_step(network, z)
    assert off(maps.heatmaps.detach(), z["pred_heatmaps"]) < 1e-4
    assert off(maps.offsets.detach(), z["pred_offsets"]) < 1e-4
    check_losses(trained, record)
    assert off(trained.attraction.detach(), z["oks_pred"]) < 1e-4
    assert off(trained.target, z["oks_gt"]) < 1e-4
    assert off(trained.oks, z["oks_person_max"]) < 1e-4
    for name, maps_ in (("out_hm", trained.refined.detach()), ("gt_hm", trained.refined_target)):
        assert off(maps_.mean((2, 3)), z[f"{name}_mean"]) < 1e-4
        assert off(maps_[0, :1], z[f"{name}_first"]) < 1e-4
    network.zero_grad(set_to_none=True)
    trained.terms.total().backward()
    parameters = dict(network.named_parameters())
    assert all(p.grad is not None for p in parameters.values())
    for name, norm in record["grad_l2"].items():
        assert parameters[name].grad.double().norm().item() == pytest.approx(norm, rel=5e-5), name
    network.zero_grad(set_to_none=True)


@pytest.fixture
def two_threads():
    """The record's number of threads: convolutions add up in another order with another one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_losses_and_gradients_with_batch_statistics(state, two_threads):
    """Two pictures of 128 px leave batch norms so few values that rounding grows.

    With one thread the same code is up to 1e-3 off the record in gradient norms, and so is a step in float64.
    """
    z, record = load("train_batch"), json.loads((GOLDEN / "train_batch.json").read_text())
    network = LogoCapNetwork("hrnet_w32").train()
    network.load_state_dict(state)
    trained, maps = train_step(network, z)
    assert off(maps.heatmaps.detach(), z["pred_heatmaps"]) < 1e-4
    assert off(maps.offsets.detach(), z["pred_offsets"]) < 1e-4
    check_losses(trained, record)
    trained.terms.total().backward()
    parameters = dict(network.named_parameters())
    for name, norm in record["grad_l2"].items():
        assert parameters[name].grad.double().norm().item() == pytest.approx(norm, rel=5e-5), name
    buffers = dict(network.named_buffers())
    for name, values in record["running_after"].items():
        assert off(buffers[name][:4], np.array(values)) < 1e-5


@pytest.mark.parametrize("number", range(9))
def test_targets(number):
    z = load("targets")
    joints, area = torch.tensor(z[f"s{number}_joints_out"])[None], torch.tensor(z[f"s{number}_area_out"]).view(1, -1)
    targets = dense_targets(
        joints[:, :, :17, :2], joints[:, :, :17, 2] > 0, joints[:, :, 17, :2], joints[:, :, 17, 2] > 0, area, (32, 32)
    )
    mask = z[f"s{number}_heatmaps_w"] > 0
    assert off(targets.heatmaps[0], z[f"s{number}_heatmaps_t"]) < 1e-6
    assert off(targets.heatmap_weight[0].numpy() * mask, z[f"s{number}_heatmaps_w"]) < 1e-6
    assert off(targets.offsets[0], z[f"s{number}_offsets_t"]) < 1e-5
    assert off(targets.offset_weight[0], z[f"s{number}_offsets_w"]) < 1e-6


def test_masks_of_crowds(tmp_path):
    z, record = load("targets"), json.loads((GOLDEN / "targets.json").read_text())
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(record["coco"]))
    people = read_coco(path, COCO17)
    for number, sample in enumerate(record["samples"]):
        row = people.image_ids.tolist().index(sample["image_id"])
        rows = np.flatnonzero((people.image_rows == row) & ~people.labelled).tolist()
        height, width = z[f"img{sample['image_index']}_bgr"].shape[:2]
        affine = z[f"s{number}_transform"][:2].astype(np.float64) / 4
        mask = warp(ignore_mask(people, rows, (width, height)), affine, (32, 32)) > 127
        mask = mask[:, ::-1] if sample["hflip"] else mask
        assert (mask == (z[f"s{number}_heatmaps_w"][0] > 0)).mean() > 0.985  # single cells at borders may flip


def test_affines():
    for case in json.loads((GOLDEN / "train_affine.json").read_text()):
        for name, side in (("mat_input", 512), ("mat_output", 128)):
            affine = official_affine(case["center"], case["scale"], case["rot"], (side, side))
            np.testing.assert_allclose(affine, np.array(case[name])[:2], rtol=0, atol=1e-6 * 512)
    for case in json.loads((GOLDEN / "preprocess.json").read_text()):
        affine, size = official_test_view((case["w"], case["h"]), case["input_size"])
        assert list(size) == case["size_wh"]
        np.testing.assert_allclose(affine, case["trans"], rtol=0, atol=1e-4)
        back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))
        for before, after in zip(case["poses_in"], case["poses_out"], strict=True):
            points = np.array(before)[..., :2] @ back[:2, :2].T + back[:2, 2]
            np.testing.assert_allclose(points, np.array(after)[..., :2], rtol=0, atol=1e-3)


def test_pose_nms():
    z = load("nms")
    poses, scores = torch.tensor(z["poses"])[None], torch.tensor(z["scores"])[None]
    kept = pose_nms(poses, scores, None, float(z["score_threshold"]), int(z["num_joints"]))
    assert kept[0].nonzero()[:, 0].tolist() == sorted(z["keep"].tolist())


def test_upper_bound():
    z = load("oks_upper_bound")
    truth = torch.tensor(z["gt"])[None]
    persons = stack_persons(truth[..., :2], truth[..., 2], torch.tensor(z["areas"])[None])
    mesh = EXPANSION.mesh(torch.tensor(z["initial"]))[None]
    found = losses.assign(mesh, persons, torch.tensor(COCO17.sigmas))
    assert found.person[0].tolist() == z["assignment"].tolist()
    parts = (found.along_y[..., :, None] * found.along_x[..., None, :])[0].permute(0, 2, 3, 1)
    assert off(parts, z["oks_parts_assigned"]) < 1e-5
    assert off(found.oks[0], z["oks_person"].max((1, 2))[np.arange(5), z["assignment"]]) < 1e-5
    sigmas = torch.tensor(COCO17.sigmas)
    person = assign_person(mesh, persons, sigmas, "largest")
    bound = best_mesh_pose(mesh, persons, person, sigmas, "joint")
    seen = z["gt"][z["assignment"]][..., 2] > 0
    assert seen.sum() > 30
    assert off(bound[0].numpy()[seen], z["upper_bound_pose"][seen]) < 1e-3
    index = parts.flatten(1, 2).argmax(1).numpy()
    assert (index[seen] == z["best_grid_index"][seen]).all()
