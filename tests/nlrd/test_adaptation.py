"""Stage B: what changes, what may not, and whose turn it is."""

import pytest
import torch
from lightning.pytorch import Callback

from posekit.data.loader import EpochSampler
from posekit.errors import UserError
from posekit_nlrd import NLRDData
from posekit_nlrd.augment import Draws
from posekit_nlrd.stages import Tools
from tests.nlrd.conftest import make_data, make_model, make_trainer
from tests.nlrd.figures import StickPeople

TERMS = ("lcr", "hcr", "flip_inplane", "flip_inplane_backward", "slow_backward")


def ready(**options):
    """A model that stands before its adaptation, with optimisers and a batch of clips."""
    torch.manual_seed(0)
    model = make_model([{"name": "adaptation", "steps": 10, "lr": 1e-3, **options}])
    stage = model.stages[0]
    data = StickPeople("clips", "target", size=2, labels=False)
    dataset = data.dataset("train")
    batch = {"target": {"image": torch.stack([dataset[i]["image"] for i in range(2)])}}
    stage.enter()
    return model, stage, stage.make_optimizers(), batch


def take(stage, optimizers, batch, step):
    draws = Draws(torch.device("cpu"), 0, step)
    return stage.step(batch, Tools(optimizers, lambda loss: loss.backward(), draws, step))


def copy(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_only_layer2_and_the_heads_change_bit_for_bit():
    model, stage, optimizers, batch = ready()
    before = copy(model)
    for step in range(5):
        take(stage, optimizers, batch, step)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    allowed = ("networks.image.trunk.layer2.", "networks.contrast.")
    assert changed
    assert all(name.startswith(allowed) for name in changed)
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    weights = {name for name in before if name.startswith(allowed) and "running" not in name and "num" not in name}
    assert changed == weights
    assert all(next(iter(o.state.values()))["step"] == 1 for o in optimizers)


def test_a_motion_step_leaves_the_pose_relations_moments_alone():
    _, stage, optimizers, batch = ready()
    for step in range(3):
        take(stage, optimizers, batch, step)
    moments = [v["exp_avg"].clone() for v in optimizers[2].state.values()]
    weights = stage.networks.image.trunk.layer2[0].weight.detach().clone()
    take(stage, optimizers, batch, 3)
    kept = [v["exp_avg"] for v in optimizers[2].state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, kept, strict=True))
    assert not torch.equal(weights, stage.networks.image.trunk.layer2[0].weight)


def test_terms_take_turns_and_log_the_sentinel():
    _, stage, optimizers, batch = ready()
    for step in range(6):
        logs = take(stage, optimizers, batch, step)
        assert TERMS[step % 5] in logs
        assert torch.isfinite(logs["loss"])
        assert 0 <= logs["z_saturated"] <= 1
        assert logs["z_std"] > 0


def test_stop_gradient_is_where_the_options_say():
    grads = {}
    for stop in (False, True):
        _, stage, optimizers, batch = ready(terms=["flip_inplane"], stop_pose=stop, jitter=0.0)
        take(stage, optimizers, batch, 0)
        grads[stop] = stage.networks.image.trunk.layer2[0].weight.grad.clone()
    assert (grads[True] - grads[False]).abs().max() > 0
    _, stage, optimizers, batch = ready(terms=["slow_backward"], stop_motion=True)
    take(stage, optimizers, batch, 0)
    assert stage.networks.image.trunk.layer2[0].weight.grad.abs().sum() > 0


def test_other_layers_adapt_by_option():
    model, stage, optimizers, batch = ready(layers=["layer3", "layer2"])
    assert stage.frozen_before == "layer2"
    before = copy(model)
    for step in range(5):
        take(stage, optimizers, batch, step)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert {name.split(".")[3] for name in changed if ".trunk." in name} == {"layer2", "layer3"}


def test_raw_features_and_first_anchor_of_paper_and_release():
    _, stage, optimizers, batch = ready(heads=False, first_anchor_only=True, random_frame=False)
    assert stage.heads() == []
    for step in range(2):
        assert torch.isfinite(take(stage, optimizers, batch, step)["loss"])


def test_identical_clips_give_log_b():
    _, stage, optimizers, batch = ready(jitter=0.0)
    image = batch["target"]["image"]
    image[1] = image[0]
    stage.networks.contrast["hcr"][0].weight.data.zero_()
    stage.networks.contrast["hcr"][0].bias.data.fill_(1.0)
    loss = take(stage, optimizers, batch, 1)["loss"]
    assert loss.item() == pytest.approx(torch.log(torch.tensor(2.0)).item(), rel=1e-4)


def test_pose_relations_spread_their_frames_over_the_window():
    _, stage, _, _ = ready(terms=["flip_inplane"], frames=6)
    window = torch.arange(60.0)[None, :, None, None, None].expand(2, 60, 3, 1, 1)
    starts = set()
    for step in range(12):
        numbers = stage._spread(window, Draws(torch.device("cpu"), step))[0, :, 0, 0, 0]
        assert numbers.diff().tolist() == [10.0] * 5
        starts.add(numbers[0].item())
    assert len(starts) > 3
    assert stage._spread(window[:, :4], Draws(torch.device("cpu"), 0)).shape[1] == 4


