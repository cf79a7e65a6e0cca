"""MAED's network: the saving forms against the plain ones, masks, counts, and mistakes."""

import pytest
import torch

from posekit.body import MeanParameters, load_body
from posekit.errors import UserError
from posekit.geometry import rot6d_to_matrix
from posekit.nn import count_operations, count_parameters
from posekit.nn.hybrid import HybridResNet, same_padding, standardize
from posekit.nn.recompute import recompute
from posekit.skeletons import SMPL24
from posekit_maed import MAEDNetwork
from posekit_maed.attention import MODES
from posekit_maed.decoders import IterativeDecoder, KinematicDecoder, ancestors
from posekit_maed.reference import _decode, plain_forward

TINY = {"blocks": [1, 1, 2], "channels": [32, 64, 128], "stem_channels": 16, "groups": 4}


def tiny(mode="parallel", **options):
    torch.manual_seed(0)
    return MAEDNetwork(
        image_size=(64, 64), st_mode=mode, num_blocks=2, num_heads=4, embed_dim=48, hidden_dim=40, max_frames=6,
        dropout=0.0, backbone_options=TINY, **options,
    )  # fmt: skip


def gradients(network, outputs):
    network.zero_grad()
    sum(value.square().sum() for value in outputs).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def test_training_gives_the_plain_networks_values_and_gradients():
    network = tiny().train()
    torch.nn.init.normal_(network.decoder.fc1.weight)  # a fresh decoder hardly looks at the features
    for layer in network.decoder.joint_regs:
        torch.nn.init.normal_(layer.weight, std=0.1)
    images = torch.randn(2, 3, 3, 64, 64)
    fast, plain = network(images), plain_forward(network, images)
    torch.testing.assert_close(fast.pose6d.flatten(0, 1), plain.pose6d, atol=1e-4, rtol=1e-4)
    one = gradients(network, (fast.pose6d, fast.shape, fast.camera))
    other = gradients(network, plain)
    for name, value in one.items():
        assert (value - other[name]).norm() <= 1e-4 * other[name].norm() + 1e-6, name


@pytest.mark.parametrize("mode", MODES)
def test_padding_changes_nothing(mode):
    network = tiny(mode).eval()
    images = torch.randn(1, 5, 3, 64, 64)
    valid = torch.tensor([[False, True, True, True, False]])
    with torch.no_grad():
        padded = network(images, valid)
        short = network(images[:, 1:4])
    torch.testing.assert_close(padded.pose6d[:, 1:4], short.pose6d, atol=1e-5, rtol=1e-5)
    other = images.clone()
    other[:, [0, 4]] = 7.0
    with torch.no_grad():
        torch.testing.assert_close(network(other, valid).pose6d[:, 1:4], short.pose6d, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "sees"), [("vanilla", False), ("parallel", True), ("series", True), ("coupling", True)]
)
def test_which_modes_see_other_frames(mode, sees):
    network = tiny(mode).eval()
    images = torch.randn(1, 3, 3, 64, 64)
    other = images.clone()
    other[:, 2] = torch.randn(3, 64, 64)
    with torch.no_grad():
        change = (network(images).features[:, 0] - network(other).features[:, 0]).abs().max()
    assert bool(change > 1e-6) is sees


def test_every_parameter_has_a_gradient_in_every_mode():
    for mode in MODES:
        network = tiny(mode).train()
        found = gradients(network, network(torch.randn(1, 2, 3, 64, 64))[1:4])
        assert all(torch.isfinite(value).all() for value in found.values())
        assert len(found) == len(list(network.parameters()))


def test_training_and_evaluation_agree():
    network = tiny()
    images = torch.randn(1, 2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.train()(images).pose6d, network.eval()(images).pose6d, atol=1e-5, rtol=1e-5)


def test_parameters_and_multiply_adds():
    with torch.device("meta"):
        six, one = MAEDNetwork(), MAEDNetwork(num_blocks=1)
        assert count_parameters(six) == 72_132_153
        assert count_parameters(six.encoder) == 70_130_752
        assert count_parameters(one) == 24_888_633
        assert count_parameters(MAEDNetwork(st_mode="series")) == 57_967_161
        assert count_parameters(MAEDNetwork("cnn")) == 26_820_153
        assert count_parameters(six.encoder.patch_embed.backbone) == 11_894_848
        for network, frames, expected in ((one, 16, 88.94e9), (six, 16, 205.83e9), (six, 8, 102.80e9)):
            assert count_operations(network, (1, frames, 3, 224, 224)) == pytest.approx(expected, rel=0.003)


def test_kinematic_chain_is_the_walk_along_the_tree():
    torch.manual_seed(1)
    decoder = KinematicDecoder(12, 16, dropout=0.0)
    for p in decoder.parameters():
        torch.nn.init.normal_(p, std=0.3)
    features = torch.randn(5, 12)
    torch.testing.assert_close(decoder(features).pose6d, _decode(decoder, features).pose6d, atol=1e-4, rtol=1e-4)
    # A change of one joint's bias moves the joint and its descendants alone.
    before = decoder(features).pose6d
    decoder.joint_regs[16].bias.data += 1
    moved = (decoder(features).pose6d - before).abs().amax((0, 2)) > 1e-5
    expected = [j == 16 or 16 in path for j, path in enumerate(ancestors())]
    assert moved.tolist() == expected


