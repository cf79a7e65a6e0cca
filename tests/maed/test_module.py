"""MAED as a LightningModule: all batches, hybrid steps, transfer of weights, interpolation, metrics, bad input."""

import lightning
import numpy as np
import pytest
import torch

from posekit.body import load_body
from posekit.data import Human36M, SyntheticPeople
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix, uncrop_points
from posekit.nn.counting import count_operations
from posekit_maed import MAED, convert_official
from posekit_maed.clips import as_clips
from posekit_maed.evaluation import EVAL_JOINTS
from tests.body.toys import toy_arrays
from tests.data3d.test_human36m import write_official
from tests.maed.conftest import SIZE, SMALL, crops_of


def test_clips_crops_and_both_train(make, clips):
    module = make()
    video, pictures = clips(), crops_of(clips(3, seed=1))
    outputs = {
        "clips": module.step(video, "train"),
        "crops": module.step(pictures, "train"),
        "hybrid": module.step({"clips": video, "images": pictures}, "train"),
    }
    for output in outputs.values():
        assert torch.isfinite(output.loss)
    assert outputs["hybrid"].batch_size == 5
    assert "images/points" in outputs["hybrid"].logs
    outputs["hybrid"].loss.backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize(("weights", "share"), [("frames", 8 / 11), ("equal", 0.5)])
def test_hybrid_gradient_is_the_weighted_sum_of_both(make, clips, weights, share):
    module = make(hybrid_weights=weights).eval()  # batch norm must not see one batch before the other
    video, pictures = clips(), crops_of(clips(3, seed=1))

    def gradient(*parts):
        module.zero_grad()
        for factor, batch in parts:
            (factor * module.step(batch, "train").loss).backward()
        return torch.cat([p.grad.flatten() for p in module.parameters()])

    accumulated = gradient((share, video), (1 - share, pictures))
    at_once = gradient((1.0, {"clips": video, "images": pictures}))
    torch.testing.assert_close(at_once, accumulated, atol=1e-4, rtol=1e-3)


def test_padding_of_clips_weighs_nothing_in_a_hybrid_step(make, clips):
    module = make().eval()
    video, pictures = clips(frames=4), crops_of(clips(3, seed=1))
    once = module.step({"clips": video, "images": pictures}, "train").loss
    per_frame = [name for name, value in video.items() if value.ndim > 1]
    padded = {n: torch.cat([v, v[:, :1].expand_as(v)], 1) if n in per_frame else v for n, v in video.items()}
    padded["valid"][:, 4:] = False
    more = module.step({"clips": padded, "images": pictures}, "train").loss
    torch.testing.assert_close(more, once, rtol=1e-5, atol=0)
    empty = {**video, "valid": torch.zeros_like(video["valid"])}
    alone = module.step(pictures, "train").loss
    torch.testing.assert_close(module.step({"clips": empty, "images": pictures}, "train").loss, alone)


def test_forward_has_the_published_outputs(make, clips):
    module = make().eval()
    batch = clips()
    with torch.no_grad():
        found = module(batch["image"])
        regressed = module(batch["image"], joint_regressor=torch.full((2, 1500), 1 / 1500))
        one = module(batch["image"][:, 0])
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    assert shapes == {
        "theta": (2, 4, 85), "verts": (2, 4, 1500, 3), "kp_3d": (2, 4, 49, 3), "kp_2d": (2, 4, 49, 2),
        "rotmat": (2, 4, 24, 3, 3),
    }  # fmt: skip
    torch.testing.assert_close(regressed["kp_3d"][:, :, 0], found["verts"].mean(2), atol=1e-4, rtol=0)
    assert one["theta"].shape == (2, 1, 85)


def test_stage_one_transfers_to_stage_two(make, clips, tmp_path, capsys):
    first = make(st_mode="vanilla")
    path = tmp_path / "stage1.pt"
    torch.save({"state_dict": first.state_dict()}, path)
    second = make(init_from=str(path), init_decoder=False)
    own, theirs = second.network.state_dict(), first.network.state_dict()
    kept = [name for name in own if name in theirs and name.startswith("encoder.")]
    assert all(torch.equal(own[name], theirs[name]) for name in kept)
    new = [name for name in own if name not in theirs]
    assert all("ts_attn" in name or "temp_embed" in name for name in new)
    torch.nn.init.ones_(first.network.decoder.fc1.weight)
    torch.save({"state_dict": first.state_dict()}, path)
    assert not torch.equal(
        make(init_from=str(path), init_decoder=False).network.decoder.fc1.weight[0, 0], torch.ones(())
    )
    assert make(init_from=str(path)).network.decoder.fc1.weight[0, 0] == 1


