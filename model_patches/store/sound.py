"""Put the sound of a video beside new pictures: copied where the container can hold it, encoded to AAC otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError

from .cancel import until_canceled
from .video_source import Source, open_source, video_stream

_MP4_SOUND = {"aac", "mp3", "mp3float", "ac3", "eac3", "alac"}
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True)
class Sound:
    """A sound track that can be used.

    Attributes:
        source: the file.
        track: its number among the file's sound tracks.
        copied: whether its packets are copied without encoding.
    """

    source: Source
    track: int
    copied: bool

    def stream(self, container: InputContainer) -> AudioStream:
        """Return the track of the opened file."""
        return container.streams.audio[self.track]


def choose_sound(source: Source) -> tuple[Sound | None, list[str]]:
    """Return the first sound track that can be decoded to its end, if there is one, and notes on what cannot be used.

    The whole track is decoded once, so that damage shows before the pictures are made and not after.
    """
    notes = []
    with open_source(source) as container:
        count = len(container.streams.audio)
    for track in range(count):
        try:
            copied, note = _try_track(source, track)
        except (FFmpegError, ValueError, ArithmeticError) as error:
            notes.append(f"Sound track {track + 1} of {count} cannot be used: {error}.")
            continue
        return Sound(source, track, copied), notes + ([f"Sound track {track + 1}: {note}."] if note else [])
    return None, notes + (["The video gets no sound."] if count else [])


def _try_track(source: Source, track: int) -> tuple[bool, str]:
    """Return whether a track can be copied, and a note.

    Raises:
        ValueError: there is no decoder for it, it is damaged, or empty.
    """
    with open_source(source) as container:
        stream = container.streams.audio[track]
        if stream.codec_context is None:
            raise ValueError("there is no decoder for it")
        num_samples = num_broken = 0
        for frame in until_canceled(container.decode(stream)):
            values = frame.to_ndarray()
            num_samples += values.size
            if values.dtype.kind == "f":
                num_broken += int(np.count_nonzero(~np.isfinite(values)))
        if not num_samples:
            raise ValueError("it is empty")
        broken = f"{num_broken} of its {num_samples} values are no numbers (NaN) and become silence"
        note = broken if num_broken else ""
        return not num_broken and stream.codec_context.name in _MP4_SOUND, note


def sound_packets(sound: Sound, out: OutputContainer) -> Iterator[tuple[float, av.Packet]]:
    """Add a sound track to a file that is being written, and return its packets, (seconds, packet)."""
    with open_source(sound.source) as container:
        source = sound.stream(container)
        if sound.copied:
            return _copied_packets(sound, out.add_stream_from_template(source))
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48000
        layout = _LAYOUTS.get(context.channels, "stereo")
    return _encoded_packets(sound, out.add_stream("aac", rate=rate, layout=layout))


def _first_picture_s(container: InputContainer, source: Source) -> float:
    """Return when the first picture is shown: the new pictures start at 0, so the sound is shifted by as much."""
    if not container.streams.video:  # sound alone, made to start with the pictures
        return 0.0
    video = video_stream(container, source)
    return float((video.start_time or 0) * (video.time_base or 0))


def _copied_packets(sound: Sound, stream: AudioStream) -> Iterator[tuple[float, av.Packet]]:
    with open_source(sound.source) as container:
        start_s = _first_picture_s(container, sound.source)
        for packet in until_canceled(container.demux(sound.stream(container))):
            if not packet.size or packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            shift = round(start_s / packet.time_base)
            if shift > 0 and packet.pts + (packet.duration or 0) <= shift:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream, seconds = stream, float(packet.pts * packet.time_base)
            yield seconds, packet


def _encoded_packets(sound: Sound, stream: AudioStream) -> Iterator[tuple[float, av.Packet]]:
    for frame in chain(_resampled(sound, stream), [None]):
        for packet in stream.encode(frame):
            assert packet.pts is not None
            assert packet.time_base is not None
            yield float(packet.pts * packet.time_base), packet


def _resampled(sound: Sound, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Yield the sound in the format of the new stream, its time counted from the first picture."""
    with open_source(sound.source) as container:
        start_s = _first_picture_s(container, sound.source)
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        for frame in until_canceled(container.decode(sound.stream(container))):
            frame = _without_nan(frame)
            if frame.pts is not None and frame.time_base is not None and start_s:
                frame.pts -= round(start_s / frame.time_base)
                if frame.pts * frame.time_base + frame.samples / frame.sample_rate <= 0:
                    continue
            yield from resampler.resample(frame)
        yield from resampler.resample(None)


def _without_nan(frame: av.AudioFrame) -> av.AudioFrame:
    """Return a frame with silence in place of NaN and infinity, at which the AAC encoder stops."""
    values = frame.to_ndarray()
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return frame
    finite: Any = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)  # PyAV types one kind of number
    copy = av.AudioFrame.from_ndarray(finite, frame.format.name, frame.layout.name)
    copy.pts, copy.time_base, copy.sample_rate = frame.pts, frame.time_base, frame.sample_rate
    return copy
