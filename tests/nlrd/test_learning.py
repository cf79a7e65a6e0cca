"""Each stage can learn: overfit smokes (section 8, test 12)."""

import pytest
import torch
import yaml
from torch import nn

from posekit.configs import shipped_configs
from posekit_nlrd.augment import Draws, ViewAugmentation
from posekit_nlrd.geometry import fit_canonical, to_local
from posekit_nlrd.relation import RelationNetwork
from posekit_nlrd.relations import make_relation
from posekit_nlrd.stages import Tools, build_stages
from posekit_nlrd.stages.pose import Turn
from tests.nlrd.conftest import make_model
from tests.nlrd.figures import wave

CPU = torch.device("cpu")
VIEW = {"tilt": 20.0, "tilt_probability": 1.0, "flip": 0.0}  # of the release, for motions


def steps(stage, batch, count, seed=0):
    """Runs steps of a stage without a trainer; returns what it logged."""
    optimizers = stage.make_optimizers()
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda taken, *_: stage.clip(taken))  # the trainer's part
    logs = []
    for step in range(count):
        stage.enter()
        tools = Tools(optimizers, lambda loss: loss.backward(), Draws(CPU, seed, step), step)
        logs.append({name: float(value) for name, value in stage.step(batch, tools).items()})
    return logs


class Unturned(ViewAugmentation):
    """Draws poses as they were recorded."""

    def __call__(self, windows, draws):
        return windows


def motion(count, frames):
    return {"motion": {"joints3d": torch.stack([wave(i, frames) for i in range(count)])}}


@pytest.mark.parametrize("name", ["motion", "pose_relation", "motion_relations"])
def test_views_are_tilted_as_often_as_the_options_say(name, monkeypatch):
    seen = []
    monkeypatch.setattr(ViewAugmentation, "__call__", lambda view, windows, draws: (seen.append(view), windows)[1])
    for given in ({}, VIEW):
        steps(make_model([{"name": name, **given}]).stages[0], motion(2, 60), 1)
    assert (seen[0].tilt, seen[0].tilt_probability, seen[0].flip) == (60.0, 0.5, 0.5)
    assert (seen[1].tilt, seen[1].tilt_probability, seen[1].flip) == (20.0, 1.0, 0.0)
    assert {view.reverse for view in seen} == ({0.0} if name == "pose_relation" else {0.5})


def test_the_preset_of_the_official_code_tilts_motions_always_and_mirrors_none():
    content = yaml.safe_load(shipped_configs()["nlrd/official_code.yaml"].read_text())
    stages = {stage["name"]: stage for stage in content["model"]["init_args"]["stages"]}
    for name in ("motion", "motion_relations"):
        assert {key: stages[name][key] for key in VIEW} == VIEW
    build_stages(list(stages.values()), make_model(["pose"], relations=["flip", "flip_backward"]).networks)


@pytest.mark.slow
def test_pose_auto_encoder_learns_a_few_poses_by_heart():
    torch.manual_seed(0)
    options = {
        "name": "pose",
        "poses": 32,
        "lr": 1e-3,
        "warmup_steps": 500,
        "tilt": 0.0,
        "critic_poses": 2,
        "clip": 10.0,
    }
    stage = make_model([options]).stages[0]
    stage.view = Unturned()
    logs = steps(stage, motion(1, 32), 400)
    assert logs[-1]["reconstruction"] < 0.1 * logs[0]["reconstruction"]


@pytest.mark.slow
def test_a_bone_that_points_the_opposite_way_turns_round():
    torch.manual_seed(0)
    options = {"name": "pose", "poses": 32, "lr": 1e-3, "warmup_steps": 500, "critic_poses": 2, "clip": 10.0}
    stage = make_model([options | {"local": 1.0, "tilt": 0.0}]).stages[0]
    stage.view = Unturned()
    windows = motion(1, 32)
    steps(stage, windows, 150)
    right_hip = stage.networks.pose_decoder.limbs[2]  # of the right leg; its first joint is the hip
    with torch.no_grad():
        right_hip.weight[:3].neg_()
        right_hip.bias[:3].neg_()
    steps(stage, windows, 150)
    pose = fit_canonical(windows["motion"]["joints3d"][0])
    with torch.no_grad():
        found = stage.networks.pose_decoder(stage.networks.encode_pose(pose))
    agreement = (found[:, 9] * to_local(pose)[:, 9]).sum(-1).mean()
    assert agreement > 0.9


def test_stages_of_relations_teach_their_own_kind_each_network_by_an_optimiser():
    names = ["slow_backward", "flip", "flip_backward", "inplane"]
    model = make_model(["pose", "motion", "pose_relation", "motion_relations"], relations=names)
    pose, _, poses, motions = model.stages
    assert poses.names == ["flip", "inplane"]
    assert motions.names == ["slow_backward", "flip_backward"]
    for stage in (pose, poses, motions):
        held = [group["params"] for optimizer in stage.make_optimizers() for group in optimizer.param_groups]
        assert [[*map(id, part)] for part in held] == [[*map(id, m.parameters())] for m in stage.trained()]


