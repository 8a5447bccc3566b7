"""The inputs of Sliding Window Extend, by subject."""

from comfy_api.latest import io

from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.window.make import HandOver
from ..model_patches.sampler import SAMPLERS
from ..model_patches.store.video_sink import CODECS
from ..model_patches.window.settings import SECONDS, WINDOWS, WindowSettings

DEFAULTS = WindowSettings()
OLD_CHOICES = {"hand_over": {"mixed": HandOver.AUTO.value}}
"""By input: choices of older versions, and what stands for them now."""


def start_inputs() -> list:
    """Return the sockets: models and what to start from."""
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
        io.String.Input(
            "prompts",
            multiline=True,
            dynamic_prompts=True,
            tooltip="One line per window; the last line is used until the end. Or with times: [0:00-0:20] a cat "
            "walks, [0:20-end] it sleeps; a line without a time fills the gaps.",
        ),
        io.String.Input(
            "negative_prompt",
            multiline=True,
            dynamic_prompts=True,
            default=DEFAULTS.negative_prompt,
            advanced=True,
            tooltip="What the video should not show. Used only with cfg above 1.",
        ),
        io.Float.Input(
            "length",
            default=DEFAULTS.length,
            min=0.1,
            max=86400.0,
            step=0.1,
            tooltip="Length of the new part, not counting a video that is continued. It is rounded to 4 frames, the "
            "VAE's step.",
        ),
        io.Combo.Input(
            "length_in",
            options=[SECONDS, WINDOWS],
            default=DEFAULTS.length_in,
            advanced=True,
            tooltip="Whether length is in seconds or in windows.",
        ),
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
        io.Int.Input(
            "width",
            default=DEFAULTS.width,
            min=16,
            max=8192,
            step=16,
            tooltip="Width in pixels of a video made from an image.",
        ),
        io.Int.Input(
            "height",
            default=DEFAULTS.height,
            min=16,
            max=8192,
            step=16,
            tooltip="Height in pixels of a video made from an image.",
        ),
        io.Float.Input(
            "fps",
            default=DEFAULTS.fps,
            min=1.0,
            max=240.0,
            step=0.001,
            advanced=True,
            tooltip="Frames per second; the model was trained at 24. A video to continue must run at this rate.",
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
        io.Int.Input(
            "seed",
            default=DEFAULTS.seed,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="Seed of the first window; each later window gets one derived from it. Keep it fixed to continue "
            "a run.",
        ),
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
        io.Float.Input(
            "color_anchor",
            default=DEFAULTS.color_anchor,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Undoes color drift: finds each color of the first window in every later one and moves it back by "
            "this share. For one continuous scene; leave it at 0 where the light changes.",
        ),
        io.Float.Input(
            "reroll_threshold",
            default=DEFAULTS.reroll_threshold,
            min=0.0,
            max=20.0,
            step=0.1,
            advanced=True,
            tooltip="Makes a window again with another seed, at most twice, if the motion at its seam is more than "
            "this many times too large or too small. People start to see it at 2. 0 turns it off.",
        ),
        io.Float.Input(
            "turn_limit",
            default=DEFAULTS.turn_limit,
            min=0.0,
            max=180.0,
            step=1.0,
            advanced=True,
            tooltip="Makes a window again with another seed, at most twice, if the motion has turned by more than "
            "this many degrees since its prompt began. 20 to 30 keeps a course. 0 turns it off.",
        ),
    ]


def file_inputs() -> list:
    """Return where and how the video is written."""
    return [
        io.String.Input(
            "run_name",
            default=DEFAULTS.run_name,
            tooltip="Name of the run's folder in output/magic141_runs. A run with the same name, settings and models "
            "continues where it stopped.",
        ),
        io.Combo.Input(
            "codec",
            options=list(CODECS),
            default=DEFAULTS.codec,
            advanced=True,
            tooltip="How the video is stored. h264 plays everywhere.",
        ),
    ]
