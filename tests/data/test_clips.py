from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from posekit.data.batch import CROP_FIELDS, ClipBatch, CropBatch, answered_rows, row_people
from posekit.data.clip_labels import split_affine
from posekit.data.clip_transforms import ClipAugmentation, View
from posekit.data.clip_windows import Window
from posekit.data.clips import ClipDataset, Track, squeeze_clip
from posekit.data.transforms import denormalize_image
from posekit.data.video import VideoReader
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import POSETRACK15, SMPL24
from tests.shared import SHARED, requires_shared

SIZE = (48, 64)


class Reader:
    """Frames whose grey level tells their row, and a list of what was read."""

    def __init__(self, broken=()):
        self.broken = broken
        self.rows = []

    def __call__(self, row):
        self.rows.append(row)
        if row in self.broken:
            raise UserError(f"image frame_{row}.jpg: is empty (0 bytes)")
        return np.full((120, 160, 3), 10 * row % 250, np.uint8)


def make_track(frames, skeleton=POSETRACK15, reader=None, **changes):
    frames = np.asarray(frames, dtype=np.int64)
    count = len(frames)
    rng = np.random.default_rng(5)
    boxes = np.c_[40 + frames, np.full(count, 20), np.full(count, 40), np.full(count, 80)].astype(float)
    points = boxes[:, None, :2] + rng.uniform(0.2, 0.8, (1, len(skeleton), 2)) * [40, 80]
    joints = np.concatenate([points, np.full((count, len(skeleton), 1), 2)], -1)
    fields = {
        "name": "video/person 0", "read": reader or Reader(), "image_rows": np.arange(count), "frames": frames,
        "image_ids": 1000 + frames, "sample_ids": 7000 + frames, "boxes": boxes, "box_scores": np.ones(count),
        "joints": joints, "keys": np.ones(count, dtype=bool),
    }  # fmt: skip
    return Track(**{**fields, **changes})


def dataset(track, window, **options):
    tracks = track if isinstance(track, list) else [track]
    return ClipDataset(tracks, options.pop("skeleton", POSETRACK15), SIZE, window, **options)


CONTRACT = {
    "image": ((3, 64, 48), torch.float32), "keypoints": ((15, 2), torch.float32), "visible": ((15,), torch.int64),
    "affine": ((2, 3), torch.float32), "box": ((4,), torch.float32), "frame": ((), torch.int64),
    "valid": ((), torch.bool), "image_id": ((), torch.int64), "answers": ((), torch.bool), "row_ids": ((), torch.int64),
}  # fmt: skip


def test_batches_keep_the_contract():
    data = dataset(make_track(range(6)), Window.around_keys(2))
    batch = default_collate([data[(0, i)] for i in range(4)])
    for name, (shape, dtype) in CONTRACT.items():
        assert batch[name].shape == (4, 5, *shape), name
        assert batch[name].dtype == dtype, name
    for name, shape in {"box_score": (4,), "key": (4,), "sample_id": (4,), "margin": (4, 2), "track_id": (4,)}.items():
        assert batch[name].shape == shape
    assert set(batch) == {*CONTRACT, "box_score", "key", "sample_id", "margin", "track_id"}


# -- windows ----------------------------------------------------------------------------------------------------------


def test_missing_neighbours_are_the_key_frame_and_not_valid():
    frames = [3, 4, 6, 7]  # the video's ends and a gap
    data = dataset(make_track(frames), Window.around_keys(1))
    expected = {3: [3, 3, 4], 4: [3, 4, 4], 6: [6, 6, 7], 7: [6, 7, 7]}
    margins = {3: [0, 1], 4: [1, 0], 6: [0, 1], 7: [1, 0]}
    for i, frame in enumerate(frames):
        sample = data[(0, i)]
        assert sample["frame"].tolist() == expected[frame]
        assert sample["valid"].tolist() == [f != frame or k == 1 for k, f in enumerate(expected[frame])]
        assert sample["margin"].tolist() == margins[frame]
        assert sample["sample_id"] == 7000 + frame
        assert sample["key"] == 1
        assert (sample["visible"][~sample["valid"]] == 0).all()
        assert (sample["visible"][sample["valid"]] == 2).all()
        for step in torch.where(~sample["valid"])[0]:
            assert torch.equal(sample["image"][step], sample["image"][1])


