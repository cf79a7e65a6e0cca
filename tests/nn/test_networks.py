"""Names, sizes and behaviour of the heatmap networks."""

import math

import pytest
import torch

from posekit.errors import UserError
from posekit.nn import BACKBONES, HRNet, ResNet, SmallNet, build_backbone, count_macs, count_parameters
from posekit.nn.blocks import BasicBlock, conv_bn
from posekit.nn.hybrid import HybridResNet


def on_meta(name, num_joints=17, **options):
    with torch.device("meta"):
        return build_backbone(name, num_joints, **options)


def tiny_networks():
    torch.manual_seed(0)
    return [HRNet(4, 5), ResNet(18, 5, deconv_channels=8), SmallNet(5, widths=(4, 8, 8, 12, 16))]


@pytest.fixture(params=range(3), ids=["hrnet", "resnet", "small"])
def tiny(request):
    return tiny_networks()[request.param]


@pytest.mark.parametrize(
    ("name", "size", "parameters", "macs", "entries"),
    [
        ("hrnet_w32", (256, 192), 28_536_113, 7_645_003_776, 1754),
        ("hrnet_w32", (384, 288), 28_536_113, 17_201_258_496, 1754),
        ("hrnet_w48", (256, 192), 63_595_745, 15_691_825_152, 1754),
        ("hrnet_w48", (384, 288), 63_595_745, 35_306_606_592, 1754),
        ("resnet18", (256, 192), 15_376_721, 2_897_215_488, 140),
        ("resnet50", (256, 192), 33_999_697, 5_426_380_800, 338),
        ("resnet101", (256, 192), 52_991_825, 9_062_842_368, 644),
        ("small", (128, 96), 648_321, 59_596_800, 116),
    ],
)
def test_exact_counts(name, size, parameters, macs, entries):
    network = on_meta(name)
    assert count_parameters(network) == parameters
    assert count_macs(network, (1, 3, *size), conv_only=True) == macs
    assert len(network.state_dict()) == entries


@pytest.mark.parametrize(("name", "head"), [("hrnet_w32", 561), ("hrnet_w48", 833)])
def test_counts_without_head(name, head):
    assert count_parameters(on_meta(name)) - count_parameters(on_meta(name, None)) == head


@pytest.mark.parametrize(
    ("name", "official"),
    [
        (
            "hrnet_w32",
            {
                "conv1.weight": (64, 3, 3, 3),
                "bn2.running_var": (64,),
                "layer1.0.downsample.0.weight": (256, 64, 1, 1),
                "layer1.3.conv3.weight": (256, 64, 1, 1),
                "transition1.0.0.weight": (32, 256, 3, 3),
                "transition1.1.0.0.weight": (64, 256, 3, 3),
                "stage2.0.branches.0.0.conv1.weight": (32, 32, 3, 3),
                "stage2.0.fuse_layers.0.1.0.weight": (32, 64, 1, 1),
                "transition2.2.0.1.bias": (128,),
                "stage3.3.fuse_layers.2.0.1.0.weight": (128, 32, 3, 3),
                "transition3.3.0.0.weight": (256, 128, 3, 3),
                "stage4.1.fuse_layers.3.0.2.0.weight": (256, 32, 3, 3),
                "stage4.2.branches.3.3.bn2.num_batches_tracked": (),
                "stage4.2.fuse_layers.0.3.1.running_mean": (32,),
                "final_layer.weight": (17, 32, 1, 1),
            },
        ),
        (
            "resnet50",
            {
                "conv1.weight": (64, 3, 7, 7),
                "layer1.0.downsample.1.running_mean": (256,),
                "layer2.0.conv2.weight": (128, 128, 3, 3),
                "layer4.2.bn3.bias": (2048,),
                "deconv_layers.0.weight": (2048, 256, 4, 4),
                "deconv_layers.7.num_batches_tracked": (),
                "final_layer.bias": (17,),
            },
        ),
        ("resnet18", {"layer2.0.downsample.0.weight": (128, 64, 1, 1), "layer4.1.conv2.weight": (512, 512, 3, 3)}),
    ],
)
def test_official_names(name, official):
    state = {key: tuple(value.shape) for key, value in on_meta(name).state_dict().items()}
    assert official.items() <= state.items()


def test_last_exchange_keeps_one_output_or_four():
    pose, full = on_meta("hrnet_w32"), on_meta("hrnet_w32", None, multi_scale_output=True)
    assert "stage4.2.fuse_layers.1.0.0.0.weight" not in pose.state_dict()
    assert "stage4.2.fuse_layers.3.2.0.0.weight" in full.state_dict()
    assert len(full.state_dict()) == 1830  # what the backbone of LOGO-CAP's files holds
    assert full.branch_channels == (32, 64, 128, 256)


