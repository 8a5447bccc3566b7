"""Hostile and odd picture files: used upright and in RGB, or refused with a reason; never a hang or a crash."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from magic141.model_patches.store import pictures
from magic141.model_patches.store.pictures import PictureError, decode, read_bytes
from PIL import Image


def encoded(image, format_, **options):
    data = io.BytesIO()
    image.save(data, format_, **options)
    return data.getvalue()


def two_halves(mode="RGB", size=(40, 20)):
    """Return a picture whose left half is red and right half blue."""
    image = Image.new("RGB", size, (255, 0, 0))
    image.paste((0, 0, 255), (size[0] // 2, 0, size[0], size[1]))
    return image.convert(mode)


def png_announcing(width, height):
    """Return a PNG whose header announces a size its data does not have."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 20_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    with pytest.raises(PictureError, match=r"megapixels|decompression bomb"):
        decode(png_announcing(*size))


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_a_truncated_file_is_refused(format_):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format_)
    with pytest.raises(PictureError, match="damaged"):
        decode(data[: len(data) // 2])


def test_cmyk_becomes_rgb_and_says_so():
    image, note = decode(encoded(two_halves("CMYK"), "JPEG", quality=95))
    assert image.mode == "RGB"
    assert "CMYK" in note
    red, green, blue = image.getpixel((5, 10))
    assert red > 200 > 60 > max(green, blue)


def test_an_animation_gives_its_first_frame_and_says_so():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    image, note = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert image.getpixel((4, 4)) == (255, 0, 0)
    assert "3 frames" in note


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    image, _ = decode(encoded(two_halves(), "JPEG", exif=exif, quality=95))
    assert image.size == (20, 40)
    top, bottom = image.getpixel((10, 5)), image.getpixel((10, 35))
    assert top[0] > 200
    assert bottom[2] > 200


def test_sixteen_bit_grey_keeps_its_range():
    image = Image.fromarray(np.full((8, 8), 32768, dtype=np.uint16))
    assert abs(decode(encoded(image, "PNG"))[0].getpixel((4, 4))[0] - 128) <= 1


def test_a_palette_with_transparency_becomes_rgb():
    data = encoded(two_halves("P"), "PNG", transparency=0)
    assert decode(data)[0].mode == "RGB"


@pytest.mark.parametrize(
    "data", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0" * 4096]
)
def test_what_is_not_a_picture_is_refused(data):
    with pytest.raises(PictureError, match="not a picture"):
        decode(data)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(PictureError, match="empty"):
        read_bytes(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(PictureError, match="regular"):
        read_bytes(tmp_path / "a.png")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(PictureError, match="gone"):
        read_bytes(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_forbidden_file_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(two_halves(), "PNG"))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(PictureError, match="cannot be opened"):
        read_bytes(tmp_path / "a.png")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(two_halves(), "PNG"))
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 10)
    with pytest.raises(PictureError, match="limit"):
        read_bytes(tmp_path / "a.png")


def test_a_jpeg_may_be_decoded_smaller_but_not_below_what_is_needed():
    image, _ = decode(encoded(two_halves(size=(1600, 800)), "JPEG"), at_least_px=64)
    assert 128 <= min(image.size) < 800


def test_tensors_and_images_round_trip():
    image = two_halves()
    tensor = pictures.to_tensor(image)
    assert tensor.shape == (1, 20, 40, 3)
    assert tensor.dtype == torch.float32
    assert pictures.to_image(tensor[0]).tobytes() == image.tobytes()