def test_only_key_rows_make_windows_and_stride_is_in_frame_numbers():
    keys = np.array([False, False, True, False, False])
    data = dataset(make_track([0, 2, 4, 6, 8], keys=keys), Window.around_keys(1, stride=4))
    assert len(data) == 1
    assert data[(0, 0)]["frame"].tolist() == [0, 4, 8]
    assert data[(0, 0)]["margin"].tolist() == [4, 4]


def test_a_track_of_one_frame():
    sample = dataset(make_track([9]), Window.around_keys(2))[(0, 0)]
    assert sample["frame"].tolist() == [9] * 5
    assert sample["valid"].tolist() == [False, False, True, False, False]
    assert sample["margin"].tolist() == [0, 0]


@requires_shared
def test_pools_are_those_of_the_official_code():
    recorded = np.load(SHARED / "golden" / "maed" / "data.npz")
    videos = recorded["vid_names"]
    for number in range(2):
        size, hop, _ = recorded[f"chunks{number}_cfg"].tolist()
        window = Window.pool(size, 1, hop)
        found = []
        for name in np.unique(videos):
            rows = np.flatnonzero(videos == name)
            found.append(rows[window.of(rows - rows[0], np.ones(len(rows), bool), train=True).rows])
        assert np.array_equal(np.concatenate(found), recorded[f"chunks{number}"])
        windows = window.of(np.arange(11), np.ones(11, bool), train=True)
        assert not windows.valid[1].all()


def test_interleaved_clips_of_a_pool_cover_it_once():
    data = dataset(make_track(range(50)), Window.pool(4, 3))
    assert len(data) == 5 * 3 - 1  # pools of 12; of the last one, two rows are real and one clip has none
    woven = []
    for i in range(len(data)):
        sample = data[(0, i)]
        woven += sample["frame"][sample["valid"]].tolist()
        assert np.diff(sample["frame"][sample["valid"]]).tolist() == [3] * (int(sample["valid"].sum()) - 1)
        assert sample["valid"][sample["key"]]
    assert sorted(woven) == list(range(50))
    assert len({int(data[(0, i)]["sample_id"]) for i in range(len(data))}) == len(data)


def test_training_pools_start_at_random_and_overlap_by_half():
    data = dataset(make_track(range(64)), Window.pool(4, 8), train=True)
    assert len(data) == 3
    starts = {int(data[(epoch, 1)]["frame"][0]) for epoch in range(60)}
    assert starts == set(range(16, 24))
    assert data[(5, 1)]["frame"].tolist() == data[(5, 1)]["frame"].tolist()
    assert np.diff(data[(5, 1)]["frame"]).tolist() == [8, 8, 8]


def test_training_pools_of_short_tracks_have_a_real_frame():
    data = dataset(make_track(range(5)), Window.pool(4, 8), train=True)
    drawn = [data[(epoch, 0)] for epoch in range(60)]
    assert all(sample["valid"].any() for sample in drawn)
    assert {int(sample["frame"][0]) for sample in drawn} == set(range(5))
    longer = dataset(make_track(range(12)), Window.pool(4, 8), train=True)
    assert {int(longer[(epoch, 0)]["frame"][0]) for epoch in range(60)} == set(range(8))


def test_short_videos_are_reflected():
    track = make_track(range(5))
    window = Window.pool(8, 1, count_padding=False).of(track.frames, track.keys, train=False)
    assert window.rows.tolist() == [[0, 1, 2, 3, 4, 3, 2, 1]]
    assert window.valid.tolist() == [[True] * 5 + [False] * 3]
    assert Window.pool(8, 1, count_padding=True).of(track.frames, track.keys, train=True).valid.all()


def test_pools_do_not_reach_across_gaps():
    frames = np.array([0, 1, 2, 3, 10, 11, 12, 13])
    keys = np.ones(8, bool)
    split = Window.pool(4, 1).of(frames, keys, train=False)
    assert frames[split.rows].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    joined = Window.pool(8, 1, gaps="ignore").of(frames, keys, train=False)
    assert joined.rows.tolist() == [list(range(8))]
    assert len(Window.pool(4, 1, min_frames=5).of(frames, keys, train=False).rows) == 0


