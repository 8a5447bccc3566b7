"""Make many long clips at once with the pack's own window functions, for measurements on the shapes world."""

from dataclasses import dataclass

import torch
from magic141.embedded import world
from magic141.model_patches.anchor import anchor_latent, latent_statistics
from magic141.model_patches.bridge.color import match_colors
from magic141.model_patches.bridge.window import (
    HandOver,
    Models,
    Stream,
    WindowSettings,
    condition_window,
    hand_over_latent,
    sample_window,
)
from magic141.model_patches.windows import num_frames_of, window_seed
from torch import Tensor

from .narrow_vae import StreamingDecoder


@dataclass
class LongClips:
    """Frames of B clips, (B, T, H, W, 3) as uint8, and the frame numbers at which a window begins."""

    frames: Tensor
    seams: list[int]


def make_long_clips(
    models: Models,
    decoder: StreamingDecoder,
    settings: WindowSettings,
    starts: Tensor,
    captions: list[str],
    *,
    seconds: float,
    seed: int = 0,
    report=lambda text: None,
) -> LongClips:
    """Make one long clip from each first frame.

    Args:
        starts: (B, H, W, 3), the first frames.
        settings: ``hand_over`` must not be AUTO.
    """
    wanted = int(seconds * world.FPS)
    pieces, seams, latents, reference, colors = [], [], None, None, None
    frames_so_far, index = 0, 0
    decoder.forget()
    last_frames = starts[:, None]
    while frames_so_far < wanted:
        num_known = 1 if latents is None else settings.overlap_latent
        tails = (
            [Stream(latents[i : i + 1], last_frames[i], 0) for i in range(len(starts))]
            if index
            else [None] * len(starts)
        )
        known = [
            None if s is None else hand_over_latent(models.vae, s, num_known, settings.hand_over)
            for s in tails
        ]
        sampled, first = sample_batch(
            models, settings, captions, starts, tails, known, window_seed(seed, index)
        )
        new = torch.cat([first, sampled[:, :, 1:]], dim=2) if index == 0 else sampled[:, :, num_known:]
        if reference is None:
            reference = latent_statistics(new)
        else:
            new = anchor_latent(new, reference, settings.latent_anchor)
        frames = decode(decoder, settings, new, known)
        if colors is None:
            colors = frames[:, ::3].clone()
        elif settings.color_anchor:
            frames = torch.stack(
                [match_colors(f, c, settings.color_anchor) for f, c in zip(frames, colors, strict=True)]
            )
        stored = frames.mul(255).round().byte()
        seams += [frames_so_far] if index else []
        pieces.append(stored)
        frames_so_far += stored.shape[1]
        latents = (new if latents is None else torch.cat([latents, new], 2))[
            :, :, -max(8, settings.overlap_latent) :
        ]
        last_frames = torch.cat([last_frames.byte() if index else stored[:, :0], stored], 1)
        last_frames = last_frames[:, -num_frames_of(settings.overlap_latent) :]
        index += 1
        report(f"window {index}, {frames_so_far}/{wanted} frames")
    return LongClips(torch.cat(pieces, 1)[:, :wanted], [seam for seam in seams if seam < wanted])


def decode(decoder: StreamingDecoder, settings: WindowSettings, new: Tensor, known: list) -> Tensor:
    """Return the new latent frames' frames; pixel hand-over decodes every window as a clip of its own."""
    if settings.hand_over == HandOver.PIXEL and known[0] is not None:
        decoder.forget()
        frames = decoder.decode(torch.cat([torch.cat(known).to(new), new], dim=2))
        return frames[:, -4 * new.shape[2] :]
    return decoder.decode(new)


def sample_batch(models, settings, captions, starts, tails, known, seed) -> tuple[Tensor, Tensor]:
    """Sample one window of every clip; clips whose contexts are equally long go through the model together."""
    length = num_frames_of(settings.window_latent)
    conditions = [
        condition_window(models, settings, captions[i], length, starts[i : i + 1], tails[i], known[i], None)
        for i in range(len(captions))
    ]
    groups: dict[int, list[int]] = {}
    for i, (positive, _, _) in enumerate(conditions):
        groups.setdefault(positive[0][0].shape[1], []).append(i)
    sampled: list[Tensor] = [torch.empty(0)] * len(captions)
    num_known = 1 if known[0] is None else known[0].shape[2]
    for number, members in enumerate(groups.values()):
        positive = merge([conditions[i][0] for i in members])
        latent = {"samples": torch.cat([conditions[i][2]["samples"] for i in members])}
        out = sample_window(models, settings, positive, positive, latent, num_known, seed + number, None)
        for i, clip in zip(members, out, strict=True):
            sampled[i] = clip
    first = torch.cat([c[0][0][1]["concat_latent_image"][:, :, :1] for c in conditions])
    return torch.stack(sampled), first


def merge(conditionings: list[list]) -> list:
    """Join conditionings of one entry each into one entry of a batch."""
    states = torch.cat([c[0][0] for c in conditionings])
    options = dict(conditionings[0][0][1])
    for name, value in options.items():
        if isinstance(value, Tensor):
            options[name] = torch.cat([c[0][1][name] for c in conditionings])
    return [[states, options]]