@pytest.mark.parametrize("frames", [25, 40, 59, 60])
def test_any_number_of_frames_is_spread_over_the_whole_window(frames):
    _, stage, _, _ = ready(terms=["flip_inplane"], frames=frames)
    window = torch.arange(60.0)[None, :, None, None, None]
    seen = torch.zeros(60)
    for step in range(300):
        numbers = stage._spread(window, Draws(torch.device("cpu"), step))[0, :, 0, 0, 0]
        gaps = numbers.diff()
        assert len(numbers) == frames
        assert gaps.min() == 60 // frames
        assert gaps.max() <= -(-60 // frames)
        seen[numbers.long()] += 1 / 300
    assert (seen - frames / 60).abs().max() < 0.15  # each frame as often as any other


def test_more_frames_than_the_window_has_are_refused(tmp_path):
    model = make_model([{"name": "adaptation", "steps": 1, "frames": 61}])
    model.networks.stages_done[:5] = True
    with pytest.raises(UserError, match=r"adaptation: frames is 61, but data\.target has windows of 60 frames"):
        make_trainer(tmp_path).fit(model, datamodule=make_data())


def test_frames_and_clips_bound_what_goes_through_g(monkeypatch):
    model, stage, optimizers, batch = ready(frames=5, motion_clips=1, terms=list(TERMS[2:]))
    seen = []
    features = model.networks.image.features
    monkeypatch.setattr(
        model.networks.image, "features", lambda images, *rest: (seen.append(len(images)), features(images, *rest))[1]
    )
    for step in range(3):
        take(stage, optimizers, batch, step)
    assert seen == [2 * 5, 2 * 5, 30, 30, 30, 30]  # both sides of the pose relation, then of two motion relations


def test_first_steps_may_estimate_batch_statistics():
    model, stage, optimizers, batch = ready(statistics_steps=2, frames=6)
    before = copy(model)
    frames = [stage._spread(batch["target"]["image"], Draws(torch.device("cpu"), 0, s)).flatten(0, 1) for s in (0, 1)]
    for step in range(2):
        assert take(stage, optimizers, batch, step)["loss"] == 0
    changed = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert all(name.startswith("networks.image.") for name in changed)
    assert {name.rsplit(".", 1)[1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    convolution, norm = model.networks.image.trunk.stem[:2]
    with torch.no_grad():
        means = [convolution(model.networks.image.normalize(x)).mean((0, 2, 3)) for x in frames]
    assert torch.allclose(norm.running_mean, torch.stack(means).mean(0), atol=1e-4)
    assert norm.momentum == 0.1
    assert not norm.training
    assert "lcr" in take(stage, optimizers, batch, 2)  # then the terms take their turns, from the first


def test_one_clip_serves_terms_that_contrast_nothing(tmp_path):
    stages = [{"name": "adaptation", "steps": 1, "terms": ["flip_inplane"], "motion_clips": 1}]
    model = make_model(stages)
    model.networks.stages_done[:5] = True
    clips = StickPeople("clips", "target", size=2, labels=False, batch_size=1)
    make_trainer(tmp_path, limit_val_batches=0).fit(model, datamodule=make_data(target=clips))
    assert model.iteration == 1


def test_supervised_term_takes_labelled_pictures(tmp_path):
    stages = [
        {"name": "pose", "steps": 1, "poses": 4},
        {"name": "source", "steps": 1},
        {"name": "adaptation", "steps": 2, "terms": ["lcr", "supervised"]},
    ]
    model = make_model(stages)
    trainer = make_trainer(tmp_path)
    trainer.fit(model, datamodule=make_data(labelled=StickPeople(domain="target", size=8, batch_size=4)))
    assert trainer.callback_metrics["train/adaptation/supervised"] > 0


@pytest.mark.parametrize("statistics", [0, 3])
@pytest.mark.parametrize("terms", [["lcr", "supervised", "flip_inplane"], ["supervised", "lcr"], ["lcr"]])
def test_steps_take_the_data_of_their_term_and_leave_no_batch_out(terms, statistics):
    stage = ready(terms=terms, statistics_steps=statistics)[1]
    counts = dict.fromkeys(stage.streams, 0)
    for step in range(3 + 3 * len(terms)):
        taken = stage.batches_at(step)
        supervised = step >= statistics and terms[(step - statistics) % len(terms)] == "supervised"
        assert step == 0 or list(taken) == ["labelled" if supervised else "target"]
        for stream, number in taken.items():
            assert number == counts[stream]
            counts[stream] += 1
    assert set(stage.batches_at(0)) == set(stage.streams)


def test_a_supervised_run_resumes_exactly_and_reads_what_it_needs(tmp_path, monkeypatch):
    options = {"name": "adaptation", "steps": 6, "lr": 1e-3, "terms": ["lcr", "supervised", "flip_inplane"]}
    finals, reads = [], []
    batch = NLRDData.step_batch
    monkeypatch.setattr(NLRDData, "step_batch", lambda data, *place: (reads.append(place), batch(data, *place))[1])
    for resumed in (False, True):
        torch.manual_seed(0)
        model = make_model([dict(options)])
        model.networks.stages_done[:5] = True
        path = tmp_path / "middle.ckpt" if resumed else None
        keep = _KeepAt(3, tmp_path / "middle.ckpt")
        trainer = make_trainer(tmp_path, limit_val_batches=0, callbacks=[] if resumed else [keep])
        trainer.fit(model, datamodule=make_data(epoch_steps=6), ckpt_path=path, weights_only=True if resumed else None)
        finals.append(model.state_dict())
    assert all(torch.equal(finals[0][name], finals[1][name]) for name in finals[0])
    places = [
        ("target", 0),
        ("labelled", 0),
        ("labelled", 1),
        ("target", 1),
        ("target", 2),
        ("labelled", 2),
        ("target", 3),
    ]
    assert [(stream, number) for stream, _, number in reads][:7] == places


class _KeepAt(Callback):
    def __init__(self, iteration, path):
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if module.iteration == self.iteration:
            trainer.save_checkpoint(self.path)


def test_evaluation_order_is_fixed():
    """The evaluation's sampler gives every sample once, whatever the epoch."""
    sampler = EpochSampler(range(5), 1, 0, shuffle=False)
    assert [index for _, index in sampler] == list(range(5))