@pytest.mark.parametrize("count", [1, 2, 5, 8, 9, 23])
@pytest.mark.parametrize(("frames", "halo", "hop"), [(8, 0, None), (8, 2, None), (8, 1, 3), (3, 1, None)])
def test_exactly_one_chunk_answers_for_every_frame(count, frames, halo, hop):
    window = Window.chunk(frames, hop, halo).of(np.arange(count), np.ones(count, bool), train=False)
    assert sorted(window.rows[window.answers].tolist()) == list(range(count))
    assert window.answers[np.arange(len(window.key)), window.key].all()
    for rows, valid, answers in zip(window.rows, window.valid, window.answers, strict=True):
        for place in np.flatnonzero(answers):  # its whole context is there, as far as the video has it
            for other in range(place - halo, place + halo + 1):
                assert rows[other] == np.clip(rows[place] + other - place, 0, count - 1)
        assert (np.diff(rows[valid]) == 1).all()


def test_whole_windows_hold_no_padding():
    rules = [Window.chunk(4, tail="shift"), Window.chunk(4), Window.pool(4, 2), Window(5)]
    for count in (3, 7, 9, 20):
        frames, keys = np.arange(count), np.ones(count, dtype=bool)
        for rule in rules:
            every, whole = (r.of(frames, keys, train=True) for r in (rule, replace(rule, whole=True)))
            assert whole.rows.tolist() == every.rows[every.valid.all(1)].tolist()
    assert len(Window.chunk(4, tail="shift", whole=True).of(frames[:3], keys[:3], train=True).rows) == 0


def test_rows_that_clips_answer_for_and_whose_they_are():
    tracks = [make_track(range(3)), make_track(range(3), sample_ids=np.arange(3))]
    data = dataset(tracks, Window.chunk(4, halo=1))
    batch = default_collate([data[(0, i)] for i in range(len(data))])
    taken = answered_rows(batch)
    assert taken.tolist() == [[False, True, True, False], [False, True, False, False]] * 2
    assert row_people(batch)[taken].tolist() == [0] * 3 + [1] * 3
    alone = dataset([replace(track, followed=False) for track in tracks], Window.chunk(4, halo=1))
    batch = default_collate([alone[(0, i)] for i in range(len(alone))])
    assert row_people(batch)[taken].tolist() == [7000, 7001, 7002, 0, 1, 2]  # nobody is followed: rows of their own
    batch = {"valid": torch.tensor([[True, True, False]]), "sample_id": torch.tensor([5])}
    assert row_people(batch)[answered_rows(batch)].tolist() == [5, 5]


def test_tails_of_chunks():
    frames, keys = np.arange(10), np.ones(10, bool)

    def starts(tail):
        return Window.chunk(4, tail=tail).of(frames, keys, train=True).rows[:, 0].tolist()

    assert starts("pad") == [0, 4, 8]
    assert starts("shift") == [0, 4, 6]
    assert starts("drop") == [0, 4]
    shifted = Window.chunk(4, tail="shift").of(frames, keys, train=True)
    assert sorted(shifted.rows[shifted.answers].tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Window(4), "odd number of frames, not 4"),
        (lambda: Window(0), "must be at least 1"),
        (lambda: Window(5, kind="pol"), "unknown kind of window 'pol'"),
        (lambda: Window.chunk(4, halo=2), "a halo of 2 needs chunks of more than 4 frames"),
        (lambda: Window.chunk(4, hop=5), "hop 5 with halo 0 leaves rows between"),
        (lambda: dataset(make_track([0]), Window(3), clip_box="person"), "unknown clip_box 'person'"),
        (lambda: ClipAugmentation(flip=2), "flip is 2"),
        (lambda: ClipAugmentation.preset("mead"), "Did you mean maed"),
    ],
)
def test_options_are_checked(make, text):
    with pytest.raises(UserError, match=text):
        make()


