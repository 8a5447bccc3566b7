"""Turn prompt, pictures and size into (positive, negative, latent), for VLM Image Encode and the sliding window."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import comfy.model_management
import node_helpers
import torch
from comfy.sd import VAE
from torch import Tensor

from ...dit.channels import known_frames_condition
from ...sizes import (
    SPATIAL_COMPRESSION,
    check_clip_size,
    check_frame_count,
    check_pictures,
    latent_shape,
    resize_cover_crop,
)
from ..progress import ignore_stage
from ..vae import check_vae, encode_frames
from .socket import Conditioning, Latent, Magic141Encoders


class ImageMode(StrEnum):
    """What an IMAGE batch means. The VLM always sees pictures whole; the VAE sees them cropped to the clip."""

    START_FRAME = "start frame"
    KNOWN_FRAMES = "known frames"
    REFERENCES = "reference pictures"
    START_AND_REFERENCES = "start frame + references"


@dataclass(frozen=True)
class ClipRequest:
    """A clip to make: its size, its prompts, and its known frames.

    Args:
        width, height: in pixels, multiples of 16.
        length: in frames, 4n + 1.
        prompt, negative_prompt: the negative one is used only with cfg above 1.
        images: (N, H, W, 3) in [0, 1], used as ``image_mode`` says; None for text to video.
        end_image: (1, H, W, 3), the clip's last frame; the VLM does not see it.
        known_latent: (1, 16, k, h, w), the clip's first latent frames, in place of pictures.
        guidance: embedded guidance g = 1 + w for models with a guidance embedder; None leaves the host's default.
        vlm_images: what the VLM sees instead of ``images`` (e.g. a clip's first picture in every later window).
    """

    width: int
    height: int
    length: int
    prompt: str = ""
    negative_prompt: str = ""
    images: Tensor | None = None
    image_mode: str = ImageMode.START_FRAME
    end_image: Tensor | None = None
    known_latent: Tensor | None = None
    guidance: float | None = None
    vlm_images: Tensor | list[Tensor] | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        return latent_shape(self.width, self.height, self.length)


def check_batch(images: Tensor | None, mode: ImageMode, length: int) -> None:
    """Refuse an IMAGE batch that does not fit its mode.

    Raises:
        ValueError: saying which mode or batch would fit.
    """
    if images is None:
        return
    check_pictures(images, "image")
    count = len(images)
    if mode == ImageMode.START_FRAME and count != 1:
        raise ValueError(
            f"image holds {count} pictures, but image_mode {mode.value!r} takes one. Choose "
            f"{ImageMode.KNOWN_FRAMES.value!r} if they are the clip's first frames, "
            f"{ImageMode.REFERENCES.value!r} or {ImageMode.START_AND_REFERENCES.value!r} if they show what to draw."
        )
    if mode == ImageMode.KNOWN_FRAMES:
        check_frame_count(count, "image (known frames)")
    known = {ImageMode.REFERENCES: 0, ImageMode.KNOWN_FRAMES: count}.get(mode, 1)
    if known >= length:
        raise ValueError(
            f"{known} known frames leave nothing to make in a clip of {length}. Raise length, or choose "
            f"{ImageMode.REFERENCES.value!r}."
        )


def encode_known_frames(vae: VAE, request: ClipRequest) -> Tensor | None:
    """Return the known first latent frames: those given, or the cropped pictures encoded; None if there are none."""
    if request.known_latent is not None or request.images is None:
        return request.known_latent
    if request.image_mode == ImageMode.REFERENCES:
        return None
    frames = request.images if request.image_mode == ImageMode.KNOWN_FRAMES else request.images[:1]
    return encode_frames(vae, resize_cover_crop(frames, request.width, request.height))


def check_known_latent(known_latent: Tensor, request: ClipRequest) -> None:
    """Refuse known latent frames that differ in size from the clip, or that come with pictures for the same place.

    Raises:
        ValueError: saying what was given and what fits.
    """
    _, channels, num_frames, height, width = request.latent_shape
    shape = known_latent.shape
    if len(shape) != 5 or (shape[1], *shape[3:]) != (channels, height, width):
        raise ValueError(
            f"known_latent has shape {tuple(shape)}; for this width and height it must be "
            f"(1, {channels}, k, {height}, {width}). Encode it at the same size."
        )
    if shape[2] >= num_frames:
        raise ValueError(
            f"known_latent has {shape[2]} latent frames and the clip only {num_frames}. Cut its end off "
            "(Latent Cut, dim t), or raise length."
        )
    if request.images is not None and request.image_mode != ImageMode.REFERENCES:
        raise ValueError(
            f"known_latent and image_mode {str(request.image_mode)!r} both give the clip's first frames. Choose "
            f"{ImageMode.REFERENCES.value!r} (the picture is then only seen by the VLM), or disconnect one."
        )


def check_end_image(end_image: Tensor, length: int) -> None:
    """Refuse a last frame that is not a single picture, or that is the whole clip.

    Raises:
        ValueError: saying which.
    """
    check_pictures(end_image, "end_image")
    if len(end_image) != 1:
        raise ValueError(f"end_image holds {len(end_image)} pictures; it takes one, the clip's last frame.")
    if length == 1:
        raise ValueError("end_image with length 1 leaves nothing to make. Raise length to 5 or more.")


def check_request(request: ClipRequest) -> None:
    """Check everything about a request that can be checked before an encoder or model is loaded.

    Raises:
        ValueError: sizes, pictures or known latent frames do not fit.
    """
    check_clip_size(request.width, request.height, request.length)
    check_batch(request.images, ImageMode(request.image_mode), request.length)
    if request.known_latent is not None:
        check_known_latent(request.known_latent, request)
    if request.end_image is not None:
        check_end_image(request.end_image, request.length)


def image_to_video_conditioning(
    encoders: Magic141Encoders,
    vae: VAE,
    request: ClipRequest,
    *,
    on_stage: Callable[[str], None] = ignore_stage,
) -> tuple[Conditioning, Conditioning, Latent]:
    """Encode everything an image-to-video DiT is conditioned on.

    Args:
        on_stage: called with each stage as text.

    Returns:
        (positive, negative, latent): CONDITIONING with ``concat_latent_image``, ``concat_mask``, ``guidance`` and
        ``pooled_output`` set, and the empty LATENT to sample.

    Raises:
        ValueError: sizes, batch, VAE or prompt do not fit.
    """
    check_request(request)
    check_vae(vae)
    pictures = request.vlm_images
    if pictures is None and request.images is not None:
        # known frames are one scene, of which the VLM sees the first
        pictures = request.images[:1] if request.image_mode == ImageMode.KNOWN_FRAMES else request.images
    on_stage("reading the prompt" if pictures is None else "looking at the picture, reading the prompt")
    encoded = encoders.encode(request.prompt, request.negative_prompt, pictures)
    on_stage("encoding the known frames")
    empty = empty_latent(request.width, request.height, request.length)
    values = _known_frames_values(vae, request, empty)
    positive = node_helpers.conditioning_set_values(encoded.positive, values)
    negative = node_helpers.conditioning_set_values(encoded.negative, values)
    return positive, negative, {"samples": empty, "downscale_ratio_spacial": SPATIAL_COMPRESSION}


def _known_frames_values(vae: VAE, request: ClipRequest, empty: Tensor) -> dict[str, Tensor | float]:
    first, known, last = empty[:, :, :0], encode_known_frames(vae, request), None
    if known is not None:
        first = torch.cat([first, known], dim=2)
    if request.end_image is not None:
        last = encode_frames(vae, resize_cover_crop(request.end_image, request.width, request.height))
    concat_latent, concat_mask = known_frames_condition(first, empty.shape[2], last=last)
    guidance = {} if request.guidance is None else {"guidance": request.guidance}
    return {"concat_latent_image": concat_latent, "concat_mask": concat_mask, **guidance}


def empty_latent(width: int, height: int, length: int) -> Tensor:
    """Return zeros of a clip's latent shape."""
    device = comfy.model_management.intermediate_device()
    return torch.zeros(latent_shape(width, height, length), device=device)
