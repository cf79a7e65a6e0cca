"""Times decoding against the backbone: ``posekit bench logocap`` or ``python -m posekit_logocap.bench``."""

from __future__ import annotations

import json
from functools import partial

import torch
from torch import Tensor

from posekit.bench.timing import measure, one_thread
from posekit.errors import UserError
from posekit.resources import best_cpu_ms
from posekit_logocap.inference import decode_people
from posekit_logocap.module import LogoCap
from posekit_logocap.network import STRIDE, DenseMaps


def bench_logocap(
    height: int = 512,
    width: int = 704,
    backbone: str = "hrnet_w32",
    repeats: int = 5,
    cuda_sides: tuple[int, ...] = (384, 512),
) -> dict[str, float]:
    """Times the parts of inference on one CPU thread in one run; on CUDA besides, whole inference in pictures a second.

    Weights are random; the decoded maps are made, with well separated people, so that exactly so many are refined.

    Args:
        height: Of the picture, px.
        width: Of the picture, px.
        backbone: Name of the backbone.
        repeats: Runs, of which the quickest counts.
        cuda_sides: Short sides of 4:3 pictures timed on CUDA.

    Returns:
        Process CPU time in ms under ``*_ms``. ``decode_N`` is everything after the heads with N refined people, and
        ``decode_30_to_10`` with 30 centres of which pose NMS leaves ten; ``direct`` has plain convolutions in the
        message passing. ``*_ratio`` are relative to one backbone pass; ``images_per_s`` is
        of the whole with flip test and 30 people.
    """
    with one_thread():
        module = LogoCap(backbone=backbone, image_size=[height, height]).eval()
        image = torch.randn(1, 3, height, width).to(memory_format=torch.channels_last)
        result = _cpu_rows(module, image, repeats)
    if torch.cuda.is_available():
        result.update(_cuda_rows(module.cuda(), cuda_sides, repeats))
    return result


def _cpu_rows(module: LogoCap, image: Tensor, repeats: int) -> dict[str, float]:
    size = (image.shape[-2], image.shape[-1])
    network = module.network
    few, many, double = (made_maps(module, size, count, copies) for count, copies in ((5, 1), (30, 1), (10, 3)))
    with torch.inference_mode():
        result = {
            "backbone_ms": best_cpu_ms(lambda: network.branches(image), repeats),
            "backbone_and_heads_ms": best_cpu_ms(lambda: module(image), repeats),
            "decode_5_ms": best_cpu_ms(lambda: decode(module, few, size), repeats),
            "decode_30_ms": best_cpu_ms(lambda: decode(module, many, size), repeats),
            "decode_30_to_10_ms": best_cpu_ms(lambda: decode(module, double, size), repeats),
            "decode_30_direct_ms": best_cpu_ms(lambda: decode(module, many, size, fast=False), repeats),
            "flip_and_decode_30_ms": best_cpu_ms(lambda: (module.dense(image), decode(module, many, size)), repeats),
        }
    for name in ("decode_5", "decode_30", "decode_30_to_10", "decode_30_direct", "flip_and_decode_30"):
        result[f"{name}_ratio"] = result[f"{name}_ms"] / result["backbone_ms"]
    result["images_per_s"] = 1000 / result["flip_and_decode_30_ms"]
    return result


def decode(module: LogoCap, maps: DenseMaps, size: tuple[int, int], fast: bool = True) -> int:
    """Decodes maps of pictures of ``size`` (H, W) and returns the number of people."""
    sizes = torch.tensor([size], device=maps.heatmaps.device).expand(len(maps.heatmaps), 2)
    layers = module.inference_message_passing if fast else module.message_passing
    return len(decode_people(maps, sizes, module.expansion, layers, module.decoding).image)


def made_maps(module: LogoCap, size: tuple[int, int], count: int, copies: int, pictures: int = 1) -> DenseMaps:
    """Makes maps of separate people whose centres are found ``copies`` times.

    Args:
        module: Gives the numbers of channels.
        size: (H, W) of the picture, px.
        count: People.
        copies: Centres per person, a few cells apart, with the same joints.
        pictures: B.

    Raises:
        UserError: The picture is too small for so many people apart from one another.
    """
    random = torch.Generator().manual_seed(0)
    height, width, joints = size[0] // STRIDE, size[1] // STRIDE, len(module.skeleton)
    columns = max(1, round((count * width / height) ** 0.5))
    rows = -(-count // columns)
    wide, high = columns * (6 * copies - 2), rows * 4  # from the middle of a part: all centres, and a cell beside them
    if width < wide or height < high:
        raise UserError(f"a picture of {size[1]}x{size[0]} px is too small for {count} people apart from one another")
    number = torch.arange(count)
    middle_y = ((number // columns + 0.5) * height / rows).floor().long()
    middle_x = ((number % columns + 0.5) * width / columns).floor().long()
    heatmaps = 0.3 * torch.rand(1, joints + 1, height, width, generator=random)
    heatmaps[:, -1] = 0
    offsets = torch.zeros(1, 2 * joints, height, width)
    reach = min(height / rows, width / columns) / 2.5
    own = reach * (2 * torch.rand(count, 2 * joints, generator=random) - 1)
    for copy in range(copies):
        x, peak = middle_x + 3 * copy, 0.9 - 0.1 * copy
        # Unequal sides: a symmetric peak would become four pixels of equal height.
        for y, cell, height_share in ((middle_y, x, 1.0), (middle_y, x + 1, 0.5), (middle_y + 1, x, 0.4)):
            heatmaps[0, -1, y, cell] = height_share * peak
        shift = torch.tensor([3.0 * copy, 0.0]).repeat(joints)  # the joints stay where they are
        offsets[0, :, middle_y, x] = (own + shift).T
    embedding = torch.randn(1, module.network.embedding, height, width, generator=random)
    return DenseMaps(*(m.expand(pictures, -1, -1, -1).to(module.device) for m in (heatmaps, offsets, embedding)))


def _cuda_rows(module: LogoCap, sides: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Times backbone, flip test and decoding of ten people a picture."""
    result: dict[str, float] = {}
    for side in sides:
        size = (side, -(-side * 4 // 3 // 64) * 64)
        for batch in (1, 8):
            images = torch.randn(batch, 3, *size, device="cuda").to(memory_format=torch.channels_last)
            maps = made_maps(module, size, 10, 1, batch)
            for name, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
                with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype is not None):
                    timing = measure(partial(_infer, module, images, maps), images.device, repeats)
                result[f"cuda_{name}_{side}_batch{batch}_pictures_per_s"] = 1000 * batch / min(timing.ms)
    return result


def _infer(module: LogoCap, images: Tensor, maps: DenseMaps) -> None:
    module.dense(images)
    decode(module, maps, (images.shape[-2], images.shape[-1]))


if __name__ == "__main__":
    print(json.dumps({name: round(value, 3) for name, value in bench_logocap().items()}, indent=2))