def test_a_first_stage_that_gives_the_encoder_nothing_is_refused(make, tmp_path):
    first = make()
    state = {n: v for n, v in first.state_dict().items() if "decoder" in n}
    torch.save({**state, "encoder.conv1.weight": torch.zeros(3)}, tmp_path / "cnn.pt")
    with pytest.raises(UserError, match="nothing transfers to the encoder"):
        make(init_from=str(tmp_path / "cnn.pt"))
    with pytest.raises(UserError, match="nothing in"):
        make(init_from=str(tmp_path / "cnn.pt"), init_decoder=False)


def test_pretrained_transformers_load_from_a_local_file(tmp_path):
    options = {
        "image_size": [64, 64], "num_blocks": 1, "num_heads": 4, "embed_dim": 48, "hidden_dim": 16,
        "backbone_options": {"blocks": [1, 1, 1], "channels": [32, 64, 128], "stem_channels": 16, "groups": 4},
    }  # fmt: skip
    source = MAED(**{**options, "num_blocks": 2, "st_mode": "vanilla", "image_size": [128, 128]}).network.encoder
    state = {n: torch.randn_like(v) for n, v in source.state_dict().items()}
    state["head.weight"] = torch.zeros(5, 48)
    torch.save(state, tmp_path / "vit.pth")
    module = MAED(**options, init_from=str(tmp_path / "vit.pth"))
    encoder = module.network.encoder
    assert torch.equal(encoder.blocks[0].mlp.fc1.weight, state["blocks.0.mlp.fc1.weight"])
    assert torch.equal(encoder.pos_embed[:, 0], state["pos_embed"][:, 0])
    assert encoder.pos_embed.shape == (1, 17, 48)  # 8 x 8 cells became 4 x 4
    assert torch.equal(encoder.pre_logits.fc.bias, state["pre_logits.fc.bias"])


def test_convert_official_drops_the_body():
    state = {"encoder.cls_token": torch.zeros(1), "decoder.smpl.v_template": torch.zeros(1)}
    assert list(convert_official(state)) == ["encoder.cls_token"]


def test_starter_fills_the_small_backbone(make):
    module = make(init_from="starter")
    fresh = make()
    name = "encoder.patch_embed.backbone.final_layer.weight"
    assert not torch.equal(module.network.state_dict()[name], fresh.network.state_dict()[name])


def test_every_second_frame_and_interpolation(make, clips):
    batch = clips(frames=6)
    whole, half = make().eval(), make(keep_every=2).eval()
    half.load_state_dict(whole.state_dict())
    with torch.no_grad():
        found = half(batch["image"])
        run = whole(batch["image"][:, ::2])
    for name in ("kp_3d", "verts"):
        torch.testing.assert_close(found[name][:, ::2], run[name], atol=1e-5, rtol=0)
        middle = (run[name][:, 0] + run[name][:, 1]) / 2
        torch.testing.assert_close(found[name][:, 1], middle, atol=1e-5, rtol=0)
    identity = found["rotmat"] @ found["rotmat"].mT
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)
    half.step(batch, "train").loss.backward()


def test_predictions_lie_on_the_original_picture(make, clips):
    module = make().eval()
    affine = torch.tensor([[0.5, 0.0, -10.0], [0.0, 0.5, -20.0]])
    batch = clips()
    batch["affine"] = affine.expand(2, 4, 2, 3).clone()
    batch["valid"][1, 3] = False
    with torch.no_grad():
        rows = module.predict_step(batch, 0)
        found = module(batch["image"], batch["valid"])
    assert len(rows["scores"]) == 7
    width, height = SIZE
    half = (height - 1) / 2
    pixels = found["kp_2d"].flatten(0, 1)[:7] * half + torch.tensor([(width - 1) / 2, (height - 1) / 2])
    expected = uncrop_points(pixels, affine.expand(7, 2, 3))
    torch.testing.assert_close(rows["keypoints"][..., :2], expected, atol=1e-3, rtol=0)
    # The mesh's camera puts the joints' vertices where the joints were found.
    placed = rows["vertices"]
    projected = placed[..., :2] / placed[..., 2:] * rows["focal"][:, None, None] + rows["center"][:, None]
    body = load_body()
    regressor = torch.from_numpy(np.asarray(body._buffers["_regressor_SPIN49"]))
    joints3d = (regressor @ placed)[:, 25:37]
    again = joints3d[..., :2] / joints3d[..., 2:] * rows["focal"][:, None, None] + rows["center"][:, None]
    torch.testing.assert_close(again, rows["keypoints"][:, 25:37, :2], atol=0.1, rtol=0)
    assert torch.isfinite(projected).all()


