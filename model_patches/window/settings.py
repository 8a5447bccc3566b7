"""What an artist sets for a long video; the fields have the names and defaults of the node's widgets."""

import math
from dataclasses import asdict, dataclass

from ..sampler import DEFAULT_SHIFT, DEFAULT_STEPS
from ..sizes import num_latent_frames

SECONDS, WINDOWS = "seconds", "windows"
EACH_START, FIRST_PICTURE = "start of each window", "first picture"
OF_ONE_WINDOW = ("prompts", "length", "length_in", "run_name")
"""Settings that may change without making every window anew: each window has its own prompt and length in its key."""


@dataclass(frozen=True)
class WindowSettings:
    """The widgets of Sliding Window Extend.

    window_length: frames the model makes at once, 4n + 1. overlap: latent frames of the window before that the next
    one knows. guidance: None leaves the host's default. reroll_threshold, turn_limit: 0 for no limit.
    encoder_looks_at: EACH_START or FIRST_PICTURE.
    """

    prompts: str = ""
    negative_prompt: str = ""
    length: float = 60.0
    length_in: str = SECONDS
    window_length: int = 121
    overlap: int = 1
    width: int = 960
    height: int = 544
    fps: float = 24.0
    steps: int = DEFAULT_STEPS
    shift: float = DEFAULT_SHIFT
    sampler: str = "euler"
    cfg: float = 1.0
    guidance: float | None = 6.0
    seed: int = 0
    hand_over: str = "auto"
    color_anchor: float = 0.0
    reroll_threshold: float = 0.0
    turn_limit: float = 0.0
    run_name: str = "run"
    codec: str = "h264"
    encoder_looks_at: str = EACH_START

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it takes a number. Set one.")

    @property
    def window_latent(self) -> int:
        """Return the window's length in latent frames."""
        return num_latent_frames(self.window_length)

    def of_every_window(self) -> dict:
        """Return the settings that change every frame of the video."""
        values = {name: value for name, value in asdict(self).items() if name not in OF_ONE_WINDOW}
        if self.encoder_looks_at == EACH_START:  # the only way in older versions, whose runs stay valid
            del values["encoder_looks_at"]
        return values
