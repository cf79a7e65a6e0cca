import json
import pickle

import cv2
import numpy as np
import pytest
import torch

from posekit.data import ImageSource, VideoClips
from posekit.data.picture_ids import picture_ids
from posekit.errors import UserError
from posekit.skeletons import get_skeleton


@pytest.fixture
def folder(tmp_path, picture):
    path = tmp_path / "photos"
    path.mkdir()
    for name in ("b.jpg", "a.png", "C.JPG"):
        cv2.imwrite(str(path / name), picture)
    (path / "notes.txt").write_text("not a picture")
    return path


def predictions_of(source, **options):
    module = ImageSource(str(source), image_size=(96, 128), batch_size=2, **options)
    module.setup("predict")
    return module, list(module.predict_dataloader())


def test_one_image(folder):
    module, batches = predictions_of(folder / "a.png", skeleton="MPII16")
    (batch,) = batches
    assert batch["image"].shape == (1, 3, 128, 96)
    assert batch["keypoints"].shape == (1, len(get_skeleton("MPII16")), 2)
    assert batch["box"].tolist() == [[0, 0, 120, 90]]
    assert batch["box_score"].tolist() == [1]
    assert (batch["visible"] == 0).all()
    assert module.frames == {0: "a.png"}
    assert not module.is_video
    assert module.fps is None
    assert module.read_frame(0).shape == (90, 120, 3)


def test_whole_image_boxes_are_not_enlarged(folder):
    _, (batch,) = predictions_of(folder / "a.png")
    # 90 px of height grow to 160 px, so that 120 px of width fill the crop of 96 x 128.
    assert batch["affine"][0, 0, 0] == pytest.approx(95 / 120)


def test_a_folder_in_order(folder):
    module, batches = predictions_of(folder)
    assert list(module.frames.values()) == ["C.JPG", "a.png", "b.jpg"]
    assert torch.cat([b["image_id"] for b in batches]).tolist() == [0, 1, 2]
    assert torch.cat([b["sample_id"] for b in batches]).tolist() == [0, 1, 2]


def test_numbered_files_keep_their_numbers(tmp_path, picture):
    for name in ("000000000785.jpg", "000000040083.jpg"):
        cv2.imwrite(str(tmp_path / name), picture)
    assert list(predictions_of(tmp_path)[0].frames) == [785, 40083]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_frame_by_frame(write_video, workers):
    module, batches = predictions_of(write_video(), num_workers=workers)
    images = torch.cat([b["image"] for b in batches])
    assert torch.cat([b["image_id"] for b in batches]).tolist() == list(range(7))
    levels = images[:, 0].mean((1, 2))
    assert (levels.diff() > 0).all()
    assert module.is_video
    assert module.fps == 25
    assert module.frames[3] == "clip.mp4#3"
    for number in (2, 3, 6, 0, 5, 5):  # forwards, backwards and again
        assert abs(module.read_frame(number).mean() - 30 * number) < 6


def test_video_data_sets_travel_to_other_processes(write_video):
    module, _ = predictions_of(write_video())
    dataset = pickle.loads(pickle.dumps(module.dataset("predict")))
    assert torch.equal(dataset[4]["image"], module.dataset("predict")[4]["image"])


def test_exif_orientation_is_applied(tmp_path, picture):
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\0\0" + tiff
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:])
    assert predictions_of(path)[1][0]["box"].tolist() == [[0, 0, 90, 120]]
    assert predictions_of(path, apply_exif=False)[1][0]["box"].tolist() == [[0, 0, 120, 90]]


def write_json(tmp_path, content):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_boxes_by_file_name_and_by_id(folder, tmp_path):
    entries = [
        {"file_name": "b.jpg", "bbox": [10, 10, 30, 40], "score": 0.5},
        {"image_id": 1, "bbox": [1, 2, 30, 40]},
        {"file_name": "b.jpg", "bbox": [50, 10, 30, 40], "score": 0.05},
        {"file_name": "b.jpg", "bbox": [50, 10, 30, 40], "category_id": 3},
    ]
    module, (batch,) = predictions_of(folder, boxes=write_json(tmp_path, entries), score_threshold=0.1)
    assert batch["image_id"].tolist() == [1, 2]
    assert batch["box"].tolist() == [[1, 2, 30, 40], [10, 10, 30, 40]]
    assert batch["box_score"].tolist() == [1, 0.5]
    assert len(module.frames) == 3


