"""Inputs and outputs shared by the nodes of windows that a graph makes."""

from comfy_api.latest import io

from ..model_patches.bridge.window.graph_run import WindowSocket
from ..model_patches.bridge.window.graph_start import SaveSettings
from .video_inputs import codec_input, color_anchor_input, limit_inputs

INTERNAL = "Magic141/internal"


def window_outputs() -> list:
    """Return the outputs of Window Start; after the first, their names are the keys of ``hand_out``."""
    return [
        WindowSocket.Output(display_name="window", tooltip="For Window Save and Window Schedule."),
        io.Image.Output(
            display_name="frames",
            tooltip="The frames this window begins with: the start picture, then the end of what is finished. "
            "Connect it in place of your start image.",
        ),
        io.Image.Output(
            display_name="first_frame",
            tooltip="The first frame of the whole video, in every window: for anchors and CLIP vision.",
        ),
        io.String.Output(display_name="prompt", tooltip="The prompt of this window."),
        io.Int.Output(display_name="seed", tooltip="The seed of this window, for the sampler."),
        io.Int.Output(display_name="length", tooltip="Frames to make, the known ones included."),
        io.Int.Output(display_name="width", tooltip="Width of the video in pixels."),
        io.Int.Output(display_name="height", tooltip="Height of the video in pixels."),
        io.Int.Output(display_name="index", tooltip="Number of this window; the first is 0."),
        io.Boolean.Output(display_name="is_first", tooltip="Whether this is the first window."),
        io.Latent.Output(
            display_name="latent",
            tooltip="The latent of the window before, where Window Save is given one; nothing in the first window.",
        ),
        io.String.Output(display_name="negative_prompt", tooltip="The negative prompt."),
        io.Float.Output(display_name="fps", tooltip="Frames a second."),
        io.Image.Output(
            display_name="end_image",
            tooltip="The last frame of this window, where a line such as [window 3] end castle.png gives it one; "
            "nothing in other windows. For the end_image of a first-and-last-frame node.",
        ),
    ]


def save_settings(inputs: dict) -> SaveSettings:
    """Return Window Save's widgets, which the run needs before that node runs.

    Raises:
        ValueError: one of them is linked instead of set on the node.
    """
    names = list(SaveSettings.__dataclass_fields__)
    if linked := [name for name in names if isinstance(inputs.get(name), list)]:
        raise ValueError(
            f"{linked[0]} of Window Save is connected to another node; it must be known before the first window is "
            "made. Set it on Window Save itself."
        )
    return SaveSettings(**{name: inputs[name] for name in names if name in inputs})


def save_inputs(*, lazy: bool) -> list:
    """Return what the graph gives back of a window, and how it is judged and written."""
    return [
        io.Image.Input(
            "images",
            optional=True,
            lazy=lazy,
            tooltip="The whole clip that your graph made, known frames included: what VAE Decode gives.",
        ),
        io.Video.Input(
            "video",
            optional=True,
            lazy=lazy,
            tooltip="The whole clip with its sound, in place of images, for models that make sound.",
        ),
        io.Latent.Input(
            "latent",
            optional=True,
            lazy=lazy,
            tooltip="The latent of the clip, if the next window needs it: Window Start gives it back as latent.",
        ),
        color_anchor_input(),
        *limit_inputs("seam_limit"),
        io.Float.Input(
            "flash_limit",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.5,
            advanced=True,
            tooltip="Make a window again with another seed where its first new frames are brighter or darker than the "
            "frames before by more percent than this. 3 is where a flash begins to be seen. 0: never.",
        ),
        io.Int.Input(
            "reroll_limit",
            default=2,
            min=0,
            max=20,
            advanced=True,
            tooltip="How often a window may be made again. The best one is kept.",
        ),
        io.Int.Input(
            "drop_new",
            default=0,
            min=0,
            max=256,
            advanced=True,
            tooltip="Leave out this many new frames at the beginning of every window that follows another, where a "
            "model needs some frames to settle.",
        ),
        io.Int.Input(
            "blend",
            default=0,
            min=0,
            max=256,
            advanced=True,
            tooltip="Fade over this many known frames from the window before to what the graph made of them, where it "
            "returns them changed. At most known_frames of Window Start.",
        ),
        codec_input(),
        io.Int.Input(
            "quality",
            default=17,
            min=0,
            max=51,
            tooltip="Constant rate factor: lower is better and larger. Ignored by lossless codecs.",
        ),
    ]