def test_tracks_are_checked():
    with pytest.raises(ValueError, match="boxes has 1 rows, frames has 2"):
        dataset(make_track([0, 1], boxes=np.ones((1, 4))), Window(1))
    with pytest.raises(ValueError, match="do not increase"):
        dataset(make_track([1, 1]), Window(1))


# -- crops ------------------------------------------------------------------------------------------------------------


def test_which_box_cuts_the_frames():
    track = make_track([0, 10, 20])

    def affines(clip_box):
        return dataset(track, Window(3, stride=10), clip_box=clip_box)[(0, 1)]["affine"].numpy()

    key, frame, window = affines("key"), affines("frame"), affines("window")
    assert np.array_equal(key[0], key[1])
    assert np.array_equal(frame[1], key[1])
    assert not np.allclose(frame[0], frame[1])
    assert np.array_equal(window[0], window[2])
    corners = np.array([[40, 20, 1], [100, 100, 1.0]]) @ window[0].T  # around all three boxes
    assert (corners >= 0).all()
    assert (corners <= [47, 63]).all()


def test_keypoints_lie_on_their_pixels_in_every_frame():
    def read(row):
        image = np.zeros((120, 160, 3), np.uint8)
        x, y = track.joints[row, 0, :2].round().astype(int)
        image[y, x] = 255
        return image

    track = make_track(range(3))
    track = make_track(range(3), reader=read, joints=np.round(track.joints))
    augmentation = ClipAugmentation.preset("pose_track", half_body=0.0)
    data = dataset(track, Window(3), clip_box="frame", train=True, augmentation=augmentation)
    seen = 0
    for epoch in range(12):
        sample = data[(epoch, 1)]
        joint = 0 if np.linalg.det(sample["affine"][0, :, :2]) > 0 else POSETRACK15.flip_index[0]
        for step in range(3):
            if sample["visible"][step, joint]:
                bright = denormalize_image(sample["image"][step]).max(-1)
                y, x = np.unravel_index(bright.argmax(), bright.shape)
                seen += 1
                assert np.abs(sample["keypoints"][step, joint].numpy() - [x, y]).max() < 1.5
    assert seen > 15


def test_one_draw_serves_the_whole_clip_and_repeats():
    data = dataset(make_track(range(3)), Window(3), train=True, augmentation=ClipAugmentation.preset("pose_track"))
    first, again, other = data[(2, 1)], data[(2, 1)], data[(3, 1)]
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    assert torch.equal(first["affine"][0], first["affine"][2])
    assert not torch.equal(first["affine"], other["affine"])
    assert torch.equal(data[1]["affine"], data[(0, 1)]["affine"])


def test_maed_crops_stay_within_the_enlarged_box():
    augmentation = ClipAugmentation(crop=1.0, crop_size=0.6)
    box, rng = np.array([10.0, 20.0, 100.0, 100.0]), np.random.default_rng(0)
    sides = []
    for _ in range(200):
        affine = augmentation.view(rng, box, np.zeros((15, 3)), POSETRACK15, (64, 64), 1.3).affine(box, (64, 64), 1.3)
        low = np.linalg.solve(affine[:, :2], -affine[:, 2])
        high = np.linalg.solve(affine[:, :2], [63, 63] - affine[:, 2])
        sides.append(high[0] - low[0])
        assert (low >= [10 - 15 - 1e-6, 20 - 15 - 1e-6]).all()
        assert (high <= [110 + 15 + 1e-6, 120 + 15 + 1e-6]).all()
    assert 70 <= min(sides) < 75
    assert 125 < max(sides) <= 130


def test_no_random_part_is_taken_of_pictures_without_a_box():
    track = make_track(range(2))
    for boxes in (track.boxes, np.full((2, 4), np.nan)):
        data = dataset(
            replace(track, boxes=boxes), Window.chunk(2), augmentation=ClipAugmentation(crop=1.0), train=True
        )
        widths = [47 / data[(epoch, 0)]["affine"][0, 0, 0].item() for epoch in range(5)]
        assert (widths == pytest.approx([160] * 5)) == bool(np.isnan(boxes).all())


