"""Sound of a video in pieces: cut to its frames, kept as 16-bit samples, joined into one WAV file."""

import wave
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import torch
from torch import Tensor

from .cancel import until_canceled
from .video_source import Source, open_source

LAYOUTS = {1: "mono", 2: "stereo"}


def samples_at(frame: int, fps: float, rate: int) -> int:
    """Return the number of a frame's first sample; one rule for all pieces keeps sound in step for hours."""
    return round(frame * Fraction(rate) / Fraction(fps).limit_denominator(1001))


def to_int16(waveform: Tensor) -> Tensor:
    """Round samples in [-1, 1], (C, S), to 16 bit; more than two channels are mixed down to one."""
    if waveform.shape[0] not in LAYOUTS:
        waveform = waveform.mean(0, keepdim=True)
    return waveform.float().clamp(-1, 1).mul(32767).round().to(torch.int16).cpu()


def fit_length(samples: Tensor, count: int) -> Tensor:
    """Cut samples (C, S) to a length, or fill them up with silence."""
    missing = count - samples.shape[1]
    return torch.nn.functional.pad(samples, (0, missing)) if missing > 0 else samples[:, :count]


def write_wav(path: Path, pieces: Iterable[Tensor], *, rate: int, channels: int) -> None:
    """Write pieces (C, S) of 16-bit samples one after the other; a piece with other channels is mixed to fit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        for piece in until_canceled(pieces):
            if piece.shape[0] != channels:
                piece = piece.float().mean(0, keepdim=True).expand(channels, -1).round().to(torch.int16)
            file.writeframes(piece.T.contiguous().numpy().tobytes())


def read_sound(source: Source, *, rate: int, channels: int) -> Tensor:
    """Return the first sound track of a file as 16-bit samples, (C, S); S is 0 if there is none."""
    blocks = [torch.zeros(channels, 0, dtype=torch.int16)]
    with open_source(source) as container:
        if container.streams.audio:
            resampler = av.AudioResampler(format="s16p", layout=LAYOUTS[channels], rate=rate)
            for frame in chain(until_canceled(container.decode(container.streams.audio[0])), [None]):
                blocks += [torch.from_numpy(block.to_ndarray()) for block in resampler.resample(frame)]
    return torch.cat(blocks, dim=1)
