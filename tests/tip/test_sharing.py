"""Windows over shared frames: ends of a video, padding, gaps, one frame."""

import torch

from posekit_tip.sharing import as_clips, key_crops, key_windows, trim, windows_at
from tests.tip.made import make_clips


def lay(frames, valid=None, key=None, support=1):
    frame = torch.tensor([frames])
    ok = torch.ones_like(frame, dtype=torch.bool) if valid is None else torch.tensor([valid], dtype=torch.bool)
    return key_windows(frame, ok, torch.tensor([len(frames) // 2 if key is None else key]), support)


def test_a_whole_window():
    w = lay([4, 5, 6])
    assert (w.key.item(), w.before.tolist(), w.after.tolist()) == (1, [[0]], [[2]])
    assert (w.start.item(), w.end.item(), w.whole.item()) == (0, 2, True)


def test_a_missing_neighbour_is_the_key_frame():
    w = lay([5, 5, 6], valid=[0, 1, 1])
    assert (w.before.tolist(), w.after.tolist(), w.whole.item()) == ([[1]], [[2]], False)
    assert (w.start.item(), w.end.item()) == (1, 2)
    w = lay([4, 5, 5], valid=[1, 1, 0])
    assert (w.start.item(), w.end.item(), w.whole.item()) == (0, 1, False)


def test_a_sequence_of_one_frame():
    for frames, valid, key in (([7], [1], 0), ([7, 7, 7], [0, 1, 0], 1)):
        w = lay(frames, valid, key, support=2)
        assert set(w.before.flatten().tolist() + w.after.flatten().tolist()) == {key}
        assert not w.whole.item()


def test_unequal_distances_are_not_whole():
    assert not lay([3, 5, 6]).whole.item()
    assert lay([3, 5, 7]).whole.item()


def test_five_frames_take_the_outermost_pair_that_exists_on_both_sides():
    w = lay([4, 5, 6, 7, 8], support=2)
    assert (w.before.tolist(), w.after.tolist()) == ([[1, 0]], [[3, 4]])
    assert (w.start.item(), w.end.item(), w.whole.item()) == (0, 4, True)
    w = lay([6, 5, 6, 7, 8], valid=[0, 1, 1, 1, 1], support=2)  # the far left one is missing
    assert w.before.tolist() == [[1, 2]]
    assert (w.start.item(), w.end.item(), w.whole.item()) == (1, 3, True)


def test_rows_count_clip_by_clip():
    frame = torch.arange(3).expand(2, 3)
    w = key_windows(frame, torch.ones_like(frame, dtype=torch.bool), torch.tensor([1, 0]), 1)
    assert w.key.tolist() == [1, 3]
    assert w.before.tolist() == [[0], [3]]
    assert w.after.tolist() == [[2], [4]]
    assert w.whole.tolist() == [True, False]


def test_many_windows_share_the_frames_of_their_clip():
    frame = torch.tensor([[0, 1, 2, 3], [8, 9, 9, 9]])
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    w = windows_at(frame, valid, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 1]), 1)
    assert w.key.tolist() == [1, 2, 5]
    assert w.start.tolist() == [0, 1, 4]
    assert w.end.tolist() == [2, 3, 5]
    assert w.whole.tolist() == [True, True, False]


def test_longer_clips_are_cut_to_the_window():
    batch = make_clips(frames=7, key=0)
    cut = trim(batch, 1)
    assert cut["image"].shape[1] == 3
    assert cut["valid"].tolist() == [[False, True, True]] * 2
    torch.testing.assert_close(key_crops(cut)["image"], batch["image"][:, 0])
    torch.testing.assert_close(cut["image"][:, 2], batch["image"][:, 1])
    assert trim(batch, 3) is batch


def test_crops_are_clips_of_one_frame():
    batch = make_clips(frames=3)
    crops = key_crops(batch)
    torch.testing.assert_close(crops["keypoints"], batch["keypoints"][:, 1])
    clips = as_clips(crops)
    assert clips["image"].shape[1] == 1
    for name, value in crops.items():
        torch.testing.assert_close(key_crops(clips)[name], value)
    assert as_clips(batch) is batch
