"""PoseTrack folders in the official layouts, small: two sequences, people with tracks, unlabelled frames between."""

import json

import cv2
import numpy as np

from posekit.posetrack import SLOTS_2018
from posekit.skeletons import POSETRACK15

SIZE = (160, 120)
FRAMES = 6
LABELLED = (0, 2, 3)


def joints_of(person, frame):
    """15 joints of a person who walks to the right."""
    rng = np.random.default_rng(person)
    points = rng.uniform([20, 20], [60, 100], (15, 2)) + np.array([40 * person + 2 * frame, 0])
    return np.round(points, 2)


def write_frames(folder, start, digits, count=FRAMES):
    folder.mkdir(parents=True)
    for frame in range(count):
        picture = np.full((SIZE[1], SIZE[0], 3), 30 * (frame + 1), np.uint8)
        cv2.imwrite(str(folder / f"{frame + start:0{digits}d}.jpg"), picture)


def make_2018(root, split="val", sequences=("000001_a", "000002_b"), names=SLOTS_2018, listed=range(FRAMES)):
    """Writes the 2018 form; the second person is not there in frame 3. Returns the annotations' folder."""
    folder = root / "annotations" / split
    folder.mkdir(parents=True)
    for number, name in enumerate(sequences, 1):
        write_frames(root / "images" / split / name, 0, 6)
        images, annotations = [], []
        for frame in listed:
            image_id = 10_000_000_000 + number * 10_000 + frame
            labelled = frame in LABELLED
            images.append(
                {
                    "id": image_id, "file_name": f"images/{split}/{name}/{frame:06d}.jpg", "frame_id": image_id,
                    "vid_id": f"{number:06d}", "nframes": FRAMES, "is_labeled": labelled,
                    "ignore_regions_x": [[150, 159, 159]], "ignore_regions_y": [[0, 0, 9]],
                }
            )  # fmt: skip
            for person in range(2) if labelled else ():
                if (person, frame) == (1, 3):
                    continue
                joints = joints_of(person, frame)
                values = np.zeros((len(names), 3))
                for slot, joint in enumerate(names):
                    known = "head_bottom" if joint == "neck" else joint
                    if known in POSETRACK15.joints:
                        values[slot] = *joints[POSETRACK15.index(known)], 1
                low, high = joints.min(0), joints.max(0)
                annotations.append(
                    {
                        "id": image_id * 10 + person, "image_id": image_id, "track_id": person, "category_id": 1,
                        "keypoints": values.ravel().tolist(), "bbox": [*low, *(high - low)],
                        "bbox_head": [*joints[14].tolist(), 20.0, 24.0], "scores": [],
                    }
                )  # fmt: skip
        categories = [{"id": 1, "name": "person", "keypoints": list(names)}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def make_2017(root, split="val", sequences=("000001_a_relpath_5sec", "000002_b_relpath_5sec")):
    """Writes the 2017 form; pictures count from 1 with 8 digits. Returns the annotations' folder."""
    folder = root / "annotations" / split
    folder.mkdir(parents=True)
    for name in sequences:
        write_frames(root / "images" / "bonn" / name[:6], 1, 8)
        annolist = []
        for frame in range(FRAMES):
            rects = []
            for person in range(2) if frame in LABELLED else ():
                if (person, frame) == (1, 3):
                    continue
                joints = joints_of(person, frame)
                points = [
                    {"id": [j], "x": [float(x)], "y": [float(y)], "is_visible": [1]} for j, (x, y) in enumerate(joints)
                ]
                x, y = joints[14].tolist()
                rects.append(
                    {
                        "x1": [x], "y1": [y], "x2": [x + 20], "y2": [y + 24], "track_id": [person],
                        "annopoints": [{"point": points}],
                    }
                )  # fmt: skip
            image = [{"name": f"images/bonn/{name[:6]}/{frame + 1:08d}.jpg"}]
            regions = [{"point": [{"x": [150], "y": [0]}, {"x": [159], "y": [0]}, {"x": [159], "y": [9]}]}]
            annolist.append({"image": image, "imgnum": [frame + 1], "annorect": rects, "ignore_regions": regions})
        (folder / f"{name}.json").write_text(json.dumps({"annolist": annolist}))
    return folder


def edit(path, change):
    """Changes a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
