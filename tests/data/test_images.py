import cv2
import numpy as np
import pytest

from posekit.data.images import check_image_files, read_image
from posekit.errors import UserError


def test_bytes_come_back_in_rgb_order(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_formats(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), picture[..., ::-1])
    assert abs(read_image(path).astype(int) - picture).mean() < 5
    assert check_image_files([path]) == {}


def test_grey_16_bit_and_transparent_pictures(tmp_path, picture):
    grey = picture[..., 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    cv2.imwrite(str(tmp_path / "deep.png"), picture[..., ::-1].astype(np.uint16) * 256)
    assert np.array_equal(read_image(tmp_path / "deep.png"), picture)
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([picture[..., ::-1], grey]))
    assert read_image(tmp_path / "clear.png").shape == picture.shape


def test_cmyk_jpeg(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    red = pil.new("RGB", (32, 24), (200, 30, 40)).convert("CMYK")
    red.save(tmp_path / "cmyk.jpg", quality=95)
    image = read_image(tmp_path / "cmyk.jpg")
    assert image.shape == (24, 32, 3)
    assert abs(image.reshape(-1, 3).mean(0) - [200, 30, 40]).max() < 12


def with_orientation(jpeg, orientation):
    tiff = (
        b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"
        + bytes([0, orientation, 0, 0])
        + b"\0" * 4
    )
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def test_exif_orientation_is_applied_on_request_only(tmp_path, picture):
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(with_orientation(jpeg, 6))
    assert read_image(path).shape == (90, 120, 3)
    assert read_image(path, apply_exif=True).shape == (120, 90, 3)


def jpeg_bytes(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def png_bytes(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda p: b"", "is empty"),
        (lambda p: b"hello, this is a text file\n" * 5, "no picture that OpenCV can read"),
        (lambda p: jpeg_bytes(p)[: len(jpeg_bytes(p)) // 2], "is cut short"),
        (lambda p: jpeg_bytes(p)[:-2], "is cut short"),
        (lambda p: with_orientation(jpeg_bytes(p), 6)[:200] + b"\xff\xd9"[:1], "is cut short"),
        (lambda p: png_bytes(p)[:-30], "is cut short"),
    ],
)
def test_broken_files_are_named_with_a_reason(tmp_path, picture, content, reason):
    path = tmp_path / "x.jpg"
    path.write_bytes(content(picture))
    with pytest.raises(UserError, match=reason) as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert reason in check_image_files([path])[path]


def test_end_mark_of_a_thumbnail_does_not_count(tmp_path, picture):
    jpeg = jpeg_bytes(picture)
    thumbnail = b"Exif\0\0" + jpeg_bytes(picture[::4, ::4])
    whole = jpeg[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + jpeg[2:]
    path = tmp_path / "x.jpg"
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match="cut short"):
        read_image(path)
    path.write_bytes(whole + b"trailing bytes")
    assert read_image(path).shape == (90, 120, 3)
    assert check_image_files([path]) == {}


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "no.jpg")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)
    assert check_image_files([tmp_path / "no.jpg"])[tmp_path / "no.jpg"] == "does not exist"
