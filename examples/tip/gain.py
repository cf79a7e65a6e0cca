"""Does the temporal part help? Trains TIP, its rivals and the single-frame network on the same synthetic clips.

    python examples/tip/gain.py --folder FOLDER [--seeds 3]

Clips have a blurred and occluded key frame (SyntheticPeople, difficulty video_hard). Every seed first tunes the shipped
network on key frames alone; each variant then starts from that network and keeps it frozen, so that its features are
computed once. Results are kept in FOLDER/results.json, and what is there is not run again. One thread; times are CPU
time, of a temporal variant without its share of the features.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from posekit.data import SyntheticPeople
from posekit.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from posekit.metrics import KeypointAP
from posekit.optim import build_optimizer, build_schedule
from posekit_tip import TIP
from posekit_tip.network import Frames
from posekit_tip.sharing import key_crops, key_windows

FIELDS = ("keypoints", "visible", "affine", "box", "box_score", "frame", "valid", "key", "image_id", "sample_id")
COMMON = {
    "backbone": "small", "image_size": [96, 128], "group_channels": 16, "sigma": 1.0, "round_center": False,
    "decoder": "parabola", "residual_maps": True,
}  # fmt: skip
NO_TERMS = {"gamma_info": 0.0, "gamma_s": 0.0}
VARIANTS = {
    "single": {"temporal": "single"},
    "tip": {},
    "tip, L_loc alone": NO_TERMS,
    "interpolation": {"temporal": "interpolation"},
    "difference": {"temporal": "difference"},
}


def make_clips(folder, split, count):
    """Draws clips once, as bytes; every variant and seed sees the same."""
    path = folder / f"{split}_{count}.pt"
    if not path.is_file():
        sizes = {"train_size": 1, "val_size": 1, "test_size": 1, f"{split}_size": count}
        data = SyntheticPeople(view="clips", difficulty="video_hard", skeleton="POSETRACK15", **sizes)
        dataset = data.dataset(split)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        rows = [dataset[(0, i)] for i in range(count)]
        clips = {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in FIELDS}
        clips["image"] = torch.stack([((r["image"] * std + mean) * 255).round().to(torch.uint8) for r in rows])
        targets = data.ground_truth(split) if split != "train" else None
        torch.save({"clips": clips, "targets": targets}, path)
    return torch.load(path, weights_only=False)


def take(clips, rows):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    batch = {name: value[rows] for name, value in clips.items()}
    batch["image"] = (batch["image"].float() / 255 - mean) / std
    return batch


@torch.inference_mode()
def encode(module, clips):
    """Returns the frozen network's features and rough maps of all frames, (N, T, ...) each, at half precision."""
    module.eval()
    parts = [module.network.encode(take(clips, rows)["image"].flatten(0, 1)) for rows in batches(len(clips["key"]), 32)]
    length = clips["image"].shape[1]
    return Frames(
        *(torch.cat([p.half() for p in column]).unflatten(0, (-1, length)) for column in zip(*parts, strict=True))
    )


def batches(count, size):
    return torch.arange(count).split(size)


def temporal_step(module, batch, frames):
    """What ``TIP.step`` does behind the backbone."""
    windows = key_windows(batch["frame"], batch["valid"], batch["key"], module.num_support)
    output = module.network.estimate(frames, windows)
    crops = key_crops(batch)
    target, _, weight = module.codec(output.heatmaps.shape[-2:]).encode(crops["keypoints"], crops["visible"])
    return module.objective.temporal(output, module.network.temporal, windows, target, weight)


def train(module, clips, steps, lr, seed, encoded=None, batch_size=32):
    """Trains with one cycle; returns CPU seconds."""
    start = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    optimizer = build_optimizer(module.parameter_groups(), "adamw", lr, 1e-4)
    schedule = build_schedule(optimizer, "onecycle", total_steps=steps, steps_per_epoch=steps)
    module.train()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(len(clips["key"]), generator=generator)
        rows, order = order[:batch_size], order[batch_size:]
        if encoded is None:
            output = module.step(take(clips, rows), "train")
            loss, logs = output.loss, output.logs
        else:
            last = torch.channels_last
            frames = Frames(*(e[rows].float().flatten(0, 1).contiguous(memory_format=last) for e in encoded))
            loss, logs = temporal_step(module, {name: value[rows] for name, value in clips.items()}, frames)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"  {step:5d}", {k: round(float(v.detach()), 4) for k, v in logs.items()}, flush=True)
    return time.process_time() - start


