"""The inputs of Sliding Window Extend, by subject."""

from comfy_api.latest import io

from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.sampling import SAMPLERS
from ..model_patches.bridge.window.color import ColorMatch
from ..model_patches.bridge.window.make import HandOver
from ..model_patches.sampler import DEFAULT_SHIFT, DEFAULT_STEPS
from ..model_patches.store.video_sink import CODECS

SECONDS, WINDOWS = "seconds", "windows"


def sockets_inputs() -> list:
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
            tooltip="A video to continue, with its sound; it becomes the beginning of the result, at its own size.",
        ),
        io.Latent.Input(
            "latent",
            optional=True,
            tooltip="Latents to continue, e.g. the tail of an earlier run. With its video connected too, the result "
            "holds both, and nothing is encoded twice.",
        ),
        io.Image.Input(
            "end_image",
            optional=True,
            tooltip="The last frame of the video, for models trained with a known last frame.",
        ),
    ]


def what_inputs() -> list:
    """Return what to make: prompts, length, size."""
    return [
        io.String.Input(
            "prompts",
            multiline=True,
            dynamic_prompts=True,
            tooltip="One line a window; the last line goes on to the end. Or with times: [0:00-0:20] a cat walks, "
            "[0:20-end] it sleeps; a line without a time fills the gaps.",
        ),
        io.String.Input(
            "negative_prompt",
            multiline=True,
            dynamic_prompts=True,
            default="",
            tooltip="What to keep away from. Used only with cfg above 1.",
        ),
        io.Float.Input(
            "length",
            default=60.0,
            min=0.1,
            max=86400.0,
            step=0.1,
            tooltip="How much to make, new frames only. Rounded to what the VAE can make (4 frames at a time).",
        ),
        io.Combo.Input(
            "length_in",
            options=[SECONDS, WINDOWS],
            default=SECONDS,
            tooltip="Whether length counts seconds or windows.",
        ),
        io.Int.Input(
            "window_length",
            default=121,
            min=5,
            max=2049,
            step=4,
            tooltip="Frames the model makes at once, 4n + 1: what it was trained for. 121 is 5 s; embedded: 13.",
        ),
        io.Int.Input(
            "overlap",
            default=1,
            min=1,
            max=512,
            tooltip="Latent frames of the last window that the next one is told (1 is one frame, each more is four). "
            "More carries motion over better and adds less a window; models trained on a start image alone want 1.",
        ),
        io.Int.Input(
            "width",
            default=960,
            min=16,
            max=8192,
            step=16,
            tooltip="Width in pixels of a video made from an image.",
        ),
        io.Int.Input(
            "height",
            default=544,
            min=16,
            max=8192,
            step=16,
            tooltip="Height in pixels of a video made from an image.",
        ),
        io.Float.Input(
            "fps",
            default=24.0,
            min=1.0,
            max=240.0,
            step=0.001,
            tooltip="Frames a second; the model was trained at 24. A video to continue must run at this rate.",
        ),
    ]


def how_inputs() -> list:
    """Return how to sample a window."""
    return [
        io.Int.Input(
            "steps",
            default=DEFAULT_STEPS,
            min=1,
            max=1000,
            tooltip="Model calls a window. Distilled models: 4. Plain models: 28 or more.",
        ),
        io.Float.Input(
            "shift",
            default=DEFAULT_SHIFT,
            min=0.01,
            max=100.0,
            step=0.01,
            advanced=True,
            tooltip="How much of the steps is spent at high noise. Magic141 was trained for 5.",
        ),
        io.Combo.Input(
            "sampler",
            options=list(SAMPLERS),
            default="euler",
            advanced=True,
            tooltip="euler follows one path from noise to clip; renoise puts fresh noise on it at every step.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="Strength of the prompt against the negative one. 1 for distilled models.",
        ),
        io.Float.Input(
            "guidance",
            default=6.0,
            min=1.0,
            max=30.0,
            step=0.1,
            advanced=True,
            tooltip="Embedded guidance, for models with a guidance embedder; others ignore it. It is not cfg.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The first window uses it as it is, every other one a seed derived from it. Fixed, so that a "
            "run can be resumed.",
        ),
    ]


def drift_inputs() -> list:
    """Return what keeps windows together."""
    return [
        io.Combo.Input(
            "hand_over",
            options=[choice.value for choice in HandOver],
            default=HandOver.AUTO.value,
            tooltip="How the next window learns the end of the last: latent (as it is, no VAE round trip), pixel (its "
            "frames encoded again), mixed (latent behind one frame encoded alone). auto: latent for taehv and the "
            "embedded VAE, pixel for HunyuanVideo's.",
        ),
        io.Float.Input(
            "latent_anchor",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Pull the mean and spread of every latent channel to the first window's, against drift of "
            "colour and contrast. For one continuous scene; leave 0 where the scene changes.",
        ),
        io.Float.Input(
            "color_anchor",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Match the colours of every window to the first one's, as color_match says. For one continuous "
            "scene; leave 0 where the light changes.",
        ),
        io.Combo.Input(
            "color_match",
            options=[choice.value for choice in ColorMatch],
            default=ColorMatch.EACH.value,
            advanced=True,
            tooltip="For color_anchor. color by color: each colour of the first window is found again and only its own "
            "drift taken back, so that what enters or leaves the picture changes nothing. whole picture: mean and "
            "spread of all pixels (ComfyUI's Transfer Color, reinhard).",
        ),
        io.Boolean.Input(
            "first_frame_context",
            default=False,
            advanced=True,
            tooltip="Let the VLM see the very first frame beside the one each window starts from.",
        ),
        io.Float.Input(
            "reroll_threshold",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.1,
            advanced=True,
            tooltip="Make a window again with another seed where its seam moves more than this many times too much or "
            "too little (2 is where it starts to be seen). 0: never.",
        ),
        io.Int.Input(
            "reroll_limit",
            default=2,
            min=0,
            max=20,
            advanced=True,
            tooltip="How often a window may be made again.",
        ),
        io.Float.Input(
            "turn_limit",
            default=0.0,
            min=0.0,
            max=180.0,
            step=1.0,
            advanced=True,
            tooltip="Make a window again with another seed where the picture's motion has turned by more degrees than "
            "this since its prompt began, at most reroll_limit times. 20 to 30 keeps a course. 0: never.",
        ),
        io.Int.Input(
            "fusion_length",
            default=0,
            min=0,
            max=2049,
            advanced=True,
            tooltip="Denoise a long window as parallel sub-windows of this many frames, blended at every step "
            "(ComfyUI's context windows). 0: off.",
        ),
        io.Int.Input(
            "fusion_overlap",
            default=1,
            min=0,
            max=512,
            advanced=True,
            tooltip="Latent frames by which the parallel sub-windows overlap.",
        ),
    ]


def file_inputs() -> list:
    """Return where and how the video is written."""
    return [
        io.String.Input(
            "run_name",
            default="run",
            tooltip="Name of the run's folder under output/magic141_runs. Same name and settings: the run is resumed.",
        ),
        io.Combo.Input(
            "codec", options=list(CODECS), default="h264", tooltip="Video codec. h264 plays everywhere."
        ),
        io.Int.Input(
            "quality",
            default=17,
            min=0,
            max=51,
            tooltip="Constant rate factor: lower is better and larger. Ignored by lossless codecs.",
        ),
        io.Boolean.Input(
            "png_sequence",
            default=False,
            advanced=True,
            tooltip="Also write every new frame as PNG into the run's folder.",
        ),
    ]
