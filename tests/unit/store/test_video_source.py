"""Videos as cameras, phones and recorders make them: shown as players show them, or refused in words."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from magic141.model_patches.store.video_source import (
    check_frame_rate,
    frames_at_rate,
    is_steady,
    probe_video,
    read_frames,
)

WIDTH, HEIGHT = 64, 48
# A corner of its own gray for each: what is up and what is left can be told.
CORNERS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
CORNERS[:24, :32], CORNERS[:24, 32:], CORNERS[24:, :32], CORNERS[24:, 32:] = 20, 90, 160, 230


def write(path, pictures, *, matrix=None, shape=None, times=None, rate=24, codec="libx264", time_base=None):
    """Write pictures at times (in ticks of 1/1000 s), with a display matrix and a shape of pixels."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options={"qp": "0"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv444p"
        stream.codec_context.max_b_frames = 0
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, rate)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (
                (times[number], Fraction(1, 1000)) if times else (number, Fraction(1, rate))
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def grays(count):
    """Return pictures of one gray each, ten steps apart."""
    return [np.full((HEIGHT, WIDTH, 3), 10 + 10 * i, np.uint8) for i in range(count)]


def levels(frames):
    return [round((frame.mean().item() * 255 - 10) / 10) for frame in frames]


def corners(frame):
    """Return the grays of the four corners, row by row."""
    height, width = frame.shape[:2]
    return [round(frame[y, x].mean().item() * 255) for y in (4, height - 5) for x in (4, width - 5)]


# name: a, b, c, d of the matrix, (x, y) is shown at (a x + c y, b x + d y); and the corners that a player shows
ORIENTATIONS = {
    "as it is": ((1, 0, 0, 1), [20, 90, 160, 230]),
    "mirrored": ((-1, 0, 0, 1), [90, 20, 230, 160]),
    "upside down, mirrored": ((1, 0, 0, -1), [160, 230, 20, 90]),
    "half a turn": ((-1, 0, 0, -1), [230, 160, 90, 20]),
    "quarter turn clockwise": ((0, 1, -1, 0), [160, 20, 230, 90]),
    "quarter turn counterclockwise": ((0, -1, 1, 0), [90, 230, 20, 160]),
    "transposed": ((0, 1, 1, 0), [20, 160, 90, 230]),
    "transposed the other way": ((0, -1, -1, 0), [230, 90, 160, 20]),
}


@pytest.mark.parametrize(("abcd", "wanted"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_every_orientation_is_shown_as_players_show_it(tmp_path, abcd, wanted):
    a, b, c, d = (sign * 65536 for sign in abcd)
    path = write(tmp_path / "a.mp4", [CORNERS] * 2, matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    facts, frame = probe_video(path), next(read_frames(path))
    assert frame.shape[:2] == ((WIDTH, HEIGHT) if abcd[0] == 0 else (HEIGHT, WIDTH))
    assert (facts.height, facts.width) == tuple(frame.shape[:2])
    assert np.allclose(corners(frame), wanted, atol=6)


def test_a_quarter_turn_is_that_of_ffmpeg(tmp_path):
    """Its own reading of the matrix, against ours."""
    path = write(tmp_path / "a.mp4", [CORNERS] * 2, matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert round(frame.rotation) in (-90, 270)  # counterclockwise
    turned = np.rot90(CORNERS, -1).copy()
    assert corners(next(read_frames(path))) == pytest.approx(corners(torch.from_numpy(turned) / 255), abs=6)


@pytest.mark.parametrize(
    ("shape", "size"), [((4, 3), (85, 48)), ((1, 2), (64, 96)), ((1, 1), (64, 48)), ((0, 1), (64, 48))]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_pixels_that_are_not_square_become_square(tmp_path, shape, size, suffix):
    path = write(tmp_path / f"a{suffix}", [CORNERS] * 2, shape=Fraction(*shape))
    facts, frame = probe_video(path), next(read_frames(path))
    assert (facts.width, facts.height) == size == (frame.shape[1], frame.shape[0])
    assert np.allclose(corners(frame), [20, 90, 160, 230], atol=6)


def test_wide_pixels_of_a_turned_picture_are_high(tmp_path):
    matrix = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path = write(tmp_path / "a.mp4", [CORNERS] * 2, matrix=matrix, shape=Fraction(2, 1))
    assert next(read_frames(path)).shape == (128, 48, 3)


def test_pixels_of_no_shape_are_refused(tmp_path):
    """Made square, this one would fill gigabytes."""
    path = write(tmp_path / "a.mkv", [CORNERS] * 2, shape=Fraction(11, 1))
    with pytest.raises(ValueError, match="pixels are 11 times as wide as high"):
        probe_video(path)


def test_a_cover_picture_is_not_the_video(tmp_path):
    path = tmp_path / "a.mp4"
    write(tmp_path / "v.mp4", grays(5))
    with av.open(str(path), "w") as out, av.open(str(tmp_path / "v.mp4")) as video:
        cover = out.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        copied = out.add_stream_from_template(video.streams.video[0])
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(cover.encode(None))
        for packet in video.demux(video.streams.video[0]):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    facts = probe_video(path)
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)
    assert levels(read_frames(path)) == [0, 1, 2, 3, 4]
    assert levels(frames_at_rate(path, 24)) == [0, 1, 2, 3, 4]


def test_an_uneven_recording_is_shown_by_its_time_stamps(tmp_path):
    path = write(tmp_path / "a.mkv", grays(4), times=[0, 100, 500, 600], rate=10)
    assert not is_steady(path)
    check_frame_rate(path, 10)
    assert levels(read_frames(path, 10)) == [0, 1, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("times", [[0], [0, 250, 291, 1000]])
def test_a_recording_without_a_rate_is_shown_by_its_time_stamps(tmp_path, times):
    """Browsers and screen recorders write such files: frames as they came, no rate stated."""
    path = write(tmp_path / "a.mkv", grays(len(times)), times=times, rate=1000)
    check_frame_rate(path, 4)
    assert levels(read_frames(path, 4))[:4] == [0, 1, 2, 2][: len(times)]


def test_rounded_time_stamps_are_steady(tmp_path):
    """Matroska counts in milliseconds: 24 frames a second are 42, 41, 42, 42 ... of them."""
    path = write(tmp_path / "a.mkv", grays(20))
    assert is_steady(path)
    assert levels(read_frames(path, 24)) == list(range(20))
    with pytest.raises(ValueError, match="Set fps to 24"):
        check_frame_rate(path, 25)


@pytest.mark.parametrize("times", [[0, 100, 10**9], [0, 100, 10**12]])
def test_a_jump_of_the_time_stamps_is_said_and_fills_no_memory(tmp_path, times):
    path = write(tmp_path / "a.mkv", grays(3), times=times, rate=10)
    with pytest.raises(ValueError, match=r"time stamps of .* jump from 0.1 to"):
        sum(1 for _ in read_frames(path, 24))


def test_a_damaged_packet_is_said_in_a_sentence(tmp_path):
    path = write(tmp_path / "a.mkv", grays(24), codec="ffv1")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    place = bytes(data).index(bytes(packets[9]))
    data[place : place + len(bytes(packets[9]))] = b"\xff" * packets[9].size
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.mkv is damaged after 9 frames"):
        list(read_frames(path))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="not a regular file"):
        probe_video(tmp_path / "a.mp4")
