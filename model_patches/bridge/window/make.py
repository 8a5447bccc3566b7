"""Make one window of a long video: hand over, condition, sample, anchor, decode. ``loop`` repeats it."""

from dataclasses import dataclass
from enum import StrEnum

import comfy.context_windows as context_windows
import torch
from comfy.taesd.taehv import TAEHV
from torch import Tensor

from ...sampler import few_step_sigmas
from ...sizes import FRAMES_PER_LATENT
from ...window.anchor import anchor_latent
from ...window.plan import Window, num_frames_of, window_seed
from ..encoders.conditioning import ImageMode, image_to_video_conditioning
from ..sampling import sample_clip
from ..vae import decode_continuation, decode_frames, encode_frames
from .color import ColorMatch, anchor_colors
from .stream import Made, Reference, Stream, from_uint8

LATENT_FRAME_DIM = 2


def check_fusion(length_latent: int, overlap_latent: int, *, num_known_latent: int) -> None:
    """Refuse sub-windows that cannot be fused.

    Raises:
        ValueError: the overlap is not smaller than the sub-window, or the known frames fill it.
    """
    if not 0 <= overlap_latent < length_latent:
        raise ValueError(
            f"fusion_overlap is {overlap_latent} latent frames and fusion_length {length_latent}. "
            f"Set fusion_overlap to {max(0, length_latent - 1)} or less."
        )
    if num_known_latent >= length_latent:
        raise ValueError(
            f"fusion_length is {length_latent} latent frames and overlap {num_known_latent}: every sub-window begins "
            "with the known frames, so nothing is left to make. Set fusion_length to "
            f"{num_frames_of(num_known_latent + 1)} or more, or overlap lower."
        )


def with_parallel_fusion(model, *, length_latent: int, overlap_latent: int, num_known_latent: int):
    """Return a clone of MODEL that denoises a long window as overlapping sub-windows and blends them at every step.

    The known frames are put at the start of every sub-window, or later ones would start from nothing.

    Raises:
        ValueError: the sub-windows cannot be fused (see ``check_fusion``).
    """
    check_fusion(length_latent, overlap_latent, num_known_latent=num_known_latent)
    model = model.clone()
    model.model_options["context_handler"] = context_windows.IndexListContextHandler(
        context_schedule=context_windows.get_matching_context_schedule(
            context_windows.ContextSchedules.STATIC_STANDARD
        ),
        fuse_method=context_windows.get_matching_fuse_method(context_windows.ContextFuseMethods.PYRAMID),
        context_length=length_latent,
        context_overlap=overlap_latent,
        dim=LATENT_FRAME_DIM,
        cond_retain_index_list=",".join(str(i) for i in range(num_known_latent)),
    )
    context_windows.create_prepare_sampling_wrapper(model)
    return model


class HandOver(StrEnum):
    """What the next window is told of the end of the last one.

    LATENT: its last k latent frames as they are. PIXEL: its last frames, encoded again as a clip of their own.
    MIXED: its last k - 1 latent frames, and before them one frame encoded alone, as a clip begins.
    AUTO: LATENT for TAEHV, whose decoder continues a stream exactly. PIXEL for the HunyuanVideo VAE: its decoder
    continues no stream exactly, and its models know a clip's first latent frame only as one picture encoded alone,
    so a clip of its own is what both were trained for.
    """

    AUTO = "auto"
    LATENT = "latent"
    PIXEL = "pixel"
    MIXED = "mixed"


@dataclass(frozen=True)
class Models:
    """The MODEL, MAGIC141_ENCODERS and VAE sockets."""

    model: object
    encoders: object
    vae: object


@dataclass(frozen=True)
class WindowSettings:
    """What all windows of a run share; lengths in latent frames."""

    width: int
    height: int
    window_latent: int
    overlap_latent: int
    hand_over: str = HandOver.AUTO
    negative_prompt: str = ""
    steps: int = 4
    shift: float = 5.0
    sampler: str = "euler"
    cfg: float = 1.0
    guidance: float | None = 6.0
    latent_anchor: float = 0.0
    color_anchor: float = 0.0
    color_match: str = ColorMatch.EACH
    first_frame_context: bool = False
    reroll_threshold: float = 0.0
    reroll_limit: int = 0
    turn_limit: float = 0.0
    fusion_latent: int = 0
    fusion_overlap_latent: int = 1


def resolve_hand_over(vae, hand_over: str) -> HandOver:
    """Choose the hand-over for a VAE where the user left it open."""
    if HandOver(hand_over) != HandOver.AUTO:
        return HandOver(hand_over)
    return HandOver.LATENT if isinstance(vae.first_stage_model, TAEHV) else HandOver.PIXEL


