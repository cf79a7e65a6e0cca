import json
import logging
import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from posekit.cli import main
from posekit.cli.words import model_name, predict_words
from posekit.data import ClipAugmentation, VideoClips
from posekit.data.video_boxes import fit_for_learning, iou, read_video_boxes, smooth_boxes, square_boxes
from posekit.errors import UserError
from posekit.module import PoseModule
from posekit.skeletons import get_skeleton
from tests.shared import SHARED, requires_shared


def module(source, **options):
    return VideoClips(str(source), **{"image_size": (32, 32), **options})


def clips(datamodule, split="predict"):
    dataset = datamodule.dataset(split)
    return [dataset[(0, index)] for index in range(len(dataset))]


@pytest.fixture
def frame_folder(tmp_path):
    def write(numbers=range(7), name="walk", pattern="{:06d}.jpg"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for number in numbers:
            cv2.imwrite(str(folder / pattern.format(number)), np.full((48, 64, 3), 30 * number % 250, np.uint8))
        return folder

    return write


@pytest.fixture
def write_boxes(tmp_path):
    def write(boxes):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(boxes))
        return str(path)

    return write


def answered(found):
    return torch.cat([s["frame"][s["answers"]] for s in found]).tolist()


# -- sources ----------------------------------------------------------------------------------------------------------


def test_every_frame_of_a_video_is_answered_for_once(write_video):
    data = module(write_video(), frames=4, halo=1)
    found = clips(data)
    assert answered(found) == list(range(7))
    assert [s["frame"].tolist() for s in found] == [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 6, 6]]
    assert found[0]["valid"].tolist() == [False, True, True, True]
    grey = [float(s["image"][k, 0].mean()) for s in found for k in torch.where(s["answers"])[0]]
    assert grey == sorted(grey)
    assert data.is_video
    assert data.fps == 25
    assert data.frames[3] == "clip.mp4#3"
    assert abs(data.read_frame(3).mean() - 90) < 6
    assert torch.equal(found[1]["affine"][0], found[1]["affine"][3])
    assert found[1]["affine"][0, 0, 0] == pytest.approx(31 / 64)  # whole frames are not enlarged


def test_a_video_is_decoded_once_for_overlapping_windows(write_video, monkeypatch, write_boxes):
    boxes = [{"frame": k, "bbox": [5, 5, 20, 30], "track": t} for t in range(3) for k in range(t, 7)]
    data = module(write_video(), frames=4, halo=1, boxes=write_boxes(boxes))
    dataset = data.dataset("predict")
    opened = []
    reader = dataset.tracks[0].read
    monkeypatch.setattr(reader, "_open", lambda real=reader._open: opened.append(1) or real())
    for index in range(len(dataset)):
        dataset[(0, index)]
    assert len(opened) == 1


def test_a_folder_of_videos_and_one_of_frame_folders(write_video, frame_folder, tmp_path):
    (tmp_path / "films").mkdir()
    for name in ("b", "a"):
        write_video(3).rename(tmp_path / "films" / f"{name}.mp4")
    data = module(tmp_path / "films", frames=3)
    found = clips(data)
    assert not data.is_video
    assert list(data.frames.values())[:4] == ["a#000000.jpg", "a#000001.jpg", "a#000002.jpg", "b#000000.jpg"]
    assert torch.cat([s["image_id"] for s in found]).tolist() == list(range(6))
    assert [int(s["track_id"]) for s in found] == [0, 1]
    for name in ("x", "y"):
        frame_folder(range(1, 4), f"folders/{name}")
    data = module(tmp_path / "folders", frames=3)
    found = clips(data)
    assert [s["frame"].tolist() for s in found] == [[1, 2, 3]] * 2
    assert data.frames[4] == "y#000002.jpg"
    assert abs(data.read_frame(4).mean() - 60) < 3


def test_films_of_cameras_and_phones_are_found_in_a_folder(write_video, tmp_path):
    (tmp_path / "films").mkdir()
    names = ["a.ts", "b.MTS", "c.m2ts", "d.flv", "e.3gp", "f.MP4"]
    for name in names:
        write_video(3).rename(tmp_path / "films" / name)
    data = module(tmp_path / "films", frames=3)
    data.setup("predict")
    assert [names["video"] for names in data.track_names.values()] == names