@pytest.mark.parametrize(("height", "width"), [(64, 32), (50, 39), (33, 97)])
def test_output_shapes(tiny, height, width):
    images = torch.randn(2, 3, height, width)
    cells = (-(-height // tiny.stride), -(-width // tiny.stride))
    with torch.no_grad():
        features = tiny.features(images)
        heatmaps = tiny(images)
    assert features.shape == (2, tiny.feature_channels, *cells)
    assert heatmaps.shape == (2, 5, *cells)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_branches(kind):
    network = [HRNet(4, None, multi_scale_output=True), ResNet(18, None), SmallNet(None)][kind].eval()
    with torch.no_grad():
        maps = network.branches(torch.randn(1, 3, 64, 96))
    assert [m.shape[1] for m in maps] == list(network.branch_channels)
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_heatmaps_are_the_last_layer_on_features(tiny):
    images = torch.randn(2, 3, 64, 64)
    tiny.eval()
    with torch.no_grad():
        assert torch.equal(tiny.final_layer(tiny.features(images)), tiny(images))
    assert tiny.final_layer.weight.std() < 0.002
    assert tiny.final_layer.weight.abs().max() > 0
    assert tiny.final_layer.bias.eq(0).all()


def test_without_head_forward_gives_features():
    network = SmallNet(None).eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), network.features(images))


def test_gradient_reaches_every_parameter(tiny):
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():  # zero-started norms hide what is in front of them
        for module in tiny.modules():
            if isinstance(module, BasicBlock):
                module.bn2.weight.fill_(1.0)
    tiny(images).square().sum().backward()
    dead = [name for name, p in tiny.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_channels_last_gives_the_same(tiny):
    tiny.eval().double()
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = tiny(images)
        actual = tiny.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert actual.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_bfloat16_autocast(tiny):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        heatmaps = tiny.eval()(torch.randn(1, 3, 32, 32))
    assert heatmaps.dtype == torch.bfloat16
    assert heatmaps.isfinite().all()


@pytest.mark.parametrize("kind", [1, 2], ids=["resnet", "small"])
def test_traces_into_one_graph(kind):
    assert_exports(tiny_networks()[kind])


@pytest.mark.slow
def test_hrnet_traces_into_one_graph():
    assert_exports(tiny_networks()[0])


def assert_exports(network):
    exported = torch.export.export(network.eval(), (torch.randn(2, 3, 50, 64),))
    images = torch.randn(2, 3, 50, 64)
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(images), network(images))


def test_small_blocks_start_as_their_shortcut():
    block = SmallNet(5).stages[0][0].eval()
    x = torch.rand(1, 32, 8, 8)
    with torch.no_grad():
        assert torch.equal(block(x), x)


def test_small_upsampling_behind_the_1x1_is_the_same():
    lateral, x = conv_bn(6, 4).eval().double(), torch.randn(1, 6, 5, 5, dtype=torch.float64)
    up = torch.nn.Upsample(scale_factor=2, mode="nearest")
    with torch.no_grad():
        torch.testing.assert_close(up(lateral(x)), lateral(up(x)))


def test_backbone_names():
    assert set(BACKBONES) >= {"hrnet_w32", "hrnet_w48", "resnet18", "resnet34", "resnet50", "resnet152", "small"}
    assert build_backbone("small", 14, blocks=2, widths=[4, 8, 8, 8, 8]).final_layer.out_channels == 14


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("hrnet_w23", {}, ["unknown backbone 'hrnet_w23'", "Did you mean hrnet_w"]),
        ("hrnet_w32", {"width": 48}, ["has no option 'width'", "multi_scale_output"]),
        ("small", {"block": 2}, ["has no option 'block'", "widths, blocks", "Did you mean blocks?"]),
        ("small", {"blocks": 0}, ["backbone 'small': blocks must be a whole number of at least 1, not 0"]),
        ("small", {"blocks": 1.5}, ["blocks must be a whole number of at least 1, not 1.5"]),
        ("small", {"widths": [8, 8]}, ["widths must be five numbers, not [8, 8]"]),
        ("small", {"widths": list("abcde")}, ["widths must be a whole number of at least 1, not 'a'"]),
        ("small", {"widths": 8}, ["widths must be a list of numbers, not 8"]),
        ("small", {"num_joints": 0}, ["num_joints must be a whole number of at least 1 (or null), not 0"]),
        ("resnet18", {"deconv_channels": math.nan}, ["deconv_channels must be a whole number", "nan"]),
        ("hrnet_w32", {"multi_scale_output": "no"}, ["multi_scale_output must be true or false, not 'no'"]),
        ("vit_small", {"depth": 2.5}, ["ViT: depth must be a whole number of at least 1, not 2.5"]),
        ("vit_small", {"image_size": 256}, ["image_size must be a list of numbers, not 256"]),
        ("vit_small", {"image_size": [192]}, ["image_size must be [W, H], two whole numbers of px, not [192]"]),
    ],
)
def test_wrong_names_and_options(name, options, words):
    with pytest.raises(UserError) as caught:
        build_backbone(name, options.pop("num_joints", 17), **options)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_what_a_network_cannot_be_made_of_is_one_line(monkeypatch):
    monkeypatch.setitem(BACKBONES, "odd", lambda num_joints, size=1: SmallNet(num_joints, blocks=range(size) and 1))
    with pytest.raises(UserError, match="backbone 'odd': 'str' object cannot be interpreted as an integer"):
        build_backbone("odd", 17, size="x")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"groups": 0}, "the hybrid network: groups must be a whole number of at least 1, not 0"),
        ({"blocks": [1, -1, 1]}, "blocks must be a whole number of at least 1, not -1"),
        ({"channels": []}, "channels must list at least one number"),
    ],
)
def test_the_hybrid_network_refuses_what_is_no_size(options, text):
    with pytest.raises(UserError, match=text):
        HybridResNet(**options)


def test_unknown_depth():
    with pytest.raises(UserError, match="unknown ResNet depth 26; known: 18, 34, 50, 101, 152"):
        ResNet(26)
