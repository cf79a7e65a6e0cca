"""Shapes, parameter counts and behaviour of the networks."""

import pytest
import torch

from posekit.errors import UserError
from posekit.heatmaps import mean_position
from posekit.nn import count_parameters, load_weights
from posekit.nn.joint_tokens import PLACE_GAIN, SOFTMAX_SCALE, joint_places
from posekit.nn.shipped import weight_path
from posekit_nlrd import geometry as g
from posekit_nlrd.image import ImageEncoder, LatentHead, Trunk
from posekit_nlrd.motion import MotionDecoder, MotionEncoder
from posekit_nlrd.pose import PoseCritic, PoseDecoder, PoseEncoder, latent_critic
from posekit_nlrd.relation import RelationNetwork
from tests.nlrd.conftest import CHAIN, make_data, make_model, make_trainer


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_of_the_page():
    assert count(PoseEncoder()) == 199_648
    assert count(PoseDecoder()) == 462_425
    assert count(PoseCritic()) == 2_200_999
    assert count(MotionEncoder()) == 594_048
    assert count(MotionDecoder()) == 667_680
    assert count(RelationNetwork(32)) == 698_144
    assert count(RelationNetwork(128)) == 821_120
    assert count(LatentHead(1024, (14, 14))) == 14_705_312
    assert count(LatentHead(1024, (14, 14), (512, 256, 128, 64))) == 11_567_840