def test_a_folder_of_frames_is_a_video(frame_folder):
    data = module(frame_folder([2, 3, 4, 6, 7]), frames=4)
    found = clips(data)
    assert data.is_video
    assert data.fps is None
    assert list(data.frames) == [2, 3, 4, 6, 7]
    assert answered(found) == [2, 3, 4, 6, 7]
    assert found[0]["frame"].tolist() == [2, 3, 4, 4]  # a missing frame ends a window


def test_pictures_become_clips_of_one_frame(frame_folder):
    folder = frame_folder([785, 40083], pattern="{:012d}.jpg")
    data = module(folder, frames=16, halo=1)
    found = clips(data)
    assert [s["image"].shape for s in found] == [(1, 3, 32, 32)] * 2
    assert [int(s["image_id"]) for s in found] == [785, 40083]
    assert not data.is_video
    assert data.frames[785] == "000000000785.jpg"
    (found,) = clips(module(folder / "000000000785.jpg"))
    assert found["image"].shape == (1, 3, 32, 32)
    assert found["answers"].tolist() == [True]


def test_windows_are_no_longer_than_the_video(write_video):
    assert [s["image"].shape[0] for s in clips(module(write_video(3), frames=34, halo=1))] == [5]
    (found,) = clips(module(write_video(1), frames=34, halo=1))
    assert found["frame"].tolist() == [0, 0, 0]
    assert found["valid"].tolist() == [False, True, False]


def test_a_methods_window_is_taken_over(write_video):
    class Method:
        clip_frames = 5
        clip_halo = 2
        clip_box = "frame"
        box_scale = 1.5

    assert module(write_video()).dataset("predict").box_scale == 1.25
    data = module(write_video())
    data.adapt_to(Method())
    assert data.dataset("predict").box_scale == 1.5
    assert clips(data)[0]["image"].shape[0] == 5
    assert data.dataset("predict").clip_box == "frame"
    data = module(write_video(), frames=3, halo=0, clip_box="key", box_scale=1.1)
    data.adapt_to(Method())
    assert (data.dataset("predict").clip_box, data.dataset("predict").box_scale) == ("key", 1.1)
    assert [s["image"].shape[0] for s in clips(data)] == [3, 3, 3]


# -- boxes ------------------------------------------------------------------------------------------------------------


def test_tracks_of_boxes(write_video, write_boxes):
    boxes = [{"frame": k, "bbox": [10 + k, 10, 20, 30], "track": "a", "score": 0.5} for k in range(7)]
    boxes += [{"image_id": k, "bbox": [40, 10, 10, 20]} for k in range(2, 5)]
    data = module(write_video(), boxes=write_boxes(boxes), frames=7, smooth=1)
    found = {int(s["track_id"]): s for s in clips(data)}
    assert found[0]["box"].tolist() == [[10 + k, 10, 20, 30] for k in range(7)]
    assert found[0]["box_score"] == 0.5
    corners = torch.tensor([[10.0, 10, 1], [36, 40, 1]]) @ found[0]["affine"][0].T
    size = 30 * 1.25
    assert torch.allclose(corners[1] - corners[0], torch.tensor([26 * 31 / size, 30 * 31 / size]))
    assert found[1]["frame"][found[1]["answers"]].tolist() == [2, 3, 4]
    ids = torch.cat([s["row_ids"][s["answers"]] for s in found.values()]).tolist()
    assert sorted(ids) == list(range(10))


def test_boxes_without_track_are_linked_by_overlap(tmp_path, write_boxes):
    boxes = []
    for k in range(6):
        for start in (0, 100) if k != 3 else (0,):
            boxes.append({"frame": k, "bbox": [start + 3 * k, 0, 20, 40]})
    path = tmp_path / "b.json"
    path.write_text(json.dumps(boxes[::-1]))
    tracks = read_video_boxes(path, [{str(k): k for k in range(6)}], {"v": 0})
    assert sorted(t.frames.tolist() for t in tracks) == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 4, 5]]
    assert all((np.diff(t.boxes[:, 0]) <= 6).all() for t in tracks)


