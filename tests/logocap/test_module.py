"""LogoCap as a LightningModule: steps, batches of different sizes, bad input, prediction, drawing."""

import json

import lightning
import numpy as np
import pytest
import torch

from posekit.callbacks import PredictionPreview
from posekit.data.transforms import denormalize_image
from posekit.errors import UserError
from posekit.geometry import crop_points
from posekit.module import StepOutput
from posekit.skeletons import COCO17
from posekit.visualization import draw_people, enlarge
from posekit_logocap import LogoCap
from posekit_logocap.bench import decode, made_maps
from posekit_logocap.inference import DecodeOptions, decode_people, stack_maps
from posekit_logocap.network import DenseMaps
from posekit_logocap.upper_bound import main, measure


def with_people(batch, **fields):
    return {**batch, **fields}


def no_people(count):
    return {
        "keypoints": [torch.zeros(0, 17, 2)] * count,
        "visible": [torch.zeros(0, 17, dtype=torch.int64)] * count,
        "boxes": [torch.zeros(0, 4)] * count,
        "area": [torch.zeros(0)] * count,
    }


def lively(module):
    """Gives an untrained network centres and scores above 0."""
    with torch.no_grad():
        module.network.final_layer_cls.bias.fill_(0.5)
        module.network.joints_mlp[9].bias.fill_(0.5)
    return module.eval()


def test_step_trains_every_parameter(make, batch):
    module = make()
    output = module.step(batch, "train")
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert set(output.logs) == {"loss_heatmaps", "loss_offsets", "loss_attraction", "loss_refined"}
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize("case", ["nobody", "crowd", "nothing visible", "more people than centres"])
def test_unusual_scenes_train_and_evaluate(make, batch, case):
    module, count = make(top_k=2), len(batch["image"])
    if case == "nobody":
        batch = with_people(batch, **no_people(count))
    elif case == "crowd":  # nobody is labelled, and nothing counts
        batch = with_people(batch, **no_people(count), mask=torch.zeros_like(batch["mask"]))
    elif case == "nothing visible":
        batch = with_people(batch, visible=[torch.zeros_like(v) for v in batch["visible"]])
    else:
        repeated = {
            name: [torch.cat([v] * 4) for v in batch[name]] for name in ("keypoints", "visible", "boxes", "area")
        }
        batch = with_people(batch, **repeated)
    output = module.step(batch, "train")
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    if case == "crowd":
        assert output.loss == 0
    if case in ("nobody", "nothing visible"):
        assert output.logs["loss_offsets"] == 0
        assert output.logs["loss_refined"] == 0
    module.eval()
    with torch.inference_mode():
        found = module.step(batch, "val").predictions
    assert torch.isfinite(found["keypoints"]).all()
    assert (found["scores"] > 0).all()


def test_all_zero_maps_give_nobody(make):
    module = make().eval()
    maps = DenseMaps(torch.zeros(2, 18, 6, 6), torch.zeros(2, 34, 6, 6), torch.zeros(2, 8, 6, 6))
    assert decode(module, maps, (24, 24)) == 0


@pytest.mark.parametrize("size", [(2, 3), (1, 1), (33, 50), (96, 65)])
def test_any_picture_size(make, size):
    module = lively(make())
    with torch.inference_mode():
        people = module.infer(torch.randn(2, 3, *size))
    assert torch.isfinite(people.keypoints).all()
    assert module.predictions(people, ids(2))["keypoints"].shape[1:] == (17, 3)


def ids(count):
    return {
        "affine": torch.eye(2, 3).expand(count, 2, 3),
        "image_id": torch.arange(count),
        "sample_id": torch.arange(count),
    }


