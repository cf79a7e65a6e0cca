"""How well the frozen parts do on held-out motion: reconstruction in mm, and what the relation networks learned."""

from __future__ import annotations

import torch
from torch import Tensor

from posekit_nlrd.evaluation import LatentSpread, motion_mm
from posekit_nlrd.geometry import fit_canonical
from posekit_nlrd.losses import relation_energy
from posekit_nlrd.motion import LENGTH
from posekit_nlrd.networks import Networks
from posekit_nlrd.relations import Relation, latent_distance


@torch.no_grad()
def probe_motion(networks: Networks, windows: Tensor, done: set[str], spread: LatentSpread) -> dict[str, Tensor]:
    """Measures what the stages that are done, and the pose auto-encoder in any case, make of motion windows.

    Per relation r: ``r_energy`` (mean absolute error of T in the latent),
    ``r_distance`` (how far the transform moves the latent), ``r_mm`` (error of the decoded result against the
    transformed recording) and ``r_mm_decoder`` (the same where the true latent is decoded: what no T can pass).

    Args:
        networks: All networks.
        windows: (B, T, 17, 3) metres, frame V, the root at 0.
        done: Names of the stages that are done.
        spread: Takes the poses' latents in.
    """
    poses = windows.flatten(0, 1)
    latent = networks.encode_pose(fit_canonical(poses))
    found = {"pose_mm": motion_mm(networks.pose_decoder.pose(latent), poses)}
    spread.update(latent)
    if "motion" in done and windows.shape[1] >= LENGTH:
        clip = windows[:, :LENGTH]
        found["motion_mm"] = motion_mm(networks.decode_motion(networks.encode_motion(fit_canonical(clip))), clip)
    for name, relation in networks.kinds.items():
        needed = "motion_relations" if relation.is_motion else "pose_relation"
        if needed in done and windows.shape[1] >= relation.frames:
            found |= {
                f"{name}_{key}": value for key, value in _probe_relation(networks, name, relation, windows).items()
            }
    return found


def _probe_relation(networks: Networks, name: str, relation: Relation, windows: Tensor) -> dict[str, Tensor]:
    encode = networks.encode_motion if relation.is_motion else networks.encode_pose
    decode = networks.decode_motion if relation.is_motion else networks.pose_decoder.pose
    anchor, transformed = relation.motion_pair(windows)
    first, second = encode(fit_canonical(anchor)), encode(fit_canonical(transformed))
    predicted = networks.relate(name, first)
    return {
        "energy": relation_energy(predicted, second),
        "distance": latent_distance(first, second),
        "mm": motion_mm(decode(predicted), transformed),
        "mm_decoder": motion_mm(decode(second), transformed),
    }