def make_window(
    models: Models,
    settings: WindowSettings,
    window: Window,
    *,
    start_image: Tensor | None,
    stream: Stream | None,
    reference: Reference | None,
    end_image: Tensor | None = None,
    attempt: int = 0,
    seed: int | None = None,
    callback=None,
) -> Made:
    """Make one window.

    Args:
        start_image: (1, H, W, 3), what the video begins with; also the first frame of every VLM context if asked.
        stream: what came before; None for the first window of a video made from an image.
        reference: None until the first window is finished.
        end_image: the last frame of this window.
        attempt, seed: with attempt > 0 the seed is derived again from the run's ``seed``.
    """
    num_new = window.num_new_latent_frames
    num_known = window.num_known_latent_frames
    length = num_known + num_new if stream is not None else num_new
    sampled_latent = length if end_image is not None else window.num_latent_frames
    known = None if stream is None else hand_over_latent(models.vae, stream, num_known, settings.hand_over)
    positive, negative, latent = condition_window(
        models, settings, window.prompt, num_frames_of(sampled_latent), start_image, stream, known, end_image
    )
    window_seed_ = window.seed if attempt == 0 else window_seed(seed or 0, window.index, attempt)
    sampled = sample_window(models, settings, positive, negative, latent, num_known, window_seed_, callback)
    if stream is None:
        first = positive[0][1]["concat_latent_image"][:, :, :1].to(sampled)
        new = torch.cat([first, sampled[:, :, 1:num_new]], dim=2)
    else:
        new = sampled[:, :, num_known : num_known + num_new]
    if reference is not None:
        new = anchor_latent(new, reference.statistics, settings.latent_anchor)
    frames = decode_window(models.vae, settings, new, stream, known)
    if reference is not None:
        frames = anchor_colors(frames, reference, settings.color_anchor, settings.color_match)
    return Made(new, frames, window_seed_)


def hand_over_latent(vae, stream: Stream, num_known: int, hand_over: str) -> Tensor:
    """Return the known latent frames of the next window, (1, 16, k, h, w)."""
    tail = from_uint8(stream.frames[-num_frames_of(num_known) :])
    match resolve_hand_over(vae, hand_over):
        case HandOver.LATENT:
            return stream.latent[:, :, -num_known:]
        case HandOver.PIXEL:
            return encode_frames(vae, tail)
        case _:
            alone = encode_frames(vae, tail[:1])
            return torch.cat(
                [alone, stream.latent[:, :, stream.latent.shape[2] - num_known + 1 :].to(alone)], dim=2
            )


def condition_window(models, settings, prompt, length, start_image, stream, known, end_image):
    """Return (positive, negative, latent): the prompt, the frame the window starts from, and the known frames."""
    images, vlm_images = start_image, None
    if stream is not None:
        images, vlm_images = None, [from_uint8(stream.frames[-1:])]
        if settings.first_frame_context and start_image is not None:
            vlm_images.insert(0, start_image)
    return image_to_video_conditioning(
        models.encoders,
        models.vae,
        images,
        prompt,
        settings.negative_prompt,
        width=settings.width,
        height=settings.height,
        length=length,
        image_mode=ImageMode.START_FRAME,
        end_image=end_image,
        tail_latent=known,
        guidance=settings.guidance,
        vlm_images=vlm_images,
    )


def sample_window(models, settings, positive, negative, latent, num_known, seed, callback) -> Tensor:
    """Sample a window with the run's schedule, fused from parallel sub-windows if asked."""
    model = models.model
    if settings.fusion_latent and settings.fusion_latent < latent["samples"].shape[2]:
        model = with_parallel_fusion(
            model,
            length_latent=settings.fusion_latent,
            overlap_latent=settings.fusion_overlap_latent,
            num_known_latent=num_known,
        )
    return sample_clip(
        model,
        positive,
        negative,
        latent,
        sigmas=few_step_sigmas(settings.steps, settings.shift),
        sampler=settings.sampler,
        seed=seed,
        cfg=settings.cfg,
        callback=callback,
    )


def decode_window(
    vae, settings: WindowSettings, new: Tensor, stream: Stream | None, known: Tensor | None
) -> Tensor:
    """Return the frames of a window's new latent frames.

    Pixel hand-over made a clip of its own, so it is decoded as one; else the stream goes on behind the seam.
    """
    if stream is None or known is None:
        return decode_frames(vae, new)
    if resolve_hand_over(vae, settings.hand_over) == HandOver.PIXEL:
        frames = decode_frames(vae, torch.cat([known.to(new), new], dim=2))
        return frames[-FRAMES_PER_LATENT * new.shape[2] :]
    return decode_continuation(vae, stream.latent, new, num_before=stream.num_before)