def test_short_gaps_are_filled_and_long_ones_are_not(write_video, write_boxes):
    frames = [0, 1, 4, 5, 13]
    boxes = [{"frame": k, "bbox": [k, 0, 20, 40], "track": 1} for k in frames]
    data = module(write_video(14), boxes=write_boxes(boxes), frames=6, smooth=1)
    found = clips(data)
    assert answered(found) == [0, 1, 2, 3, 4, 5, 13]
    assert found[0]["box"][:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_boxes_are_smoothed_within_a_run():
    rng = np.random.default_rng(0)
    frames = np.r_[0:40, 60:100]
    clean = np.c_[2.0 * frames, frames, np.full(80, 30), np.full(80, 60)]
    noisy = clean + rng.normal(0, 2, clean.shape)
    smooth = smooth_boxes(frames, noisy, 15)
    inner = np.r_[8:32, 48:72]
    assert np.abs(smooth - clean)[inner].mean() < 0.45 * np.abs(noisy - clean)[inner].mean()
    assert np.allclose(smooth_boxes(frames, clean, 15), clean)  # even motion is kept, gaps and ends included
    assert smooth_boxes(frames, noisy, 1) is noisy
    assert square_boxes(np.array([[10.0, 20, 30, 60]])).tolist() == [[-5, 20, 60, 60]]


def test_overlap():
    assert iou(np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 10, 10], [20, 0, 5, 5]])).tolist() == [[1 / 3, 0]]


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        ([{"frame": 9, "bbox": [1, 1, 5, 5]}], "box number 0 is in frame 9, which the source lacks"),
        ([{"bbox": [1, 1, 5, 5]}], "has neither frame nor file_name"),
        ([{"frame": 0, "bbox": [1, 1, 5, 0]}], "box of zero size"),
        ([{"frame": 0, "bbox": [1, 1, 5, 5], "score": "x"}], "score that is no finite number"),
        ([{"frame": 0, "bbox": [1, 1, 5, 5], "track": [1]}], "track that is neither a number nor a name"),
        ([{"frame": 0, "bbox": [1, 1, 5, 5], "video": "other.mp4"}], "is in video 'other.mp4', which the source lacks"),
        ([{"frame": 0, "bbox": [1, 1, 5, 5], "track": 1}] * 2, "track 1 has two boxes in frame 0"),
        ([], "no box of score 0 or more"),
        ({"boxes": []}, "holds neither a list of boxes"),
    ],
)
def test_wrong_boxes(write_video, write_boxes, boxes, text):
    with pytest.raises(UserError, match=text):
        module(write_video(), boxes=write_boxes(boxes)).dataset("predict")


def test_boxes_of_several_videos_say_which(frame_folder, write_boxes, tmp_path):
    frame_folder(name="folders/x")
    frame_folder(name="folders/y")
    boxes = [{"file_name": "000002.jpg", "bbox": [1, 1, 20, 20], "video": "y"}]
    (found,) = clips(module(tmp_path / "folders", boxes=write_boxes(boxes), frames=1))
    assert found["image_id"].tolist() == [9]
    del boxes[0]["video"]
    with pytest.raises(UserError, match="does not say which of the 2 videos"):
        module(tmp_path / "folders", boxes=write_boxes(boxes)).dataset("predict")


def test_boxes_outside_their_frame(write_video, write_boxes, caplog):
    boxes = [{"frame": k, "bbox": [x, 5, 20, 30], "track": x} for x in (5, 64) for k in range(3)]
    path = write_boxes(boxes)
    with pytest.raises(UserError, match=r"3 faulty boxes: box number 3 \[64, 5, 20, 30\] lies wholly outside"):
        module(write_video(), boxes=path).dataset("predict")
    data = module(write_video(), boxes=path, on_bad_annotation="skip")
    assert [len(track.frames) for track in data.dataset("predict").tracks] == [3]
    assert "left out 3 faulty boxes" in caplog.text


def test_boxes_of_other_objects_and_crowds_are_nobody(write_video, write_boxes):
    person = [{"image_id": k, "category_id": 1, "bbox": [5, 5, 20, 30]} for k in range(3)]
    car = [{"image_id": k, "category_id": 3, "bbox": [40, 5, 20, 30]} for k in range(3)]
    crowd = [{"image_id": 0, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 60, 40]}]
    assert len(module(write_video(), boxes=write_boxes(person + car)).dataset("predict").tracks) == 1
    categories = [{"id": 7, "name": "person"}, {"id": 3, "name": "car"}]
    own = [{**entry, "category_id": 7} for entry in person + crowd] + car
    coco = {"annotations": own, "categories": categories}
    (track,) = module(write_video(), boxes=write_boxes(coco)).dataset("predict").tracks
    assert track.boxes[:, 0].tolist() == [5, 5, 5]
    with pytest.raises(UserError, match="box number 0 has a category_id that is no number"):
        module(write_video(), boxes=write_boxes([{**person[0], "category_id": "x"}])).dataset("predict")