def trainer(folder, **options):
    return lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=folder, **options,
    )  # fmt: skip


def test_metrics_of_perfect_answers_are_zero_and_windows_count_once(make, clips):
    module = make()
    batch = clips(frames=5)
    module.reset_metrics("val")
    (part,) = as_clips(batch).values()
    bodies = module.body(axis_angle_to_matrix(part["body_pose"].flatten(0, 1)), part["body_shape"].flatten(0, 1))
    part["joints3d"] = module.body.joints(bodies, "SPIN49").unflatten(0, (2, 5))
    output = type("Output", (), {"predictions": {"output": bodies, "batch": part}})()
    for _ in range(2):  # a distributed sampler repeats samples
        module.update_metrics(batch, output, "val")
    values = module.compute_metrics("val")
    for name in ("MPJPE", "PA-MPJPE", "PVE", "acceleration_error"):
        assert values[name] < 0.02
    assert values["MPJPE_mean_pose"] > 10
    assert len(module.errors["val_errors"].mpjpe.joint_values[0]) == 10


def test_checkpoint_round_trip(make, clips, tmp_path):
    module = make()

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {name: value[index] for name, value in clips().items()}

    loader = torch.utils.data.DataLoader(Data(), batch_size=2)
    run = trainer(tmp_path)
    run.fit(module, loader, loader)
    assert float(run.callback_metrics["val/MPJPE"]) > 0
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = MAED.load_from_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert not any(name.startswith("body.") for name in content["state_dict"])
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"skeleton": "COCO17"}, "SPIN49"),
        ({"hybrid_weights": "frame"}, "equal"),
        ({"clip_box": "frames"}, "window"),
        ({"box_scale": 0.0}, r"MAED: box_scale must be a number above 0 \(or null\), not 0\.0"),
        ({"keep_every": 0}, "keep_every"),
        ({"keep_every": 1.5}, "MAED: keep_every must be a whole number of at least 1, not 1.5"),
        ({"hidden_dim": 0}, "MAED: hidden_dim must be a whole number of at least 1, not 0"),
        ({"hidden_dim": 0, "decoder": "iterative"}, "MAED: hidden_dim must be a whole number"),
        ({"dropout": 2.0}, r"MAED: dropout must be a number in \[0, 1\), not 2\.0"),
        ({"dropout": float("nan")}, "dropout"),
        ({"num_blocks": 0}, "MAED: num_blocks must be a whole number"),
        ({"num_heads": 1.5}, "MAED: num_heads must be a whole number"),
        ({"embed_dim": 0}, "MAED: embed_dim must be a whole number"),
        ({"max_frames": 0}, "MAED: max_frames must be a whole number"),
        ({"backbone_options": {"joints": 0}}, "backbone 'small': joints must be a whole number"),
        ({"loss_weights": {"pose": "a"}}, r"MAED: loss_weights\.pose must be a number of at least 0, not 'a'"),
        ({"eval_joints": "h36m"}, "h36m14"),
        ({"num_betas": 11}, "num_betas"),
        ({"body": "/nonexistent/SMPL_NEUTRAL.pkl"}, "does not exist"),
        ({"loss_weights": {"kp": 1.0}}, "joints3d"),
    ],
)
def test_mistakes_are_one_line(make, options, text):
    with pytest.raises(UserError, match=text) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "name"), [(None, "h36m14"), (14, "h36m14"), (17, "h36m17")])
def test_the_data_s_own_protocol_chooses_the_joints(make, tmp_path, count, name):
    data = Human36M(
        str(write_official(tmp_path, "S9")), image_size=SIZE, frames=3, window="chunk", skeleton="SPIN49",
        eval_joints=count,
    )  # fmt: skip
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    left_open, named = make(eval_joints=None), make(eval_joints=name)
    (open_numbers,), (numbers,) = (trainer.validate(m, data, verbose=False) for m in (left_open, named))
    assert left_open.compared.set is EVAL_JOINTS[name]
    assert open_numbers == numbers


def test_the_joints_of_one_validation_are_not_those_of_the_next(make, tmp_path):
    class Own(MAED):
        def __init__(self, eval_joints=None, **options):
            super().__init__(eval_joints=eval_joints or "spin14", **options)

    left_open, own = make(eval_joints=None), Own(**{k: v for k, v in SMALL.items() if k != "eval_joints"})
    data = Human36M(str(write_official(tmp_path, "S9")), image_size=SIZE, frames=3, skeleton="SPIN49", eval_joints=17)
    for datamodule, wanted in ((data, "h36m17"), (None, "h36m14")):
        left_open._follow_protocol(datamodule)
        assert left_open.compared.set is EVAL_JOINTS[wanted]
        own._follow_protocol(datamodule)
        assert own.compared.set is EVAL_JOINTS["spin14"]


