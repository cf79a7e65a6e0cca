"""The plain vision transformer, alone and under TIP."""

import pytest
import torch

from posekit.errors import UserError
from posekit.nn import ViT, build_backbone, count_parameters
from posekit_tip import TIP
from tests.tip.made import make_clips


def small(**options):
    torch.manual_seed(0)
    return ViT(**{"num_joints": 15, "width": 24, "depth": 2, "heads": 3, "image_size": (48, 64), **options})


def test_maps_have_stride_4_at_any_multiple_of_16():
    network = small().eval()
    for height, width in ((64, 48), (96, 64), (384, 288)):
        with torch.inference_mode():
            assert network(torch.randn(1, 3, height, width)).shape == (1, 15, height // 4, width // 4)
    with pytest.raises(UserError, match="multiples of 16"):
        network(torch.randn(1, 3, 60, 48))


def test_names_and_sizes_are_those_of_public_weights():
    with torch.device("meta"):
        base = build_backbone("vit_base", 17)
    names = {name: tuple(value.shape) for name, value in base.state_dict().items()}
    assert names["pos_embed"] == (1, 16 * 12 + 1, 768)
    assert names["patch_embed.proj.weight"] == (768, 3, 16, 16)
    assert names["blocks.11.attn.qkv.weight"] == (3 * 768, 768)
    assert names["blocks.0.mlp.fc1.bias"] == (3072,)
    assert names["last_norm.weight"] == (768,)
    assert names["deconv_layers.0.weight"] == (768, 256, 4, 4)
    assert names["deconv_layers.4.running_mean"] == (256,)
    assert names["final_layer.weight"] == (17, 256, 1, 1)
    block = 4 * 768**2 + 4 * 768 + 8 * 768**2 + 5 * 768 + 4 * 768  # attention, network, norms
    rest = 768 * (3 * 256 + 1) + 193 * 768 + 2 * 768 + 16 * 256 * (768 + 256) + 4 * 256 + 17 * 257
    assert count_parameters(base) == 12 * block + rest


def test_attention_is_softmax_of_scaled_products():
    network = small()
    attention = network.blocks[0].attn
    x = torch.randn(2, 5, 24)
    q, k, v = (part.view(2, 5, 3, 8).transpose(1, 2) for part in attention.qkv(x).chunk(3, -1))
    mixed = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
    torch.testing.assert_close(attention(x), attention.proj(mixed.transpose(1, 2).reshape(2, 5, 24)))


def test_positions_matter_and_stay_at_the_trained_size():
    network = small().eval()
    torch.testing.assert_close(network._positions((4, 3)), network.pos_embed[:, 1:] + network.pos_embed[:, :1])
    assert network._positions((6, 4)).shape == (1, 24, 24)


def test_mistakes_are_refused():
    with pytest.raises(UserError, match="divide"):
        small(heads=5)
    with pytest.raises(UserError, match="multiples of 16"):
        small(image_size=(50, 64))


def test_tip_takes_it():
    torch.manual_seed(0)
    module = TIP(
        backbone="vit_small", backbone_options={"depth": 1, "image_size": [48, 64]}, image_size=[48, 64], sigma=1.0,
        group_channels=4,
    )  # fmt: skip
    output = module.step(make_clips(), "train")
    output.loss.backward()
    assert torch.isfinite(output.loss)