@pytest.mark.parametrize("sampling", ["official", "border"])
def test_pictures_of_different_sizes_together_are_as_one_by_one(make, sampling):
    module = lively(make(sampling=sampling, centre_threshold=0.0))
    torch.manual_seed(3)
    images = [torch.randn(3, *size) for size in ((64, 96), (96, 64), (50, 70), (64, 96))]
    with torch.inference_mode():
        together = module.infer(images)
        assert len(together.image) > 4
        for row, image in enumerate(images):
            alone, mine = module.infer(image[None]), together.take(together.image == row)
            torch.testing.assert_close(mine.initial, alone.initial, atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(mine.scores, alone.scores, atol=1e-4, rtol=1e-3)
            same = (mine.keypoints - alone.keypoints).abs().amax(-1) < 1e-2
            assert same.float().mean() > 0.97  # maxima that are equal to rounding may be either


def test_suppression_before_refinement_refines_fewer(make):
    module = make(image_size=[256, 256])
    maps = made_maps(module, (256, 256), 4, 3)
    calls = []

    def count(local):
        calls.append(len(local))
        return module.message_passing(local)

    with torch.no_grad():
        for early in (True, False):
            options = DecodeOptions(early_nms=early)
            decode_people(maps, torch.tensor([[256, 256]]), module.expansion, count, options)
    assert calls == [4, 12]


def test_at_most_so_many_people(make):
    module = lively(make(max_people=2))
    maps = made_maps(module, (256, 256), 6, 1, pictures=2)
    assert decode(module, maps, (256, 256)) == 4


def test_flip_test_is_mirror_symmetric_in_half_pixel_coordinates(make):
    module = lively(make(mapping="half_pixel", sampling="border", level="none"))
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps, mirrored = module.dense(image), module.dense(image.flip(-1))
    swapped = mirrored.heatmaps.flip(-1)[:, [*module.flip_index.tolist(), 17]]
    torch.testing.assert_close(maps.heatmaps, swapped, atol=1e-5, rtol=1e-4)


def test_several_scales_change_the_maps_but_not_their_grid(make):
    images = torch.randn(1, 3, 96, 64)
    with torch.inference_mode():
        one = lively(make()).dense(images)
        three = lively(make(test_scales=[0.5, 1.0, 2.0])).dense(images)
    assert all(a.shape == b.shape for a, b in zip(one, three, strict=True))
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(one, three, strict=True))
    with pytest.raises(UserError, match="test_scales"):
        make(test_scales=[0.5])


def test_half_precision_steps(make, batch):
    module = make()
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.step(batch, "train").loss
    loss.backward()
    assert torch.isfinite(loss)
    lively(module)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        people = module.infer(batch["image"])
    assert people.keypoints.dtype == torch.float32


@pytest.mark.slow
def test_network_is_one_graph(make):
    module = make().eval()
    compiled = torch.compile(module.network, backend="eager", fullgraph=True)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(compiled(image), module.network(image), strict=True):
            torch.testing.assert_close(a, b)
        local = torch.randn(2, 17 * 8, 11, 11)
        passing = torch.compile(module.inference_message_passing, backend="eager", fullgraph=True)
        torch.testing.assert_close(passing(local), module.message_passing(local))


