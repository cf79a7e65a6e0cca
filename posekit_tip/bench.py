"""Measures what the temporal part adds to a frame of video: ``python -m posekit_tip.bench``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import torch

from posekit.bench.timing import one_thread
from posekit.data.batch import ClipBatch
from posekit.nn import count_macs
from posekit.resources import best_cpu_seconds
from posekit_tip.module import TIP
from posekit_tip.video import predict_clips

SIZES = {"small": (96, 128)}


def bench_tip(
    backbones: tuple[str, ...] = ("hrnet_w32", "small"), image_size: tuple[int, int] = (192, 256), repeats: int = 3
) -> dict[str, float]:
    """Times prediction on a video's clip against the single-frame network on the same frames, in one run.

    A clip has ``TIP.clip_frames`` frames, its halo included: those are encoded too, and not answered for. One CPU
    thread; the two are timed in turn, and the quickest run of each counts.

    Args:
        backbones: Networks; each stands once alone and once under the temporal part.
        image_size: (W, H) of the crops; the small network has 96 x 128.
        repeats: Runs of each.

    Returns:
        By backbone: process CPU time in ms per answered frame, ``*_single_ms`` and ``*_tip_ms``, their ``*_ratio``, and
        ``*_mac_ratio``, the ratio of multiply-adds of one frame without halo.
    """
    with one_thread():
        rows = [_bench_one(name, SIZES.get(name, image_size), repeats) for name in backbones]
    return {key: value for row in rows for key, value in row.items()}


def make_video(frames: int, size: tuple[int, int], halo: int, joints: int) -> ClipBatch:
    """Makes one clip of noise out of the middle of a video: all its frames are real, the halo is not answered for."""
    random = torch.Generator().manual_seed(0)
    answers = torch.zeros(1, frames, dtype=torch.bool)
    answers[:, halo : frames - halo] = True
    number = torch.arange(frames)[None]
    batch = {
        "image": torch.randn(1, frames, 3, size[1], size[0], generator=random),
        "keypoints": torch.zeros(1, frames, joints, 2),
        "visible": torch.zeros(1, frames, joints, dtype=torch.int64),
        "affine": torch.eye(2, 3).expand(1, frames, 2, 3),
        "box": torch.tensor([0.0, 0.0, size[0], size[1]]).expand(1, frames, 4),
        "box_score": torch.ones(1),
        "frame": number,
        "valid": torch.ones(1, frames, dtype=torch.bool),
        "key": torch.tensor([frames // 2]),
        "answers": answers,
        "row_ids": number,
        "image_id": number,
        "sample_id": torch.zeros(1, dtype=torch.int64),
        "track_id": torch.zeros(1, dtype=torch.int64),
    }
    return batch  # type: ignore[return-value]


def _bench_one(backbone: str, size: tuple[int, int], repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    whole = TIP(backbone=backbone, image_size=list(size)).eval()
    single = TIP(backbone=backbone, image_size=list(size), temporal="single").eval()
    clip = make_video(whole.clip_frames, size, whole.clip_halo, len(whole.skeleton))
    answered = whole.clip_frames - 2 * whole.clip_halo
    calls = {"single": lambda: predict_clips(single, clip), "tip": lambda: predict_clips(whole, clip)}
    with torch.inference_mode():
        best = _alternate(calls, repeats)
    crop = (1, 3, size[1], size[0])
    alone = count_macs(single.network, crop)
    three = count_macs(whole.network, (1, 3, *crop[1:]))
    return {
        **{f"{backbone}_{name}_ms": 1e3 * seconds / answered for name, seconds in best.items()},
        f"{backbone}_ratio": best["tip"] / best["single"],
        # A window alone encodes three frames; a video's window one.
        f"{backbone}_mac_ratio": (three - 2 * alone) / alone,
    }


def _alternate(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Returns the least CPU time of each call, in seconds; each run takes them in turn."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            best[name] = min(best[name], best_cpu_seconds(call, 1, warmup=0))
    return best


if __name__ == "__main__":
    print(json.dumps({name: round(value, 3) for name, value in bench_tip().items()}, indent=2))
