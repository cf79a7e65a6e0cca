"""MAED against numbers that its published code gave on synthetic weights and a synthetic body."""

import json

import numpy as np
import pytest
import torch

from posekit.body import load_body
from posekit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, project_weak_perspective
from posekit.nn.hybrid import StdConv2d, same_max_pool
from posekit_maed import MAEDNetwork, convert_official
from posekit_maed.attention import MODES, Block, SpaceTimeAttention
from posekit_maed.evaluation import EvaluatedJoints
from posekit_maed.interpolation import interpolate
from posekit_maed.losses import BodyLoss, Predicted, Targets
from tests.body.synthetic_smpl import synthetic_smpl, write_synthetic_smpl
from tests.maed import golden
from tests.parity.maed_summary import summarize
from tests.shared import requires_shared

pytestmark = requires_shared

LEFT_LEG_FIRST = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]  # the recorded regressor's order
TAP, FEATURE, ROTATION = 1e-4, 1e-4, 2e-3  # suggested by the fixtures' README


def close(found, expected, atol):
    torch.testing.assert_close(found.float(), expected.float(), atol=atol, rtol=0)


def relative(found, expected, bound=TAP):
    assert (found - expected).norm() <= bound * expected.norm()


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return load_body(write_synthetic_smpl(tmp_path_factory.mktemp("smpl")))


def posed(body, parameters):
    output = body(parameters.rotations.flatten(0, 1), parameters.shape.flatten(0, 1))
    return output, body.joints(output, "SPIN49").unflatten(0, parameters.shape.shape[:2])


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", range(4))
def test_standardised_convolution(i):
    g = golden.load("primitives.npz")
    c_in, c_out, kernel, stride, height, width = g[f"conv{i}_cfg"].tolist()
    conv = StdConv2d(c_in, c_out, kernel, stride)
    with torch.no_grad():
        conv.weight.copy_(golden.tensor(f"w{i}", (c_out, c_in, kernel, kernel), "prims"))
        found = conv(golden.tensor(f"x{i}", (2, c_in, height, width), "prims"))
    close(found, g[f"conv{i}_out"], 5e-5)


@pytest.mark.parametrize("i", range(2))
def test_same_pool(i):
    g = golden.load("primitives.npz")
    height, width = g[f"pool{i}_in_hw"].tolist()
    close(same_max_pool(golden.tensor(f"px{i}", (1, 4, height, width), "prims")), g[f"pool{i}_out"], 0)


@pytest.mark.parametrize("mode", MODES)
def test_attention_and_block(mode):
    g = golden.load("attention.npz")
    clips, frames, tokens, width, heads = g["cfg_B_T_N_C_H"].tolist()
    x = golden.tensor("x", (clips * frames, tokens, width), "attn")
    attention = golden.fill(SpaceTimeAttention(width, heads, mode), f"attn/{mode}")
    block = golden.fill(Block(width, heads, mode), f"attn/{mode}/block")
    with torch.no_grad():
        close(attention(x, frames), g[f"{mode}_attn"], 1e-5)
        close(block(x, frames), g[f"{mode}_block"], 1e-5)
        if mode == "parallel":
            spatial, temporal = attention.attend(attention.project(x), frames)
            share = attention.temporal_share(spatial, temporal)
            close(spatial, g["parallel_x_s"], 1e-5)
            close(temporal, g["parallel_x_t"], 1e-5)
            close(torch.stack([1 - share, share], -1), g["parallel_alpha_st"], 1e-5)


def test_axis_angle_and_projection():
    g = golden.load("geometry.npz")
    close(axis_angle_to_matrix(g["aa"]), g["batch_rodrigues"], 1e-5)
    again = axis_angle_to_matrix(matrix_to_axis_angle(g["batch_rodrigues"]))
    close(again, axis_angle_to_matrix(g["rotmat_to_aa"]), 1e-3)
    close(project_weak_perspective(g["j3d"], g["cam"]), g["proj"], 1e-4)


# -- networks ---------------------------------------------------------------------------------------------------------

VARIANTS = ["vanilla_ktd", "parallel_ktd", "parallel_iterative", "series_ktd", "coupling_ktd", "temporal_ktd"]