@torch.inference_mode()
def evaluate(module, data):
    """Returns OKS AP and pixel errors of the key frames."""
    module.eval()
    clips = data["clips"]
    metric = KeypointAP(module.skeleton.sigmas)
    metric.set_targets(data["targets"])
    errors, seen = [], []
    for rows in batches(len(clips["key"]), 50):
        batch = take(clips, rows)
        crops = key_crops(batch)
        found = module.predict_step(batch, 0)
        metric.update_rows(found)
        points = torch.einsum("bij,bkj->bki", crops["affine"][..., :2], found["keypoints"][..., :2])
        distance = (points + crops["affine"][:, None, :, 2] - crops["keypoints"]).norm(dim=-1)
        errors.append(distance[crops["visible"] > 0])
        seen.append(distance[crops["visible"] == 2])
    values = metric.compute()
    return {
        "AP": float(values["AP"]), "AP50": float(values["AP50"]), "AP75": float(values["AP75"]),
        "median": float(torch.cat(errors).median()), "error": float(torch.cat(errors).mean()),
        "seen": float(torch.cat(seen).mean()),
    }  # fmt: skip


def first_step(folder, seed, clips, data, steps):
    """Tunes the shipped network on key frames; returns its weights' file."""
    path = folder / f"single_{seed}_{steps}.pth"
    results = folder / "results.json"
    if not path.is_file():
        torch.manual_seed(seed)
        module = TIP(**COMMON, temporal="single", init_from="starter", init_head=False)
        cpu = train(module, clips, steps, 2e-3, seed)
        torch.save({"state_dict": module.state_dict()}, path)
        keep(results, f"first step/{seed}", {**evaluate(module, data), "cpu": cpu})
    return str(path)


def keep(path, name, value):
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[name] = value
    path.write_text(json.dumps(known, indent=1))
    print(name, {k: round(v, 4) for k, v in value.items()}, flush=True)


def show(path):
    """Prints means and ranges over the seeds."""
    known = json.loads(path.read_text())
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in known))
    print("| variant | seeds | AP | AP50 | AP75 | median px | mean px | seen px | CPU-s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        rows = [value for key, value in known.items() if key.rpartition("/")[0] == name]
        cells = []
        for column in ("AP", "AP50", "AP75", "median", "error", "seen"):
            values = [row[column] for row in rows]
            digits = 3 if column.startswith("AP") else 2
            span = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if column == "AP" else ""
            cells.append(f"{statistics.mean(values):.{digits}f}{span}")
        print(f"| {name} | {len(rows)} | {' | '.join(cells)} | {statistics.mean(r['cpu'] for r in rows):.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--first", type=int, default=300, help="steps on key frames")
    parser.add_argument("--steps", type=int, default=400, help="steps of each variant")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--options", type=json.loads, default={}, help="further options of TIP, as JSON")
    parser.add_argument("--tag", default="", help="put after the variant's name in the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    clips = make_clips(options.folder, "train", options.clips)["clips"]
    data = make_clips(options.folder, "test", options.test)
    results = options.folder / "results.json"
    for seed in options.seeds:
        start = first_step(options.folder, seed, clips, data, options.first)
        encoded = None
        for variant in options.variants:
            name = f"{variant}{options.tag}/{seed}"
            if results.is_file() and name in json.loads(results.read_text()):
                continue
            print(name, flush=True)
            torch.manual_seed(seed)
            module = TIP(**{**COMMON, **VARIANTS[variant], **options.options}, init_from=start)
            frozen = module.network.frozen
            if frozen and encoded is None:
                kept = options.folder / f"encoded_{seed}_{options.first}.pt"
                if not kept.is_file():
                    torch.save(tuple(encode(module, clips)), kept)
                encoded = Frames(*torch.load(kept, weights_only=True))
            lr = 2e-3 if module.temporal == "single" else options.lr
            cpu = train(module, clips, options.steps, lr, seed + 100, encoded if frozen else None)
            keep(results, name, {**evaluate(module, data), "cpu": cpu})
    show(results)


if __name__ == "__main__":
    main()
