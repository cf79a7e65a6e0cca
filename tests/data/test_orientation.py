"""Annotated pictures whose EXIF orientation turns them: read as stored, or turned where the user says so."""

import shutil

import cv2
import numpy as np
import pytest

from posekit.data import MPII, CrowdPose, OCHuman, PoseTrack
from posekit.data.images import check_image_files, read_image
from posekit.data.picture_header import orientation_of, read_header
from posekit.errors import UserError
from tests.data.posetrack_made import edit, make_2018
from tests.data.test_images import with_orientation

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def turn(path, orientation=6):
    """Gives a JPEG file an orientation."""
    path.write_bytes(with_orientation(path.read_bytes(), orientation))


@pytest.fixture
def turned(coco):
    """A COCO folder annotated on turned pictures: 240 x 320 px, stored as 320 x 240."""
    for split in ("train", "val"):
        for number in range(3):
            turn(coco.image(number, split))
        coco.edit(lambda c: [image.update(width=240, height=320) for image in c["images"]], split)
    return coco


@pytest.mark.parametrize("view", ["crops", "scenes"])
def test_annotations_of_turned_pictures(turned, view):
    with pytest.raises(UserError, match=r"3 of 3 .*is 320 x 240 px, .* say 240 x 320; its EXIF .* turns it to 240 x"):
        turned.module(view=view).setup("fit")
    module = turned.module(view=view, apply_exif=True, augment=False)
    module.setup("fit")
    for split in ("train", "val"):
        assert len([module.dataset(split)[k] for k in range(3)]) == 3
        assert module.dataset(split).read(0).shape == (320, 240, 3)
    assert module.read_frame(0).shape == (320, 240, 3)


def test_the_message_names_the_option_that_mends_it(coco):
    turn(coco.image(1, "val"))
    module = coco.module(apply_exif=True, on_broken_image="skip", verify_images=False)
    assert len(module.dataset("val")) == 2
    with pytest.raises(UserError, match=r"is 240 x 320 px, .*; it is stored as 320 x 240: --data.apply_exif false"):
        coco.module(apply_exif=True).dataset("val")
    unchecked = coco.module(apply_exif=True, verify_images=False).dataset("val")
    with pytest.raises(UserError, match=r"is 240 x 320 px, .*; it is stored as 320 x 240: --data.apply_exif false"):
        [unchecked[k] for k in range(3)]


def crowdpose(root, mini_coco, _):
    return CrowdPose, _crowd(
        root, mini_coco, {"annotations/crowdpose_trainval.json", "annotations/crowdpose_test.json"}
    )


def ochuman(root, mini_coco, _):
    return OCHuman, _crowd(root, mini_coco, {OCHuman.LAYOUT["val"][0]})


def _crowd(root, mini_coco, places):
    shutil.copytree(mini_coco / "val2017", root / "images")
    (root / "annotations").mkdir()
    for place in places:
        shutil.copy(mini_coco / "annotations" / "person_keypoints_val2017.json", root / place)

        def change(content, joints=14 if "crowd" in place else 17):
            content["categories"][0]["keypoints"] = [str(k) for k in range(joints)]
            for image in content["images"]:
                image.update(width=240, height=320)
            for annotation in content["annotations"]:
                annotation["keypoints"] = annotation["keypoints"][: 3 * joints]

        edit(root / place, change)
    return root


def mpii(root, _, mini_mpii):
    shutil.copytree(mini_mpii, root, dirs_exist_ok=True)
    return MPII, root


def posetrack(root, *_):
    make_2018(root)
    return PoseTrack, root


@pytest.mark.parametrize("make", [crowdpose, ochuman, mpii, posetrack])
def test_every_data_set_of_annotated_people_has_the_option(tmp_path, mini_coco, mini_mpii, make):
    kind, root = make(tmp_path, mini_coco, mini_mpii)
    for path in tmp_path.rglob("*.jpg"):
        turn(path)
    for view in ("crops", "clips") if kind is PoseTrack else ("crops",):
        module = kind(str(root), apply_exif=True, **({"view": view} if kind is PoseTrack else {}))
        height, width = module.dataset("val")[0] and module.read_frame(next(iter(module.frames))).shape[:2]
        assert height > width
        read = module.dataset("val").tracks[0].read if view == "clips" else module.dataset("val").read
        assert read(0).shape[0] > read(0).shape[1]


@pytest.mark.parametrize("orientation", TURNS)
def test_heads_tell_sizes_and_orientations(tmp_path, picture, orientation):
    pil = pytest.importorskip("PIL.Image")
    exif = pil.Exif()
    exif[0x0112] = orientation
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"a{suffix}"
        pil.fromarray(picture).save(path, exif=exif)
        for apply_exif in (False, True):
            height, width = read_image(path, apply_exif).shape[:2]
            with path.open("rb") as file:
                assert read_header(file).size_as_read(apply_exif) == (width, height)
            assert check_image_files([path], [(width, height)], apply_exif) == {}
            assert path in check_image_files([path], [(width + 1, height)], apply_exif)
        assert orientation_of(path) == orientation


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_tiff_files_are_read_as_stored_too(tmp_path, picture, orientation, mode):
    pil = pytest.importorskip("PIL.Image")
    stored = pil.fromarray(picture).convert(mode)
    path = tmp_path / "a.tif"
    stored.save(path, tiffinfo={0x0112: orientation})
    stored = np.asarray(stored.convert("RGB"))
    assert np.array_equal(read_image(path), stored)
    assert np.array_equal(read_image(path, apply_exif=True), TURNS[orientation](stored))
    assert orientation_of(path) == orientation


def test_heads_that_end_early_or_nowhere_say_nothing(tmp_path, picture):
    whole = with_orientation(cv2.imencode(".jpg", picture)[1].tobytes(), 6)
    png = cv2.imencode(".png", picture)[1].tobytes()
    path = tmp_path / "a"
    broken = [whole[:k] for k in range(0, 200, 7)] + [png[:k] for k in range(0, 40, 3)]
    for content in [*broken, whole[:2] + b"\xff" * 300, whole[:4] + b"\0\0" + whole[6:], b"II*\0\xff\xff\xff\xff"]:
        path.write_bytes(content)
        assert orientation_of(path) in (1, 6)
    assert orientation_of(tmp_path / "absent") == 1
