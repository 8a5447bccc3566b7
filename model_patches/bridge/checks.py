"""Check a sampler's inputs for faults that the host would notice late or not at all."""

from typing import cast

import comfy.model_base
import comfy.model_patcher
import comfy.model_sampling
from comfy.latent_formats import LatentFormat
from torch import Tensor

from ..dit.checkpoint import SKYREELS_CHANNELS, T2V_CHANNELS
from ..sizes import LATENT_CHANNELS, SIZE_MULTIPLE_PX, SPATIAL_COMPRESSION, num_frames_of
from .loading import ATTACHMENT, INPUT_KEY

HUNYUAN_LAYOUTS = {
    comfy.model_base.HunyuanVideo,
    comfy.model_base.HunyuanVideoI2V,
    comfy.model_base.HunyuanVideoSkyreelsI2V,
}


def check_clip(
    model: comfy.model_patcher.ModelPatcher, positive: list, negative: list, samples: Tensor, *, cfg: float
) -> None:
    """Check that model, conditioning and latent belong together.

    If the MODEL's layout is not HunyuanVideo's, only the latent is checked: the host knows what conditioning such a
    model needs.

    Raises:
        ValueError: they do not; the message says what to change.
    """
    check_flow_matching(model)
    if not positive:
        raise ValueError("positive holds no conditioning. Connect VLM Image Encode's positive output.")
    if not has_hunyuan_layout(model):
        check_latent_format(model, samples)
        return
    check_latent(samples)
    used = [("positive", positive)] + ([("negative", negative)] if cfg != 1.0 else [])
    for name, conditioning in used:
        for states, options in conditioning:
            _check_states(model, states, options, name)
            _check_image(model, options, samples, name)


def check_flow_matching(model: comfy.model_patcher.ModelPatcher) -> comfy.model_sampling.CONST:
    """Return the model's sampling, which must be flow matching.

    Raises:
        ValueError: it is not, so noise levels mean something else for it.
    """
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.CONST):
        raise ValueError(
            f"This MODEL ({type(model.model).__name__}) was not trained by flow matching, so these noise levels do not"
            " fit it. Use a KSampler, or load a model such as HunyuanVideo, Wan or LTX."
        )
    return sampling


def has_hunyuan_layout(model: comfy.model_patcher.ModelPatcher) -> bool:
    """Return whether a MODEL has the layout of HunyuanVideo 1.0, whose conditioning this pack knows."""
    return type(model.model) in HUNYUAN_LAYOUTS


def check_model(model: comfy.model_patcher.ModelPatcher) -> None:
    """Check that a MODEL has the HunyuanVideo layout.

    Raises:
        ValueError: it has another.
    """
    if not has_hunyuan_layout(model):
        raise ValueError(
            f"This MODEL is a {type(model.model).__name__}; this node needs a HunyuanVideo model with 16, 32 or 33"
            f" input channels. Load one with Load Magic141 Model."
        )


def check_latent_format(model: comfy.model_patcher.ModelPatcher, samples: Tensor) -> None:
    """Check that a latent has the channels and dimensions that a MODEL denoises.

    Raises:
        ValueError: it has others.
    """
    if samples.is_nested:  # picture and sound together: the host takes them apart
        return
    latent_format = cast(LatentFormat, model.get_model_object("latent_format"))
    channels, dims = latent_format.latent_channels, latent_format.latent_dimensions
    if samples.shape[1] != channels or samples.ndim != dims + 2 or min(samples.shape) == 0:
        names = ("batch", str(channels), "frames", "height", "width")
        wanted = ", ".join(names if dims == 3 else (*names[:2], *names[-dims:]))
        raise ValueError(
            f"The latent has shape {tuple(samples.shape)}; this MODEL ({type(model.model).__name__}) denoises"
            f" ({wanted}). Use the empty latent, or the VAE, that belongs to the model."
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
    even = SIZE_MULTIPLE_PX // SPATIAL_COMPRESSION
    if height % even or width % even or min(samples.shape) == 0:
        raise ValueError(
            f"The latent is {width}x{height}, which is {width * 8}x{height * 8} pixels; width and height must be"
            f" multiples of 16 pixels."
        )


def _check_states(model: comfy.model_patcher.ModelPatcher, states: Tensor, options: dict, name: str) -> None:
    params = model.model.diffusion_model.params
    width = params.context_in_dim
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
    if params.guidance_embed and options.get("guidance") is None:
        raise ValueError(
            f"This model embeds the guidance strength, and the {name} conditioning has none (ComfyUI would silently"
            f" take 6). Set guidance on VLM Image Encode, or put FluxGuidance before the sampler."
        )


def _check_image(model: comfy.model_patcher.ModelPatcher, options: dict, samples: Tensor, name: str) -> None:
    channels = model.model.diffusion_model.in_channels
    image, mask = options.get("concat_latent_image"), options.get("concat_mask")
    if image is None or (mask is not None and mask.min() == 1):  # no frame is known
        if channels > T2V_CHANNELS and not _is_expanded(model):
            raise ValueError(
                f"This is an image-to-video model ({channels} input channels), but the {name} conditioning has no"
                f" start image, so it would run on an empty one. Connect a start image to VLM Image Encode, or choose a"
                f" text-to-video model."
            )
        return
    if channels == T2V_CHANNELS or (_is_expanded(model) and INPUT_KEY not in model.patches):
        raise ValueError(
            f"The {name} conditioning has a start image, but this is a text-to-video model, which ignores it. Choose an"
            f" image-to-video model, add a LoRA that teaches this one to see images, or disconnect the image from VLM"
            f" Image Encode."
        )
    if mask is None and channels != SKYREELS_CHANNELS:
        raise ValueError(
            f"The {name} conditioning has an image latent but no mask, so this model would treat the image"
            f" as unknown. Encode it with VLM Image Encode."
        )
    _check_image_size(image, mask, samples, name)


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
            f"The {name} conditioning is made for {num_frames_of(made_for)} frames, the latent has"
            f" {num_frames_of(samples.shape[-3])}. Use the same length for both."
        )


def _is_expanded(model: comfy.model_patcher.ModelPatcher) -> bool:
    report = model.get_attachment(ATTACHMENT)
    return report is not None and report.is_expanded
