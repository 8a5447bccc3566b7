"""Write a video piece by piece: every piece is a playable file, and joining them copies packets, not pixels."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from .cancel import stop_if_canceled, until_canceled
from .files import atomic_file
from .pictures import to_uint8
from .sound import Sound, sound_packets

_BT709 = 1
"""ISO/IEC 23091-2 code of BT.709 primaries, transfer and matrix alike."""


@dataclass(frozen=True)
class Codec:
    """How one choice of the codec menu is encoded."""

    encoder: str
    pix_fmt: str
    suffix: str
    quality_option: str | None = "crf"
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", "yuv420p", ".mp4"),
    "h265": Codec("libx265", "yuv420p", ".mp4", options=(("x265-params", "log-level=none"), ("tag", "hvc1"))),
    "h264 lossless": Codec("libx264rgb", "rgb24", ".mp4", None, (("qp", "0"),)),
    "ffv1 lossless": Codec("ffv1", "bgr0", ".mkv", None, (("level", "3"),)),
}


@dataclass(frozen=True)
class VideoFormat:
    """The format that all pieces of one video share.

    quality: constant rate factor, lower is better; ignored by the lossless codecs.
    """

    codec: str
    fps: float
    width: int
    height: int
    quality: int = 17

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec is {self.codec!r}; wanted one of {', '.join(CODECS)}")
        if self.fps <= 0:
            raise ValueError(f"fps is {self.fps}; wanted more than 0")

    @property
    def suffix(self) -> str:
        return CODECS[self.codec].suffix

    @property
    def rate(self) -> Fraction:
        return Fraction(self.fps).limit_denominator(1001)


def write_segment(path: Path, frames: Iterable[Tensor], video: VideoFormat) -> int:
    """Encode frames into a file of their own, one at a time; the file appears when it is whole.

    Args:
        frames: each (H, W, 3) in [0, 1].

    Returns:
        The number of frames written.
    """
    count = 0
    with atomic_file(path) as temporary, av.open(str(temporary), "w") as container:
        stream = _add_video_stream(container, video)
        for frame in until_canceled(frames):
            picture = _encoder_frame(to_uint8(frame[..., :3]).numpy(), stream)
            picture.pts = count
            container.mux(stream.encode(picture))
            count += 1
        container.mux(stream.encode(None))
    return count


def _add_video_stream(container: OutputContainer, video: VideoFormat) -> av.VideoStream:
    codec = CODECS[video.codec]
    options = dict(codec.options)
    if codec.quality_option:
        options[codec.quality_option] = str(video.quality)
    stream = container.add_stream(codec.encoder, rate=video.rate, options=options)
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height, stream.pix_fmt = video.width, video.height, codec.pix_fmt
    context = stream.codec_context
    context.max_b_frames = 0  # decode order is display order, so pieces join without edit lists
    context.time_base = 1 / video.rate
    if codec.pix_fmt.startswith("yuv"):
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = ColorRange.MPEG
    return stream


def _encoder_frame(pixels: np.ndarray, stream: av.VideoStream) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    if (stream.pix_fmt or "").startswith("yuv"):
        return frame.reformat(
            format=stream.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
    return frame.reformat(format=stream.pix_fmt)


def join_segments(
    path: Path,
    segments: list[Path],
    *,
    sound: Sound | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Join pieces of one format into ``path`` without encoding again, with the sound of another file.

    Args:
        path: the file to write.
        segments: the pieces.
        sound: the track to add, see ``choose_sound``.
        metadata: tags to keep in the file, such as the workflow that made it.

    Raises:
        ValueError: there is nothing to join.
    """
    if not segments:
        raise ValueError("There are no finished windows to join.")
    options = {"movflags": "use_metadata_tags+faststart"} if path.suffix == ".mp4" else {}
    with atomic_file(path) as temporary, av.open(str(temporary), "w", options=options) as out:
        out.metadata.update(metadata or {})
        with av.open(str(segments[0])) as first:
            video = out.add_stream_from_template(first.streams.video[0])
        streams = [_video_packets(segments, video)]
        if sound is not None:
            streams.append(sound_packets(sound, out))
        for _, packet in heapq.merge(*streams, key=lambda timed: timed[0]):
            stop_if_canceled()
            out.mux(packet)


def _video_packets(segments: list[Path], stream: av.VideoStream) -> Iterator[tuple[float, av.Packet]]:
    """Yield the packets of all pieces, (seconds, packet), each piece starting where the one before ends."""
    count = 0
    for segment in segments:
        with av.open(str(segment)) as container:
            source = container.streams.video[0]
            if source.average_rate is None or source.time_base is None:
                raise ValueError(f"{segment.name} is damaged: it does not say its frame rate.")
            step = 1 / (source.average_rate * source.time_base)
            in_segment = 0
            for packet in container.demux(source):
                if packet.size == 0:
                    continue
                packet.pts = packet.dts = round((count + in_segment) * step)
                packet.duration = round(step)
                packet.stream = stream
                in_segment += 1
                yield float(packet.pts * packet.time_base), packet
            count += in_segment
