"""The inputs of Sliding Window Extend, by subject."""

from comfy_api.latest import io

from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.window.make import HandOver
from ..model_patches.sampler import SAMPLERS
from ..model_patches.window.settings import EACH_START, FIRST_PICTURE, WindowSettings
from .video_inputs import (
    AT_MOST_TWICE,
    codec_input,
    color_anchor_input,
    fps_input,
    length_inputs,
    limit_inputs,
    negative_prompt_input,
    prompts_input,
    run_name_input,
    seed_input,
    size_inputs,
)

DEFAULTS = WindowSettings()
OLD_CHOICES = {"hand_over": {"mixed": HandOver.AUTO.value}}
"""By input: choices of older versions, and the choices that replace them."""


def start_inputs() -> list:
    """Return the sockets: models, and what to start from."""
    return [
        io.Model.Input(
            "model", tooltip="An image-to-video model of the HunyuanVideo layout (33 input channels)."
        ),
        EncodersSocket.Input(
            "encoders",
            tooltip="From Load Magic141 Encoders or Magic141 Encoders from CLIP; used for every window.",
        ),
        io.Vae.Input("vae", tooltip="A HunyuanVideo VAE, or a tiny one (taehv, the embedded shapes VAE)."),
        io.Image.Input(
            "image", optional=True, tooltip="The first frame of a new video. Cropped to width x height."
        ),
        io.Video.Input(
            "video",
            optional=True,
            tooltip="A video to continue, with its sound. It becomes the beginning of the result and keeps its size.",
        ),
        io.Latent.Input(
            "latent",
            optional=True,
            advanced=True,
            tooltip="Latents to continue, for example the tail of an earlier run. If you also connect its video, the "
            "result holds both and nothing is encoded twice.",
        ),
        io.Image.Input(
            "end_image",
            optional=True,
            advanced=True,
            tooltip="The last frame of the video, for models that were trained with one.",
        ),
    ]


def story_inputs() -> list:
    """Return what to show and for how long."""
    return [
        prompts_input(),
        negative_prompt_input("What the video should not show. Used only with cfg above 1.", advanced=True),
        *length_inputs(" It is rounded to 4 frames, the VAE's step.", advanced=True),
    ]


def window_inputs() -> list:
    """Return the shape of a window."""
    return [
        io.Int.Input(
            "window_length",
            default=DEFAULTS.window_length,
            min=5,
            max=2049,
            step=4,
            tooltip="How many frames the model makes at once, 4n + 1. Use the length it was trained for: 121 (5 s), "
            "or 13 for the embedded model.",
        ),
        io.Int.Input(
            "overlap",
            default=DEFAULTS.overlap,
            min=1,
            max=512,
            tooltip="How many latent frames of each window the next one starts from: 1 is one frame, and each more "
            "adds four. More keeps the motion better but leaves fewer new frames per window. Use 1 for models trained "
            "on a start image alone.",
        ),
        *size_inputs(DEFAULTS.width, DEFAULTS.height),
        fps_input(
            DEFAULTS.fps,
            "Frames per second; the model was trained at 24. A video to continue must run at this rate.",
            advanced=True,
        ),
    ]


def sampling_inputs() -> list:
    """Return how to sample a window."""
    return [
        io.Int.Input(
            "steps",
            default=DEFAULTS.steps,
            min=1,
            max=1000,
            tooltip="Model calls per window. Distilled models: 4. Models that are not distilled: 28 or more.",
        ),
        io.Float.Input(
            "shift",
            default=DEFAULTS.shift,
            min=0.01,
            max=100.0,
            step=0.01,
            advanced=True,
            tooltip="How much of the schedule is spent at high noise. Magic141 was trained for 5.",
        ),
        io.Combo.Input(
            "sampler",
            options=list(SAMPLERS),
            default=DEFAULTS.sampler,
            advanced=True,
            tooltip="euler follows one path from noise to clip; renoise adds fresh noise to it at every step.",
        ),
        io.Float.Input(
            "cfg",
            default=DEFAULTS.cfg,
            min=0.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="How strongly the prompt is followed over the negative prompt. Leave it at 1 for distilled "
            "models.",
        ),
        io.Float.Input(
            "guidance",
            default=DEFAULTS.guidance,
            min=1.0,
            max=30.0,
            step=0.1,
            advanced=True,
            tooltip="Embedded guidance, for models with a guidance embedder; others ignore it. This is not cfg.",
        ),
        seed_input(),
    ]


def seam_inputs() -> list:
    """Return what joins windows and holds them together."""
    return [
        io.Combo.Input(
            "hand_over",
            options=[choice.value for choice in HandOver],
            default=DEFAULTS.hand_over,
            advanced=True,
            tooltip="How the next window gets the end of the one before. latent: as latent frames, unchanged. pixel: "
            "as frames that are encoded again. auto: latent for taehv and the embedded VAE, pixel for HunyuanVideo's "
            "VAE.",
        ),
        color_anchor_input(advanced=True),
        *limit_inputs("reroll_threshold", AT_MOST_TWICE),
    ]


def file_inputs() -> list:
    """Return where and how the video is written."""
    return [run_name_input("models"), codec_input(advanced=True)]


def memory_inputs() -> list:
    """Return inputs that save loading models; they come last, because saved workflows do not have them."""
    return [
        io.Combo.Input(
            "encoder_looks_at",
            options=[EACH_START, FIRST_PICTURE],
            default=DEFAULTS.encoder_looks_at,
            optional=True,
            advanced=True,
            tooltip="Which picture the vision encoder sees. start of each window follows what happens, and brings the "
            "encoder (16 GB for LLaVA, 9 in int8) back into memory for every window. first picture needs it before the "
            "first window only: choose it where models are moved between windows.",
        )
    ]
