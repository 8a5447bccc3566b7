"""What a window leaves behind: the end of the stream for the next one, and the first window for all later ones."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...sizes import FRAMES_PER_LATENT
from ...window.anchor import LatentStatistics, latent_statistics
from ...window.measure import mean_lab
from ...window.palette import Palette, read_palette
from ...window.plan import num_frames_of
from ..vae import decode_frames, encode_frames, kept_latent_frames

COLOR_REFERENCE_FRAMES = 5
SEAM_FRAMES = 5


@dataclass(frozen=True)
class Stream:
    """What the next window needs of everything before it.

    latent: (1, 16, n, h, w), the last latent frames. frames: (m, H, W, 3) uint8, the last pixel frames.
    num_before: latent frames since the stream began, also those no longer kept.
    """

    latent: Tensor
    frames: Tensor
    num_before: int


@dataclass(frozen=True)
class Reference:
    """What later windows are held to: the first window's statistics, a few frames (uint8), mean Lab and palette."""

    statistics: LatentStatistics
    frames: Tensor
    lab: Tensor
    palette: Palette


@dataclass(frozen=True)
class Made:
    """A window's new latent frames (1, 16, m, h, w) and pixel frames (n, H, W, 3) in [0, 1]."""

    latent: Tensor
    frames: Tensor
    seed: int


def advance(vae, stream: Stream | None, made: Made, overlap_latent: int) -> Stream:
    """Return the stream after a window, cut to what the next one needs."""
    needed = max(num_frames_of(overlap_latent), SEAM_FRAMES)
    latent, frames, num_before = made.latent, to_uint8(made.frames[-needed:]), made.latent.shape[2]
    if stream is not None:
        latent = torch.cat([stream.latent.to(latent), latent], dim=2)
        frames = torch.cat([stream.frames, frames])
        num_before += stream.num_before
    return trim_stream(vae, Stream(latent, frames, num_before), overlap_latent)


def trim_stream(vae, stream: Stream, overlap_latent: int) -> Stream:
    """Drop the latent and pixel frames that no later window can need."""
    keep = max(overlap_latent, kept_latent_frames(vae))
    return replace(
        stream,
        latent=stream.latent[:, :, -keep:].clone(),
        frames=stream.frames[-max(num_frames_of(overlap_latent), SEAM_FRAMES) :].clone(),
    )


def stream_from_frames(vae, frames: Tensor, overlap_latent: int) -> Stream:
    """Begin a stream with the last frames of an existing video.

    Args:
        frames: (n, H, W, 3) in [0, 1]; the oldest are dropped to have 4m + 1.

    Raises:
        ValueError: fewer frames than the overlap.
    """
    needed = num_frames_of(overlap_latent)
    if len(frames) < needed:
        raise ValueError(
            f"The video has {len(frames)} frames; an overlap of {overlap_latent} latent frames needs {needed}. "
            f"Set overlap to {max(1, (len(frames) - 1) // FRAMES_PER_LATENT + 1)} or give a longer video."
        )
    usable = num_frames_of((len(frames) - 1) // FRAMES_PER_LATENT + 1)
    latent = encode_frames(vae, frames[-usable:])
    return trim_stream(vae, Stream(latent, to_uint8(frames[-usable:]), latent.shape[2]), overlap_latent)


def stream_from_latent(vae, latent: Tensor, overlap_latent: int) -> Stream:
    """Begin a stream with the end of an existing LATENT.

    Raises:
        ValueError: fewer latent frames than the overlap.
    """
    if latent.shape[2] < overlap_latent:
        raise ValueError(
            f"The latent has {latent.shape[2]} frames and overlap is {overlap_latent}. "
            f"Set overlap to {latent.shape[2]} or give a longer latent."
        )
    latent = latent[:, :, -max(overlap_latent, kept_latent_frames(vae)) :]
    frames = decode_frames(vae, latent)
    return trim_stream(vae, Stream(latent, to_uint8(frames), latent.shape[2]), overlap_latent)


def make_reference(latent: Tensor, frames: Tensor) -> Reference:
    """Return what later windows are held to.

    Args:
        latent: (1, 16, n, h, w). frames: (m, H, W, 3) in [0, 1].
    """
    chosen = torch.linspace(0, len(frames) - 1, min(COLOR_REFERENCE_FRAMES, len(frames))).round().long()
    return Reference(
        latent_statistics(latent.float().cpu()),
        to_uint8(frames[chosen]),
        mean_lab(frames),
        read_palette(frames),
    )


def to_uint8(frames: Tensor) -> Tensor:
    """Round frames in [0, 1] to bytes; what is kept of a window is the same live and resumed."""
    return frames.clamp(0, 1).mul(255).round().byte().cpu()


def from_uint8(frames: Tensor) -> Tensor:
    """Return frames in [0, 1]."""
    return frames.float() / 255
