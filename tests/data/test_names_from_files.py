"""Names of pictures that stand in annotation files: none leads out of its folder, none ends in another exception."""

import json
import shutil

import cv2
import numpy as np
import pytest

from posekit.data import (
    MPII,
    COCOKeypoints,
    CrowdPose,
    Human36M,
    ImageSource,
    InstaVariety,
    OCHuman,
    PoseDatabase,
    PoseTrack,
    VideoClips,
)
from posekit.errors import UserError
from tests.data import test_mpii as official
from tests.data.posetrack_made import edit, make_2017, make_2018
from tests.data3d import test_human36m as h36m
from tests.data3d import test_pose_database as database

OUTSIDE = ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "..\\x.jpg", "C:\\x.jpg", "\\\\host\\x.jpg", "a\0b.jpg"]
ABSENT = "absent or broken|do not exist|does not exist|lacks|has no pictures|cannot be read"
NO_FILE = ["a" * 300 + ".jpg", "a" * 9000 + ".jpg", "\ud800.jpg", "absent.jpg"]


def coco(root, sources, name):
    shutil.copytree(sources["coco"], root, dirs_exist_ok=True)
    place = root / "annotations" / "person_keypoints_val2017.json"
    edit(place, lambda content: content["images"][0].update(file_name=name))
    return COCOKeypoints(str(root))


def crowdpose(root, sources, name, kind=CrowdPose):
    coco(root, sources, name)
    content = json.loads((root / "annotations" / "person_keypoints_val2017.json").read_text())
    for entry in content["annotations"] if kind is CrowdPose else ():
        entry["keypoints"] = entry["keypoints"][:42]
    if kind is CrowdPose:
        content["categories"][0]["keypoints"] = [str(k) for k in range(14)]
    for entry in content["images"]:
        entry["crowdIndex"] = 0.5
    shutil.copytree(root / "val2017", root / "images")
    (root / "json").mkdir()
    places = ["json/crowdpose_trainval.json", "json/crowdpose_test.json"]
    places += ["ochuman_coco_format_val_range_0.00_1.00.json", "ochuman_coco_format_test_range_0.00_1.00.json"]
    for place in places:
        (root / place).write_text(json.dumps(content))
    return kind(str(root))


def mpii(root, sources, name):
    shutil.copytree(sources["mpii"], root, dirs_exist_ok=True)
    edit(root / "annot" / "valid.json", lambda people: people[0].update(image=name))
    return MPII(str(root))


def mpii_mat(root, sources, name):
    people = json.loads((sources["mpii"] / "annot" / "train.json").read_text())
    shutil.copytree(sources["mpii"] / "images", root / "images")
    name = name.encode("utf-8", "replace").decode()  # SciPy writes no others
    official.save_release(root / official.RELEASE, {name: [official.rect_of(p | {"image": name}) for p in people]})
    return MPII(str(root))


def posetrack_2017(root, sources, name):
    folder = make_2017(root)
    edit(min(folder.glob("*.json")), lambda content: content["annolist"][0]["image"][0].update(name=name))
    return PoseTrack(str(root))


def posetrack_2018(root, sources, name, view="crops"):
    folder = make_2018(root)
    edit(min(folder.glob("*.json")), lambda content: content["images"][0].update(file_name=name))
    return PoseTrack(str(root), view=view)


def boxes(root, sources, name, kind=ImageSource):
    (root / "pictures").mkdir()
    cv2.imwrite(str(root / "pictures" / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    (root / "boxes.json").write_text(json.dumps([{"file_name": name, "bbox": [0, 0, 9, 9]}]))
    return kind(str(root / "pictures"), boxes=str(root / "boxes.json"))


def pose_database(root, sources, name):
    names = np.array([name, *database.arrays()["img_name"][1:]], dtype=object)
    return PoseDatabase(str(database.write(root, ".pt", img_name=names)))


def insta_variety(root, sources, name):
    names = np.array([name, *database.arrays()["img_name"][1:]], dtype=object)
    return InstaVariety(str(database.write(root, ".pt", "insta_train_db", img_name=names)), val_share=0)


def mmpose(root, sources, name):
    stem = f"S1_Walking_1.{h36m.CAMERA}_000001.jpg"
    named = np.array([name.replace("x.jpg", stem) if "x.jpg" in name else f"{name}/{stem}"] * h36m.FRAMES, dtype=object)
    names = [str(n).replace("000001", f"{k + 1:06d}") for k, n in enumerate(named)]
    return Human36M(
        str(h36m.write_mmpose(root, imgname=np.array([n.encode("utf-8", "replace").decode() for n in names])))
    )


def videopose3d(root, sources, name):
    (root / "metadata.xml").write_text(h36m.metadata(np.full(300, 1.0)))
    walks = {"S1": {name: h36m.poses()[0].astype(np.float32)}}
    np.savez(root / "data_3d_h36m.npz", positions_3d=np.array(walks, dtype=object))
    return Human36M(str(root))


READERS = {
    "coco": (coco, "val"),
    "crowdpose": (crowdpose, "val"),
    "ochuman": (lambda *given: crowdpose(*given, OCHuman), "val"),
    "mpii": (mpii, "val"),
    "mpii mat": (mpii_mat, "train"),
    "posetrack 2017": (posetrack_2017, "val"),
    "posetrack 2018": (posetrack_2018, "val"),
    "posetrack clips": (lambda *given: posetrack_2018(*given, "clips"), "val"),
    "boxes of pictures": (boxes, "predict"),
    "boxes of clips": (lambda *given: boxes(*given, VideoClips), "predict"),
    "pose database": (pose_database, "train"),
    "insta variety": (insta_variety, "train"),
    "mmpose": (mmpose, "train"),
    "videopose3d": (videopose3d, "train"),
}


@pytest.mark.parametrize("reader", READERS)
def test_names_do_not_lead_out_of_their_folder(tmp_path, mini_coco, mini_mpii, reader):
    make, split = READERS[reader]
    (tmp_path / "x.jpg").write_bytes((mini_coco / "val2017" / "000000000000.jpg").read_bytes())
    for number, name in enumerate(OUTSIDE):
        root = tmp_path / str(number)
        root.mkdir()
        module = make(root, {"coco": mini_coco, "mpii": mini_mpii}, name)
        with pytest.raises(UserError, match=r"leads out of|lacks|is no name of|a b\.jpg does not exist"):
            module.dataset(split)


@pytest.mark.parametrize("reader", READERS)
def test_names_that_no_file_can_have_are_absent_pictures(tmp_path, mini_coco, mini_mpii, reader):
    make, split = READERS[reader]
    for number, name in enumerate(NO_FILE):
        root = tmp_path / str(number)
        root.mkdir()
        module = make(root, {"coco": mini_coco, "mpii": mini_mpii}, name)
        with pytest.raises(UserError, match=ABSENT) as raised:
            module.dataset(split)
        assert "\n" not in str(raised.value)


def test_a_long_name_of_a_database_is_skipped_and_counted(tmp_path, caplog):
    module = pose_database(tmp_path, {}, "a" * 300 + ".jpg")
    module.on_broken_image = "skip"
    assert sum(len(track) for track in module.tracks("train")) == 7
    assert "left out 1 pictures that do not exist" in caplog.text
