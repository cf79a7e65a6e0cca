"""Shipped configs at their smallest size: few samples, one step a stage, tiny folders in place of the data sets.

Data sets whose files are too much to make up here (films, motion-capture studios) are replaced by drawn people of the
same view, frames, joints and picture size; their readers are tested in ``tests/data3d``.
"""

import copy
import json
import shutil

from tests.data.posetrack_made import make_2017, make_2018

_DRAWN = {"train_size": 4, "val_size": 2, "test_size": 2, "num_render_workers": 1}
_KEPT = ("view", "skeleton", "image_size", "frames", "batch_size", "labels", "domain")


def shrink(config, roots):
    """Returns a config that runs in seconds.

    Args:
        config: A shipped config's content.
        roots: ``(class name, arguments) -> folder`` for the data sets that there are small folders of.
    """
    config = copy.deepcopy(config)
    model = config["model"]["init_args"]
    for key in ("body", "mean_params", "backbone_weights"):
        model.pop(key, None)
    if "/" in str(model.get("init_from", "")):  # a file that the user brings
        model["init_from"] = None
    model.update({"stages": [_small_stage(s) for s in model["stages"]]} if "stages" in model else {})
    config["data"] = _small_data(config["data"], roots)
    trainer = config.setdefault("trainer", {})
    trainer |= {"accelerator": "cpu", "limit_val_batches": 1, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    if "stages" not in model:
        trainer |= {"limit_train_batches": 1, "max_epochs": 1, "check_val_every_n_epoch": 1}
    return config


def learns_from_pictures(config):
    """Returns whether a config has pictures, so that it can predict."""
    data = config["data"]["init_args"]
    return "motion" not in data or "source" in data


def _small_stage(stage):
    stage = {"name": stage} if isinstance(stage, str) else dict(stage)
    stage.pop("epochs", None)
    for key in ("warmup_steps", "poses", "critic_poses"):
        if key in stage:
            stage[key] = 4
    if "statistics_steps" in stage:  # the one step is one of a loss
        stage["statistics_steps"] = 0
    return stage | {"steps": 1}


def _small_data(data, roots):
    name, options = data["class_path"], dict(data.get("init_args", {}))
    for key in ("clips", "images"):
        if isinstance(options.get(key), dict):
            options[key] = {n: p | {"data": _small_data(p["data"], roots)} for n, p in options[key].items()}
    for key, value in options.items():
        if isinstance(value, dict) and "class_path" in value:
            options[key] = _small_data(value, roots)
    for key in ("batch_size", "clip_batch_size", "image_batch_size"):
        if key in options:
            options[key] = 2
    options |= {key: 0 for key in ("num_workers",) if key in options}
    if "epoch_steps" in options:
        options["epoch_steps"] = 2
    root = roots(name, options)
    if root is not None:
        return {"class_path": name, "init_args": options | {"root": str(root)}}
    if name in ("SyntheticPeople", "Mixture", "NLRDData"):
        return {"class_path": name, "init_args": options | (_DRAWN if name == "SyntheticPeople" else {})}
    return {"class_path": "SyntheticPeople", "init_args": _drawn(name, options)}


def _drawn(name, options):
    kept = {key: options[key] for key in _KEPT if key in options}
    kept.setdefault("view", "motion" if name in ("CMUMoCap", "AMASS") else "clips" if "frames" in options else "crops")
    kept.setdefault("skeleton", "SPIN49")
    if kept["view"] == "motion":
        kept["skeleton"] = options.get("skeleton", "LIMB17")
        kept.pop("image_size", None)
        return kept | _DRAWN
    kept.setdefault("image_size", [224, 224])
    if kept["view"] == "clips":
        kept |= {"clip_box": "frame", "frame_step": 1}
    return kept | _DRAWN


class Roots:
    """Makes the small folders of data sets, each once.

    Args:
        folder: Where to.
        coco: Folder of a small COCO.
        mpii: Folder of a small MPII.
    """

    def __init__(self, folder, coco, mpii):
        self.folder = folder
        self.made = {"COCOKeypoints": coco, "MPII": mpii}

    def __call__(self, name, options):
        """Returns the root of a data set, or None for one that there is no small folder of."""
        key = name + str(options.get("version", ""))
        if key in self.made:
            return self.made[key]
        if name == "CrowdPose":
            self.made[key] = self.crowdpose(self.folder / key)
        elif name == "PoseTrack":
            self.made[key] = self.posetrack(self.folder / key, str(options.get("version", "2018")))
        return self.made.get(key)

    def crowdpose(self, root):
        (root / "json").mkdir(parents=True)
        source = self.made["COCOKeypoints"]
        shutil.copytree(source / "val2017", root / "images")
        content = json.loads((source / "annotations/person_keypoints_val2017.json").read_text())
        for annotation in content["annotations"]:
            annotation["keypoints"] = annotation["keypoints"][:42]
        names = [
            "left_shoulder",
            "right_shoulder",
            "left_elbow",
            "right_elbow",
            "left_wrist",
            "right_wrist",
            "left_hip",
            "right_hip",
            "left_knee",
            "right_knee",
            "left_ankle",
            "right_ankle",
            "head",
            "neck",
        ]
        content["categories"][0]["keypoints"] = names
        for image in content["images"]:
            image["crowdIndex"] = 0.5
        for split in ("train", "val", "trainval", "test"):
            (root / "json" / f"crowdpose_{split}.json").write_text(json.dumps(content))
        return root

    def posetrack(self, root, version):
        if version == "2017":
            make_2017(root, "train", ("000003_a_relpath_5sec", "000004_b_relpath_5sec"))
            make_2017(root, "val")
            return root
        for split in ("train", "val"):
            make_2018(root, split)
        return root
