"""Sound of a continued video: checked before anything is made, never a reason to lose the pictures."""

from fractions import Fraction

import av
import numpy as np
import pytest
from magic141.model_patches.store.sound import choose_sound
from magic141.model_patches.store.video_sink import join_segments, write_segment
from magic141.tests.unit.store.test_video_sink import clip, samples, video_format, write_with_sound


def write_tracks(path, *waves, codec="pcm_f32le"):
    """Write a second of video with tracks of 48,000 float samples each."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=24)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tracks = [out.add_stream(codec, rate=48000, layout="mono") for _ in waves]
        for number, frame in enumerate(clip(24)):
            picture = av.VideoFrame.from_ndarray((frame * 255).byte().numpy(), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 24)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        for track, wave in zip(tracks, waves, strict=True):
            sound = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="flt", layout="mono")
            sound.sample_rate, sound.time_base, sound.pts = 48000, Fraction(1, 48000), 0
            out.mux(track.encode(sound))
            out.mux(track.encode(None))
    return path


def tone(step=0.2):
    return np.sin(np.arange(48000) * step) * 0.5


def joined_with(tmp_path, sound):
    piece, joined = tmp_path / "0.mp4", tmp_path / "all.mp4"
    write_segment(piece, clip(24), video_format())
    join_segments(joined, [piece], sound=sound)
    return joined


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_becomes_silence_and_is_said(tmp_path, bad):
    wave = tone()
    wave[10000:20000] = bad
    sound, notes = choose_sound(write_tracks(tmp_path / "a.mkv", wave))
    assert notes == ["Sound track 1: 10000 of its 48000 values are no numbers (NaN) and become silence."]
    kept = samples(joined_with(tmp_path, sound))
    assert np.isfinite(kept).all()
    assert np.abs(kept[14000:18000]).max() < 0.01
    assert np.abs(kept[30000:40000]).max() == pytest.approx(0.5, rel=0.1)


def test_a_track_without_a_decoder_gives_way_to_the_next(tmp_path):
    path = write_tracks(tmp_path / "a.mkv", tone(0.2), tone(0.05))
    data = path.read_bytes()
    codec = b"A_PCM/FLOAT/IEEE"
    assert data.count(codec) == 2
    path.write_bytes(data.replace(codec, b"A_NOBODY/KNOWSIT", 1))
    sound, notes = choose_sound(path)
    assert sound is not None
    assert sound.track == 1
    assert len(notes) == 1
    assert "Sound track 1 of 2 cannot be used" in notes[0]
    kept = samples(joined_with(tmp_path, sound))[4096:44096]
    assert np.abs(np.fft.rfft(kept)).argmax() / len(kept) == pytest.approx(0.05 / (2 * np.pi), rel=0.02)


def test_sound_that_nobody_can_decode_is_left_out_and_said(tmp_path):
    path = write_tracks(tmp_path / "a.mkv", tone())
    path.write_bytes(path.read_bytes().replace(b"A_PCM/FLOAT/IEEE", b"A_NOBODY/KNOWSIT"))
    sound, notes = choose_sound(path)
    assert sound is None
    assert notes[-1] == "The video gets no sound."


def test_sound_in_order_needs_no_note(tmp_path):
    write_with_sound(tmp_path / "a.mp4")
    sound, notes = choose_sound(tmp_path / "a.mp4")
    assert sound is not None
    assert (sound.copied, notes) == (True, [])


def test_a_video_without_sound_needs_no_note(tmp_path):
    write_segment(tmp_path / "a.mp4", clip(3), video_format())
    assert choose_sound(tmp_path / "a.mp4") == (None, [])