def test_boxes_of_pictures_are_found_by_name_or_image_id(tmp_path, write_boxes):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("anna.png", "bert.png", "carl.png")):
        cv2.imwrite(str(folder / name), np.full((48, 64, 3), 50 * number, np.uint8))
    box = [5, 5, 20, 30]
    named = write_boxes([{"file_name": name, "bbox": box} for name in ("bert.png", "anna.png")])
    assert [int(s["image_id"]) for s in clips(module(folder, boxes=named))] == [0, 1]
    (found,) = clips(module(folder / "bert.png", boxes=named))  # a file for many serves one
    assert found["box"].tolist() == [box]
    assert [int(s["image_id"]) for s in clips(module(folder, boxes=write_boxes([{"image_id": 2, "bbox": box}])))] == [2]
    images = [{"id": 7, "file_name": "bert.png"}, {"id": 9, "file_name": "carl.png"}]
    coco = {"images": images, "annotations": [{"image_id": 9, "bbox": box}, {"image_id": 7, "bbox": box}]}
    data = module(folder, boxes=write_boxes(coco))
    assert [int(s["image_id"]) for s in clips(data)] == [7, 9]
    assert data.frames[9] == "carl.png"
    assert data.read_frame(9).mean() == 100
    with pytest.raises(UserError, match=r"box number 0 is in picture dora\.png, which the source lacks"):
        module(folder, boxes=write_boxes([{"file_name": "dora.png", "bbox": box}])).dataset("predict")


def test_long_videos_take_time_in_proportion(write_boxes):
    rows = [{"frame": f, "bbox": [100.0 * p + 0.1 * (f % 7), 10, 60, 200]} for f in range(12000) for p in range(3)]
    path = Path(write_boxes(rows))
    began = time.process_time()
    tracks = read_video_boxes(path, [{str(k): k for k in range(12000)}], {})
    assert [len(track.frames) for track in tracks] == [12000] * 3
    assert len(fit_for_learning(tracks, 0.2, 96)) == 3
    assert time.process_time() - began < 8


# -- training on unlabelled clips -------------------------------------------------------------------------------------


def people(**heights):
    boxes = []
    for name, (x, height, frames) in heights.items():
        boxes += [{"frame": k, "bbox": [x, 0, 50, height], "track": name} for k in frames]
    return boxes


def test_learning_takes_long_clips_of_one_large_person(write_video, write_boxes):
    boxes = people(good=(0, 100, range(20)), low=(52, 90, range(20)), brief=(-45, 100, range(7)))
    data = module(write_video(20), boxes=write_boxes(boxes), frames=8, min_frames=10, hop=4)
    found = clips(data, "train")
    assert [s["frame"].tolist() for s in found] == [list(range(k, k + 8)) for k in (0, 4, 8, 12)]
    assert all(s["valid"].all() for s in found)
    assert all(s["visible"].sum() == 0 for s in found)


def test_frames_with_overlapping_people_are_dropped(tmp_path, write_boxes):
    boxes = people(a=(0, 100, range(30)), b=(30, 100, range(10, 20)))
    path = tmp_path / "b.json"
    path.write_text(json.dumps(boxes))
    tracks = read_video_boxes(path, [{str(k): k for k in range(30)}], {})
    kept = fit_for_learning(tracks, max_overlap=0.2, min_height=96)
    assert [t.frames.tolist() for t in kept] == [[*range(10), *range(20, 30)]]
    assert len(fit_for_learning(tracks, max_overlap=0.3, min_height=96)) == 2


def test_clips_at_another_frame_rate(write_video):
    data = module(write_video(40), frames=6, min_frames=6, fps=12.5, min_height=1)  # the file has 25
    found = clips(data, "train")
    assert found[0]["image_id"].tolist() == [0, 2, 4, 6, 8, 10]
    assert found[0]["frame"].tolist() == [0, 1, 2, 3, 4, 5]
    faster = clips(module(write_video(20), frames=12, min_frames=12, fps=30, min_height=1), "train")
    assert faster[0]["image_id"].tolist() == [0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 8, 9]