def test_crop_affines_agree_with_the_official_ones():
    # Enlargement 0.9 of a square box, shifted by (0.1, -0.15) of its side.
    box = np.array([0.0, 0.0, 100.0, 100.0])
    view = View(np.array([0.1, -0.15]) / 1.3, np.full(2, 0.9 / 1.3), 0.0, False)
    centre = np.linalg.solve(view.affine(box, (65, 65), 1.3)[:, :2], [32, 32] - view.affine(box, (65, 65), 1.3)[:, 2])
    assert np.allclose(centre, [60, 35])
    assert np.isclose(view.affine(box, (65, 65), 1.3)[0, 0], 64 / 90)


@pytest.mark.parametrize(
    ("official", "sides"), [(False, {"top", "bottom", "left", "right"}), (True, {"top", "bottom"})]
)
def test_erased_parts(official, sides):
    augmentation = ClipAugmentation(erase=0.5, erase_part=0.7, erase_rows=official)
    rng, found, hits = np.random.default_rng(1), set(), 0
    for _ in range(60):
        crops = augmentation.pixels(rng, [np.full((40, 30, 3), 200, np.uint8)] * 4)
        black = [c[..., 0] == 0 for c in crops]
        names = set()
        for b in black:
            if b.any():
                hits += 1
                assert b.mean() <= 0.7
                rows, columns = b.all(1), b.all(0)
                side = ("top" if rows[0] else "bottom") if rows.any() else ("left" if columns[0] else "right")
                names.add(side)
                assert b.sum() == (rows.sum() * 30 if rows.any() else columns.sum() * 40)
        assert len(names) <= 1  # one side a clip
        found |= names
    assert found == sides
    assert 80 < hits < 160


def test_colours_change_alike_in_all_frames():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
    for seed in range(6):
        crops = ClipAugmentation(color=0.3).pixels(np.random.default_rng(seed), [picture] * 3)
        assert np.array_equal(crops[0], crops[2])
        assert not np.array_equal(crops[0], picture)
    same = ClipAugmentation(flip=0.5).pixels(rng, [picture])
    assert same[0] is picture


def test_half_body_moves_with_the_box_of_each_frame():
    data = dataset(
        make_track([0, 10]), Window.chunk(2), clip_box="frame", train=True, augmentation=ClipAugmentation(half_body=1.0)
    )
    affine = data[(0, 0)]["affine"].numpy()
    assert np.allclose(affine[0, :, :2], affine[1, :, :2])
    shift = affine[1] @ [50.0, 0, 1] - affine[0] @ [40.0, 0, 1]
    assert np.allclose(shift, 0, atol=1e-4)
    whole = dataset(make_track([0, 10]), Window.chunk(2), clip_box="frame")[(0, 0)]["affine"].numpy()
    assert affine[0, 0, 0] > whole[0, 0, 0]


# -- labels in 3D -----------------------------------------------------------------------------------------------------