def check_parameters(parameters, g):
    flat = {"pose6d": parameters.pose6d, "shape": parameters.shape, "cam": parameters.camera}
    for name, value in flat.items():
        close(value.reshape(g[name].shape), g[name], FEATURE)
    close(parameters.features.flatten(0, 1), g["tap_feat"], FEATURE)
    close(parameters.rotations, g["rotmat"], ROTATION)


def check_body(body, parameters, g, vertices):
    output, joints = posed(body, parameters)
    close(output.vertices[:, ::53].unflatten(0, g["kp_3d"].shape[:2]), vertices, ROTATION)
    close(joints, g["kp_3d"], ROTATION)
    close(project_weak_perspective(joints, parameters.camera), g["kp_2d"], ROTATION)


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_networks(variant, body):
    mode, decoder = variant.split("_")
    network = golden.small_network(mode, decoder, body.mean_parameters)
    recorded = golden.config()["state_dict"][variant]
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == recorded
    g = golden.load(f"small_{variant}.npz")
    with torch.no_grad():
        parameters = network(golden.small_images())
    check_parameters(parameters, g)
    check_body(body, parameters, g, g["verts"])
    theta = torch.cat([parameters.camera, g["theta"][..., 3:75], parameters.shape], -1)
    close(theta, g["theta"], FEATURE)
    close(axis_angle_to_matrix(g["theta"][..., 3:75].unflatten(-1, (24, 3))), parameters.rotations, ROTATION)


def test_taps_of_the_small_network(body):
    network = golden.small_network("parallel")
    g = golden.load("small_parallel_ktd.npz")
    taps = {}

    def tap(name):
        return lambda module, args, output: taps.__setitem__(name, output)

    backbone = network.encoder.patch_embed.backbone
    backbone.stem.register_forward_hook(tap("stem"))
    for i, stage in enumerate(backbone.stages):
        stage.register_forward_hook(tap(f"stage{i}"))
    network.encoder.patch_embed.register_forward_hook(tap("patch_tokens"))
    for i, block in enumerate(network.encoder.blocks):
        block.register_forward_hook(tap(f"block{i}"))
    with torch.no_grad():
        parameters = network(golden.small_images())
        hidden = network.decoder.hidden_features(parameters.features.flatten(0, 1))
        output, _ = posed(body, parameters)
    assert len(taps) == 7
    for name, value in taps.items():
        relative(value, g[f"tap_{name}"])
    close(hidden, g["ktd_hidden"], FEATURE)
    close(body.joints(output, "H36M17")[:, LEFT_LEG_FIRST].view(2, 4, 17, 3), g["kp_3d_h36m"], ROTATION)


@pytest.mark.parametrize("frames", [1, 3])
def test_short_clips(frames, body):
    g = golden.load("small_parallel_ktd_shortclips.npz")
    network = golden.small_network("parallel")
    with torch.no_grad():
        parameters = network(golden.small_images(frames))
        _, joints = posed(body, parameters)
    close(parameters.rotations, g[f"T{frames}_rotmat"], ROTATION)
    close(joints, g[f"T{frames}_kp_3d"], ROTATION)
    # The same frames in a longer clip whose end is padding: exactly what the short clip gives.
    valid = torch.tensor([[True] * frames + [False] * (4 - frames)] * 2)
    with torch.no_grad():
        padded = network(golden.small_images(), valid)
    close(padded.rotations[:, :frames], parameters.rotations, 1e-4)