def test_frame_folders_need_a_rate_to_be_resampled(frame_folder):
    folder = frame_folder(range(20))
    with pytest.raises(UserError, match="does not say its frame rate: give source_fps"):
        module(folder, frames=4, min_frames=4, fps=30, min_height=1).dataset("train")
    data = module(folder, frames=4, min_frames=4, fps=30, source_fps=60, min_height=1)
    assert clips(data, "train")[0]["frame"].tolist() == [0, 1, 2, 3]


def test_views_of_training_are_random_and_repeat(write_video):
    data = module(write_video(20), frames=4, min_frames=4, min_height=1, augmentation="pose_track")
    dataset = data.dataset("train")
    assert torch.equal(dataset[(1, 0)]["affine"], dataset[(1, 0)]["affine"])
    assert not torch.equal(dataset[(1, 0)]["affine"], dataset[(2, 0)]["affine"])
    assert module(write_video(2), augmentation=ClipAugmentation(flip=1.0)).augmentation.flip == 1


def test_videos_without_a_clip_to_learn_from_are_named(write_video, tmp_path, caplog):
    for name, count in (("long.mp4", 20), ("short.mp4", 5), ("brief.mp4", 3)):
        write_video(count, name)
    data = module(tmp_path, frames=4, min_frames=12, fps=25, min_height=1)
    assert len(data.dataset("train"))
    text = r"left out 2 videos in which nobody is followed over 12 .* at 25 per second .*: brief.mp4; short.mp4\n"
    assert re.search(text, caplog.text)
    caplog.clear()
    clips(module(tmp_path / "long.mp4", frames=4, min_frames=12, min_height=1), "train")
    data.dataset("predict")
    assert "left out" not in caplog.text


def test_nothing_long_enough_is_one_line(write_video):
    with pytest.raises(UserError, match=r"nobody in .*clip.mp4 is followed over 60 consecutive frames \(min_frames\)"):
        module(write_video(30), min_height=1).dataset("train")


# -- bad input --------------------------------------------------------------------------------------------------------


def test_sources_that_cannot_be_read(write_video, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(write_video().read_bytes()[:600])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"")
    lines = {
        "cut.mp4": "is neither a picture nor a video that OpenCV can read",
        "empty.mp4": "is empty",
        "text.mp4": "is neither a picture nor a video",
        "nothing": "holds no video, no picture and no folder of pictures",
        "absent.mp4": "does not exist",
        "broken.jpg": "is empty",
    }
    for name, text in lines.items():
        with pytest.raises(UserError, match=text) as error:
            module(tmp_path / name).dataset("predict")
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_truncated_video_is_read_as_far_as_it_goes(write_video, tmp_path):
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found = clips(module(path, frames=4))
    count = len(answered(found))
    assert 0 < count < 20
    assert answered(found) == list(range(count))


def test_broken_members_of_a_folder(write_video, frame_folder, tmp_path, caplog):
    (tmp_path / "films").mkdir()
    write_video(3).rename(tmp_path / "films" / "a.mp4")
    (tmp_path / "films" / "b.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"b.mp4 is empty"):
        module(tmp_path / "films").dataset("predict")
    with caplog.at_level(logging.WARNING):
        assert len(clips(module(tmp_path / "films", on_broken_image="skip"))) == 1
    assert "b.mp4" in caplog.text
    folder = frame_folder()
    (folder / "000003.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"000003.jpg is empty.*on_broken_image=skip"):
        module(folder).dataset("predict")
    assert answered(clips(module(folder, frames=3, on_broken_image="skip"))) == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize("split", ["val", "test"])
def test_there_is_nothing_to_evaluate(write_video, split):
    with pytest.raises(UserError, match=f"nothing to {split} on"):
        module(write_video()).dataset(split)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"clip_box": "body"}, "unknown clip_box of VideoClips 'body'"),
        ({"on_broken_image": "ignore"}, "unknown on_broken_image of VideoClips 'ignore'"),
        ({"smooth": 0}, "smooth is 0, but must be at least 1"),
        ({"image_size": (0, 5)}, r"VideoClips: image_size is \[0, 5\], but must be \[W, H\] of at least 16 px"),
        ({"seed": -1}, "VideoClips: seed is -1, but must be 0 or more"),
        ({"fps": 0}, "fps is 0, but must be positive"),
        ({"augmentation": "strong"}, "unknown clip augmentation 'strong'"),
    ],
)
def test_options_are_checked(options, text):
    with pytest.raises(UserError, match=text):
        module("film.mp4", **options)


