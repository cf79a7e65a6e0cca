"""Prediction on clips: every frame is encoded once, then each key frame is estimated from its neighbours' features."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from posekit.data.batch import ClipBatch, CropBatch, KeypointPrediction, answered_rows
from posekit.geometry import uncrop_points
from posekit.heatmaps import from_heatmap
from posekit_tip.network import Frames, TIPNetwork
from posekit_tip.sharing import Windows, windows_at
from posekit_tip.synthesizer import Interim, Located, locate

# At a time: a video's clip need not fit into memory at once, and on CPUs fewer maps stay in the cache.
FRAMES = 8
WINDOWS = 4


def encode_once(network: TIPNetwork, images: Tensor, part: int = FRAMES) -> Frames:
    """Encodes frames (N, 3, H, W), some at a time."""
    # Also of no frames: a detector may find nobody.
    parts = [network.encode(images[i : i + part]) for i in range(0, max(len(images), 1), part)]
    return Frames(torch.cat([p.features for p in parts]), torch.cat([p.rough for p in parts]))


def estimate_windows(
    network: TIPNetwork, frames: Frames, windows: Windows, part: int = WINDOWS
) -> tuple[Tensor, Tensor | None, Located | None]:
    """Estimates windows over encoded frames, some at a time.

    Returns:
        Heatmaps (M, J, h, w), the interim poses (M, J, K, 2) in heatmap px, and the joints of the frames as the
        single-frame network sees them; the latter two are None where no poses are synthesized.
    """
    if network.temporal is None:
        return frames.rough.index_select(0, windows.key), None, None
    poses = network.temporal.synthesizer is not None
    located = locate(frames.features, frames.rough, network.temporal.beta) if poses else None
    count = len(windows.key)
    outputs = [
        network.temporal(frames, windows.part(slice(i, i + part)), network.slots, located)
        for i in range(0, max(count, 1), part)
    ]
    interim = [cast(Interim, output.interim).points for output in outputs] if poses else []
    return torch.cat([output.heatmaps for output in outputs]), torch.cat(interim) if poses else None, located


def predict_clips(module: Any, clips: ClipBatch) -> KeypointPrediction:
    """Predicts the people of a batch of clips: one row per frame that a clip answers for.

    Those are the frames marked in ``answers`` (of a video's chunks all but the halo), or else each clip's key frame.
    Rows of a video carry ``track_id``; with ``module.interim`` also the interim poses, ``interim`` (N, J, K, 2), and
    the two ends of their lines, ``ends`` (N, J, 2, 2), in px of the original image.

    Args:
        module: A :class:`~posekit_tip.module.TIP`.
        clips: The batch.
    """
    fields = cast(dict[str, Tensor], clips)
    clip, place = answered(fields)
    windows = windows_at(clips["frame"], clips["valid"], clip, place, module.num_support)
    images = clips["image"]
    if module.temporal == "single":  # neighbours need not be encoded
        images = images[clip, place][:, None]
        windows = Windows(*(torch.arange(len(clip), device=clip.device) for _ in range(6)))
    network: TIPNetwork = module.network
    maps, interim, located = estimate_windows(network, encode_once(network, images.flatten(0, 1)), windows)
    maps = maps.float()
    if module.flip_test:
        mirrored = encode_once(network, images.flatten(0, 1).flip(-1))
        maps = module.merge_mirrored(maps, estimate_windows(network, mirrored, windows)[0])
    several = "row_ids" in fields
    rows = {name: fields[name][clip, place] for name in ("affine", "box", "image_id")}
    rows["box_score"] = clips["box_score"][clip]
    rows["sample_id"] = fields["row_ids"][clip, place] if several else clips["sample_id"][clip]
    points, scores = module.decode(maps)
    found = module.predictions(cast(CropBatch, rows), points, scores)
    if "track_id" in fields:
        found["track_id"] = fields["track_id"][clip]
    if module.interim and interim is not None and located is not None:
        ends = torch.stack([located.points[windows.start], located.points[windows.end]], dim=2)
        for name, value in (("interim", interim), ("ends", ends)):
            width, height = module.image_size
            crop = from_heatmap(value.float(), (height, width), maps.shape[-2:], module.mapping).flatten(1, 2)
            found[name] = uncrop_points(crop, rows["affine"]).unflatten(1, value.shape[1:3])
    return cast(KeypointPrediction, found)


def answered(fields: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns clip (M,) and place (M,) of the frames that a batch's clips answer for."""
    if "answers" in fields:
        clip, place = answered_rows(fields).nonzero(as_tuple=True)
        return clip, place
    return torch.arange(len(fields["key"]), device=fields["key"].device), fields["key"]