def test_boxes_of_a_coco_file(folder, tmp_path):
    content = {
        "images": [{"id": 70, "file_name": "b.jpg"}, {"id": 71, "file_name": "a.png"}],
        "annotations": [
            {"id": 1, "image_id": 71, "bbox": [1, 2, 30, 40], "category_id": 1},
            {"id": 2, "image_id": 70, "bbox": [1, 2, 30, 40], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    module, (batch,) = predictions_of(folder, boxes=write_json(tmp_path, content))
    assert batch["image_id"].tolist() == [71]
    assert module.frames == {72: "C.JPG", 71: "a.png", 70: "b.jpg"}


CATEGORIES = {
    "human": ([{"id": 1, "name": "dog"}, {"id": 2, "name": "human"}], 2),
    "capital": ([{"id": 1, "name": "car"}, {"id": 5, "name": "Person"}], 5),
    "alone": ([{"id": 0, "name": "player"}], 0),
    "joints": ([{"id": 0, "name": "people"}, {"id": 1, "name": "pose", "keypoints": ["a"]}], 1),
    "people beside joints": ([{"id": 0, "name": "people"}, {"id": 1, "name": "dog", "keypoints": ["a"]}], 0),
    "none listed": ([], 1),
    "none listed, from 0": ([], 0),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_boxes_of_the_peoples_category(folder, tmp_path, kind):
    categories, people = CATEGORIES[kind]
    ids = [c["id"] for c in categories if kind != "joints" or c["id"] == people] or [people]
    boxes = [{"image_id": 0, "bbox": [number, 2, 30, 40], "category_id": number} for number in ids]
    content = {"images": [{"id": 0, "file_name": "a.png"}], "annotations": boxes, "categories": categories}
    path = write_json(tmp_path, content)
    module, (batch,) = predictions_of(folder, boxes=path)
    assert batch["box"][:, 0].tolist() == [people]
    clips = VideoClips(str(folder), boxes=path, image_size=(32, 32))
    clips.setup("predict")
    assert module.people_category == clips.people_category == 1  # of results: boxes without joints are a detector's


JOINTS = [10, 10, 2]


@pytest.mark.parametrize(
    ("categories", "entries", "people"),
    [
        ([{"id": 0, "name": "player", "keypoints": ["a"]}], [{"category_id": 0}], 0),
        ([{"id": 0, "name": "player"}], [{"category_id": 0, "keypoints": JOINTS}], 0),
        ([], [{"category_id": 0, "keypoints": JOINTS}], 0),
        (
            [{"id": 1, "name": "person"}, {"id": 2, "name": "pose", "keypoints": ["a"]}],
            [{"category_id": 1}, {"category_id": 2, "keypoints": JOINTS}],
            2,
        ),
        ([{"id": 0, "name": "people"}, {"id": 1, "name": "dog", "keypoints": ["a"]}], [{"category_id": 0}], 1),
    ],
)
def test_results_are_of_the_category_with_joints(folder, tmp_path, categories, entries, people):
    boxes = [{"image_id": 0, "bbox": [1, 2, 30, 40], **entry} for entry in entries]
    content = {"images": [{"id": 0, "file_name": "a.png"}], "annotations": boxes, "categories": categories}
    module, _ = predictions_of(folder, boxes=write_json(tmp_path, content))
    assert module.people_category == people


def test_a_list_of_boxes_that_are_all_of_category_0(folder, tmp_path):
    box = {"file_name": "a.png", "bbox": [1, 2, 30, 40]}
    module, batches = predictions_of(folder, boxes=write_json(tmp_path, [box | {"category_id": 0}] * 3))
    assert (len(batches), module.people_category) == (2, 1)
    with pytest.raises(UserError, match="people may be category 0 or 1"):
        predictions_of(folder, boxes=write_json(tmp_path, [box | {"category_id": k} for k in (0, 1)]))


def test_whole_numbers_of_boxes_written_as_floats(folder, write_video, tmp_path):
    listed = {"images": [{"id": 70.0, "file_name": "b.jpg"}], "categories": [{"id": 1.0, "name": "person"}]}
    listed["annotations"] = [{"image_id": 70.0, "category_id": 1, "bbox": [1, 2, 30, 40]}]
    assert predictions_of(folder, boxes=write_json(tmp_path, listed))[0].frames[70] == "b.jpg"
    places = write_json(tmp_path, [{"image_id": 1.0, "bbox": [1, 2, 30, 40]}])
    assert predictions_of(folder, boxes=places)[1][0]["image_id"].tolist() == [1]
    frames = write_json(tmp_path, [{"frame": 2.0, "track": 1.0, "bbox": [1, 2, 30, 40]}])
    assert predictions_of(write_video(), boxes=frames)[1][0]["image_id"].tolist() == [2]
    clips = VideoClips(str(write_video()), boxes=frames, image_size=(32, 32))
    clips.setup("predict")
    assert clips.track_names == {0: {"video": "clip.mp4", "person": "1"}}


def test_boxes_of_video_frames(write_video, tmp_path):
    entries = [{"image_id": 5, "bbox": [1, 2, 30, 40]}, {"image_id": 2, "bbox": [1, 2, 30, 40]}]
    _, (batch,) = predictions_of(write_video(), boxes=write_json(tmp_path, entries))
    assert batch["image_id"].tolist() == [2, 5]


def test_a_boxes_file_of_a_whole_set_serves_one_image(folder, tmp_path):
    entries = [{"file_name": name, "bbox": [1, 2, 30, 40]} for name in ("a.png", "b.jpg")]
    _, (batch,) = predictions_of(folder / "b.jpg", boxes=write_json(tmp_path, entries))
    assert len(batch["image"]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"file_name": "zz.jpg", "bbox": [1, 2, 3, 4]}], "names 1 images that .* lacks: zz.jpg"),
        ([{"file_name": "../a.png", "bbox": [1, 2, 3, 4]}], "lacks: ../a.png"),
        ([{"image_id": 99, "bbox": [1, 2, 3, 4]}], "lacks: image_id 99"),
        ([{"image_id": 0, "bbox": [1, 2, 0, 4]}], "box number 0 has a box of zero size"),
        ([{"image_id": 0, "bbox": [1, 2, float("nan"), 4]}], "not four finite numbers"),
        ([{"image_id": 0}], "has no bbox"),
        ([{"bbox": [1, 2, 3, 4]}], "neither file_name nor an integer image_id"),
        ([{"image_id": 0, "bbox": [1, 2, 3, 4], "score": "high"}], "score that is no finite number"),
        ([5], "is no object"),
        ([{"image_id": 0, "bbox": [1, 2, 3, 4], "category_id": "1"}], "category_id that is no number: '1'"),
        (
            [{"image_id": 0, "bbox": box} for box in ([0, 0, 9, 9], [120, 0, 9, 9], [5, -40, 9, 39])],
            r"2 faulty boxes: box number 1 \[120, 0, 9, 9\] lies wholly outside the 120 x 90 px of C.JPG; box number 2",
        ),
        (
            {"images": [{"id": 1, "file_name": n} for n in ("a.png", "b.jpg")], "annotations": []},
            "several images have the id 1",
        ),
        ([], "no box of score"),
        (
            [{"image_id": 0, "bbox": [1, 2, 3, 4], "category_id": k} for k in (3, 3, 17)],
            "no box of a person: 3 boxes are of category_id 3, 17, people's is 1",
        ),
        (
            {
                "annotations": [{"image_id": 0, "bbox": [1, 2, 3, 4], "category_id": 1}],
                "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "people"}],
            },
            "no box of a person: 1 box is of category_id 1, people's is 2",
        ),
        (
            {"annotations": [], "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]},
            r"one category named 'person' .*there are: 'dog' \(id 1\), 'cat' \(id 2\)",
        ),
        ([{"image_id": 0.5, "bbox": [1, 2, 3, 4]}], "neither file_name nor an integer image_id"),
        ({"images": []}, "neither a list of boxes nor a COCO file"),
    ],
)
def test_faulty_boxes_files(folder, tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        predictions_of(folder, boxes=write_json(tmp_path, content))
    assert "\n" not in str(error.value)


def test_faulty_boxes_and_those_outside_can_be_left_out(folder, tmp_path, caplog):
    boxes = [[0, 0, 9, 9], [120, 0, 9, 9], [119, 0, 9, 9], [-8, 0, 9, 9], [-9, 0, 8, 9], [1, 1, 0, 9]]
    entries = [{"image_id": 0, "bbox": box} for box in boxes]
    path = write_json(tmp_path, entries)
    module, _ = predictions_of(folder, boxes=path, on_bad_annotation="skip")
    assert sorted(module.dataset("predict").table.sample_ids.tolist()) == [0, 2, 3]
    assert "left out 1 faulty box: box number 5" in caplog.text
    assert "left out 2 faulty boxes: box number 1" in caplog.text
    path = write_json(tmp_path, entries[1:2])
    with pytest.raises(UserError, match="no box of it touches its image"):
        predictions_of(folder, boxes=path, on_bad_annotation="skip")
    with pytest.raises(UserError, match="unknown on_bad_annotation of ImageSource 'keep'"):
        ImageSource(str(folder), on_bad_annotation="keep")


def test_boxes_outside_the_frames_of_a_video(write_video, tmp_path):
    path = write_json(tmp_path, [{"image_id": 2, "bbox": [64, 0, 9, 9]}, {"image_id": 2, "bbox": [0, 0, 9, 9]}])
    with pytest.raises(UserError, match=r"outside the 64 x 48 px of clip.mp4#2"):
        predictions_of(write_video(), boxes=path)
    _, (batch,) = predictions_of(write_video(), boxes=path, on_bad_annotation="skip")
    assert batch["sample_id"].tolist() == [1]


def test_pictures_in_sub_folders_alone(folder):
    with pytest.raises(UserError, match=r"holds no image .*only its top level is read: .* e.g. .*photos$"):
        predictions_of(folder.parent)


def test_a_folder_of_videos_is_no_source_of_pictures(write_video, tmp_path):
    film = write_video()
    with pytest.raises(UserError, match=r"holds no image .*, but 1 video: give one of them \(methods for clips take"):
        predictions_of(film.parent)


def write_gif(path, frames):
    pil = pytest.importorskip("PIL.Image")
    first, *others = [pil.new("RGB", (64, 48), (30 * k, 40, 50)) for k in range(frames)]
    first.save(path, save_all=True, append_images=others, duration=100)
    return path


@pytest.mark.parametrize("kind", [ImageSource, VideoClips])
def test_a_gif_of_several_frames_is_a_film(tmp_path, kind):
    module = kind(str(write_gif(tmp_path / "walk.GIF", 5)))
    module.setup("predict")
    assert module.is_video
    assert list(module.frames.values()) == [f"walk.GIF#{k}" for k in range(5)]
    assert [round(float(module.read_frame(k)[..., 0].mean()) / 30) for k in range(5)] == list(range(5))


@pytest.mark.parametrize("kind", [ImageSource, VideoClips])
def test_what_is_left_out_of_a_folder_is_counted(folder, write_video, caplog, kind):
    for name in ("d.heic", "e.HEIC", "f.dng", "._a.png", "._b.mp4", "list.json"):
        (folder / name).write_bytes(b"x")
    write_video().rename(folder / "film.mp4")
    module = kind(str(folder))
    module.setup("predict")
    assert list(module.frames.values()) == ["C.JPG", "a.png", "b.jpg"]
    assert caplog.text.count("as no pictures that can be read: 1 .dng, 2 .heic, 1 .mp4\n") == 1
    assert "GIF" not in caplog.text


def test_of_animated_gifs_in_a_folder_the_first_frame_is_taken(folder, caplog):
    write_gif(folder / "d.gif", 3)
    write_gif(folder / "e.gif", 1)
    # OpenCV 4 reads no GIF.
    module = ImageSource(str(folder), on_broken_image="skip")
    module.setup("predict")
    assert list(module.frames.values())[3:] == ["d.gif", "e.gif"]
    assert "of 1 animated GIF in folder" in caplog.text
    assert "the first frame is taken: d.gif" in caplog.text


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".jfif", ".pgm"])
def test_pictures_that_opencv_reads_are_found_in_a_folder(tmp_path, caplog, suffix):
    path = tmp_path / f"a{suffix}"
    grey = np.full((128, 128), 90, np.uint8)
    if suffix == ".avif" and not cv2.haveImageWriter(str(path)):
        path.write_bytes(b"\0\0\0\x1cftypavif" + b"\0" * 50)
        with pytest.raises(UserError, match=r"holds no image .*, but 1 \.avif, which are not read: convert them"):
            predictions_of(tmp_path)
        return
    path.write_bytes(cv2.imencode(".jpg" if suffix == ".jfif" else suffix, grey)[1].tobytes())
    assert predictions_of(tmp_path)[0].read_frame(0).mean() == pytest.approx(90, abs=2)
    assert not caplog.text


