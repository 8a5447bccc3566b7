"""Inputs that the nodes for long videos share: story, length, size, seed, limits, file."""

from comfy_api.latest import io

from ..model_patches.bridge.window.end_images import find_end_images
from ..model_patches.store.video_sink import CODECS
from ..model_patches.window.directions import read_directions
from ..model_patches.window.prompts import check_text, parse_prompts
from ..model_patches.window.settings import SECONDS, WINDOWS, WindowSettings

DEFAULTS = WindowSettings()
AT_MOST_TWICE = ", at most twice"


def check_story(prompts: str, negative_prompt: str) -> None:
    """Refuse texts that cannot be read, and end pictures that do not exist."""
    check_text(negative_prompt, "negative_prompt")
    parse_prompts(prompts)
    find_end_images(read_directions(prompts))


def prompts_input() -> io.String.Input:
    """Return the prompts of all windows."""
    return io.String.Input(
        "prompts",
        multiline=True,
        dynamic_prompts=True,
        tooltip="One line per window; the last line is used until the end. Or with times: [0:00-0:20] a cat "
        "walks, [0:20-end] it sleeps; a line without a time fills the gaps. [window 3] seed 77 gives a window its own "
        "seed, [window 3] end castle.png a picture of the input folder as its last frame. [keep later] 2 keeps "
        "later finished windows when one is made again, if their start moves by at most 2 delta E.",
    )


def negative_prompt_input(tooltip: str, *, advanced: bool | None = None) -> io.String.Input:
    """Return the negative prompt of all windows."""
    return io.String.Input(
        "negative_prompt",
        multiline=True,
        dynamic_prompts=True,
        default=DEFAULTS.negative_prompt,
        advanced=advanced,
        tooltip=tooltip,
    )


def length_inputs(more: str = "", *, advanced: bool | None = None) -> list:
    """Return how much to make; ``more`` is added to the tooltip."""
    return [
        io.Float.Input(
            "length",
            default=DEFAULTS.length,
            min=0.1,
            max=86400.0,
            step=0.1,
            tooltip=f"Length of the new part, not counting a video that is continued.{more}",
        ),
        io.Combo.Input(
            "length_in",
            options=[SECONDS, WINDOWS],
            default=DEFAULTS.length_in,
            advanced=advanced,
            tooltip="Whether length is in seconds or in windows.",
        ),
    ]


def size_inputs(
    width: int, height: int, tooltip: str = "{0} in pixels of a video made from an image."
) -> list[io.Int.Input]:
    """Return width and height with these defaults; in the tooltip {0} is the side's name and {1} the other side's."""
    sides = (("width", width, "height"), ("height", height, "width"))
    return [
        io.Int.Input(
            name, default=default, min=16, max=8192, step=16, tooltip=tooltip.format(name.capitalize(), other)
        )
        for name, default, other in sides
    ]


def fps_input(default: float, tooltip: str, *, advanced: bool | None = None) -> io.Float.Input:
    """Return the frame rate."""
    return io.Float.Input(
        "fps", default=default, min=1.0, max=240.0, step=0.001, advanced=advanced, tooltip=tooltip
    )


def seed_input() -> io.Int.Input:
    """Return the seed of the run."""
    return io.Int.Input(
        "seed",
        default=DEFAULTS.seed,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip="Seed of the first window; each later window gets one derived from it. Keep it fixed to continue "
        "a run.",
    )


def color_anchor_input(*, advanced: bool | None = None) -> io.Float.Input:
    """Return how strongly colors are held."""
    return io.Float.Input(
        "color_anchor",
        default=DEFAULTS.color_anchor,
        min=0.0,
        max=1.0,
        step=0.05,
        advanced=advanced,
        tooltip="Undoes color drift: finds each color of the first window in every later one and moves it back by "
        "this share. For one continuous scene; leave it at 0 where the light changes.",
    )


def limit_inputs(seam_name: str, tries: str = "") -> list:
    """Return the limits on a window's seam and direction; ``tries`` says how often a window is made again."""
    again = f"Makes a window again with another seed{tries}, if the motion"
    return [
        io.Float.Input(
            seam_name,
            default=DEFAULTS.reroll_threshold,
            min=0.0,
            max=20.0,
            step=0.1,
            advanced=True,
            tooltip=f"{again} at its seam is more than this many times too large or too small. People start to see it "
            "at 2. 0 turns it off.",
        ),
        io.Float.Input(
            "turn_limit",
            default=DEFAULTS.turn_limit,
            min=0.0,
            max=180.0,
            step=1.0,
            advanced=True,
            tooltip=f"{again} has turned by more than this many degrees since its prompt began. 20 to 30 keeps a "
            "course. 0 turns it off.",
        ),
    ]


def run_name_input(made_by: str) -> io.String.Input:
    """Return the name of the run; ``made_by`` names what else must stay the same to continue it."""
    return io.String.Input(
        "run_name",
        default=DEFAULTS.run_name,
        tooltip="Name of the run's folder in output/magic141_runs. A run with the same name, settings and "
        f"{made_by} continues where it stopped.",
    )


def codec_input(*, advanced: bool | None = None) -> io.Combo.Input:
    """Return how the video is written."""
    return io.Combo.Input(
        "codec",
        options=list(CODECS),
        default=DEFAULTS.codec,
        advanced=advanced,
        tooltip="How the video is stored. h264 plays everywhere.",
    )