def test_resnet50_trunk_is_torchvisions_to_layer3():
    trunk = Trunk("resnet50")
    assert count(trunk) == 8_543_296
    assert count(trunk.layer2) == 1_219_584
    names = set(trunk.state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer3.5.conv3.weight", "layer1.0.downsample.0.weight"} <= names
    assert trunk(torch.randn(1, 3, 64, 64)).shape == (1, 1024, 4, 4)


@pytest.mark.parametrize("backbone", ["small", "tiny"])
def test_image_encoder_shapes_and_cut(backbone):
    encoder = ImageEncoder(backbone, image_size=(48, 64), head_convs=[16, 8], head_widths=[32, 16]).eval()
    images = torch.randn(2, 3, 64, 48)
    latent, features = encoder.features(images)
    assert latent.shape == (2, 32)
    assert features.shape == (2, 32)
    cut, _ = encoder.features(images, frozen_before="layer2")
    assert torch.equal(cut, latent)
    cut.sum().backward()
    assert next(encoder.trunk.layer1.parameters()).grad is None
    assert sum(p.grad.abs().sum() for p in encoder.trunk.layer2.parameters()) > 0


def test_joint_head_reads_latents_off_heatmaps():
    encoder = ImageEncoder("small", image_size=(48, 64), head="joints", head_widths=[32, 16]).eval()
    images = torch.randn(2, 3, 64, 48)
    latent, features = encoder.features(images)
    assert latent.shape == (2, 32)
    assert features.shape == (2, 32)
    cut, _ = encoder.features(images, frozen_before="layer2")
    assert torch.equal(cut, latent)
    cut.sum().backward()
    assert next(encoder.trunk.layer1.parameters()).grad is None
    assert next(encoder.trunk.stem.parameters()).grad is None
    # The decoder's skip from layer1 is frozen too, the way through layer2 is not.
    assert sum(p.grad.abs().sum() for p in encoder.trunk.layer2.parameters()) > 0


def test_joint_heads_places_follow_a_peak():
    maps = torch.zeros(1, 1, 6, 4)
    maps[0, 0, 1, 3] = 100.0
    place, _ = joint_places(maps, torch.zeros(1, 2, 6, 4))
    place = place[0, 0] / PLACE_GAIN
    assert place.tolist() == pytest.approx([1.5 / 3, -1.5 / 3, 1])  # cell (3, 1) of 4 x 6, in halves of the height


def test_joint_places_keep_their_digits_under_autocast():
    maps, features = torch.randn(2, 17, 32, 24), torch.randn(2, 8, 32, 24)
    place, _ = joint_places(maps, features)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(joint_places(maps, features)[0], place)
    mean = mean_position(torch.softmax(SOFTMAX_SCALE * maps.flatten(2), -1).unflatten(-1, (32, 24)))
    expected = (mean - torch.tensor([11.5, 15.5])) / 16
    torch.testing.assert_close(place[..., :2] / PLACE_GAIN, expected)


def test_the_image_encoder_is_laid_out_for_channels_last():
    weight = make_model(["pose"]).networks.image.head.convs[0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_joint_head_starts_from_2d_weights():
    encoder = ImageEncoder("small", image_size=(96, 128), head="joints", head_widths=[32])
    report = load_weights(encoder.trunk, weight_path("starter"))
    assert not report.missing
    assert not report.wrong_shape
    assert len(report.matched) > 100


def test_image_encoder_refuses_bad_input():
    with pytest.raises(UserError, match="tiny"):
        ImageEncoder("tinny")
    with pytest.raises(UserError, match="32 x 32"):
        ImageEncoder("tiny", image_size=(16, 64))
    with pytest.raises(UserError, match="normalization"):
        ImageEncoder("tiny", normalization="none")
    with pytest.raises(UserError, match="head_widths"):
        ImageEncoder("tiny", head_widths=[])


def test_release_normalization_is_rgb_minus_04():
    encoder = ImageEncoder("tiny", normalization="release", image_size=(32, 32))
    white = (torch.ones(1, 3, 1, 1) - encoder.mean) / encoder.deviation
    assert torch.allclose(encoder.normalize(white), torch.full((1, 3, 1, 1), 0.6), atol=1e-6)


@pytest.mark.parametrize("limit", [1.0, 10.0])
def test_latents_stay_in_range(limit):
    encoder = PoseEncoder(limit)
    latent = encoder(1e3 * torch.randn(50, 17, 3))
    assert latent.shape == (50, 32)
    assert latent.abs().max() <= limit
    assert latent.abs().max() > 0.9 * limit
    assert encoder(torch.randn(4, 5, 17, 3)).shape == (4, 5, 32)


def test_decoder_gives_canonical_bones_for_any_latent():
    decoder = PoseDecoder()
    latent = torch.rand(20, 32) * 2 - 1
    local = decoder(latent)
    assert (torch.linalg.vector_norm(local, dim=-1)[:, 1:] - 1).abs().max() < 1e-5
    assert local[:, 0].abs().max() == 0
    lengths = g.bone_lengths(decoder.pose(latent))
    assert (lengths - torch.tensor(g.CANONICAL)).abs().max() < 1e-4
    assert decoder.pose(torch.zeros(2, 3, 32)).shape == (2, 3, 17, 3)


def test_every_decoder_parameter_takes_part():
    decoder = PoseDecoder()
    decoder.pose(torch.randn(4, 32)).square().sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


def test_neck_is_the_sum_of_three_groups():
    decoder = PoseDecoder()
    latent = torch.randn(1, 32)
    before = decoder(latent)
    with torch.no_grad():
        decoder.limbs[1].bias[:3] += 10.0  # the left arm's idea of the neck
    after = decoder(latent)
    assert (after[:, 1] - before[:, 1]).abs().max() > 0.1
    assert torch.equal(after[:, 5:8], before[:, 5:8])


def test_critic_has_one_logit_per_joint_group_and_whole():
    critic = PoseCritic()
    logits = critic(torch.randn(3, 17, 3))
    assert logits.shape == (3, 23)
    pose = torch.randn(1, 17, 3)
    moved = pose.clone()
    moved[:, 4] += 1.0  # the right wrist: its joint, the right arm, the whole
    change = (critic(moved) - critic(pose)).abs()[0] > 0
    assert change[:17].nonzero().flatten().tolist() == [4]
    assert change[17:].tolist() == [True, False, False, False, False, True]
    assert (PoseCritic(relu_out=True)(torch.randn(200, 17, 3))[:, -1] >= 0).all()
    assert latent_critic()(torch.randn(2, 32)).shape == (2, 1)


def test_motion_encoder_reads_both_ends():
    encoder = MotionEncoder().eval()
    latents = torch.rand(2, 30, 32)
    v = encoder(latents)
    assert v.shape == (2, 128)
    assert (encoder(latents.flip(1)) - v).abs().max() > 1e-4
    for frame in (0, 15, 29):
        changed = latents.clone()
        changed[:, frame] += 0.5
        assert (encoder(changed) - v).abs().max() > 1e-6
    _, (hidden, _) = encoder.lstm(latents)
    outputs, _ = encoder.lstm(latents)
    expected = torch.cat([outputs[:, -1, :128], outputs[:, 0, 128:]], dim=-1)
    assert torch.allclose(torch.cat([hidden[-2], hidden[-1]], -1), expected)


def test_motion_decoder_shapes_and_feeding():
    v = torch.rand(3, 128)
    assert MotionDecoder()(v).shape == (3, 30, 32)
    assert MotionDecoder()(v, length=7).shape == (3, 7, 32)
    torch.manual_seed(0)
    fed = MotionDecoder(feed_latent=True)
    alone = MotionDecoder(feed_latent=False)
    alone.load_state_dict(fed.state_dict())
    assert (fed(v) - alone(v)).abs().max() > 1e-4


def test_relation_widths_are_an_option():
    assert count(RelationNetwork(32, widths=(1024, 512))) == 33_792 + 524_800 + 512 * 32 + 32
    assert RelationNetwork(128)(torch.rand(2, 5, 128)).shape == (2, 5, 128)


@pytest.mark.parametrize(("relation", "size"), [("flip_inplane", 32), ("slow_backward", 128)])
def test_relations_see_latents_of_one_rank(relation, size):
    networks = make_model(["pose"]).networks
    network, shapes = networks.relations[relation], []
    latent = torch.rand(3, 5, size)
    wanted = network(latent)
    network.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    assert torch.equal(networks.relate(relation, latent), wanted)
    assert torch.equal(networks.relate(relation, latent[:, 0]), network(latent[:, 0]))
    assert shapes == [(15, size), (3, size), (3, size)]


def test_frames_of_clips_and_single_poses_are_related_by_one_program(tmp_path):
    """A compiled network that sees another rank is compiled anew, and after eight times no more."""
    ranks = set()
    model = make_model([dict(stage) for stage in CHAIN])
    for network in model.networks.relations.values():
        network.register_forward_pre_hook(lambda _, inputs: ranks.add(inputs[0].ndim))
    make_trainer(tmp_path).fit(model, datamodule=make_data())
    assert ranks == {2}


def test_count_parameters_of_the_core_agrees():
    assert count_parameters(PoseEncoder()) == 199_648
