"""Faults in what a sampler is given that the host would meet late, or pass over in silence."""

import comfy.model_base
import comfy.model_patcher
from torch import Tensor

from ..dit.checkpoint import SKYREELS_CHANNELS, T2V_CHANNELS
from .loading import ATTACHMENT

MODELS = {
    comfy.model_base.HunyuanVideo,
    comfy.model_base.HunyuanVideoI2V,
    comfy.model_base.HunyuanVideoSkyreelsI2V,
}
LATENT_CHANNELS = 16


def check_clip(
    model: comfy.model_patcher.ModelPatcher, positive: list, negative: list, samples: Tensor, *, cfg: float
) -> None:
    """Check that model, conditioning and latent belong together.

    Raises:
        ValueError: they do not; the message says what to change.
    """
    check_model(model)
    check_latent(samples)
    if not positive:
        raise ValueError("positive holds no conditioning. Connect VLM Image Encode's positive output.")
    used = [("positive", positive)] + ([("negative", negative)] if cfg != 1.0 else [])
    for name, conditioning in used:
        for states, options in conditioning:
            _check_states(model, states, options, name)
            _check_image(model, options, samples, name)


def check_model(model: comfy.model_patcher.ModelPatcher) -> None:
    """Check that a MODEL has the HunyuanVideo layout.

    Raises:
        ValueError: it has another.
    """
    if type(model.model) not in MODELS:
        raise ValueError(
            f"This MODEL is a {type(model.model).__name__}; a HunyuanVideo model with 16, 32 or 33 input channels is"
            f" expected. Load one with Load Magic141 Model."
        )


def check_latent(samples: Tensor) -> None:
    """Check that a latent is a clip: (B, 16, T, H, W) with even height and width.

    Raises:
        ValueError: it is not.
    """
    if samples.is_nested or samples.ndim != 5 or samples.shape[1] != LATENT_CHANNELS:
        shape = "nested" if samples.is_nested else tuple(samples.shape)
        raise ValueError(
            f"The latent has shape {shape}; (batch, 16, frames, height / 8, width / 8) is expected. Use VLM Image"
            f" Encode's latent or EmptyHunyuanLatentVideo."
        )
    height, width = samples.shape[-2:]
    if height % 2 or width % 2 or min(samples.shape) == 0:
        raise ValueError(
            f"The latent is {width}x{height}, which is {width * 8}x{height * 8} pixels; width and height must be"
            f" multiples of 16 pixels."
        )


def has_guidance_embedding(model: comfy.model_patcher.ModelPatcher) -> bool:
    """Return whether the model takes the guidance strength as an input."""
    return bool(model.model.diffusion_model.params.guidance_embed)


def _check_states(model: comfy.model_patcher.ModelPatcher, states: Tensor, options: dict, name: str) -> None:
    width = model.model.diffusion_model.params.context_in_dim
    if states.shape[-1] != width:
        raise ValueError(
            f"{name} conditioning is {states.shape[-1]} wide and this model wants {width}. Encoders and model do not"
            f" belong together: use LLaVA-LLaMA-3 encoders (4096) for HunyuanVideo, the embedded ones for the"
            f" embedded model."
        )
    if options.get("pooled_output") is None:
        raise ValueError(
            f"{name} conditioning has no pooled CLIP-L output. Encode the prompt with VLM Image Encode, or with"
            f" DualCLIPLoader of type hunyuan_video."
        )
    if has_guidance_embedding(model) and options.get("guidance") is None:
        raise ValueError(
            f"This model embeds the guidance strength, and the {name} conditioning has none (ComfyUI would silently"
            f" take 6). Set guidance on VLM Image Encode, or put FluxGuidance before the sampler."
        )


def _check_image(model: comfy.model_patcher.ModelPatcher, options: dict, samples: Tensor, name: str) -> None:
    channels = model.model.diffusion_model.in_channels
    image = options.get("concat_latent_image")
    if image is None:
        if channels > T2V_CHANNELS and not _is_expanded(model):
            raise ValueError(
                f"This is an image-to-video model ({channels} input channels), but the {name} conditioning has no"
                f" image latent, so it would run on an empty one. Connect a start image to VLM Image Encode."
            )
        return
    if channels == T2V_CHANNELS:
        raise ValueError(
            f"The {name} conditioning has a start image, but this model has {channels} input channels and would"
            f" silently ignore it. Load it with Load Magic141 Model, or choose an image-to-video model."
        )
    if options.get("concat_mask") is None and channels != SKYREELS_CHANNELS:
        raise ValueError(
            f"The {name} conditioning has an image latent but no mask, so this model would take the image for"
            f" unknown. Encode it with VLM Image Encode."
        )
    _check_image_size(image, options.get("concat_mask"), samples, name)


def _check_image_size(image: Tensor, mask: Tensor | None, samples: Tensor, name: str) -> None:
    if image.shape[-2:] != samples.shape[-2:]:
        (height, width), (image_height, image_width) = samples.shape[-2:], image.shape[-2:]
        raise ValueError(
            f"The image latent of the {name} conditioning is {image_width * 8}x{image_height * 8} pixels, the latent"
            f" {width * 8}x{height * 8}. Use the same width and height for both."
        )
    # The host pads an image latent that is too short, but not a mask.
    made_for = image.shape[-3] if mask is None else mask.shape[-3]
    if made_for != samples.shape[-3] and (mask is not None or made_for > samples.shape[-3]):
        raise ValueError(
            f"The {name} conditioning is made for {_frames(made_for)} frames, the latent has"
            f" {_frames(samples.shape[-3])}. Use the same length for both."
        )


def _frames(num_latent_frames: int) -> int:
    return 4 * (num_latent_frames - 1) + 1


def _is_expanded(model: comfy.model_patcher.ModelPatcher) -> bool:
    report = model.get_attachment(ATTACHMENT)
    return report is not None and report.is_expanded