@pytest.mark.slow
def test_a_compiled_network_takes_pictures_of_another_size(make):
    """The second size is what makes the compiler trace any."""
    torch._dynamo.reset()
    module = make().eval()
    compiled = torch.compile(module.network, backend="aot_eager")
    with torch.no_grad():
        for height, width in ((64, 64), (61, 97), (33, 70)):
            image = torch.randn(1, 3, height, width)
            for a, b in zip(compiled(image), module.network(image), strict=True):
                assert a.shape[-2:] == (-(-height // 4), -(-width // 4))
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_joined_maps_repeat_their_borders():
    parts = [DenseMaps(*(torch.rand(1, 2, *size) for _ in range(3))) for size in ((2, 3), (3, 2))]
    joined = stack_maps(parts)
    assert joined.heatmaps.shape == (2, 2, 3, 3)
    assert (joined.heatmaps[0, :, 2] == joined.heatmaps[0, :, 1]).all()


def test_fit_logs_both_poses_and_a_checkpoint_gives_the_same_people(make, scenes, tmp_path):
    module = make(optimizer="adamw", lr=1e-3, schedule="onecycle")
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=scenes)
    for name in ("val/AP", "val/AP_initial", "val/AP50_initial", "val/loss"):
        assert name in trainer.callback_metrics
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = LogoCap.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    image = next(iter(scenes.val_dataloader()))["image"]
    with torch.inference_mode():
        one, other = lively(module).infer(image), lively(again).infer(image)
    torch.testing.assert_close(one.keypoints, other.keypoints)


def test_predictions_have_unique_samples_and_return_to_the_original(make, batch):
    module = lively(make(centre_threshold=0.0, attraction_maps=True))
    shifted = with_people(batch, affine=torch.tensor([[2.0, 0, 5], [0, 2, -3]]).expand(len(batch["image"]), 2, 3))
    with torch.inference_mode():
        plain, moved = (
            module.predict_step(with_people(batch, affine=torch.eye(2, 3).expand(4, 2, 3)), 0),
            module.predict_step(shifted, 0),
        )
    assert len(plain["scores"]) > len(batch["image"]) // 2
    assert len(plain["sample_id"].unique()) == len(plain["sample_id"])
    back = moved["keypoints"][..., :2] * 2 + torch.tensor([5.0, -3.0])
    torch.testing.assert_close(back, plain["keypoints"][..., :2], atol=1e-3, rtol=1e-4)
    middle = plain["mesh"][:, :, 5, 5]
    torch.testing.assert_close(middle, plain["initial"][..., :2], atol=1e-3, rtol=1e-4)
    assert plain["attraction"].shape[1:] == (17, 11, 11)


def test_crops_are_refused(make):
    with pytest.raises(UserError, match="scenes"):
        make().step({"image": torch.zeros(1, 3, 32, 32), "keypoints": torch.zeros(1, 17, 2)}, "train")


def test_predict_takes_pictures_of_any_sizes(make):
    module = lively(make(centre_threshold=0.0))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in ((48, 64), (120, 80))]
    both = module.predict(pictures)
    assert set(both["image_id"].tolist()) <= {0, 1}
    alone = module.predict(pictures[1])
    mine = both["image_id"] == 1
    torch.testing.assert_close(both["initial"][mine], alone["initial"], atol=1e-2, rtol=1e-3)
    assert len(module.predict([])["scores"]) == 0
    with pytest.raises(UserError, match="uint8 RGB"):
        module.predict(pictures[0].astype(np.float32))
    for name in ("x.jpg", ["x.jpg"]):
        with pytest.raises(UserError, match=r"not the file name 'x\.jpg': read it by"):
            module.predict(name)


def test_overlays_show_people_and_attraction_maps(make):
    module = lively(make(centre_threshold=0.0, attraction_maps=True))
    picture = np.full((96, 96, 3), 120, dtype=np.uint8)
    rows = {name: value.numpy() for name, value in module.predict(picture).items()}
    assert len(rows["scores"])
    drawn = module.draw_overlay(picture, rows, 0.2)
    assert drawn.shape[0] > 96
    assert (picture == 120).all()
    nobody = {name: value[:0] for name, value in rows.items()}
    assert (module.draw_overlay(picture, nobody, 0.2) == 120).all()


def test_previews_draw_the_people_that_overlays_do(make, scenes):
    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False)
    trainer.datamodule = scenes
    batch, module = next(iter(scenes.val_dataloader())), make()
    count = len(batch["image"])
    joints = torch.full((2 * count, 17, 3), 0.02)  # products of two heatmap values, as of people found
    joints[..., :2] = torch.rand(2 * count, 17, 2) * 60 + 15
    scores = torch.tensor([0.06, 0.04]).repeat(count)
    found = {"keypoints": joints, "scores": scores, "image_id": batch["image_id"].repeat_interleave(2)}
    preview = PredictionPreview()
    preview.on_validation_batch_end(trainer, module, StepOutput(torch.tensor(0.0), count, predictions=found), batch, 0)
    assert len(preview._tiles) == count
    for row, tile in enumerate(preview._tiles):
        image, sure = denormalize_image(batch["image"][row]), joints[2 * row : 2 * row + 1].clone()
        sure[..., :2] = crop_points(sure[..., :2], batch["affine"][row : row + 1])
        sure[..., 2] = 1
        expected = draw_people(*enlarge(image, sure.numpy(), 3), COCO17)
        np.testing.assert_array_equal(tile[: len(expected)], expected)


