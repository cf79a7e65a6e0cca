"""A person who walks before a camera, and files of the data sets that show them."""

import cv2
import numpy as np

INTRINSICS = np.array([[1100.0, 0.0, 500.0], [0.0, 1100.0, 480.0], [0.0, 0.0, 1.0]])

# Camera frame, metres: x right, y down, z forward. The person faces the camera, so the left side is at x > 0.
_TRUNK = {
    "pelvis": (0, 0, 0), "spine": (0, -0.25, 0), "thorax": (0, -0.5, 0), "neck": (0, -0.5, 0),
    "head": (0, -0.62, -0.05),
    "head_top": (0, -0.75, 0), "spine1": (0, -0.1, 0), "spine2": (0, -0.25, 0), "spine3": (0, -0.35, 0),
    "nose": (0, -0.62, -0.1),
}  # fmt: skip
_SIDE = {
    "hip": (0.1, 0.02, 0), "knee": (0.11, 0.45, -0.03), "ankle": (0.1, 0.87, 0), "foot": (0.1, 0.92, -0.15),
    "toe": (0.1, 0.93, -0.2), "shoulder": (0.18, -0.48, 0), "elbow": (0.25, -0.2, 0.02), "wrist": (0.27, 0.05, -0.05),
    "hand": (0.27, 0.12, -0.07), "clavicle": (0.05, -0.48, 0), "collar": (0.06, -0.45, 0), "eye": (0.03, -0.66, -0.09),
    "ear": (0.07, -0.64, 0),
}  # fmt: skip


def positions(frames, depth=4.0):
    """Returns the joints by name, each (frames, 3), of a person who sways and comes nearer."""
    time = np.arange(frames)[:, None]
    path = np.concatenate([0.02 * time, 0 * time, depth - 0.03 * time], 1)
    found = {name: path + np.array(place) for name, place in _TRUNK.items()}
    for joint, place in _SIDE.items():
        for side, sign in (("left", 1), ("right", -1)):
            swing = 0.02 * sign * np.sin(0.5 * time)
            found[f"{side}_{joint}"] = (
                path + np.array(place) * [sign, 1, 1] + np.concatenate([swing, 0 * swing, swing], 1)
            )
    return found


def points_of(names, frames, depth=4.0, aliases=None):
    """Returns (frames, J, 3) of named joints; names that nobody knows are near the pelvis."""
    known = positions(frames, depth)
    aliases = aliases or {}
    return np.stack([known.get(aliases.get(name, name), known["spine1"]) for name in names], 1)


def project(points, intrinsics=INTRINSICS):
    """Projects camera points (…, 3) to px (…, 2)."""
    image = points @ intrinsics.T
    return image[..., :2] / image[..., 2:]


def grey(number):
    """The brightness of picture ``number``: tells frames apart."""
    return 30 + 15 * number


def write_pictures(folder, pattern, count, size=(1000, 1000), offset=0):
    """Writes plain pictures, each of its own brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = np.full((size[1], size[0], 3), grey(number), np.uint8)
        assert cv2.imwrite(str(folder / (pattern % (number + offset))), picture)


def write_video(path, count, size=(320, 240), fps=30.0):
    """Writes a video of plain pictures, each of its own brightness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), grey(number), np.uint8))
    writer.release()


def brightness(image):
    """Returns the brightness in the middle of normalised images (…, 3, H, W)."""
    height, width = image.shape[-2:]
    middle = image[..., height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2].mean((-1, -2))
    return (middle[..., 1] * 0.224 + 0.456) * 255


def handedness(points, skeleton):
    """Returns (left x up) . forward of points (…, K, 3): positive where left is left."""
    at = skeleton.index
    left = points[..., at("left_shoulder"), :] - points[..., at("right_shoulder"), :]
    left = left + points[..., at("left_hip"), :] - points[..., at("right_hip"), :]
    middle = (points[..., at("left_hip"), :] + points[..., at("right_hip"), :]) / 2
    up = (points[..., at("left_shoulder"), :] + points[..., at("right_shoulder"), :]) / 2 - middle
    feet = [points[..., at(f"{s}_foot"), :] - points[..., at(f"{s}_ankle"), :] for s in ("left", "right")]
    forward = feet[0] + feet[1]
    return (np.cross(left, up) * forward).sum(-1)