def test_a_protocol_other_than_the_data_s_is_told(make, tmp_path):
    data = Human36M(str(write_official(tmp_path, "S9")), image_size=SIZE, frames=3, window="chunk", eval_joints=14)
    with pytest.warns(UserWarning, match="of joints h36m17 .* data.eval_joints counts those of h36m14 alone"):
        make(eval_joints="h36m17")._follow_protocol(data)


def test_bodies_of_another_topology_and_wrong_regressors(make, tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays())
    with pytest.raises(UserError, match="H36M17") as caught:
        make(body=str(tmp_path / "toy.npz"), eval_joints="h36m14")
    assert "\n" not in str(caught.value)
    np.save(tmp_path / "regressor.npy", np.zeros((17, 6890)))
    with pytest.raises(UserError, match="another topology"):
        make(joint_regressor_h36m=str(tmp_path / "regressor.npy"))
    few = toy_arrays(betas=6)
    np.savez(tmp_path / "few.npz", **few)
    with pytest.raises(UserError, match="num_betas"):
        make(body=str(tmp_path / "few.npz"))


def test_wrong_batches_are_one_line(make, clips):
    module = make()
    for changes, text in (
        ({"keypoints": torch.zeros(2, 4, 17, 2)}, "SPIN49"),
        ({"keypoints": [torch.zeros(3, 2)]}, "data.view"),
        ({"body_shape": torch.zeros(2, 4, 16)}, "num_betas"),
        ({"image": torch.zeros(2, 4, 3, 32, 32)}, "image_size"),
    ):
        with pytest.raises(UserError, match=text):
            module.step(clips(**changes), "train")


def test_clips_of_padding_and_of_people_who_left(make, clips):
    module = make()
    batch = clips()
    batch["valid"][0, 2:] = False  # shorter than the window
    batch["valid"][1] = False  # no frame could be read
    batch["visible"][0, 1] = 0  # out of the picture
    output = module.step(batch, "train")
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())
    module.eval()
    with torch.no_grad():
        assert len(module.predict_step(batch, 0)["scores"]) == 2


def test_a_frozen_backbone_stays_as_it_was(make, clips):
    module = make(init_from="starter", freeze_backbone=True).train()
    before = {n: v.clone() for n, v in module.network.encoder.patch_embed.backbone.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameter_groups(), lr=0.1)
    module.step(clips(), "train").loss.backward()
    optimizer.step()
    after = module.network.encoder.patch_embed.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_clips_longer_than_the_encoder_are_refused_before_a_run(make):
    data = SyntheticPeople(view="clips", frames=9, skeleton="SPIN49", train_size=2, val_size=2)
    with pytest.raises(UserError, match=r"clips of 9 frames of SyntheticPeople are longer than max_frames=4"):
        make(max_frames=4).check_data(data)
    with pytest.raises(UserError, match="clips of 9 frames"):
        make(max_frames=4, keep_every=2).check_data(data)
    make(max_frames=5, keep_every=2).check_data(data)
    make(max_frames=4, st_mode="vanilla").check_data(data)  # frames have no place there


def test_interpolated_frames_cost_nothing(make):
    every, second = make(max_frames=4), make(max_frames=4, keep_every=2)
    assert every.input_shape() == second.input_shape()
    costs = [count_operations(model, (1, *model.input_shape())) for model in (every, second)]
    assert costs[1] == pytest.approx(costs[0] / 2, rel=0.05)


@pytest.mark.parametrize(
    ("places", "pattern"),
    [([0, 0, 1, 2], "FTTT"), ([0, 1, 1, 1], "TTFF"), ([1, 1, 1], "FTF"), ([0, 0, 0, 1, 2, 2], "FFTTTF")],
)
def test_a_padded_clip_of_every_second_frame_equals_the_short_one(make, clips, places, pattern):
    module = make(keep_every=2).eval()
    images = clips(frames=3)["image"]
    real = torch.tensor([mark == "T" for mark in pattern])
    with torch.no_grad():
        padded = module(images[:, places], real.expand(len(images), -1))
        short = module(images[:, [place for place, kept in zip(places, real.tolist(), strict=True) if kept]])
    for name, value in padded.items():
        torch.testing.assert_close(value[:, real], short[name], atol=1e-5, rtol=1e-4)