@pytest.mark.parametrize("kind", [ImageSource, VideoClips])
def test_pictures_of_kinds_that_are_not_read(tmp_path, kind):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 50)
    with pytest.raises(UserError, match=r"a.HEIC: .heic pictures are not read; convert it to JPEG or PNG"):
        kind(str(tmp_path / "a.HEIC")).setup("predict")
    with pytest.raises(UserError, match=r"holds no .* 1 .heic, which are not read"):
        kind(str(tmp_path)).setup("predict")


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_a_name_that_is_no_text(tmp_path, picture, suffix):
    path = tmp_path / f"a\udcff{suffix}"
    try:
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    except OSError:
        pytest.skip("the file system takes no such name")
    for source in (path, tmp_path):
        assert predictions_of(source)[1][0]["box"].tolist() == [[0, 0, 120, 90]]


def test_sources_that_are_none(folder, tmp_path, capfd):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "fake.mp4").write_text("not a video\n" * 100)
    (tmp_path / "fake.jpg").write_text("not a picture")
    (tmp_path / "empty.mp4").write_bytes(b"")
    wrong = {
        "absent.jpg": "does not exist",
        "nothing": "holds no image",
        "photos/notes.txt": "neither a picture nor a video",
        "fake.mp4": "neither a picture nor a video",
        "fake.jpg": "no picture that OpenCV can read",
        "empty.mp4": "is empty",
    }
    for name, message in wrong.items():
        with pytest.raises(UserError, match=message) as error:
            predictions_of(tmp_path / name)
        assert name in str(error.value)
    assert capfd.readouterr().err == ""
    with pytest.raises(UserError, match=r"boxes file .* does not exist"):
        predictions_of(folder, boxes=str(tmp_path / "no.json"))
    with pytest.raises(UserError, match=r"nothing to fit on|no labels"):
        ImageSource(str(folder)).setup("fit")


