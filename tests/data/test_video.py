import logging
import multiprocessing
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.data.body3d.frames import LazyVideo
from posekit.data.crops import FileReader
from posekit.data.recent import Recent
from posekit.data.video import VideoReader
from posekit.errors import UserError

FILES = Path("/proc/self/fd")


def test_a_forked_process_reads_a_video_that_its_parent_has_read(write_video):
    read = VideoReader(write_video())
    first = read(3)
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(17 if read(5).mean() > 100 else 1))
    child.start()
    child.join(20)
    alive = child.is_alive()
    child.kill()
    assert not alive, "the child waits for decoder threads that only its parent has"
    assert child.exitcode == 17
    assert (read(3) == first).all()
    assert abs(read(4).mean() - 120) < 6


@pytest.mark.skipif(not FILES.is_dir(), reason="counts open files as Linux shows them")
def test_many_videos_leave_few_files_open_and_few_frames_kept(write_video):
    path = write_video()
    readers = [LazyVideo(path) for _ in range(30)]
    before = len(list(FILES.iterdir()))
    for read in readers:
        read(1)
    assert len(list(FILES.iterdir())) - before <= 8
    assert sum(read._last is not None for read in readers) <= 8
    assert all(abs(read(2).mean() - 60) < 6 for read in readers[::10])


def test_many_readers_of_pictures_keep_few_of_them(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((9, 12, 3), 7, np.uint8))
    readers = [FileReader([path]) for _ in range(30)]
    assert all((read(0) == 7).all() for read in readers)
    assert sum(read._last is not None for read in readers) <= 8


def test_what_was_used_last_stays_and_what_is_gone_does_not_count():
    class Holder:
        closed = False

        def close(self):
            self.closed = True

    recent = Recent(2)
    a, b, c = Holder(), Holder(), Holder()
    for holder in (a, b, a, c):
        recent.use(holder)
    assert [a.closed, b.closed, c.closed] == [False, True, False]
    del a
    recent.use(b)
    assert not c.closed


def test_a_video_that_is_gone_is_not_called_something_else(write_video):
    path = write_video()
    read = VideoReader(path)
    path.unlink()
    with pytest.raises(UserError, match=r"clip\.mp4 cannot be opened \(No such file"):
        read(0)


def test_a_lazy_video_tells_its_size(write_video):
    assert LazyVideo(write_video()).size() == (64, 48)


def test_a_video_cut_short_is_named_with_both_counts(tmp_path, caplog):
    path, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for _ in range(40):
        writer.write(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    writer.release()
    shutil.copy(path, cut)
    with cut.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with caplog.at_level(logging.WARNING):
        assert VideoReader(path).count == 40
        assert not caplog.records
        count = VideoReader(cut).count
    assert 5 < count < 30
    assert len(caplog.records) == 1
    assert f"cut.avi is damaged: {count} frames can be decoded of the 40" in caplog.text


def _grey_film(path, frames=40):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 5 * number, np.uint8))
    writer.release()
    return path


def _with_number(data, box, place, number):
    at = data.index(box) + 4 + place
    return data[:at] + number.to_bytes(4, "big") + data[at + 4 :]


def test_a_trimmed_film_is_not_called_damaged(tmp_path, caplog):
    path = _grey_film(tmp_path / "trimmed.mp4")
    # An edit list that begins with frame 12, as phones and "ffmpeg -ss … -c copy" write it: 512 ticks a frame.
    path.write_bytes(_with_number(path.read_bytes(), b"elst", 12, 12 * 512))
    with caplog.at_level(logging.WARNING):
        assert VideoReader(path).count == 28
    (record,) = caplog.records
    assert "trimmed.mp4 has 28 frames; its header says 40, as trimmed or variable-rate films do" in record.getMessage()
    assert "damaged" not in caplog.text


def test_an_mp4_cut_short_is_damaged(tmp_path, caplog):
    data = _grey_film(tmp_path / "whole.mp4").read_bytes()
    media, index = data.index(b"mdat") - 4, data.index(b"moov") - 4
    moved = data[index:]  # the index to the front, as for the web: such a file can be read up to its cut
    place = int.from_bytes(moved[moved.index(b"stco") + 12 :][:4], "big")
    moved = _with_number(moved, b"stco", 8, place + len(moved))
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[:media] + moved + data[media:index])
    with caplog.at_level(logging.WARNING):
        assert VideoReader(path).count == 40
        assert not caplog.records
        path.write_bytes(path.read_bytes()[: -(index - media) // 2])
        count = VideoReader(path).count
    assert 0 < count < 34
    assert f"cut.mp4 is damaged: {count} frames can be decoded of the 40" in caplog.text