def test_an_untrained_decoder_answers_with_its_start():
    decoder = KinematicDecoder(12, 16, 0.0)
    with torch.no_grad():
        answer = decoder(torch.zeros(3, 12))
    near = 0.05  # the weights are small, not zero
    assert (answer.camera - torch.tensor([0.9, 0, 0])).abs().max() < near
    assert (answer.pose6d[:, 1:] - torch.tensor([1.0, 0, 0, 1, 0, 0])).abs().max() < near
    assert (answer.pose6d[:, 0] - torch.tensor([1.0, 0, 0, -1, 0, 0])).abs().max() < near
    start = MeanParameters(torch.arange(144.0), torch.zeros(10), torch.ones(3))
    iterative = IterativeDecoder(12, 16, 0.0, start=start)
    assert iterative.init_pose.tolist() == [list(range(144))]
    with pytest.raises(UserError, match="shape has 11 numbers"):
        IterativeDecoder(12, 16, start=start._replace(shape=torch.zeros(11)))


@pytest.mark.parametrize("decoder", [KinematicDecoder, IterativeDecoder])
def test_an_untrained_decoder_stands_upright_before_a_camera_whose_y_points_down(decoder):
    torch.manual_seed(0)
    body = load_body()
    with torch.no_grad():
        pose = decoder(12, 1024, 0.0)(torch.zeros(1, 12)).pose6d
        joints = body(rot6d_to_matrix(pose, columns="interleaved"), torch.zeros(1, 10)).joints24[0]
    head, pelvis, foot = (joints[SMPL24.index(name)] for name in ("head", "pelvis", "left_foot"))
    assert head[1] < pelvis[1] - 0.2
    assert foot[1] > pelvis[1] + 0.2


def test_same_padding_covers():
    for size in range(1, 20):
        for kernel, stride in ((1, 1), (1, 2), (3, 1), (3, 2), (7, 2)):
            before, after = same_padding(size, kernel, stride)
            assert 0 <= after - before <= 1
            assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_standardised_weights_have_no_mean_and_unit_deviation():
    weight = torch.randn(4, 3, 5, 5, dtype=torch.double, requires_grad=True)
    result = standardize(weight)
    torch.testing.assert_close(result.mean((1, 2, 3)), torch.zeros(4).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(result.std((1, 2, 3), correction=0), torch.ones(4).double(), atol=1e-4, rtol=0)
    assert torch.autograd.gradcheck(standardize, (weight[:2, :, :2, :2].detach().requires_grad_(),))


def test_recompute_keeps_arguments_only_and_gives_the_same_gradient():
    calls = []

    def work(x, w):
        calls.append(1)
        return torch.relu(torch.sin(x)) @ w

    x, w = torch.randn(4, 5, requires_grad=True), torch.randn(5, 2, requires_grad=True)
    result = recompute(work, x, w)
    assert len(calls) == 1
    saved = torch.autograd.grad(result.square().sum(), (x, w))
    assert len(calls) == 2
    for one, other in zip(saved, torch.autograd.grad(work(x, w).square().sum(), (x, w)), strict=True):
        assert torch.equal(one, other)
    with torch.no_grad():
        recompute(work, x, w)


def test_recompute_frees_what_it_kept():
    import gc
    import weakref

    kept = []

    def work(x):
        y = torch.relu(x)  # autograd saves its result
        kept.append(weakref.ref(y))
        return y * y

    gc.disable()
    try:
        x = torch.randn(3, requires_grad=True)
        recompute(work, x).sum().backward()
        assert all(ref() is None for ref in kept)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"encoder": "vit"}, "ste"),
        ({"decoder": "kdt"}, "ktd"),
        ({"st_mode": "paralel"}, "parallel"),
        ({"num_heads": 5}, "num_heads"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"backbone": "smal"}, "small"),
        ({"backbone_options": {"width": 3}}, "width"),
        ({"backbone_options": {"blocks": [1]}}, "differ in length"),
        ({"backbone_options": {**TINY, "groups": 3}}, "multiples"),
    ],
)
def test_mistakes_name_the_valid_choices(options, text):
    given = {"embed_dim": 48, "num_heads": 4, "num_blocks": 1, "backbone_options": TINY, **options}
    with pytest.raises(UserError, match=text) as caught:
        MAEDNetwork(**given)
    assert "\n" not in str(caught.value)


def test_wrong_input_is_refused():
    network = tiny()
    with pytest.raises(UserError, match=r"\(B, T, 3, H, W\)"):
        network(torch.zeros(2, 3, 64, 64))
    with pytest.raises(UserError, match="image_size"):
        network(torch.zeros(1, 2, 3, 64, 32))
    with pytest.raises(UserError, match="max_frames"):
        network(torch.zeros(1, 7, 3, 64, 64))


def test_hybrid_network_takes_any_size():
    trunk = HybridResNet(**TINY)
    assert trunk(torch.zeros(1, 3, 50, 77)).shape == (1, 128, 4, 5)


def test_half_precision_runs_under_autocast():
    network = tiny().train()
    with torch.autocast("cpu", torch.bfloat16):
        answer = network(torch.randn(1, 2, 3, 64, 64))
    assert answer.rotations.dtype == torch.float32
    identity = answer.rotations @ answer.rotations.mT
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)
    answer.pose6d.sum().backward()
    assert torch.isfinite(network.encoder.blocks[0].attn.qkv.weight.grad).all()