def test_broken_images_of_a_folder(folder, caplog):
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:500])
    with pytest.raises(UserError, match=r"1 of 3 images are absent or broken: .*b.jpg is cut short"):
        predictions_of(folder)
    _, (batch,) = predictions_of(folder, on_broken_image="skip")
    assert batch["image_id"].tolist() == [0, 1]
    assert "left out 1 of 3 images" in caplog.text
    with pytest.raises(UserError, match=r"b.jpg is cut short"):
        predictions_of(folder / "b.jpg", on_broken_image="skip")


def test_truncated_video(write_video):
    path = write_video()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"neither a picture nor a video|no frame"):
        predictions_of(path)


def test_frames_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((20, 20, 3), (0, 0, 255), np.uint8))
    module, _ = predictions_of(tmp_path / "red.png")
    assert module.read_frame(0)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (0, 5)}, r"ImageSource: image_size is \[0, 5\], but must be \[W, H\] of at least 16 px"),
        ({"image_size": (48,)}, r"ImageSource: image_size is \[48\], but must be \[W, H\]"),
        ({"box_scale": 0.0}, "ImageSource: box_scale is 0.0, but must be positive"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        ImageSource(str(tmp_path), **options)


@pytest.mark.parametrize("kind", [ImageSource, VideoClips])
@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000001.jpg", "000005.jpg", "cover.jpg"], [1, 5, 7]),
        (["1.jpg", "a.jpg", "b.jpg"], [1, 7, 8]),
        (["a.jpg", "b.jpg", "c.jpg"], [0, 1, 2]),
        (["01.jpg", "1.jpg", "5.jpg"], [7, 8, 5]),
    ],
)
def test_pictures_beside_numbered_ones_get_ids_that_no_box_has(tmp_path, picture, kind, names, ids):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in names:
        cv2.imwrite(str(folder / name), picture)
    entries = [{"image_id": i, "bbox": [1, 2, 30, 40], "file_name": "a.jpg"} for i in (2, 3)]
    entries = [e for e in entries if "a.jpg" in names] + [{"image_id": 6, "bbox": [1, 2, 30, 40]}]
    assert picture_ids(tmp_path, names, entries) == ids
    module = kind(str(folder), boxes=write_json(tmp_path, entries))
    with pytest.raises(UserError, match="image_id 6"):  # and not a crop of another picture
        module.dataset("predict")


