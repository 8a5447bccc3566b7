"""Sound in pieces: cut to frames without a gap, joined to one track."""

import av
import torch
from magic141.model_patches.store.sound_pieces import fit_length, read_sound, samples_at, to_int16, write_wav


def test_pieces_of_a_video_meet_without_gap_or_overlap():
    ends = [samples_at(frame, 16.0, 44100) for frame in (0, 13, 25, 37)]
    assert ends == [0, 35831, 68906, 101981]
    hour = samples_at(3600 * 24000 // 1001, 24000 / 1001, 48000)
    assert abs(hour / 48000 - 3600) < 0.1


def test_too_long_sound_is_cut_and_too_short_filled_with_silence():
    sound = to_int16(torch.ones(2, 10))
    assert fit_length(sound, 4).tolist() == [[32767] * 4] * 2
    assert fit_length(sound, 12)[:, 10:].tolist() == [[0, 0]] * 2


def test_joined_pieces_are_read_back(tmp_path):
    rate = 8000
    tone = torch.sin(torch.arange(rate) / 5)[None] * 0.5
    pieces = [to_int16(tone), to_int16(tone.expand(2, -1))]
    write_wav(tmp_path / "sound.wav", pieces, rate=rate, channels=2)
    found = read_sound(tmp_path / "sound.wav", rate=rate, channels=2)
    assert found.shape == (2, 2 * rate)
    assert torch.equal(found[:, rate:], pieces[1])
    assert torch.equal(found[0, :rate], pieces[0][0])


def test_a_video_without_sound_gives_none(tmp_path):
    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(16, 16, "yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert read_sound(tmp_path / "silent.mp4", rate=8000, channels=1).shape == (1, 0)