def body_track(frames=2, **changes):
    rng = np.random.default_rng(3)
    joints3d = rng.normal(0, 0.3, (frames, 24, 3)) + np.array([0.1, -0.2, 4.0])
    camera = np.array([[90.0, 0, 80], [0, 95, 60], [0, 0, 1]])
    pixels = joints3d @ camera.T
    joints = np.concatenate([pixels[..., :2] / pixels[..., 2:], np.full((frames, 24, 1), 2)], -1)
    return make_track(
        range(frames), SMPL24, joints=joints, joints3d=joints3d, camera=np.repeat(camera[None], frames, 0),
        body_pose=rng.normal(0, 0.5, (frames, 24, 3)), body_shape=rng.normal(0, 1, (frames, 10)),
        body_translation=rng.normal(0, 1, (frames, 3)), **changes,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_moved_3d_labels_project_on_the_moved_joints(seed):
    augmentation = ClipAugmentation(flip=0.5, rotation=40.0, rotation_probability=1.0, scale=0.3)
    options = {"train": True, "augmentation": augmentation, "clip_box": "frame", "seed": seed}
    data = dataset(body_track(), Window.chunk(2), skeleton=SMPL24, **options)
    sample = data[(0, 0)]
    pixels = sample["joints3d"] @ sample["camera"].mT
    pixels = pixels[..., :2] / pixels[..., 2:]
    seen = sample["visible"] > 0
    assert seen.sum() > 5
    assert torch.allclose(pixels[seen], sample["keypoints"][seen], atol=2e-3)
    camera = sample["camera"]
    assert (camera[:, [0, 1, 2], [0, 1, 2]] > 0).all()
    assert camera[:, [1, 2, 2], [0, 0, 1]].abs().max() < 1e-4


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("angle", [0.0, 35.0])
def test_moved_bodies_have_moved_joints(flipped, angle):
    """A kinematic chain posed by the moved labels gives the moved joints, for a body that is its own mirror image."""
    rng = np.random.default_rng(7)
    rest = rng.normal(0, 0.3, (24, 3))
    rest = 0.5 * (rest + rest[list(SMPL24.flip_index)] * [-1, 1, 1])

    def joints_of(pose, translation):
        turn = [axis_angle_to_matrix(pose[0])]
        at = [rest[0]]
        for joint in range(1, 24):
            parent = SMPL24.parents[joint]
            turn.append(turn[parent] @ axis_angle_to_matrix(pose[joint]))
            at.append(at[parent] + turn[parent] @ (rest[joint] - rest[parent]))
        return np.stack(at) + translation

    track = body_track(1)
    joints3d = joints_of(track.body_pose[0], track.body_translation[0])[None]
    track = body_track(1, body_pelvis=rest[None, 0])
    track = make_track(
        [0], SMPL24, joints3d=joints3d, body_pose=track.body_pose, body_translation=track.body_translation,
        body_pelvis=rest[None, 0],
    )  # fmt: skip

    class Fixed(ClipAugmentation):
        def view(self, *_):
            return View(np.zeros(2), np.ones(2), angle, flipped)

    sample = dataset(track, Window(1), skeleton=SMPL24, train=True, augmentation=Fixed())[(0, 0)]
    moved = joints_of(sample["body_pose"][0].double().numpy(), sample["body_translation"][0].double().numpy())
    assert np.abs(moved - sample["joints3d"][0].numpy()).max() < 1e-5
    if angle or flipped:
        assert np.abs(moved - joints3d[0]).max() > 0.05


def test_an_affine_without_camera_is_divided_too():
    affine = np.array([[-2.0, 0, 50], [0, 2, 3]])
    move = split_affine(affine)
    assert np.allclose(move.world, np.diag([-1, 1, 1]))
    assert np.allclose(move.camera @ move.world, np.vstack([affine, [0, 0, 1]]))


def test_labels_that_a_track_lacks_are_zeros_of_weight_0():
    data = dataset([body_track(), make_track(range(2), SMPL24)], Window(1), skeleton=SMPL24)
    batch = default_collate([data[(0, i)] for i in range(4)])
    assert batch["joints3d_weight"].sum((1, 2)).tolist() == [24, 24, 0, 0]
    assert batch["body_weight"].flatten().tolist() == [1, 1, 0, 0]
    assert batch["body_pose"][2:].abs().max() == 0
    padded = dataset(body_track(), Window(3), skeleton=SMPL24)[(0, 0)]
    assert padded["body_weight"].tolist() == [0, 1, 1]
    assert padded["joints3d_weight"][0].sum() == 0


def test_windows_of_one_frame_become_crops():
    sample = squeeze_clip(dataset(body_track(), Window(1), skeleton=SMPL24)[(0, 1)])
    assert sample["image"].shape == (3, 64, 48)
    assert sample["joints3d"].shape == (24, 3)
    assert sample["camera"].shape == (3, 3)
    assert set(sample) == {
        "image", "keypoints", "visible", "affine", "box", "box_score", "image_id", "sample_id", "joints3d",
        "joints3d_weight", "body_pose", "body_shape", "body_weight", "body_translation", "camera",
    }  # fmt: skip
    assert sample["joints3d_weight"].tolist() == [1] * 24
    assert sample["body_weight"] == 1


def test_what_a_crop_has_in_common_with_a_frame_of_a_clip_is_listed():
    common = set(CropBatch.__annotations__) & set(ClipBatch.__annotations__)
    assert set(CROP_FIELDS) == common - {"box_score", "sample_id"}  # one for each clip


@pytest.mark.parametrize("clip_box", ["key", "frame", "window"])
def test_a_neighbour_without_a_box_takes_the_key_frames(clip_box):
    track = make_track(range(3))
    track.boxes[0] = np.nan
    affine = dataset(track, Window.around_keys(1), clip_box=clip_box)[(0, 1)]["affine"]
    assert torch.equal(affine[0], affine[1])
    alone = dataset(make_track(range(1, 3)), Window.around_keys(1), clip_box=clip_box)[(0, 0)]["affine"]
    assert torch.allclose(affine[1:], alone[1:])
    whole = dataset(track, Window.around_keys(1), clip_box=clip_box)[(0, 0)]["affine"]
    assert torch.allclose(whole[:, 0, 0], torch.tensor(47 / 160))


# -- broken pictures --------------------------------------------------------------------------------------------------


def test_a_broken_picture_is_named():
    data = dataset(make_track(range(3), reader=Reader({2})), Window(3))
    with pytest.raises(UserError, match=r"frame_2.jpg: is empty"):
        data[(0, 1)]


def test_a_broken_neighbour_is_replaced_by_the_key_frame(caplog):
    data = dataset(make_track(range(3), reader=Reader({2})), Window(3), on_broken_image="skip")
    sample = data[(0, 1)]
    assert sample["frame"].tolist() == [0, 1, 1]
    assert sample["valid"].tolist() == [True, True, False]
    assert sample["margin"].tolist() == [1, 0]
    assert "skipped: image frame_2.jpg" in caplog.text


def test_a_broken_key_frame_gives_a_sample_that_nothing_counts():
    track = make_track(range(3), reader=Reader({1}))
    sample = dataset(track, Window(3), on_broken_image="skip")[(0, 1)]
    good = dataset(make_track(range(3)), Window(3))[(0, 1)]
    assert {n: v.shape for n, v in sample.items()} == {n: v.shape for n, v in good.items()}
    assert not sample["valid"].any()
    assert sample["visible"].sum() == 0
    assert sample["box_score"] == 0
    assert sample["sample_id"] == good["sample_id"]


def test_in_chunks_the_nearest_frame_stands_in():
    data = dataset(make_track(range(4), reader=Reader({2, 3})), Window.chunk(4), on_broken_image="skip")
    sample = data[(0, 0)]
    assert sample["frame"].tolist() == [0, 1, 1, 1]
    assert sample["valid"].tolist() == [True, True, False, False]


def test_neighbouring_windows_read_a_frame_once():
    reader = Reader()
    data = dataset(make_track(range(10), reader=reader), Window(5))
    for i in range(10):
        data[(0, i)]
    assert sorted(reader.rows) == list(range(10))


# -- videos -----------------------------------------------------------------------------------------------------------


class CountingVideo(VideoReader):
    """Counts the frames that a video decodes, which cannot go back."""

    def __init__(self):
        self.at = self.decoded = 0

    def __call__(self, row):
        self.at = 0 if row < self.at else self.at
        self.decoded += row + 1 - self.at
        self.at = row + 1
        return np.full((120, 160, 3), row % 250, np.uint8)


@pytest.mark.parametrize(
    "window", [Window.pool(4, 8), Window(5, stride=10), Window(4, 8, kind="chunk")], ids=["pool", "key", "chunk"]
)
def test_a_video_is_decoded_once_for_windows_between_one_another(window):
    read = CountingVideo()
    data = dataset(make_track(range(160), reader=read), window)
    rows = [data[(0, index)]["image_id"] for index in range(len(data))]
    assert set(torch.cat(rows).tolist()) == set(range(1000, 1160))
    assert read.decoded <= 500  # all but the first windows around keys go forward


def test_frames_too_large_to_keep_are_not_read_ahead():
    read = CountingVideo()
    data = dataset(make_track(range(32), reader=read), Window.pool(4, 8))
    data._frames.megabytes = 0
    data[(0, 0)]
    assert read.decoded <= 26