def test_turns_of_critic_and_auto_encoder_follow_the_last_steps_numbers():
    options = {"name": "pose", "poses": 8, "warmup_steps": 2, "cap": 3, "fake_accuracy": 1.1, "fooled": 1.1}
    stage = make_model([options]).stages[0]
    phases = []
    optimizers = stage.make_optimizers()
    for step in range(11):
        stage.enter()
        stage.step(motion(1, 8), Tools(optimizers, lambda loss: loss.backward(), Draws(CPU, step), step))
        phases.append(stage.turn.phase[0])
    assert "".join(phases) == "wwcccaaaccc"  # neither reaches its share: the cap hands over
    state = stage.state()
    other = make_model([options]).stages[0]
    other.load_state(state)
    assert other.turn == stage.turn


def test_the_preset_of_the_official_code_sets_no_limit_to_a_phase():
    content = yaml.safe_load(shipped_configs()["nlrd/official_code.yaml"].read_text())
    stages = content["model"]["init_args"]["stages"]
    options = build_stages(stages[:1], make_model(["pose"]).networks)[0].options
    for phase, short, enough in (
        ("warmup", [0.06, 0.9, 0.9], [0.04, 0.9, 0.9]),
        ("critic", [0.01, 0.9, 0.7], [0.01, 0.7, 0.9]),
        ("autoencoder", [0.01, 0.5, 0.9], [0.01, 0.3, 0.9]),
    ):
        turn = Turn(phase, taken=1_000_000, last=short)
        turn.advance(options)
        assert turn.phase == phase
        turn.last = enough
        turn.advance(options)
        assert turn.phase != phase


def test_only_the_one_whose_turn_it_is_learns():
    options = {"name": "pose", "poses": 8, "warmup_steps": 1, "cap": 1, "fake_accuracy": 1.1, "fooled": 1.1}
    stage = make_model([options]).stages[0]
    optimizers = stage.make_optimizers()
    seen = []
    for step in range(3):
        before = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in stage.trained()]
        stage.enter()
        stage.step(motion(1, 8), Tools(optimizers, lambda loss: loss.backward(), Draws(CPU, step), step))
        after = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in stage.trained()]
        seen.append([not torch.equal(a, b) for a, b in zip(before, after, strict=True)])
    assert seen == [[True, True, True], [False, False, True], [True, True, False]]


@pytest.mark.parametrize("adversary", ["latent", "both"])
def test_other_adversaries_run(adversary):
    options = {"name": "pose", "poses": 8, "warmup_steps": 1, "cap": 1}
    stage = make_model([options], adversary=adversary).stages[0]
    logs = steps(stage, motion(1, 8), 3)
    assert "critic" in logs[1]
    assert "generator" in logs[2]


def test_relation_network_learns_a_flip_of_a_linear_embedding():
    torch.manual_seed(0)
    flip = make_relation("flip")
    network = RelationNetwork(51, latent_range=10.0, widths=[128])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    pose = fit_canonical(torch.stack([wave(i, 16) for i in range(8)]).flatten(0, 1)) / 10
    anchor, positive = pose.flatten(-2), flip.pose(pose).flatten(-2)
    for _ in range(400):
        loss = nn.functional.mse_loss(network(anchor), positive)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3


@pytest.mark.parametrize("space", ["latent", "decoded", "both"])
def test_relation_stages_fall_in_every_loss_space(space):
    torch.manual_seed(0)
    stages = [{"name": "pose_relation", "poses": 16, "loss_space": space, "optimizer": "adam"}]
    stage = make_model(stages).stages[0]
    logs = steps(stage, motion(2, 8), 30, seed=0)
    assert sum(x["loss"] for x in logs[-5:]) < sum(x["loss"] for x in logs[:5])


def test_motion_auto_encoder_and_source_fall():
    torch.manual_seed(0)
    model = make_model([{"name": "motion", "lr": 1e-3, "velocity_weight": 1.0, "latent_weight": 1.0}])
    logs = steps(model.stages[0], motion(2, 30), 15)
    assert logs[-1]["loss"] < logs[0]["loss"]
    source = make_model([{"name": "source", "steps": 9, "lr": 1e-3, "latent_weight": 1.0, "tilt_probability": 0.5}])
    pose = torch.stack([wave(i, 1)[0] for i in range(4)])
    batch = {"source": {"image": torch.randn(4, 3, 48, 48), "pose": pose, "weight": torch.ones(4, 17)}}
    logs = steps(source.stages[0], batch, 10)
    assert logs[-1]["loss"] < logs[0]["loss"]
    assert source.networks.unit.item() == pytest.approx(0.11, rel=1e-3)
    assert int(source.networks.image.trunk.layer1[1].num_batches_tracked) == 10  # batch statistics are learned here


def test_relation_networks_learn_on_mixtures_of_latents():
    """With ``mixed: 1`` every anchor is a mixture, and its pose is what the mixture decodes to."""
    torch.manual_seed(0)
    model = make_model([{"name": "pose_relation", "poses": 16, "mixed": 1.0}], relations=["flip"])
    stage, networks = model.stages[0], model.networks
    pose = fit_canonical(torch.randn(16, 17, 3))
    latent = networks.encode_pose(pose)
    with torch.no_grad():
        mixture, decoded = stage._mix(latent, pose, Draws(torch.device("cpu"), 0))
    assert torch.equal(decoded, networks.pose_decoder.pose(mixture))
    between = torch.minimum(latent, latent.roll(1, 0)) - 1e-5, torch.maximum(latent, latent.roll(1, 0)) + 1e-5
    assert ((mixture >= between[0]) & (mixture <= between[1])).all()
    assert (mixture - latent).abs().amax(1).gt(1e-4).float().mean() > 0.8
