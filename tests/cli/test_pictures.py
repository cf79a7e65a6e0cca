"""Pictures and videos of every kind, whole and broken, through the command line and through a data module."""

import json
import shutil
import struct
import zlib

import cv2
import numpy as np
import pytest

from posekit.cli import main
from posekit.data import ImageSource
from posekit.data.images import check_image_files, read_image
from tests.data.test_images import with_orientation

from .test_run import refused

QUIET = ["--trainer.enable_progress_bar=false", "--data.num_workers=0"]


def picture(height=48, width=64):
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (width, height))


def png(header, rows, *chunks):
    """Writes a PNG by hand: a kind that OpenCV does not write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *(chunk(*c) for c in chunks), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette_png():
    places = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    colours = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)], 1).astype(np.uint8)
    header = struct.pack(">IIBBBBB", 64, 48, 8, 3, 0, 0, 0)
    return png(header, [row.tobytes() for row in places], (b"PLTE", colours.tobytes())), colours[places]


def encoded(suffix, image):
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.fixture
def kinds(tmp_path):
    """A folder of whole pictures of all kinds."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    bgr = picture()
    grey = bgr[..., 0]
    files = {
        "rgb.jpg": encoded(".jpg", bgr),
        "grey.jpg": encoded(".jpg", grey),
        "grey.png": encoded(".png", grey),
        "grey16.png": encoded(".png", grey.astype(np.uint16) * 257),
        "rgb16.png": encoded(".png", bgr.astype(np.uint16) * 257),
        "alpha.png": encoded(".png", np.dstack([bgr, np.zeros_like(grey)])),
        "palette.png": palette_png()[0],
        "turned.jpg": with_orientation(encoded(".jpg", bgr), 6),
        "a.bmp": encoded(".bmp", bgr),
        "a.tiff": encoded(".tiff", bgr),
        "a.webp": encoded(".webp", bgr),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


BROKEN = {
    "zero.jpg": (lambda: b"", "is empty"),
    "cut.jpg": (lambda: encoded(".jpg", picture())[:-40], "is cut short"),
    "cut.png": (lambda: encoded(".png", picture())[:-40], "is cut short"),
    "cut.webp": (lambda: encoded(".webp", picture())[:200], "cannot be decoded"),
    "cut.tiff": (lambda: encoded(".tiff", picture())[:600], "cannot be decoded"),
    "cut.bmp": (lambda: encoded(".bmp", picture())[:600], "cannot be decoded"),
    "damaged.png": (lambda: encoded(".png", picture())[:60] + b"\0" * 400 + b"IEND\xae\x42\x60\x82", "image"),
    "text.jpg": (lambda: b"no picture at all, but a text\n", "is no picture"),
}


def test_each_kind_gives_eight_bits_and_three_channels(kinds):
    assert check_image_files(kinds.iterdir()) == {}
    rgb = picture()[..., ::-1].astype(int)
    same = {
        "rgb16.png": rgb,
        "alpha.png": rgb,
        "grey16.png": np.repeat(rgb[..., 2:], 3, 2),
        "palette.png": palette_png()[1],
    }
    for path in sorted(kinds.iterdir()):
        image = read_image(path, apply_exif=True)
        assert image.dtype == np.uint8
        assert image.shape == ((64, 48, 3) if path.name == "turned.jpg" else (48, 64, 3))
        if path.name in same:
            assert np.abs(image - same[path.name]).max() <= 1, path.name


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bytes_are_refused_and_named(tmp_path, name, capfd):
    path = tmp_path / name
    path.write_bytes(BROKEN[name][0]())
    with pytest.raises(ValueError, match=BROKEN[name][1]) as error:
        read_image(path)
    assert name in str(error.value)
    said = "".join(capfd.readouterr()).splitlines()
    assert [line for line in said if "libpng" not in line] == []  # OpenCV's own remarks stay off, OpenCV 4's libpng not


def predict(source, *words):
    main(["predict", "--input", str(source), "--output", "out", *QUIET, *words])
    return json.loads((source.parent / "out/images.json").read_text())


def test_predict_reads_every_kind(kinds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = predict(kinds)
    assert sorted(names.values()) == sorted(p.name for p in kinds.iterdir())
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert {str(row["image_id"]) for row in found} == set(names)
    overlays = {p.stem: cv2.imread(str(p)).shape for p in (tmp_path / "out/overlays").iterdir()}
    assert overlays["turned"] == (512, 384, 3)  # a small picture is enlarged


def test_overlays_of_pictures_of_one_stem_do_not_replace_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twins").mkdir()
    for name in ("a.png", "a.bmp", "b.png"):
        cv2.imwrite(str(tmp_path / "twins" / name), np.full((32, 24, 3), 90, np.uint8))
    predict(tmp_path / "twins")
    assert {p.name for p in (tmp_path / "out/overlays").iterdir()} == {"a.png.jpg", "a.bmp.jpg", "b.jpg"}


def test_predict_names_counts_and_leaves_out_broken_pictures(kinds, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    for name, (content, _) in BROKEN.items():
        (kinds / name).write_bytes(content())
    line = refused(capsys, "predict", "--input", str(kinds), "--output", "out", *QUIET)
    assert "ImageSource: 8 of 19 images are absent or broken" in line
    assert "cut.bmp" in line
    assert line.endswith("--data.on_broken_image=skip leaves them out.")
    option = line.split()[-4]
    predict(kinds, option)  # the option as the message spells it
    assert "ImageSource: left out 8 of 19 images" in caplog.text
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert len({row["image_id"] for row in found}) == 11
    for path in kinds.iterdir():
        if path.name not in BROKEN:
            path.unlink()
    assert "8 of 8 images are absent or broken" in refused(capsys, "predict", "--input", str(kinds), option, *QUIET)


def test_arguments_of_the_writer_can_be_set(kinds, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    predict(kinds, "--trainer.callbacks.score_threshold=2", "--trainer.callbacks.overlays=false")
    assert "0 people: out/results.json; further 11 candidates of a score below 2 in the file" in capsys.readouterr().out
    assert not (tmp_path / "out/overlays").exists()


@pytest.mark.parametrize("name", ["cut.jpg", "zero.jpg", "text.jpg"])
def test_predict_refuses_a_single_broken_picture(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(BROKEN[name][0]())
    line = refused(capsys, "predict", "--input", name, "--data.on_broken_image=skip", *QUIET)
    assert line.startswith("posekit: error: ImageSource: ")
    assert name in line
    assert BROKEN[name][1] in line


def film(path, frames=12):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(frames):
        writer.write(picture())
    writer.release()
    return path


def test_predict_reads_a_cut_video_as_far_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = film(tmp_path / "film.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    names = predict(tmp_path / "cut.avi")
    assert 0 < len(names) < 12
    shown = cv2.VideoCapture("out/overlay.mp4")
    assert shown.get(cv2.CAP_PROP_FRAME_COUNT) == len(names)


@pytest.mark.parametrize(("content", "text"), [(b"", "is empty"), (b"no film" * 50, "neither a picture nor a video")])
def test_predict_refuses_what_is_no_video(tmp_path, monkeypatch, capsys, content, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes(content)
    line = refused(capsys, "predict", "--input", "film.mp4", "--output", "out", *QUIET)
    assert line.startswith("posekit: error: ImageSource: ")
    assert "film.mp4" in line
    assert text in line
    assert not (tmp_path / "out/results.json").exists()


@pytest.mark.parametrize("kind", ["jpeg", "empty", "grey", "alpha"])
def test_training_on_odd_and_broken_pictures(kind, mini_coco, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(mini_coco, tmp_path / "coco")
    image = sorted((root / "train2017").iterdir())[1]
    pixels = cv2.imread(str(image))
    content = {
        "jpeg": encoded(".jpg", pixels)[:-50],
        "empty": b"",
        "grey": encoded(".jpg", pixels[..., 0]),
        "alpha": encoded(".png", np.dstack([pixels, pixels[..., 0]])),
    }
    image.write_bytes(content[kind])
    words = ["fit", "--config", "hdm/coco_mini", f"--data.root={root}", "--trainer.fast_dev_run=true", *QUIET]
    if kind in ("grey", "alpha"):
        main(words)
        return
    line = refused(capsys, *words)
    assert "COCOKeypoints: 1 of 3 images of split train" in line
    assert image.name in line
    main([*words, "--data.on_broken_image=skip"])
    assert "COCOKeypoints: left out 1 of 3 images of split train" in caplog.text


def test_boxes_of_a_video_name_their_frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "film.avi", frames=3)
    boxes = [{"frame": 2, "bbox": [1, 1, 30, 40]}, {"frame": 0, "bbox": [1, 1, 30, 40], "track": 1}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    source = ImageSource("film.avi", boxes="boxes.json")
    assert [int(source.dataset("predict")[0, i]["image_id"]) for i in range(2)] == [0, 2]