@requires_shared
def test_real_frames_and_the_film_of_them():
    folder = SHARED / "data/samples/posetrack18/videos/000001_mpiinew_test"
    frames, film = module(folder, frames=3, halo=1), module(folder / "000001_mpiinew_test.mp4", frames=3, halo=1)
    for data in (frames, film):
        found = clips(data)
        assert answered(found) == list(range(len(found)))
        assert data.is_video
    assert len(frames.frames) == 5
    difference = clips(frames)[2]["image"][1] - clips(film)[2]["image"][1]
    assert difference.abs().mean() < 0.2


# -- the command line -------------------------------------------------------------------------------------------------


class Centre(PoseModule):
    """A method on clips that puts every joint into the middle of the box."""

    predicts, clip_frames, clip_halo = "clips", 4, 1

    def __init__(self, skeleton: str | None = None, image_size: list[int] | None = None, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.skeleton = get_skeleton(skeleton or "COCO17")
        self.net = torch.nn.Linear(1, 1)

    def predict_step(self, batch, batch_idx):
        rows = batch["answers"].nonzero(as_tuple=True)
        box = batch["box"][rows]
        joints = (box[:, :2] + box[:, 2:] / 2)[:, None].repeat(1, 17, 1)
        return {
            "keypoints": torch.cat([joints, torch.ones(len(box), 17, 1)], -1), "scores": torch.ones(len(box)),
            "boxes": box, "image_id": batch["image_id"][rows], "sample_id": batch["row_ids"][rows],
            "track_id": batch["track_id"][rows[0]],
        }  # fmt: skip


@pytest.fixture
def centre(tmp_path, monkeypatch):
    module = Centre()
    checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": {}, "pytorch-lightning_version": "2.6.0"}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "centre.ckpt")
    monkeypatch.chdir(tmp_path)
    return "centre.ckpt"


def test_predict_gives_methods_on_clips_the_whole_video(centre, write_video, tmp_path):
    main(["predict", "--ckpt_path", centre, "--input", str(write_video()), "--output", "out"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [entry["image_id"] for entry in results] == list(range(7))
    assert results[3]["keypoints"][:2] == [32, 24]
    assert (tmp_path / "out/overlay.mp4").stat().st_size > 0


def test_predict_takes_boxes_and_pictures(centre, write_video, frame_folder, write_boxes, tmp_path):
    boxes = write_boxes([{"frame": k, "bbox": [10, 10, 20, 20], "track": t} for k in range(5) for t in (7, 4)])
    main(["predict", "--ckpt_path", centre, "--input", str(write_video()), "--boxes", boxes, "--output", "out"])
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert sorted((entry["image_id"], entry["track_id"]) for entry in results) == [
        (k, t) for k in range(5) for t in (0, 1)
    ]
    tracks = json.loads((tmp_path / "out/tracks.json").read_text())
    assert {name: track["person"] for name, track in tracks.items()} == {"0": "4", "1": "7"}
    folder = frame_folder([5, 900])
    main(["predict", "--ckpt_path", centre, "--input", str(folder), "--output", "photos"])
    assert sorted(path.name for path in (tmp_path / "photos/overlays").iterdir()) == ["000005.jpg", "000900.jpg"]


def test_the_source_follows_the_model(tmp_path):
    config = tmp_path / "x.yaml"
    config.write_text("model: {class_path: Centre}")
    assert model_name(["--config", str(config), "--x=1"], None) == "Centre"
    assert model_name(["--config=" + str(config), "--model", "HDM"], None) == "HDM"
    assert model_name(["--model.class_path=TIP"], {"posekit": {"class_path": "a.B"}}) == "TIP"
    assert model_name([], {"posekit": {"class_path": "a.B"}}) == "a.B"
    assert model_name(["--data=x"], None) is None
    words = ["--input", str(tmp_path), "--boxes", "b.json"]
    assert predict_words(words, "VideoClips")[:3] == [
        "--data=VideoClips", f"--data.source={tmp_path}", "--data.boxes=b.json",
    ]  # fmt: skip