def test_attraction_maps_grow_with_the_picture(make):
    module = make()
    rows = {
        "keypoints": np.full((1, 17, 3), 20.0), "initial": np.full((1, 17, 3), 20.0), "scores": np.ones(1),
        "attraction": np.zeros((1, 17, 11, 11)),
        "mesh": np.stack(np.meshgrid(np.arange(11.0), np.arange(11.0)), -1)[None, None].repeat(17, 1) + 15,
    }  # fmt: skip
    shares = []
    for side in (1000, 3000):
        drawn = module.draw_overlay(np.full((side, side, 3), 120, np.uint8), rows, 0.2)
        shares.append((drawn.shape[0] - side) / side)
        assert drawn.shape[1] < 1.1 * side
    assert shares[1] == pytest.approx(shares[0], rel=0.1)


def test_upper_bound_of_made_poses_and_of_a_network(make, scenes):
    bounds = [measure(scenes, noise=noise) for noise in (0.0, 4.0)]
    assert bounds[0]["AP_initial"] > 0.99
    assert bounds[1]["AP_initial"] < bounds[1]["AP_joint"]
    assert bounds[1]["AP_pose"] <= bounds[1]["AP_joint"]
    found = measure(scenes, lively(make(centre_threshold=0.0)), assignment="largest", batches=1)
    assert set(found) == {"AP_initial", "AP_joint", "AP_pose", "AP_refined"}
    with pytest.raises(UserError, match="assignment"):
        measure(scenes, assignment="first")
    narrow = measure(scenes, noise=4.0, expansion=make(radius=1).expansion)
    assert bounds[1]["AP_initial"] == narrow["AP_initial"] < narrow["AP_joint"] < bounds[1]["AP_joint"]


WORDS = ["--config", "logocap/synthetic_small", "--data.val_size=4", "--data.num_layers=24", "--model.init_from=null"]


def test_the_upper_bounds_command_takes_the_models_geometry(capsys):
    found = []
    for words in ([], ["--model.radius=1"]):
        main([*WORDS, *words])
        found.append(json.loads(capsys.readouterr().out)["noise 4 px"])
    assert found[0]["AP_initial"] == found[1]["AP_initial"]
    assert found[0]["AP_joint"] > found[1]["AP_joint"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--config", "nowhere.yaml"], "config nowhere.yaml does not exist"),
        (["--noise", "4"], "arguments are required: --config"),
        (["--config", "quickstart"], "config quickstart is of HDM: the upper bound is LogoCap's"),
        ([*WORDS[:-1], "--checkpoint", "nowhere.ckpt"], "checkpoint nowhere.ckpt does not exist"),
        ([*WORDS[:-1], "--checkpoint", "a.ckpt", "--model.radius=1"], "--model.radius does not go with --checkpoint"),
        ([*WORDS, "--data.view=crops"], "LogoCap needs scenes, but SyntheticPeople gives crops"),
        ([*WORDS, "--noise", "-4"], "noise must be a number of at least 0, not -4.0"),
        ([*WORDS, "--batches", "0"], "batches must be a whole number of at least 1"),
    ],
    ids=["config", "no_config", "method", "checkpoint", "model", "view", "noise", "batches"],
)
def test_the_upper_bounds_command_answers_mistakes_in_one_line(capsys, words, text):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("posekit: error: ")
    assert text in line


def test_maps_that_are_not_numbers_give_a_loss_that_is_none(make, batch):
    """As elsewhere in training; positions of NaN must not be looked up, which would end a GPU's process."""
    module = make()
    with torch.no_grad():
        module.network.final_layer_reg.bias.fill_(float("nan"))
    assert torch.isnan(module.step(batch, "train").loss)


def test_a_data_module_of_a_users_own_needs_loaders_alone(make, scenes):
    class Own(lightning.LightningDataModule):
        def val_dataloader(self):
            return scenes.val_dataloader()

    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    (values,) = trainer.validate(make(), Own(), verbose=False)
    assert "val/loss" in values
    assert "val/AP" not in values
