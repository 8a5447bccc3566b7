"""Pieces of video on disk: playable alone, joined without loss, sound kept."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from magic141.model_patches.store.sound import choose_sound
from magic141.model_patches.store.video_sink import (
    CODECS,
    VideoFormat,
    join_segments,
    write_segment,
)
from magic141.model_patches.store.video_source import check_frame_rate, probe_video, read_frames


def clip(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, each frame told apart by its brightness."""
    ramp = torch.linspace(0.2, 0.7, 64)[None, :, None].expand(48, 64, 3)
    tint = torch.tensor([1.0, 0.8, 0.6])
    return torch.stack([ramp * tint + 0.02 * ((seed + i) % 10) for i in range(count)])


def stack(path: Path) -> torch.Tensor:
    return torch.stack(list(read_frames(path)))


def video_format(codec="h264", fps=24.0, quality=4) -> VideoFormat:
    return VideoFormat(codec=codec, fps=fps, width=64, height=48, quality=quality)


@pytest.mark.parametrize("codec", list(CODECS))
def test_joined_pieces_hold_the_same_frames_as_the_pieces(tmp_path, codec):
    video = video_format(codec)
    pieces, alone = [], []
    for index, count in enumerate((13, 12, 1, 12)):
        path = tmp_path / f"{index}{video.suffix}"
        assert write_segment(path, clip(count, seed=5 * index), video) == count
        pieces.append(path)
        alone.append(stack(path))
    joined = tmp_path / f"all{video.suffix}"
    join_segments(joined, pieces)
    assert torch.equal(stack(joined), torch.cat(alone))
    with av.open(str(joined)) as container:
        assert container.streams.video[0].average_rate == 24
        assert container.duration / av.time_base == pytest.approx(38 / 24, abs=0.01)
        times = [float(f.time) for f in container.decode(video=0)]
    assert np.allclose(np.diff(times), 1 / 24, atol=1.1e-3)


@pytest.mark.parametrize(
    ("codec", "limit"), [("h264", 0.02), ("h265", 0.02), ("h264 lossless", 0), ("ffv1 lossless", 0)]
)
def test_colours_survive(tmp_path, codec, limit):
    frames = (clip(3) * 255).round() / 255
    path = tmp_path / f"a{video_format(codec).suffix}"
    write_segment(path, frames, video_format(codec))
    assert (stack(path) - frames).abs().max() <= limit + 1e-6


def test_an_unfinished_piece_is_not_there(tmp_path):
    def broken():
        yield from clip(3)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_segment(tmp_path / "a.mp4", broken(), video_format())
    assert list(tmp_path.iterdir()) == []


def write_with_sound(
    path: Path,
    seconds: int = 2,
    audio_codec: str = "aac",
    with_video: bool = True,
    *,
    rate: int = 16000,
    start_s: int = 0,
) -> None:
    with av.open(str(path), "w") as out:
        if with_video:
            video = out.add_stream("libx264", rate=24)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream(audio_codec, rate=rate, layout="mono")
        if with_video:
            for number, frame in enumerate(clip(24 * seconds)):
                picture = av.VideoFrame.from_ndarray((frame * 255).byte().numpy(), format="rgb24")
                picture.pts, picture.time_base = number + 24 * start_s, Fraction(1, 24)
                out.mux(video.encode(picture))
            out.mux(video.encode(None))
        wave = np.sin(np.arange(rate * seconds) * 0.2).astype(np.float32)[None] * 0.5
        sound = av.AudioFrame.from_ndarray((wave * 32000).astype(np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = rate, Fraction(1, rate), rate * start_s
        for part in av.AudioResampler(format=audio.format, layout="mono", rate=rate).resample(sound):
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))


