"""The trainer's precisions: double learns what single does, 16-bit batches are refused."""

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import HalfPrecision

from posekit.cli import main
from posekit.data import SyntheticPeople
from posekit.errors import UserError
from posekit_hdm import HDM
from posekit_logocap import LogoCap
from posekit_maed import MAED
from posekit_nlrd import NLRD
from posekit_tip import TIP
from tests.cli.toys import Toy, ToyData
from tests.nlrd.conftest import make_data, make_model

DRAWN = {"train_size": 4, "val_size": 4, "batch_size": 4, "num_render_workers": 1}
STAGES = [
    {"name": "pose", "steps": 2, "poses": 8, "warmup_steps": 1},  # auto-encoder, critic
    {"name": "motion", "steps": 1},
    {"name": "source", "steps": 1},
    {"name": "pose_relation", "steps": 1, "poses": 8},
    {"name": "motion_relations", "steps": 1},
    {"name": "adaptation", "steps": 5},
]


def hdm():
    data = SyntheticPeople(image_size=[64, 64], **DRAWN)
    return HDM(backbone="small", image_size=[64, 64], loss="corner_ce"), data


def tip():
    data = SyntheticPeople(view="clips", skeleton="POSETRACK15", image_size=[64, 64], frames=3, **DRAWN)
    return TIP(backbone="small", image_size=[64, 64], group_channels=8, residual_offset=True), data


def logocap():
    small = {"embedding": 8, "offset_channels": 16, "message_channels": [16, 16, 8], "window": 24}
    data = SyntheticPeople(view="scenes", image_size=[96, 96], **DRAWN)
    return LogoCap(backbone="small", image_size=[96, 96], **small), data


def maed(**options):
    small = {"num_blocks": 2, "num_heads": 2, "embed_dim": 16, "hidden_dim": 24, "max_frames": 4, "dropout": 0.0}
    data = SyntheticPeople(view="clips", skeleton="SPIN49", image_size=[64, 64], frames=2, **DRAWN)
    return MAED(backbone="small", image_size=[64, 64], **small, **options), data


def maed_iterative():
    return maed(decoder="iterative")


def nlrd():
    return make_model(STAGES), make_data(epoch_steps=11)


def nlrd_joints():
    model = make_model([STAGES[0], STAGES[2]], backbone="small", head="joints", head_convs=None)
    return model, make_data(epoch_steps=3)


def trainer(**options):
    return L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, max_epochs=1, **options,
    )  # fmt: skip


def fit(make, precision):
    torch.manual_seed(0)
    module, data = make()
    run = trainer(precision=precision, max_steps=-1 if isinstance(module, NLRD) else 1)
    run.fit(module, datamodule=data)
    picture = np.full((60, 80, 3), 90, np.uint8)
    found = module.predict([picture] * 2 if isinstance(module, MAED) else picture)
    assert all(torch.isfinite(value).all() for value in found.values())
    return {name: value.item() for name, value in run.callback_metrics.items()}


@pytest.mark.parametrize("make", [hdm, tip, logocap, maed, maed_iterative, nlrd, nlrd_joints])
def test_double_precision_learns_what_single_does(make):
    single, double = fit(make, "32-true"), fit(make, "64-true")
    assert single.keys() == double.keys()
    losses = [name for name in single if "loss" in name or "reconstruction" in name or name == "val/motion_mm"]
    assert any(name.startswith("val/") for name in losses) or make is nlrd_joints
    assert [double[name] for name in losses] == pytest.approx([single[name] for name in losses], rel=2e-3)


class Rounding(HalfPrecision):
    """Rounds batches to bfloat16 under another name, as plugins of strategies and of Transformer Engine do."""

    def __init__(self, name):
        super().__init__("bf16-true")
        self.precision = name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "bf16-true"}, r"precision bf16-true .* coordinates too: 187\.3 px becomes 187; set"),
        ({"precision": "16-true"}, r"187\.3 px becomes 187\.25; set trainer\.precision to bf16-mixed or 16-mixed$"),
        ({"plugins": [Rounding("transformer-engine")]}, "precision transformer-engine .* to bf16-mixed or 16-mixed$"),
        ({"plugins": [Rounding("bf16-mixed")]}, r"precision bf16-mixed makes .* to 32-true$"),
    ],
)
def test_precisions_that_round_coordinates_are_refused(options, text):
    for verb in ("fit", "validate", "test", "predict"):
        with pytest.raises(UserError, match=text) as caught:
            getattr(trainer(**options), verb)(Toy(), datamodule=ToyData())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [hdm, tip, logocap, maed, nlrd])
def test_every_method_refuses_them(make):
    for verb in ("fit", "validate", "predict"):
        module, data = make()
        with pytest.raises(UserError, match="precision bf16-true makes 16-bit numbers"):
            getattr(trainer(precision="bf16-true"), verb)(module, datamodule=data)


def test_a_refused_precision_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["fit", "--model=Toy", "--data=ToyData", "--trainer.precision=16-true", "--trainer.accelerator=cpu"])
    assert capsys.readouterr().err.strip().endswith("set trainer.precision to bf16-mixed or 16-mixed")
    assert not list(tmp_path.iterdir())
