"""A model and data of stick figures."""

import lightning as L
import torch

from posekit_nlrd import NLRD, NLRDData
from tests.nlrd.figures import StickMotion, StickPeople

CPU = torch.device("cpu")
SMALL = {"backbone": "tiny", "head_convs": [16], "head_widths": [32, 32], "relation_widths": [32, 16]}


def make_model(stages, **options):
    return NLRD(stages=stages, image_size=[48, 48], **{**SMALL, **options})


def make_data(**options):
    parts = {
        "motion": StickMotion(),
        "source": StickPeople(),
        "target": StickPeople("clips", "target", size=6, labels=False, batch_size=2),
        "test": StickPeople("crops", "target"),
    }
    return NLRDData(**{**parts, "epoch_steps": 4, **options})


def make_trainer(folder, **options):
    defaults = {
        "max_epochs": -1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": folder,
        "num_sanity_val_steps": 0, "deterministic": True,
    }  # fmt: skip
    return L.Trainer(**{**defaults, **options})


CHAIN = [
    {"name": "pose", "steps": 3, "poses": 8, "warmup_steps": 1},
    {"name": "motion", "steps": 2},
    {"name": "source", "steps": 2, "lr": 1e-3},
    {"name": "pose_relation", "steps": 2, "poses": 8},
    {"name": "motion_relations", "steps": 2},
    {"name": "adaptation", "steps": 5},
]