FULL = [
    pytest.param("full_parallel_b1t4", marks=pytest.mark.slow),
    pytest.param("full_parallel_b1t16", marks=pytest.mark.slow),
    pytest.param("full_vanilla_b2t1", marks=pytest.mark.slow),
    pytest.param("full_cnn_b1t2", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", FULL)
def test_full_networks(name, body):
    g = golden.load(f"{name}.npz")
    with np.load(golden.FOLDER / f"{name}.npz") as archive:
        cfg = json.loads(str(archive["cfg"]))
    network = MAEDNetwork(cfg["encoder"], "ktd", st_mode=cfg["st_mode"], num_blocks=cfg["num_blocks"])
    golden.fill(network, cfg["salt"]).eval()
    images = golden.tensor("images", (cfg["B"], cfg["T"], 3, 224, 224), cfg["salt"])
    close(images.flatten()[:8], g["images_first8"], 0)
    blocks = []
    if name == "full_parallel_b1t4":
        for block in network.encoder.blocks:
            block.register_forward_hook(lambda module, args, output: blocks.append(output))
    with torch.no_grad():
        parameters = network(images)
    check_parameters(parameters, g)
    check_body(body, parameters, g, g["verts_every_53"])
    for i, block in enumerate(blocks):
        relative(block[:, ::28, ::16], g[f"tap_block{i}"])


def test_official_names():
    recorded = json.loads((golden.FOLDER / "state_dict.json").read_text())
    with torch.device("meta"):
        networks = {
            "state_dict.json": MAEDNetwork(),
            "state_dict_cnn.json": MAEDNetwork("cnn"),
        }
    assert recorded["n_entries"] == len(recorded["state_dict"]) == 314
    for file, network in networks.items():
        content = json.loads((golden.FOLDER / file).read_text())
        entries = {n: tuple(shape) for n, (shape, _) in content.get("state_dict", content).items()}
        converted = convert_official({n: torch.empty(shape, device="meta") for n, shape in entries.items()})
        own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        assert {name: tuple(value.shape) for name, value in converted.items()} == own
        assert len(entries) - len(converted) == 9


# -- losses -----------------------------------------------------------------------------------------------------------

TERMS = {
    "points": "kp_2d",
    "joints3d": "kp_3d",
    "shape": "shape",
    "pose": "pose",
    "norm": "norm",
    "acceleration": "accl",
}


def targets3d(points, joints, theta, weight):
    ones = torch.ones(theta.shape[:2])
    pose = theta[..., 3:75].unflatten(-1, (24, 3))
    return Targets(
        points[..., :2], points[..., 2], joints[..., :3], joints[..., 3], pose, theta[..., 75:], weight, ones
    )


def targets2d(points):
    lead = points.shape[:2]
    none = [torch.zeros(*lead, *rest) for rest in ((49, 3), (49,), (24, 3), (10,), ())]
    return Targets(points[..., :2], points[..., 2], *none, torch.ones(lead))


def join(first, second):
    return type(first)(*(torch.cat(pair) for pair in zip(first, second, strict=True)))


@pytest.mark.parametrize("case", ["vid_with2d", "vid_only3d", "vid_nosmpl", "img", "img_nosmpl"])
def test_losses(case):
    g = golden.load("losses.npz")
    theta = g["in_pred_theta"]
    rotations = axis_angle_to_matrix(theta[..., 3:75].unflatten(-1, (24, 3)))
    predicted = Predicted(g["in_pred_kp_2d"], g["in_pred_kp_3d"], rotations, theta[..., 75:])
    weight = g["in_g3_w_smpl"] * (0 if "nosmpl" in case else 1)
    targets = targets3d(g["in_g3_kp_2d"], g["in_g3_kp_3d"], g["in_g3_theta"], weight)
    loss = BodyLoss({"acceleration": 0.5}, official_masking=True)
    if case == "vid_with2d":
        targets = join(targets2d(g["in_g2_kp_2d"]), targets)
    else:
        predicted = Predicted(*(value[1:] for value in predicted))
    if case.startswith("img"):
        weight = g["in_img_w_smpl"][:, None] * (0 if "nosmpl" in case else 1)
        targets = Targets(*(value[:, :1] for value in targets))._replace(body_weight=weight)
        predicted = Predicted(*(value[:, :1] for value in predicted))
        loss = BodyLoss(official_masking=True)
    total, terms = loss(predicted, targets)
    torch.testing.assert_close(total, g[f"{case}_total"], rtol=1e-5, atol=1e-5)
    for name, value in terms.items():
        torch.testing.assert_close(value, g[f"{case}_loss_{TERMS[name]}"].float(), rtol=1e-5, atol=1e-6)
    if case == "img_nosmpl":  # by default unlabelled people pull at nothing
        _, masked = BodyLoss()(predicted, targets)
        assert masked["pose"] == masked["shape"] == 0


def test_gradients_of_the_hybrid_step(body):
    g = golden.load("small_parallel_ktd.npz")
    names = np.load(golden.FOLDER / "small_parallel_ktd.npz")["grad_names"]
    network = golden.small_network("parallel", start=body.mean_parameters)
    loss = BodyLoss(official_masking=True)

    def run(images, targets):
        parameters = network(images)
        _, joints = posed(body, parameters)
        points = project_weak_perspective(joints, parameters.camera)
        return loss(Predicted(points, joints, parameters.rotations, parameters.shape), targets)

    part = {name: g["target_t3_" + name] for name in ("kp_2d", "kp_3d", "theta", "w_smpl")}
    three = targets3d(part["kp_2d"], part["kp_3d"], part["theta"], part["w_smpl"])
    video = join(targets2d(g["target_t2_kp_2d"]), three)
    part = {name: g["target_ti_" + name][:, None] for name in ("kp_2d", "kp_3d", "theta", "w_smpl")}
    image = targets3d(part["kp_2d"], part["kp_3d"], part["theta"], part["w_smpl"])
    size = golden.config()["config"]["img"]
    video_total, video_terms = run(golden.small_images(), video)
    image_total, image_terms = run(golden.tensor("img_batch", (3, 1, 3, size, size), "small"), image)
    for prefix, terms in (("vid", video_terms), ("img", image_terms)):
        for name, value in terms.items():
            torch.testing.assert_close(value, g[f"{prefix}_loss_{TERMS[name]}"].float(), rtol=2e-4, atol=1e-4)
    share = float(g["w_vid"])
    merged = share * video_total + (1 - share) * image_total
    torch.testing.assert_close(merged, g["merged_total"].float(), rtol=1e-4, atol=1e-3)
    merged.backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert set(names.tolist()) == set(gradients)
    for name, norm in zip(names.tolist(), g["grad_norms"].tolist(), strict=True):
        assert gradients[name].norm().item() == pytest.approx(norm, rel=5e-3, abs=1e-4)
    for name, expected in g.items():
        if name.startswith("grad/"):
            relative(gradients[name.removeprefix("grad/")], expected, 1e-3)


# -- evaluation -------------------------------------------------------------------------------------------------------


def test_evaluator(body):
    g = golden.load("metrics.npz")
    joints = g["eval_target_j3d_with_vis"]
    count = len(joints)
    theta = torch.from_numpy(0.4 * golden.z("thN", (count, 85), "metrics")).float()
    template = torch.from_numpy(synthetic_smpl()[0]["v_template"]).float()
    vertices = torch.from_numpy(0.02 * golden.z("pvN", (count, 6890, 3), "metrics")).float() + template
    true = body(axis_angle_to_matrix(theta[:, 3:75].view(-1, 24, 3)), theta[:, 75:]).vertices
    found = summarize(g["pred"], joints[..., :3], joints[..., 3], vertices, true, official=True)
    names = {"MPJPE": "mpjpe", "PA-MPJPE": "pa-mpjpe", "PVE": "pve", "acceleration": "accel"}
    for name, recorded in (names | {"acceleration_error": "accel_err"}).items():
        assert found[name] == pytest.approx(float(g[f"eval_{recorded}"]), rel=1e-5)
    left_out = summarize(g["pred"], joints[..., :3], joints[..., 3])
    assert left_out["MPJPE"] != pytest.approx(found["MPJPE"], rel=1e-3)


def test_evaluated_joints(body):
    g = golden.load("smpl.npz")
    output = body(g["rotmat"], g["betas"])
    close(EvaluatedJoints(body, "h36m14")(body, output), g["h36m14"], 1e-5)
    rows = EvaluatedJoints(body, "h36m17").predicted
    # The recorded table lists the same joints; the protocol's own order puts the pelvis before the trunk.
    assert sorted(rows) == sorted(g["H36M_TO_J17"].tolist())
    assert EvaluatedJoints(body, "spin14").target == g["J49_TO_J14"].tolist()
    assert EvaluatedJoints(body, "mpii3d17").target == g["J49_TO_MPII3D"].tolist()


def test_interpolation():
    g = golden.load("metrics.npz")
    for i in range(2):
        clips, length, kept = g[f"interp{i}_cfg_n_orig_interp"].tolist()
        values = torch.from_numpy(golden.z(f"interp{i}", (clips * kept, 3), "metrics")).view(clips, kept, 3)
        found = interpolate(values, length // kept, length, official=True).flatten(0, 1)
        torch.testing.assert_close(found, g[f"interp{i}_out"], atol=1e-12, rtol=0)