def samples(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([f.to_ndarray().astype(np.float32)[0] for f in container.decode(audio=0)])


@pytest.mark.parametrize(("audio_codec", "suffix"), [("aac", ".mp4"), ("pcm_s16le", ".mkv")])
def test_sound_of_the_source_is_kept(tmp_path, audio_codec, suffix):
    source = tmp_path / f"source{suffix}"
    write_with_sound(source, audio_codec=audio_codec)
    pieces = [tmp_path / f"{i}.mp4" for i in range(2)]
    for path in pieces:
        write_segment(path, clip(48), video_format())
    joined = tmp_path / "all.mp4"
    join_segments(joined, pieces, sound=choose_sound(source)[0])
    kept, original = samples(joined), samples(source)
    assert choose_sound(joined)[0] is not None
    assert abs(len(kept) - len(original)) <= 4096
    scale = 32768 if np.abs(original).max() > 2 else 1
    assert np.abs(kept).max() == pytest.approx(np.abs(original).max() / scale, rel=0.2)
    assert stack(joined).shape[0] == 96


@pytest.mark.parametrize("audio_codec", ["aac", "pcm_s16le"])
def test_sound_stays_with_a_picture_that_starts_late(tmp_path, audio_codec):
    source, piece, joined = tmp_path / "source.mkv", tmp_path / "0.mp4", tmp_path / "all.mp4"
    write_with_sound(source, audio_codec=audio_codec, start_s=3)
    write_segment(piece, clip(48), video_format())
    join_segments(joined, [piece], sound=choose_sound(source)[0])
    with av.open(str(joined)) as container:
        starts = [next(container.decode(audio=0)).time, container.duration / av.time_base]
    assert starts == pytest.approx([0, 2], abs=0.15)


def test_a_rate_that_aac_does_not_know_is_converted(tmp_path):
    source, piece, joined = tmp_path / "source.mkv", tmp_path / "0.mp4", tmp_path / "all.mp4"
    write_with_sound(source, seconds=1, audio_codec="pcm_s16le", rate=192000)
    write_segment(piece, clip(24), video_format())
    join_segments(joined, [piece], sound=choose_sound(source)[0])
    assert abs(len(samples(joined)) - 48000) < 3000


@pytest.mark.parametrize("content", [b"", b"this is no video"])
def test_an_unreadable_video_is_said(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a video"):
        probe_video(path)


def test_sound_without_video_is_said(tmp_path):
    path = tmp_path / "a.m4a"
    write_with_sound(path, with_video=False)
    with pytest.raises(ValueError, match="sound only"):
        probe_video(path)


def test_a_frame_rate_that_does_not_match_is_said(tmp_path):
    path = tmp_path / "a.mp4"
    write_segment(path, clip(5), video_format(fps=30))
    assert check_frame_rate(path, 30).fps == 30
    with pytest.raises(ValueError, match=r"runs at 30 frames a second and fps is set to 24. Set fps to 30"):
        check_frame_rate(path, 24)


def test_film_rate_is_not_24(tmp_path):
    path = tmp_path / "a.mp4"
    write_segment(path, clip(5), video_format(fps=23.976))
    check_frame_rate(path, 23.976)
    with pytest.raises(ValueError, match=r"Set fps to 23.976"):
        check_frame_rate(path, 24)


def test_unknown_codec_is_refused():
    with pytest.raises(ValueError, match="wanted one of h264"):
        video_format("xvid")


def test_nothing_to_join_is_said(tmp_path):
    with pytest.raises(ValueError, match="no finished windows"):
        join_segments(tmp_path / "a.mp4", [])


def test_a_disk_that_fills_up_under_a_piece_is_said(tmp_path, small_files):
    from magic141.model_patches.store.disk import DiskRefused

    noise = torch.rand(40, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    for codec in ("ffv1 lossless", "h264 lossless"):
        with pytest.raises(DiskRefused, match="disk is full"):
            write_segment(tmp_path / f"a{video_format(codec).suffix}", noise, video_format(codec))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    from magic141.model_patches.store.disk import DiskRefused

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("magic141.model_patches.store.files._flush", full)
    with pytest.raises(DiskRefused, match="disk is full"):
        write_segment(tmp_path / "a.mp4", clip(2), video_format())
    assert list(tmp_path.iterdir()) == []
