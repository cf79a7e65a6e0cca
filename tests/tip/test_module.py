"""TIP as a LightningModule: the method page's properties, its rivals, weights and bad input."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from posekit.errors import UserError
from posekit.nn import count_macs, count_parameters
from posekit_tip import TIP
from posekit_tip.network import TIPNetwork
from tests.tip.made import flip_clips, make_clips

TERMS = {"gamma_com": "com", "gamma_var": "var", "gamma_red": "red", "gamma_s": "s"}


def make(seed=0, **options):
    torch.manual_seed(seed)
    base = {"backbone": "small", "backbone_options": {"widths": [8, 16, 16, 16, 16]}, "image_size": [48, 64]}
    return TIP(**{**base, "sigma": 1.5, "group_channels": 8, **options})


def gradients(module, batch):
    module.zero_grad(set_to_none=True)
    output = module.step(batch, "train")
    output.loss.backward()
    return output, {name: p.grad for name, p in module.named_parameters()}


@pytest.fixture(scope="module")
def batch():
    return make_clips()


def test_exact_counts_at_w48():
    with torch.device("meta"):
        module = TIP(backbone="hrnet_w48", num_slots=17, image_size=[288, 384])
    part, motion = module.network.temporal, module.network.temporal.motion
    sizes = [
        count_parameters(m) for m in (part.synthesizer, motion.encoders, motion.task_heads, part.fusion, part.head)
    ]
    assert sizes == [3_332, 371_040, 735, 159_168, 7_361]
    assert sum(count_parameters(d.gate) for d in motion.distillers) == 6_060
    assert sum(count_parameters(d.refine) for d in motion.distillers) == 208_320
    assert count_parameters(part) == 756_016
    assert count_parameters(module) == 64_351_761
    assert module.input_shape() == (3, 3, 384, 288)
    per_frame = count_macs(module.network.backbone, (1, 3, 384, 288), conv_only=True)
    assert per_frame == 35_306_606_592


def test_cost_behind_the_backbone_at_w48():
    class Stub(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.final_layer = torch.nn.Conv2d(48, 17, 1)

        def features(self, images):
            return images.new_zeros(len(images), 48, 96, 72)

    with torch.device("meta"):
        full = TIP(backbone="hrnet_w48", num_slots=17, image_size=[288, 384])
    part = full.network.temporal.to_empty(device="cpu")
    part.order.copy_(torch.arange(15))
    network = TIPNetwork(Stub(), part, range(15))
    inference = count_macs(network, (1, 3, 3, 8, 8), conv_only=True)
    # The method page's figure has the rough heads of three frames, and the task heads, which only training runs.
    task_heads = 15 * 48 * 96 * 72
    assert (inference + task_heads) / 1e9 == pytest.approx(5.163, abs=5e-4)


@pytest.mark.parametrize("temporal", ["tip", "single", "interpolation", "difference"])
@pytest.mark.parametrize("frozen", [True, False])
def test_every_mode_steps_and_predicts(batch, temporal, frozen):
    module = make(temporal=temporal, freeze_backbone=frozen)
    output, found = gradients(module, batch)
    assert torch.isfinite(output.loss)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    # DistributedDataParallel needs a gradient at every parameter that asks for one.
    assert trained == {name for name, grad in found.items() if grad is not None}
    assert any(name.startswith("network.backbone.") for name in trained) == (temporal == "single" or not frozen)
    extra = {"tip": {"com", "var", "red", "s"}, "interpolation": {"com", "var", "red"}}.get(temporal, set())
    rough = {"rough"} if temporal != "single" and not frozen else set()
    assert set(output.logs) == {"loc"} | extra | rough
    with torch.inference_mode():
        people = module.eval().step(batch, "val").predictions
    assert people["keypoints"].shape == (2, 15, 3)
    assert torch.isfinite(people["keypoints"]).all()


def test_terms_start_at_their_known_values(batch):
    logs = make().step(batch, "train").logs
    assert logs["com"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert 0 <= logs["red"] <= 1
    assert 0 <= logs["var"] <= 1
    assert 0 <= logs["s"] <= 2 * math.pi * 1.5**2


def test_without_information_terms_the_total_is_the_rest_to_the_bit(batch):
    output, found = gradients(make(gamma_info=0), batch)
    assert set(output.logs) == {"loc", "s"}
    assert torch.equal(output.loss, output.logs["loc"] + 0.1 * output.logs["s"])
    assert all(grad is None for name, grad in found.items() if "task_heads" in name)


def test_without_synthesis_term_the_synthesizer_still_learns(batch):
    module = make(gamma_s=0)
    torch.nn.init.normal_(module.network.temporal.synthesizer.steps[2].weight)
    torch.nn.init.normal_(module.network.temporal.head.weight)
    output, found = gradients(module, batch)
    assert "s" not in output.logs
    assert found["network.temporal.synthesizer.steps.0.weight"].abs().max() > 0


@pytest.mark.parametrize("gamma", TERMS)
def test_a_weight_of_0_is_the_objective_without_that_term(batch, gamma):
    output, _ = gradients(make(**{gamma: 0}), batch)
    full, _ = gradients(make(), batch)
    assert TERMS[gamma] not in output.logs
    weight = 0.1 if gamma == "gamma_s" else 1
    assert output.loss.item() == pytest.approx((full.loss - weight * full.logs[TERMS[gamma]]).item(), rel=1e-5)


def test_weights_scale_their_terms(batch):
    full = make().step(batch, "train")
    scaled = make(gamma_info=0.5, gamma_com=4, gamma_s=2).step(batch, "train")
    logs = full.logs
    expected = logs["loc"] + 0.5 * (4 * logs["com"] + logs["var"] + logs["red"]) + 2 * logs["s"]
    assert scaled.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_information_reaches_the_backbone_through_differences_alone(batch):
    # With equal frames the differences are 0 whatever the backbone, and rough maps are fed to the encoder: cut those.
    module = make(temporal="tip", freeze_backbone=False, gamma_s=0)
    frames = module.network.encode(batch["image"].flatten(0, 1))
    from posekit_tip.losses import complementary_loss, redundancy_loss
    from posekit_tip.sharing import key_windows

    windows = key_windows(batch["frame"], batch["valid"], batch["key"], 1)
    output = module.network.estimate(frames, windows)
    key = [value.detach().requires_grad_() for value in output.key]
    distilled = [z.detach().requires_grad_() for z in output.distilled]
    additions = module.network.temporal.motion.additions(distilled)
    target, weight = torch.rand_like(key[1]), torch.ones(2, 15)
    loss = complementary_loss(key[1], additions, module.network.temporal.order, target, weight) + redundancy_loss(
        distilled, key[0]
    )
    loss.backward()
    assert all(value.grad is None for value in key)
    assert any(z.grad is not None and z.grad.abs().max() > 0 for z in distilled)


def test_a_frozen_backbone_does_not_move(batch):
    module = make().train()
    before = {name: value.clone() for name, value in module.network.backbone.state_dict().items()}
    moved = {name: value.clone() for name, value in module.network.temporal.state_dict().items()}
    optimizer = torch.optim.Adam(module.parameter_groups(), lr=0.01)
    module.step(batch, "train").loss.backward()
    optimizer.step()
    assert all(torch.equal(before[n], v) for n, v in module.network.backbone.state_dict().items())
    assert not all(torch.equal(moved[n], v) for n, v in module.network.temporal.state_dict().items())
    assert module.network.temporal.training
    assert not module.network.backbone.training


def test_a_trained_backbone_has_a_lower_rate():
    module = make(freeze_backbone=False, lr=0.01)
    own, rest = module.parameter_groups()
    assert rest["lr"] == pytest.approx(0.001)
    count = sum(p.numel() for p in own["params"]) + sum(p.numel() for p in rest["params"])
    assert count == count_parameters(module)
    assert len(make().parameter_groups()) == 1
    assert len(make(temporal="single").parameter_groups()) == 1


@pytest.mark.parametrize("support", [1, 2])
def test_sixty_steps_learn_a_sample(support):
    module = make(num_support=support, sigma=1.0)
    batch = make_clips(frames=2 * support + 1, seed=3)
    optimizer = torch.optim.Adam(module.parameter_groups(), lr=3e-3)
    first = last = None
    for _ in range(60):
        output = module.step(batch, "train")
        first, last = first or output.logs, output.logs
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert last["loc"] < 0.6 * first["loc"]
    assert all(last[name] < first[name] for name in ("com", "red", "var"))


def test_a_clipped_window_adds_nothing_to_synthesis(batch):
    clipped = {**batch, "valid": batch["valid"].clone()}
    clipped["valid"][:, 0] = False
    assert make().step(clipped, "train").logs["s"] == 0
    half = {**batch, "valid": batch["valid"].clone()}
    half["valid"][0, 2] = False
    one = {name: value[1:] for name, value in batch.items()}
    # The frozen backbone treats each clip by itself, so the other clip alone gives the same mean.
    alone = make().step(one, "train").logs["s"].item()
    assert make().step(half, "train").logs["s"].item() == pytest.approx(alone, rel=1e-5)


def test_neighbours_matter_and_padding_does_not(batch):
    module = make().eval()
    for p in module.network.temporal.head.parameters():
        torch.nn.init.normal_(p)
    other = {**batch, "image": batch["image"].clone()}
    other["image"][:, 0] = torch.randn_like(other["image"][:, 0])

    def joints(clips):
        return module.predict_step(clips, 0)["keypoints"]

    with torch.inference_mode():
        assert not torch.allclose(joints(batch), joints(other))
        padded = [{**b, "valid": torch.tensor([[False, True, True]] * 2)} for b in (batch, other)]
        torch.testing.assert_close(joints(padded[0]), joints(padded[1]))


def test_flip_test_makes_predictions_mirror_symmetric(batch):
    module = make(flip_test=True, mapping="udp").eval()
    torch.nn.init.normal_(module.network.temporal.head.weight)
    index = module.flip_index
    with torch.inference_mode():
        there, back = (module.predict_step(b, 0)["keypoints"] for b in (batch, flip_clips(batch)))
        stepped = module.step(batch, "val").predictions["keypoints"]
    torch.testing.assert_close(there, stepped)
    mirrored = back[:, index].clone()
    mirrored[..., 0] = 47 - mirrored[..., 0]
    assert ((mirrored - there).abs().amax(-1) < 1e-2).float().mean() > 0.9


def test_the_legacy_mapping_shifts_the_maps_of_the_mirror_image(batch):
    def joints(**options):
        module = make(flip_test=True, mapping="legacy", decoder="expectation", **options).eval()
        torch.nn.init.uniform_(module.network.temporal.head.weight)
        with torch.inference_mode():
            found = module.predict_step(batch, 0)["keypoints"]
            torch.testing.assert_close(found, module.step(batch, "val").predictions["keypoints"])
        return found[..., 0]

    torch.testing.assert_close(joints(), joints(flip_shift=0.75))
    assert (joints() - joints(flip_shift=0.0)).mean() > 0.5  # 1.5 px less what flat maps lose at their border


def test_17_slots_hold_15_joints(batch):
    module = make(num_slots=17)
    _, found = gradients(module, batch)
    weight = found["network.temporal.head.weight"]
    assert weight.shape[0] == 17
    assert (weight[[3, 4]] == 0).all()  # the ears' slots never hold a joint
    assert (weight[[0, 1, 2, *range(5, 17)]].flatten(1).abs().amax(1) > 0).all()
    with torch.inference_mode():
        assert module.eval().predict_step(batch, 0)["keypoints"].shape == (2, 15, 3)


def test_17_coco_joints_work_too():
    module = make(skeleton="COCO17")
    batch = make_clips(joints=17)
    assert torch.isfinite(gradients(module, batch)[0].loss)
    assert [len(group) for group in module.groups] == [5, 3, 3, 3, 3]


def test_scores_are_map_heights_times_box_scores(batch):
    module = make(temporal="single").eval()
    with torch.inference_mode():
        found = module.predict_step(batch, 0)
        height = module(batch["image"]).flatten(-2).amax(-1)
    torch.testing.assert_close(found["keypoints"][..., 2], 0.5 * height)


@pytest.mark.parametrize("temporal", ["tip", "single"])
def test_long_clips_are_estimated_like_their_windows(temporal):
    module = make(temporal=temporal).eval()
    if module.network.temporal is not None:
        for p in module.network.temporal.head.parameters():
            torch.nn.init.normal_(p)
    long = make_clips(count=2, frames=7)
    long["answers"] = torch.tensor([[0, 1, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 1, 0]], dtype=torch.bool)
    long["row_ids"] = torch.arange(14).view(2, 7)
    long["track_id"] = torch.tensor([4, 9])
    with torch.inference_mode():
        found = module.predict_step(long, 0)
    clip, place = long["answers"].nonzero(as_tuple=True)
    assert found["sample_id"].tolist() == (7 * clip + place).tolist()
    assert found["track_id"].tolist() == [4] * 5 + [9] * 2
    for row, (c, t) in enumerate(zip(clip.tolist(), place.tolist(), strict=True)):
        window = {k: v[c : c + 1, t - 1 : t + 2] for k, v in long.items() if v.ndim > 1}
        window |= {"box_score": long["box_score"][:1], "sample_id": torch.tensor([0]), "key": torch.tensor([1])}
        del window["answers"], window["row_ids"]
        with torch.inference_mode():
            alone = module.predict_step(window, 0)
        torch.testing.assert_close(found["keypoints"][row], alone["keypoints"][0], atol=1e-3, rtol=1e-4)


def test_each_frame_of_a_video_is_encoded_once():
    module = make().eval()
    long = make_clips(count=1, frames=9)
    long["answers"] = torch.ones(1, 9, dtype=torch.bool)
    seen = []
    module.network.backbone.stem.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    with torch.inference_mode():
        found = module.predict_step(long, 0)
    assert sum(seen) == 9
    assert len(found["scores"]) == 9


def test_interim_poses_are_predicted_in_the_pictures_pixels(batch):
    module = make(interim=True, sigma=1.0).eval()
    shifted = {**batch, "affine": batch["affine"].clone()}
    shifted["affine"][..., 2] = torch.tensor([-100.0, -50.0])  # the crop begins at (100, 50)
    with torch.inference_mode():
        plain, found = module.predict_step(batch, 0), module.predict_step(shifted, 0)
    assert found["interim"].shape == (2, 15, 3, 2)
    assert found["ends"].shape == (2, 15, 2, 2)
    torch.testing.assert_close(found["interim"], plain["interim"] + torch.tensor([100.0, 50.0]))
    torch.testing.assert_close(found["interim"][:, :, 1], found["ends"].mean(2), atol=1e-2, rtol=0)


def test_a_picture_is_a_clip_of_one_frame():
    module = make().eval()
    found = module.predict(np.zeros((300, 400, 3), np.uint8), np.array([[100.0, 50, 120, 160]]))
    x, y = found["keypoints"][0, :, 0], found["keypoints"][0, :, 1]
    assert ((x > 70) & (x < 250)).all()
    assert ((y > 0) & (y < 260)).all()


def test_sequences_of_one_frame_train(batch):
    one = {name: value[:, 1:2] if value.ndim > 1 else value for name, value in batch.items()}
    one["key"] = torch.zeros(2, dtype=torch.int64)
    output, _ = gradients(make(), one)
    assert torch.isfinite(output.loss)
    assert output.logs["s"] == 0


def test_unlabelled_clips_train(batch):
    blank = {**batch, "visible": torch.zeros_like(batch["visible"])}
    output, found = gradients(make(), blank)
    assert output.logs["loc"] == 0
    assert not output.labelled  # so an evaluation does not count the loss
    assert make().step(batch, "val").labelled
    assert all(torch.isfinite(grad).all() for grad in found.values() if grad is not None)


def test_crops_train_the_single_frame_network_only(batch):
    from posekit_tip.sharing import key_crops

    crops = key_crops(batch)
    assert torch.equal(
        make(temporal="single").step(crops, "train").loss, make(temporal="single").step(batch, "train").loss
    )
    with pytest.raises(UserError, match="clips"):
        make().step(crops, "train")
    with pytest.raises(UserError, match="image_size"):
        make(image_size=[96, 128]).step(batch, "train")
    with pytest.raises(UserError, match="clips"):
        make().step({**batch, "keypoints": [torch.zeros(1, 15, 2)]}, "train")


def test_the_second_step_starts_from_the_first_ones_weights(batch, tmp_path):
    single = make(temporal="single", seed=5)
    path = tmp_path / "single.pth"
    torch.save({"state_dict": single.state_dict()}, path)
    module = make(init_from=str(path))
    for name, value in single.network.backbone.state_dict().items():
        assert torch.equal(module.network.backbone.state_dict()[name], value)


@pytest.mark.parametrize("slots", [None, 17])
def test_the_temporal_part_can_start_as_the_single_frame_network(batch, tmp_path, slots):
    single = make(temporal="single", seed=5, num_slots=slots)
    torch.nn.init.normal_(single.network.backbone.final_layer.weight)
    path = tmp_path / "single.pth"
    torch.save({"state_dict": single.state_dict()}, path)
    module = make(init_from=str(path), start_from_single=True, num_slots=slots)
    with torch.inference_mode():
        torch.testing.assert_close(module.eval()(batch["image"]), single.eval()(batch["image"]), atol=1e-4, rtol=1e-4)
    _, found = gradients(module.train(), batch)
    assert all(
        found[f"network.temporal.{name}"].abs().max() > 0 for name in ("fusion.skip.weight", "fusion.bn2.weight")
    )
    torch.save({"state_dict": make(seed=9, num_slots=slots).state_dict()}, path)
    trained = make(init_from=str(path), start_from_single=True, num_slots=slots)
    assert torch.equal(trained.network.temporal.head.weight, make(seed=9, num_slots=slots).network.temporal.head.weight)


def test_the_shipped_network_starts_15_and_17_joints():
    from posekit.nn.shipped import shipped_weights

    options = shipped_weights("starter")["model"]["init_args"].get("backbone_options")
    for skeleton, slots in (("COCO17", None), ("POSETRACK15", None), ("POSETRACK15", 17)):
        module = TIP(
            skeleton=skeleton, num_slots=slots, backbone="small", backbone_options=options, image_size=[96, 128],
            init_from="starter", init_head=True,
        )  # fmt: skip
        assert module.network.backbone.final_layer.weight.abs().amax(1).min() > 0.02
        # Its maps are logits of another loss: without being told, the head starts near 0.
        anew = TIP(backbone="small", backbone_options=options, image_size=[96, 128], init_from="starter")
        assert anew.network.backbone.final_layer.weight.abs().max() < 0.01
        same = "stages.0.0.conv1.weight"
        assert torch.equal(anew.network.backbone.state_dict()[same], module.network.backbone.state_dict()[same])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"temporal": "tpi"}, "single"),
        ({"gamma_com": -1}, "gamma_com"),
        ({"gamma_info": float("nan")}, "gamma_info"),
        ({"num_interim": 2}, "odd"),
        ({"num_interim": 0}, "num_interim"),
        ({"num_support": 0}, "num_support"),
        ({"num_support": 1.5}, r"TIP: num_support must be a whole number of at least 1, not 1\.5"),
        ({"num_interim": 2.5}, r"TIP: num_interim must be a whole number of at least 1, not 2\.5"),
        ({"gamma_com": "a"}, "TIP: gamma_com must be a number of at least 0, not 'a'"),
        ({"milestones": [15, 10]}, r"TIP: milestones must be rising whole numbers of at least 0, not \[15, 10\]"),
        ({"group_channels": 0}, "group_channels"),
        ({"sigma": 0.0}, "sigma"),
        ({"temperature": 0.0}, "temperature"),
        ({"loc_reduction": "sum"}, "pixel_sum"),
        ({"decoder": "arg"}, "argmax"),
        ({"mapping": "upd"}, "udp"),
        ({"num_slots": 16}, "num_slots"),
        ({"part_groups": {"head": ["nose"]}}, "no group has"),
        ({"skeleton": "POSETRACK"}, "POSETRACK15"),
    ],
)
def test_mistakes_name_the_valid_choices(options, text):
    with pytest.raises(UserError, match=text) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_mixed_precision_keeps_the_terms_in_float32(batch):
    module = make()
    plain = module.step(batch, "train").logs
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module.step(batch, "train").logs
    for name, value in mixed.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(plain[name].item(), rel=0.05)


@pytest.mark.slow
def test_a_step_compiles_without_breaks(batch):
    import torch._dynamo

    module = make()
    found = torch._dynamo.explain(lambda: module.step(batch, "train").loss)()
    assert found.graph_break_count == 0


def test_the_benchmark_counts_what_the_temporal_part_adds():
    from posekit_tip.bench import bench_tip

    found = bench_tip(("small",), repeats=1)
    assert set(found) == {f"small_{name}" for name in ("single_ms", "tip_ms", "ratio", "mac_ratio")}
    assert all(value > 0 for value in found.values())
    small = TIP(backbone="small", image_size=[96, 128])
    behind = count_macs(small.network, (1, 3, 3, 128, 96)) - 3 * count_macs(small.network.backbone, (1, 3, 128, 96))
    assert found["small_mac_ratio"] == pytest.approx(1 + behind / count_macs(small.network.backbone, (1, 3, 128, 96)))


@pytest.mark.parametrize("temporal", ["tip", "single"])
def test_a_picture_without_people_has_none(temporal):
    found = make(temporal=temporal).predict(np.zeros((80, 60, 3), np.uint8), boxes=np.zeros((0, 4)))
    assert found["keypoints"].shape[0] == len(found["scores"]) == 0
    assert found["keypoints"].shape[1:] == (15, 3)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (None, "not a NoneType"),
        (SimpleNamespace(size=(8, 8)), "not a SimpleNamespace"),
        ((np.zeros((8, 8, 3), np.uint8) for _ in range(2)), "not a generator"),
        (np.zeros((8, 8), np.uint8), r"not uint8 of shape \(8, 8\)"),
        ("a.jpg", r"not the file name 'a\.jpg'"),
        (["a.jpg"], r"not the file name 'a\.jpg'"),
    ],
)
def test_what_holds_no_frames_is_refused(image, text):
    with pytest.raises(UserError, match=rf"predict takes .*\(H, W, 3\).*{text}"):
        make().predict(image)
