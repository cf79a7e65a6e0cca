"""Does the temporal part help? Trains TIP, its rivals and the single-frame network on the same synthetic clips.

    python examples/tip/gain.py --folder FOLDER [--seeds 0 1 2]

Clips have a blurred and occluded key frame (SyntheticPeople, video_hard). First the shipped network is tuned on key
frames alone, once. Every variant starts from that network; seeds are those of this second step. Temporal variants
keep the network frozen, so that its features are computed once; "single" goes on training it for as many steps.
Results are kept in FOLDER/results.json, and what is there is not run again. One thread; times are CPU time of the
second step.
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
    "decoder": "parabola", "start_from_single": True,
}  # fmt: skip
ALONE = "tip, key frame alone"  # the same network and steps without neighbours: what more layers give without time
NO_TERMS = {"gamma_info": 0.0, "gamma_s": 0.0}
VARIANTS = {
    "single": {"temporal": "single"},
    "tip": {},
    "tip, L_loc alone": NO_TERMS,
    "interpolation": {"temporal": "interpolation"},
    "difference": {"temporal": "difference"},
    ALONE: {},
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


def without_neighbours(clips):
    """Marks all frames but the key frames as missing: each key frame is its own neighbour."""
    alone = torch.zeros_like(clips["valid"])
    alone[torch.arange(len(alone)), clips["key"]] = True
    return {**clips, "valid": alone}


def batches(count, size):
    return torch.arange(count).split(size)


def pick(encoded, rows):
    """Returns encoded clips as frames in a row."""
    last = torch.channels_last
    return Frames(*(e[rows].float().flatten(0, 1).contiguous(memory_format=last) for e in encoded))


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
            batch = {name: value[rows] for name, value in clips.items()}
            loss, logs = temporal_step(module, batch, pick(encoded, rows))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"  {step:5d}", {k: round(float(v.detach()), 4) for k, v in logs.items()}, flush=True)
    return time.process_time() - start


@torch.inference_mode()
def evaluate(module, data, encoded=None):
    """Returns OKS AP and pixel errors of the key frames."""
    module.eval()
    clips = data["clips"]
    metric = KeypointAP(module.skeleton.sigmas)
    metric.set_targets(data["targets"])
    errors, seen = [], []
    for rows in batches(len(clips["key"]), 50):
        batch = {name: value[rows] for name, value in clips.items()}
        crops = key_crops(batch)
        if encoded is None:
            maps = module.network.encode(key_crops(take(clips, rows))["image"]).rough
        else:
            windows = key_windows(batch["frame"], batch["valid"], batch["key"], module.num_support)
            maps = module.network.estimate(pick(encoded, rows), windows).heatmaps
        found = module.predictions(crops, *module.decode(maps))
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


def first_step(folder, clips, data, steps):
    """Tunes the shipped network on key frames; returns its weights' file."""
    path = folder / f"single_{steps}.pth"
    if not path.is_file():
        torch.manual_seed(0)
        module = TIP(**COMMON, temporal="single", init_from="starter")
        cpu = train(module, clips, steps, 2e-3, 0)
        torch.save({"state_dict": module.state_dict()}, path)
        keep(folder / "results.json", "first step/0", {**evaluate(module, data), "cpu": cpu})
    return str(path)


def encoded_clips(folder, module, clips, data, steps):
    """Returns the frozen network's features of the training and of the test clips, computed once."""
    path = folder / f"encoded_{steps}.pt"
    if not path.is_file():
        torch.save([tuple(encode(module, c)) for c in (clips, data["clips"])], path)
    return [Frames(*e) for e in torch.load(path, weights_only=True)]


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
    parser.add_argument("--first", type=int, default=600, help="steps of 32 key frames")
    parser.add_argument("--steps", type=int, default=200, help="steps of 32 clips of each variant")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--single_lr", type=float, default=1e-3)
    parser.add_argument("--options", type=json.loads, default={}, help="further options of TIP, as JSON")
    parser.add_argument("--tag", default="", help="put after the variant's name in the results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    clips = make_clips(options.folder, "train", options.clips)["clips"]
    data = make_clips(options.folder, "test", options.test)
    results = options.folder / "results.json"
    start, encoded = first_step(options.folder, clips, data, options.first), None
    for seed, variant in ((seed, variant) for seed in options.seeds for variant in options.variants):
        name = f"{variant}{options.tag}/{seed}"
        if results.is_file() and name in json.loads(results.read_text()):
            continue
        print(name, flush=True)
        torch.manual_seed(seed)
        module = TIP(**{**COMMON, **VARIANTS[variant], **options.options}, init_from=start)
        if module.network.frozen:
            encoded = encoded or encoded_clips(options.folder, module, clips, data, options.first)
            seen, judged = (without_neighbours(c) if variant == ALONE else c for c in (clips, data["clips"]))
            cpu = train(module, seen, options.steps, options.lr, seed + 100, encoded[0])
            found = evaluate(module, {**data, "clips": judged}, encoded[1])
        else:
            cpu = train(module, clips, options.steps, options.single_lr, seed + 100)
            found = evaluate(module, data)
        keep(results, name, {**found, "cpu": cpu})
    show(results)


if __name__ == "__main__":
    main()