@pytest.mark.parametrize("kind", [ImageSource, VideoClips])
def test_a_number_that_two_pictures_have_names_neither(tmp_path, picture, kind):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("1.jpg", "1.png", "2.jpg"):
        cv2.imwrite(str(folder / name), picture)
    box = {"bbox": [1, 2, 30, 40]}
    with pytest.raises(UserError, match=r"image_id 1 may be 1.jpg and 1.png; name boxes by file_name"):
        kind(str(folder), boxes=write_json(tmp_path, [box | {"image_id": 1}])).dataset("predict")
    module = kind(str(folder), boxes=write_json(tmp_path, [box | {"file_name": "1.png"}, box | {"image_id": 2}]))
    assert len(module.dataset("predict")) == 2
    assert module.frames == {3: "1.jpg", 4: "1.png", 2: "2.jpg"}


def test_a_list_of_images_says_which_are_meant():
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2, 3)]
    content = {"images": images, "annotations": [{"image_id": 3, "bbox": [1, 2, 30, 40]}]}
    assert picture_ids(None, ["1.jpg", "2.jpg", "cover.jpg"], content) == [1, 2, 4]  # image 3 is not there
    with pytest.raises(UserError, match="lists images, but none of the source's"):
        picture_ids(None, ["x.jpg", "y.jpg"], content)


def test_a_lone_picture_without_number_is_none_of_many():
    boxes = [{"image_id": i, "bbox": [1, 2, 30, 40]} for i in (0, 1)]
    assert picture_ids(None, ["a.jpg"], boxes[:1]) == [0]
    with pytest.raises(UserError, match="has no number that tells its own"):
        picture_ids(None, ["a.jpg"], boxes)


def test_places_count_pictures_that_are_left_out(tmp_path, picture, caplog):
    for name in ("b.jpg", "c.jpg"):
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "a.jpg").write_bytes(b"")
    for kind in (ImageSource, VideoClips):
        module = kind(str(tmp_path), on_broken_image="skip")
        samples = module.dataset("predict")
        assert [int(samples[i]["image_id"]) for i in range(2)] == [1, 2]
